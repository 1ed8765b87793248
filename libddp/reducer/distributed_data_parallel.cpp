#include <ddp/distributed_data_parallel.h>

#include <c10/core/GradMode.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <sstream>
#include <unordered_set>

#include <ddp/error.h>

#include "libddp/reducer/module_sync.h"
#include "libddp/reducer/reducer.h"

namespace ddp {
namespace {

/// Named parameters in registration order; a tensor that several modules share is listed once, under its first name.
std::vector<NamedTensor> distinct_parameters(const torch::nn::Module& module) {
  std::vector<NamedTensor> result;
  std::unordered_set<const c10::TensorImpl*> seen;
  for (const auto& item : module.named_parameters()) {
    if (item.value().defined() && seen.insert(item.value().unsafeGetTensorImpl()).second)
      result.push_back({item.key(), item.value()});
  }
  return result;
}

std::size_t mebibytes(double value, const char* name) {
  if (!(value > 0) || !std::isfinite(value) || value > 1 << 20)
    throw ConfigError(std::string(name) + " must be a positive number of MiB, not " + std::to_string(value));
  return static_cast<std::size_t>(value * (1 << 20));
}

std::vector<NamedTensor> defined_buffers(const torch::nn::Module& module) {
  std::vector<NamedTensor> result;
  for (const auto& item : module.named_buffers())
    if (item.value().defined()) result.push_back({item.key(), item.value()});
  return result;
}

std::vector<at::Tensor> tensors_of(const std::vector<NamedTensor>& named) {
  std::vector<at::Tensor> result;
  for (const auto& [name, tensor] : named) result.push_back(tensor);
  return result;
}

}  // namespace

DataParallelBase::DataParallelBase(std::shared_ptr<torch::nn::Module> module, const Context& context,
                                   const DistributedDataParallelOptions& options)
    : module_(std::move(module)),
      communicator_(context.shared_communicator()),
      broadcast_buffers_(options.broadcast_buffers) {
  const BucketLimits limits{mebibytes(options.first_bucket_mb, "first_bucket_mb"),
                            mebibytes(options.bucket_cap_mb, "bucket_cap_mb")};
  if (module_ == nullptr)
    throw ConfigError("DistributedDataParallel was given no module: the pointer is null");
  std::vector<NamedTensor> parameters = distinct_parameters(*module_);
  std::vector<NamedTensor> state = defined_buffers(*module_);
  verify_module(parameters, state, *communicator_);
  state.insert(state.end(), parameters.begin(), parameters.end());
  broadcast_tensors(tensors_of(state), *communicator_, 0);
  parameter_count_ = parameters.size();
  for (const NamedTensor& parameter : parameters)
    if (!parameter.tensor.requires_grad()) frozen_.push_back(parameter.tensor);
  std::erase_if(parameters, [](const NamedTensor& parameter) { return !parameter.tensor.requires_grad(); });
  if (parameters.empty())
    throw ConfigError(
        "the module has no parameter that requires a gradient: there is nothing for DistributedDataParallel "
        "to do");
  reducer_ = Reducer::create(std::move(parameters), communicator_, limits);
}

DataParallelBase::~DataParallelBase() = default;

/// Parameters that nobody averages would drift apart from rank to rank without a word.
void DataParallelBase::require_known_parameters() {
  for (const at::Tensor& parameter : frozen_)
    if (parameter.requires_grad())
      throw Error(
          "a parameter that was frozen when the module was wrapped requires a gradient now, which would not "
          "be "
          "averaged: set requires_grad first, then wrap (again)");
  // Asking a module for its parameters is slow, so it is asked in the 1st, 2nd, 4th, 8th ... forward.
  if (!std::has_single_bit(++forwards_)) return;
  const std::size_t now = distinct_parameters(*module_).size();
  if (now != parameter_count_)
    throw Error(
        "the module has " + std::to_string(now) + " parameters, but had " + std::to_string(parameter_count_) +
        " when it was wrapped; what came later is not averaged: build the module first, then wrap it");
}

void DataParallelBase::before_forward() {
  if (c10::GradMode::is_enabled()) require_known_parameters();
  reducer_->prepare();
  if (!broadcast_buffers_ || !c10::GradMode::is_enabled() || !module_->is_training() || !reducer_->sync())
    return;
  std::vector<at::Tensor> buffers = module_->buffers();  // no names: every step comes here
  std::erase_if(buffers, [](const at::Tensor& buffer) { return !buffer.defined(); });
  broadcast_tensors(buffers, *communicator_, 0);
}

DataParallelBase::NoSync DataParallelBase::no_sync() {
  return NoSync(reducer_);
}

DataParallelBase::NoSync::NoSync(std::shared_ptr<Reducer> reducer) : reducer_(reducer) {
  reducer->suspend();
}

DataParallelBase::NoSync::~NoSync() {
  if (const auto reducer = reducer_.lock()) reducer->resume();
}

std::size_t DataParallelBase::bucket_count() const {
  return reducer_->bucket_count();
}

std::string DataParallelBase::save_state() const {
  const BucketOrder order = reducer_->order();
  std::ostringstream text;
  text << "ddp-bucket-order 1 " << (order.rebuilt ? "rebuilt" : "pending");
  for (const int index : order.parameters) text << ' ' << index;
  return text.str();
}

void DataParallelBase::load_state(std::string_view state) {
  std::istringstream text{std::string(state)};
  std::string name, stage;
  int version = 0;
  if (!(text >> name >> version >> stage) || name != "ddp-bucket-order" || version != 1 ||
      (stage != "rebuilt" && stage != "pending"))
    throw CorruptCheckpoint("not a bucket order of DistributedDataParallel: '" +
                            std::string(state.substr(0, 40)) + "'");
  BucketOrder order{{}, stage == "rebuilt"};
  for (int index = 0; text >> index;) order.parameters.push_back(index);
  std::vector<int> sorted = order.parameters;
  std::sort(sorted.begin(), sorted.end());
  std::vector<int> all(reducer_->parameter_count());
  std::iota(all.begin(), all.end(), 0);
  const bool nothing_yet = sorted.empty() && !order.rebuilt;
  if (sorted != all && !nothing_yet)
    throw CorruptCheckpoint("the saved bucket order lists " + std::to_string(sorted.size()) +
                            " parameters, but not each of this module's " + std::to_string(all.size()) +
                            " once: it belongs to another module");
  reducer_->set_order(std::move(order));
}

}  // namespace ddp
