// One named thing of a State: how it becomes tensors and comes back. Tensor names begin with the entry's name and "/".
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "checkpoint/snapshot/tensors.h"

namespace ddp::checkpoint {

/// Parameters of all modules of a State -> "model/layers.0.weight".
using ParameterNames = std::map<const c10::TensorImpl*, std::string>;

/// Collects which tensors of a checkpoint are wanted, and everything that does not fit.
class Selection {
 public:
  explicit Selection(const Catalog& catalog) : catalog_(catalog) {}

  [[nodiscard]] bool has(const std::string& name) const { return catalog_.tensors.contains(name); }
  [[nodiscard]] bool has_below(const std::string& prefix) const;
  /// Wants the tensor with exactly this type and shape.
  void want(const TensorInfo& expected);
  /// As want(), but takes rank 0's copy when a job of another size had different ones.
  void want_or_rank_0(const TensorInfo& expected);
  /// Wants a one-dimensional tensor of this type, of any length.
  void want_values(const std::string& name, ElementType type);
  /// Everything of the entry that was not wanted does not belong there.
  void finish_entry(const std::string& entry);

  [[nodiscard]] std::vector<std::string> names() const { return {wanted_.begin(), wanted_.end()}; }
  /// Throws ConfigError that lists the first problems, if there are any.
  void require_fit() const;

 private:
  [[nodiscard]] const CatalogEntry* find(const std::string& name, const std::string& expected);
  void refuse_ambiguous(const CatalogEntry& entry);

  const Catalog& catalog_;
  std::set<std::string> wanted_;
  std::vector<std::string> problems_;
};

class StateEntry {
 public:
  explicit StateEntry(std::string name) : name_(std::move(name)) {}
  StateEntry(const StateEntry&) = delete;
  StateEntry& operator=(const StateEntry&) = delete;
  virtual ~StateEntry() = default;

  [[nodiscard]] const std::string& name() const { return name_; }
  /// Adds the parameters this entry gives names to.
  virtual void name_parameters(ParameterNames& /*names*/) const {}
  virtual void collect(Snapshot& snapshot, const ParameterNames& names) const = 0;
  virtual void select(Selection& selection, const ParameterNames& names) const = 0;
  /// Every wanted tensor is there, verified, of the wanted type and shape.
  virtual void apply(const LoadedTensors& tensors, const ParameterNames& names) = 0;

 private:
  std::string name_;
};

}  // namespace ddp::checkpoint
