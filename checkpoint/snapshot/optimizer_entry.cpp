// Optimizers: state by parameter name ("optimizer/group.0/state/model/fc.weight/exp_avg"), options by group
// ("optimizer/group.0/lr"), and an empty tensor that tells the kind ("optimizer/kind.AdamW").
#include <ddp/checkpoint/state.h>
#include <ddp/error.h>

#include <cstring>

#include "checkpoint/snapshot/entry.h"
#include "checkpoint/snapshot/optimizer_kinds.h"

namespace ddp::checkpoint {
namespace {

class Collecting final : public FieldVisitor {
 public:
  Collecting(Snapshot& snapshot, std::string prefix) : snapshot_(snapshot), prefix_(std::move(prefix)) {}
  void field(const char* name, double& value) override {
    snapshot_.add_scalar(prefix_ + name, value, Scope::kShared);
  }
  void field(const char* name, std::int64_t& value) override {
    snapshot_.add_scalar(prefix_ + name, value, Scope::kShared);
  }
  void field(const char* name, bool& value) override {
    snapshot_.add_scalar(prefix_ + name, value, Scope::kShared);
  }
  void field(const char* name, at::Tensor& value) override {
    if (value.defined()) snapshot_.add(prefix_ + name, value, Scope::kShared);
  }

 private:
  Snapshot& snapshot_;
  std::string prefix_;
};

class Selecting final : public FieldVisitor {
 public:
  Selecting(Selection& selection, std::string prefix, at::Tensor parameter)
      : selection_(selection), prefix_(std::move(prefix)), parameter_(std::move(parameter)) {}
  void field(const char* name, double& /*value*/) override { want(name, ElementType::kF64); }
  void field(const char* name, std::int64_t& /*value*/) override { want(name, ElementType::kI64); }
  void field(const char* name, bool& /*value*/) override { want(name, ElementType::kBool); }
  void field(const char* name, at::Tensor& /*value*/) override {
    if (selection_.has(prefix_ + name)) selection_.want(stored_info(prefix_ + name, parameter_));
  }

 private:
  void want(const char* name, ElementType type) { selection_.want({prefix_ + name, type, {}}); }
  Selection& selection_;
  std::string prefix_;
  at::Tensor parameter_;
};

class Applying final : public FieldVisitor {
 public:
  Applying(const LoadedTensors& tensors, std::string prefix, at::Tensor parameter)
      : tensors_(tensors), prefix_(std::move(prefix)), parameter_(std::move(parameter)) {}
  void field(const char* name, double& value) override { copy(name, &value, sizeof value); }
  void field(const char* name, std::int64_t& value) override { copy(name, &value, sizeof value); }
  void field(const char* name, bool& value) override {
    unsigned char byte = 0;
    copy(name, &byte, sizeof byte);
    value = byte != 0;
  }
  void field(const char* name, at::Tensor& value) override {
    const auto found = tensors_.find(prefix_ + name);
    if (found == tensors_.end()) {
      value = at::Tensor();
      return;
    }
    const at::NoGradGuard no_grad;
    value = at::empty_like(parameter_, parameter_.options().requires_grad(false));
    load_into(value, found->second);
  }

 private:
  void copy(const char* name, void* into, std::size_t bytes) {
    std::memcpy(into, tensors_.at(prefix_ + name).data.get(), bytes);
  }
  const LoadedTensors& tensors_;
  std::string prefix_;
  at::Tensor parameter_;
};

class OptimizerEntry final : public StateEntry {
 public:
  OptimizerEntry(std::string name, torch::optim::Optimizer& optimizer)
      : StateEntry(std::move(name)), optimizer_(optimizer), kind_(kind_of(optimizer)) {}

  void collect(Snapshot& snapshot, const ParameterNames& names) const override {
    snapshot.add_values(kind_name(), ElementType::kU8, nullptr, 0, Scope::kShared);
    for_each_group([&](const std::string& prefix, auto& group) {
      Collecting options(snapshot, prefix);
      kind_->visit_options(group.options(), options);
      for_each_parameter(prefix, group, names,
                         [&](const std::string& state_prefix, const at::Tensor& parameter) {
                           const auto state = optimizer_.state().find(parameter.unsafeGetTensorImpl());
                           if (state == optimizer_.state().end()) return;
                           Collecting fields(snapshot, state_prefix);
                           kind_->visit_state(*state->second, fields);
                         });
    });
  }

  void select(Selection& selection, const ParameterNames& names) const override {
    selection.want({kind_name(), ElementType::kU8, {0}});
    const auto example = kind_->make_state();
    for_each_group([&](const std::string& prefix, auto& group) {
      Selecting options(selection, prefix, {});
      kind_->visit_options(group.options(), options);
      for_each_parameter(prefix, group, names,
                         [&](const std::string& state_prefix, const at::Tensor& parameter) {
                           if (!selection.has_below(state_prefix)) return;
                           Selecting fields(selection, state_prefix, parameter);
                           kind_->visit_state(*example, fields);
                         });
    });
  }

  void apply(const LoadedTensors& tensors, const ParameterNames& names) override {
    for_each_group([&](const std::string& prefix, auto& group) {
      Applying options(tensors, prefix, {});
      kind_->visit_options(group.options(), options);
      for_each_parameter(
          prefix, group, names, [&](const std::string& state_prefix, const at::Tensor& parameter) {
            const auto first = tensors.lower_bound(state_prefix);
            if (first == tensors.end() || !first->first.starts_with(state_prefix)) {
              optimizer_.state().erase(parameter.unsafeGetTensorImpl());  // it had none when it was saved
              return;
            }
            auto state = kind_->make_state();
            Applying fields(tensors, state_prefix, parameter);
            kind_->visit_state(*state, fields);
            optimizer_.state()[parameter.unsafeGetTensorImpl()] = std::move(state);
          });
    });
  }

 private:
  [[nodiscard]] std::string kind_name() const { return name() + "/kind." + kind_->name(); }

  template <class Visit>
  void for_each_group(Visit visit) const {
    auto& groups = optimizer_.param_groups();
    for (std::size_t i = 0; i < groups.size(); ++i)
      visit(name() + "/group." + std::to_string(i) + "/", groups[i]);
  }

  template <class Visit>
  void for_each_parameter(const std::string& prefix, torch::optim::OptimizerParamGroup& group,
                          const ParameterNames& names, Visit visit) const {
    for (const auto& parameter : group.params()) {
      const auto known = names.find(parameter.unsafeGetTensorImpl());
      if (known == names.end())
        throw ConfigError(
            "checkpoint state: optimizer '" + name() + "' has a parameter (" +
            describe(stored_info("", parameter)) +
            ") that belongs to no module of this state: give the optimizer's module in the same State");
      visit(prefix + "state/" + known->second + "/", parameter);
    }
  }

  torch::optim::Optimizer& optimizer_;
  std::unique_ptr<const OptimizerKind> kind_;
};

}  // namespace

detail::EntryPointer detail::optimizer_entry(std::string name, torch::optim::Optimizer& optimizer) {
  return std::make_shared<OptimizerEntry>(std::move(name), optimizer);
}

}  // namespace ddp::checkpoint
