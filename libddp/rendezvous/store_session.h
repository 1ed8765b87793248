// The server's end of one connection. Lives on the server's thread, ends itself, and tells the host.
//
//   1. The handshake (libddp/rendezvous/handshake.h), then TLS where both sides have a token and a build with
//      it, all within options.handshake_time; whoever is slower is dropped.
//   2. Frames (libddp/rendezvous/store_wire.h). A frame, or a TLS record, that has begun must be complete within
//      options.frame_time; between frames a client may be silent for as long as it likes. The first malformed
//      frame ends the connection.
//   3. While kPauseReading bytes of replies wait for a client none of its requests is read. It is dropped when
//      kMaxQueued wait for it, which takes waits that end while it reads nothing.
//
// Memory is taken for bytes that have come, never for bytes that were announced.
#pragma once

#include <asio.hpp>

#include <array>
#include <deque>
#include <memory>
#include <string>

#include <ddp/rendezvous.h>

#include "libddp/core/fork_guard.h"
#include "libddp/rendezvous/handshake.h"
#include "libddp/rendezvous/store_state.h"
#include "libddp/rendezvous/tls.h"

namespace ddp {

class StoreSession : public std::enable_shared_from_this<StoreSession> {
 public:
  using Socket = asio::generic::stream_protocol::socket;

  /// What the sessions of a server share. Outlives them.
  struct Host {
    explicit Host(const StoreServerOptions& server_options)
        : options(server_options), state(server_options.max_bytes) {}
    Host(const Host&) = delete;
    Host& operator=(const Host&) = delete;
    virtual ~Host() = default;
    virtual void proven(std::uint64_t id) = 0;
    virtual void ended(std::uint64_t id) = 0;

    StoreServerOptions options;
    StoreState state;
    std::unique_ptr<tls::Context> tls;                ///< null: in clear
    std::array<char, std::size_t{64} << 10> arrived;  ///< one call at a time reads into it
  };

  StoreSession(Host& host, Socket socket, std::uint64_t id);

  /// `busy`: tells the client so and ends.
  void begin(bool busy);
  void close();
  /// Ends the connection once what was answered has been sent.
  void refuse(const std::string& why);

 private:
  enum class Stage { kHello, kProof, kTls, kFrames };

  template <class Handler>
  void guarded(Handler handler);
  void wait_readable();
  void readable();
  void take(std::string_view wire);
  void decrypt();
  void advance();
  [[nodiscard]] bool step();
  [[nodiscard]] bool answer_hello();
  [[nodiscard]] bool judge_proof();
  [[nodiscard]] bool finish_tls();
  [[nodiscard]] bool execute_frame();
  void time_frames();
  void limit(std::chrono::nanoseconds time);
  void stop_timer();
  void reply(std::string frame);
  void write();
  void fill_wire();
  void written();

  [[nodiscard]] std::string_view unread() const { return std::string_view(plain_).substr(consumed_); }
  template <std::size_t N>
  [[nodiscard]] bool consume(std::array<std::uint8_t, N>& to);

  Host& host_;
  Socket socket_;
  ForkGuard guard_;
  asio::steady_timer timer_;
  std::uint64_t id_;
  handshake::ServerSide handshake_;
  std::unique_ptr<tls::Channel> channel_;
  Stage stage_ = Stage::kHello;
  std::string plain_;  ///< received; the first consumed_ bytes are done with
  std::size_t consumed_ = 0;
  std::deque<std::string> outgoing_;  ///< frames, in clear
  std::size_t front_sent_ = 0;        ///< of outgoing_.front()
  std::string wire_;                  ///< as it goes out next
  std::string in_flight_;
  std::size_t queued_ = 0;  ///< bytes of outgoing_ that are neither in wire_ nor in_flight_
  bool busy_ = false;
  bool timing_ = false;
  bool paused_ = false;
  bool refused_ = false;
  bool closed_ = false;
};

}  // namespace ddp
