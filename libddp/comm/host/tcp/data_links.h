// The data connections to one peer: parts out and parts in.
//
// A part goes out on whichever connection has room, so a connection that the network treats badly carries
// less and holds nobody up; its head says which part it is. TCP keeps each connection in order, the heads put
// the parts of all of them where they belong.
//
// One thread. push() and pull() never block.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "libddp/comm/exchange/exchange.h"
#include "libddp/core/fd.h"

namespace ddp::host {

inline constexpr std::uint32_t kPieceMagic = 0x50706464;  // "ddpP"
/// Before each part on a data connection; then `bytes` bytes follow.
struct Piece {
  std::uint32_t magic = kPieceMagic;
  std::uint32_t bytes = 0;
  std::uint64_t index = 0;  ///< counts the pieces of this connection and direction from 0
};
static_assert(sizeof(Piece) == 16);

/// How far one call got.
enum class Moved { kNothing, kSome, kWholePart, kNeedsPlace, kClosed };

class DataLinks {
 public:
  void add(FileDescriptor fd) { streams_.emplace_back().fd = std::move(fd); }
  [[nodiscard]] int streams() const { return static_cast<int>(streams_.size()); }

  /// Starts an operation; the one before must be complete.
  void begin();
  void queue_send(const Part& part) { to_send_.push_back(part); }
  /// In the order of index, from 0, all before the first pull().
  void expect(const Part& part) { expected_.push_back({part, false}); }
  [[nodiscard]] bool sending() const { return !to_send_.empty() || on_the_way_ > 0; }
  [[nodiscard]] bool receiving() const { return missing() > 0; }

  /// Sends; kWholePart: of it `part` is now completely with the kernel.
  Moved push(int stream, Part& part);
  /// Receives; kWholePart: `part` is complete. kNeedsPlace: set arriving().data and call again. Throws
  /// Error("sent ...") for bytes that are not the protocol.
  Moved pull(int stream, Part& part);
  [[nodiscard]] Part& arriving(int stream) { return expected_[at(stream).expected].part; }
  /// What to poll this connection for.
  [[nodiscard]] short events(int stream) const;
  [[nodiscard]] int fd(int stream) const { return streams_[static_cast<std::size_t>(stream)].fd.get(); }
  /// Why kClosed: an errno, 0 for an orderly end.
  [[nodiscard]] int error() const { return error_; }

 private:
  struct Stream {
    FileDescriptor fd;
    bool has_part = false;  // sending `out`
    Part out;
    Piece out_head;
    std::size_t sent = 0;  // head and data
    Piece in_head;
    std::size_t head_got = 0;
    bool matched = false;      // in_head belongs to expected_[expected]
    std::size_t expected = 0;  // valid when matched
    std::size_t received = 0;  // data
    bool ended = false;        // the peer has sent all it had and closed
  };
  struct Expected {
    Part part;
    bool taken;
  };
  [[nodiscard]] Stream& at(int stream) { return streams_[static_cast<std::size_t>(stream)]; }
  [[nodiscard]] std::size_t missing() const { return expected_.size() - complete_; }
  Moved moved(ssize_t bytes);
  Moved pull_head(Stream& stream);
  /// False: it belongs to the next operation.
  bool match(Stream& stream);

  std::vector<Stream> streams_;
  std::deque<Part> to_send_;
  std::size_t on_the_way_ = 0;  // taken off to_send_ but not completely sent
  std::size_t sent_parts_ = 0;  // of this operation
  std::vector<Expected> expected_;
  std::size_t complete_ = 0;
  std::uint64_t out_base_ = 0;  // parts of all operations before
  std::uint64_t in_base_ = 0;
  int error_ = 0;
};

}  // namespace ddp::host
