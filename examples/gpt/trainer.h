// The training loop: what a single-process LibTorch program has, and four lines of libddp in it.
#pragma once

#include <torch/optim/adamw.h>

#include <cstdint>
#include <memory>
#include <vector>

#include <ddp/checkpoint/checkpointer.h>
#include <ddp/ddp.h>

#include "examples/gpt/corpus.h"
#include "examples/gpt/metrics_file.h"
#include "examples/gpt/model.h"
#include "examples/gpt/options.h"
#include "examples/gpt/schedule.h"

namespace gpt {

/// What no shape of a parameter tells: saved, so that training does not go on with another model unnoticed.
class Heads final : public ddp::Stateful {
 public:
  explicit Heads(std::int64_t heads) : heads_(heads) {}
  [[nodiscard]] std::string save_state() const override { return std::to_string(heads_); }
  /// Throws ddp::ConfigError when the number is another one.
  void load_state(std::string_view state) override;

 private:
  std::int64_t heads_;
};

class Trainer {
 public:
  /// Collective over the ranks of `context`, as everything here. `context` must outlive the trainer.
  Trainer(const Options& options, const ddp::Context& context);

  /// Trains to the last step. Returns the exit code: 0, or 143 when a signal asked to stop and a checkpoint was saved.
  int run();

 private:
  [[nodiscard]] std::unique_ptr<ddp::checkpoint::Checkpointer> open_checkpointer() const;
  [[nodiscard]] ddp::checkpoint::State state();
  [[nodiscard]] Batch next_batch();
  struct StepOutcome {
    double loss;  ///< mean over ranks
    bool stop;    ///< some rank wants to stop: the same on all
  };
  [[nodiscard]] StepOutcome train_step(std::int64_t step, bool wants_stop);
  [[nodiscard]] double evaluate();
  void report(std::int64_t step, double loss, double seconds);
  [[nodiscard]] bool is_chief() const { return context_.rank() == 0; }

  const Options& options_;
  const ddp::Context& context_;
  Corpus corpus_;
  Gpt model_;
  ddp::DistributedDataParallel<Gpt> parallel_;
  torch::optim::AdamW optimizer_;
  CosineSchedule schedule_;
  ddp::data::ResumableSampler sampler_;
  std::vector<double> losses_;  ///< of every step, the mean over ranks
  Heads heads_;
  MetricsFile metrics_;
};

/// Loads the newest checkpoint and writes text with it, without disturbing a job that trains on. Throws
/// ddp::ConfigError when there is no checkpoint, or one of another model.
void write_sample_of_checkpoint(const Options& options, ddp::Group& ranks);

}  // namespace gpt
