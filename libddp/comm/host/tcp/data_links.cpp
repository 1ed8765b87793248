#include "libddp/comm/host/tcp/data_links.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>

#include <ddp/error.h>

namespace ddp::host {
namespace {

constexpr std::size_t kHead = sizeof(Piece);

msghdr message_of(iovec* parts, std::size_t n) {
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = n;
  return message;
}

std::byte* bytes_of(Piece& head) {
  return reinterpret_cast<std::byte*>(&head);
}

}  // namespace

void DataLinks::begin() {
  out_base_ += sent_parts_;
  in_base_ += expected_.size();
  sent_parts_ = 0;
  complete_ = 0;
  expected_.clear();
}

Moved DataLinks::moved(ssize_t bytes) {
  if (bytes > 0) return Moved::kSome;
  if (bytes < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return Moved::kNothing;
  error_ = bytes < 0 ? errno : 0;
  return Moved::kClosed;
}

Moved DataLinks::push(int index, Part& part) {
  Stream& stream = at(index);
  if (!stream.has_part) {
    if (to_send_.empty()) return Moved::kNothing;
    stream.out = to_send_.front();
    to_send_.pop_front();
    stream.out_head = {kPieceMagic, static_cast<std::uint32_t>(stream.out.bytes),
                       out_base_ + stream.out.index};
    stream.sent = 0;
    stream.has_part = true;
    ++on_the_way_;
  }
  iovec parts[2];
  std::size_t n = 0;
  if (stream.sent < kHead) parts[n++] = {bytes_of(stream.out_head) + stream.sent, kHead - stream.sent};
  const std::size_t of_data = stream.sent > kHead ? stream.sent - kHead : 0;
  parts[n++] = {stream.out.data + of_data, stream.out.bytes - of_data};
  const msghdr message = message_of(parts, n);
  const ssize_t sent = ::sendmsg(stream.fd.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  const Moved result = moved(sent);
  if (result != Moved::kSome) return result;
  stream.sent += static_cast<std::size_t>(sent);
  if (stream.sent < kHead + stream.out.bytes) return result;
  part = stream.out;
  stream.has_part = false;
  --on_the_way_;
  ++sent_parts_;
  return Moved::kWholePart;
}

Moved DataLinks::pull_head(Stream& stream) {
  const ssize_t got = ::recv(stream.fd.get(), bytes_of(stream.in_head) + stream.head_got,
                             kHead - stream.head_got, MSG_DONTWAIT);
  if (got == 0 && stream.head_got == 0) {
    // The end between two parts. The peer may have left after its last operation, whose last data is still on
    // its way to us in the other connections.
    stream.ended = true;
    const bool all = std::all_of(streams_.begin(), streams_.end(), [](const Stream& s) { return s.ended; });
    return all ? moved(0) : Moved::kNothing;
  }
  const Moved result = moved(got);
  if (result == Moved::kSome) stream.head_got += static_cast<std::size_t>(got);
  return result;
}

bool DataLinks::match(Stream& stream) {
  // Whoever is through with an operation may begin the next while we still wait for the end of this one on
  // another connection. Nobody gets further ahead than that.
  constexpr std::uint64_t kFarthest = std::uint64_t{1} << 40;
  const std::uint64_t index = stream.in_head.index - in_base_;
  const bool ahead = index >= expected_.size();
  if (stream.in_head.magic != kPieceMagic || index > kFarthest ||
      (!ahead && (expected_[index].taken || stream.in_head.bytes != expected_[index].part.bytes)))
    throw Error("sent data that is not what comes next");
  if (ahead) return false;
  expected_[index].taken = true;
  stream.expected = index;
  stream.received = 0;
  stream.matched = true;
  return true;
}

Moved DataLinks::pull(int index, Part& part) {
  Stream& stream = at(index);
  if (stream.ended) return Moved::kNothing;
  if (stream.head_got < kHead) {
    const Moved result = pull_head(stream);
    if (result != Moved::kSome || stream.head_got < kHead) return result;
  }
  if (!stream.matched && !match(stream)) return Moved::kNothing;
  const Part& expected = expected_[stream.expected].part;
  if (!expected.data) return Moved::kNeedsPlace;

  // The next head comes along with the end of the data: one call less for each part.
  Piece next_head;
  const std::size_t rest = expected.bytes - stream.received;
  iovec parts[2] = {{expected.data + stream.received, rest}, {&next_head, kHead}};
  msghdr message = message_of(parts, 2);
  const ssize_t got = ::recvmsg(stream.fd.get(), &message, MSG_DONTWAIT);
  const Moved result = moved(got);
  if (result != Moved::kSome) return result;
  const auto bytes = static_cast<std::size_t>(got);
  if (bytes < rest) {
    stream.received += bytes;
    return result;
  }
  part = expected;
  ++complete_;
  stream.matched = false;
  stream.in_head = next_head;
  stream.head_got = bytes - rest;
  return Moved::kWholePart;
}

short DataLinks::events(int index) const {
  const Stream& stream = streams_[static_cast<std::size_t>(index)];
  // A whole head that waits: for its operation to begin, or for a place. Polling would return at once.
  const bool blocked = stream.head_got == kHead && (!stream.matched || !expected_[stream.expected].part.data);
  const bool in = receiving() && !blocked && !stream.ended;
  const bool out = stream.has_part || !to_send_.empty();
  return static_cast<short>((in ? POLLIN : 0) | (out ? POLLOUT : 0));
}

}  // namespace ddp::host
