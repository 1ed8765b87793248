// What the checkpoint tests share: folders that vanish, ranks as threads, states made of plain bytes.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <ddp/error.h>
#include <ddp/group.h>
#include <ddp/log.h>

#include "checkpoint/commit/session.h"
#include "checkpoint/storage/posix.h"

namespace ddp::checkpoint::testing_support {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "ddp-checkpoint-test-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    path_ = name;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// Collects log lines while it lives.
class CapturedLog {
 public:
  CapturedLog() {
    log::set_sink([this](std::string_view line) {
      const std::lock_guard lock(mutex_);
      text_ += line;
    });
  }
  CapturedLog(const CapturedLog&) = delete;
  CapturedLog& operator=(const CapturedLog&) = delete;
  ~CapturedLog() { log::set_sink({}); }
  [[nodiscard]] std::string text() {
    const std::lock_guard lock(mutex_);
    return text_;
  }

 private:
  std::mutex mutex_;
  std::string text_;
};

/// The meeting point of ranks that are threads of this process.
class Meeting {
 public:
  explicit Meeting(int size) : size_(size), given_(static_cast<std::size_t>(size)) {}

  std::vector<std::string> exchange(int rank, std::string_view bytes, Deadline deadline) {
    std::unique_lock lock(mutex_);
    const std::uint64_t round = round_;
    given_[static_cast<std::size_t>(rank)] = bytes;
    if (++come_ == size_) {
      result_ = given_;
      come_ = 0;
      ++round_;
      changed_.notify_all();
      return result_;
    }
    if (!changed_.wait_until(lock, deadline.at(), [&] { return round_ != round; })) {
      --come_;
      throw TimeoutError("some rank did not come");
    }
    return result_;
  }

 private:
  int size_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> given_, result_;
  int come_ = 0;
  std::uint64_t round_ = 0;
};

class ThreadGroup final : public Group {
 public:
  ThreadGroup(Meeting& meeting, int rank, int size) : meeting_(meeting), rank_(rank), size_(size) {}
  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int size() const override { return size_; }
  [[nodiscard]] std::vector<std::string> exchange(std::string_view bytes, Deadline deadline) override {
    return meeting_.exchange(rank_, bytes, deadline);
  }

 private:
  Meeting& meeting_;
  int rank_, size_;
};

/// Runs `body` once per rank, each in its thread; returns what each threw ("" when nothing).
inline std::vector<std::string> run_ranks(int size, const std::function<void(Group&)>& body) {
  Meeting meeting(size);
  std::vector<std::string> errors(static_cast<std::size_t>(size));
  std::vector<std::jthread> threads;
  for (int rank = 0; rank < size; ++rank)
    threads.emplace_back([&, rank] {
      ThreadGroup group(meeting, rank, size);
      try {
        body(group);
      } catch (const Error& e) {
        errors[static_cast<std::size_t>(rank)] = std::string(to_string(e.kind())) + ": " + e.what();
      }
    });
  threads.clear();
  return errors;
}

/// A state of three shared tensors, a buffer and a value of the rank's own, all computed from a number.
class PlainState {
 public:
  PlainState(int rank, std::uint64_t number, bool buffers_differ = false) : rank_(rank) {
    fill(number, buffers_differ);
  }
  void fill(std::uint64_t number, bool buffers_differ = false) {
    std::mt19937_64 shared(number), own(number * 1000 + static_cast<std::uint64_t>(rank_));
    bytes_ = {random(shared, 64), random(shared, 12), random(shared, 0),
              random(buffers_differ ? own : shared, 8), random(own, 5)};
  }
  [[nodiscard]] std::vector<SavedTensor> tensors() const {
    std::vector<SavedTensor> result;
    for (std::size_t i = 0; i < infos().size(); ++i)
      result.push_back({infos()[i],
                        i < 3    ? Scope::kShared
                        : i == 3 ? Scope::kSharedIfEqual
                                 : Scope::kPerRank,
                        std::as_bytes(std::span(bytes_[i]))});
    return result;
  }
  [[nodiscard]] StateLoader loader() {
    return {.select =
                [](const Catalog& catalog) {
                  std::vector<std::string> names;
                  for (const auto& info : infos()) {
                    if (!catalog.tensors.contains(info.name)) throw ConfigError("no " + info.name);
                    names.push_back(info.name);
                  }
                  return names;
                },
            .apply =
                [this](const LoadedTensors& loaded) {
                  for (std::size_t i = 0; i < infos().size(); ++i) {
                    const auto& tensor = loaded.at(infos()[i].name);
                    bytes_[i].assign(reinterpret_cast<const char*>(tensor.data.get()), tensor.bytes);
                  }
                }};
  }
  bool operator==(const PlainState& other) const { return bytes_ == other.bytes_; }

 private:
  static const std::vector<TensorInfo>& infos() {
    static const std::vector<TensorInfo> all{{"model/a", ElementType::kF32, {4, 4}},
                                             {"model/b", ElementType::kI32, {3}},
                                             {"model/empty", ElementType::kF64, {0, 7}},
                                             {"model/mean", ElementType::kF64, {}},
                                             {"sampler/value", ElementType::kU8, {5}}};
    return all;
  }
  static std::string random(std::mt19937_64& generator, std::size_t bytes) {
    std::string text(bytes, '\0');
    for (auto& byte : text) byte = static_cast<char>(generator());
    return text;
  }
  int rank_;
  std::vector<std::string> bytes_;
};

inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

inline void write_file(const std::filesystem::path& path, std::string_view text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
}

/// Regular files below `folder`, sorted.
inline std::vector<std::filesystem::path> files_below(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  if (std::filesystem::exists(folder))
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
      if (entry.is_regular_file()) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace ddp::checkpoint::testing_support
