// The command line of the example, checked: whatever comes back from parse() can be run.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "examples/gpt/model.h"

namespace gpt {

struct Options {
  GptOptions model;

  std::string data;  ///< file or folder
  std::int64_t data_limit_mb = 16;

  std::int64_t steps = 1000;
  std::int64_t batch = 8;       ///< windows a rank and micro-batch
  std::int64_t accumulate = 1;  ///< micro-batches a step
  double learning_rate = 1e-3;
  double minimum_learning_rate = 1e-4;
  std::int64_t warmup = 50;
  double weight_decay = 0.1;
  double clip = 1.0;  ///< largest norm of the gradient; 0: no clipping
  std::uint64_t seed = 1;

  std::int64_t evaluate_every = 100;
  std::int64_t evaluate_windows = 64;
  std::int64_t print_every = 10;
  std::string metrics;  ///< JSON lines; empty: none

  std::string checkpoint;  ///< folder or URL; empty: no checkpoints
  std::int64_t checkpoint_every = 100;
  int keep = 3;

  std::int64_t sample = 0;  ///< bytes
  bool sample_only = false;
  std::string prompt = "\n";
  double temperature = 0.8;

  std::string device = "cpu";
  std::string backend = "auto";
  bool reproducible = false;
  int threads = 0;  ///< 0: the machine's, divided by its ranks
  double timeout_seconds = 600;
};

/// nullopt when --help was asked for and has been printed. Throws ddp::ConfigError that names the option and shows its
/// value.
[[nodiscard]] std::optional<Options> parse(int argc, const char* const* argv);

}  // namespace gpt
