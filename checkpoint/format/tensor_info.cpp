#include "checkpoint/format/tensor_info.h"

#include <array>
#include <limits>

namespace ddp::checkpoint {
namespace {

struct Row {
  const char* name;
  std::size_t bytes;
};
// In the order of ElementType.
constexpr std::array<Row, 16> kTypes{{{"BOOL", 1},
                                      {"U8", 1},
                                      {"I8", 1},
                                      {"F8_E4M3", 1},
                                      {"F8_E5M2", 1},
                                      {"I16", 2},
                                      {"U16", 2},
                                      {"F16", 2},
                                      {"BF16", 2},
                                      {"I32", 4},
                                      {"U32", 4},
                                      {"F32", 4},
                                      {"I64", 8},
                                      {"U64", 8},
                                      {"F64", 8},
                                      {"C64", 8}}};

}  // namespace

const char* to_string(ElementType type) noexcept {
  return kTypes[static_cast<std::size_t>(type)].name;
}

std::size_t size_of(ElementType type) noexcept {
  return kTypes[static_cast<std::size_t>(type)].bytes;
}

std::optional<ElementType> parse_element_type(std::string_view text) noexcept {
  for (std::size_t i = 0; i < kTypes.size(); ++i)
    if (text == kTypes[i].name) return static_cast<ElementType>(i);
  return std::nullopt;
}

std::optional<std::uint64_t> byte_count(const TensorInfo& info) noexcept {
  constexpr std::uint64_t kLimit = std::numeric_limits<std::int64_t>::max();
  // A zero anywhere makes the tensor empty, however large the other sizes are.
  for (const auto size : info.shape)
    if (size == 0) return 0;
  std::uint64_t bytes = size_of(info.type);
  for (const auto size : info.shape) {
    if (size > kLimit / bytes) return std::nullopt;
    bytes *= size;
  }
  return bytes;
}

std::string describe(const TensorInfo& info) {
  std::string text = std::string(to_string(info.type)) + "[";
  for (std::size_t i = 0; i < info.shape.size(); ++i)
    text += (i == 0 ? "" : ", ") + std::to_string(info.shape[i]);
  return text + "]";
}

}  // namespace ddp::checkpoint
