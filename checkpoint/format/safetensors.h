// The header of a safetensors file: 8 bytes of length (little-endian), that many bytes of JSON, then the
// tensors' bytes end to end without holes. docs/checkpoint-format.md.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/format/tensor_info.h"

namespace ddp::checkpoint {

struct StoredTensor {
  TensorInfo info;
  std::uint64_t begin = 0;  ///< bytes from the start of the data
  std::uint64_t end = 0;
};

struct SafetensorsHeader {
  std::vector<StoredTensor> tensors;  ///< in the order of their bytes
  std::map<std::string, std::string> metadata;
};

/// Bytes in front of the JSON.
inline constexpr std::uint64_t kLengthBytes = 8;
/// What the format allows.
inline constexpr std::uint64_t kMaximumHeaderBytes = 100'000'000;

/// Length and JSON of a file that holds `tensors` in this order, padded with spaces to a multiple of 8.
/// Throws ConfigError when two have the same name or the header gets too long.
[[nodiscard]] std::string make_safetensors_header(std::span<const TensorInfo> tensors,
                                                  const std::map<std::string, std::string>& metadata);

/// The JSON's length out of the file's first 8 bytes. Throws CorruptCheckpoint when it exceeds the file.
[[nodiscard]] std::uint64_t header_length(std::string_view first_bytes, std::uint64_t file_bytes,
                                          std::string_view what);

/// Reads the JSON. Throws CorruptCheckpoint (`what` in front) unless the tensors tile exactly `data_bytes`.
[[nodiscard]] SafetensorsHeader parse_safetensors_header(std::string_view json, std::uint64_t data_bytes,
                                                         std::string_view what);

}  // namespace ddp::checkpoint
