#include "libddp/reducer/reducer.h"

#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/graph_task.h>

#include <ddp/error.h>
#include <ddp/log.h>

#include "libddp/reducer/dtypes.h"

namespace ddp {

/// Lives as long as one backward; tells the reducer how it ended.
class Reducer::EndOfBackward {
 public:
  EndOfBackward(std::weak_ptr<Reducer> reducer, int graph_task)
      : reducer_(std::move(reducer)), graph_task_(graph_task) {}
  EndOfBackward(const EndOfBackward&) = delete;
  EndOfBackward& operator=(const EndOfBackward&) = delete;
  ~EndOfBackward() {
    if (const auto reducer = reducer_.lock()) reducer->abandon(graph_task_);
  }
  void succeeded() const {
    if (const auto reducer = reducer_.lock()) reducer->finish(graph_task_);
  }

 private:
  std::weak_ptr<Reducer> reducer_;
  int graph_task_;
};

std::shared_ptr<Reducer> Reducer::create(std::vector<NamedTensor> parameters,
                                         std::shared_ptr<Communicator> communicator,
                                         const BucketLimits& limits) {
  std::shared_ptr<Reducer> reducer(new Reducer(std::move(parameters), std::move(communicator), limits));
  // Hooks must not keep the reducer alive, nor outlive it in a backward that is still running in another thread.
  reducer->hooks_ =
      std::make_unique<GradientHooks>(reducer->parameters_, [weak = reducer->weak_from_this()](int index) {
        if (const auto self = weak.lock()) self->on_gradient(index);
      });
  return reducer;
}

Reducer::Reducer(std::vector<NamedTensor> parameters, std::shared_ptr<Communicator> communicator,
                 const BucketLimits& limits)
    : communicator_(std::move(communicator)), limits_(limits) {
  for (NamedTensor& parameter : parameters) {
    names_.push_back(std::move(parameter.name));
    parameters_.push_back(std::move(parameter.tensor));
  }
  build_buckets(backward_order(parameters_.size()));
}

Reducer::~Reducer() {
  for (Bucket& bucket : buckets_) bucket.give_up(*communicator_);
}

void Reducer::build_buckets(const std::vector<int>& order) {
  std::vector<GradientShape> shapes;
  for (const at::Tensor& parameter : parameters_)
    shapes.push_back({static_cast<std::size_t>(parameter.numel()), dtype_of(parameter.scalar_type())});
  buckets_.clear();
  place_.assign(parameters_.size(), {});
  for (BucketLayout& layout : plan_buckets(shapes, order, limits_)) {
    for (std::size_t slot = 0; slot < layout.slots.size(); ++slot)
      place_[layout.slots[slot].parameter] = {static_cast<int>(buckets_.size()), static_cast<int>(slot)};
    buckets_.emplace_back(std::move(layout), *communicator_, parameters_);
  }
}

void Reducer::prepare() {
  const std::scoped_lock lock(mutex_);
  if (suspended_ > 0 || !c10::GradMode::is_enabled()) return;
  if (const int lost = hooks_->first_lost(parameters_); lost >= 0)
    throw Error("rank " + std::to_string(communicator_->rank()) + ": parameter '" +
                names_[static_cast<std::size_t>(lost)] +
                "' was frozen, moved to another dtype or given other memory (torch::load, set_data) after "
                "the module was "
                "wrapped, so its gradient would not be averaged: do that first, then wrap");
  if (graph_task_ != -1) abandon_iteration();
  if (!rebuild_order_.empty()) rebuild_in_arrival_order();
}

void Reducer::rebuild_in_arrival_order() {
  std::vector<std::int32_t> order(rebuild_order_.begin(), rebuild_order_.end());
  communicator_->broadcast({order.data(), order.size(), DType::kInt32}, 0);
  order_.assign(order.begin(), order.end());
  build_buckets(order_);
  rebuild_order_.clear();
}

void Reducer::on_gradient(int index) {
  const std::scoped_lock lock(mutex_);
  if (suspended_ > 0) return;
  const int task = torch::autograd::get_current_graph_task_id();
  if (task != graph_task_) open_iteration(task);
  if (arrived_[index] != 0)
    throw Error(
        "the gradient of parameter '" + names_[index] +
        "' arrived twice in one backward; re-entrant backward (activation checkpointing) is not supported");
  arrived_[index] = 1;
  arrival_order_.push_back(index);
  buckets_[place_[index].first].mark_ready();
  const double scale = 1.0 / communicator_->size();
  for (; launched_ < buckets_.size() && buckets_[launched_].ready(); ++launched_)
    buckets_[launched_].launch(parameters_, scale, *communicator_, iteration_);
}

void Reducer::open_iteration(int graph_task) {
  if (graph_task_ != -1) abandon_iteration();
  graph_task_ = graph_task;
  ++iteration_;
  launched_ = 0;
  arrived_.assign(parameters_.size(), 0);
  arrival_order_.clear();
  for (Bucket& bucket : buckets_) bucket.reset();
  // The engine keeps the callback for as long as this backward lasts, and calls it only when it succeeds.
  torch::autograd::Engine::get_default_engine().queue_callback(
      [end = std::make_shared<EndOfBackward>(weak_from_this(), graph_task)] { end->succeeded(); });
}

/// Whoever catches what backward threw and zeroes the gradients must not do so in memory that is still being reduced.
/// Nobody is waited for here: the reductions end before the next iteration begins (prepare, open_iteration).
void Reducer::abandon(int graph_task) noexcept {
  const std::scoped_lock lock(mutex_);
  if (graph_task != graph_task_) return;
  try {
    for (Bucket& bucket : buckets_) bucket.release_gradients(parameters_);
  } catch (const std::exception& error) {
    log::warn("gradients are undefined after a backward that failed", {{"why", error.what()}});
  }
}

void Reducer::finish(int graph_task) {
  const std::scoped_lock lock(mutex_);
  if (graph_task != graph_task_) return;
  if (launched_ != buckets_.size()) {
    const std::string missing = missing_gradients();
    abandon_iteration();
    throw Error(missing);
  }
  graph_task_ = -1;
  for (Bucket& bucket : buckets_) bucket.wait();
  if (order_.empty())
    rebuild_order_ = arrival_order_;  // a backward that fails before the rebuild must not change it
}

/// A backward threw, here or before its last gradient: its reductions must end before their memory is used again.
void Reducer::abandon_iteration() {
  graph_task_ = -1;
  for (Bucket& bucket : buckets_) bucket.wait();
}

std::string Reducer::missing_gradients() const {
  constexpr std::size_t kShown = 8;
  std::string list;
  std::size_t count = 0;
  for (std::size_t i = 0; i < names_.size(); ++i) {
    if (arrived_[i] != 0) continue;
    if (++count <= kShown) list += (count > 1 ? ", '" : "'") + names_[i] + "'";
  }
  if (count > kShown) list += ", ...";
  return "rank " + std::to_string(communicator_->rank()) + ": " + std::to_string(count) + " of " +
         std::to_string(names_.size()) + " parameters got no gradient in this backward: " + list +
         ". Every parameter of a wrapped module must take part in the loss on every rank: use it, or set "
         "requires_grad_(false) "
         "on it before wrapping. (Activation checkpointing in several segments is a backward for each, and "
         "not supported.)";
}

void Reducer::suspend() {
  const std::scoped_lock lock(mutex_);
  ++suspended_;
}

void Reducer::resume() {
  const std::scoped_lock lock(mutex_);
  --suspended_;
}

bool Reducer::sync() const {
  const std::scoped_lock lock(mutex_);
  return suspended_ == 0;
}

std::size_t Reducer::bucket_count() const {
  const std::scoped_lock lock(mutex_);
  return buckets_.size();
}

BucketOrder Reducer::order() const {
  const std::scoped_lock lock(mutex_);
  return order_.empty() ? BucketOrder{rebuild_order_, false} : BucketOrder{order_, true};
}

void Reducer::set_order(BucketOrder order) {
  const std::scoped_lock lock(mutex_);
  if (graph_task_ != -1) throw Error("buckets cannot be rebuilt during backward");
  build_buckets(order.rebuilt ? order.parameters : backward_order(parameters_.size()));
  order_ = order.rebuilt ? order.parameters : std::vector<int>();
  rebuild_order_ = order.rebuilt ? std::vector<int>() : order.parameters;
}

}  // namespace ddp
