// send and recv over MPI: a frame, then the bytes, both matched by MPI in the order of the calls. Each peer and
// direction on its own, so they wait for neither each other nor collectives.
//
// send() and recv() block; one thread at a time for each peer and direction, any number of them besides.
#pragma once

#include <functional>

#include "libddp/comm/mpi/mesh.h"

namespace ddp::mpi {

class Messages {
 public:
  /// Called now and then while one waits; throws when the communicator has failed.
  using LookAround = std::function<void()>;
  /// The mesh must outlive it.
  explicit Messages(Mesh& mesh) : mesh_(mesh) {}

  /// Returns when the buffer may be used again. Throws TimeoutError, PeerFailure, what `look_around` throws.
  void send(const Operation& operation, const LookAround& look_around) const;
  /// Also throws MismatchError when what comes is another message, Error for bytes that make no sense.
  void recv(const Operation& operation, const LookAround& look_around) const;

 private:
  /// Waits for `request`, which is cancelled when that fails. Returns the bytes received.
  std::size_t finish(MPI_Request request, const Operation& operation, const LookAround& look_around) const;

  Mesh& mesh_;
};

}  // namespace ddp::mpi
