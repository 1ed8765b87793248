// Averages gradients over ranks while backward runs.
//
// 1. A hook on each gradient accumulator reports an arrival. The first one of a backward opens an iteration and queues
//    a callback that the autograd engine runs when that backward has finished.
// 2. When the last gradient of a bucket has arrived, and every bucket before it has been launched, the bucket is
//    gathered (one pass: scale by 1/N, cast, copy into communicator memory), .grad becomes a view of it, and its
//    all-reduce starts. Buckets are launched in index order, so that all ranks call the same collectives in the same
//    order.
// 3. The callback checks that every parameter got a gradient, waits for the reductions and closes the iteration: when
//    backward() returns, .grad holds the mean.
// 4. Before the second iteration, buckets are rebuilt once in the order in which gradients arrived on rank 0.
//
// Source of the scheme: Li et al., "PyTorch Distributed: Experiences on Accelerating Data Parallel Training",
// VLDB 2020.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <ddp/communicator.h>

#include "libddp/reducer/bucket.h"
#include "libddp/reducer/gradient_hooks.h"

namespace ddp {

/// A parameter or buffer, and what the module calls it.
struct NamedTensor {
  std::string name;
  at::Tensor tensor;
};

/// Which parameters share buckets, as far as backwards have told.
struct BucketOrder {
  std::vector<int> parameters;  ///< in the order of arrival; empty before the first complete backward
  bool rebuilt = false;  ///< buckets are in this order already; else they will be at the next prepare()
};

/// prepare(), suspend() and resume() belong to the training thread; hooks run in whichever thread runs backward. Make
/// it with create().
class Reducer : public std::enable_shared_from_this<Reducer> {
 public:
  [[nodiscard]] static std::shared_ptr<Reducer> create(std::vector<NamedTensor> parameters,
                                                       std::shared_ptr<Communicator> communicator,
                                                       const BucketLimits& limits);

  ~Reducer();

  /// Before each forward that will be followed by backward: rebuilds buckets when it is time (a collective),
  /// and clears away what a backward that threw has left.
  void prepare();
  /// Between the two gradients accumulate locally, as under no_sync. Pairs may nest and overlap.
  void suspend();
  void resume();
  [[nodiscard]] bool sync() const;

  [[nodiscard]] std::size_t bucket_count() const;
  [[nodiscard]] std::size_t parameter_count() const { return parameters_.size(); }
  /// What a restart needs to go on with the same buckets; set_order() takes it up again.
  [[nodiscard]] BucketOrder order() const;
  void set_order(BucketOrder order);

 private:
  Reducer(std::vector<NamedTensor> parameters, std::shared_ptr<Communicator> communicator,
          const BucketLimits& limits);

  void on_gradient(int index);
  void open_iteration(int graph_task);
  void finish(int graph_task);
  void build_buckets(const std::vector<int>& order);
  void rebuild_in_arrival_order();
  void abandon_iteration();
  class EndOfBackward;
  void abandon(int graph_task) noexcept;
  [[nodiscard]] std::string missing_gradients() const;

  std::vector<std::string> names_;
  std::vector<at::Tensor> parameters_;
  std::shared_ptr<Communicator> communicator_;
  BucketLimits limits_;

  mutable std::mutex mutex_;
  std::vector<Bucket> buckets_;
  std::vector<std::pair<int, int>> place_;  ///< parameter -> (bucket, slot)
  std::vector<char> arrived_;
  std::vector<int> arrival_order_;
  std::vector<int> order_;  ///< as rebuilt
  std::size_t launched_ = 0;
  std::uint64_t iteration_ = 0;  ///< counts backwards with reduction: the tag of their collectives
  int graph_task_ = -1;          ///< the backward that is being reduced, or -1
  int suspended_ = 0;
  std::vector<int> rebuild_order_;  ///< arrival order of the first complete backward, until the rebuild
  std::unique_ptr<GradientHooks> hooks_;
};

}  // namespace ddp
