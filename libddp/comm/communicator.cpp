// The checks every backend shares: a bad call is refused here, before anything is sent.
#include <ddp/communicator.h>

#include <ddp/error.h>

#include <cstdint>
#include <numeric>

namespace ddp {
namespace {

std::string describe(OpKind kind, const char* side, std::size_t count, DType dtype) {
  return std::string(to_string(kind)) + ": " + side + " has " + std::to_string(count) + " elements of " +
         to_string(dtype);
}

void require(bool condition, const std::string& message) {
  if (!condition) throw Error(message);
}

void require_memory(OpKind kind, const char* side, const void* data, std::size_t count, DType dtype) {
  require(dtype <= DType::kBFloat16, std::string(to_string(kind)) + ": " + side + " has the unknown dtype " +
                                         std::to_string(static_cast<int>(dtype)));
  require(count <= static_cast<std::size_t>(PTRDIFF_MAX) / size_of(dtype),
          describe(kind, side, count, dtype) + ", more than any memory holds");
  require(data != nullptr || count == 0, describe(kind, side, count, dtype) + " at a null pointer");
}

void require_rank(OpKind kind, const char* what, int rank, int size) {
  require(rank >= 0 && rank < size, std::string(to_string(kind)) + ": " + what + " " + std::to_string(rank) +
                                        " is not a rank of this communicator of " + std::to_string(size));
}

void require_same_dtype(OpKind kind, DType input, DType output) {
  require(input == output, std::string(to_string(kind)) + ": input is " + to_string(input) +
                               " but output is " + to_string(output));
}

void require_op(OpKind kind, DType dtype, ReduceOp op) {
  require(supports(dtype, op),
          std::string(to_string(kind)) + ": " + to_string(op) + " is not defined for " + to_string(dtype));
}

/// big.count must be ranks * small.count.
void require_shares(OpKind kind, const char* big_name, std::size_t big, const char* small_name,
                    std::size_t small, int ranks) {
  std::size_t expected = 0;
  require(!__builtin_mul_overflow(small, static_cast<std::size_t>(ranks), &expected) && big == expected,
          std::string(to_string(kind)) + ": " + big_name + " has " + std::to_string(big) +
              " elements, expected " + std::to_string(ranks) + " ranks x " + std::to_string(small) + " of " +
              small_name);
}

/// Two buffers may not share memory, but for a rank's own share in its place in the whole.
void require_apart(OpKind kind, const void* share, std::size_t share_bytes, const void* whole,
                   std::size_t whole_bytes, std::size_t own_offset) {
  const auto a = reinterpret_cast<std::uintptr_t>(share), b = reinterpret_cast<std::uintptr_t>(whole);
  if (share_bytes == 0 || whole_bytes == 0 || a >= b + whole_bytes || b >= a + share_bytes ||
      a == b + own_offset)
    return;
  throw Error(
      std::string(to_string(kind)) +
      ": input and output overlap; they must be apart, or this rank's share must lie in its own place in the "
      "whole");
}

Operation in_place(OpKind kind, const Buffer& buffer, int root = -1) {
  require_memory(kind, "buffer", buffer.data, buffer.count, buffer.dtype);
  Operation operation;
  operation.kind = kind;
  operation.dtype = buffer.dtype;
  operation.root = root;
  operation.input = operation.output = buffer.data;
  operation.count = buffer.count;
  return operation;
}

Operation out_of_place(OpKind kind, const ConstBuffer& input, const Buffer& output, std::size_t count,
                       int root = -1) {
  Operation operation;
  operation.kind = kind;
  operation.dtype = input.dtype;
  operation.root = root;
  operation.input = input.data;
  operation.output = output.data;
  operation.count = count;
  return operation;
}

}  // namespace

const char* to_string(OpKind kind) noexcept {
  static constexpr const char* kNames[] = {"all_reduce",  "broadcast",      "reduce",     "all_gather",
                                           "all_gatherv", "reduce_scatter", "all_to_all", "gather",
                                           "scatter",     "send",           "recv",       "barrier"};
  return kNames[static_cast<int>(kind)];
}

Work Communicator::start(Operation operation, const CollectiveOptions& options) {
  operation.op = options.op;
  operation.tag = options.tag;
  operation.deadline = Deadline::in(options.timeout.value_or(default_timeout_));
  return submit(std::move(operation), options.async_op);
}

Work Communicator::all_reduce(Buffer buffer, const CollectiveOptions& options) {
  require_op(OpKind::kAllReduce, buffer.dtype, options.op);
  return start(in_place(OpKind::kAllReduce, buffer), options);
}

Work Communicator::broadcast(Buffer buffer, int root, const CollectiveOptions& options) {
  require_rank(OpKind::kBroadcast, "root", root, size());
  return start(in_place(OpKind::kBroadcast, buffer, root), options);
}

Work Communicator::reduce(Buffer buffer, int root, const CollectiveOptions& options) {
  require_rank(OpKind::kReduce, "root", root, size());
  require_op(OpKind::kReduce, buffer.dtype, options.op);
  return start(in_place(OpKind::kReduce, buffer, root), options);
}

Work Communicator::all_gather(ConstBuffer input, Buffer output, const CollectiveOptions& options) {
  constexpr OpKind kKind = OpKind::kAllGather;
  require_memory(kKind, "input", input.data, input.count, input.dtype);
  require_memory(kKind, "output", output.data, output.count, output.dtype);
  require_same_dtype(kKind, input.dtype, output.dtype);
  require_shares(kKind, "output", output.count, "input", input.count, size());
  require_apart(kKind, input.data, input.bytes(), output.data, output.bytes(),
                static_cast<std::size_t>(rank()) * input.bytes());
  return start(out_of_place(kKind, input, output, input.count), options);
}

Work Communicator::all_gather(ConstBuffer input, Buffer output, std::span<const std::size_t> counts,
                              const CollectiveOptions& options) {
  constexpr OpKind kKind = OpKind::kAllGatherV;
  require_memory(kKind, "input", input.data, input.count, input.dtype);
  require_memory(kKind, "output", output.data, output.count, output.dtype);
  require_same_dtype(kKind, input.dtype, output.dtype);
  require(
      counts.size() == static_cast<std::size_t>(size()),
      "all_gatherv: " + std::to_string(counts.size()) + " counts for " + std::to_string(size()) + " ranks");
  require(counts[rank()] == input.count, describe(kKind, "input", input.count, input.dtype) +
                                             " but counts says " + std::to_string(counts[rank()]) +
                                             " for this rank");
  std::size_t total = 0;
  for (const std::size_t count : counts)
    require(!__builtin_add_overflow(total, count, &total),
            "all_gatherv: the counts add up to more than any memory holds");
  require(output.count == total, describe(kKind, "output", output.count, output.dtype) +
                                     " but counts add up to " + std::to_string(total));
  const std::size_t before = std::accumulate(counts.begin(), counts.begin() + rank(), std::size_t{0});
  require_apart(kKind, input.data, input.bytes(), output.data, output.bytes(), before * size_of(input.dtype));
  Operation operation = out_of_place(kKind, input, output, input.count);
  operation.counts.assign(counts.begin(), counts.end());
  return start(std::move(operation), options);
}

Work Communicator::reduce_scatter(ConstBuffer input, Buffer output, const CollectiveOptions& options) {
  constexpr OpKind kKind = OpKind::kReduceScatter;
  require_memory(kKind, "input", input.data, input.count, input.dtype);
  require_memory(kKind, "output", output.data, output.count, output.dtype);
  require_same_dtype(kKind, input.dtype, output.dtype);
  require_op(kKind, input.dtype, options.op);
  require_shares(kKind, "input", input.count, "output", output.count, size());
  require_apart(kKind, output.data, output.bytes(), input.data, input.bytes(),
                static_cast<std::size_t>(rank()) * output.bytes());
  return start(out_of_place(kKind, input, output, output.count), options);
}

Work Communicator::all_to_all(ConstBuffer input, Buffer output, const CollectiveOptions& options) {
  constexpr OpKind kKind = OpKind::kAllToAll;
  require_memory(kKind, "input", input.data, input.count, input.dtype);
  require_memory(kKind, "output", output.data, output.count, output.dtype);
  require_same_dtype(kKind, input.dtype, output.dtype);
  require(input.count == output.count && input.count % static_cast<std::size_t>(size()) == 0,
          describe(kKind, "input", input.count, input.dtype) + ", output " + std::to_string(output.count) +
              "; they must be equal and a multiple of " + std::to_string(size()) + " ranks");
  const auto a = reinterpret_cast<std::uintptr_t>(input.data),
             b = reinterpret_cast<std::uintptr_t>(output.data);
  require(input.count == 0 || a >= b + output.bytes() || b >= a + input.bytes(),
          "all_to_all: input and output overlap");
  return start(out_of_place(kKind, input, output, input.count / static_cast<std::size_t>(size())), options);
}

Work Communicator::gather(ConstBuffer input, Buffer output, int root, const CollectiveOptions& options) {
  constexpr OpKind kKind = OpKind::kGather;
  require_rank(kKind, "root", root, size());
  require_memory(kKind, "input", input.data, input.count, input.dtype);
  if (rank() == root) {
    require_memory(kKind, "output", output.data, output.count, output.dtype);
    require_same_dtype(kKind, input.dtype, output.dtype);
    require_shares(kKind, "output", output.count, "input", input.count, size());
  } else {
    output = {};
  }
  return start(out_of_place(kKind, input, output, input.count, root), options);
}

Work Communicator::scatter(ConstBuffer input, Buffer output, int root, const CollectiveOptions& options) {
  constexpr OpKind kKind = OpKind::kScatter;
  require_rank(kKind, "root", root, size());
  require_memory(kKind, "output", output.data, output.count, output.dtype);
  if (rank() == root) {
    require_memory(kKind, "input", input.data, input.count, input.dtype);
    require_same_dtype(kKind, input.dtype, output.dtype);
    require_shares(kKind, "input", input.count, "output", output.count, size());
  } else {
    input = {nullptr, 0, output.dtype};
  }
  return start(out_of_place(kKind, input, output, output.count, root), options);
}

Work Communicator::send(ConstBuffer buffer, int destination, const CollectiveOptions& options) {
  require_rank(OpKind::kSend, "destination", destination, size());
  require(destination != rank(), "send: destination is this rank itself");
  require_memory(OpKind::kSend, "buffer", buffer.data, buffer.count, buffer.dtype);
  Operation operation = out_of_place(OpKind::kSend, buffer, {}, buffer.count);
  operation.peer = destination;
  return start(std::move(operation), options);
}

Work Communicator::recv(Buffer buffer, int source, const CollectiveOptions& options) {
  require_rank(OpKind::kRecv, "source", source, size());
  require(source != rank(), "recv: source is this rank itself");
  require_memory(OpKind::kRecv, "buffer", buffer.data, buffer.count, buffer.dtype);
  Operation operation = out_of_place(OpKind::kRecv, {nullptr, 0, buffer.dtype}, buffer, buffer.count);
  operation.peer = source;
  return start(std::move(operation), options);
}

Work Communicator::barrier(const CollectiveOptions& options) {
  Operation operation;
  operation.kind = OpKind::kBarrier;
  return start(std::move(operation), options);
}

}  // namespace ddp
