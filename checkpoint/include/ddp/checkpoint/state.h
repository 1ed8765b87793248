// What goes into a checkpoint: names for references to the things a training program has.
//
//   std::vector<double> losses;
//   ddp::checkpoint::State state{{"model", model},          // torch::nn::Module: holder, shared_ptr or reference
//                                {"optimizer", optimizer},  // AdamW, Adam, SGD, Adagrad, RMSprop
//                                {"sampler", sampler},      // any ddp::Stateful
//                                {"random", generator},     // at::Generator
//                                {"losses", losses}};       // values, see below
//
// Values are std::int64_t, double, bool, std::string, at::Tensor, and std::vector of char, float, double or
// std::int64_t. Entries refer to their objects, which must outlive the state (a holder or shared_ptr keeps its module
// alive).
//
// Stored once, the bytes divided over the ranks: parameters, optimizer state (by parameter NAME, through the modules of
// the same State), and buffers as long as they are equal on all ranks. Stored for each rank: everything else, and
// buffers that differ (running statistics). At another world size a per-rank entry is restored when all ranks had saved
// the same bytes (a Stateful then deals them out anew, or refuses); buffers come from rank 0.
//
// Not thread-safe; the objects must not change while they are saved or restored.
#pragma once

#include <torch/nn/module.h>

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <ddp/stateful.h>

namespace torch::optim {
class Optimizer;
}

namespace ddp::checkpoint {

/// One named thing, type-erased (checkpoint/snapshot/entry.h).
class StateEntry;

template <class T>
concept ModuleHandle = requires(const T& handle) {
  { handle.ptr() } -> std::convertible_to<std::shared_ptr<torch::nn::Module>>;
}
|| std::convertible_to<T, std::shared_ptr<torch::nn::Module>>;

namespace detail {
using EntryPointer = std::shared_ptr<StateEntry>;
EntryPointer module_entry(std::string name, std::shared_ptr<torch::nn::Module> module);
EntryPointer optimizer_entry(std::string name, torch::optim::Optimizer& optimizer);
EntryPointer stateful_entry(std::string name, Stateful& stateful);
EntryPointer generator_entry(std::string name, const at::Generator& generator);
EntryPointer tensor_entry(std::string name, at::Tensor& tensor);
EntryPointer value_entry(std::string name, std::int64_t& value);
EntryPointer value_entry(std::string name, double& value);
EntryPointer value_entry(std::string name, bool& value);
EntryPointer value_entry(std::string name, std::string& value);
EntryPointer value_entry(std::string name, std::vector<char>& value);
EntryPointer value_entry(std::string name, std::vector<float>& value);
EntryPointer value_entry(std::string name, std::vector<double>& value);
EntryPointer value_entry(std::string name, std::vector<std::int64_t>& value);
}  // namespace detail

class State {
 public:
  struct Entry {
    /// `name` is made of letters, digits, '_', '-' and '.': it starts the names of the entry's tensors in the files.
    template <class T>
    Entry(std::string name, T& value) : pointer(make(std::move(name), value)) {}
    std::shared_ptr<StateEntry> pointer;

   private:
    template <class T>
    static std::shared_ptr<StateEntry> make(std::string name, T& value);
  };

  /// Throws ConfigError for names that are empty, twice there or have other characters, for an optimizer of a kind that
  /// is not supported, a module that is null and a generator that is undefined.
  State(std::initializer_list<Entry> entries);
  /// Adds one more, with the same rules.
  void add(const Entry& entry);

  [[nodiscard]] const std::vector<std::shared_ptr<StateEntry>>& entries() const { return entries_; }

 private:
  std::vector<std::shared_ptr<StateEntry>> entries_;
};

template <class T>
std::shared_ptr<StateEntry> State::Entry::make(std::string name, T& value) {
  using Plain = std::remove_const_t<T>;
  if constexpr (std::is_base_of_v<torch::nn::Module, Plain>) {
    // The aliasing constructor makes a pointer that owns nothing: the reference's owner must outlive the state.
    auto* module = static_cast<torch::nn::Module*>(const_cast<Plain*>(&value));
    return detail::module_entry(std::move(name),
                                std::shared_ptr<torch::nn::Module>(std::shared_ptr<void>(), module));
  } else if constexpr (std::convertible_to<Plain, std::shared_ptr<torch::nn::Module>>) {
    return detail::module_entry(std::move(name), value);
  } else if constexpr (ModuleHandle<Plain>) {
    return detail::module_entry(std::move(name), value.ptr());
  } else if constexpr (std::is_base_of_v<at::Generator, Plain>) {
    return detail::generator_entry(std::move(name), value);
  } else {
    static_assert(!std::is_const_v<T>, "restoring would have to change this entry, which is const");
    if constexpr (std::is_base_of_v<torch::optim::Optimizer, Plain>)
      return detail::optimizer_entry(std::move(name), value);
    else if constexpr (std::is_base_of_v<Stateful, Plain>)
      return detail::stateful_entry(std::move(name), value);
    else if constexpr (std::is_base_of_v<at::Tensor, Plain>)
      return detail::tensor_entry(std::move(name), value);
    else
      return detail::value_entry(std::move(name), value);
  }
}

}  // namespace ddp::checkpoint
