// Learning rate by step: a linear warm-up, then half a cosine down to the minimum. Depends on nothing but the step, so
// there is nothing to save.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace gpt {

struct CosineSchedule {
  double peak = 3e-4;
  double minimum = 3e-5;
  std::int64_t warmup = 100;  ///< steps until the peak
  std::int64_t steps = 1000;  ///< steps until the minimum

  [[nodiscard]] double operator()(std::int64_t step) const {
    if (step < warmup) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup);
    const double way =
        static_cast<double>(step - warmup) / static_cast<double>(std::max<std::int64_t>(1, steps - warmup));
    return minimum + 0.5 * (peak - minimum) * (1 + std::cos(std::numbers::pi * std::min(1.0, way)));
  }
};

}  // namespace gpt
