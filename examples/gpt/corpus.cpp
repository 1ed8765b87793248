#include "examples/gpt/corpus.h"

#include <torch/torch.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <system_error>

#include <ddp/error.h>

namespace gpt {
namespace fs = std::filesystem;
namespace {

std::vector<fs::path> files_below(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::recursive_directory_iterator at(folder, fs::directory_options::skip_permission_denied, error), end;
       !error && at != end; at.increment(error))
    if (at->is_regular_file(error)) files.push_back(at->path());
  if (error) throw ddp::ConfigError("--data: cannot read folder " + folder.string() + ": " + error.message());
  std::sort(files.begin(), files.end());
  return files;
}

/// At most `limit` bytes of it.
std::string read(const fs::path& path, std::int64_t limit) {
  std::error_code ignored;
  const auto size = static_cast<std::int64_t>(fs::file_size(path, ignored));
  std::ifstream file(path, std::ios::binary);
  std::string text(static_cast<std::size_t>(std::clamp<std::int64_t>(size, 0, limit)), '\0');
  if (!file || !file.read(text.data(), static_cast<std::streamsize>(text.size())))
    throw ddp::ConfigError("--data: cannot read " + path.string() + ": " + std::strerror(errno));
  return text;
}

/// FNV-1a, 64 bits: tells texts apart, protects against nobody.
std::uint64_t checksum(std::string_view text) {
  std::uint64_t hash = 14695981039346656037ULL;
  for (const char byte : text) hash = (hash ^ static_cast<unsigned char>(byte)) * 1099511628211ULL;
  return hash;
}

}  // namespace

Corpus::Corpus(std::string text) : text_(std::move(text)) {}

Corpus Corpus::load(const fs::path& path, std::int64_t limit) {
  std::error_code error;
  const auto status = fs::status(path, error);
  if (!fs::exists(status))
    throw ddp::ConfigError("--data: " + path.string() +
                           " does not exist; give a text file or a folder of them");
  if (!fs::is_regular_file(status) && !fs::is_directory(status))
    throw ddp::ConfigError(
        "--data: " + path.string() +
        " is neither a file nor a folder; every rank reads the text for itself, so it cannot come "
        "from a pipe or a device");
  Corpus corpus{std::string()};
  corpus.files_ = 0;
  try {
    corpus.text_.reserve(static_cast<std::size_t>(std::min(
        limit, fs::is_directory(status) ? 0 : static_cast<std::int64_t>(fs::file_size(path, error)))));
  } catch (const std::bad_alloc&) {
    throw ddp::ConfigError("--data-limit: there is no memory for " + std::to_string(limit >> 20) +
                           " MiB of text");
  }
  for (const auto& file : fs::is_directory(status) ? files_below(path) : std::vector<fs::path>{path}) {
    const std::string text = read(file, limit - corpus.bytes());
    if (text.empty() || text.find('\0') != std::string::npos) continue;
    corpus.text_ += text;
    ++corpus.files_;
    if (corpus.bytes() == limit) break;
  }
  if (corpus.text_.empty())
    throw ddp::ConfigError("--data: there is no text in " + path.string() +
                           " (empty files and files with NUL bytes do not count)");
  return corpus;
}

void Corpus::cut(std::int64_t context) {
  context_ = context;
  windows_ = (bytes() - 1) / context;  // the last target is one byte further
  if (windows_ < 2)
    throw ddp::ConfigError("--data: " + std::to_string(bytes()) +
                           " bytes of text are less than two windows of --context " +
                           std::to_string(context) + " bytes; give more text or a smaller context");
}

void Corpus::require_same_on_all(ddp::Group& ranks) const {
  const auto states = ranks.exchange(save_state(), ddp::Deadline::in(std::chrono::minutes(10)));
  for (std::size_t rank = 1; rank < states.size(); ++rank)
    if (states[rank] != states[0])
      throw ddp::ConfigError("--data: rank 0 has read " + states[0] + " but rank " + std::to_string(rank) +
                             " " + states[rank] + "; every rank needs the same text");
}

Batch Corpus::batch(const std::vector<std::int64_t>& windows) const {
  const auto rows = static_cast<std::int64_t>(windows.size());
  Batch batch{torch::empty({rows, context_}, torch::kInt64), torch::empty({rows, context_}, torch::kInt64)};
  auto* tokens = batch.tokens.data_ptr<std::int64_t>();
  auto* targets = batch.targets.data_ptr<std::int64_t>();
  for (const std::int64_t window : windows) {
    const auto* bytes = reinterpret_cast<const unsigned char*>(text_.data()) + window * context_;
    tokens = std::copy_n(bytes, context_, tokens);
    targets = std::copy_n(bytes + 1, context_, targets);
  }
  return batch;
}

std::string Corpus::save_state() const {
  return std::to_string(bytes()) + " bytes with checksum " + std::to_string(checksum(text_));
}

void Corpus::load_state(std::string_view state) {
  if (state != save_state())
    throw ddp::ConfigError("--data: the checkpoint was trained on " + std::string(state) +
                           ", this text has " + save_state() +
                           "; give the same text, or another --checkpoint folder");
}

}  // namespace gpt
