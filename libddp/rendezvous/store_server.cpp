// The store's server: one thread, one io_context, one StoreSession for each connection.
//
//   1. Accept. Callers that have proven nothing have a limited number of places of their own: they cannot use up
//      the descriptors of the process, nor keep others waiting for long (Impl::crowded).
//   2. Beyond max_connections proven clients a caller is told to come again.
//   3. Everything else is the session's (store_session.h).
#include "libddp/rendezvous/store_session.h"

#include <fcntl.h>
#include <sys/resource.h>

#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>
#include <unordered_map>

#include <ddp/error.h>
#include <ddp/log.h>
#include <ddp/rendezvous.h>

#include "libddp/core/fd.h"
#include "libddp/core/fork_guard.h"
#include "libddp/rendezvous/connect.h"
#include "libddp/rendezvous/env_reader.h"
#include "libddp/rendezvous/store_connection.h"

namespace ddp {
namespace {

using Socket = StoreSession::Socket;
using asio::ip::tcp;
using LocalProtocol = asio::local::stream_protocol;

/// A caller this old may have to give its place to the next one.
constexpr std::chrono::seconds kGrace{1};
constexpr std::chrono::milliseconds kLookAgain{10};
constexpr std::chrono::milliseconds kAfterFailure{100};

/// Asio does not do it: a program that the process starts would keep port and connections open after its end.
void close_on_exec(int fd) {
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
}

/// Training needs descriptors too.
std::size_t stranger_limit(std::size_t wanted) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return wanted;
  return std::clamp<std::size_t>(limit.rlim_cur / 4, 1, wanted);
}

}  // namespace

class StoreServer::Impl : public StoreSession::Host {
 public:
  explicit Impl(const StoreServerOptions& options);
  ~Impl() override;

  [[nodiscard]] std::uint16_t port() const { return port_; }
  [[nodiscard]] std::size_t connections() const {
    const std::scoped_lock lock(mutex_);
    return proven_;
  }
  [[nodiscard]] bool is_forked() const { return guard_.is_forked(); }
  bool wait_below(std::size_t count, Deadline deadline) {
    std::unique_lock lock(mutex_);
    return changed_.wait_until(lock, deadline.at(), [&] { return proven_ <= count; });
  }

 private:
  void proven(std::uint64_t id) override;
  void ended(std::uint64_t id) override;
  void run();
  template <class Acceptor>
  void accept(Acceptor& acceptor);
  template <class Acceptor>
  void accept_later(Acceptor& acceptor, std::chrono::nanoseconds pause);
  [[nodiscard]] std::optional<std::chrono::nanoseconds> crowded();
  void listen_tcp();
  bool listen_on(const tcp::endpoint& endpoint, bool both);
  void listen_local();
  void start(Socket socket);
  void count_changed(int difference);

  asio::io_context io_;
  std::unique_ptr<tcp::acceptor> tcp_acceptor_;
  std::unique_ptr<LocalProtocol::acceptor> local_acceptor_;
  asio::steady_timer accept_pause_{io_};
  bool accept_failed_ = false;
  std::unordered_map<std::uint64_t, std::shared_ptr<StoreSession>> sessions_;
  std::map<std::uint64_t, Clock::time_point> strangers_;  ///< oldest first
  std::uint64_t next_id_ = 1;
  std::uint16_t port_ = 0;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t proven_ = 0;  ///< sessions that are no strangers
  std::thread thread_;
  ForkGuard guard_;  ///< of the listening socket; sessions guard theirs
};

StoreServer::Impl::Impl(const StoreServerOptions& server_options) : Host(server_options) {
  const bool local = options.listen.address.starts_with("unix:");
  if (options.token.empty() && !options.allow_insecure && !local && !is_loopback(options.listen.address))
    throw ConfigError("a store that other machines can reach (" + options.listen.describe() +
                      ") needs a job token: set DDP_JOB_TOKEN or DDP_JOB_TOKEN_FILE to the same secret for "
                      "every rank, or accept "
                      "that anybody can join with DDP_ALLOW_INSECURE=1");
  if (store_terms(options.token).tls) tls = tls::make_context(tls::Role::kServer);
  local ? listen_local() : listen_tcp();
  guard_.add(local ? local_acceptor_->native_handle() : tcp_acceptor_->native_handle());
  thread_ = std::thread([this] { run(); });
}

/// A training process does not end because its store had no memory for a moment.
void StoreServer::Impl::run() {
  for (;;) {
    try {
      io_.run();
      return;
    } catch (const std::exception& error) {
      log::error("store: the server goes on after an error", {{"what", error.what()}});
    }
  }
}

StoreServer::Impl::~Impl() {
  asio::post(io_, [this] {
    asio::error_code ignored;
    if (tcp_acceptor_) tcp_acceptor_->close(ignored);
    if (local_acceptor_) local_acceptor_->close(ignored);
    accept_pause_.cancel();
    while (!sessions_.empty()) std::shared_ptr<StoreSession>(sessions_.begin()->second)->close();
  });
  thread_.join();
}

void StoreServer::Impl::listen_tcp() {
  asio::error_code error;
  if (options.listen.address == "*") {
    if (listen_on({tcp::v6(), options.listen.port}, true) ||
        listen_on({tcp::v4(), options.listen.port}, false))
      return;
  } else {
    tcp::resolver resolver(io_);
    const auto found = resolver.resolve(options.listen.address, std::to_string(options.listen.port), error);
    if (error)
      throw RendezvousError("cannot listen on " + options.listen.describe() + ": " + error.message());
    for (const auto& entry : found)
      if (listen_on(entry.endpoint(), false)) return;
  }
  const bool no_descriptor = errno == EMFILE || errno == ENFILE;
  throw RendezvousError(errno_message("cannot listen on " + options.listen.describe(), errno) +
                        (no_descriptor
                             ? "; raise the limit of open files (ulimit -n)"
                             : "; is another job using this port, or the address another machine's?"));
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
  tcp_acceptor_ = std::move(acceptor);
  accept(*tcp_acceptor_);
  return true;
}

void StoreServer::Impl::listen_local() {
  const std::string name = std::string(1, '\0') + options.listen.address.substr(6);  // "unix:@name"
  asio::error_code error;
  local_acceptor_ = std::make_unique<LocalProtocol::acceptor>(io_);
  local_acceptor_->open(LocalProtocol(), error);
  if (!error) close_on_exec(local_acceptor_->native_handle());
  if (!error) local_acceptor_->bind(LocalProtocol::endpoint(name), error);
  if (!error) local_acceptor_->listen(4096, error);
  if (error)
    throw RendezvousError("cannot listen on " + options.listen.describe() + ": " + error.message() +
                          "; is another job with this identity running on this machine?");
  accept(*local_acceptor_);
}

template <class Acceptor>
void StoreServer::Impl::accept(Acceptor& acceptor) {
  if (!acceptor.is_open()) return;
  if (const auto pause = crowded()) return accept_later(acceptor, *pause);
  acceptor.async_accept([this, &acceptor](asio::error_code error, auto socket) {
    if (!acceptor.is_open()) return;
    const bool failed = error && error != asio::error::connection_aborted;
    if (failed && !accept_failed_)  // out of descriptors, most likely
      log::warn("store: cannot accept connections, and goes on trying (is ulimit -n too low?)",
                {{"why", error.message()}});
    accept_failed_ = failed;
    if (failed) return accept_later(acceptor, kAfterFailure);
    if (!error) start(Socket(std::move(socket)));
    accept(acceptor);
  });
}

template <class Acceptor>
void StoreServer::Impl::accept_later(Acceptor& acceptor, std::chrono::nanoseconds pause) {
  accept_pause_.expires_after(pause);
  accept_pause_.async_wait([this, &acceptor](asio::error_code cancelled) {
    if (!cancelled) accept(acceptor);
  });
}

/// How long not to accept. Those that come meanwhile wait in the kernel's queue, in their order, so ten thousand
/// ranks that start at once all get in; but a caller who says nothing keeps nobody waiting for long.
std::optional<std::chrono::nanoseconds> StoreServer::Impl::crowded() {
  if (strangers_.size() < stranger_limit(options.max_strangers)) return std::nullopt;
  const auto [oldest, since] = *strangers_.begin();
  if (Clock::now() - since < kGrace) return kLookAgain;
  const auto session = sessions_.at(oldest);
  log::debug("store: connection dropped", {{"why", "others are waiting to prove themselves"}});
  session->close();
  return std::nullopt;
}

void StoreServer::Impl::start(Socket socket) {
  close_on_exec(socket.native_handle());
  if (local_acceptor_ && !same_user(socket.native_handle())) return;
  if (!local_acceptor_) set_tcp_options(socket.native_handle());
  const auto session = std::make_shared<StoreSession>(*this, std::move(socket), next_id_);
  sessions_.emplace(next_id_, session);
  strangers_.emplace(next_id_, Clock::now());
  ++next_id_;
  session->begin(connections() >= options.max_connections);
}

void StoreServer::Impl::proven(std::uint64_t id) {
  if (strangers_.erase(id) > 0) count_changed(+1);
}

void StoreServer::Impl::ended(std::uint64_t id) {
  state.forget(id);
  if (sessions_.erase(id) > 0 && strangers_.erase(id) == 0) count_changed(-1);
}

void StoreServer::Impl::count_changed(int difference) {
  {
    const std::scoped_lock lock(mutex_);
    proven_ += static_cast<std::size_t>(difference);
  }
  changed_.notify_all();
}

StoreServer::StoreServer(const StoreServerOptions& options) : impl_(std::make_unique<Impl>(options)) {}
StoreServer::~StoreServer() {
  // In a forked child: the server is the parent's, its thread is not here, and its epoll set is shared.
  if (impl_->is_forked()) (void)impl_.release();
}
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
