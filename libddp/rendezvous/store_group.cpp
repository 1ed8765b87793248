// Ranks that exchange bytes by way of a store: round n of rank r is the key "<n>/<r>".
#include <ddp/error.h>
#include <ddp/rendezvous.h>

#include <utility>

namespace ddp {
namespace {

/// How long a rank may be gone before those who wait for it notice.
constexpr std::chrono::milliseconds kSlice{200};

class StoreGroup final : public Group {
 public:
  StoreGroup(std::shared_ptr<Store> store, int rank, int size, CheckPeer check_peer)
      : store_(std::move(store)), rank_(rank), size_(size), check_peer_(std::move(check_peer)) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  std::vector<std::string> exchange(std::string_view bytes, Deadline deadline) override {
    const std::uint64_t round = ++round_;
    store_->set(key(round, rank_), bytes, deadline);
    std::vector<std::string> all;
    for (int r = 0; r < size_; ++r) all.push_back(r == rank_ ? std::string(bytes) : from(round, r, deadline));
    // Whoever came to this round has read all of the one before the last.
    if (round > 2) store_->erase(key(round - 2, rank_), deadline);
    return all;
  }

 private:
  /// What rank `r` gives. A rank that has given it may leave at once, so the store is asked once more before its absence
  /// counts.
  std::string from(std::uint64_t round, int r, Deadline deadline) {
    for (;;) {
      try {
        return store_->get(key(round, r), check_peer_ ? Deadline::in(kSlice).min(deadline) : deadline);
      } catch (const TimeoutError&) {
        if (deadline.passed())
          throw TimeoutError("rank " + std::to_string(rank_) + ": " + missing(round, r) +
                             " did not come to exchange #" + std::to_string(round) + " within " +
                             to_string(deadline.timeout()));
      }
      try {
        check_peer_(r);
      } catch (const Error&) {
        if (auto given = store_->try_get(key(round, r), deadline)) return *given;
        throw;
      }
    }
  }

  static std::string key(std::uint64_t round, int rank) {
    return std::to_string(round) + "/" + std::to_string(rank);
  }

  std::string missing(std::uint64_t round, int from) {
    std::string text = "rank";
    for (int r = from; r < size_; ++r)
      if (r != rank_ && !store_->try_get(key(round, r), Deadline::in(std::chrono::seconds(1))))
        text += " " + std::to_string(r);
    return text;
  }

  std::shared_ptr<Store> store_;
  int rank_;
  int size_;
  CheckPeer check_peer_;
  std::uint64_t round_ = 0;
};

}  // namespace

std::shared_ptr<Group> make_store_group(std::shared_ptr<Store> store, int rank, int world_size,
                                        CheckPeer check_peer) {
  if (world_size == 1) return std::make_shared<SingleGroup>();
  return std::make_shared<StoreGroup>(std::move(store), rank, world_size, std::move(check_peer));
}

}  // namespace ddp
