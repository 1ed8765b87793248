#include "libddp/comm/host/tcp/messages.h"

#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cerrno>

#include <ddp/error.h>

#include "libddp/comm/operation.h"

namespace ddp::host {
namespace {

// As long as the engine spins (engine.cpp), and as often as it looks around.
constexpr auto kSpin = std::chrono::microseconds(30);
constexpr int kPollMs = 20;
/// How long a connection that broke waits for somebody to tell why.
constexpr std::chrono::milliseconds kReason{500};

bool would_block(int error) {
  return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

}  // namespace

/// One message, from one end.
class Messages::Conversation {
 public:
  Conversation(Mesh& mesh, int wake, const Operation& operation, const LookAround& look_around)
      : mesh_(mesh),
        peer_(mesh.peer(operation.peer)),
        wake_(wake),
        operation_(operation),
        look_around_(look_around) {}

  /// Both parts, in order, to the last byte.
  void send(std::span<const std::byte> head, std::span<const std::byte> body) {
    for (std::size_t sent = 0; sent < head.size() + body.size();) {
      const auto rest_of_head = head.subspan(std::min(sent, head.size()));
      const auto rest = body.subspan(sent - (head.size() - rest_of_head.size()));
      iovec parts[2] = {{const_cast<std::byte*>(rest_of_head.data()), rest_of_head.size()},
                        {const_cast<std::byte*>(rest.data()), rest.size()}};
      msghdr message{};
      message.msg_iov = parts;
      message.msg_iovlen = 2;
      sent += moved(::sendmsg(peer_.messages.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL), POLLOUT);
    }
  }

  void receive(std::span<std::byte> bytes) {
    while (!bytes.empty())
      bytes = bytes.subspan(
          moved(::recv(peer_.messages.get(), bytes.data(), bytes.size(), MSG_DONTWAIT), POLLIN));
  }

 private:
  /// How many bytes a call moved; waits when it moved none.
  std::size_t moved(ssize_t bytes, short events) {
    if (bytes > 0) {
      idle_since_.reset();
      return static_cast<std::size_t>(bytes);
    }
    if (bytes == 0 || !would_block(errno)) lost(bytes == 0 ? 0 : errno);
    wait(events);
    return 0;
  }

  void wait(short events) {
    const auto now = Clock::now();
    if (!idle_since_) idle_since_ = now;
    if (now - *idle_since_ < kSpin) {
      ::sched_yield();
      return;
    }
    look_around_();
    if (operation_.deadline.passed()) time_out();
    pollfd polled[2] = {{wake_, POLLIN, 0}, {peer_.messages.get(), events, 0}};
    (void)::poll(polled, 2, operation_.deadline.remaining_ms(kPollMs));
  }

  /// Why a rank is gone comes by the control connections: from itself, or from who saw it.
  [[noreturn]] void lost(int error) {
    const Deadline patience = Deadline::in(kReason).min(operation_.deadline);
    do {
      look_around_();
      ::poll(nullptr, 0, 1);
    } while (!patience.passed());
    const std::string how =
        error == 0 ? "its connection was closed" : errno_message("its connection broke", error);
    throw PeerFailure(describe(mesh_.me) + " lost " + describe(peer_.name) + " in " + describe(operation_) +
                      ": " + how + " (did its program end, or crash, or was its host cut off?)");
  }

  [[noreturn]] void time_out() const {
    const bool sends = operation_.kind == OpKind::kSend;
    throw TimeoutError("timed out after " + to_string(operation_.deadline.timeout()) + ": " +
                       describe(mesh_.me) + " in " + describe(operation_) + " waits for " +
                       describe(peer_.name) + (sends ? " to receive it" : " to send it") +
                       " (is it stopped, stuck or slow?)");
  }

  Mesh& mesh_;
  Peer& peer_;
  int wake_;
  const Operation& operation_;
  const LookAround& look_around_;
  std::optional<Clock::time_point> idle_since_;
};

void Messages::send(const Operation& operation, const LookAround& look_around) const {
  const wire::Frame frame = wire::frame_of(operation, 0);
  Conversation(mesh_, wake_, operation, look_around)
      .send(std::as_bytes(std::span(&frame, 1)),
            {static_cast<const std::byte*>(operation.input), bytes_of(operation)});
}

void Messages::recv(const Operation& operation, const LookAround& look_around) const {
  Conversation conversation(mesh_, wake_, operation, look_around);
  const Peer& peer = mesh_.peer(operation.peer);
  wire::Frame frame;
  conversation.receive(std::as_writable_bytes(std::span(&frame, 1)));
  const char* problem = wire::invalid(frame);
  if (problem == nullptr && (frame.type != wire::FrameType::kOperation || frame.payload != 0))
    problem = "a frame that is no message";
  if (problem != nullptr)
    throw Error(describe(peer.name) + " sent " + problem + " in " + describe(operation) +
                ": another program on its port, or a broken network device?");
  if (const auto text = wire::disagreement(wire::frame_of(operation, 0), mesh_.me, frame, peer.name))
    throw MismatchError(*text);
  conversation.receive({static_cast<std::byte*>(operation.output), bytes_of(operation)});
}

}  // namespace ddp::host
