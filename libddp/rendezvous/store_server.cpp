#include <fcntl.h>

// The store's server: one thread, one io_context, one Session for each connection.
//
//   1. Accept. Beyond max_connections the client is told so and sent away.
//   2. The handshake (libddp/rendezvous/handshake.h), within kHandshakeTime; whoever is slower is dropped.
//   3. Frames (libddp/rendezvous/store_wire.h). A frame that has begun must be complete within kFrameTime;
//   between frames a client may
//      be silent for as long as it likes. The first malformed frame ends the connection.
//   4. A client that does not read its replies is dropped when kMaxQueued bytes wait for it.
#include <asio.hpp>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <unordered_map>

#include <ddp/error.h>
#include <ddp/log.h>
#include <ddp/rendezvous.h>

#include "libddp/core/fd.h"
#include "libddp/rendezvous/env_reader.h"
#include "libddp/rendezvous/handshake.h"
#include "libddp/rendezvous/store_state.h"

namespace ddp {
namespace {

using Socket = asio::generic::stream_protocol::socket;
using asio::ip::tcp;
using LocalProtocol = asio::local::stream_protocol;

/// Asio does not do it: a program that the process starts would keep port and connections open after its end.
void close_on_exec(int fd) {
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
}

constexpr std::chrono::seconds kHandshakeTime{10};
constexpr std::chrono::seconds kFrameTime{60};
constexpr std::size_t kMaxQueued = std::size_t{256} << 20;

}  // namespace

class StoreServer::Impl {
 public:
  explicit Impl(const StoreServerOptions& options);
  ~Impl();

  [[nodiscard]] std::uint16_t port() const { return port_; }
  [[nodiscard]] std::size_t connections() const {
    const std::scoped_lock lock(mutex_);
    return count_;
  }
  bool wait_below(std::size_t count, Deadline deadline) {
    std::unique_lock lock(mutex_);
    return changed_.wait_until(lock, deadline.at(), [&] { return count_ <= count; });
  }

 private:
  class Session;
  template <class Acceptor>
  void accept(Acceptor& acceptor);
  void listen_tcp();
  bool listen_on(const tcp::endpoint& endpoint, bool both);
  void listen_local();
  void start(Socket socket);
  void ended(std::uint64_t id);
  void count_changed(int difference);

  StoreServerOptions options_;
  asio::io_context io_;
  std::vector<std::unique_ptr<tcp::acceptor>> tcp_acceptors_;
  std::unique_ptr<LocalProtocol::acceptor> local_acceptor_;
  asio::steady_timer accept_pause_{io_};
  StoreState state_;
  std::unordered_map<std::uint64_t, std::shared_ptr<Session>> sessions_;
  std::uint64_t next_id_ = 1;
  std::uint16_t port_ = 0;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t count_ = 0;  ///< of sessions, for other threads
  std::thread thread_;
};

class StoreServer::Impl::Session : public std::enable_shared_from_this<Session> {
 public:
  Session(Impl& server, Socket socket, std::uint64_t id)
      : server_(server),
        socket_(std::move(socket)),
        timer_(server.io_),
        id_(id),
        handshake_({server.options_.token, store_wire::kPurpose, false}) {}

  void begin(bool busy) {
    limit(kHandshakeTime);
    read(hello_, [this, busy] {
      const handshake::Hello answer = busy ? handshake_.busy() : handshake_.answer(hello_);
      send(std::string(answer.begin(), answer.end()));
      if (handshake_.refused()) return refuse(handshake_.refusal());
      if (busy) return refuse("too many connections");
      read(proof_, [this] {
        const handshake::Verdict verdict = handshake_.judge(proof_);
        send(std::string(verdict.begin(), verdict.end()));
        if (handshake_.refused()) return refuse(handshake_.refusal());
        timer_.cancel();
        next_frame();
      });
    });
  }

  void close() {
    if (closed_) return;
    closed_ = true;
    asio::error_code ignored;
    timer_.cancel();
    socket_.shutdown(asio::socket_base::shutdown_both, ignored);
    socket_.close(ignored);
    server_.ended(id_);
  }

 private:
  template <class Bytes, class Then>
  void read(Bytes& bytes, Then then) {
    asio::async_read(socket_, asio::buffer(bytes),
                     [this, self = shared_from_this(), then](asio::error_code error, std::size_t) {
                       if (error || closed_) return close();
                       try {
                         then();
                       } catch (const Error& failure) {  // not libddp on the other side
                         refuse(failure.what());
                       }
                     });
  }

  void next_frame() {
    read(header_bytes_, [this] {
      const auto header = store_wire::decode_header({header_bytes_.data(), header_bytes_.size()});
      if (!header) return refuse("a frame of impossible length");
      limit(kFrameTime);
      body_.resize(header->body_bytes);
      read(body_, [this, header = *header] {
        timer_.cancel();
        const auto request = store_wire::decode_request(header, body_);
        if (!request) return refuse("a malformed request");
        server_.state_.execute(id_, *request, [weak = weak_from_this()](const store_wire::Reply& reply) {
          if (const auto self = weak.lock()) self->send(store_wire::encode(reply));
        });
        next_frame();
      });
    });
  }

  void limit(std::chrono::seconds time) {
    timer_.expires_after(time);
    timer_.async_wait([this, self = shared_from_this()](asio::error_code error) {
      if (!error) refuse("too slow");
    });
  }

  void send(std::string bytes) {
    if (closed_) return;
    queued_ += bytes.size();
    if (queued_ > kMaxQueued) return refuse("does not read its replies");
    outgoing_.push_back(std::move(bytes));
    if (outgoing_.size() == 1) write();
  }

  void write() {
    asio::async_write(socket_, asio::buffer(outgoing_.front()),
                      [this, self = shared_from_this()](asio::error_code error, std::size_t) {
                        if (error || closed_) return close();
                        queued_ -= outgoing_.front().size();
                        outgoing_.pop_front();
                        if (!outgoing_.empty()) return write();
                        if (refused_) close();
                      });
  }

  /// Ends the connection once what was answered has been sent.
  void refuse(const std::string& why) {
    if (closed_ || refused_) return;
    log::debug("store: connection refused", {{"why", why}});
    refused_ = true;
    // Later: this may be the answer to a request that another client's request has just satisfied.
    if (outgoing_.empty() || queued_ > kMaxQueued)
      asio::post(server_.io_, [self = shared_from_this()] { self->close(); });
  }

  Impl& server_;
  Socket socket_;
  asio::steady_timer timer_;
  std::uint64_t id_;
  handshake::ServerSide handshake_;
  handshake::Hello hello_{};
  handshake::Proof proof_{};
  std::array<char, store_wire::kHeaderBytes> header_bytes_{};
  std::string body_;
  std::deque<std::string> outgoing_;
  std::size_t queued_ = 0;
  bool refused_ = false;
  bool closed_ = false;
};

StoreServer::Impl::Impl(const StoreServerOptions& options) : options_(options), state_(options.max_bytes) {
  const bool local = options.listen.address.starts_with("unix:");
  if (options.token.empty() && !options.allow_insecure && !local && !is_loopback(options.listen.address))
    throw ConfigError("a store that other machines can reach (" + options.listen.describe() +
                      ") needs a job token: set DDP_JOB_TOKEN or DDP_JOB_TOKEN_FILE to the same secret for "
                      "every rank, or accept "
                      "that anybody can join with DDP_ALLOW_INSECURE=1");
  local ? listen_local() : listen_tcp();
  thread_ = std::thread([this] { io_.run(); });
}

StoreServer::Impl::~Impl() {
  asio::post(io_, [this] {
    asio::error_code ignored;
    for (auto& acceptor : tcp_acceptors_) acceptor->close(ignored);
    if (local_acceptor_) local_acceptor_->close(ignored);
    accept_pause_.cancel();
    while (!sessions_.empty()) std::shared_ptr<Session>(sessions_.begin()->second)->close();
  });
  thread_.join();
}

void StoreServer::Impl::listen_tcp() {
  asio::error_code error;
  if (options_.listen.address == "*") {
    if (listen_on({tcp::v6(), options_.listen.port}, true) ||
        listen_on({tcp::v4(), options_.listen.port}, false))
      return;
  } else {
    tcp::resolver resolver(io_);
    const auto found = resolver.resolve(options_.listen.address, std::to_string(options_.listen.port), error);
    if (error)
      throw RendezvousError("cannot listen on " + options_.listen.describe() + ": " + error.message());
    for (const auto& entry : found)
      if (listen_on(entry.endpoint(), false)) return;
  }
  throw RendezvousError(errno_message("cannot listen on " + options_.listen.describe(), errno) +
                        "; is another job using this port, or the address another machine's?");
}

/// Leaves the reason in errno.
bool StoreServer::Impl::listen_on(const tcp::endpoint& endpoint, bool both) {
  auto acceptor = std::make_unique<tcp::acceptor>(io_);
  asio::error_code error;
  acceptor->open(endpoint.protocol(), error);
  if (!error) close_on_exec(acceptor->native_handle());
  if (!error) acceptor->set_option(tcp::acceptor::reuse_address(true), error);
  if (!error && endpoint.protocol() == tcp::v6()) acceptor->set_option(asio::ip::v6_only(!both), error);
  if (!error) acceptor->bind(endpoint, error);
  if (!error) acceptor->listen(4096, error);
  if (error) {
    errno = error.value();
    return false;
  }
  port_ = acceptor->local_endpoint().port();
  tcp_acceptors_.push_back(std::move(acceptor));
  accept(*tcp_acceptors_.back());
  return true;
}

void StoreServer::Impl::listen_local() {
  const std::string name = std::string(1, '\0') + options_.listen.address.substr(6);  // "unix:@name"
  asio::error_code error;
  local_acceptor_ = std::make_unique<LocalProtocol::acceptor>(io_);
  local_acceptor_->open(LocalProtocol(), error);
  if (!error) close_on_exec(local_acceptor_->native_handle());
  if (!error) local_acceptor_->bind(LocalProtocol::endpoint(name), error);
  if (!error) local_acceptor_->listen(4096, error);
  if (error)
    throw RendezvousError("cannot listen on " + options_.listen.describe() + ": " + error.message() +
                          "; is another job with this identity running on this machine?");
  accept(*local_acceptor_);
}

template <class Acceptor>
void StoreServer::Impl::accept(Acceptor& acceptor) {
  acceptor.async_accept([this, &acceptor](asio::error_code error, auto socket) {
    if (!acceptor.is_open()) return;
    if (!error) start(Socket(std::move(socket)));
    if (!error || error == asio::error::connection_aborted) return accept(acceptor);
    log::warn("store: cannot accept a connection", {{"why", error.message()}});
    accept_pause_.expires_after(std::chrono::milliseconds(100));  // out of descriptors, most likely
    accept_pause_.async_wait([this, &acceptor](asio::error_code cancelled) {
      if (!cancelled) accept(acceptor);
    });
  });
}

/// A peer of another user is not of this job, whatever it knows of it.
bool same_user(Socket& socket) {
  ucred peer{};
  socklen_t length = sizeof peer;
  if (::getsockopt(socket.native_handle(), SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return false;
  return peer.uid == ::getuid() || peer.uid == 0;
}

void StoreServer::Impl::start(Socket socket) {
  close_on_exec(socket.native_handle());
  asio::error_code ignored;
  if (local_acceptor_) {
    if (!same_user(socket)) return;
  } else {
    socket.set_option(tcp::no_delay(true), ignored);
    socket.set_option(asio::socket_base::keep_alive(true), ignored);
  }
  const auto session = std::make_shared<Session>(*this, std::move(socket), next_id_);
  const bool busy = sessions_.size() >= options_.max_connections;
  sessions_.emplace(next_id_++, session);
  count_changed(+1);
  session->begin(busy);
}

void StoreServer::Impl::ended(std::uint64_t id) {
  state_.forget(id);
  if (sessions_.erase(id) > 0) count_changed(-1);
}

void StoreServer::Impl::count_changed(int difference) {
  {
    const std::scoped_lock lock(mutex_);
    count_ += static_cast<std::size_t>(difference);
  }
  changed_.notify_all();
}

StoreServer::StoreServer(const StoreServerOptions& options) : impl_(std::make_unique<Impl>(options)) {}
StoreServer::~StoreServer() = default;
std::uint16_t StoreServer::port() const {
  return impl_->port();
}
std::size_t StoreServer::connections() const {
  return impl_->connections();
}
bool StoreServer::wait_for_connections_below(std::size_t count, Deadline deadline) {
  return impl_->wait_below(count, deadline);
}

}  // namespace ddp
