// Collectives between the ranks of a group over plain memory: (pointer, count, dtype). Tensor overloads are in
// ddp/collectives.h.
//
//   std::shared_ptr<ddp::Communicator> comm =
//       ddp::make_host_communicator({.rank = r, .world_size = n}, store);
//   ddp::Allocation bucket = comm->allocate(count * sizeof(float));
//   comm->all_reduce({bucket.data(), count, ddp::DType::kFloat32}, {.op = ddp::ReduceOp::kMean});
//
// Rules, on every backend:
// - Input and output must not overlap, except that a rank's own share may lie in its own place in the whole (all_gather,
//   reduce_scatter); other overlaps are refused.
// - All ranks of a communicator call the same collectives in the same order, from one thread at a time per rank.
// - Blocking calls run in the calling thread. With async_op they are queued and run in order by a thread of the
//   communicator, and the returned Work tells; a blocking call behind queued ones waits for its turn there.
// - A call with arguments that do not fit (counts, dtypes, ranks, null pointers, an op that the dtype does not have)
//   throws Error before anything is sent, and leaves the communicator as it was.
// - Every operation carries sequence number, kind, dtype and count. Ranks that disagree get a MismatchError showing
//   both sides; a rank that dies or stops gives PeerFailure or TimeoutError naming rank, host, operation and sequence
//   number.
// - After an error the communicator is broken: every later call throws the first error again. Make a new one.
// - After an error of backend "mpi" MPI may still read or write the buffers of the operation that failed, for as long as
//   the process lives: it cannot take a transfer back. On other backends nothing touches them any more.
// - Sums of fp16 and bf16 accumulate in fp32 and round once; results are bitwise the same on every rank, and from run
//   to run at one world size and layout of hosts.
// - abort() may be called from any thread; everything else counts as use by the owning thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <ddp/store.h>
#include <ddp/types.h>
#include <ddp/work.h>

namespace ddp {

/// Memory a collective writes (and, in place, reads). `count` is in elements.
struct Buffer {
  void* data = nullptr;
  std::size_t count = 0;
  DType dtype = DType::kFloat32;
  [[nodiscard]] std::size_t bytes() const { return count * size_of(dtype); }
};

/// Memory a collective only reads.
struct ConstBuffer {
  ConstBuffer() = default;
  ConstBuffer(const void* d, std::size_t c, DType t) : data(d), count(c), dtype(t) {}
  // NOLINTNEXTLINE(google-explicit-constructor): whoever may write a buffer may read it
  ConstBuffer(const Buffer& b) : data(b.data), count(b.count), dtype(b.dtype) {}
  const void* data = nullptr;
  std::size_t count = 0;
  DType dtype = DType::kFloat32;
  [[nodiscard]] std::size_t bytes() const { return count * size_of(dtype); }
};

/// What every collective takes besides its buffers.
struct CollectiveOptions {
  ReduceOp op = ReduceOp::kSum;
  bool async_op = false;
  /// Counted from the call; nullopt: the communicator's default (10 minutes unless set).
  std::optional<std::chrono::nanoseconds> timeout;
  /// A number of the caller's that all ranks must agree on, checked like dtype and count (DDP: the iteration,
  /// so that a rank whose backward failed and that went on is a MismatchError and not a wrong sum).
  std::uint64_t tag = 0;
};

enum class OpKind : std::uint8_t {
  kAllReduce,
  kBroadcast,
  kReduce,
  kAllGather,
  kAllGatherV,
  kReduceScatter,
  kAllToAll,
  kGather,
  kScatter,
  kSend,
  kRecv,
  kBarrier,
};
[[nodiscard]] const char* to_string(OpKind kind) noexcept;

/// One call as data: what the public functions check and build, and what a backend executes.
struct Operation {
  OpKind kind = OpKind::kBarrier;
  DType dtype = DType::kUInt8;
  ReduceOp op = ReduceOp::kSum;
  int root = -1;                    ///< broadcast, reduce, gather, scatter
  int peer = -1;                    ///< send, recv
  const void* input = nullptr;      ///< null on ranks that give nothing
  void* output = nullptr;           ///< null on ranks that get nothing; equal to input when in place
  std::size_t count = 0;            ///< elements of ONE rank's share (all_gatherv: of this rank's)
  std::vector<std::size_t> counts;  ///< all_gatherv only: elements of every rank
  Deadline deadline = Deadline::never();
  std::uint64_t tag = 0;  ///< CollectiveOptions::tag; ranks must agree
  /// Set by the communicator; counts collectives from 1 (send and recv: per pair and direction).
  std::uint64_t sequence = 0;
};

/// Owns memory from Communicator::allocate; frees it when dropped. Keeps the communicator's memory alive. Movable.
class Allocation {
 public:
  Allocation() = default;
  Allocation(void* data, std::size_t bytes, std::shared_ptr<void> owner)
      : data_(data), bytes_(bytes), owner_(std::move(owner)) {}
  [[nodiscard]] void* data() const { return data_; }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }
  /// Shares ownership: what a tensor over this memory holds on to.
  [[nodiscard]] const std::shared_ptr<void>& owner() const { return owner_; }

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
  std::shared_ptr<void> owner_;
};

class Communicator {
 public:
  Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;
  /// Ends queued operations with Aborted, joins threads, unmaps. Never waits for peers.
  virtual ~Communicator() = default;

  [[nodiscard]] virtual int rank() const = 0;
  [[nodiscard]] virtual int size() const = 0;
  /// "host", "nccl", "mpi".
  [[nodiscard]] virtual const char* backend() const = 0;
  /// Which ranks of this communicator share memory with this one, itself included, ascending.
  [[nodiscard]] virtual std::vector<int> local_ranks() const = 0;

  /// Memory this backend reduces fastest (host: shared memory; 64-byte aligned, zeroed). Not collective, but
  /// fastest when all ranks allocate the same sizes in the same order. Throws Error when there is none left.
  [[nodiscard]] virtual Allocation allocate(std::size_t bytes) = 0;

  /// In place over all ranks.
  Work all_reduce(Buffer buffer, const CollectiveOptions& options = {});
  /// root's buffer to all.
  Work broadcast(Buffer buffer, int root, const CollectiveOptions& options = {});
  /// In place at root; other ranks' buffers are read and left as they are.
  Work reduce(Buffer buffer, int root, const CollectiveOptions& options = {});
  /// output.count == size() * input.count; rank r's share lands at r * input.count.
  Work all_gather(ConstBuffer input, Buffer output, const CollectiveOptions& options = {});
  /// counts[r] elements from rank r, laid end to end; input.count == counts[rank()]. counts is the same on every rank.
  Work all_gather(ConstBuffer input, Buffer output, std::span<const std::size_t> counts,
                  const CollectiveOptions& options = {});
  /// input.count == size() * output.count; rank r gets the reduced share r.
  Work reduce_scatter(ConstBuffer input, Buffer output, const CollectiveOptions& options = {});
  /// Share r of input goes to rank r; share r of output comes from rank r. Equal counts, a multiple of size();
  /// not in place.
  Work all_to_all(ConstBuffer input, Buffer output, const CollectiveOptions& options = {});
  /// Every rank's input to root's output (size() * input.count there; ignored elsewhere).
  Work gather(ConstBuffer input, Buffer output, int root, const CollectiveOptions& options = {});
  /// Share r of root's input (size() * output.count there; ignored elsewhere) to rank r.
  Work scatter(ConstBuffer input, Buffer output, int root, const CollectiveOptions& options = {});
  /// Point to point; matched per pair in call order. A blocking send may wait for the matching recv.
  Work send(ConstBuffer buffer, int destination, const CollectiveOptions& options = {});
  Work recv(Buffer buffer, int source, const CollectiveOptions& options = {});
  /// Over once every rank has come.
  Work barrier(const CollectiveOptions& options = {});

  /// Subgroups: ranks with the same color form one, ordered by (key, rank). Collective over all ranks; a
  /// negative color gets null.
  [[nodiscard]] virtual std::shared_ptr<Communicator> split(int color, int key,
                                                            const CollectiveOptions& options = {}) = 0;

  /// Ends every wait, here and on the other ranks, with an error; the communicator is broken afterwards. Any
  /// thread; never blocks on peers; repeated calls do nothing.
  virtual void abort(const std::string& reason) = 0;

  /// Looks, without blocking, whether this communicator has failed or `rank` has died or closed its communicator, and
  /// throws that as a collective would. For waits by other means than collectives, which would not notice.
  virtual void check_peer(int rank) = 0;

  [[nodiscard]] std::chrono::nanoseconds default_timeout() const { return default_timeout_; }
  void set_default_timeout(std::chrono::nanoseconds timeout) { default_timeout_ = timeout; }

 protected:
  /// Executes a checked operation: in the calling thread (async false), or queued.
  virtual Work submit(Operation operation, bool async) = 0;

 private:
  Work start(Operation operation, const CollectiveOptions& options);
  std::chrono::nanoseconds default_timeout_ = std::chrono::minutes(10);
};

/// How a host communicator is formed.
struct HostCommunicatorOptions {
  int rank = 0;
  int world_size = 1;
  /// For forming the group; operations use timeout.
  std::chrono::nanoseconds init_timeout = std::chrono::minutes(5);
  std::chrono::nanoseconds timeout = std::chrono::minutes(10);
  /// Off: ranks talk TCP even where they could share memory.
  bool shared_memory = true;
  /// Ranks that give different ids never share memory, as if they were on different hosts (tests, benchmarks).
  std::string host_id;
  /// Address other hosts reach this one at; empty: 127.0.0.1, which will do on one host only.
  std::string bind_address;
  /// Authenticates the TCP connections between ranks (HMAC challenge-response); empty only where everything
  /// is loopback.
  std::string token;
  /// TCP connections to each ring neighbour.
  int streams = 4;
  /// How errors on other ranks call the machine of this one; empty: its host name.
  std::string host_name;
};

/// The backend for CPU memory: shared memory within a host, TCP between hosts. Collective over `world_size`
/// ranks that give the same store view. Throws RendezvousError or TimeoutError naming the ranks that did not
/// come, ConfigError for bad options.
[[nodiscard]] std::shared_ptr<Communicator> make_host_communicator(const HostCommunicatorOptions& options,
                                                                   std::shared_ptr<Store> store);

}  // namespace ddp
