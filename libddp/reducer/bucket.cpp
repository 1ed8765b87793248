#include "libddp/reducer/bucket.h"

#include <ATen/Functions.h>
#include <c10/core/GradMode.h>

#include <utility>

#include "libddp/reducer/dtypes.h"
#include "libddp/reducer/gather.h"

namespace ddp {
namespace {

/// Dense parameters keep their strides (channels last stays channels last); overlapping or gapped ones become
/// contiguous. Shares the storage without being a view to autograd, because optimizer.zero_grad(false)
/// detaches gradients in place, which views refuse.
at::Tensor view_like(const at::Tensor& flat, const BucketSlot& slot, const at::Tensor& parameter) {
  at::Tensor piece = at::empty({0}, flat.options());
  const auto offset = static_cast<int64_t>(slot.offset);
  if (parameter.is_non_overlapping_and_dense())
    return piece.set_(flat.storage(), offset, parameter.sizes(), parameter.strides());
  return piece.set_(flat.storage(), offset, parameter.sizes(),
                    at::empty_like(parameter, at::MemoryFormat::Contiguous).strides());
}

/// True when the gradient's memory is `count` elements end to end in the same order as the view's.
bool same_layout(const at::Tensor& gradient, const at::Tensor& view) {
  return gradient.is_cpu() && gradient.layout() == at::kStrided && gradient.sizes() == view.sizes() &&
         gradient.strides() == view.strides() && gradient.is_non_overlapping_and_dense() &&
         !gradient.is_conj() && !gradient.is_neg();
}

}  // namespace

Bucket::Bucket(BucketLayout layout, Communicator& communicator, std::span<const at::Tensor> parameters)
    : layout_(std::move(layout)), missing_(layout_.slots.size()) {
  Allocation memory = communicator.allocate(layout_.count * size_of(layout_.dtype));
  flat_ = at::from_blob(
      memory.data(), {static_cast<int64_t>(layout_.count)}, [owner = memory.owner()](void*) {},
      at::TensorOptions().dtype(scalar_type(layout_.dtype)));
  for (const BucketSlot& slot : layout_.slots)
    views_.push_back(view_like(flat_, slot, parameters[slot.parameter]));
}

void Bucket::launch(std::span<const at::Tensor> parameters, double scale, Communicator& communicator,
                    std::uint64_t iteration) {
  const c10::AutoGradMode no_grad(false);
  std::vector<GatherItem> items;
  std::vector<at::Tensor> kept;  // materialised gradients live until the gather is done
  items.reserve(layout_.slots.size());
  for (std::size_t i = 0; i < layout_.slots.size(); ++i) {
    const BucketSlot& slot = layout_.slots[i];
    at::Tensor gradient = parameters[slot.parameter].grad();
    if (!gradient.defined()) {  // the loss does not depend on it in this step, though it is part of the graph
      items.push_back({nullptr, views_[i].mutable_data_ptr(), slot.count, layout_.dtype});
      continue;
    }
    if (!same_layout(gradient, views_[i])) {
      const at::Tensor dense = gradient.is_sparse() ? gradient.to_dense() : gradient;
      gradient = at::empty_like(views_[i], views_[i].options().dtype(dense.scalar_type())).copy_(dense);
    }
    items.push_back({gradient.const_data_ptr(), views_[i].mutable_data_ptr(), slot.count,
                     dtype_of(gradient.scalar_type())});
    kept.push_back(std::move(gradient));
  }
  fused_gather(items, layout_.dtype, scale);
  for (std::size_t i = 0; i < layout_.slots.size(); ++i) {
    at::Tensor& grad = at::Tensor(parameters[layout_.slots[i].parameter]).mutable_grad();
    if (!grad.is_same(views_[i])) grad = views_[i];
  }
  work_ = communicator.all_reduce({flat_.mutable_data_ptr(), layout_.count, layout_.dtype},
                                  {.op = ReduceOp::kSum, .async_op = true, .tag = iteration});
}

void Bucket::release_gradients(std::span<const at::Tensor> parameters) {
  if (work_.done()) return;
  const c10::AutoGradMode no_grad(false);
  for (std::size_t i = 0; i < layout_.slots.size(); ++i) {
    at::Tensor& grad = at::Tensor(parameters[layout_.slots[i].parameter]).mutable_grad();
    if (grad.is_same(views_[i])) grad = at::zeros_like(views_[i]);
  }
}

void Bucket::give_up(Communicator& communicator) noexcept {
  if (work_.done()) return;
  communicator.abort("DistributedDataParallel was destroyed while gradients were being reduced");
  try {
    wait();
  } catch (const std::exception&) {
    // Aborted, as asked for; what matters is that nobody writes to the bucket any more.
  }
}

void Bucket::wait() {
  std::exchange(work_, Work()).wait();
}

}  // namespace ddp
