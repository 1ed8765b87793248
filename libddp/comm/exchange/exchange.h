// One rank's side of one operation, as an algorithm sees it: whom to talk to, which parts of which buffers
// go where, what to do with what arrives. How bytes move is a backend's business (host/tcp/engine.h, mpi/engine.h).
//
// Objects live for one operation, in the thread that runs it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "libddp/comm/exchange/frame.h"

namespace ddp::comm {

/// The ranks that take part, in the order of the ring.
struct Team {
  std::vector<int> ranks;  ///< of the communicator
  int me = 0;              ///< index in ranks

  [[nodiscard]] int size() const { return static_cast<int>(ranks.size()); }
  /// Indexes count modulo size().
  [[nodiscard]] int wrap(int index) const { return ((index % size()) + size()) % size(); }
  [[nodiscard]] int rank_at(int index) const { return ranks[static_cast<std::size_t>(wrap(index))]; }
  [[nodiscard]] int next() const { return rank_at(me + 1); }
  [[nodiscard]] int previous() const { return rank_at(me - 1); }
};

/// A part of a buffer on its way.
struct Part {
  std::size_t index = 0;      ///< among the parts that go this way in this operation: how both sides name it
  std::byte* data = nullptr;  ///< null while expected: the algorithm gives a place when it arrives
  std::size_t bytes = 0;
  // What the algorithm knows of it:
  std::size_t chunk = 0;
  int share = 0;
  int step = 0;
  std::byte* slot = nullptr;  ///< scratch to give back once the part has been sent
};

/// Where an algorithm puts the parts that are to move. Implemented by a backend's engine.
class PartQueue {
 public:
  PartQueue() = default;
  PartQueue(const PartQueue&) = delete;
  PartQueue& operator=(const PartQueue&) = delete;
  virtual ~PartQueue() = default;
  virtual void send(int rank, const Part& part) = 0;
  /// In the order of index, from 0, all before start() returns.
  virtual void expect(int rank, const Part& part) = 0;
};

class Exchange {
 public:
  /// A peer that takes part in the same operation. Frames are exchanged with each; the algorithm may move
  /// data to and from these only.
  struct Talk {
    int rank = 0;
    std::span<const std::byte> payload;  ///< small data that goes with the frame
    std::size_t expected = 0;            ///< bytes of small data that must come with theirs
  };

  Exchange() = default;
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;
  virtual ~Exchange() = default;

  /// With everybody whose view must be checked: at least both neighbours on the ring, so that whenever ranks
  /// disagree some pair of them finds out. If a talks to b, b talks to a.
  [[nodiscard]] virtual std::vector<Talk> talks() const = 0;
  /// Queues the first parts.
  virtual void start(PartQueue& /*queue*/) {}
  /// A frame that has been checked, with the small data expected.
  virtual void heard(int /*rank*/, Heard& /*heard*/) {}
  /// Sets where a part is to be received; false: there is no room now.
  virtual bool place(Part& /*part*/) { return true; }
  /// A whole part has arrived, or has left this rank.
  virtual void received(PartQueue& /*queue*/, const Part& /*part*/) {}
  virtual void sent(const Part& /*part*/) {}
  /// Everything has moved.
  virtual void finish() {}
};

/// Talks without data: with both neighbours, and between `hub` (an index of the team; -1: none) and everybody.
[[nodiscard]] std::vector<Exchange::Talk> neighbourly_talks(const Team& team, int hub);

/// Cuts buffers into parts; the same on all ranks that are given the same numbers.
struct Cut {
  // Large enough that system calls do not count, small enough that a part is still in the cache when it is
  // reduced and that rings start early.
  static constexpr std::size_t kLargestChunk = 256 * 1024;
  static constexpr std::size_t kSmallestChunk = 16 * 1024;

  std::size_t elements = 1;  ///< of one chunk

  /// For shares of at most `largest` elements of `element_bytes`.
  static Cut of(std::size_t largest, std::size_t element_bytes, int streams);
  [[nodiscard]] std::size_t chunks(std::size_t count) const { return (count + elements - 1) / elements; }
  [[nodiscard]] std::size_t size(std::size_t chunk, std::size_t count) const {
    return std::min(elements, count - chunk * elements);
  }
};

}  // namespace ddp::comm
