#include "libddp/comm/mpi/messages.h"

#include <algorithm>
#include <cstring>
#include <exception>

#include <ddp/error.h>

#include "libddp/comm/mpi/patience.h"
#include "libddp/comm/mpi/runtime.h"
#include "libddp/comm/operation.h"

namespace ddp::mpi {
namespace {

namespace wire = comm::wire;
using comm::bytes_of;

/// MPI counts with an int.
constexpr std::size_t kLargestPiece = std::size_t{1} << 30;

/// Memory for a transfer, which outlives this object when an exception ends it: MPI may still touch it.
class Kept {
 public:
  Kept(Mesh& mesh, std::size_t size) : mesh_(mesh), memory_(size), exceptions_(std::uncaught_exceptions()) {}
  Kept(const Kept&) = delete;
  Kept& operator=(const Kept&) = delete;
  ~Kept() {
    if (std::uncaught_exceptions() > exceptions_) mesh_.keep(std::move(memory_));
  }
  [[nodiscard]] std::byte* data() const { return const_cast<std::byte*>(memory_.data()); }

 private:
  Mesh& mesh_;
  std::vector<std::byte> memory_;
  int exceptions_;
};

}  // namespace

std::size_t Messages::finish(MPI_Request request, const Operation& operation,
                             const LookAround& look_around) const {
  const auto& peer = mesh_.peer(operation.peer);
  try {
    for (Patience patience;;) {
      int done = 0;
      MPI_Status status;
      check(MPI_Test(&request, &done, &status), "MPI_Test");
      if (done != 0) {
        int bytes = 0;
        if (operation.kind == OpKind::kRecv) check(MPI_Get_count(&status, MPI_BYTE, &bytes), "MPI_Get_count");
        return static_cast<std::size_t>(bytes);
      }
      if (!patience.wait()) continue;
      look_around();
      if (!operation.deadline.passed()) continue;
      throw TimeoutError("timed out after " + to_string(operation.deadline.timeout()) + ": " +
                         describe(mesh_.me()) + " in " + describe(operation) + " waits for " +
                         describe(peer.name) +
                         (operation.kind == OpKind::kSend ? " to receive it" : " to send it") +
                         " (is it stopped, stuck or slow?)");
    }
  } catch (...) {
    if (request != MPI_REQUEST_NULL && !is_finalized()) {
      if (operation.kind == OpKind::kRecv) MPI_Cancel(&request);
      MPI_Request_free(&request);
    }
    throw;
  }
}

void Messages::send(const Operation& operation, const LookAround& look_around) const {
  Frame frame = wire::frame_of(operation, 0);
  MPI_Request request = MPI_REQUEST_NULL;
  check(
      MPI_Isend(&frame, sizeof frame, MPI_BYTE, operation.peer, kMessageTag, mesh_.communicator(), &request),
      "MPI_Isend");
  finish(request, operation, look_around);
  const auto* data = static_cast<const std::byte*>(operation.input);
  for (std::size_t sent = 0, total = bytes_of(operation); sent < total;) {
    const std::size_t piece = std::min(total - sent, kLargestPiece);
    check(MPI_Isend(data + sent, static_cast<int>(piece), MPI_BYTE, operation.peer, kMessageDataTag,
                    mesh_.communicator(), &request),
          "MPI_Isend");
    finish(request, operation, look_around);
    sent += piece;
  }
}

void Messages::recv(const Operation& operation, const LookAround& look_around) const {
  const auto& peer = mesh_.peer(operation.peer).name;
  Frame frame;
  const Kept bytes(mesh_, sizeof frame);
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Irecv(bytes.data(), sizeof frame, MPI_BYTE, operation.peer, kMessageTag, mesh_.communicator(),
                  &request),
        "MPI_Irecv");
  const std::size_t got = finish(request, operation, look_around);
  std::memcpy(&frame, bytes.data(), sizeof frame);
  const char* problem = got == sizeof frame ? wire::invalid(frame) : "half a frame";
  if (problem != nullptr) throw Error(describe(peer) + " sent " + problem + " in " + describe(operation));
  if (const auto text = wire::disagreement(wire::frame_of(operation, 0), mesh_.me(), frame, peer))
    throw MismatchError(*text);
  auto* data = static_cast<std::byte*>(operation.output);
  for (std::size_t received = 0, total = bytes_of(operation); received < total;) {
    const std::size_t piece = std::min(total - received, kLargestPiece);
    check(MPI_Irecv(data + received, static_cast<int>(piece), MPI_BYTE, operation.peer, kMessageDataTag,
                    mesh_.communicator(), &request),
          "MPI_Irecv");
    finish(request, operation, look_around);
    received += piece;
  }
}

}  // namespace ddp::mpi
