// Checkpointer with real modules and optimizers: training goes on bitwise exactly.
#include <ddp/checkpoint/checkpointer.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tests/checkpoint/support.h"

namespace ddp::checkpoint {
namespace {
using testing::AllOf;
using testing::Each;
using testing::HasSubstr;
using testing::IsEmpty;
using namespace testing_support;

/// Dropout draws random numbers, batch norm has buffers of floats and an integer, the head is tied to nothing.
struct NetImpl : torch::nn::Module {
  explicit NetImpl(int64_t width = 8) {
    first = register_module("first", torch::nn::Linear(4, width));
    norm = register_module("norm", torch::nn::BatchNorm1d(width));
    drop = register_module("drop", torch::nn::Dropout(0.3));
    head = register_module("head", torch::nn::Linear(width, 1));
  }
  torch::Tensor forward(torch::Tensor x) { return head(drop(torch::relu(norm(first(x))))); }
  torch::nn::Linear first{nullptr}, head{nullptr};
  torch::nn::BatchNorm1d norm{nullptr};
  torch::nn::Dropout drop{nullptr};
};
TORCH_MODULE(Net);

class Counter : public Stateful {
 public:
  [[nodiscard]] std::string save_state() const override {
    return std::string("count\0", 6) + std::to_string(value);
  }
  void load_state(std::string_view state) override {
    if (!state.starts_with("count")) throw CorruptCheckpoint("not a counter");
    value = std::stoll(std::string(state.substr(6)));
  }
  std::int64_t value = 0;
};

using MakeOptimizer = std::function<std::unique_ptr<torch::optim::Optimizer>(std::vector<torch::Tensor>)>;

/// A training program: model, optimizer, generator, losses.
struct Program {
  Program(std::uint64_t seed, const MakeOptimizer& make) : random(at::detail::createCPUGenerator(seed)) {
    torch::manual_seed(seed);
    net = Net();
    optimizer = make(net->parameters());
  }
  State state() {
    return State{{"model", net},       {"optimizer", *optimizer},
                 {"random", random},   {"torch", at::globalContext().defaultGenerator(at::kCPU)},
                 {"counter", counter}, {"losses", losses}};
  }
  void step() {
    optimizer->zero_grad();
    auto x = torch::empty({16, 4}).normal_(0, 1, random);
    auto loss = torch::mse_loss(net(x), x.sum(1, true));
    loss.backward();
    optimizer->step();
    losses.push_back(loss.item<double>());
    ++counter.value;
  }
  Net net{nullptr};
  std::unique_ptr<torch::optim::Optimizer> optimizer;
  at::Generator random;
  Counter counter;
  std::vector<double> losses;
};

void expect_equal(Program& a, Program& b) {
  EXPECT_EQ(a.losses, b.losses);
  EXPECT_EQ(a.counter.value, b.counter.value);
  const auto compare = [](const auto& left, const auto& right) {
    ASSERT_EQ(left.size(), right.size());
    for (std::size_t i = 0; i < left.size(); ++i) {
      const auto &x = left[i].value(), &y = right[i].value();
      ASSERT_EQ(x.nbytes(), y.nbytes());
      EXPECT_EQ(std::memcmp(x.data_ptr(), y.data_ptr(), x.nbytes()), 0) << left[i].key() << " differs";
    }
  };
  compare(a.net->named_parameters(), b.net->named_parameters());
  compare(a.net->named_buffers(), b.net->named_buffers());
}

template <class Optimizer, class Options>
MakeOptimizer maker(Options options) {
  return [options](std::vector<torch::Tensor> parameters) {
    return std::make_unique<Optimizer>(std::move(parameters), options);
  };
}

struct Case {
  const char* name;
  MakeOptimizer make;
};

class Resume : public testing::TestWithParam<Case> {};

TEST_P(Resume, GoesOnBitwiseAsIfNothingHadHappened) {
  constexpr int kSteps = 10;
  TemporaryFolder folder;
  SingleGroup group;
  Program undisturbed(1, GetParam().make);
  for (int step = 0; step < kSteps; ++step) undisturbed.step();
  {
    Program first(1, GetParam().make);
    Checkpointer checkpointer(group, folder.path().string(), {.every_steps = 5});
    State state = first.state();
    EXPECT_EQ(checkpointer.restore(state), 0);
    for (int64_t step = 0; step < 7; ++step) {  // two steps more than are saved
      first.step();
      const auto result = checkpointer.after_step(step, state);
      EXPECT_EQ(result.saved(), step == 4);
      EXPECT_FALSE(result.should_stop());
    }
  }
  Program second(2, GetParam().make);  // other weights, other random numbers
  for (auto& parameters : second.optimizer->param_groups()) parameters.options().set_lr(123);
  second.step();  // and a state of its own
  Checkpointer checkpointer(group, folder.path().string());
  State state = second.state();
  int64_t step = checkpointer.restore(state);
  EXPECT_EQ(step, 5);
  for (; step < kSteps; ++step) second.step();
  expect_equal(undisturbed, second);
}

INSTANTIATE_TEST_SUITE_P(
    Optimizers, Resume,
    testing::Values(
        Case{"AdamW", maker<torch::optim::AdamW>(torch::optim::AdamWOptions(1e-2).weight_decay(0.1))},
        Case{"AdamWAmsgrad", maker<torch::optim::AdamW>(torch::optim::AdamWOptions(1e-2).amsgrad(true))},
        Case{"Adam", maker<torch::optim::Adam>(torch::optim::AdamOptions(1e-2).betas({0.8, 0.9}))},
        Case{"SgdMomentum",
             maker<torch::optim::SGD>(torch::optim::SGDOptions(1e-2).momentum(0.9).nesterov(true))},
        Case{"Sgd", maker<torch::optim::SGD>(torch::optim::SGDOptions(1e-2))},
        Case{"Adagrad", maker<torch::optim::Adagrad>(torch::optim::AdagradOptions(1e-2).lr_decay(0.1))},
        Case{"RMSprop",
             maker<torch::optim::RMSprop>(torch::optim::RMSpropOptions(1e-3).momentum(0.9).centered(true))}),
    [](const auto& info) { return info.param.name; });

const MakeOptimizer kAdamW = maker<torch::optim::AdamW>(torch::optim::AdamWOptions(1e-2));

TEST(Checkpointer, ManyRanksWriteTogetherAndEachGetsItsOwnBack) {
  TemporaryFolder folder;
  const std::string location = "file://" + folder.path().string();
  const auto errors = run_ranks(3, [&](Group& group) {
    Counter counter;
    auto net = std::make_shared<NetImpl>();
    {
      const at::NoGradGuard no_grad;
      for (auto& parameter : net->parameters()) parameter.fill_(0.5);
      net->norm->running_mean.fill_(group.rank());  // differs: stored for each rank
    }
    torch::optim::SGD optimizer(net->parameters(), 0.1);
    counter.value = 100 + group.rank();
    Checkpointer checkpointer(group, location);
    torch::nn::ModuleList many;
    for (int i = 0; i < 9; ++i) many->push_back(torch::nn::Linear(30, 30));
    State state{{"model", net}, {"optimizer", optimizer}, {"counter", counter}, {"many", many}};
    checkpointer.save(9, state);
    const at::NoGradGuard no_grad;
    for (auto& parameter : net->parameters()) parameter.zero_();
    net->norm->running_mean.zero_();
    counter.value = 0;
    EXPECT_EQ(checkpointer.restore(state), 10);
    EXPECT_EQ(counter.value, 100 + group.rank());
    EXPECT_TRUE(net->norm->running_mean.eq(group.rank()).all().item<bool>());
    for (const auto& parameter : net->parameters()) EXPECT_TRUE(parameter.eq(0.5).all().item<bool>());
  });
  EXPECT_THAT(errors, Each(IsEmpty()));
  std::uintmax_t smallest = -1, largest = 0;
  for (const auto& file : files_below(folder.path() / "data"))
    if (file.extension() == ".safetensors") {
      smallest = std::min(smallest, std::filesystem::file_size(file));
      largest = std::max(largest, std::filesystem::file_size(file));
    }
  EXPECT_LT(largest, 2 * smallest) << "the shares are out of balance";
}

TEST(Checkpointer, AnotherWorldSizeGetsTheModelAndSaysWhatItCannotDeal) {
  TemporaryFolder folder;
  const auto program = [&](Group& group, bool differ,
                           const std::function<void(Checkpointer&, State&, Counter&)>& body) {
    auto net = std::make_shared<NetImpl>();
    Counter counter;
    counter.value = differ ? group.rank() : 5;
    Checkpointer checkpointer(group, folder.path().string());
    State state{{"model", net}, {"counter", counter}};
    body(checkpointer, state, counter);
  };
  const auto save = [&](bool differ) {
    return run_ranks(2, [&](Group& group) {
      program(group, differ,
              [](Checkpointer& checkpointer, State& state, Counter&) { checkpointer.save(1, state); });
    });
  };
  SingleGroup alone;
  torch::manual_seed(0);
  ASSERT_THAT(save(false), Each(IsEmpty()));
  program(alone, true, [](Checkpointer& checkpointer, State& state, Counter& counter) {
    EXPECT_EQ(checkpointer.restore(state), 2);
    EXPECT_EQ(counter.value, 5);
  });
  ASSERT_THAT(save(true), Each(IsEmpty()));
  program(alone, true, [](Checkpointer& checkpointer, State& state, Counter&) {
    try {
      (void)checkpointer.restore(state);
      FAIL();
    } catch (const ConfigError& e) {
      EXPECT_THAT(e.what(), AllOf(HasSubstr("counter/value"), HasSubstr("2 ranks")));
    }
  });
}

TEST(Checkpointer, AModelThatDoesNotFitIsAConfigErrorWithNamesAndBothShapes) {
  TemporaryFolder folder;
  SingleGroup group;
  Net saved(8), wider(9);
  saved->register_buffer("extra", torch::zeros({2}));
  wider->register_buffer("other", torch::zeros({3}, at::kLong));
  Checkpointer checkpointer(group, folder.path().string());
  checkpointer.save(0, State{{"model", saved}});
  State state{{"model", wider}};
  try {
    (void)checkpointer.restore(state);
    FAIL();
  } catch (const ConfigError& e) {
    EXPECT_THAT(e.what(),
                AllOf(HasSubstr("'model/first.weight' is F32[9, 4] here and F32[8, 4] in the checkpoint"),
                      HasSubstr("more")));
  }
  Net same(8);
  same->register_buffer("other", torch::zeros({3}, at::kLong));
  State renamed{{"model", same}};
  try {
    (void)checkpointer.restore(renamed);
    FAIL();
  } catch (const ConfigError& e) {
    EXPECT_THAT(e.what(), AllOf(HasSubstr("'model/other' I64[3] is missing in the checkpoint"),
                                HasSubstr("'model/extra' F32[2] is in the checkpoint and not in the state")));
  }
  Net half(8);
  half->register_buffer("extra", torch::zeros({2}, at::kHalf));
  State other_type{{"model", half}};
  EXPECT_THROW((void)checkpointer.restore(other_type), ConfigError);
}

TEST(Checkpointer, AnotherOptimizerIsAConfigErrorThatNamesIt) {
  TemporaryFolder folder;
  SingleGroup group;
  Program saved(1, kAdamW);
  saved.step();
  Checkpointer checkpointer(group, folder.path().string());
  checkpointer.save(0, saved.state());
  Program other(1, maker<torch::optim::SGD>(torch::optim::SGDOptions(0.1)));
  State state = other.state();
  try {
    (void)checkpointer.restore(state);
    FAIL();
  } catch (const ConfigError& e) {
    EXPECT_THAT(e.what(), HasSubstr("kind.SGD"));
  }
}

TEST(Checkpointer, ParameterGroupsAndParametersWithoutStateComeBackAsTheyWere) {
  TemporaryFolder folder;
  SingleGroup group;
  const auto make = [](Net& net) {
    std::vector<torch::optim::OptimizerParamGroup> groups;
    groups.emplace_back(net->first->parameters(), std::make_unique<torch::optim::AdamWOptions>(0.1));
    groups.emplace_back(net->head->parameters(), std::make_unique<torch::optim::AdamWOptions>(0.2));
    return torch::optim::AdamW(groups, torch::optim::AdamWOptions(0.3));
  };
  Net a, b;
  auto optimizer = make(a), restored = make(b);
  a->first->weight.mutable_grad() = torch::ones_like(a->first->weight);
  optimizer.step();
  for (auto& parameter : b->parameters()) parameter.mutable_grad() = torch::ones_like(parameter);
  restored.step();
  optimizer.param_groups()[1].options().set_lr(0.7);
  Checkpointer checkpointer(group, folder.path().string());
  checkpointer.save(0, State{{"model", a}, {"optimizer", optimizer}});
  State state{{"model", b}, {"optimizer", restored}};
  EXPECT_EQ(checkpointer.restore(state), 1);
  EXPECT_EQ(restored.state().size(), 1U);
  EXPECT_EQ(restored.state().count(b->first->weight.unsafeGetTensorImpl()), 1U);
  EXPECT_EQ(restored.param_groups()[0].options().get_lr(), 0.1);
  EXPECT_EQ(restored.param_groups()[1].options().get_lr(), 0.7);
}

TEST(Checkpointer, ModulesCanBeGivenInEveryFormAndOnlyWhatIsGivenIsLoaded) {
  TemporaryFolder folder;
  SingleGroup group;
  Program saved(1, kAdamW);
  Checkpointer checkpointer(group, folder.path().string());
  checkpointer.save(3, saved.state());
  Net holder;
  auto pointer = std::make_shared<NetImpl>();
  NetImpl plain;
  State as_holder{{"model", holder}}, as_pointer{{"model", pointer}}, as_reference{{"model", plain}};
  for (auto* state : {&as_holder, &as_pointer, &as_reference}) EXPECT_EQ(checkpointer.restore(*state), 4);
  for (const auto* module : {holder.get(), pointer.get(), static_cast<NetImpl*>(&plain)})
    EXPECT_TRUE(module->first->weight.equal(saved.net->first->weight));
}

TEST(Checkpointer, EveryTensorTypeStrideAndValueComesBack) {
  TemporaryFolder folder;
  SingleGroup group;
  std::vector<at::Tensor> tensors, expected;
  for (const auto type : {at::kBool, at::kByte, at::kChar, at::kShort, at::kInt, at::kLong, at::kHalf,
                          at::kBFloat16, at::kFloat, at::kDouble, at::kComplexFloat, at::kComplexDouble,
                          at::kUInt16, at::kUInt32, at::kUInt64, at::kFloat8_e4m3fn, at::kFloat8_e5m2})
    tensors.push_back(torch::arange(0, 12).reshape({3, 4}).to(type));
  tensors.push_back(torch::rand({3, 4}).t());
  tensors.push_back(torch::randn({2, 3}, at::kComplexFloat).conj());
  tensors.push_back(torch::empty({0, 4}));
  tensors.push_back(torch::tensor(std::numeric_limits<double>::quiet_NaN()));
  tensors.push_back(torch::rand({1, 3, 4, 4}).contiguous(at::MemoryFormat::ChannelsLast));
  std::int64_t integer = -7;
  double number = -0.0;
  bool flag = true;
  std::string text("a\0b", 3);
  std::vector<char> bytes{'x', '\0'};
  std::vector<float> floats{1.5F};
  std::vector<std::int64_t> integers{-1, 2, 3};
  State state{{"integer", integer}, {"number", number}, {"flag", flag},        {"text", text},
              {"bytes", bytes},     {"floats", floats}, {"integers", integers}};
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    expected.push_back(tensors[i].clone());
    state.add({"t" + std::to_string(i), tensors[i]});
  }
  Checkpointer checkpointer(group, folder.path().string());
  checkpointer.save(0, state);
  for (auto& tensor : tensors) tensor.zero_();
  integer = 0, number = 1, flag = false, text = "", bytes.clear(), floats = {1, 2}, integers.clear();
  EXPECT_EQ(checkpointer.restore(state), 1);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto plain = [](const at::Tensor& t) { return t.resolve_conj().contiguous(); };
    const auto x = plain(tensors[i]), y = plain(expected[i]);
    EXPECT_TRUE(x.nbytes() == y.nbytes() &&
                (x.nbytes() == 0 || std::memcmp(x.data_ptr(), y.data_ptr(), x.nbytes()) == 0))
        << "t" << i << " " << x.scalar_type();
  }
  EXPECT_EQ(integer, -7);
  EXPECT_TRUE(number == 0 && std::signbit(number));
  EXPECT_TRUE(flag);
  EXPECT_EQ(text, std::string("a\0b", 3));
  EXPECT_EQ(bytes, (std::vector<char>{'x', '\0'}));
  EXPECT_EQ(floats, std::vector<float>{1.5F});
  EXPECT_EQ(integers, (std::vector<std::int64_t>{-1, 2, 3}));
}

/// The output projection is the embedding's weight, registered a second time.
struct TiedImpl : torch::nn::Module {
  TiedImpl() {
    in = register_module("in", torch::nn::Embedding(5, 3));
    out = register_parameter("out", in->weight);
  }
  torch::nn::Embedding in{nullptr};
  torch::Tensor out;
};
TORCH_MODULE(Tied);

TEST(Checkpointer, TiedParametersAreStoredOnceAndStayTied) {
  TemporaryFolder folder;
  SingleGroup group;
  Tied saved, restored;
  Checkpointer checkpointer(group, folder.path().string());
  checkpointer.save(0, State{{"model", saved}});
  std::string manifest;
  for (const auto& file : files_below(folder.path() / "data"))
    if (file.filename() == "manifest.json") manifest = read_file(file);
  EXPECT_NE(manifest.find("model/out"), manifest.find("model/in.weight"));
  EXPECT_TRUE(manifest.find("model/out") == std::string::npos ||
              manifest.find("model/in.weight") == std::string::npos);
  State state{{"model", restored}};
  EXPECT_EQ(checkpointer.restore(state), 1);
  EXPECT_TRUE(restored->in->weight.equal(saved->in->weight));
  EXPECT_TRUE(restored->in->weight.is_same(restored->out));
}

TEST(Checkpointer, RequestStopSavesAndStops) {
  TemporaryFolder folder;
  SingleGroup group;
  Program program(1, kAdamW);
  Checkpointer checkpointer(group, folder.path().string(), {.every_steps = 100});
  State state = program.state();
  EXPECT_FALSE(checkpointer.after_step(0, state).should_stop());
  checkpointer.request_stop();
  const auto result = checkpointer.after_step(1, state);
  EXPECT_TRUE(result.saved());
  EXPECT_TRUE(result.should_stop());
  EXPECT_EQ(checkpointer.restore(state), 2);
}

TEST(Checkpointer, RanksThatAgreedToStopSaveAtThatStep) {
  TemporaryFolder folder;
  EXPECT_THAT(run_ranks(2,
                        [&](Group& group) {
                          Program program(1, kAdamW);
                          Checkpointer checkpointer(group, folder.path().string(), {.every_steps = 100});
                          State state = program.state();
                          if (group.rank() == 1) checkpointer.request_stop();
                          EXPECT_EQ(checkpointer.stop_requested(), group.rank() == 1);
                          EXPECT_FALSE(checkpointer.after_step(0, state, false).should_stop());
                          const auto result = checkpointer.after_step(1, state, true);
                          EXPECT_TRUE(result.saved());
                          EXPECT_TRUE(result.should_stop());
                        }),
              testing::Each(testing::IsEmpty()));
}

TEST(Checkpointer, BadOptionsLocationsAndStatesAreConfigErrors) {
  TemporaryFolder folder;
  SingleGroup group;
  const std::string location = folder.path().string();
  EXPECT_THROW(Checkpointer(group, location, {.every_steps = -1}), ConfigError);
  EXPECT_THROW(Checkpointer(group, location, {.keep = -1}), ConfigError);
  EXPECT_THROW(Checkpointer(group, location, {.timeout = std::chrono::nanoseconds(0)}), ConfigError);
  EXPECT_THROW(Checkpointer(group, "s3://bucket/run"), ConfigError);
  Net net;
  std::int64_t value = 0;
  torch::optim::LBFGS lbfgs(net->parameters());
  EXPECT_THROW((State{{"optimizer", lbfgs}}), ConfigError);
  EXPECT_THROW((State{{"a", value}, {"a", value}}), ConfigError);
  EXPECT_THROW((State{{"a/b", value}}), ConfigError);
  EXPECT_THROW((State{{"", value}}), ConfigError);
  torch::optim::SGD optimizer(net->parameters(), 0.1);
  Checkpointer checkpointer(group, location);
  try {
    checkpointer.save(0, State{{"optimizer", optimizer}});
    FAIL();
  } catch (const ConfigError& e) {
    EXPECT_THAT(e.what(), HasSubstr("belongs to no module"));
  }
  auto sparse = torch::eye(3).to_sparse();
  EXPECT_THROW(checkpointer.save(0, State{{"sparse", sparse}}), ConfigError);
  EXPECT_THROW(checkpointer.save(-1, State{{"model", net}}), ConfigError);
}

TEST(Checkpointer, AStatefulThatRefusesItsStateIsNamed) {
  TemporaryFolder folder;
  SingleGroup group;
  Counter counter;
  Checkpointer checkpointer(group, folder.path().string());
  {
    class Text : public Stateful {
      [[nodiscard]] std::string save_state() const override { return "something else"; }
      void load_state(std::string_view) override {}
    } other;
    checkpointer.save(0, State{{"counter", other}});
  }
  State state{{"counter", counter}};
  try {
    (void)checkpointer.restore(state);
    FAIL();
  } catch (const CorruptCheckpoint& e) {
    EXPECT_THAT(e.what(), AllOf(HasSubstr("'counter'"), HasSubstr("not a counter")));
  }
}

}  // namespace
}  // namespace ddp::checkpoint
