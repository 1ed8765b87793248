#include "libddp/comm/host/shm/local_link.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <new>
#include <sstream>

#include <ddp/error.h>
#include <ddp/log.h>

#include "libddp/comm/host/shm/fd_passing.h"
#include "libddp/rendezvous/auth.h"

namespace ddp::host {
namespace {

// --- Step 1: what a rank publishes -----------------------------------------------------------------------------------

struct Card {
  std::string place;  ///< boot id and network namespace; empty: cannot or must not share
  std::string host;
  int pid = 0;
  std::string socket;
  std::string secret;  ///< only ranks that read the job's store know it
};

std::string random_hex(std::size_t bytes) {
  std::vector<std::uint8_t> raw(bytes);
  random_bytes(raw);
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const std::uint8_t byte : raw) text += {kDigits[byte >> 4], kDigits[byte & 15]};
  return text;
}

/// Equal for two processes exactly if they run on one kernel and see the same abstract Unix sockets.
std::string this_place(const std::string& host_id) {
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  struct stat info {};
  if (boot.empty() || ::stat("/proc/self/ns/net", &info) != 0) return "";
  return boot + "/" + std::to_string(info.st_dev) + ":" + std::to_string(info.st_ino) + "/" + host_id;
}

std::string encode(const Card& card) {
  return card.place + '\n' + card.host + '\n' + std::to_string(card.pid) + '\n' + card.socket + '\n' +
         card.secret + '\n';
}

Card decode(const std::string& text, int rank) {
  std::istringstream in(text);
  Card card;
  std::string pid;
  if (!std::getline(in, card.place) || !std::getline(in, card.host) || !std::getline(in, pid) ||
      !std::getline(in, card.socket) || !std::getline(in, card.secret) || pid.empty() || pid.size() > 9 ||
      pid.find_first_not_of("0123456789") != std::string::npos)
    throw RendezvousError("rank " + std::to_string(rank) + " published an unreadable description of itself");
  card.pid = std::stoi(pid);
  return card;
}

std::vector<Card> collect_cards(const LocalLinkOptions& options, const Card& mine, Store& store,
                                Deadline deadline) {
  store.set("host/" + std::to_string(options.rank), encode(mine), deadline);
  std::vector<Card> cards(static_cast<std::size_t>(options.world_size));
  for (int r = 0; r < options.world_size; ++r) {
    try {
      cards[static_cast<std::size_t>(r)] =
          r == options.rank ? mine : decode(store.get("host/" + std::to_string(r), deadline), r);
    } catch (const TimeoutError&) {
      std::string missing;
      for (int m = r; m < options.world_size; ++m)
        if (!store.try_get("host/" + std::to_string(m), Deadline::in(std::chrono::seconds(2))))
          missing += (missing.empty() ? "" : ", ") + std::to_string(m);
      throw TimeoutError("rank " + std::to_string(options.rank) + " (" + options.host_name + "): ranks " +
                         missing + " of " + std::to_string(options.world_size) +
                         " did not come to form the communicator within " + to_string(deadline.timeout()));
    }
  }
  return cards;
}

// --- Steps 3 to 5 ----------------------------------------------------------------------------------------------------

struct Shared {
  Mapping control;
  FileDescriptor control_fd;
  FileDescriptor lock_fd;
  std::vector<Mapping> arenas;  ///< by candidate; empty at this rank's own place
};

Mapping map_arena(const FileDescriptor& fd) {
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0 || info.st_size <= 0)
    throw Error("a rank passed something that is no memory");
  return Mapping::shared(fd.get(), static_cast<std::size_t>(info.st_size), true,
                         "shared memory of another rank of this host");
}

bool try_map(Mapping& arena, const FileDescriptor& fd) {
  try {
    arena = map_arena(fd);
    return true;
  } catch (const Error& error) {
    log::warn("cannot map another rank's memory; using TCP instead", {{"why", error.what()}});
    return false;
  }
}

/// A description of its own (not a duplicate), so that its locks are this rank's alone.
FileDescriptor reopen(int fd) {
  FileDescriptor own(::open(("/proc/self/fd/" + std::to_string(fd)).c_str(), O_RDWR | O_CLOEXEC));
  if (!own) throw Error(errno_message("cannot reopen the control segment through /proc/self/fd", errno));
  return own;
}

void take_lock(const FileDescriptor& fd, int slot) {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = slot;
  lock.l_len = 1;
  if (::fcntl(fd.get(), F_OFD_SETLK, &lock) != 0)
    throw Error(errno_message("cannot lock a byte of the control segment", errno));
}

/// Before anybody can wait for this rank: a rank without its lock counts as dead.
void take_lock(Shared& shared, std::size_t slot) {
  shared.lock_fd = reopen(shared.control_fd.get());
  take_lock(shared.lock_fd, static_cast<int>(slot));
}

class Leader {
 public:
  Leader(const std::vector<int>& candidates, FileDescriptor listener, const Card& card)
      : candidates_(candidates),
        listener_(std::move(listener)),
        secret_(card.secret),
        peers_(candidates.size()),
        arenas_(candidates.size()) {}

  /// Makes the control segment, lets the others in and returns which candidates mapped everything.
  std::vector<int> run(Shared& shared, int own_arena, Deadline deadline) {
    make_control(shared);
    take_lock(shared, 0);
    for (std::size_t missing = candidates_.size() - 1; missing > 0;) missing -= admit(deadline);
    for (std::size_t i = 1; i < candidates_.size(); ++i) hand_out(i, shared, own_arena);
    std::vector<int> members{candidates_[0]};
    for (std::size_t i = 1; i < candidates_.size(); ++i) {
      const bool mapped = try_map(shared.arenas[i], arenas_[i]);
      const auto answer =
          receive_message(peers_[i], deadline, "waiting for a rank of this host to map shared memory");
      if (mapped && answer.number == 1) members.push_back(candidates_[i]);
    }
    return members;
  }

 private:
  void make_control(Shared& shared) {
    const int ranks = static_cast<int>(candidates_.size());
    shared.control_fd = FileDescriptor(::memfd_create("ddp-control", MFD_CLOEXEC));
    if (!shared.control_fd ||
        ::ftruncate(shared.control_fd.get(), static_cast<off_t>(Control::bytes(ranks))) != 0)
      throw Error(errno_message("cannot create the control segment (memfd_create)", errno));
    shared.control = Mapping::shared(shared.control_fd.get(), Control::bytes(ranks), true, "control segment");
    auto* control = new (shared.control.data()) Control;
    for (int i = 0; i < ranks; ++i) new (&control->rank(i)) RankControl;
    random_bytes({reinterpret_cast<std::uint8_t*>(&nonce_), sizeof nonce_});
    control->nonce = nonce_;
  }

  /// One connection; strangers are sent away and do not count.
  std::size_t admit(Deadline deadline) {
    FileDescriptor peer = accept_until(listener_, deadline, "waiting for " + missing() + " to share memory");
    try {
      const Deadline patience = Deadline::in(std::chrono::seconds(5)).min(deadline);
      authenticate_server(peer.get(), secret_, "shared memory", patience);
      Received hello = receive_message(peer, patience, "waiting for a rank's memory");
      const auto place =
          std::find(candidates_.begin() + 1, candidates_.end(), static_cast<int>(hello.number));
      const auto i = static_cast<std::size_t>(place - candidates_.begin());
      if (place == candidates_.end() || peers_[i].valid() || !hello.fd.valid()) return 0;
      peers_[i] = std::move(peer);
      arenas_[i] = std::move(hello.fd);
      return 1;
    } catch (const Error& error) {
      log::warn("refused a connection to shared memory", {{"why", error.what()}});
      return 0;
    }
  }

  std::string missing() const {
    std::string text;
    for (std::size_t i = 1; i < candidates_.size(); ++i)
      if (!peers_[i].valid()) text += (text.empty() ? "rank " : ", ") + std::to_string(candidates_[i]);
    return text;
  }

  void hand_out(std::size_t to, const Shared& shared, int own_arena) {
    send_message(peers_[to], nonce_, shared.control_fd.get());
    for (std::size_t i = 0; i < candidates_.size(); ++i)
      send_message(peers_[to], i, i == 0 ? own_arena : arenas_[i].get());
  }

  const std::vector<int>& candidates_;
  FileDescriptor listener_;
  const std::string& secret_;
  std::vector<FileDescriptor> peers_;
  std::vector<FileDescriptor> arenas_;
  std::uint64_t nonce_ = 0;
};

/// Steps 3 and 5 of a candidate that does not lead.
void join_leader(const std::vector<int>& candidates, int rank, const Card& leader, int own_arena,
                 Shared& shared, Deadline deadline) {
  const FileDescriptor socket = connect_abstract(leader.socket);
  authenticate_client(socket.get(), leader.secret, "shared memory", deadline);
  send_message(socket, static_cast<std::uint64_t>(rank), own_arena);
  const std::string what = "waiting for rank " + std::to_string(candidates[0]) + " to share memory";
  Received control = receive_message(socket, deadline, what);
  bool mapped = true;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    Received arena = receive_message(socket, deadline, what);
    if (candidates[i] != rank) mapped = try_map(shared.arenas[i], arena.fd) && mapped;
  }
  try {
    shared.control = Mapping::shared(control.fd.get(), Control::bytes(static_cast<int>(candidates.size())),
                                     true, "control segment");
    const auto& header = *reinterpret_cast<const Control*>(shared.control.data());
    mapped = mapped && header.magic == kControlMagic && header.nonce == control.number;
    shared.control_fd = std::move(control.fd);
    take_lock(shared, static_cast<std::size_t>(std::find(candidates.begin(), candidates.end(), rank) -
                                               candidates.begin()));
  } catch (const Error& error) {
    log::warn("cannot map the control segment; using TCP instead", {{"why", error.what()}});
    mapped = false;
  }
  send_message(socket, mapped ? 1 : 0);
}

// --- Step 6 ----------------------------------------------------------------------------------------------------------

std::string join(const std::vector<int>& ranks) {
  std::string text;
  for (const int r : ranks) text += std::to_string(r) + ' ';
  return text;
}

std::vector<int> parse(const std::string& text, const std::vector<int>& candidates) {
  std::istringstream in(text);
  std::vector<int> ranks;
  for (int r = 0; in >> r;)
    if (std::find(candidates.begin(), candidates.end(), r) != candidates.end()) ranks.push_back(r);
  return ranks;
}

/// Ranks of each place, ascending; a rank without a place is alone.
std::vector<std::vector<int>> candidates_of(const std::vector<Card>& cards) {
  std::vector<std::vector<int>> groups;
  for (int r = 0; r < static_cast<int>(cards.size()); ++r) {
    const std::string& place = cards[static_cast<std::size_t>(r)].place;
    const auto group = std::find_if(groups.begin(), groups.end(), [&](const auto& g) {
      return !place.empty() && cards[static_cast<std::size_t>(g[0])].place == place;
    });
    if (group == groups.end())
      groups.push_back({r});
    else
      group->push_back(r);
  }
  return groups;
}

/// Splits candidates into those that share and those that are alone.
void settle(const std::vector<int>& candidates, Store& store, Deadline deadline,
            std::vector<std::vector<int>>& hosts) {
  if (candidates.size() == 1) {
    hosts.push_back(candidates);
    return;
  }
  std::vector<int> members;
  try {
    members = parse(store.get("host/members/" + std::to_string(candidates[0]), deadline), candidates);
  } catch (const TimeoutError&) {
    throw TimeoutError("rank " + std::to_string(candidates[0]) + " did not say within " +
                       to_string(deadline.timeout()) + " which of ranks " + join(candidates) +
                       "share memory with it: it, or one of them, has died or hangs");
  }
  for (const int r : candidates)
    if (std::find(members.begin(), members.end(), r) == members.end()) hosts.push_back({r});
  hosts.push_back(std::move(members));
}

LocalMembers make_members(std::vector<int> ranks, int rank, const std::vector<int>& candidates,
                          std::shared_ptr<Arena> arena, Shared shared) {
  LocalMembers members;
  members.ranks = std::move(ranks);
  members.arena = std::move(arena);
  const bool alone = members.ranks.size() == 1;
  for (std::size_t i = 0; i < members.ranks.size(); ++i) {
    const bool self = members.ranks[i] == rank;
    if (self) members.index = static_cast<int>(i);
    const auto slot = static_cast<std::size_t>(
        std::find(candidates.begin(), candidates.end(), members.ranks[i]) - candidates.begin());
    members.slots.push_back(static_cast<int>(slot));
    members.bases.push_back(self ? members.arena->base() : shared.arenas[slot].data());
    if (!self) members.mappings.push_back(std::move(shared.arenas[slot]));
  }
  if (alone) return members;
  members.control_mapping = std::move(shared.control);
  members.lock_fd = std::move(shared.lock_fd);
  return members;
}

}  // namespace

LocalLink link_local_ranks(const LocalLinkOptions& options, Store& store, Deadline deadline) {
  LocalLink link;
  auto arena = std::make_shared<Arena>(options.arena_reserved);
  const Card mine{options.shared_memory && options.world_size > 1 ? this_place(options.host_id) : "",
                  options.host_name, ::getpid(), "ddp-" + random_hex(16), random_hex(16)};
  FileDescriptor listener;
  if (!mine.place.empty()) listener = listen_abstract(mine.socket);
  const std::vector<Card> cards = collect_cards(options, mine, store, deadline);
  for (int r = 0; r < options.world_size; ++r) {
    const Card& card = cards[static_cast<std::size_t>(r)];
    link.topology.names.push_back({r, card.host, card.pid});
  }
  const auto groups = candidates_of(cards);
  const auto& candidates = *std::find_if(groups.begin(), groups.end(), [&](const auto& g) {
    return std::find(g.begin(), g.end(), options.rank) != g.end();
  });

  Shared shared;
  shared.arenas.resize(candidates.size());
  if (candidates.size() > 1 && candidates[0] == options.rank) {
    Leader leader(candidates, std::move(listener), mine);
    const std::vector<int> members = leader.run(shared, arena->fd(), deadline);
    store.set("host/members/" + std::to_string(options.rank), join(members), deadline);
  } else if (candidates.size() > 1) {
    join_leader(candidates, options.rank, cards[static_cast<std::size_t>(candidates[0])], arena->fd(), shared,
                deadline);
  }

  for (const auto& group : groups) settle(group, store, deadline, link.topology.hosts);
  std::sort(link.topology.hosts.begin(), link.topology.hosts.end());
  const auto& host =
      *std::find_if(link.topology.hosts.begin(), link.topology.hosts.end(),
                    [&](const auto& h) { return std::find(h.begin(), h.end(), options.rank) != h.end(); });
  link.members = make_members(host, options.rank, candidates, std::move(arena), std::move(shared));
  return link;
}

bool is_alive(const FileDescriptor& lock_fd, int slot) {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = slot;
  lock.l_len = 1;
  return ::fcntl(lock_fd.get(), F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

}  // namespace ddp::host
