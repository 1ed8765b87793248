// Writes text with a trained model.
#pragma once

#include <cstdint>
#include <string>

#include "examples/gpt/model.h"

namespace gpt {

struct GenerateOptions {
  std::string prompt = "\n";
  std::int64_t bytes = 400;
  double temperature = 0.8;  ///< 0: always the likeliest byte
  std::uint64_t seed = 1;
};

/// The prompt and what the model says next. Draws from a generator of its own: training is not disturbed.
[[nodiscard]] std::string generate(Gpt& model, const GenerateOptions& options);

/// With every byte that a terminal would not print as text written as \xNN.
[[nodiscard]] std::string printable(const std::string& text);

}  // namespace gpt
