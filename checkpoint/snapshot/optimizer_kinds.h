// What torch's optimizers keep, as fields with names: options of a parameter group, state of a parameter.
#pragma once

#include <torch/optim/optimizer.h>

#include <memory>

namespace ddp::checkpoint {

/// Receives each field by reference, to read or to write.
class FieldVisitor {
 public:
  virtual ~FieldVisitor() = default;
  virtual void field(const char* name, double& value) = 0;
  virtual void field(const char* name, std::int64_t& value) = 0;
  virtual void field(const char* name, bool& value) = 0;
  /// Of the parameter's type and shape; may be undefined.
  virtual void field(const char* name, at::Tensor& value) = 0;
};

class OptimizerKind {
 public:
  virtual ~OptimizerKind() = default;
  /// "AdamW".
  [[nodiscard]] virtual const char* name() const = 0;
  virtual void visit_options(torch::optim::OptimizerOptions& options, FieldVisitor& visitor) const = 0;
  [[nodiscard]] virtual std::unique_ptr<torch::optim::OptimizerParamState> make_state() const = 0;
  virtual void visit_state(torch::optim::OptimizerParamState& state, FieldVisitor& visitor) const = 0;
};

/// Throws ConfigError, listing those that are supported, for others and for classes derived from them: these
/// may keep state that nobody here knows of.
[[nodiscard]] std::unique_ptr<const OptimizerKind> kind_of(const torch::optim::Optimizer& optimizer);

}  // namespace ddp::checkpoint
