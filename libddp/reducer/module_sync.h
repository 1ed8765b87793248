// Makes the copies of a module equal over ranks, or says where they differ.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <vector>

#include <ddp/communicator.h>

#include "libddp/reducer/reducer.h"

namespace ddp {

/// Compares count, names, shapes and dtypes, of parameters also requires_grad, with rank 0. Throws MismatchError, on
/// every rank alike, that names the first one that differs and shows both sides. Collective.
void verify_module(std::span<const NamedTensor> parameters, std::span<const NamedTensor> buffers,
                   Communicator& communicator);

/// Root's values into every rank's tensors, many at a time through one buffer. Any strides; CPU. Collective.
void broadcast_tensors(std::span<const at::Tensor> tensors, Communicator& communicator, int root);

}  // namespace ddp
