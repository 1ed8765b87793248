// Moves the bytes of one operation: exchanges and checks frames, keeps every data connection busy, waits when
// nothing moves, and turns whatever goes wrong into an error that names ranks and operation.
//
// Lives for one operation, in the thread that runs it.
#pragma once

#include <poll.h>

#include <cstdint>
#include <string>
#include <vector>

#include "libddp/comm/exchange/exchange.h"
#include "libddp/comm/host/tcp/mesh.h"

namespace ddp::host {

class Engine final : private PartQueue {
 public:
  /// `wake` becomes readable when another thread recorded a failure. `digest`: see wire::Frame.
  Engine(Mesh& mesh, Failure& failure, int wake, const Operation& operation, std::uint64_t digest,
         const TcpGroup::Check& check);

  /// Runs `exchange` to its end. Throws what TcpGroup::run() says, without telling the peers.
  void drive(Exchange& exchange);

 private:
  void send(int rank, const Part& part) override { mesh_.peer(rank).data.queue_send(part); }
  void expect(int rank, const Part& part) override { mesh_.peer(rank).data.expect(part); }
  bool exchange_frames();
  bool move_data();
  bool receive_from(Peer& peer, int stream);
  bool send_to(Peer& peer, int stream);
  [[nodiscard]] bool complete();
  void agree(Peer& peer, const Exchange::Talk& talk);
  void wait();
  void look_around();
  void read_control(Peer& peer);
  [[noreturn]] void lost(Peer& peer, const std::string& how);
  /// The rank this one waits for: to come, to send, or to take; -1: none.
  [[nodiscard]] int waits_for();
  [[noreturn]] void time_out();
  [[nodiscard]] std::string here() const;  // "rank 0 (host-a, pid 7) in all_reduce #17 (...)"

  Mesh& mesh_;
  Failure& failure_;
  int wake_;
  const Operation& operation_;
  wire::Frame frame_;
  const TcpGroup::Check& check_;
  Exchange* exchange_ = nullptr;
  std::vector<Exchange::Talk> talks_;
  Clock::time_point report_at_;  // half way to the deadline; max() once reported
  Clock::time_point moved_at_;   // when bytes last moved
  Clock::time_point looked_at_;  // when look_around() last ran
  std::vector<pollfd> polled_;
};

/// Reads the control link of `peer` and throws what it says: a failure told by it, or PeerFailure when it is gone
/// without a goodbye; before the latter, failures told by others are heard. `during`: " in all_reduce #17", or empty.
void hear_failures(Mesh& mesh, Failure& failure, Peer& peer, const std::string& during);

/// Tells everybody that this rank waits, in the operation of `frame`, for `rank`, so that all can name the one who keeps
/// them all waiting.
void report_waiting(const Mesh& mesh, wire::Frame frame, int rank);

/// ", which waits for rank 4 (...)": whom `rank` waits for in the operation of `frame`, and so on to the one that waits
/// for nobody; empty when `rank` has not told.
[[nodiscard]] std::string follow_reports(const Mesh& mesh, const wire::Frame& frame, int rank);

}  // namespace ddp::host
