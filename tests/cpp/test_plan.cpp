// test_plan.cpp: the planned peak of a step beside the measured one, with and without checkpoints
// and accumulation; that planning changes nothing. The models of the benchmarks are in
// benchmarks/memory.cpp.
#include "lightgrad/profile/plan.h"

#include "lightgrad/lightgrad.h"
#include "tests/cpp/tensor_testing.h"

namespace lg::testing {
namespace {

using nn::Child;

// How many threads meet in an operation is chance, and each has scratch memory of its own: some
// hundred kilobytes, which is much for such small models.
struct Plans : ::testing::Test {
  KeepThreads keep;
  Plans() { set_num_threads(1); }
};

// Blocks of a few layers, each of which may be checkpointed.
struct Block : nn::Module {
  Child<nn::LayerNorm> norm;
  Child<nn::Linear> up, down;
  explicit Block(std::int64_t width)
      : norm(this, "norm", width),
        up(this, "up", width, 4 * width),
        down(this, "down", 4 * width, width) {}
  Tensor forward(const Tensor& x) const { return x + down(gelu(up(norm(x)))); }
};

struct Tower : nn::Module {
  Child<nn::ModuleList> blocks{this, "blocks"};
  Child<nn::Linear> head;
  std::vector<std::string> checkpoints;  // of blocks

  Tower(std::int64_t width, int n) : head(this, "head", width, 10) {
    for (int i = 0; i < n; ++i) blocks->append(nn::make<Block>(width));
  }
  Tensor forward(const Tensor& in) const {
    Tensor x = in;
    int i = 0;
    for (nn::Module* block : blocks->children()) {
      const std::string path = text("blocks.", i++);
      const bool chosen =
          std::find(checkpoints.begin(), checkpoints.end(), path) != checkpoints.end();
      const auto run = [block](const Tensor& t) { return nn::call(*block, t); };
      x = chosen ? checkpoint(run, x) : run(x);
    }
    return head(x);
  }
};

struct Training {
  nn::Mod<Tower> model;
  optim::AdamW optimizer;
  Tensor x, y;

  explicit Training(std::int64_t rows, std::int64_t width = 64, int blocks = 6)
      : model((manual_seed(1), nn::make<Tower>(width, blocks))),
        optimizer(model->parameters()),
        x(randn({rows, width})),
        y(randint(0, 10, {rows})) {}

  auto loss() const {
    return [m = model](const Tensor& a, const Tensor& b) { return cross_entropy(m(a), b); };
  }
  // As measured over three steps.
  std::int64_t peak(std::int64_t parts = 1) {
    const std::int64_t rows = x.size(0) / parts;
    for (int i = 0; i < 3; ++i) {
      if (i == 1) reset_peak_memory();  // the states are there then
      for (std::int64_t k = 0; k < parts; ++k)
        (loss()(narrow(x, 0, k * rows, rows), narrow(y, 0, k * rows, rows)) / parts).backward();
      optimizer.step();
      optimizer.zero_grad();
    }
    return memory_stats().peak;
  }
};

void expect_near(std::int64_t planned, std::int64_t measured, double tolerance = 0.1) {
  const double error = static_cast<double>(planned) / static_cast<double>(measured) - 1;
  EXPECT_LT(std::abs(error), tolerance) << planned << " planned, " << measured << " measured";
}

TEST_F(Plans, IsWhatAStepNeeds) {
  for (const std::int64_t rows : {1, 2, 3, 5, 64, 1000, 4096}) {
    SCOPED_TRACE(rows);
    Training t(rows);
    const Plan p = plan(t.model, t.loss(), {.optimizer = &t.optimizer}, t.x, t.y);
    expect_near(p.peak, t.peak());
  }
}

TEST_F(Plans, OfAccumulatedSteps) {
  Training t(2048, 128, 4);
  std::int64_t last = 0;
  for (const std::int64_t parts : {1, 2, 8, 64}) {
    SCOPED_TRACE(parts);
    const Plan p =
        plan(t.model, t.loss(), {.optimizer = &t.optimizer, .accumulate = parts}, t.x, t.y);
    expect_near(p.peak, t.peak(parts));
    EXPECT_TRUE(last == 0 || p.peak < last);
    last = p.peak;
  }
}

TEST_F(Plans, CheckpointsFitTheBudget) {
  Training t(2048);
  const auto options = [&](std::int64_t budget) {
    return PlanOptions{.optimizer = &t.optimizer, .budget = budget};
  };
  const std::int64_t whole = plan(t.model, t.loss(), options(0), t.x, t.y).peak;
  std::size_t most = 0;
  for (const double share : {0.9, 0.75, 0.6, 0.5}) {
    SCOPED_TRACE(share);
    const auto budget = static_cast<std::int64_t>(share * static_cast<double>(whole));
    t.model->checkpoints.clear();
    const Plan p = plan(t.model, t.loss(), options(budget), t.x, t.y);
    EXPECT_TRUE(p.fits());
    EXPECT_GT(p.checkpoints.size(), most);
    most = p.checkpoints.size();
    t.model->checkpoints = p.checkpoints;
    const std::int64_t measured = t.peak();
    EXPECT_LE(measured, budget * 1.03);
    expect_near(p.checkpointed_peak, measured);
    // A plan of the model as it is now sees the checkpoints itself.
    expect_near(plan(t.model, t.loss(), options(0), t.x, t.y).peak, measured);
  }
  t.model->checkpoints.clear();
  const Plan impossible = plan(t.model, t.loss(), options(1 << 20), t.x, t.y);
  EXPECT_FALSE(impossible.fits());
  EXPECT_NE(impossible.to_string().find("still above 1.05 MB"), std::string::npos);
}

TEST_F(Plans, OfAStepThatIsMuchTooLarge) {
  Training t(4096);
  const auto make = [&] { return plan(t.model, t.loss(), {.optimizer = &t.optimizer}, t.x, t.y); };
  const Plan free = make();
  set_memory_limit(free.before + (free.peak - free.before) / 8);  // less than a quarter's
  const Plan tight = make();
  set_memory_limit(free.before + 1000);
  expect_error(ErrorKind::memory, {"out of memory"}, make);
  set_memory_limit(0);
  expect_near(tight.peak, free.peak);
  for (const Tensor& p : t.model->parameters()) EXPECT_FALSE(p.grad().defined());
  expect_near(make().peak, t.peak());
}

TEST_F(Plans, TellsOfEachLayer) {
  Training t(1024, 64, 2);
  const Plan p = plan(t.model, t.loss(), {.optimizer = &t.optimizer}, t.x, t.y);
  ASSERT_EQ(p.layers.size(), 1 + 2 * 4 + 2u);
  EXPECT_EQ(p.layers[0].type, "Tower");
  const auto find = [&](std::string_view path) {
    for (const auto& l : p.layers)
      if (l.path == path) return l;
    return Plan::Layer{};
  };
  const std::int64_t row = 1024 * 64 * 4;
  EXPECT_EQ(find("blocks.0.up").parameters, 4 * (64 * 256 + 256));
  EXPECT_NEAR(static_cast<double>(find("blocks.1.up").kept), 4.0 * row, 2000);
  // norm's output and statistics, up's, gelu's, the block's own: x is the block's before.
  EXPECT_NEAR(static_cast<double>(find("blocks.0").kept), (1 + 4 + 4 + 1) * row, 20000);
  EXPECT_EQ(find("blocks").kept, 0);  // it is not called, but what is in it is
  EXPECT_EQ(find("blocks").backward,
            std::max(find("blocks.0").backward, find("blocks.1").backward));
  EXPECT_GT(find("blocks.1").backward, find("blocks.0").forward);
  EXPECT_GE(p.peak, find("blocks.1").backward);
  const auto states = 2 * 4 * [&] {
    std::int64_t n = 0;
    for (const Tensor& q : t.model->parameters()) n += q.numel();
    return n;
  }();
  EXPECT_EQ(p.states, states);
  const std::string all = p.to_string(), few = p.to_string(1);
  EXPECT_NE(all.find("\n  0: Block "), std::string::npos) << all;
  EXPECT_NE(all.find("backward of blocks."), std::string::npos) << all;
  EXPECT_EQ(few.find("Block "), std::string::npos) << few;
}

TEST_F(Plans, ChangesNothing) {
  manual_seed(4);
  const auto model = nn::make<nn::Sequential>(
      nn::make<nn::Conv2d>(1, 4, 3), nn::make<nn::BatchNorm2d>(4), nn::make<nn::Dropout>(0.5));
  const Tensor x = randn({16, 1, 8, 8});
  const Tensor gradient = ones({4, 1, 3, 3});
  plan(model, x);  // makes what a first step makes
  model->parameters()[0].set_grad(gradient);
  const auto current = memory_stats().current, peak = memory_stats().peak;
  const std::uint64_t offset = default_generator().offset();
  std::vector<std::vector<double>> before;
  for (const Tensor& t : model->buffers()) before.push_back(t.to_vector<double>());
  plan(model, x);
  EXPECT_TRUE(model->parameters()[0].grad().is_same(gradient));
  EXPECT_FALSE(model->parameters()[1].grad().defined());
  EXPECT_EQ(default_generator().offset(), offset);
  for (std::size_t i = 0; i < before.size(); ++i)
    EXPECT_EQ(model->buffers()[i].to_vector<double>(), before[i]);
  EXPECT_EQ(memory_stats().current, current);
  EXPECT_GE(memory_stats().peak, peak);
  for (const auto& [path, m] : model->named_modules())
    EXPECT_TRUE(!m->hooks() || m->hooks()->empty());
}

TEST_F(Plans, Errors) {
  Training t(12);
  const auto failing = [&](const Tensor& x, const Tensor& y, std::int64_t parts, const char* what) {
    expect_error(ErrorKind::value, {what},
                 [&] { plan(t.model, t.loss(), {.accumulate = parts}, x, y); });
  };
  failing(t.x, narrow(t.y, 0, 0, 7), 1,
          "plan: the batch has tensors of [12, 64] and [7], expected as many rows");
  failing(t.x, t.y, 5, "plan: the batch has 12 rows, which accumulate=5 does not divide");
  failing(zeros({0, 64}), zeros({0}, DType::int64), 1, "plan: the batch has no rows");
  const auto odd = [&](const Tensor& x) {
    const Tensor y = t.model(x);
    return sum(x.size(0) > 2 ? tanh(y) : sin(y));
  };
  expect_error(ErrorKind::runtime, {"plan: the model did other operations on more rows"},
               [&] { plan(t.model, odd, {}, t.x); });
  EXPECT_FALSE(t.model->parameters()[0].grad().defined());
}

}  // namespace
}  // namespace lg::testing
