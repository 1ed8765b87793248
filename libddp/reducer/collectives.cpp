#include <ddp/collectives.h>
#include <ddp/error.h>

#include <string>

#include "libddp/reducer/dtypes.h"

namespace ddp {

DType dtype_of(c10::ScalarType type) {
  switch (type) {
    case c10::ScalarType::Byte:
      return DType::kUInt8;
    case c10::ScalarType::Char:
      return DType::kInt8;
    case c10::ScalarType::Short:
      return DType::kInt16;
    case c10::ScalarType::Int:
      return DType::kInt32;
    case c10::ScalarType::Long:
      return DType::kInt64;
    case c10::ScalarType::Half:
      return DType::kFloat16;
    case c10::ScalarType::Float:
      return DType::kFloat32;
    case c10::ScalarType::Double:
      return DType::kFloat64;
    case c10::ScalarType::ComplexFloat:
      return DType::kComplex64;
    case c10::ScalarType::ComplexDouble:
      return DType::kComplex128;
    case c10::ScalarType::Bool:
      return DType::kBool;
    case c10::ScalarType::BFloat16:
      return DType::kBFloat16;
    default:
      throw Error(std::string("tensors of ") + c10::toString(type) + " cannot be communicated");
  }
}

c10::ScalarType scalar_type(DType dtype) {
  using c10::ScalarType;
  static constexpr ScalarType kTypes[] = {
      ScalarType::Byte,         ScalarType::Char,          ScalarType::Short, ScalarType::Int,
      ScalarType::Long,         ScalarType::Half,          ScalarType::Float, ScalarType::Double,
      ScalarType::ComplexFloat, ScalarType::ComplexDouble, ScalarType::Bool,  ScalarType::BFloat16};
  return kTypes[static_cast<int>(dtype)];
}

Buffer as_buffer(const at::Tensor& tensor) {
  if (!tensor.defined()) throw Error("an undefined tensor cannot be communicated");
  if (!tensor.is_cpu() || tensor.layout() != at::kStrided)
    throw Error("the host backend communicates dense CPU tensors; this one is " + tensor.toString() + " on " +
                tensor.device().str());
  if (!tensor.is_contiguous())
    throw Error("a tensor must be contiguous to be communicated; call contiguous() first");
  return {tensor.data_ptr(), static_cast<std::size_t>(tensor.numel()), dtype_of(tensor.scalar_type())};
}

Work all_reduce(Communicator& communicator, const at::Tensor& tensor, const CollectiveOptions& options) {
  return communicator.all_reduce(as_buffer(tensor), options);
}

Work broadcast(Communicator& communicator, const at::Tensor& tensor, int root,
               const CollectiveOptions& options) {
  return communicator.broadcast(as_buffer(tensor), root, options);
}

Work reduce(Communicator& communicator, const at::Tensor& tensor, int root,
            const CollectiveOptions& options) {
  return communicator.reduce(as_buffer(tensor), root, options);
}

Work all_gather(Communicator& communicator, const at::Tensor& input, const at::Tensor& output,
                const CollectiveOptions& options) {
  return communicator.all_gather(as_buffer(input), as_buffer(output), options);
}

Work reduce_scatter(Communicator& communicator, const at::Tensor& input, const at::Tensor& output,
                    const CollectiveOptions& options) {
  return communicator.reduce_scatter(as_buffer(input), as_buffer(output), options);
}

Work all_to_all(Communicator& communicator, const at::Tensor& input, const at::Tensor& output,
                const CollectiveOptions& options) {
  return communicator.all_to_all(as_buffer(input), as_buffer(output), options);
}

Work send(Communicator& communicator, const at::Tensor& tensor, int destination,
          const CollectiveOptions& options) {
  return communicator.send(as_buffer(tensor), destination, options);
}

Work recv(Communicator& communicator, const at::Tensor& tensor, int source,
          const CollectiveOptions& options) {
  return communicator.recv(as_buffer(tensor), source, options);
}

}  // namespace ddp
