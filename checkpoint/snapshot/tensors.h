// Tensors as the torch-free part sees them: a stored type, a shape and bytes in CPU memory.
//
// Complex tensors are stored as real ones with a last dimension of 2: safetensors knows but one complex type.
#pragma once

#include <ATen/core/Tensor.h>

#include <deque>
#include <string>
#include <vector>

#include "checkpoint/commit/session.h"

namespace ddp::checkpoint {

/// Type and shape under which `tensor` is stored. Throws ConfigError for types and layouts that cannot be
/// (quantised, sparse).
[[nodiscard]] TensorInfo stored_info(std::string name, const at::Tensor& tensor);
/// Overwrites `target` (any strides, any device) with loaded bytes of exactly its stored_info().
void load_into(const at::Tensor& target, const LoadedTensor& loaded);

/// What a rank is about to save: keeps the tensors' bytes where they are until the save is over. CPU tensors
/// that are contiguous are not copied.
class Snapshot {
 public:
  void add(std::string name, const at::Tensor& tensor, Scope scope);
  /// A one-dimensional tensor of `count` elements, which are copied.
  void add_values(std::string name, ElementType type, const void* data, std::size_t count, Scope scope);
  /// A tensor without dimensions.
  void add_scalar(std::string name, std::int64_t value, Scope scope);
  void add_scalar(std::string name, double value, Scope scope);
  void add_scalar(std::string name, bool value, Scope scope);
  [[nodiscard]] const std::vector<SavedTensor>& tensors() const { return tensors_; }

 private:
  void add_bytes(TensorInfo info, const void* data, std::size_t bytes, Scope scope);
  std::vector<SavedTensor> tensors_;
  std::vector<at::Tensor> kept_;
  std::deque<std::string> copies_;  // a deque: growing moves no element
};

}  // namespace ddp::checkpoint
