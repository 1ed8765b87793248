// Hooks on the gradient accumulators of a set of parameters; gone when this object is.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/function.h>

#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace ddp {

class GradientHooks {
 public:
  /// Calls on_gradient(i) in the backward thread after parameter i's .grad has been accumulated, also when
  /// the incoming gradient was undefined. Exceptions of on_gradient reach the caller of backward().
  /// Throws ConfigError when a parameter has such a hook already: each would scale the gradient.
  GradientHooks(std::span<const at::Tensor> parameters, const std::function<void(int)>& on_gradient);
  GradientHooks(const GradientHooks&) = delete;
  GradientHooks& operator=(const GradientHooks&) = delete;
  ~GradientHooks();

  /// The first parameter whose accumulator is no longer the one that the hook is on, or -1. module.to(dtype) makes new
  /// ones, which nobody would hear of.
  [[nodiscard]] int first_lost(std::span<const at::Tensor> parameters) const;

 private:
  // A tensor holds its accumulator weakly: holding it here keeps the hook in force.
  std::vector<std::pair<std::shared_ptr<torch::autograd::Node>, std::uintptr_t>> hooks_;
};

}  // namespace ddp
