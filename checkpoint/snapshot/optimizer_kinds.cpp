#include "checkpoint/snapshot/optimizer_kinds.h"

#include <torch/optim.h>

#include <typeinfo>

#include <ddp/error.h>

namespace ddp::checkpoint {
namespace {
using torch::optim::OptimizerOptions;
using torch::optim::OptimizerParamState;

// One trait per optimizer: its classes and their fields, in the order of torch's headers.

template <class OptionsType, class StateType>
struct AdamLike {
  using Options = OptionsType;
  using State = StateType;
  static void options(Options& options, FieldVisitor& visit) {
    visit.field("lr", options.lr());
    visit.field("beta1", std::get<0>(options.betas()));
    visit.field("beta2", std::get<1>(options.betas()));
    visit.field("eps", options.eps());
    visit.field("weight_decay", options.weight_decay());
    visit.field("amsgrad", options.amsgrad());
  }
  static void state(State& state, FieldVisitor& visit) {
    visit.field("step", state.step());
    visit.field("exp_avg", state.exp_avg());
    visit.field("exp_avg_sq", state.exp_avg_sq());
    visit.field("max_exp_avg_sq", state.max_exp_avg_sq());
  }
};
struct Adam : AdamLike<torch::optim::AdamOptions, torch::optim::AdamParamState> {
  static constexpr const char* kName = "Adam";
};
struct AdamW : AdamLike<torch::optim::AdamWOptions, torch::optim::AdamWParamState> {
  static constexpr const char* kName = "AdamW";
};

struct Sgd {
  static constexpr const char* kName = "SGD";
  using Options = torch::optim::SGDOptions;
  using State = torch::optim::SGDParamState;
  static void options(Options& options, FieldVisitor& visit) {
    visit.field("lr", options.lr());
    visit.field("momentum", options.momentum());
    visit.field("dampening", options.dampening());
    visit.field("weight_decay", options.weight_decay());
    visit.field("nesterov", options.nesterov());
  }
  static void state(State& state, FieldVisitor& visit) {
    visit.field("momentum_buffer", state.momentum_buffer());
  }
};

struct Adagrad {
  static constexpr const char* kName = "Adagrad";
  using Options = torch::optim::AdagradOptions;
  using State = torch::optim::AdagradParamState;
  static void options(Options& options, FieldVisitor& visit) {
    visit.field("lr", options.lr());
    visit.field("lr_decay", options.lr_decay());
    visit.field("weight_decay", options.weight_decay());
    visit.field("initial_accumulator_value", options.initial_accumulator_value());
    visit.field("eps", options.eps());
  }
  static void state(State& state, FieldVisitor& visit) {
    visit.field("step", state.step());
    visit.field("sum", state.sum());
  }
};

struct RmsProp {
  static constexpr const char* kName = "RMSprop";
  using Options = torch::optim::RMSpropOptions;
  using State = torch::optim::RMSpropParamState;
  static void options(Options& options, FieldVisitor& visit) {
    visit.field("lr", options.lr());
    visit.field("alpha", options.alpha());
    visit.field("eps", options.eps());
    visit.field("weight_decay", options.weight_decay());
    visit.field("momentum", options.momentum());
    visit.field("centered", options.centered());
  }
  static void state(State& state, FieldVisitor& visit) {
    visit.field("step", state.step());
    visit.field("square_avg", state.square_avg());
    visit.field("momentum_buffer", state.momentum_buffer());
    visit.field("grad_avg", state.grad_avg());
  }
};

template <class Traits>
class KindOf final : public OptimizerKind {
 public:
  [[nodiscard]] const char* name() const override { return Traits::kName; }
  void visit_options(OptimizerOptions& options, FieldVisitor& visitor) const override {
    Traits::options(static_cast<typename Traits::Options&>(options), visitor);
  }
  [[nodiscard]] std::unique_ptr<OptimizerParamState> make_state() const override {
    return std::make_unique<typename Traits::State>();
  }
  void visit_state(OptimizerParamState& state, FieldVisitor& visitor) const override {
    Traits::state(static_cast<typename Traits::State&>(state), visitor);
  }
};

}  // namespace

std::unique_ptr<const OptimizerKind> kind_of(const torch::optim::Optimizer& optimizer) {
  const std::type_info& type = typeid(optimizer);
  if (type == typeid(torch::optim::AdamW)) return std::make_unique<KindOf<AdamW>>();
  if (type == typeid(torch::optim::Adam)) return std::make_unique<KindOf<Adam>>();
  if (type == typeid(torch::optim::SGD)) return std::make_unique<KindOf<Sgd>>();
  if (type == typeid(torch::optim::Adagrad)) return std::make_unique<KindOf<Adagrad>>();
  if (type == typeid(torch::optim::RMSprop)) return std::make_unique<KindOf<RmsProp>>();
  throw ConfigError(
      "checkpoint state: the state of optimizer " + c10::demangle(type.name()) +
      " is not known; supported are AdamW, Adam, SGD, Adagrad and RMSprop (not classes derived from "
      "them). Others can be given as a ddp::Stateful that saves and loads them");
}

}  // namespace ddp::checkpoint
