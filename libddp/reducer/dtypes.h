// ddp::DType <-> c10::ScalarType.
#pragma once

#include <c10/core/ScalarType.h>

#include <ddp/types.h>

namespace ddp {

/// Throws Error for types the communicators do not know (quantised, fp8, ...).
[[nodiscard]] DType dtype_of(c10::ScalarType type);
[[nodiscard]] c10::ScalarType scalar_type(DType dtype);

}  // namespace ddp
