// Modules: parameters and buffers by name. Parameters are the same on all ranks; buffers perhaps.
#include <ddp/checkpoint/state.h>
#include <ddp/error.h>

#include <functional>

#include "checkpoint/snapshot/entry.h"

namespace ddp::checkpoint {
namespace {

class ModuleEntry final : public StateEntry {
 public:
  ModuleEntry(std::string name, std::shared_ptr<torch::nn::Module> module)
      : StateEntry(std::move(name)), module_(std::move(module)) {}

  void name_parameters(ParameterNames& names) const override {
    for_each_tensor([&](const std::string& name, const at::Tensor& tensor, bool is_buffer) {
      if (!is_buffer) names.emplace(tensor.unsafeGetTensorImpl(), name);
    });
  }
  void collect(Snapshot& snapshot, const ParameterNames& /*names*/) const override {
    for_each_tensor([&](const std::string& name, const at::Tensor& tensor, bool is_buffer) {
      snapshot.add(name, tensor, is_buffer ? Scope::kSharedIfEqual : Scope::kShared);
    });
  }
  void select(Selection& selection, const ParameterNames& /*names*/) const override {
    for_each_tensor([&](const std::string& name, const at::Tensor& tensor, bool /*is_buffer*/) {
      selection.want_or_rank_0(stored_info(name, tensor));
    });
  }
  void apply(const LoadedTensors& tensors, const ParameterNames& /*names*/) override {
    for_each_tensor([&](const std::string& name, const at::Tensor& tensor, bool /*is_buffer*/) {
      load_into(tensor, tensors.at(name));
    });
  }

 private:
  using Visit = std::function<void(const std::string& name, const at::Tensor& tensor, bool is_buffer)>;

  /// Tied tensors once, under their first name.
  void for_each_tensor(const Visit& visit) const {
    std::set<const c10::TensorImpl*> seen;
    const auto once = [&](const std::string& name, const at::Tensor& tensor, bool is_buffer) {
      if (tensor.defined() && seen.insert(tensor.unsafeGetTensorImpl()).second)
        visit(this->name() + "/" + name, tensor, is_buffer);
    };
    for (const auto& parameter : module_->named_parameters()) once(parameter.key(), parameter.value(), false);
    for (const auto& buffer : module_->named_buffers()) once(buffer.key(), buffer.value(), true);
  }

  std::shared_ptr<torch::nn::Module> module_;
};

}  // namespace

detail::EntryPointer detail::module_entry(std::string name, std::shared_ptr<torch::nn::Module> module) {
  if (module == nullptr) throw ConfigError("checkpoint state: the module of '" + name + "' is null");
  return std::make_shared<ModuleEntry>(std::move(name), std::move(module));
}

}  // namespace ddp::checkpoint
