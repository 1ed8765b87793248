// The client's end of a connection to the store: proven, and encrypted where both sides have a token and TLS.
//
//   StoreConnection connection(std::move(fd), token, deadline);   // handshake, then TLS
//   connection.send(store_wire::encode(request), deadline, "set 'key'");
//   connection.receive(header, sizeof header);
//
// One thread may receive while others, one at a time, send; shutdown() may come from any thread and ends what
// the others do.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include <ddp/deadline.h>

#include "libddp/core/fd.h"
#include "libddp/core/fork_guard.h"
#include "libddp/rendezvous/handshake.h"
#include "libddp/rendezvous/tls.h"

namespace ddp {

/// What both ends of a store's connection must agree on. With a token, and a build that can, TLS follows.
[[nodiscard]] handshake::Terms store_terms(const std::string& token);

class StoreConnection {
 public:
  /// `socket`: connected. Throws what authenticate_client() throws, RendezvousError also for TLS.
  StoreConnection(FileDescriptor socket, const std::string& token, Deadline deadline);

  /// Throws TimeoutError when not a byte could be sent (the connection is as before), RendezvousError when the
  /// connection is of no use any more.
  void send(std::string_view bytes, Deadline deadline, const std::string& what);
  /// Waits without a deadline for exactly `size` bytes; shutdown() ends it. Throws RendezvousError that says
  /// why the connection has ended.
  void receive(char* to, std::size_t size);
  void shutdown() noexcept;
  /// Whether this process is a forked child of the one that connected.
  [[nodiscard]] bool is_forked() const { return guard_.is_forked(); }
  [[nodiscard]] bool encrypted() const { return channel_ != nullptr; }

 private:
  void secure(const Digest& session_key, Deadline deadline);
  void wait_writable(Deadline deadline, const std::string& what) const;
  void send_all(std::string_view bytes, Deadline deadline) const;
  /// At least one byte from the socket.
  std::size_t receive_some(char* to, std::size_t size, Deadline deadline) const;
  std::size_t receive_plain(char* to, std::size_t size);

  FileDescriptor socket_;
  ForkGuard guard_;
  std::mutex channel_mutex_;
  std::unique_ptr<tls::Channel> channel_;  ///< null: in clear
};

}  // namespace ddp
