// What all backends ask of an operation. Pure; any thread.
#pragma once

#include <cstddef>
#include <cstring>

#include <ddp/communicator.h>

namespace ddp::comm {

[[nodiscard]] constexpr bool reduces(OpKind kind) {
  return kind == OpKind::kAllReduce || kind == OpKind::kReduce || kind == OpKind::kReduceScatter;
}

[[nodiscard]] constexpr bool is_point_to_point(OpKind kind) {
  return kind == OpKind::kSend || kind == OpKind::kRecv;
}

/// Of one rank's share.
[[nodiscard]] inline std::size_t bytes_of(const Operation& operation) {
  return operation.count * size_of(operation.dtype);
}

/// The only rank's share of every collective is a copy, or nothing.
inline void run_alone(const Operation& operation) {
  const std::size_t bytes = bytes_of(operation);
  if (operation.input != operation.output && operation.output != nullptr && bytes > 0)
    std::memmove(operation.output, operation.input, bytes);
}

}  // namespace ddp::comm
