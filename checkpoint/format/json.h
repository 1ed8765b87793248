// Reading JSON that nobody vouches for: bounded depth and number of values, typed access, one kind of error.
//
// All functions throw CorruptCheckpoint with `what` (a file's name) in front. Included by .cpp files only.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace ddp::checkpoint {

using Json = nlohmann::json;

/// At most 8 levels and 16 million values: more than any checkpoint needs, less than exhausts memory.
[[nodiscard]] Json parse_json(std::string_view text, std::string_view what);

[[nodiscard]] const Json& member(const Json& object, const char* key, std::string_view what);
[[nodiscard]] std::string string_member(const Json& object, const char* key, std::string_view what);
[[nodiscard]] std::uint64_t unsigned_member(const Json& object, const char* key, std::string_view what);
[[nodiscard]] const Json& array_member(const Json& object, const char* key, std::string_view what);
/// An array of unsigned integers: a shape, a pair of offsets.
[[nodiscard]] std::vector<std::uint64_t> unsigned_array(const Json& object, const char* key,
                                                        std::string_view what);
/// Compact text; throws ConfigError when a string (a tensor's name) is not UTF-8.
[[nodiscard]] std::string dump(const Json& json);

}  // namespace ddp::checkpoint
