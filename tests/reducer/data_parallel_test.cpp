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

}  // namespace
}  // namespace ddp
