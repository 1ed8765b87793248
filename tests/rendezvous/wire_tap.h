// A man in the middle: listens on loopback, forwards every connection to a store's server, keeps a copy of all
// bytes, and damages or repeats some when told.
//
//   WireTap tap(server.port());
//   const auto store = connect_store({"127.0.0.1", tap.port()}, options);
//   tap.flip_next(WireTap::kToServer, 7, 0x01);     // one bit of the next bytes on their way
//   tap.recorded(WireTap::kToServer);
//
// Any thread. Forwards on a thread of its own until destroyed.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "libddp/core/fd.h"
#include "libddp/rendezvous/connect.h"

namespace ddp {

class WireTap {
 public:
  enum Direction { kToServer = 0, kToClient = 1 };

  explicit WireTap(std::uint16_t server) : server_(server), stop_(::eventfd(0, EFD_CLOEXEC)) {
    listener_ = FileDescriptor(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = loopback(0);
    socklen_t length = sizeof address;
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
    EXPECT_EQ(::listen(listener_.get(), 16), 0);
    EXPECT_EQ(::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { forward(); });
  }
  ~WireTap() {
    const std::uint64_t one = 1;
    EXPECT_EQ(::write(stop_.get(), &one, sizeof one), 8);
    thread_.join();
  }

  [[nodiscard]] std::uint16_t port() const { return port_; }
  [[nodiscard]] std::string recorded(Direction direction) const {
    const std::scoped_lock lock(mutex_);
    return recorded_[direction];
  }
  /// Of the next bytes that go that way: `mask` is xor-ed to the one at `offset`, or to the last.
  void flip_next(Direction direction, std::size_t offset, char mask) {
    const std::scoped_lock lock(mutex_);
    flip_[direction] = {offset, mask};
  }
  /// The next bytes that go that way go twice.
  void repeat_next(Direction direction) {
    const std::scoped_lock lock(mutex_);
    repeat_[direction] = true;
  }

 private:
  struct Flip {
    std::size_t offset;
    char mask;
  };
  using Pair = std::array<FileDescriptor, 2>;  ///< the client's socket, the server's

  static sockaddr_in loopback(std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
  }

  void forward() {
    for (;;) {
      std::vector<pollfd> entries{{stop_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
      for (const Pair& pair : pairs_)
        for (const auto& fd : pair) entries.push_back({fd.get(), POLLIN, 0});
      if (::poll(entries.data(), entries.size(), -1) < 0) continue;
      if (entries[0].revents != 0) return;
      std::size_t at = 2;
      for (auto pair = pairs_.begin(); pair != pairs_.end(); at += 2) {
        const bool open = (entries[at].revents == 0 || pass(*pair, kToServer)) &&
                          (entries[at + 1].revents == 0 || pass(*pair, kToClient));
        pair = open ? std::next(pair) : pairs_.erase(pair);
      }
      if (entries[1].revents != 0) accept();
    }
  }

  void accept() {
    Pair pair;
    pair[0] = FileDescriptor(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    pair[1] = FileDescriptor(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    for (const auto& fd : pair) set_tcp_options(fd.get());
    const sockaddr_in address = loopback(server_);
    if (::connect(pair[1].get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
      pairs_.push_back(std::move(pair));
  }

  /// False at the end of the connection.
  bool pass(const Pair& pair, Direction direction) {
    char buffer[65536];
    const ssize_t got = ::recv(pair[direction].get(), buffer, sizeof buffer, 0);
    if (got <= 0) return false;
    const std::string bytes = tampered({buffer, static_cast<std::size_t>(got)}, direction);
    return ::send(pair[1 - direction].get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(bytes.size());
  }

  std::string tampered(std::string bytes, Direction direction) {
    const std::scoped_lock lock(mutex_);
    recorded_[direction] += bytes;
    if (const auto flip = std::exchange(flip_[direction], std::nullopt)) {
      char& byte = bytes[std::min(flip->offset, bytes.size() - 1)];
      byte = static_cast<char>(byte ^ flip->mask);
    }
    if (std::exchange(repeat_[direction], false)) bytes += bytes;
    return bytes;
  }

  std::uint16_t server_;
  std::uint16_t port_ = 0;
  FileDescriptor stop_, listener_;
  std::list<Pair> pairs_;  ///< of the thread
  mutable std::mutex mutex_;
  std::array<std::string, 2> recorded_;
  std::array<std::optional<Flip>, 2> flip_;
  std::array<bool, 2> repeat_{};
  std::thread thread_;
};

}  // namespace ddp
