// Everything a rank has of its own: Stateful objects, generators, tensors, numbers, strings, vectors.
#include <ddp/checkpoint/state.h>
#include <ddp/error.h>

#include <torch/types.h>

#include <cstring>
#include <mutex>

#include "checkpoint/snapshot/entry.h"

namespace ddp::checkpoint {
namespace {

/// One tensor, "NAME/value", per rank.
class ValueEntry : public StateEntry {
 public:
  using StateEntry::StateEntry;

 protected:
  [[nodiscard]] std::string key() const { return name() + "/value"; }
};

class StatefulEntry final : public ValueEntry {
 public:
  StatefulEntry(std::string name, Stateful& stateful) : ValueEntry(std::move(name)), stateful_(stateful) {}
  void collect(Snapshot& snapshot, const ParameterNames& /*names*/) const override {
    const std::string state = stateful_.save_state();
    snapshot.add_values(key(), ElementType::kU8, state.data(), state.size(), Scope::kPerRank);
  }
  void select(Selection& selection, const ParameterNames& /*names*/) const override {
    selection.want_values(key(), ElementType::kU8);
  }
  void apply(const LoadedTensors& tensors, const ParameterNames& /*names*/) override {
    const LoadedTensor& loaded = tensors.at(key());
    try {
      stateful_.load_state({reinterpret_cast<const char*>(loaded.data.get()), loaded.bytes});
    } catch (const Error& e) {
      throw_error(e.kind(), "entry '" + name() + "': " + e.what());
    }
  }

 private:
  Stateful& stateful_;
};

class GeneratorEntry final : public ValueEntry {
 public:
  GeneratorEntry(std::string name, at::Generator generator)
      : ValueEntry(std::move(name)), generator_(std::move(generator)) {}
  void collect(Snapshot& snapshot, const ParameterNames& /*names*/) const override {
    snapshot.add(key(), state(), Scope::kPerRank);
  }
  void select(Selection& selection, const ParameterNames& /*names*/) const override {
    selection.want(stored_info(key(), state()));
  }
  void apply(const LoadedTensors& tensors, const ParameterNames& /*names*/) override {
    at::Tensor saved = state();
    load_into(saved, tensors.at(key()));
    const std::lock_guard lock(generator_.mutex());
    generator_.set_state(saved);
  }

 private:
  [[nodiscard]] at::Tensor state() const {
    const std::lock_guard lock(generator_.mutex());
    return generator_.get_state();
  }
  mutable at::Generator generator_;
};

class TensorEntry final : public ValueEntry {
 public:
  TensorEntry(std::string name, at::Tensor& tensor) : ValueEntry(std::move(name)), tensor_(tensor) {}
  void collect(Snapshot& snapshot, const ParameterNames& /*names*/) const override {
    snapshot.add(key(), required(), Scope::kPerRank);
  }
  void select(Selection& selection, const ParameterNames& /*names*/) const override {
    selection.want(stored_info(key(), required()));
  }
  void apply(const LoadedTensors& tensors, const ParameterNames& /*names*/) override {
    load_into(tensor_, tensors.at(key()));
  }

 private:
  [[nodiscard]] const at::Tensor& required() const {
    if (!tensor_.defined()) throw ConfigError("checkpoint state: the tensor '" + name() + "' is undefined");
    return tensor_;
  }
  at::Tensor& tensor_;
};

template <class T>
constexpr ElementType kTypeOf = ElementType::kU8;
template <>
constexpr ElementType kTypeOf<float> = ElementType::kF32;
template <>
constexpr ElementType kTypeOf<double> = ElementType::kF64;
template <>
constexpr ElementType kTypeOf<std::int64_t> = ElementType::kI64;
template <>
constexpr ElementType kTypeOf<bool> = ElementType::kBool;

template <class T>
class ScalarEntry final : public ValueEntry {
 public:
  ScalarEntry(std::string name, T& value) : ValueEntry(std::move(name)), value_(value) {}
  void collect(Snapshot& snapshot, const ParameterNames& /*names*/) const override {
    snapshot.add_scalar(key(), value_, Scope::kPerRank);
  }
  void select(Selection& selection, const ParameterNames& /*names*/) const override {
    selection.want({key(), kTypeOf<T>, {}});
  }
  void apply(const LoadedTensors& tensors, const ParameterNames& /*names*/) override {
    const std::byte* data = tensors.at(key()).data.get();
    if constexpr (std::is_same_v<T, bool>)
      value_ = *data != std::byte{0};
    else
      std::memcpy(&value_, data, sizeof value_);
  }

 private:
  T& value_;
};

/// Strings and vectors.
template <class Sequence>
class SequenceEntry final : public ValueEntry {
 public:
  using Element = typename Sequence::value_type;
  SequenceEntry(std::string name, Sequence& value) : ValueEntry(std::move(name)), value_(value) {}
  void collect(Snapshot& snapshot, const ParameterNames& /*names*/) const override {
    snapshot.add_values(key(), kTypeOf<Element>, value_.data(), value_.size(), Scope::kPerRank);
  }
  void select(Selection& selection, const ParameterNames& /*names*/) const override {
    selection.want_values(key(), kTypeOf<Element>);
  }
  void apply(const LoadedTensors& tensors, const ParameterNames& /*names*/) override {
    const LoadedTensor& loaded = tensors.at(key());
    value_.resize(loaded.bytes / sizeof(Element));
    if (loaded.bytes > 0) std::memcpy(value_.data(), loaded.data.get(), loaded.bytes);
  }

 private:
  Sequence& value_;
};

}  // namespace

namespace detail {

EntryPointer stateful_entry(std::string name, Stateful& stateful) {
  return std::make_shared<StatefulEntry>(std::move(name), stateful);
}
EntryPointer generator_entry(std::string name, const at::Generator& generator) {
  if (!generator.defined()) throw ConfigError("checkpoint state: the generator '" + name + "' is undefined");
  return std::make_shared<GeneratorEntry>(std::move(name), generator);
}
EntryPointer tensor_entry(std::string name, at::Tensor& tensor) {
  return std::make_shared<TensorEntry>(std::move(name), tensor);
}
EntryPointer value_entry(std::string name, std::int64_t& value) {
  return std::make_shared<ScalarEntry<std::int64_t>>(std::move(name), value);
}
EntryPointer value_entry(std::string name, double& value) {
  return std::make_shared<ScalarEntry<double>>(std::move(name), value);
}
EntryPointer value_entry(std::string name, bool& value) {
  return std::make_shared<ScalarEntry<bool>>(std::move(name), value);
}
EntryPointer value_entry(std::string name, std::string& value) {
  return std::make_shared<SequenceEntry<std::string>>(std::move(name), value);
}
EntryPointer value_entry(std::string name, std::vector<char>& value) {
  return std::make_shared<SequenceEntry<std::vector<char>>>(std::move(name), value);
}
EntryPointer value_entry(std::string name, std::vector<float>& value) {
  return std::make_shared<SequenceEntry<std::vector<float>>>(std::move(name), value);
}
EntryPointer value_entry(std::string name, std::vector<double>& value) {
  return std::make_shared<SequenceEntry<std::vector<double>>>(std::move(name), value);
}
EntryPointer value_entry(std::string name, std::vector<std::int64_t>& value) {
  return std::make_shared<SequenceEntry<std::vector<std::int64_t>>>(std::move(name), value);
}

}  // namespace detail
}  // namespace ddp::checkpoint
