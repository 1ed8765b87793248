#include "libddp/comm/host/tcp/control_link.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstring>

#include <ddp/error.h>

namespace ddp::host {
namespace {

// Both ranks of a pair send one frame an operation and need the other's to finish it: nobody gets further ahead.
constexpr std::size_t kMostAhead = 2;

bool would_block(int error) {
  return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

}  // namespace

ControlLink::ControlLink(FileDescriptor fd)
    : fd_(std::move(fd)), in_(2 * (sizeof(wire::Frame) + wire::kInlineBytes)) {}

void ControlLink::send(const wire::Frame& frame, std::span<const std::byte> payload) {
  const std::scoped_lock lock(out_mutex_);
  if (error_ != 0) return;
  std::size_t sent = 0;
  if (out_.empty()) {
    iovec parts[2] = {{const_cast<wire::Frame*>(&frame), sizeof frame},
                      {const_cast<std::byte*>(payload.data()), payload.size()}};
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = payload.empty() ? 1 : 2;
    const ssize_t n = ::sendmsg(fd_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && !would_block(errno)) return broken(errno);
    sent = n > 0 ? static_cast<std::size_t>(n) : 0;
  }
  const auto* head = reinterpret_cast<const std::byte*>(&frame);
  const std::size_t of_head = std::min(sent, sizeof frame);
  out_.insert(out_.end(), head + of_head, head + sizeof frame);
  const auto rest = payload.subspan(sent - of_head);
  out_.insert(out_.end(), rest.begin(), rest.end());
}

bool ControlLink::flush() {
  const std::scoped_lock lock(out_mutex_);
  if (out_.empty()) return true;
  const ssize_t n = ::send(fd_.get(), out_.data(), out_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (n < 0 && !would_block(errno)) broken(errno);
  if (n > 0) out_.erase(out_.begin(), out_.begin() + n);
  return out_.empty();
}

void ControlLink::broken(int error) {
  // Whether that matters is for the reading side to find out: a peer that has said goodbye may miss a frame.
  error_ = error;
  out_.clear();
}

bool ControlLink::read() {
  bool any = false;
  while (!closed_) {
    const std::size_t room = in_.size() - in_used_;
    const ssize_t n = ::recv(fd_.get(), in_.data() + in_used_, room, MSG_DONTWAIT);
    if (n < 0 && would_block(errno)) return any;
    any = true;
    if (n <= 0) {
      if (n < 0) error_ = errno;
      closed_ = true;
      return any;
    }
    in_used_ += static_cast<std::size_t>(n);
    parse();
    if (static_cast<std::size_t>(n) < room) return any;
  }
  return any;
}

void ControlLink::parse() {
  std::size_t at = 0;
  while (in_used_ - at >= sizeof(wire::Frame)) {
    wire::Frame frame;
    std::memcpy(&frame, in_.data() + at, sizeof frame);
    if (const char* problem = wire::invalid(frame)) throw Error(std::string("sent ") + problem);
    if (in_used_ - at < sizeof frame + frame.payload) break;
    accept(frame, in_.data() + at + sizeof frame);
    at += sizeof frame + frame.payload;
  }
  if (at == 0) return;
  std::memmove(in_.data(), in_.data() + at, in_used_ - at);
  in_used_ -= at;
}

void ControlLink::accept(const wire::Frame& frame, const std::byte* payload) {
  switch (frame.type) {
    case wire::FrameType::kOperation:
      if (inbox_.size() >= kMostAhead) throw Error("sent more operations than it can have begun");
      inbox_.push_back({frame, {payload, payload + frame.payload}});
      return;
    case wire::FrameType::kFailure:
      if (!failure_)
        failure_ = ToldFailure{static_cast<ErrorKind>(frame.kind),
                               std::string(reinterpret_cast<const char*>(payload), frame.payload)};
      return;
    case wire::FrameType::kGoodbye:
      left_ = true;
      return;
    case wire::FrameType::kWaiting:
      waiting_ = frame;
      return;
  }
}

std::string ControlLink::close_reason() const {
  const int error = error_;
  if (error == 0 || error == EPIPE) return "its connection was closed";
  return errno_message("its connection broke", error);
}

}  // namespace ddp::host
