#include "libddp/comm/host/tcp/mesh.h"

#include <sys/socket.h>
#include <unistd.h>

#include <array>

#include <ddp/error.h>

#include "libddp/comm/host/tcp/acceptor.h"
#include "libddp/comm/host/tcp/roster.h"
#include "libddp/rendezvous/auth.h"

namespace ddp::host {
namespace {

std::string make_nonce() {
  std::array<std::uint8_t, 12> bytes{};
  random_bytes(bytes);
  std::string text;
  for (const std::uint8_t byte : bytes) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

void validate(const TcpOptions& options) {
  if (options.world_size < 1 || options.rank < 0 || options.rank >= options.world_size)
    throw ConfigError("rank " + std::to_string(options.rank) + " of " + std::to_string(options.world_size) +
                      " ranks does not exist");
  if (options.streams < 1 || options.streams > 16)
    throw ConfigError("streams is " + std::to_string(options.streams) + "; it must be from 1 to 16");
}

/// A host name is shown in messages and stands in a line of the roster.
std::string printable(std::string name) {
  for (char& c : name)
    if (c < ' ' || c == 127) c = '?';
  return name.substr(0, 255);
}

/// The connections as they come, until all are there.
class Builder {
 public:
  Builder(const TcpOptions& options, const std::vector<RosterEntry>& roster)
      : options_(options), roster_(roster), sockets_(roster.size()) {
    for (auto& of_peer : sockets_) of_peer.resize(static_cast<std::size_t>(connections()));
  }

  void connect(int to, Deadline deadline) {
    const RosterEntry& entry = roster_[static_cast<std::size_t>(to)];
    const std::string what =
        "connection from rank " + std::to_string(options_.rank) + " to " + describe(entry.name);
    for (int stream = 0; stream < connections(); ++stream)
      for (int attempt = 1; !socket(to, stream); ++attempt) try {
          socket(to, stream) = open(entry, stream, what, deadline);
        } catch (const PeerFailure&) {
          // A rank that is swamped by strangers closes what it cannot serve.
          if (attempt == kAttempts) throw;
        }
  }

  bool arrived(int from, int stream, FileDescriptor fd) {
    if (from <= options_.rank || from >= options_.world_size || stream < 0 || stream >= connections())
      return false;
    if (socket(from, stream)) return false;
    socket(from, stream) = std::move(fd);
    return true;
  }

  [[nodiscard]] std::vector<int> missing() {
    std::vector<int> ranks;
    for (int rank = options_.rank + 1; rank < options_.world_size; ++rank)
      for (int stream = 0; stream < connections(); ++stream)
        if (!socket(rank, stream)) {
          ranks.push_back(rank);
          break;
        }
    return ranks;
  }

  [[nodiscard]] std::unique_ptr<Mesh> finish() {
    auto mesh = std::make_unique<Mesh>();
    mesh->me = roster_[static_cast<std::size_t>(options_.rank)].name;
    mesh->streams = options_.streams;
    mesh->peers.resize(roster_.size());
    for (int rank = 0; rank < options_.world_size; ++rank) {
      if (rank == options_.rank) continue;
      auto peer = std::make_unique<Peer>();
      peer->name = roster_[static_cast<std::size_t>(rank)].name;
      tune_control(socket(rank, 0).get());
      peer->control = std::make_unique<ControlLink>(std::move(socket(rank, 0)));
      for (int stream = 1; stream <= options_.streams; ++stream) {
        tune_data(socket(rank, stream).get());
        peer->data.add(std::move(socket(rank, stream)));
      }
      tune_data(socket(rank, connections() - 1).get());
      peer->messages = std::move(socket(rank, connections() - 1));
      mesh->peers[static_cast<std::size_t>(rank)] = std::move(peer);
    }
    return mesh;
  }

 private:
  static constexpr int kAttempts = 5;

  /// To one peer: control, data, messages.
  [[nodiscard]] int connections() const { return options_.streams + 2; }

  /// A connection that has proven itself.
  [[nodiscard]] FileDescriptor open(const RosterEntry& entry, int stream, const std::string& what,
                                    Deadline deadline) const {
    FileDescriptor fd = connect_to(entry.endpoint, deadline, what);
    const Preamble preamble{Preamble{}.magic, options_.rank, stream, 0};
    if (::send(fd.get(), &preamble, sizeof preamble, MSG_NOSIGNAL) != sizeof preamble)
      throw PeerFailure(errno_message(what, errno));
    authenticate_client(fd.get(), options_.token,
                        purpose_of(entry.nonce, options_.rank, entry.name.rank, stream), deadline);
    return fd;
  }

  FileDescriptor& socket(int rank, int stream) {
    return sockets_[static_cast<std::size_t>(rank)][static_cast<std::size_t>(stream)];
  }

  const TcpOptions& options_;
  const std::vector<RosterEntry>& roster_;
  std::vector<std::vector<FileDescriptor>> sockets_;
};

void accept_all(Builder& builder, Acceptor& acceptor, const std::vector<RosterEntry>& roster,
                const RankName& me, const Failure& failure, Deadline deadline) {
  for (std::vector<int> missing = builder.missing(); !missing.empty(); missing = builder.missing()) {
    failure.check();
    if (deadline.passed()) {
      std::string text;
      for (const int rank : missing)
        text += (text.empty() ? "" : ", ") + describe(roster[static_cast<std::size_t>(rank)].name);
      if (!acceptor.last_refusal().empty()) text += "; a caller was sent away: " + acceptor.last_refusal();
      throw TimeoutError(describe(me) + " waited " + to_string(deadline.timeout()) +
                         " for TCP connections; missing: " + text);
    }
    acceptor.turn(deadline.remaining_ms(20));
  }
}

}  // namespace

std::unique_ptr<Mesh> connect_mesh(const TcpOptions& options, Store& store, const Failure& failure,
                                   Deadline deadline) {
  validate(options);
  const Listener listener = listen_on(options.bind_address);
  const RankName me{options.rank, printable(options.host_name.empty() ? host_name() : options.host_name),
                    ::getpid()};
  const RosterEntry own{listener.endpoint, options.streams, make_nonce(), me};
  const std::vector<RosterEntry> roster = exchange_roster(own, options.world_size, store, deadline);

  Builder builder(options, roster);
  for (int rank = 0; rank < options.rank; ++rank) {
    failure.check();
    builder.connect(rank, deadline);
  }
  Acceptor acceptor(
      listener, options.token, own.nonce, options.rank,
      [&](int from, int stream, FileDescriptor fd) { return builder.arrived(from, stream, std::move(fd)); });
  accept_all(builder, acceptor, roster, me, failure, deadline);
  return builder.finish();
}

}  // namespace ddp::host
