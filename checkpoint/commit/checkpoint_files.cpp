#include "checkpoint/commit/checkpoint_files.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <numeric>

#include <ddp/error.h>

#include "checkpoint/format/crc32c.h"
#include "checkpoint/format/safetensors.h"
#include "checkpoint/format/sha256.h"

namespace ddp::checkpoint {
namespace {

constexpr std::uint64_t kMaximumManifestBytes = std::uint64_t{256} << 20;
constexpr std::uint64_t kReadBytes = std::uint64_t{4} << 20;

std::string read_text(Storage& storage, const std::string& key, std::uint64_t offset, std::uint64_t bytes) {
  std::string text(bytes, '\0');
  storage.read(key, offset, std::as_writable_bytes(std::span(text)));
  return text;
}

std::string hash_of(Storage& storage, const std::string& key, std::uint64_t bytes) {
  Sha256 hash;
  std::vector<std::byte> buffer(std::min(bytes, kReadBytes));
  for (std::uint64_t offset = 0; offset < bytes; offset += buffer.size()) {
    const auto chunk = std::span(buffer).first(std::min<std::uint64_t>(buffer.size(), bytes - offset));
    storage.read(key, offset, chunk);
    hash.update(chunk);
  }
  return hash.finish();
}

/// The manifest and the file's own header must tell the same of every tensor.
void compare_headers(const SafetensorsHeader& header, std::uint64_t data_begin, const Manifest& manifest,
                     std::size_t index, const std::string& key) {
  std::map<std::string, const StoredTensor*> stored;
  for (const auto& tensor : header.tensors) stored[tensor.info.name] = &tensor;
  std::size_t listed = 0;
  for (const auto& tensor : manifest.tensors) {
    if (tensor.file != index) continue;
    ++listed;
    const auto found = stored.find(tensor.info.name);
    if (found == stored.end() || found->second->info != tensor.info ||
        data_begin + found->second->begin != tensor.offset)
      throw CorruptCheckpoint(key + ": its header and the manifest differ about tensor '" + tensor.info.name +
                              "'");
  }
  if (listed != header.tensors.size())
    throw CorruptCheckpoint(key + ": it holds " + std::to_string(header.tensors.size()) +
                            " tensors, the manifest lists " + std::to_string(listed));
}

}  // namespace

std::string rank_file_name(int rank, int world_size) {
  char name[64];
  std::snprintf(name, sizeof name, "rank-%05d-of-%05d.safetensors", rank, world_size);
  return name;
}

std::vector<int> divide(const std::vector<TensorInfo>& tensors, int world_size) {
  std::vector<std::uint64_t> bytes;
  for (const auto& tensor : tensors) bytes.push_back(byte_count(tensor).value_or(0));
  std::vector<std::size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return bytes[a] > bytes[b]; });
  std::vector<std::uint64_t> load(static_cast<std::size_t>(world_size));
  std::vector<int> owners(tensors.size());
  for (const std::size_t tensor : order) {
    const auto least = std::min_element(load.begin(), load.end());
    *least += bytes[tensor];
    owners[tensor] = static_cast<int>(least - load.begin());
  }
  return owners;
}

std::vector<std::size_t> file_order(const std::vector<TensorInfo>& tensors) {
  std::vector<std::size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return size_of(tensors[a].type) > size_of(tensors[b].type);
  });
  return order;
}

Manifest read_manifest(Storage& storage, const LogEntry& commit) {
  const std::string key = commit.folder + "/manifest.json";
  const auto text = read_all(storage, key, kMaximumManifestBytes);
  if (!text) throw CorruptCheckpoint(key + " is missing");
  if (sha256(*text) != commit.manifest_sha256)
    throw CorruptCheckpoint(key + ": its SHA-256 is not the committed one");
  Manifest manifest = parse_manifest(*text, key);
  if (manifest.step != commit.step || manifest.epoch != commit.epoch || manifest.nonce != commit.nonce)
    throw CorruptCheckpoint(key + " is of another checkpoint than the commit log says");
  return manifest;
}

void verify_file(Storage& storage, const std::string& folder, const Manifest& manifest, std::size_t index) {
  const ManifestFile& file = manifest.files[index];
  const std::string key = folder + "/" + file.name;
  const auto bytes = storage.size(key);
  if (!bytes) throw CorruptCheckpoint(key + " is missing");
  if (*bytes != file.bytes)
    throw CorruptCheckpoint(key + " has " + std::to_string(*bytes) + " bytes instead of " +
                            std::to_string(file.bytes));
  if (hash_of(storage, key, *bytes) != file.sha256)
    throw CorruptCheckpoint(key + ": its SHA-256 does not fit");
  const std::uint64_t first = std::min(kLengthBytes, *bytes);
  const std::uint64_t length = header_length(read_text(storage, key, 0, first), *bytes, key);
  const std::uint64_t data_begin = kLengthBytes + length;
  const auto header =
      parse_safetensors_header(read_text(storage, key, kLengthBytes, length), *bytes - data_begin, key);
  compare_headers(header, data_begin, manifest, index, key);
}

void read_tensor(Storage& storage, const std::string& folder, const Manifest& manifest,
                 const ManifestTensor& tensor, std::span<std::byte> into) {
  const std::string key = folder + "/" + manifest.files[tensor.file].name;
  storage.read(key, tensor.offset, into);
  if (crc32c(into) != tensor.crc32c)
    throw CorruptCheckpoint(key + ": the CRC of tensor '" + tensor.info.name + "' does not fit");
}

}  // namespace ddp::checkpoint
