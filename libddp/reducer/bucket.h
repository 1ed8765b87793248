// A bucket at work: communicator memory for several gradients, a view of it per parameter, and the reduction in flight.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <vector>

#include <ddp/communicator.h>

#include "libddp/reducer/bucket_plan.h"

namespace ddp {

/// Used by one thread at a time (the reducer's lock).
class Bucket {
 public:
  /// Allocates from `communicator`; `parameters` are all of the wrapper's, indexed by the layout's slots.
  Bucket(BucketLayout layout, Communicator& communicator, std::span<const at::Tensor> parameters);

  [[nodiscard]] const BucketLayout& layout() const { return layout_; }
  /// The whole bucket as a flat tensor.
  [[nodiscard]] const at::Tensor& flat() const { return flat_; }
  /// Slot s seen with its parameter's shape and strides: what becomes .grad.
  [[nodiscard]] const at::Tensor& view(std::size_t slot) const { return views_[slot]; }

  /// A gradient has arrived. Returns true when it was the last one missing.
  bool mark_ready() { return --missing_ == 0; }
  [[nodiscard]] bool ready() const { return missing_ == 0; }

  /// Gathers the parameters' gradients with `scale`, makes .grad the views, and starts the all-reduce.
  void launch(std::span<const at::Tensor> parameters, double scale, Communicator& communicator,
              std::uint64_t iteration);
  /// Waits for the reduction, if one runs. Rethrows its error.
  void wait();
  /// While a reduction runs: gives the parameters gradients of their own, zero, so that nobody touches its memory.
  void release_gradients(std::span<const at::Tensor> parameters);
  /// Before the bucket's memory goes while a reduction may still write there: ends it on all ranks with an error.
  void give_up(Communicator& communicator) noexcept;
  /// Forgets arrivals: a new iteration begins. The reduction must not be running.
  void reset() { missing_ = layout_.slots.size(); }

 private:
  BucketLayout layout_;
  at::Tensor flat_;
  std::vector<at::Tensor> views_;
  std::size_t missing_ = 0;
  Work work_;
};

}  // namespace ddp
