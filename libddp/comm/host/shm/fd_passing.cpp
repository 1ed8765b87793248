#include "libddp/comm/host/shm/fd_passing.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include <ddp/error.h>

namespace ddp::host {
namespace {

struct Address {
  sockaddr_un storage{};
  socklen_t length = 0;
};

Address abstract_address(const std::string& name) {
  Address address;
  address.storage.sun_family = AF_UNIX;
  if (name.size() + 1 > sizeof address.storage.sun_path)
    throw Error("socket name '" + name + "' is too long");
  std::memcpy(address.storage.sun_path + 1, name.data(), name.size());
  address.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  return address;
}

FileDescriptor unix_socket() {
  FileDescriptor fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) throw Error(errno_message("cannot open a Unix socket", errno));
  return fd;
}

void wait_readable(const FileDescriptor& fd, Deadline deadline, const std::string& what) {
  pollfd entry{fd.get(), POLLIN, 0};
  while (::poll(&entry, 1, deadline.remaining_ms()) <= 0) deadline.check(what);
}

}  // namespace

FileDescriptor listen_abstract(const std::string& name) {
  FileDescriptor fd = unix_socket();
  const Address address = abstract_address(name);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address.storage), address.length) != 0 ||
      ::listen(fd.get(), 1024) != 0)
    throw Error(errno_message("cannot listen on the Unix socket for shared memory", errno));
  return fd;
}

FileDescriptor accept_until(const FileDescriptor& listener, Deadline deadline, const std::string& what) {
  for (;;) {
    wait_readable(listener, deadline, what);
    FileDescriptor fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (fd) return fd;
    if (errno != EINTR && errno != ECONNABORTED && errno != EAGAIN)
      throw Error(errno_message("cannot accept a rank of this host", errno));
  }
}

FileDescriptor connect_abstract(const std::string& name) {
  FileDescriptor fd = unix_socket();
  const Address address = abstract_address(name);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address.storage), address.length) != 0)
    throw RendezvousError(
        errno_message("cannot reach the first rank of this host over its Unix socket", errno));
  return fd;
}

void send_message(const FileDescriptor& socket, std::uint64_t number, int fd) {
  iovec part{&number, sizeof number};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  }
  ssize_t sent = 0;
  do sent = ::sendmsg(socket.get(), &message, MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  if (sent != sizeof number)
    throw PeerFailure(errno_message("a rank of this host is gone while memory was being shared", errno));
}

Received receive_message(const FileDescriptor& socket, Deadline deadline, const std::string& what) {
  wait_readable(socket, deadline, what);
  Received result;
  iovec part{&result.number, sizeof result.number};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t got = 0;
  do got = ::recvmsg(socket.get(), &message, MSG_CMSG_CLOEXEC | MSG_WAITALL);
  while (got < 0 && errno == EINTR);
  if (const cmsghdr* header = got > 0 ? CMSG_FIRSTHDR(&message) : nullptr;
      header != nullptr && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
    result.fd = FileDescriptor(fd);
  }
  if (got != sizeof result.number) throw PeerFailure("a rank of this host closed its connection: " + what);
  return result;
}

}  // namespace ddp::host
