// The ranks of one MPI communicator, and what they tell each other beside operations: failures, goodbyes, whom they
// wait for. Frames as in comm/exchange/frame.h, each one MPI message.
//
// tell(): any thread. What is heard belongs to whoever holds `reading`.
#pragma once

#include <mpi.h>

#include <atomic>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "libddp/comm/describe.h"
#include "libddp/comm/exchange/frame.h"
#include "libddp/comm/failure.h"

namespace ddp::mpi {

using comm::describe;
using comm::follow_reports;
using comm::RankName;
using comm::wire::Frame;

/// Message tags within our communicator. Parts of large buffers count up from kPartTag.
enum Tag : int { kFrameTag = 1, kControlTag = 2, kMessageTag = 3, kMessageDataTag = 4, kPartTag = 16 };

struct Peer {
  RankName name;
  std::optional<Frame> waiting;  ///< the last of type kWaiting
  bool left = false;             ///< it said goodbye
};

class Mesh {
 public:
  /// Owns `communicator`, in which nobody else communicates.
  Mesh(MPI_Comm communicator, std::vector<RankName> names);
  Mesh(const Mesh&) = delete;
  Mesh& operator=(const Mesh&) = delete;
  /// Frees the communicator. Messages that come afterwards would be taken for those of the next one with the same number
  /// inside MPI (Open MPI 4.1 crashes), so only when there can be none: see bury().
  ~Mesh();
  /// Takes a mesh that has said goodbye, and destroys all that every peer has said goodbye to as well. Never waits.
  /// Null: only the latter. Any thread.
  static void bury(std::unique_ptr<Mesh> mesh);

  [[nodiscard]] MPI_Comm communicator() const { return communicator_; }
  [[nodiscard]] int size() const { return static_cast<int>(peers_.size()); }
  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] const RankName& me() const { return peers_[static_cast<std::size_t>(rank_)].name; }
  [[nodiscard]] const Peer& peer(int rank) const { return peers_[static_cast<std::size_t>(rank)]; }
  [[nodiscard]] int part_tag(std::size_t index) const {
    return kPartTag + static_cast<int>(index % static_cast<std::size_t>(part_tags_));
  }

  /// To every other rank, without waiting.
  void tell(Frame frame, const std::string& text);
  /// Takes in what has been told; records a failure and throws it. Needs `reading`.
  void hear(comm::Failure& failure);
  /// A peer told of the failure: it has told everybody.
  [[nodiscard]] bool heard_failure() const { return heard_failure_.load(); }
  /// ", which waits for rank 4 (...)", as ranks have told of this operation. Needs `reading`.
  [[nodiscard]] std::string behind(const Frame& operation, int rank) const;
  /// Memory that MPI may still touch, after an operation that failed.
  void keep(std::vector<std::byte> memory);

  std::mutex reading;

 private:
  struct Outgoing {
    std::vector<std::byte> bytes;
    std::vector<MPI_Request> requests;
  };
  void listen();
  /// All have said goodbye, and all that was told has left.
  [[nodiscard]] bool is_over();
  void take(const Frame& frame, const std::byte* payload, int from, comm::Failure& failure);
  /// Frees what has been sent.
  void collect();

  MPI_Comm communicator_;
  int rank_ = 0;
  int part_tags_ = 1;
  std::vector<Peer> peers_;
  std::vector<std::byte> heard_;
  MPI_Request listening_ = MPI_REQUEST_NULL;
  std::atomic<bool> heard_failure_{false};
  std::mutex out_mutex_;
  std::list<Outgoing> outgoing_;
  std::vector<std::vector<std::byte>> kept_;
};

}  // namespace ddp::mpi
