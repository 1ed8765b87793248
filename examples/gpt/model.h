// A GPT-2-style language model over bytes: token and position embeddings, pre-norm transformer blocks, tied output.
//
//   Gpt model(GptOptions{.layers = 4, .heads = 4, .width = 128, .context = 128});
//   torch::Tensor loss = model->forward(tokens, targets);      // int64 [batch, time <= context], both
//   torch::Tensor logits = model->logits(tokens);              // float [batch, time, 256]
//
// Source: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019; initialisation as there.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/dropout.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>

#include <cstdint>

namespace gpt {

/// Tokens are bytes.
inline constexpr std::int64_t kVocabulary = 256;

struct GptOptions {
  std::int64_t layers = 4;
  std::int64_t heads = 4;
  std::int64_t width = 128;    ///< a multiple of heads
  std::int64_t context = 128;  ///< longest sequence
  double dropout = 0.1;
};

/// Causal self-attention: every position looks at itself and those before it.
class AttentionImpl : public torch::nn::Module {
 public:
  explicit AttentionImpl(const GptOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

 private:
  std::int64_t heads_;
  double dropout_;
  torch::nn::Linear qkv_{nullptr}, projection_{nullptr};
};
TORCH_MODULE(Attention);

class BlockImpl : public torch::nn::Module {
 public:
  explicit BlockImpl(const GptOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

 private:
  torch::nn::LayerNorm norm_1_{nullptr}, norm_2_{nullptr};
  Attention attention_{nullptr};
  torch::nn::Linear up_{nullptr}, down_{nullptr};
  torch::nn::Dropout dropout_{nullptr};
};
TORCH_MODULE(Block);

class GptImpl : public torch::nn::Module {
 public:
  explicit GptImpl(const GptOptions& options);
  /// Mean cross-entropy in nats a byte.
  torch::Tensor forward(const torch::Tensor& tokens, const torch::Tensor& targets);
  torch::Tensor logits(const torch::Tensor& tokens);
  [[nodiscard]] std::int64_t parameter_count() const;
  [[nodiscard]] const GptOptions& options() const { return options_; }

 private:
  void initialise();

  GptOptions options_;
  torch::nn::Embedding token_embedding_{nullptr}, position_embedding_{nullptr};
  torch::nn::Dropout dropout_{nullptr};
  torch::nn::ModuleList blocks_;
  torch::nn::LayerNorm norm_{nullptr};
};
TORCH_MODULE(Gpt);

}  // namespace gpt
