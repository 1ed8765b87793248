#include "examples/gpt/model.h"

#include <torch/torch.h>

#include <cmath>

namespace gpt {
namespace nn = torch::nn;
namespace F = torch::nn::functional;

AttentionImpl::AttentionImpl(const GptOptions& options) : heads_(options.heads), dropout_(options.dropout) {
  qkv_ = register_module("qkv", nn::Linear(options.width, 3 * options.width));
  projection_ = register_module("projection", nn::Linear(options.width, options.width));
}

torch::Tensor AttentionImpl::forward(const torch::Tensor& x) {
  const auto batch = x.size(0), time = x.size(1), width = x.size(2);
  const auto parts =
      qkv_(x).view({batch, time, 3, heads_, width / heads_}).permute({2, 0, 3, 1, 4}).unbind(0);
  const auto mixed = at::scaled_dot_product_attention(parts[0], parts[1], parts[2], /*attn_mask=*/{},
                                                      is_training() ? dropout_ : 0.0, /*is_causal=*/true);
  return projection_(mixed.transpose(1, 2).reshape({batch, time, width}));
}

BlockImpl::BlockImpl(const GptOptions& options) {
  norm_1_ = register_module("norm_1", nn::LayerNorm(nn::LayerNormOptions({options.width})));
  attention_ = register_module("attention", Attention(options));
  norm_2_ = register_module("norm_2", nn::LayerNorm(nn::LayerNormOptions({options.width})));
  up_ = register_module("up", nn::Linear(options.width, 4 * options.width));
  down_ = register_module("down", nn::Linear(4 * options.width, options.width));
  dropout_ = register_module("dropout", nn::Dropout(options.dropout));
}

torch::Tensor BlockImpl::forward(const torch::Tensor& x) {
  const auto attended = x + dropout_(attention_(norm_1_(x)));
  return attended + dropout_(down_(torch::gelu(up_(norm_2_(attended)), "tanh")));
}

GptImpl::GptImpl(const GptOptions& options) : options_(options) {
  token_embedding_ = register_module("token_embedding", nn::Embedding(kVocabulary, options.width));
  position_embedding_ = register_module("position_embedding", nn::Embedding(options.context, options.width));
  dropout_ = register_module("dropout", nn::Dropout(options.dropout));
  blocks_ = register_module("blocks", nn::ModuleList());
  for (std::int64_t i = 0; i < options.layers; ++i) blocks_->push_back(Block(options));
  norm_ = register_module("norm", nn::LayerNorm(nn::LayerNormOptions({options.width})));
  initialise();
}

/// Normal(0, 0.02), biases 0; what adds to the residual stream is scaled down by the number of additions.
void GptImpl::initialise() {
  const torch::NoGradGuard no_grad;
  const double residual = 0.02 / std::sqrt(2.0 * static_cast<double>(options_.layers));
  for (const auto& item : named_parameters()) {
    const std::string& name = item.key();
    torch::Tensor parameter = item.value();
    const bool adds_to_residual = name.ends_with("projection.weight") || name.ends_with("down.weight");
    if (name.ends_with("bias"))
      parameter.zero_();
    else if (parameter.dim() == 2)
      parameter.normal_(0, adds_to_residual ? residual : 0.02);
  }
}

torch::Tensor GptImpl::logits(const torch::Tensor& tokens) {
  const auto positions = torch::arange(tokens.size(1), tokens.options());
  auto x = dropout_(token_embedding_(tokens) + position_embedding_(positions));
  for (const auto& block : *blocks_) x = block->as<BlockImpl>()->forward(x);
  return torch::linear(norm_(x), token_embedding_->weight);  // tied: the embedding is the output layer too
}

torch::Tensor GptImpl::forward(const torch::Tensor& tokens, const torch::Tensor& targets) {
  return F::cross_entropy(logits(tokens).view({-1, kVocabulary}), targets.reshape({-1}));
}

std::int64_t GptImpl::parameter_count() const {
  std::int64_t count = 0;
  for (const auto& parameter : parameters()) count += parameter.numel();
  return count;
}

}  // namespace gpt
