// Collectives over tensors: thin overloads of ddp::Communicator's for dense CPU tensors.
//
//   ddp::all_reduce(context.communicator(), loss, {.op = ddp::ReduceOp::kMean});
//
// Tensors must be contiguous; in-place ones are written where they are. Errors and threads: as ddp/communicator.h, and
// Error for a tensor that is on another device, not contiguous or of an unsupported dtype.
#pragma once

#include <ATen/core/Tensor.h>

#include <ddp/communicator.h>

namespace ddp {

/// The tensor's memory as a buffer; the tensor must outlive the operation.
[[nodiscard]] Buffer as_buffer(const at::Tensor& tensor);

/// In place on every rank, as broadcast; reduce writes root's tensor only.
Work all_reduce(Communicator& communicator, const at::Tensor& tensor, const CollectiveOptions& options = {});
Work broadcast(Communicator& communicator, const at::Tensor& tensor, int root,
               const CollectiveOptions& options = {});
Work reduce(Communicator& communicator, const at::Tensor& tensor, int root,
            const CollectiveOptions& options = {});
/// output.numel() == size * input.numel().
Work all_gather(Communicator& communicator, const at::Tensor& input, const at::Tensor& output,
                const CollectiveOptions& options = {});
/// input.numel() == size * output.numel().
Work reduce_scatter(Communicator& communicator, const at::Tensor& input, const at::Tensor& output,
                    const CollectiveOptions& options = {});
/// Equal numbers of elements, a multiple of size, in different memory.
Work all_to_all(Communicator& communicator, const at::Tensor& input, const at::Tensor& output,
                const CollectiveOptions& options = {});
Work send(Communicator& communicator, const at::Tensor& tensor, int destination,
          const CollectiveOptions& options = {});
Work recv(Communicator& communicator, const at::Tensor& tensor, int source,
          const CollectiveOptions& options = {});

}  // namespace ddp
