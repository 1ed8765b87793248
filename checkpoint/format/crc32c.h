// CRC-32C (Castagnoli, reflected polynomial 0x82F63B78, RFC 3720): by the processor's instruction where there
// is one, by table otherwise. Pure; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace ddp::checkpoint {

/// Of `bytes`; `seed` is the checksum of what came before them.
[[nodiscard]] std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t seed = 0) noexcept;
[[nodiscard]] std::uint32_t crc32c(std::string_view text) noexcept;

/// The two ways, for the test that compares them. The first may be called only when the second says so.
[[nodiscard]] std::uint32_t crc32c_hardware(std::span<const std::byte> bytes, std::uint32_t seed) noexcept;
[[nodiscard]] bool crc32c_has_hardware() noexcept;
[[nodiscard]] std::uint32_t crc32c_table(std::span<const std::byte> bytes, std::uint32_t seed) noexcept;

/// Eight lower-case hexadecimal digits, and back (false when it is none).
[[nodiscard]] std::string crc_text(std::uint32_t crc);
[[nodiscard]] bool parse_crc(std::string_view text, std::uint32_t& crc) noexcept;

}  // namespace ddp::checkpoint
