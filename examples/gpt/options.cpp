#include "examples/gpt/options.h"

#include <unistd.h>

#include <charconv>
#include <cxxopts.hpp>
#include <iostream>
#include <sstream>

#include <ddp/error.h>

namespace gpt {
namespace {

using cxxopts::value;

constexpr const char* kIntroduction =
    "Trains a GPT on the bytes of any text, data-parallel over all ranks it is started with, and goes on "
    "where it stopped.\n";

constexpr const char* kExamples = R"(
Starting it
  gpt                                              one process, the compiler's C++ headers as text
  ddprun --nproc-per-node 2 --max-restarts 3 gpt --checkpoint runs/a       two ranks, restarted and resumed by themselves
  mpirun -n 2 gpt          torchrun --no-python --nproc-per-node 2 gpt     srun -n 2 gpt     a PyTorchJob: command: [gpt]

Exit code: 0 done; 78 starting it again does not help (bad options, an environment that contradicts itself, a
checkpoint of another model or that another job took over), which ddprun respects; 143 stopped by SIGTERM and saved, after the
same step on all ranks: start it again to go on; 1 anything else.
)";

cxxopts::Options make_parser() {
  const Options defaults;
  const auto text = [](auto number) {
    std::ostringstream out;
    out << number;
    return out.str();
  };
  // Numbers are parsed by Checked, whose errors name the option.
  const auto integer = [&](std::int64_t number) { return value<std::string>()->default_value(text(number)); };
  const auto real = [&](double number) { return value<std::string>()->default_value(text(number)); };
  const auto word = [](const std::string& preset) { return value<std::string>()->default_value(preset); };
  cxxopts::Options parser("gpt", kIntroduction);
  parser.set_width(110);
  parser.add_options("Model")("layers", "transformer blocks", integer(defaults.model.layers), "N")(
      "heads", "attention heads a block", integer(defaults.model.heads), "N")(
      "width", "numbers a position, a multiple of heads", integer(defaults.model.width), "N")(
      "context", "longest text the model sees at once, in bytes", integer(defaults.model.context), "N")(
      "dropout", "share of activations dropped in training", real(defaults.model.dropout), "P");
  parser.add_options("Text")("data", "a text file, or a folder of them", word(GPT_DEFAULT_DATA), "PATH")(
      "data-limit", "MiB of text to read at most", integer(defaults.data_limit_mb), "MIB");
  parser.add_options("Training")("steps", "optimizer steps in all, those before a restart included",
                                 integer(defaults.steps), "N")(
      "batch", "windows of text a rank and micro-batch", integer(defaults.batch), "N")(
      "accumulate", "micro-batches a step; gradients are reduced with the last", integer(defaults.accumulate),
      "N")("lr", "highest learning rate", real(defaults.learning_rate), "LR")(
      "min-lr", "learning rate at the end of the cosine", real(defaults.minimum_learning_rate), "LR")(
      "warmup", "steps of linear warm-up", integer(defaults.warmup), "N")(
      "weight-decay", "AdamW's, for matrices", real(defaults.weight_decay), "W")(
      "clip", "largest norm of the gradient; 0: none", real(defaults.clip), "NORM")(
      "seed", "of weights, order of text and dropout", integer(1), "N");
  parser.add_options("Progress")("print-every", "steps from one line of progress to the next",
                                 integer(defaults.print_every), "N")(
      "evaluate-every", "steps from one evaluation to the next; 0: none", integer(defaults.evaluate_every),
      "N")("evaluate-windows", "windows of text in an evaluation", integer(defaults.evaluate_windows), "N")(
      "metrics", "rank 0 appends one line of JSON a step to this file", word(""), "FILE");
  parser.add_options("Checkpoints")(
      "checkpoint", "folder that all ranks reach; saves there, and goes on from what is there", word(""),
      "DIR")("checkpoint-every", "steps from one checkpoint to the next", integer(defaults.checkpoint_every),
             "N")("keep", "newest checkpoints to keep; 0: all", integer(defaults.keep), "N");
  parser.add_options("Sampling")("sample", "bytes of text to write at the end", integer(defaults.sample),
                                 "N")("sample-only",
                                      "do not train: load --checkpoint and write --sample bytes")(
      "prompt", "what the text begins with", word("\\n"), "TEXT")(
      "temperature", "0: always the likeliest byte; 1: as the model says", real(defaults.temperature), "T");
  parser.add_options("Machine")("device", "cpu or cuda", word(defaults.device), "NAME")(
      "backend", "auto, host or mpi: what carries gradients", word(defaults.backend), "NAME")(
      "reproducible",
      "the same losses in every run, bit for bit, also with several threads; slower where there is AVX-512")(
      "threads", "threads a rank; 0: the machine's cores divided by its ranks", integer(0), "N")(
      "timeout", "seconds to wait for other ranks", real(defaults.timeout_seconds), "S")("h,help",
                                                                                         "this text");
  return parser;
}

/// An option's value, refused with its name when it is no number or out of range.
class Checked {
 public:
  explicit Checked(const cxxopts::ParseResult& parsed) : parsed_(parsed) {}
  [[nodiscard]] std::int64_t integer(const std::string& name, std::int64_t low, std::int64_t high) const {
    return number<std::int64_t>(name, "a whole number", low, high);
  }
  [[nodiscard]] double real(const std::string& name, double low, double high) const {
    return number<double>(name, "a number", low, high);
  }
  [[nodiscard]] std::string text(const std::string& name) const { return parsed_[name].as<std::string>(); }
  [[nodiscard]] bool given(const std::string& name) const { return parsed_.count(name) > 0; }

 private:
  template <class Number>
  [[nodiscard]] Number number(const std::string& name, const char* what, Number low, Number high) const {
    const std::string written = text(name);
    const char* end = written.data() + written.size();
    Number value = 0;
    const auto parsed = std::from_chars(written.data(), end, value);
    if (parsed.ec == std::errc() && parsed.ptr == end && value >= low && value <= high) return value;
    std::ostringstream message;
    message << "--" << name << " is '" << written.substr(0, 80) << "'; it must be " << what << " from " << low
            << " to " << high;
    throw ddp::ConfigError(message.str());
  }
  const cxxopts::ParseResult& parsed_;
};

/// "\n" and "\t" as people type them.
std::string unescape(const std::string& text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char next = text[i] == '\\' && i + 1 < text.size() ? text[i + 1] : '\0';
    if (next == 'n' || next == 't' || next == '\\') {
      result += next == 'n' ? '\n' : next == 't' ? '\t' : '\\';
      ++i;
    } else {
      result += text[i];
    }
  }
  return result;
}

/// Weights, gradients and AdamW's two moments, and what a block keeps for backward at the very least, in float32.
void require_memory(const GptOptions& model, std::int64_t batch) {
  const double width = static_cast<double>(model.width);
  const double parameters = static_cast<double>(model.layers) * 12 * width * width +
                            static_cast<double>(kVocabulary + model.context) * width;
  const double tokens = static_cast<double>(batch) * static_cast<double>(model.context);
  const double kept = tokens * (static_cast<double>(model.layers) * 12 * width + 2 * kVocabulary);
  const double needed = (16 * parameters + 4 * kept) / (1 << 30);
  const double there = static_cast<double>(::sysconf(_SC_PHYS_PAGES)) *
                       static_cast<double>(::sysconf(_SC_PAGESIZE)) / (1 << 30);
  if (needed <= there) return;
  std::ostringstream message;
  message.precision(3);
  message << "--layers " << model.layers << " --width " << model.width << " make a model of "
          << parameters / 1e9
          << " billion parameters, which with gradients, AdamW's state and the activations of "
          << "--batch " << batch << " x --context " << model.context << " needs at least " << needed
          << " GiB a rank; this machine has " << there << " GiB";
  throw ddp::ConfigError(message.str());
}

GptOptions model_options(const Checked& checked) {
  GptOptions model;
  model.layers = checked.integer("layers", 1, 1000);
  model.heads = checked.integer("heads", 1, 1024);
  model.width = checked.integer("width", 1, 1 << 17);
  model.context = checked.integer("context", 1, 1 << 17);
  model.dropout = checked.real("dropout", 0, 0.99);
  if (model.width % model.heads != 0)
    throw ddp::ConfigError("--width " + std::to_string(model.width) + " is not a multiple of --heads " +
                           std::to_string(model.heads));
  return model;
}

Options checked_options(const Checked& checked) {
  Options options;
  options.model = model_options(checked);
  options.data = checked.text("data");
  options.data_limit_mb = checked.integer("data-limit", 1, 1 << 20);
  options.steps = checked.integer("steps", 0, std::int64_t{1} << 40);
  options.batch = checked.integer("batch", 1, 1 << 20);
  require_memory(options.model, options.batch);
  options.accumulate = checked.integer("accumulate", 1, 1 << 20);
  options.learning_rate = checked.real("lr", 0, 10);
  options.minimum_learning_rate = checked.real("min-lr", 0, 10);
  options.warmup = checked.integer("warmup", 0, std::int64_t{1} << 40);
  options.weight_decay = checked.real("weight-decay", 0, 10);
  options.clip = checked.real("clip", 0, 1e9);
  options.seed = static_cast<std::uint64_t>(checked.integer("seed", 0, std::int64_t{1} << 40));
  options.evaluate_every = checked.integer("evaluate-every", 0, std::int64_t{1} << 40);
  options.evaluate_windows = checked.integer("evaluate-windows", 1, 1 << 20);
  options.print_every = checked.integer("print-every", 1, std::int64_t{1} << 40);
  options.metrics = checked.text("metrics");
  options.checkpoint = checked.text("checkpoint");
  options.checkpoint_every = checked.integer("checkpoint-every", 1, std::int64_t{1} << 40);
  options.keep = static_cast<int>(checked.integer("keep", 0, 1 << 20));
  options.sample = checked.integer("sample", 0, 1 << 20);
  options.sample_only = checked.given("sample-only");
  options.prompt = unescape(checked.text("prompt"));
  options.temperature = checked.real("temperature", 0, 100);
  options.device = checked.text("device");
  options.backend = checked.text("backend");
  options.reproducible = checked.given("reproducible");
  options.threads = static_cast<int>(checked.integer("threads", 0, 1024));
  options.timeout_seconds = checked.real("timeout", 0.1, 86400);
  if (options.sample_only && options.checkpoint.empty())
    throw ddp::ConfigError("--sample-only needs --checkpoint: where is the model to be loaded from?");
  if (options.sample_only && options.sample == 0) options.sample = 400;
  if (options.prompt.empty())
    throw ddp::ConfigError("--prompt is empty; a model needs at least one byte to go on from");
  if (options.data.empty()) throw ddp::ConfigError("--data is empty; give a text file or a folder of them");
  return options;
}

}  // namespace

std::optional<Options> parse(int argc, const char* const* argv) {
  auto parser = make_parser();
  try {
    const auto parsed = parser.parse(argc, argv);
    if (parsed.count("help") > 0) {
      std::cout << parser.help(
                       {"Model", "Text", "Training", "Progress", "Checkpoints", "Sampling", "Machine"})
                << kExamples;
      return std::nullopt;
    }
    if (!parsed.unmatched().empty())
      throw ddp::ConfigError("'" + parsed.unmatched().front() + "' is not an option; see --help");
    return checked_options(Checked(parsed));
  } catch (const cxxopts::exceptions::exception& error) {
    throw ddp::ConfigError(std::string(error.what()) + "; see --help");
  }
}

}  // namespace gpt
