#include "checkpoint/snapshot/tensors.h"

#include <torch/types.h>

#include <cstring>
#include <optional>
#include <utility>

#include <ddp/error.h>

namespace ddp::checkpoint {
namespace {

constexpr std::array<std::pair<at::ScalarType, ElementType>, 15> kTypes{
    {{at::kBool, ElementType::kBool},
     {at::kByte, ElementType::kU8},
     {at::kChar, ElementType::kI8},
     {at::kFloat8_e4m3fn, ElementType::kF8E4M3},
     {at::kFloat8_e5m2, ElementType::kF8E5M2},
     {at::kShort, ElementType::kI16},
     {at::kUInt16, ElementType::kU16},
     {at::kHalf, ElementType::kF16},
     {at::kBFloat16, ElementType::kBF16},
     {at::kInt, ElementType::kI32},
     {at::kUInt32, ElementType::kU32},
     {at::kFloat, ElementType::kF32},
     {at::kLong, ElementType::kI64},
     {at::kUInt64, ElementType::kU64},
     {at::kDouble, ElementType::kF64}}};

std::optional<ElementType> element_type(at::ScalarType type) {
  type = c10::toRealValueType(type);
  for (const auto& [torch_type, stored] : kTypes)
    if (torch_type == type) return stored;
  return std::nullopt;
}

}  // namespace

TensorInfo stored_info(std::string name, const at::Tensor& tensor) {
  const auto type = element_type(tensor.scalar_type());
  if (!type || tensor.layout() != at::kStrided)
    throw ConfigError("tensor '" + name + "' cannot be stored in a checkpoint: it is " +
                      c10::toString(tensor.scalar_type()) +
                      (tensor.layout() == at::kStrided ? "" : " and not dense"));
  TensorInfo info{std::move(name), *type, {}};
  for (const auto size : tensor.sizes()) info.shape.push_back(static_cast<std::uint64_t>(size));
  if (tensor.is_complex()) info.shape.push_back(2);
  return info;
}

void load_into(const at::Tensor& target, const LoadedTensor& loaded) {
  const at::NoGradGuard no_grad;
  // copy_ writes through a conjugate or negative view bit, and moves to the target's device.
  target.copy_(at::from_blob(loaded.data.get(), target.sizes(), target.options().device(at::kCPU)));
}

void Snapshot::add(std::string name, const at::Tensor& tensor, Scope scope) {
  const at::NoGradGuard no_grad;
  TensorInfo info = stored_info(std::move(name), tensor);
  const at::Tensor plain = tensor.detach().resolve_conj().resolve_neg().to(at::kCPU).contiguous();
  kept_.push_back(plain);
  tensors_.push_back(
      {std::move(info), scope, {static_cast<const std::byte*>(plain.const_data_ptr()), plain.nbytes()}});
}

void Snapshot::add_bytes(TensorInfo info, const void* data, std::size_t bytes, Scope scope) {
  const std::string& copy = copies_.emplace_back(static_cast<const char*>(data), bytes);
  tensors_.push_back({std::move(info), scope, std::as_bytes(std::span(copy))});
}

void Snapshot::add_values(std::string name, ElementType type, const void* data, std::size_t count,
                          Scope scope) {
  add_bytes({std::move(name), type, {count}}, count == 0 ? "" : data, count * size_of(type), scope);
}

void Snapshot::add_scalar(std::string name, std::int64_t value, Scope scope) {
  add_bytes({std::move(name), ElementType::kI64, {}}, &value, sizeof value, scope);
}
void Snapshot::add_scalar(std::string name, double value, Scope scope) {
  add_bytes({std::move(name), ElementType::kF64, {}}, &value, sizeof value, scope);
}
void Snapshot::add_scalar(std::string name, bool value, Scope scope) {
  const unsigned char byte = value ? 1 : 0;
  add_bytes({std::move(name), ElementType::kBool, {}}, &byte, sizeof byte, scope);
}

}  // namespace ddp::checkpoint
