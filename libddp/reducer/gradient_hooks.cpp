#include "libddp/reducer/gradient_hooks.h"

#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <string>

#include <ddp/error.h>
namespace ddp {
namespace {

using torch::autograd::variable_list;

/// A type of its own, by which another wrapper recognises it.
class ArrivalHook final : public torch::autograd::FunctionPostHook {
 public:
  ArrivalHook(std::function<void(int)> on_gradient, int index)
      : on_gradient_(std::move(on_gradient)), index_(index) {}
  variable_list operator()(const variable_list& outputs, const variable_list& /*inputs*/) override {
    on_gradient_(index_);
    return outputs;
  }

 private:
  std::function<void(int)> on_gradient_;
  int index_;
};

void require_unwrapped(const torch::autograd::Node& accumulator, std::size_t index) {
  for (const auto& hook : const_cast<torch::autograd::Node&>(accumulator).post_hooks())
    if (dynamic_cast<const ArrivalHook*>(hook.get()) != nullptr)
      throw ConfigError(
          "trainable parameter #" + std::to_string(index) +
          " belongs to another DistributedDataParallel already: wrap a module once, and destroy the old "
          "wrapper before making a new one");
}

}  // namespace

GradientHooks::GradientHooks(std::span<const at::Tensor> parameters,
                             const std::function<void(int)>& on_gradient) {
  for (std::size_t i = 0; i < parameters.size(); ++i)
    require_unwrapped(*torch::autograd::impl::grad_accumulator(parameters[i]), i);
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    auto accumulator = torch::autograd::impl::grad_accumulator(parameters[i]);
    const auto key =
        accumulator->add_post_hook(std::make_unique<ArrivalHook>(on_gradient, static_cast<int>(i)));
    hooks_.emplace_back(std::move(accumulator), key);
  }
}

GradientHooks::~GradientHooks() {
  for (auto& [accumulator, key] : hooks_) accumulator->del_post_hook(key);
}

int GradientHooks::first_lost(std::span<const at::Tensor> parameters) const {
  for (std::size_t i = 0; i < parameters.size(); ++i)
    if (!parameters[i].requires_grad() ||
        torch::autograd::impl::grad_accumulator(parameters[i]) != hooks_[i].first)
      return static_cast<int>(i);
  return -1;
}

}  // namespace ddp
