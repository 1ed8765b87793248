#include "libddp/comm/host/tcp/data_link.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <cerrno>

#include <ddp/error.h>

namespace ddp::host {
namespace {

constexpr std::size_t kHead = sizeof(wire::Piece);

/// What is left of head and data behind the first `done` bytes.
int remaining(iovec (&parts)[2], void* head, std::byte* data, std::size_t bytes, std::size_t done) {
  int n = 0;
  if (done < kHead) parts[n++] = {static_cast<std::byte*>(head) + done, kHead - done};
  const std::size_t of_data = done > kHead ? done - kHead : 0;
  if (of_data < bytes) parts[n++] = {data + of_data, bytes - of_data};
  return n;
}

msghdr message_of(iovec* parts, int n) {
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = static_cast<std::size_t>(n);
  return message;
}

}  // namespace

Moved DataLink::moved(ssize_t bytes, std::size_t& total) {
  if (bytes > 0) {
    total += static_cast<std::size_t>(bytes);
    return Moved::kSome;
  }
  if (bytes < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return Moved::kNothing;
  error_ = bytes < 0 ? errno : 0;
  return Moved::kClosed;
}

Moved DataLink::push(Part& part) {
  const Part& first = to_send_.front();
  if (sent_ == 0) out_head_ = {wire::kPieceMagic, static_cast<std::uint32_t>(first.bytes), sent_parts_};
  iovec parts[2];
  msghdr message = message_of(parts, remaining(parts, &out_head_, first.data, first.bytes, sent_));
  const Moved result = moved(::sendmsg(fd_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL), sent_);
  if (result != Moved::kSome || sent_ < kHead + first.bytes) return result;
  part = first;
  to_send_.pop_front();
  sent_ = 0;
  ++sent_parts_;
  return Moved::kWholePart;
}

Moved DataLink::pull(Part& part) {
  const Part& first = to_receive_.front();
  iovec parts[2];
  msghdr message = message_of(parts, remaining(parts, &in_head_, first.data, first.bytes, received_));
  const Moved result = moved(::recvmsg(fd_.get(), &message, MSG_DONTWAIT), received_);
  if (result != Moved::kSome || received_ < kHead) return result;
  if (in_head_.magic != wire::kPieceMagic || in_head_.bytes != first.bytes ||
      in_head_.index != received_parts_)
    throw Error("sent data that is not what comes next");
  if (received_ < kHead + first.bytes) return result;
  part = first;
  to_receive_.pop_front();
  received_ = 0;
  ++received_parts_;
  return Moved::kWholePart;
}

}  // namespace ddp::host
