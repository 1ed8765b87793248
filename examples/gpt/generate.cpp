#include "examples/gpt/generate.h"

#include <torch/torch.h>

#include <algorithm>
#include <cstdio>

namespace gpt {

std::string generate(Gpt& model, const GenerateOptions& options) {
  const torch::NoGradGuard no_grad;
  const bool was_training = model->is_training();
  model->eval();
  const auto device = model->parameters().front().device();
  auto random = at::detail::createCPUGenerator(options.seed);
  std::string text = options.prompt;
  for (std::int64_t i = 0; i < options.bytes; ++i) {
    const auto seen = std::min<std::size_t>(text.size(), static_cast<std::size_t>(model->options().context));
    auto tokens = torch::empty({1, static_cast<std::int64_t>(seen)}, torch::kInt64);
    std::transform(text.end() - static_cast<std::ptrdiff_t>(seen), text.end(),
                   tokens.data_ptr<std::int64_t>(),
                   [](char byte) { return static_cast<unsigned char>(byte); });
    const auto logits = model->logits(tokens.to(device)).select(1, -1).squeeze(0).to(torch::kCPU);
    const auto next = options.temperature == 0
                          ? logits.argmax()
                          : torch::multinomial((logits / options.temperature).softmax(-1), 1, false, random);
    text += static_cast<char>(next.item<std::int64_t>());
  }
  model->train(was_training);
  return text;
}

std::string printable(const std::string& text) {
  std::string result;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n' || c == '\t' || (byte >= 0x20 && byte < 0x7f)) {
      result += c;
      continue;
    }
    char escaped[5];
    std::snprintf(escaped, sizeof escaped, "\\x%02x", byte);
    result += escaped;
  }
  return result;
}

}  // namespace gpt
