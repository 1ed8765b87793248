#include "checkpoint/format/manifest.h"

#include <limits>
#include <set>

#include <ddp/error.h>

#include "checkpoint/format/crc32c.h"
#include "checkpoint/format/json.h"
#include "checkpoint/format/sha256.h"

namespace ddp::checkpoint {
namespace {

constexpr const char* kFormat = "ddp-checkpoint";
constexpr std::uint64_t kVersion = 1;
constexpr std::uint64_t kMaximumWorldSize = 1'000'000;

[[noreturn]] void corrupt(std::string_view what, const std::string& problem) {
  throw CorruptCheckpoint(std::string(what) + ": " + problem);
}

/// A manifest must not be able to point outside its own folder.
bool is_plain_name(std::string_view name) {
  constexpr const char* kAllowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
  return !name.empty() && name.size() <= 200 && name.front() != '.' &&
         name.find_first_not_of(kAllowed) == std::string_view::npos;
}

std::uint64_t bounded(const Json& json, const char* key, std::uint64_t maximum, std::string_view what) {
  const std::uint64_t value = unsigned_member(json, key, what);
  if (value > maximum) corrupt(what, std::string("'") + key + "' is " + std::to_string(value));
  return value;
}

ManifestFile parse_file(const Json& json, std::string_view what) {
  ManifestFile file{string_member(json, "name", what),
                    bounded(json, "bytes", std::numeric_limits<std::int64_t>::max(), what),
                    string_member(json, "sha256", what)};
  if (!is_plain_name(file.name)) corrupt(what, "file name '" + file.name.substr(0, 100) + "' is not allowed");
  if (!is_hex(file.sha256, 64)) corrupt(what, "the SHA-256 of '" + file.name + "' is malformed");
  return file;
}

ManifestTensor parse_tensor(const Json& json, const Manifest& manifest, std::string_view manifest_name) {
  const std::string name = string_member(json, "name", manifest_name);
  const std::string what = std::string(manifest_name) + ": tensor '" + name.substr(0, 200) + "'";
  const std::string type = string_member(json, "dtype", what);
  const auto known = parse_element_type(type);
  if (!known) corrupt(what, "unknown dtype '" + type.substr(0, 40) + "'");
  ManifestTensor tensor;
  tensor.info = {name, *known, unsigned_array(json, "shape", what)};
  const Json& rank = member(json, "rank", what);
  if (!rank.is_null())
    tensor.rank =
        static_cast<int>(bounded(json, "rank", static_cast<std::uint64_t>(manifest.world_size) - 1, what));
  if (manifest.files.empty()) corrupt(what, "there are no files");
  tensor.file = bounded(json, "file", manifest.files.size() - 1, what);
  const std::uint64_t file_bytes = manifest.files[tensor.file].bytes;
  tensor.offset = bounded(json, "offset", file_bytes, what);
  const auto bytes = byte_count(tensor.info);
  if (!bytes || *bytes > file_bytes - tensor.offset) corrupt(what, "reaches beyond the end of its file");
  if (!parse_crc(string_member(json, "crc32c", what), tensor.crc32c)) corrupt(what, "'crc32c' is malformed");
  return tensor;
}

/// Tensors do not share bytes, so a small file cannot claim to hold much.
void check_bytes(const Manifest& manifest, std::string_view what) {
  std::vector<std::uint64_t> left;
  for (const auto& file : manifest.files) left.push_back(file.bytes);
  for (const auto& tensor : manifest.tensors) {
    const std::uint64_t bytes = byte_count(tensor.info).value_or(0);
    if (bytes > left[tensor.file])
      corrupt(what, "file '" + manifest.files[tensor.file].name + "' has fewer bytes than the tensors in it");
    left[tensor.file] -= bytes;
  }
}

void check_names(const Manifest& manifest, std::string_view what) {
  std::set<std::string> files;
  for (const auto& file : manifest.files)
    if (!files.insert(file.name).second) corrupt(what, "file '" + file.name + "' is there twice");
  std::set<std::pair<std::string, int>> tensors;
  for (const auto& tensor : manifest.tensors)
    if (!tensors.emplace(tensor.info.name, tensor.rank).second)
      corrupt(what, "tensor '" + tensor.info.name.substr(0, 200) + "' is there twice");
  for (const auto& [name, rank] : tensors)
    if (rank != ManifestTensor::kEveryRank && tensors.contains({name, ManifestTensor::kEveryRank}))
      corrupt(what, "tensor '" + name.substr(0, 200) + "' is there for every rank and for one");
}

Json to_json(const ManifestTensor& tensor) {
  Json rank = tensor.rank == ManifestTensor::kEveryRank ? Json(nullptr) : Json(tensor.rank);
  return {{"name", tensor.info.name},
          {"dtype", to_string(tensor.info.type)},
          {"shape", tensor.info.shape},
          {"rank", std::move(rank)},
          {"file", tensor.file},
          {"offset", tensor.offset},
          {"crc32c", crc_text(tensor.crc32c)}};
}

}  // namespace

std::string to_json(const Manifest& manifest) {
  Json files = Json::array(), tensors = Json::array();
  for (const auto& file : manifest.files)
    files.push_back({{"name", file.name}, {"bytes", file.bytes}, {"sha256", file.sha256}});
  for (const auto& tensor : manifest.tensors) tensors.push_back(to_json(tensor));
  return dump({{"format", kFormat},
               {"version", kVersion},
               {"step", manifest.step},
               {"epoch", manifest.epoch},
               {"nonce", manifest.nonce},
               {"world_size", manifest.world_size},
               {"files", std::move(files)},
               {"tensors", std::move(tensors)}}) +
         "\n";
}

Manifest parse_manifest(std::string_view json, std::string_view what) {
  const Json parsed = parse_json(json, what);
  if (string_member(parsed, "format", what) != kFormat) corrupt(what, "not a manifest of libddp");
  if (unsigned_member(parsed, "version", what) != kVersion)
    corrupt(what, "version " + std::to_string(unsigned_member(parsed, "version", what)) +
                      "; this libddp reads version 1");
  Manifest manifest;
  manifest.step =
      static_cast<std::int64_t>(bounded(parsed, "step", std::numeric_limits<std::int64_t>::max() - 1, what));
  manifest.epoch = unsigned_member(parsed, "epoch", what);
  manifest.nonce = string_member(parsed, "nonce", what);
  manifest.world_size = static_cast<int>(bounded(parsed, "world_size", kMaximumWorldSize, what));
  if (manifest.world_size < 1) corrupt(what, "'world_size' is 0");
  for (const Json& file : array_member(parsed, "files", what))
    manifest.files.push_back(parse_file(file, what));
  for (const Json& tensor : array_member(parsed, "tensors", what))
    manifest.tensors.push_back(parse_tensor(tensor, manifest, what));
  check_names(manifest, what);
  check_bytes(manifest, what);
  return manifest;
}

}  // namespace ddp::checkpoint
