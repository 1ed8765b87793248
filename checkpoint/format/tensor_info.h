// Names, element types and shapes of stored tensors, as safetensors knows them. Torch-free, plain values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ddp::checkpoint {

enum class ElementType : std::uint8_t {
  kBool,
  kU8,
  kI8,
  kF8E4M3,
  kF8E5M2,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kI64,
  kU64,
  kF64,
  kC64,
};

/// The safetensors name: "F32".
[[nodiscard]] const char* to_string(ElementType type) noexcept;
[[nodiscard]] std::optional<ElementType> parse_element_type(std::string_view text) noexcept;
/// Bytes of one element.
[[nodiscard]] std::size_t size_of(ElementType type) noexcept;

struct TensorInfo {
  std::string name;
  ElementType type = ElementType::kU8;
  std::vector<std::uint64_t> shape;
  bool operator==(const TensorInfo&) const = default;
};

/// Bytes of a tensor; nullopt when they do not fit 63 bits.
[[nodiscard]] std::optional<std::uint64_t> byte_count(const TensorInfo& info) noexcept;
/// "F32[768, 50257]".
[[nodiscard]] std::string describe(const TensorInfo& info);

}  // namespace ddp::checkpoint
