// Moves the bytes of one operation over MPI: exchanges and checks frames, keeps a few parts to and from every peer in
// flight, looks for what ends the operation early. An MPI library moves data only while somebody calls it: the thread
// that runs the operation does, all the time while bytes move, and ever more rarely while nothing does.
//
// Why not MPI_Iallreduce and its like: docs/decisions/0015-mpi-carries-bytes.md.
//
// Lives for one operation, in the thread that runs it.
#pragma once

#include <mpi.h>

#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "libddp/comm/exchange/exchange.h"
#include "libddp/comm/mpi/mesh.h"
#include "libddp/comm/mpi/patience.h"

namespace ddp::mpi {

class Engine final : private comm::PartQueue {
 public:
  /// `digest`: see wire::Frame. The mesh's `reading` must be held.
  Engine(Mesh& mesh, comm::Failure& failure, const Operation& operation, std::uint64_t digest);
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  ~Engine() override;

  /// Runs `exchange` to its end. Throws TimeoutError, MismatchError, Error, and what other ranks told.
  void drive(comm::Exchange& exchange);

 private:
  struct Link {
    comm::Exchange::Talk talk;
    bool agreed = false;  ///< its frame has come and says the same as ours
    std::vector<std::byte> frame_in, frame_out;
    std::deque<comm::Part> to_send, expected;
    int sending = 0, receiving = 0;
  };
  enum class Kind { kFrameIn, kFrameOut, kPartIn, kPartOut };
  struct Transfer {
    Kind kind;
    std::size_t link;
    comm::Part part;
  };

  void send(int rank, const comm::Part& part) override;
  void expect(int rank, const comm::Part& part) override;
  Link& link_to(int rank);
  void exchange_frames();
  void send_parts(std::size_t link);
  void receive_parts(std::size_t link);
  void post(Transfer transfer, void* data, std::size_t bytes, int tag);
  /// Whether anything has finished.
  bool progress();
  void finished(const Transfer& transfer, const MPI_Status& status);
  void agree(Link& link, const MPI_Status& status);
  [[nodiscard]] bool complete() const;
  void look_around();
  [[nodiscard]] int waits_for() const;
  [[noreturn]] void time_out() const;
  [[nodiscard]] std::string here() const;

  Mesh& mesh_;
  comm::Failure& failure_;
  const Operation& operation_;
  Frame frame_;
  comm::Exchange* exchange_ = nullptr;
  std::vector<Link> links_;
  std::vector<int> link_of_rank_;  ///< -1: none
  std::vector<MPI_Request> requests_;
  std::vector<Transfer> transfers_;  ///< what requests_ are for
  std::vector<int> indices_;
  std::vector<MPI_Status> statuses_;
  Patience patience_;
  bool reported_ = false;
  std::optional<Clock::time_point> gone_at_;  ///< when whom this rank waits for was found to have left
};

}  // namespace ddp::mpi
