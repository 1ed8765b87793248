// Deals the samples of a data set to ranks: shuffled the same way on every platform, and able to go on
// exactly where it stopped.
//
//   ddp::data::ResumableSampler sampler(corpus.size(), context, {.seed = 1});
//   for (auto batch = sampler.next(32); !batch.empty(); batch = sampler.next(32)) train(batch);
//   sampler.start_epoch(sampler.epoch() + 1);
//
// Epoch e's order is the Fisher-Yates shuffle of 0..size-1, from the last place to the first, each place p
// swapped with u mod (p + 1), where u comes from std::mt19937_64 seeded by std::seed_seq{seed low, seed high,
// epoch low, epoch high} and values above the largest multiple of p + 1 are drawn again: every step is fixed
// by the C++ standard. Rank r takes places r, r + N, r + 2N, ... One thread at a time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <ddp/context.h>
#include <ddp/stateful.h>

namespace ddp::data {

/// What happens when the world size does not divide the size.
enum class UnevenSplit {
  /// The first samples are dealt again at the end, so that all ranks get the same number (PyTorch's default).
  kPad,
  kDrop,  ///< the last size mod N samples of the epoch are left out (PyTorch's drop_last)
  kKeep,  ///< nothing is added or left out: the first ranks get one more
};

struct SamplerOptions {
  bool shuffle = true;
  std::uint64_t seed = 0;
  UnevenSplit uneven = UnevenSplit::kPad;
};

class ResumableSampler : public Stateful {
 public:
  /// Throws ConfigError for a size below 1, or one that kDrop leaves nothing of, and for a rank outside the world.
  ResumableSampler(std::int64_t size, int rank, int world_size, const SamplerOptions& options = {});
  ResumableSampler(std::int64_t size, const Context& context, const SamplerOptions& options = {})
      : ResumableSampler(size, context.rank(), context.world_size(), options) {}

  /// Up to `count` indices in [0, size), fewer at the end of the epoch, none after it. Counted as consumed. Throws
  /// Error for a negative count.
  [[nodiscard]] std::vector<std::int64_t> next(std::int64_t count);
  /// Shuffles anew and begins at position 0. Throws Error for a negative epoch.
  void start_epoch(std::int64_t epoch);

  [[nodiscard]] std::int64_t epoch() const { return epoch_; }
  /// Samples consumed by this rank in this epoch.
  [[nodiscard]] std::int64_t position() const { return position_; }
  /// Samples this rank gets per epoch.
  [[nodiscard]] std::int64_t samples_per_epoch() const;

  [[nodiscard]] std::string save_state() const override;
  /// Throws CorruptCheckpoint for bytes that are no sampler state, ConfigError when size, seed or options differ from
  /// this sampler's, or when the world size differs and the position cannot be dealt evenly to the new one.
  void load_state(std::string_view state) override;

 private:
  void deal();

  std::int64_t size_;
  int rank_;
  int world_size_;
  SamplerOptions options_;
  std::int64_t epoch_ = 0;
  std::int64_t position_ = 0;
  std::vector<std::int64_t> order_;  ///< of the whole data set, this epoch
};

}  // namespace ddp::data
