// DistributedDataParallel: the module you have, trained by all ranks together.
//
//   Gpt model(config);
//   ddp::DistributedDataParallel<Gpt> parallel(model, context);
//   optimizer.zero_grad();
//   parallel.forward(tokens).backward();     // .grad now holds the mean over ranks
//   optimizer.step();
//
// Use it from one training thread, with the same forwards and backwards on every rank. Gradients are views of
// communication buffers: zero_grad(), in either form, keeps working. A loss that is a mean over the rank's batch gives,
// with equal batches, the gradient of the mean over all batches.
//
// A module's parameters and buffers are those it had when it was wrapped. After an exception in backward(), whoever threw
// it, gradients are undefined until they are zeroed, and the wrapper goes on working.
//
// backward() throws Error naming the parameters that got no gradient (each must take part in the loss), and what
// ddp/communicator.h lists when a rank is lost, late, or in another iteration.
#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <string>
#include <utility>

#include <ddp/context.h>
#include <ddp/stateful.h>

namespace ddp {

struct DistributedDataParallelOptions {
  double bucket_cap_mb = 25;   ///< MiB of gradients that are reduced together; above 0
  double first_bucket_mb = 1;  ///< MiB of the first bucket: small, so that communication starts early
  /// Rank 0's buffers (running statistics) to all before each training forward. Off, or with equal buffers, a second forward
  /// before backward works; otherwise autograd finds the first one's buffers changed, as under PyTorch.
  bool broadcast_buffers = true;
};

class Reducer;

/// What does not depend on the module's type.
class DataParallelBase : public Stateful {
 public:
  /// Collective: compares the modules of all ranks and sends rank 0's parameters and buffers to all. Throws
  /// MismatchError, on every rank alike, that names the first parameter or buffer that differs (name, shape,
  /// dtype, requires_grad), and ConfigError when no parameter requires a gradient or an option is out of range. Freeze,
  /// unfreeze and add parameters before, not after: a later forward() throws Error for what it finds changed.
  DataParallelBase(std::shared_ptr<torch::nn::Module> module, const Context& context,
                   const DistributedDataParallelOptions& options);
  DataParallelBase(const DataParallelBase&) = delete;
  DataParallelBase& operator=(const DataParallelBase&) = delete;
  ~DataParallelBase() override;

  /// While the returned guard lives, backward() adds to local gradients without communication. The first backward after
  /// it reduces what has been accumulated. The guard must cover backward(), on every rank alike.
  class NoSync {
   public:
    explicit NoSync(std::shared_ptr<Reducer> reducer);
    NoSync(NoSync&&) = default;
    NoSync(const NoSync&) = delete;
    NoSync& operator=(const NoSync&) = delete;
    NoSync& operator=(NoSync&&) = delete;
    ~NoSync();

   private:
    std::weak_ptr<Reducer> reducer_;
  };
  [[nodiscard]] NoSync no_sync();

  /// Buckets that gradients are reduced in; changes once, in the forward that follows the first complete backward.
  [[nodiscard]] std::size_t bucket_count() const;

  /// The rebuilt bucket order: part of a bitwise resume, because buckets decide the order of sums between hosts.
  [[nodiscard]] std::string save_state() const override;
  /// The same state on all ranks. Throws CorruptCheckpoint for bytes that are no such order, or another module's.
  void load_state(std::string_view state) override;

 protected:
  /// What must happen on every rank before the module's forward: buckets are rebuilt, buffers broadcast.
  void before_forward();

 private:
  std::shared_ptr<torch::nn::Module> module_;
  std::shared_ptr<Communicator> communicator_;
  void require_known_parameters();

  bool broadcast_buffers_;
  std::shared_ptr<Reducer> reducer_;
  std::vector<at::Tensor> frozen_;  ///< parameters that required no gradient when the module was wrapped
  std::size_t parameter_count_ = 0;
  std::uint64_t forwards_ = 0;
};

/// `Module` is what TORCH_MODULE makes (Gpt, torch::nn::Linear) or a std::shared_ptr of a module class.
template <class Module>
class DistributedDataParallel : public DataParallelBase {
 public:
  DistributedDataParallel(Module module, const Context& context,
                          const DistributedDataParallelOptions& options = {})
      : DataParallelBase(pointer(module), context, options), module_(std::move(module)) {}

  /// The module's own forward, with its own signature.
  template <class... Args>
  decltype(auto) forward(Args&&... args) {
    before_forward();
    return module_->forward(std::forward<Args>(args)...);
  }
  template <class... Args>
  decltype(auto) operator()(Args&&... args) {
    return forward(std::forward<Args>(args)...);
  }

  [[nodiscard]] Module& module() { return module_; }
  [[nodiscard]] const Module& module() const { return module_; }

 private:
  template <class Impl>
  static std::shared_ptr<torch::nn::Module> pointer(const std::shared_ptr<Impl>& module) {
    return module;
  }
  template <class Impl>
  static std::shared_ptr<torch::nn::Module> pointer(const torch::nn::ModuleHolder<Impl>& module) {
    return module.ptr();
  }

  Module module_;
};

}  // namespace ddp
