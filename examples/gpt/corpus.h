// The text a model is trained on: all text files of a folder, or one file, as bytes.
//
//   Corpus corpus = Corpus::load("/usr/include/c++/12", 64 << 20);
//   Batch batch = corpus.batch(windows, context);       // tokens and targets, int64 [windows, context]
//
// Bytes are cut into windows of `context`; the last tenth of them is kept for evaluation. One thread.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <ddp/group.h>
#include <ddp/stateful.h>

namespace gpt {

struct Batch {
  torch::Tensor tokens;
  torch::Tensor targets;  ///< tokens shifted by one
};

/// Saved with a checkpoint as size and checksum, so that training does not go on with other text unnoticed.
class Corpus : public ddp::Stateful {
 public:
  /// Reads `path`; files that hold a NUL byte are skipped, files of a folder come in the order of their names, and
  /// what would exceed `limit` bytes is left out. Throws ddp::ConfigError when there is nothing to read.
  [[nodiscard]] static Corpus load(const std::filesystem::path& path, std::int64_t limit);
  explicit Corpus(std::string text);

  /// Cuts the text. Throws ddp::ConfigError when there are not two windows.
  void cut(std::int64_t context);
  /// Throws ddp::ConfigError, on every rank, when ranks have read different text.
  void require_same_on_all(ddp::Group& ranks) const;

  [[nodiscard]] std::int64_t bytes() const { return static_cast<std::int64_t>(text_.size()); }
  [[nodiscard]] std::size_t files() const { return files_; }
  [[nodiscard]] std::int64_t training_windows() const { return windows_ - evaluation_windows(); }
  [[nodiscard]] std::int64_t evaluation_windows() const { return std::max<std::int64_t>(1, windows_ / 10); }
  /// Windows [0, training_windows()) are for training, those behind them for evaluation.
  [[nodiscard]] Batch batch(const std::vector<std::int64_t>& windows) const;

  [[nodiscard]] std::string save_state() const override;
  void load_state(std::string_view state) override;

 private:
  std::string text_;
  std::size_t files_ = 1;
  std::int64_t context_ = 0;
  std::int64_t windows_ = 0;
};

}  // namespace gpt
