// What a link gives to plain TCP: bench_comm_tcp SOCKET 0 ADDRESS listens at ADDRESS, bench_comm_tcp SOCKET 1 ADDRESS connects.
// A measurement sends `bytes` each way at once, which is what an all-reduce between two hosts has to move.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <cstdio>
#include <thread>
#include <vector>

#include "tests/bench/comm/control.h"

namespace {

constexpr std::uint16_t kPort = 29400;

void require(bool condition, const char* what) {
  if (!condition) throw std::runtime_error(std::string(what) + ": " + std::strerror(errno));
}

sockaddr_in endpoint(const char* address) {
  sockaddr_in result{};
  result.sin_family = AF_INET;
  result.sin_port = htons(kPort);
  require(::inet_pton(AF_INET, address, &result.sin_addr) == 1, "not an IPv4 address");
  return result;
}

int accept_one(const char* address) {
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in at = endpoint(address);
  require(::bind(listener, reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0, "bind");
  require(::listen(listener, 1) == 0, "listen");
  const int fd = ::accept(listener, nullptr, nullptr);
  require(fd >= 0, "accept");
  ::close(listener);
  return fd;
}

/// The other end may not listen yet.
int connect_to(const char* address) {
  const sockaddr_in to = endpoint(address);
  for (int tries = 0;; ++tries) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0) return fd;
    require(errno == ECONNREFUSED && tries < 1000, "connect");
    ::close(fd);
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

void send_all(int fd, const char* data, std::size_t bytes) {
  while (bytes > 0) {
    const ssize_t sent = ::send(fd, data, bytes, MSG_NOSIGNAL);
    require(sent > 0, "send");
    data += sent;
    bytes -= static_cast<std::size_t>(sent);
  }
}

void receive_all(int fd, char* data, std::size_t bytes) {
  require(::recv(fd, data, bytes, MSG_WAITALL) == static_cast<ssize_t>(bytes), "recv");
}

double measure(int fd, const bench::Run& run) {
  std::vector<char> out(run.bytes, 'x');
  std::vector<char> in(run.bytes);
  const auto exchange = [&](std::size_t bytes) {
    std::thread sender([&] { send_all(fd, out.data(), bytes); });
    receive_all(fd, in.data(), bytes);
    sender.join();
  };
  return bench::time_loop(
      run, [&] { exchange(1); }, [&] { exchange(run.bytes); });
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 4) throw std::runtime_error("usage: bench_comm_tcp SOCKET 0|1 ADDRESS");
  const int rank = argv[2][0] - '0';
  const int fd = rank == 0 ? accept_one(argv[3]) : connect_to(argv[3]);
  const int yes = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  const bench::Control control(argv[1], rank);
  while (const auto run = control.next()) control.answer(measure(fd, *run));
} catch (const std::exception& error) {
  std::fprintf(stderr, "bench_comm_tcp: %s\n", error.what());
  return 1;
}
