#include <ddp/data/resumable_sampler.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <random>
#include <sstream>

#include <ddp/error.h>

namespace ddp::data {
namespace {

constexpr const char* kMagic = "ddp-sampler";
constexpr int kVersion = 1;

/// Uniform in [0, bound): rejection, because std::uniform_int_distribution differs between standard libraries.
std::uint64_t below(std::mt19937_64& generator, std::uint64_t bound) {
  const std::uint64_t limit = std::numeric_limits<std::uint64_t>::max() / bound * bound;
  std::uint64_t value = generator();
  while (value >= limit) value = generator();
  return value % bound;
}

void shuffle(std::vector<std::int64_t>& order, std::uint64_t seed, std::uint64_t epoch) {
  std::seed_seq sequence{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32),
                         static_cast<std::uint32_t>(epoch), static_cast<std::uint32_t>(epoch >> 32)};
  std::mt19937_64 generator(sequence);
  for (std::size_t place = order.size(); place-- > 1;)
    std::swap(order[place], order[below(generator, place + 1)]);
}

}  // namespace

ResumableSampler::ResumableSampler(std::int64_t size, int rank, int world_size, const SamplerOptions& options)
    : size_(size), rank_(rank), world_size_(world_size), options_(options) {
  if (size < 1)
    throw ConfigError("a sampler needs at least one sample; the data set has " + std::to_string(size));
  if (world_size < 1 || rank < 0 || rank >= world_size)
    throw ConfigError("sampler: rank " + std::to_string(rank) + " is not in a world of " +
                      std::to_string(world_size));
  if (options.uneven == UnevenSplit::kDrop && size < world_size)
    throw ConfigError("sampler: " + std::to_string(size) + " samples cannot be dealt to " +
                      std::to_string(world_size) + " ranks when the rest is dropped");
  deal();
}

void ResumableSampler::deal() {
  order_.resize(static_cast<std::size_t>(size_));
  std::iota(order_.begin(), order_.end(), std::int64_t{0});
  if (options_.shuffle) shuffle(order_, options_.seed, static_cast<std::uint64_t>(epoch_));
}

std::int64_t ResumableSampler::samples_per_epoch() const {
  switch (options_.uneven) {
    case UnevenSplit::kPad:
      return (size_ + world_size_ - 1) / world_size_;
    case UnevenSplit::kDrop:
      return size_ / world_size_;
    case UnevenSplit::kKeep:
      break;
  }
  return size_ / world_size_ + (rank_ < size_ % world_size_ ? 1 : 0);
}

std::vector<std::int64_t> ResumableSampler::next(std::int64_t count) {
  if (count < 0) throw Error("sampler: a batch of " + std::to_string(count) + " samples was asked for");
  const std::int64_t end = position_ + std::min(count, samples_per_epoch() - position_);
  std::vector<std::int64_t> batch;
  batch.reserve(static_cast<std::size_t>(end - position_));
  for (; position_ < end; ++position_)
    batch.push_back(order_[static_cast<std::size_t>((position_ * world_size_ + rank_) % size_)]);
  return batch;
}

void ResumableSampler::start_epoch(std::int64_t epoch) {
  if (epoch < 0) throw Error("sampler: epoch " + std::to_string(epoch) + " was asked for");
  epoch_ = epoch;
  position_ = 0;
  deal();
}

std::string ResumableSampler::save_state() const {
  std::ostringstream text;
  text << kMagic << ' ' << kVersion << ' ' << size_ << ' ' << options_.shuffle << ' ' << options_.seed << ' '
       << static_cast<int>(options_.uneven) << ' ' << world_size_ << ' ' << epoch_ << ' ' << position_;
  return text.str();
}

void ResumableSampler::load_state(std::string_view state) {
  std::istringstream text{std::string(state)};
  std::string magic;
  int version = 0, uneven = 0, world = 0;
  std::int64_t size = 0, epoch = 0, position = 0;
  std::uint64_t seed = 0;
  bool shuffled = false;
  text >> magic >> version >> size >> shuffled >> seed >> uneven >> world >> epoch >> position;
  const bool complete = text && (text >> std::ws).eof();
  // Nobody stops behind the end of an epoch, which gives each rank its share and one more for evenness at the most.
  const bool possible =
      world >= 1 && epoch >= 0 && position >= 0 && size >= 0 && position <= size / world + 1;
  if (!complete || magic != kMagic || version != kVersion || !possible)
    throw CorruptCheckpoint("not the state of a ResumableSampler: '" + std::string(state.substr(0, 60)) +
                            "'");
  if (size != size_ || shuffled != options_.shuffle || seed != options_.seed ||
      uneven != static_cast<int>(options_.uneven))
    throw ConfigError("the sampler was saved with size " + std::to_string(size) + ", seed " +
                      std::to_string(seed) + " and other options than this one (size " +
                      std::to_string(size_) + ", seed " + std::to_string(options_.seed) +
                      "): the rest of its epoch cannot be dealt");
  const std::int64_t consumed = position * world;
  if (consumed % world_size_ != 0)
    throw ConfigError("the sampler stopped after " + std::to_string(consumed) + " samples on " +
                      std::to_string(world) + " ranks, which cannot be dealt evenly to " +
                      std::to_string(world_size_));
  epoch_ = epoch;
  deal();
  position_ = std::min(consumed / world_size_, samples_per_epoch());
}

}  // namespace ddp::data
