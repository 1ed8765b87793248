// manifest.json: what a checkpoint consists of, with a checksum for each part. docs/checkpoint-format.md.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/format/tensor_info.h"

namespace ddp::checkpoint {

struct ManifestFile {
  std::string name;  ///< beside the manifest: no folders
  std::uint64_t bytes = 0;
  std::string sha256;  ///< of the whole file, 64 hexadecimal digits
};

struct ManifestTensor {
  static constexpr int kEveryRank = -1;
  TensorInfo info;
  int rank = kEveryRank;     ///< whose it is; kEveryRank: the same on all
  std::size_t file = 0;      ///< index into files
  std::uint64_t offset = 0;  ///< bytes from the start of the file
  std::uint32_t crc32c = 0;
};

struct Manifest {
  std::int64_t step = 0;  ///< the last completed one
  std::uint64_t epoch = 0;
  std::string nonce;
  int world_size = 1;
  std::vector<ManifestFile> files;
  std::vector<ManifestTensor> tensors;
};

[[nodiscard]] std::string to_json(const Manifest& manifest);
/// Throws CorruptCheckpoint (`what` in front) unless every member is there and in range, file names are
/// plain, and every tensor lies inside its file.
[[nodiscard]] Manifest parse_manifest(std::string_view json, std::string_view what);

}  // namespace ddp::checkpoint
