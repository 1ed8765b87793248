#include "checkpoint/format/safetensors.h"

#include <algorithm>
#include <set>

#include <ddp/error.h>

#include "checkpoint/format/json.h"

namespace ddp::checkpoint {
namespace {

constexpr const char* kMetadata = "__metadata__";

[[noreturn]] void corrupt(std::string_view what, const std::string& problem) {
  throw CorruptCheckpoint(std::string(what) + ": " + problem);
}

std::string little_endian(std::uint64_t value) {
  std::string bytes(kLengthBytes, '\0');
  for (auto& byte : bytes) {
    byte = static_cast<char>(value & 0xff);
    value >>= 8;
  }
  return bytes;
}

StoredTensor parse_tensor(const std::string& name, const Json& json, std::string_view what) {
  const std::string where = std::string(what) + ": tensor '" + name.substr(0, 200) + "'";
  const std::string type = string_member(json, "dtype", where);
  const auto known = parse_element_type(type);
  if (!known) corrupt(where, "unknown dtype '" + type.substr(0, 40) + "'");
  StoredTensor tensor{{name, *known, unsigned_array(json, "shape", where)}, 0, 0};
  const auto offsets = unsigned_array(json, "data_offsets", where);
  if (offsets.size() != 2 || offsets[0] > offsets[1]) corrupt(where, "'data_offsets' is no begin and end");
  tensor.begin = offsets[0];
  tensor.end = offsets[1];
  if (byte_count(tensor.info) != tensor.end - tensor.begin)
    corrupt(where,
            describe(tensor.info) + " does not have " + std::to_string(tensor.end - tensor.begin) + " bytes");
  return tensor;
}

std::map<std::string, std::string> parse_metadata(const Json& json, std::string_view what) {
  if (!json.is_object()) corrupt(what, "'__metadata__' is not an object");
  std::map<std::string, std::string> metadata;
  for (const auto& [key, value] : json.items()) {
    if (!value.is_string()) corrupt(what, "'__metadata__' has something that is no string");
    metadata[key] = value.get<std::string>();
  }
  return metadata;
}

}  // namespace

std::string make_safetensors_header(std::span<const TensorInfo> tensors,
                                    const std::map<std::string, std::string>& metadata) {
  Json json = Json::object();
  if (!metadata.empty()) json[kMetadata] = metadata;
  std::uint64_t offset = 0;
  for (const auto& info : tensors) {
    const auto bytes = byte_count(info);
    if (!bytes) throw ConfigError("tensor '" + info.name + "' is too large to be stored: " + describe(info));
    if (json.contains(info.name))
      throw ConfigError("two tensors of a checkpoint are named '" + info.name + "'");
    json[info.name] = {
        {"dtype", to_string(info.type)}, {"shape", info.shape}, {"data_offsets", {offset, offset + *bytes}}};
    offset += *bytes;
  }
  std::string text = dump(json);
  text.resize((text.size() + 7) / 8 * 8, ' ');
  if (text.size() > kMaximumHeaderBytes)
    throw ConfigError("the safetensors header would have " + std::to_string(text.size()) +
                      " bytes, the format allows " + std::to_string(kMaximumHeaderBytes));
  return little_endian(text.size()) + text;
}

std::uint64_t header_length(std::string_view first_bytes, std::uint64_t file_bytes, std::string_view what) {
  if (file_bytes < kLengthBytes || first_bytes.size() < kLengthBytes) corrupt(what, "shorter than 8 bytes");
  std::uint64_t length = 0;
  for (std::size_t i = kLengthBytes; i-- > 0;)
    length = length << 8 | static_cast<unsigned char>(first_bytes[i]);
  if (length > kMaximumHeaderBytes || length > file_bytes - kLengthBytes)
    corrupt(what,
            "a header of " + std::to_string(length) + " bytes in a file of " + std::to_string(file_bytes));
  return length;
}

SafetensorsHeader parse_safetensors_header(std::string_view json, std::uint64_t data_bytes,
                                           std::string_view what) {
  const Json parsed = parse_json(json, what);
  if (!parsed.is_object()) corrupt(what, "the header is not a JSON object");
  SafetensorsHeader header;
  for (const auto& [name, value] : parsed.items()) {
    if (name == kMetadata)
      header.metadata = parse_metadata(value, what);
    else
      header.tensors.push_back(parse_tensor(name, value, what));
  }
  std::sort(header.tensors.begin(), header.tensors.end(), [](const StoredTensor& a, const StoredTensor& b) {
    return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
  });
  std::uint64_t expected = 0;
  for (const auto& tensor : header.tensors) {
    if (tensor.begin != expected)
      corrupt(what, "tensor '" + tensor.info.name.substr(0, 200) + "' begins at byte " +
                        std::to_string(tensor.begin) + ", the one before ends at " +
                        std::to_string(expected));
    expected = tensor.end;
  }
  if (expected != data_bytes)
    corrupt(what, "the tensors take " + std::to_string(expected) + " bytes, the file has " +
                      std::to_string(data_bytes));
  return header;
}

}  // namespace ddp::checkpoint
