// Modules that differ, options out of range, states, and what nobody should do to a wrapped module.
#include <ddp/distributed_data_parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <future>
#include <mutex>

#include "tests/reducer/models.h"
#include "tests/reducer/thread_contexts.h"

namespace ddp {
namespace {

using namespace testing;  // NOLINT(google-build-using-namespace): models and helpers of this folder
using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

TEST(DataParallelMismatch, NamesTheFirstParameterOrBufferThatDiffersAndBothSides) {
  using Change = std::function<void(MlpImpl&)>;
  const std::vector<std::pair<Change, std::vector<std::string>>> changes = {
      {[](MlpImpl& m) { m.second = m.replace_module("second", torch::nn::Linear(32, 31)); },
       {"'second.weight'", "[32, 32]", "[31, 32]"}},
      {[](MlpImpl& m) { m.head->to(torch::kFloat64); }, {"'head.weight'", "Float", "Double"}},
      {[](MlpImpl& m) { m.first->bias.requires_grad_(false); }, {"'first.bias'", "requires_grad", "frozen"}},
      {[](MlpImpl& m) { m.register_parameter("extra", torch::zeros({2})); },
       {"'extra'", "6 and 7 parameters"}},
      {[](MlpImpl& m) { m.register_buffer("mean", torch::zeros({2})); },
       {"buffer 'mean' Float [2]", "6 and 7 parameters and buffers"}},
  };
  for (const auto& [change, texts] : changes) {
    const auto errors = run_contexts({.hosts = {3}}, [&](const Context& context) {
      Mlp module;
      if (context.rank() == 2) change(*module);
      DistributedDataParallel<Mlp> parallel(module, context);
    });
    for (const auto& text : texts)
      EXPECT_THAT(errors, Each(AllOf(StartsWith("MismatchError"), HasSubstr("rank 2"), HasSubstr(text))));
  }
}

TEST(DataParallelOptions, RefusesImpossibleBucketSizesAndModulesWithoutGradients) {
  const auto errors = run_contexts({.hosts = {1}}, [](const Context& context) {
    for (const double size : {0.0, -1.0, std::numeric_limits<double>::quiet_NaN(), 1e12}) {
      EXPECT_THROW(DistributedDataParallel<Mlp>(Mlp(), context, {.bucket_cap_mb = size}), ConfigError);
      EXPECT_THROW(DistributedDataParallel<Mlp>(Mlp(), context, {.first_bucket_mb = size}), ConfigError);
    }
    Mlp frozen;
    for (auto& parameter : frozen->parameters()) parameter.requires_grad_(false);
    EXPECT_THROW(DistributedDataParallel<Mlp>(frozen, context), ConfigError);
  });
  EXPECT_THAT(errors, Each(IsEmpty()));
}

TEST(DataParallelState, TheRebuiltBucketOrderSurvivesSavingAndLoading) {
  const auto errors = run_contexts({.hosts = {2}}, [](const Context& context) {
    Mlp module = make<Mlp>(torch::kFloat32);
    DistributedDataParallel<Mlp> parallel(module, context, small_buckets());
    const std::size_t planned = parallel.bucket_count();
    EXPECT_GT(planned, 2u);
    for (int i = 0; i < 2; ++i) {
      module->zero_grad();
      loss_of(parallel.forward(shard(context.rank(), 2, torch::kFloat32))).backward();
    }
    const std::string saved = parallel.save_state();
    EXPECT_THAT(saved, HasSubstr("rebuilt"));
    Mlp fresh = make<Mlp>(torch::kFloat32);
    DistributedDataParallel<Mlp> resumed(fresh, context, small_buckets());
    EXPECT_NE(resumed.save_state(), saved);
    resumed.load_state(saved);
    EXPECT_EQ(resumed.save_state(), saved);
    EXPECT_THROW(resumed.load_state("nonsense"), CorruptCheckpoint);
    EXPECT_THROW(resumed.load_state("ddp-bucket-order 1 rebuilt 0 0 0 0 0 0"), CorruptCheckpoint);
    EXPECT_THROW(resumed.load_state("ddp-bucket-order 1 pending 0 1 99"), CorruptCheckpoint);
  });
  EXPECT_THAT(errors, Each(IsEmpty()));
}

TEST(DataParallelState, AnOrderThatWaitsForItsRebuildIsRebuiltAfterTheRestartAsWell) {
  const auto errors = run_contexts({.hosts = {2}}, [](const Context& context) {
    const auto step = [&](Mlp& module, DistributedDataParallel<Mlp>& parallel) {
      module->zero_grad();
      loss_of(parallel.forward(shard(context.rank(), 2, torch::kFloat32))).backward();
    };
    Mlp module = make<Mlp>(torch::kFloat32), fresh = make<Mlp>(torch::kFloat32);
    DistributedDataParallel<Mlp> parallel(module, context, small_buckets()),
        resumed(fresh, context, small_buckets());
    step(module, parallel);
    const std::string saved = parallel.save_state();
    EXPECT_THAT(saved, HasSubstr("pending"));
    resumed.load_state(saved);
    step(module, parallel);
    step(fresh, resumed);
    EXPECT_THAT(resumed.save_state(), HasSubstr("rebuilt"));
    EXPECT_EQ(resumed.save_state(), parallel.save_state());
  });
  EXPECT_THAT(errors, Each(IsEmpty()));
}

TEST(DataParallelMisuse, AModuleMovedToAnotherDtypeAfterWrappingIsAnErrorNotAMissingReduction) {
  const auto errors = run_contexts({.hosts = {2}}, [](const Context& context) {
    Mlp module = make<Mlp>(torch::kFloat32);
    DistributedDataParallel<Mlp> parallel(module, context);
    module->to(torch::kFloat64);
    (void)parallel.forward(shard(context.rank(), 2, torch::kFloat64));
  });
  EXPECT_THAT(errors, Each(AllOf(HasSubstr("moved to another dtype"), HasSubstr("weight"))));
}

TEST(DataParallelMisuse, AModuleIsWrappedOnceAtATime) {
  const auto errors = run_contexts({.hosts = {2}}, [](const Context& context) {
    Mlp module = make<Mlp>(torch::kFloat32);
    auto first = std::make_unique<DistributedDataParallel<Mlp>>(module, context);
    EXPECT_THROW(DistributedDataParallel<Mlp>(module, context), ConfigError);
    first.reset();
    const DistributedDataParallel<Mlp> again(module, context);
  });
  EXPECT_THAT(errors, Each(IsEmpty()));
}

TEST(DataParallelMisuse, ParametersUnfrozenOrAddedAfterWrappingAreAnError) {
  const auto errors = run_contexts({.hosts = {2}}, [&](const Context& context) {
    const auto x = shard(context.rank(), 2, torch::kFloat32);
    Mlp frozen = make<Mlp>(torch::kFloat32);
    frozen->second->weight.requires_grad_(false);
    DistributedDataParallel<Mlp> first(frozen, context);
    frozen->second->weight.requires_grad_(true);
    EXPECT_THROW((void)first.forward(x), Error);
    Mlp grown = make<Mlp>(torch::kFloat32);
    DistributedDataParallel<Mlp> second(grown, context);
    grown->register_parameter("late", torch::zeros({2}));
    EXPECT_THROW((void)second.forward(x), Error);
  });
  EXPECT_THAT(errors, Each(IsEmpty()));
}

struct MaskedImpl : torch::nn::Module {
  MaskedImpl() {
    layer = register_module("layer", torch::nn::Linear(6, 3));
    mask = register_buffer("mask", torch::full({3}, 0.5));
  }
  torch::Tensor forward(const torch::Tensor& x) { return layer(x) * mask; }
  torch::nn::Linear layer{nullptr};
  torch::Tensor mask;
};
TORCH_MODULE(Masked);

TEST(DataParallelBuffers, EqualOnesAllowTwoForwardsBeforeOneBackward) {
  const auto errors = run_contexts({.hosts = {2}}, [&](const Context& context) {
    Masked module;
    DistributedDataParallel<Masked> parallel(module, context);
    const auto x = torch::ones({2, 6});
    (parallel.forward(x) * parallel.forward(x)).mean().backward();
  });
  EXPECT_THAT(errors, Each(IsEmpty()));
}

TEST(DataParallelMisuse, ANullModuleIsAConfigError) {
  const auto errors = run_contexts({.hosts = {1}}, [&](const Context& context) {
    EXPECT_THROW(DistributedDataParallel<std::shared_ptr<MlpImpl>>(nullptr, context), ConfigError);
  });
  EXPECT_THAT(errors, Each(IsEmpty()));
}

TEST(DataParallelMisuse, AWrapperDestroyedDuringAReductionEndsItBeforeItsMemoryGoes) {
  std::promise<void> destroyed;
  const auto gone = destroyed.get_future();
  const auto errors = run_contexts({.hosts = {2}}, [&](const Context& context) {
    Mlp module = make<Mlp>(torch::kFloat32);
    auto parallel = std::make_unique<DistributedDataParallel<Mlp>>(module, context, small_buckets());
    parallel->forward(shard(context.rank(), 2, torch::kFloat32)).sum().backward();
    const auto loss =
        parallel->forward(shard(context.rank(), 2, torch::kFloat32)).sum();  // rebuilds the buckets
    if (context.rank() == 0) {
      // The first layer's gradient comes last: buckets before it are being reduced with nobody on the other side.
      module->parameters().front().register_hook(
          [](const at::Tensor&) -> at::Tensor { throw std::runtime_error("hook"); });
      EXPECT_THROW(loss.backward(), std::runtime_error);
      parallel.reset();
      destroyed.set_value();
      EXPECT_THROW(context.communicator().barrier(), Aborted);
    } else {
      gone.wait();
      EXPECT_THROW(context.communicator().barrier(), Aborted);
    }
  });
  EXPECT_THAT(errors, Each(IsEmpty()));
}

}  // namespace
}  // namespace ddp
