// Models, their data, and what one process makes of them: what the tests of DistributedDataParallel compare with.
#pragma once

#include <ddp/distributed_data_parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/reducer/thread_contexts.h"

namespace ddp::testing {

inline constexpr int64_t kBatch = 4;  // of one rank

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

inline torch::Tensor all_inputs(int ranks, torch::ScalarType type, int64_t seed = 3) {
  auto generator = torch::make_generator<at::CPUGeneratorImpl>(static_cast<uint64_t>(seed));
  return torch::randn({ranks * kBatch, 6}, generator, torch::kFloat64).to(type);
}

inline torch::Tensor loss_of(const torch::Tensor& output) {
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

inline void expect_close(const Gradients& actual, const Gradients& expected, double tolerance,
                         const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (const auto& [name, gradient] : expected) {
    const double difference = (actual.at(name) - gradient).abs().max().template item<double>();
    EXPECT_LE(difference, tolerance) << what << ": " << name;
  }
}

inline DistributedDataParallelOptions small_buckets() {
  return {.bucket_cap_mb = 0.002, .first_bucket_mb = 0.0005};
}

inline torch::Tensor shard(int rank, int ranks, torch::ScalarType type, int64_t seed = 3) {
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
  EXPECT_THAT(errors, ::testing::Each(::testing::IsEmpty()));
}

}  // namespace ddp::testing
