// all_reduce and reduce between ranks that share memory.
//
// Every element is combined in rank order whichever way is taken, so results do not depend on where buffers lie.
#include <algorithm>

#include "libddp/comm/host/shm/shm_group.h"
#include "libddp/comm/kernels/reduce_kernels.h"
#include "libddp/comm/operation.h"

namespace ddp::host {
namespace {

/// Below, one synchronisation and everybody reducing everything beats two synchronisations and shared work.
constexpr std::size_t kSmallBytes = 16 << 10;
/// Of the staged way: two ranks' chunks and their results stay in the second-level cache.
constexpr std::size_t kChunkBytes = 256 << 10;
/// What is reduced before it is copied on, while the inputs of the next block are fetched: both stay in the first-level
/// cache.
constexpr std::size_t kFetchedBytes = 2 << 10;

static_assert(kSmallBytes <= kStagingBytes && kChunkBytes <= kStagingBytes);

double mean_factor(const Operation& operation, int ranks) {
  return operation.op == ReduceOp::kMean ? 1.0 / ranks : 1.0;
}

bool is_root_or_all(const Operation& operation, int rank) {
  return operation.kind == OpKind::kAllReduce || operation.root == rank;
}

/// Hardware prefetchers stop at the end of a page, and what is reduced in place comes from far away, once.
void prefetch(const void* data, std::size_t bytes) {
  const auto* line = static_cast<const std::byte*>(data);
  for (std::size_t at = 0; at < bytes; at += 64) __builtin_prefetch(line + at);
}

/// As prefetch(), of lines that will be written next: takes them away from the core that wrote them last, in one go.
void prefetch_to_write(const void* data, std::size_t bytes) {
  const auto* line = static_cast<const std::byte*>(data);
  for (std::size_t at = 0; at < bytes; at += 64) {
#if defined(__x86_64__)
    // Not __builtin_prefetch(line, 1), which is PREFETCHW only when compiled for newer processors; all take it.
    asm volatile("prefetchw %0" : : "m"(line[at]));
#else
    __builtin_prefetch(line + at, 1);
#endif
  }
}

std::size_t chunks_of(const Operation& operation) {
  return (bytes_of(operation) + kChunkBytes - 1) / kChunkBytes;
}

/// Chunks of equal size, but for a last one that is a little shorter.
std::size_t chunk_elements(const Operation& operation) {
  return (operation.count + chunks_of(operation) - 1) / chunks_of(operation);
}

/// The slice of a chunk that index `i` of `n` reduces. The same place in every chunk, also in the shorter last one, so
/// that cache lines stay between the same two ranks.
Slice slice_of_chunk(const Operation& operation, std::size_t chunk, int i, int n) {
  const std::size_t count =
      std::min(chunk_elements(operation), operation.count - chunk * chunk_elements(operation));
  const Slice slice = slice_of(chunk_elements(operation), size_of(operation.dtype), i, n);
  return {std::min(slice.begin, count), std::min(slice.end, count)};
}

}  // namespace

void ShmGroup::all_reduce(const WaitContext& context) {
  const Operation& operation = context.operation;
  inputs_.resize(static_cast<std::size_t>(size()));
  if (bytes_of(operation) <= kSmallBytes) return all_reduce_small(context);

  // The area was last read before a synchronisation that this rank has passed (it alternates), so the first
  // chunk may go in now.
  const bool private_input = !members_.arena->offset_of(operation.input, 1);
  if (private_input) copy_in(operation, 0);
  begin(context);
  bool resident = true;
  for (int i = 0; i < size(); ++i) {
    resident = resident && shared_input(i) != nullptr;
    if (is_root_or_all(operation, members_.ranks[static_cast<std::size_t>(i)]))
      resident = resident && shared_output(i) != nullptr;
  }
  resident ? all_reduce_resident(context) : all_reduce_staged(context);
}

/// One synchronisation. The next operation writes to the other area; this one is written again only after
/// that operation's synchronisation, to which everybody comes after its reads here.
void ShmGroup::all_reduce_small(const WaitContext& context) {
  const Operation& operation = context.operation;
  if (operation.count > 0) copy_bytes(staging(index()), operation.input, bytes_of(operation));
  begin(context);
  if (is_root_or_all(operation, members_.ranks[static_cast<std::size_t>(index())]) && operation.count > 0) {
    for (int i = 0; i < size(); ++i) inputs_[static_cast<std::size_t>(i)] = staging(i);
    reduce(operation.output, inputs_, operation.count, operation.dtype, operation.op,
           mean_factor(operation, size()));
  }
  flip();
}

/// Each rank reduces its slice out of all buffers and writes it into all of them; only it touches that slice,
/// in any buffer.
void ShmGroup::all_reduce_resident(const WaitContext& context) {
  const Operation& operation = context.operation;
  const std::size_t element = size_of(operation.dtype);
  const std::size_t block = kFetchedBytes / element;
  const double factor = mean_factor(operation, size());
  const Slice slice = slice_of(operation.count, element, index(), size());
  const bool to_all = operation.kind == OpKind::kAllReduce;
  const int first =
      to_all ? index()
             : static_cast<int>(std::find(members_.ranks.begin(), members_.ranks.end(), operation.root) -
                                members_.ranks.begin());
  std::byte* const destination = shared_output(first);
  for (std::size_t at = slice.begin; at < slice.end; at += block) {
    const std::size_t count = std::min(block, slice.end - at);
    // Not beyond the slice: the others are writing there.
    const std::size_t next = std::min(block, slice.end - at - count);
    for (int i = 0; i < size(); ++i) {
      const std::byte* input = shared_input(i) + at * element;
      prefetch(input + count * element, next * element);
      inputs_[static_cast<std::size_t>(i)] = input;
    }
    reduce(destination + at * element, inputs_, count, operation.dtype, operation.op, factor);
    for (int i = 0; to_all && i < size(); ++i)
      if (i != first)
        copy_bytes(shared_output(i) + at * element, destination + at * element, count * element);
  }
  synchronise(context);
}

/// Chunk k is copied in before synchronisation k. After it every rank reduces its slice out of all staging areas and
/// writes the result into all of them; only it touches that slice of them until synchronisation k + 1, for which chunk
/// k + 1 is copied in already. After that every rank copies the results out of its own area, which then is its own until
/// it has copied chunk k + 2 in.
///
/// So a cache line goes to the rank that reduces it, once, and back, once; both fetch it to write, as its next use is.
void ShmGroup::all_reduce_staged(const WaitContext& context) {
  const Operation& operation = context.operation;
  const bool private_input = shared_input(index()) == nullptr;
  const std::size_t chunks = chunks_of(operation);
  for (std::size_t chunk = 0; chunk < chunks; ++chunk) {
    reduce_slice(operation, chunk);
    const unsigned parity = parity_;
    flip();
    if (private_input && chunk + 1 < chunks) copy_in(operation, chunk + 1);
    synchronise(context);
    if (is_root_or_all(operation, members_.ranks[static_cast<std::size_t>(index())]))
      copy_out(operation, chunk, parity);
  }
}

/// Only what others reduce: this rank reads its own slice where it lies.
void ShmGroup::copy_in(const Operation& operation, std::size_t chunk) {
  const std::size_t element = size_of(operation.dtype);
  const auto* input =
      static_cast<const std::byte*>(operation.input) + chunk * chunk_elements(operation) * element;
  for (int i = 0; i < size(); ++i) {
    if (i == index()) continue;
    const Slice slice = slice_of_chunk(operation, chunk, i, size());
    copy_bytes(staging(index()) + slice.begin * element, input + slice.begin * element,
               slice.count() * element);
  }
}

void ShmGroup::reduce_slice(const Operation& operation, std::size_t chunk) {
  const std::size_t element = size_of(operation.dtype);
  const std::size_t begin = chunk * chunk_elements(operation) * element;
  const Slice slice = slice_of_chunk(operation, chunk, index(), size());
  const std::size_t block = kFetchedBytes / element;
  const bool keep = is_root_or_all(operation, members_.ranks[static_cast<std::size_t>(index())]);
  for (std::size_t at = slice.begin; at < slice.end; at += block) {
    const std::size_t count = std::min(block, slice.end - at);
    const std::size_t next = std::min(block, slice.end - at - count);
    for (int i = 0; i < size(); ++i) {
      const std::byte* shared = shared_input(i);
      const std::byte* from = shared != nullptr ? shared + begin
                              : i == index()    ? static_cast<const std::byte*>(operation.input) + begin
                                                : staging(i);
      if (i != index()) prefetch_to_write(staging(i) + (at + count) * element, next * element);
      inputs_[static_cast<std::size_t>(i)] = from + at * element;
    }
    std::byte* const result =
        (keep ? static_cast<std::byte*>(operation.output) + begin : staging(index())) + at * element;
    reduce(result, inputs_, count, operation.dtype, operation.op, mean_factor(operation, size()));
    for (int i = 0; i < size(); ++i)
      if (i != index() && is_root_or_all(operation, members_.ranks[static_cast<std::size_t>(i)]))
        copy_bytes(staging(i) + at * element, result, count * element);
  }
}

void ShmGroup::copy_out(const Operation& operation, std::size_t chunk, unsigned parity) {
  const std::size_t element = size_of(operation.dtype);
  auto* output = static_cast<std::byte*>(operation.output) + chunk * chunk_elements(operation) * element;
  const std::byte* results = members_.bases[static_cast<std::size_t>(index())] + staging_offset(parity);
  for (int i = 0; i < size(); ++i) {
    if (i == index()) continue;
    const Slice slice = slice_of_chunk(operation, chunk, i, size());
    const std::size_t end = slice.end * element;
    for (std::size_t at = slice.begin * element; at < end; at += kFetchedBytes) {
      const std::size_t bytes = std::min(kFetchedBytes, end - at);
      prefetch_to_write(results + at + bytes, std::min(kFetchedBytes, end - at - bytes));
      copy_bytes(output + at, results + at, bytes);
    }
  }
}

}  // namespace ddp::host
