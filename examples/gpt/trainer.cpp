#include "examples/gpt/trainer.h"

#include <torch/torch.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <iostream>

#include <ddp/collectives.h>
#include <ddp/error.h>

#include "examples/gpt/generate.h"

namespace gpt {
namespace {

namespace checkpoint = ddp::checkpoint;

/// While it lives, SIGTERM asks the checkpointer to stop.
class StopOnTerm {
 public:
  explicit StopOnTerm(checkpoint::Checkpointer* checkpointer) {
    if (checkpointer == nullptr) return;
    target = checkpointer;
    std::signal(SIGTERM, [](int) { target->request_stop(); });
  }
  StopOnTerm(const StopOnTerm&) = delete;
  StopOnTerm& operator=(const StopOnTerm&) = delete;
  ~StopOnTerm() {
    std::signal(SIGTERM, SIG_DFL);
    target = nullptr;
  }

 private:
  static inline checkpoint::Checkpointer* target = nullptr;  // a handler gets no argument
};

Corpus load_corpus(const Options& options, const ddp::Context& context) {
  Corpus corpus = Corpus::load(options.data, options.data_limit_mb << 20);
  corpus.cut(options.model.context);
  corpus.require_same_on_all(context);
  return corpus;
}

/// All ranks could draw the same weights, but DistributedDataParallel sends rank 0's to all anyway.
Gpt make_model(const Options& options, const ddp::Context& context) {
  torch::manual_seed(options.seed);
  Gpt model(options.model);
  model->to(context.device());
  torch::manual_seed(options.seed + 1000 + static_cast<std::uint64_t>(context.rank()));  // dropout differs
  return model;
}

/// Matrices decay, biases and norms do not.
torch::optim::AdamW make_optimizer(const Gpt& model, const Options& options) {
  std::vector<torch::Tensor> matrices, vectors;
  for (const auto& parameter : model->parameters())
    (parameter.dim() > 1 ? matrices : vectors).push_back(parameter);
  const auto group = [&](std::vector<torch::Tensor> parameters, double decay) {
    auto settings = std::make_unique<torch::optim::AdamWOptions>(options.learning_rate);
    settings->weight_decay(decay).betas({0.9, 0.95});
    return torch::optim::OptimizerParamGroup(std::move(parameters), std::move(settings));
  };
  return torch::optim::AdamW({group(matrices, options.weight_decay), group(vectors, 0)},
                             torch::optim::AdamWOptions(options.learning_rate));
}

void write_sample(Gpt& model, const Options& options) {
  if (options.sample == 0) return;
  const std::string text =
      generate(model, {options.prompt, options.sample, options.temperature, options.seed});
  std::cout << "----- sample\n" << printable(text) << "\n-----" << std::endl;
}

void set_learning_rate(torch::optim::AdamW& optimizer, double rate) {
  for (auto& group : optimizer.param_groups()) group.options().set_lr(rate);
}

/// A checkpoint brings the optimizer's options along; those of the command line count, as they do for the schedule.
void set_weight_decay(torch::optim::AdamW& optimizer, double decay) {
  auto& matrices = optimizer.param_groups()[0];
  static_cast<torch::optim::AdamWOptions&>(matrices.options()).weight_decay(decay);
}

}  // namespace

void Heads::load_state(std::string_view state) {
  if (state != save_state())
    throw ddp::ConfigError("--heads " + save_state() + ": the checkpoint is of a model with " +
                           std::string(state) + " heads; give the same, or another --checkpoint folder");
}

Trainer::Trainer(const Options& options, const ddp::Context& context)
    : options_(options),
      context_(context),
      corpus_(load_corpus(options, context)),
      model_(make_model(options, context)),
      parallel_(model_, context),
      optimizer_(make_optimizer(model_, options)),
      schedule_{options.learning_rate, options.minimum_learning_rate, options.warmup, options.steps},
      sampler_(corpus_.training_windows(), context,
               {.seed = options.seed, .uneven = ddp::data::UnevenSplit::kDrop}),
      heads_(options.model.heads),
      metrics_(context.rank() == 0 ? options.metrics : "", context.env().restart_count) {
  if (!is_chief()) return;
  std::printf(
      "gpt: %lld parameters, %lld bytes of text from %zu files, %lld windows for training, %d ranks of batch "
      "%lld\n",
      static_cast<long long>(model_->parameter_count()), static_cast<long long>(corpus_.bytes()),
      corpus_.files(), static_cast<long long>(corpus_.training_windows()), context.world_size(),
      static_cast<long long>(options.batch * options.accumulate));
  std::fflush(stdout);
}

std::unique_ptr<checkpoint::Checkpointer> Trainer::open_checkpointer() const {
  if (options_.checkpoint.empty()) return nullptr;
  return std::make_unique<checkpoint::Checkpointer>(
      context_.group(), options_.checkpoint,
      checkpoint::CheckpointOptions{
          .every_steps = options_.checkpoint_every,
          .keep = options_.keep,
          .timeout = std::chrono::milliseconds(static_cast<long>(options_.timeout_seconds * 1000))});
}

checkpoint::State Trainer::state() {
  return {{"model", model_},      {"optimizer", optimizer_},
          {"sampler", sampler_},  {"random", at::globalContext().defaultGenerator(at::kCPU)},
          {"buckets", parallel_}, {"corpus", corpus_},
          {"heads", heads_},      {"losses", losses_}};
}

int Trainer::run() {
  const auto checkpointer = open_checkpointer();
  auto everything = state();
  const StopOnTerm stop(checkpointer.get());
  std::int64_t step = checkpointer ? checkpointer->restore(everything) : 0;
  set_weight_decay(optimizer_, options_.weight_decay);
  if (step > 0 && is_chief())
    std::printf("gpt: resumed from the checkpoint of step %lld\n", static_cast<long long>(step - 1));
  const std::int64_t first = step;
  for (; step < options_.steps; ++step) {
    const auto begin = std::chrono::steady_clock::now();
    const StepOutcome outcome = train_step(step, checkpointer && checkpointer->stop_requested());
    report(step, outcome.loss,
           std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    if (checkpointer && checkpointer->after_step(step, everything, outcome.stop).should_stop())
      return ddp::kExitPreempted;
  }
  if (step > options_.steps)
    throw ddp::ConfigError("--steps " + std::to_string(options_.steps) + ": the checkpoint is of step " +
                           std::to_string(step - 1) +
                           " already; give more steps, or another --checkpoint folder");
  if (checkpointer && step > first && options_.steps % options_.checkpoint_every != 0)
    checkpointer->save(options_.steps - 1, everything);
  if (is_chief()) write_sample(model_, options_);
  return 0;
}

Batch Trainer::next_batch() {
  auto windows = sampler_.next(options_.batch);
  while (static_cast<std::int64_t>(windows.size()) < options_.batch) {
    sampler_.start_epoch(sampler_.epoch() + 1);
    const auto more = sampler_.next(options_.batch - static_cast<std::int64_t>(windows.size()));
    windows.insert(windows.end(), more.begin(), more.end());
  }
  const Batch batch = corpus_.batch(windows);
  return {batch.tokens.to(context_.device()), batch.targets.to(context_.device())};
}

Trainer::StepOutcome Trainer::train_step(std::int64_t step, bool wants_stop) {
  set_learning_rate(optimizer_, schedule_(step));
  optimizer_.zero_grad();
  double sum = 0;
  for (std::int64_t i = 0; i < options_.accumulate; ++i) {
    std::optional<ddp::DataParallelBase::NoSync> no_sync;
    if (i + 1 < options_.accumulate) no_sync.emplace(parallel_.no_sync());
    const Batch batch = next_batch();
    const auto loss =
        parallel_.forward(batch.tokens, batch.targets) / static_cast<double>(options_.accumulate);
    loss.backward();
    sum += loss.item<double>();
  }
  if (options_.clip > 0) torch::nn::utils::clip_grad_norm_(model_->parameters(), options_.clip);
  optimizer_.step();
  // Whether somebody was told to stop rides on the reduction of the loss: all stop after the same step.
  double shared[2] = {sum, wants_stop ? 1.0 : 0.0};
  context_.communicator().all_reduce({shared, 2, ddp::DType::kFloat64}, {.op = ddp::ReduceOp::kMean});
  const double loss = shared[0];
  if (!std::isfinite(loss))
    throw ddp::Error("the loss of step " + std::to_string(step) +
                     " is not a finite number; try a lower --lr");
  losses_.push_back(loss);
  return {loss, shared[1] > 0};
}

double Trainer::evaluate() {
  const torch::NoGradGuard no_grad;
  model_->eval();
  double sums[2] = {0, 0};  // losses, windows
  const std::int64_t count = std::min(corpus_.evaluation_windows(), options_.evaluate_windows);
  for (std::int64_t first = context_.rank(); first < count; first += options_.batch * context_.world_size()) {
    std::vector<std::int64_t> windows;
    for (std::int64_t w = first; w < count && static_cast<std::int64_t>(windows.size()) < options_.batch;
         w += context_.world_size())
      windows.push_back(corpus_.training_windows() + w);
    const Batch batch = corpus_.batch(windows);
    const auto loss =
        model_->forward(batch.tokens.to(context_.device()), batch.targets.to(context_.device()));
    sums[0] += loss.item<double>() * static_cast<double>(windows.size());
    sums[1] += static_cast<double>(windows.size());
  }
  model_->train();
  context_.communicator().all_reduce({sums, 2, ddp::DType::kFloat64});
  return sums[0] / sums[1];
}

void Trainer::report(std::int64_t step, double loss, double seconds) {
  const bool last = step + 1 == options_.steps;
  const double tokens = static_cast<double>(options_.batch * options_.accumulate * options_.model.context *
                                            context_.world_size());
  if (is_chief()) {
    metrics_.write(
        step, {{"loss", loss}, {"learning_rate", schedule_(step)}, {"tokens_per_second", tokens / seconds}});
    if (step % options_.print_every == 0 || last)
      std::printf("step %5lld/%lld  loss %.4f  lr %.2e  %.0f tokens/s\n", static_cast<long long>(step),
                  static_cast<long long>(options_.steps), loss, schedule_(step), tokens / seconds);
  }
  if (options_.evaluate_every > 0 && ((step + 1) % options_.evaluate_every == 0 || last)) {
    const double evaluation = evaluate();
    if (is_chief()) {
      metrics_.write(step, {{"evaluation_loss", evaluation}});
      std::printf("step %5lld/%lld  evaluation loss %.4f nats a byte, perplexity %.2f\n",
                  static_cast<long long>(step), static_cast<long long>(options_.steps), evaluation,
                  std::exp(evaluation));
    }
  }
  std::fflush(stdout);
}

void write_sample_of_checkpoint(const Options& options, ddp::Group& ranks) {
  Gpt model(options.model);
  checkpoint::Checkpointer checkpointer(ranks, options.checkpoint, {.read_only = true});
  Heads heads(options.model.heads);
  checkpoint::State state{{"model", model}, {"heads", heads}};
  if (checkpointer.restore(state) == 0)
    throw ddp::ConfigError("--checkpoint: there is no checkpoint in " + options.checkpoint);
  if (ranks.rank() == 0) write_sample(model, options);
}

}  // namespace gpt
