// send and recv over TCP: one connection a pair of ranks, on which each direction is a stream of its own, a frame and
// then the bytes. So messages of different pairs and directions do not wait for each other, nor for collectives.
//
// send() and recv() block; one thread at a time for each peer and direction, any number of them besides.
#pragma once

#include <functional>
#include <span>

#include "libddp/comm/exchange/frame.h"
#include "libddp/comm/host/tcp/mesh.h"

namespace ddp::host {

class Messages {
 public:
  /// Called while one waits, at least every 20 ms; throws when the communicator has failed.
  using LookAround = std::function<void()>;

  /// `wake` becomes readable when another thread recorded a failure. The mesh must outlive it.
  Messages(Mesh& mesh, int wake) : mesh_(mesh), wake_(wake) {}

  /// Returns when the kernel has taken all of it. Throws TimeoutError, PeerFailure, what `look_around` throws.
  void send(const Operation& operation, const LookAround& look_around) const;
  /// Also throws MismatchError when what comes is another message, Error for bytes that make no sense.
  void recv(const Operation& operation, const LookAround& look_around) const;

 private:
  class Conversation;
  Mesh& mesh_;
  int wake_;
};

}  // namespace ddp::host
