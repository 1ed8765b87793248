// Removes checkpoints that are no longer wanted, and what failed saves left. Step 8 of
// docs/checkpoint-protocol.md. By rank 0, after a commit of its own and before the next save begins.
#pragma once

#include "checkpoint/commit/log.h"
#include "checkpoint/storage/storage.h"

namespace ddp::checkpoint {

/// Keeps the newest `keep` commits whose files are all there in the right sizes (0: all of them), not counting those
/// that restore() found corrupt, and whatever epochs after this one have written; buries and removes the rest. Throws
/// StorageError; whatever it had not done by then, the next call does.
void collect_garbage(Storage& storage, CommitLog& log, int keep);

/// "data/000002-91c0aa0d3b5e6f71": all objects of one epoch's leader are below it.
[[nodiscard]] std::string epoch_folder(std::uint64_t epoch, const std::string& nonce);

}  // namespace ddp::checkpoint
