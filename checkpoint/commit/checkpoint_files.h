// The files of one checkpoint: what they are called, which tensors lie where, reading and verifying them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/commit/log.h"
#include "checkpoint/format/manifest.h"
#include "checkpoint/storage/storage.h"

namespace ddp::checkpoint {

/// "rank-00003-of-00008.safetensors".
[[nodiscard]] std::string rank_file_name(int rank, int world_size);

/// Which rank writes which of the tensors that are the same on all: the largest first, each to the rank that
/// has the fewest bytes so far. The same on every rank that gives the same tensors.
[[nodiscard]] std::vector<int> divide(const std::vector<TensorInfo>& tensors, int world_size);

/// Order of tensors in a file: large elements first, so that each is aligned to its element size; else as
/// given. Returns indices.
[[nodiscard]] std::vector<std::size_t> file_order(const std::vector<TensorInfo>& tensors);

/// The manifest a commit names. Throws CorruptCheckpoint when it is missing, differs from the commit's
/// SHA-256, or tells of another checkpoint.
[[nodiscard]] Manifest read_manifest(Storage& storage, const LogEntry& commit);

/// Reads file number `index` whole: size, SHA-256, and a header that says the same as the manifest. Throws
/// CorruptCheckpoint.
void verify_file(Storage& storage, const std::string& folder, const Manifest& manifest, std::size_t index);

/// Reads one tensor into `into` (of its size) and checks its CRC. Throws CorruptCheckpoint.
void read_tensor(Storage& storage, const std::string& folder, const Manifest& manifest,
                 const ManifestTensor& tensor, std::span<std::byte> into);

}  // namespace ddp::checkpoint
