#include <ddp/distributed_data_parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <future>
#include <mutex>

#include "tests/reducer/thread_contexts.h"

namespace ddp {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::Layout;
using testing::run_contexts;
using ::testing::StartsWith;

constexpr int64_t kBatch = 4;  // of one rank

// --- Models ----------------------------------------------------------------------------------------------------------

struct MlpImpl : torch::nn::Module {
  explicit MlpImpl(int64_t = 0) {
    first = register_module("first", torch::nn::Linear(6, 32));
    second = register_module("second", torch::nn::Linear(32, 32));
    head = register_module("head", torch::nn::Linear(32, 3));
  }
  torch::Tensor forward(const torch::Tensor& x) { return head(torch::tanh(second(torch::tanh(first(x))))); }
  torch::nn::Linear first{nullptr}, second{nullptr}, head{nullptr};
};
TORCH_MODULE(Mlp);

struct ConvImpl : torch::nn::Module {
  explicit ConvImpl(int64_t = 0) {
    conv = register_module("conv", torch::nn::Conv2d(torch::nn::Conv2dOptions(1, 4, 3).padding(1)));
    norm = register_module("norm", torch::nn::BatchNorm2d(4));
    head = register_module("head", torch::nn::Linear(4 * 9, 3));
  }
  torch::Tensor forward(const torch::Tensor& x) {
    return head(torch::relu(norm(conv(x.view({x.size(0), 1, 3, 2}).repeat_interleave(2, 3).narrow(3, 0, 3))))
                    .flatten(1));
  }
  torch::nn::Conv2d conv{nullptr};
  torch::nn::BatchNorm2d norm{nullptr};
  torch::nn::Linear head{nullptr};
};
TORCH_MODULE(Conv);

/// Embedding, attention, layer norm; the head is the embedding (tied), one matrix is frozen.
struct AttentionImpl : torch::nn::Module {
  explicit AttentionImpl(int64_t = 0) {
    embedding = register_module("embedding", torch::nn::Embedding(11, 8));
    norm = register_module("norm", torch::nn::LayerNorm(torch::nn::LayerNormOptions({8})));
    qkv = register_module("qkv", torch::nn::Linear(8, 24));
    frozen = register_module("frozen", torch::nn::Linear(8, 8));
    head = register_parameter("head", embedding->weight);
    for (auto& parameter : frozen->parameters()) parameter.requires_grad_(false);
  }
  torch::Tensor forward(const torch::Tensor& x) {
    const auto tokens = (x.detach().abs() * 100).to(torch::kLong).remainder(11);
    const auto h = norm(embedding(tokens));
    const auto parts = qkv(h).chunk(3, -1);
    const auto weights = torch::softmax(parts[0].matmul(parts[1].transpose(1, 2)), -1);
    return torch::linear(frozen(weights.matmul(parts[2])) + h, head).mean(1).narrow(1, 0, 3);
  }
  torch::nn::Embedding embedding{nullptr};
  torch::nn::LayerNorm norm{nullptr};
  torch::nn::Linear qkv{nullptr}, frozen{nullptr};
  torch::Tensor head;
};
TORCH_MODULE(Attention);

// --- Reference: one process ------------------------------------------------------------------------------------------

torch::Tensor all_inputs(int ranks, torch::ScalarType type, int64_t seed = 3) {
  auto generator = torch::make_generator<at::CPUGeneratorImpl>(static_cast<uint64_t>(seed));
  return torch::randn({ranks * kBatch, 6}, generator, torch::kFloat64).to(type);
}

torch::Tensor loss_of(const torch::Tensor& output) {
  return (output * output).mean() + output.sin().mean();
}

/// The same weights on every thread whatever the order of threads: filled from a generator of its own.
template <class M>
M make(torch::ScalarType type, uint64_t seed = 1) {
  M module(0);
  auto generator = torch::make_generator<at::CPUGeneratorImpl>(seed);
  const torch::NoGradGuard no_grad;
  for (auto& parameter : module->parameters()) parameter.normal_(0, 0.5, generator);
  module->to(type);
  return module;
}

using Gradients = std::map<std::string, torch::Tensor>;

template <class M>
Gradients gradients(const M& module) {
  Gradients result;
  for (const auto& item : module->named_parameters())
    if (item.value().grad().defined()) result[item.key()] = item.value().grad().clone();
  return result;
}

/// On the concatenated batch; modules whose output depends on the batch they see (batch norm) on each shard, averaged.
template <class M>
Gradients reference(int ranks, torch::ScalarType type, bool by_shard) {
  M module = make<M>(type);
  const auto x = all_inputs(ranks, type);
  if (!by_shard) {
    loss_of(module->forward(x)).backward();
  } else {
    for (const auto& shard : x.split(kBatch)) (loss_of(module->forward(shard)) / ranks).backward();
  }
  return gradients(module);
}

void expect_close(const Gradients& actual, const Gradients& expected, double tolerance,
                  const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (const auto& [name, gradient] : expected) {
    const double difference = (actual.at(name) - gradient).abs().max().template item<double>();
    EXPECT_LE(difference, tolerance) << what << ": " << name;
  }
}

DistributedDataParallelOptions small_buckets() {
  return {.bucket_cap_mb = 0.002, .first_bucket_mb = 0.0005};
}

torch::Tensor shard(int rank, int ranks, torch::ScalarType type, int64_t seed = 3) {
  return all_inputs(ranks, type, seed).narrow(0, rank * kBatch, kBatch);
}

template <class M>
void compare_with_one_process(const Layout& layout, torch::ScalarType type, double tolerance,
                              bool by_shard = false) {
  const int ranks = layout.world_size();
  const Gradients expected = reference<M>(ranks, type, by_shard);
  const auto errors = run_contexts(layout, [&](const Context& context) {
    M module = make<M>(type, static_cast<uint64_t>(context.rank()) + 1);  // rank 0's weights count
    DistributedDataParallel<M> parallel(module, context, small_buckets());
    for (int iteration = 0; iteration < 3;
         ++iteration) {  // the first with the planned buckets, then with the rebuilt ones
      module->zero_grad(iteration != 1);
      loss_of(parallel.forward(shard(context.rank(), ranks, type))).backward();
      expect_close(gradients(module), expected, tolerance, "iteration " + std::to_string(iteration));
    }
  });
  EXPECT_THAT(errors, Each(IsEmpty()));
}

class DataParallel : public ::testing::TestWithParam<std::vector<int>> {
 protected:
  [[nodiscard]] Layout layout() const { return {.hosts = GetParam()}; }
  [[nodiscard]] int ranks() const { return layout().world_size(); }
};

INSTANTIATE_TEST_SUITE_P(Layouts, DataParallel,
                         ::testing::Values(std::vector{1}, std::vector{2}, std::vector{3}, std::vector{1, 1},
                                           std::vector{2, 1}),
                         [](const auto& param) { return Layout{.hosts = param.param}.name(); });

TEST_P(DataParallel, GradientsEqualThoseOfOneProcessOnTheWholeBatch) {
  compare_with_one_process<Mlp>(layout(), torch::kFloat64, 1e-12);
  compare_with_one_process<Mlp>(layout(), torch::kFloat32, 1e-5);
}

TEST_P(DataParallel, GradientsEqualForConvolutionAndBatchNorm) {
  compare_with_one_process<Conv>(layout(), torch::kFloat64, 1e-12, true);
}

TEST_P(DataParallel, GradientsEqualForEmbeddingAttentionTiedAndFrozenWeights) {
  compare_with_one_process<Attention>(layout(), torch::kFloat64, 1e-12);
}

TEST_P(DataParallel, RanksStayBitwiseEqualOverOptimizerSteps) {
  std::mutex mutex;
  std::vector<torch::Tensor> finals;
  const auto errors = run_contexts(layout(), [&](const Context& context) {
    Mlp module = make<Mlp>(torch::kFloat32, static_cast<uint64_t>(context.rank()) + 1);
    DistributedDataParallel<Mlp> parallel(module, context, small_buckets());
    torch::optim::AdamW optimizer(module->parameters(), 1e-2);
    for (int step = 0; step < 8; ++step) {
      optimizer.zero_grad(step % 2 == 0);
      loss_of(parallel.forward(shard(context.rank(), ranks(), torch::kFloat32, step))).backward();
      optimizer.step();
    }
    std::vector<torch::Tensor> flat;
    for (const auto& parameter : module->parameters()) flat.push_back(parameter.detach().flatten());
    const std::scoped_lock lock(mutex);
    finals.push_back(torch::cat(flat));
  });
  EXPECT_THAT(errors, Each(IsEmpty()));
  for (const auto& final : finals) EXPECT_TRUE(torch::equal(final, finals[0]));
  EXPECT_GT((finals[0] - torch::cat([] {
               std::vector<torch::Tensor> flat;
               for (const auto& parameter : make<Mlp>(torch::kFloat32)->parameters())
                 flat.push_back(parameter.detach().flatten());
               return flat;
             }()))
                .abs()
                .max()
                .item<double>(),
            1e-3);
}

TEST_P(DataParallel, NoSyncAccumulatesLocallyAndTheNextBackwardReducesAll) {
  const auto type = torch::kFloat64;
  Mlp whole = make<Mlp>(type);
  for (const int64_t seed : {5, 6}) loss_of(whole->forward(all_inputs(ranks(), type, seed))).backward();
  const Gradients expected = gradients(whole);
  const auto errors = run_contexts(layout(), [&](const Context& context) {
    Mlp module = make<Mlp>(type);
    DistributedDataParallel<Mlp> parallel(module, context, small_buckets());
    for (int repeat = 0; repeat < 2; ++repeat) {
      module->zero_grad();
      {
        const auto guard = parallel.no_sync();
        loss_of(parallel.forward(shard(context.rank(), ranks(), type, 5))).backward();
      }
      loss_of(parallel.forward(shard(context.rank(), ranks(), type, 6))).backward();
      expect_close(gradients(module), expected, 1e-12, "repeat " + std::to_string(repeat));
    }
  });
  EXPECT_THAT(errors, Each(IsEmpty()));
}

TEST_P(DataParallel, NoSyncGuardsMayOverlapAndBeReplaced) {
  const auto type = torch::kFloat64;
  Mlp whole = make<Mlp>(type);
  for (const int64_t seed : {5, 6, 7}) loss_of(whole->forward(all_inputs(ranks(), type, seed))).backward();
  const Gradients expected = gradients(whole);
  const auto errors = run_contexts(layout(), [&](const Context& context) {
    Mlp module = make<Mlp>(type);
    DistributedDataParallel<Mlp> parallel(module, context, small_buckets());
    std::optional<DataParallelBase::NoSync> guard;
    for (int repeat = 0; repeat < 3; ++repeat) {
      module->zero_grad();
      for (const int64_t seed : {5, 6, 7}) {
        if (seed < 7)
          guard.emplace(parallel.no_sync());  // the new one is made before the old one ends
        else
          guard.reset();
        loss_of(parallel.forward(shard(context.rank(), ranks(), type, seed))).backward();
      }
      expect_close(gradients(module), expected, 1e-12, "repeat " + std::to_string(repeat));
    }
  });
  EXPECT_THAT(errors, Each(IsEmpty()));
}

TEST_P(DataParallel, DoubleBackwardThroughTheLossGivesTheGradientOfTheMean) {
  const auto type = torch::kFloat64;
  const auto penalty = [](const std::function<torch::Tensor(torch::Tensor)>& forward, torch::Tensor x) {
    x.requires_grad_(true);
    const auto output = forward(x).sum();
    const auto slope = torch::autograd::grad({output}, {x}, {}, true, true)[0];
    return slope.pow(2).mean() + output / x.size(0);
  };
  Mlp whole = make<Mlp>(type);
  penalty([&](const auto& x) { return whole->forward(x); }, all_inputs(ranks(), type)).backward();
  const Gradients expected = gradients(whole);
  const auto errors = run_contexts(layout(), [&](const Context& context) {
    Mlp module = make<Mlp>(type);
    DistributedDataParallel<Mlp> parallel(module, context, small_buckets());
    for (int repeat = 0; repeat < 2; ++repeat) {
      module->zero_grad();
      penalty([&](const auto& x) { return parallel.forward(x); },
              shard(context.rank(), ranks(), type).clone())
          .backward();
      expect_close(gradients(module), expected, 1e-12, "repeat " + std::to_string(repeat));
    }
  });
  EXPECT_THAT(errors, Each(IsEmpty()));
}

TEST_P(DataParallel, ReducesSeveralDtypesInOneModel) {
  const auto errors = run_contexts(layout(), [&](const Context& context) {
    Mlp module = make<Mlp>(torch::kFloat32);
    module->second->to(torch::kBFloat16);
    module->head->to(torch::kFloat64);
    DistributedDataParallel<Mlp> parallel(module, context, small_buckets());
    const auto x = torch::full({1, 6}, 1.0 + context.rank());
    const auto h = torch::tanh(module->first(x)).to(torch::kBFloat16);
    module->zero_grad();
    (module->head(module->second(h).to(torch::kFloat64)).sum()).backward();
    double mean = 0;
    for (int r = 0; r < ranks(); ++r) mean += 1.0 / ranks();
    EXPECT_NEAR(module->head->bias.grad()[0].item<double>(), mean, 1e-12);
    EXPECT_EQ(module->second->weight.grad().scalar_type(), torch::kBFloat16);
  });
  EXPECT_THAT(errors, Each(IsEmpty()));
}

// --- What goes wrong -------------------------------------------------------------------------------------------------

TEST_P(DataParallel, NamesAParameterWithoutGradientAndGoesOnAfterwards) {
  const Gradients expected = reference<Mlp>(ranks(), torch::kFloat64, false);
  const auto errors = run_contexts(layout(), [&](const Context& context) {
    Mlp module = make<Mlp>(torch::kFloat64);
    DistributedDataParallel<Mlp> parallel(module, context, small_buckets());
    const auto x = shard(context.rank(), ranks(), torch::kFloat64);
    try {
      parallel.forward(x);
      torch::tanh(module->first(x)).sum().backward();
      ADD_FAILURE() << "a missing gradient must be an error";
    } catch (const std::exception& error) {
      EXPECT_THAT(error.what(), AllOf(HasSubstr("second.weight"), HasSubstr("head.bias"),
                                      HasSubstr("requires_grad_(false)")));
    }
    module->zero_grad();
    loss_of(parallel.forward(x)).backward();
    expect_close(gradients(module), expected, 1e-12, "after the error");
  });
  EXPECT_THAT(errors, Each(IsEmpty()));
}

TEST_P(DataParallel, AnExceptionInBackwardLeavesTheWrapperUsable) {
  const Gradients expected = reference<Mlp>(ranks(), torch::kFloat64, false);
  const auto errors = run_contexts(layout(), [&](const Context& context) {
    Mlp module = make<Mlp>(torch::kFloat64);
    DistributedDataParallel<Mlp> parallel(module, context, small_buckets());
    const auto x = shard(context.rank(), ranks(), torch::kFloat64);
    for (int round = 0; round < 2; ++round) {
      auto hidden = torch::tanh(module->first(x));
      hidden.register_hook(
          [](const torch::Tensor&) -> torch::Tensor { throw std::runtime_error("thrown by a hook"); });
      EXPECT_THROW(loss_of(module->head(torch::tanh(module->second(hidden)))).backward(), std::exception);
      module->zero_grad();
      loss_of(parallel.forward(x)).backward();
      expect_close(gradients(module), expected, 1e-12, "after an exception");
    }
  });
  EXPECT_THAT(errors, Each(IsEmpty()));
}

TEST_P(DataParallel, GradientsZeroedInPlaceAfterAnExceptionStayZeroUntilTheNextBackward) {
  const Gradients expected = reference<Mlp>(ranks(), torch::kFloat64, false);
  const auto errors = run_contexts(layout(), [&](const Context& context) {
    Mlp module = make<Mlp>(torch::kFloat64);
    DistributedDataParallel<Mlp> parallel(module, context, small_buckets());
    const auto x = shard(context.rank(), ranks(), torch::kFloat64);
    for (int warm = 0; warm < 2; ++warm) {
      module->zero_grad();
      loss_of(parallel.forward(x)).backward();
    }
    for (int round = 0; round < 3; ++round) {
      module->zero_grad(false);
      bool throws = true;
      // The first layer comes last: later layers' buckets are under way when it throws, on rank 0 long before the others.
      const auto hook = module->first->weight.register_hook([&](const torch::Tensor& gradient) {
        if (throws) throw std::runtime_error("thrown by a hook");
        return gradient;
      });
      const auto loss = loss_of(parallel.forward(x));
      if (context.rank() != 0) std::this_thread::sleep_for(std::chrono::milliseconds(20));
      EXPECT_THROW(loss.backward(), std::exception);
      throws = false;
      module->zero_grad(false);
      loss_of(parallel.forward(x)).backward();
      module->first->weight.remove_hook(hook);
      expect_close(gradients(module), expected, 1e-12, "after an exception");
    }
  });
  EXPECT_THAT(errors, Each(IsEmpty()));
}

TEST_P(DataParallel, NoHookOutlivesTheWrapper) {
  const auto errors = run_contexts(layout(), [&](const Context& context) {
    Mlp module = make<Mlp>(torch::kFloat64);
    const auto x = shard(context.rank(), ranks(), torch::kFloat64);
    {
      DistributedDataParallel<Mlp> parallel(module, context, small_buckets());
      loss_of(parallel.forward(x)).backward();
    }
    module->zero_grad();
    Mlp alone = make<Mlp>(torch::kFloat64);
    loss_of(module->forward(x)).backward();  // local now: nobody is waited for
    loss_of(alone->forward(x)).backward();
    expect_close(gradients(module), gradients(alone), 0, "without the wrapper");
  });
  EXPECT_THAT(errors, Each(IsEmpty()));
}

TEST_P(DataParallel, AGradientIsAViewOfItsBucketAndStaysOne) {
  const auto errors = run_contexts(layout(), [&](const Context& context) {
    Mlp module = make<Mlp>(torch::kFloat32);
    DistributedDataParallel<Mlp> parallel(module, context);
    std::vector<void*> before;
    for (int iteration = 0; iteration < 4; ++iteration) {
      module->zero_grad(iteration == 2);
      loss_of(parallel.forward(shard(context.rank(), ranks(), torch::kFloat32))).backward();
      std::vector<void*> now;
      for (const auto& parameter : module->parameters()) now.push_back(parameter.grad().data_ptr());
      if (iteration >= 2) {  // after the buckets were rebuilt
        EXPECT_EQ(now, before);
      }
      before = now;
      EXPECT_TRUE(
          module->first->weight.grad().storage().is_alias_of(module->second->weight.grad().storage()));
    }
  });
  EXPECT_THAT(errors, Each(IsEmpty()));
}

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
