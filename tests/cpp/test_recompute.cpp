// checkpoint(f, x): the same loss and gradients to the bit, less memory, random numbers replayed.
#include "lightgrad/ops/checkpoint.h"

#include "lightgrad/amp/autocast.h"
#include "lightgrad/base/memory.h"
#include "lightgrad/nn/nn.h"
#include "tests/cpp/tensor_testing.h"

namespace lg::testing {
namespace {

Tensor floats(const Shape& shape, std::uint64_t seed) {
  return to(uniform(shape, -1, 1, seed), DType::float32);
}

struct Weights {
  Tensor a = floats({8, 8}, 1).set_requires_grad(), b = floats({8, 8}, 2).set_requires_grad(),
         gain = floats({8}, 3).set_requires_grad();
  Tensors all() const { return {a, b, gain}; }
  Tensor block(const Tensor& x) const {
    const Tensor h = linear_activation(layer_norm(x, {8}, gain, Tensor()), a, Tensor(), "gelu");
    return x + dropout(linear(h * h, b), 0.25);
  }
};

// Loss and gradients of two blocks, each run by wrap(block, x).
template <class Wrap> std::vector<std::vector<float>> train(Wrap wrap) {
  default_generator().manual_seed(5);
  const Weights w;
  const Tensor x = floats({4, 8}, 9).set_requires_grad();
  const auto block = [&](const Tensor& t) { return w.block(t); };
  Tensor y = wrap(block, wrap(block, x * 2));
  const Tensor loss = sum(square(y));
  loss.backward();
  std::vector<std::vector<float>> all{loss.to_vector<float>(), x.grad().to_vector<float>()};
  for (const Tensor& t : w.all()) all.push_back(t.grad().to_vector<float>());
  all.push_back(rand({3}).to_vector<float>());  // the generator goes on as it would have
  return all;
}

const auto plain = [](auto f, const Tensor& x) { return f(x); };
const auto checkpointed = [](auto f, const Tensor& x) { return checkpoint(f, x); };
// A checkpoint in a checkpoint, with operations of its own around it.
const auto nested = [](auto f, const Tensor& x) {
  return checkpoint([=](const Tensor& t) { return neg(checkpoint(f, t * 1) * -1); }, x);
};
const auto nested_plain = [](auto f, const Tensor& x) { return neg(f(x * 1) * -1); };

TEST(Checkpoint, GivesTheSameBits) {
  EXPECT_EQ(train(checkpointed), train(plain));
  EXPECT_EQ(train(nested), train(nested_plain));
}

TEST(Checkpoint, ReplaysAutocast) {
  const auto low = [](auto wrap) {
    return [=](auto f, const Tensor& x) {
      const amp::Autocast scope;
      return wrap(f, x);
    };
  };
  EXPECT_EQ(train(low(checkpointed)), train(low(plain)));
  EXPECT_NE(train(low(plain)), train(plain));
  EXPECT_FALSE(amp::is_autocast_enabled());
}

TEST(Checkpoint, GradientsOfGradients) {
  const auto f = [](const Tensor& x) { return sum(exp(sin(x)) * x, 0); };
  const Tensor x = uniform({3, 2}, -1, 1, 4).set_requires_grad();
  const auto second = [&](auto wrap) {
    const Tensor y = wrap(f, x * x);
    const Tensor g = autograd::grad({sum(y)}, {x}, {}, {.create_graph = true})[0];
    return autograd::grad({sum(g * g)}, {x})[0].to_vector<double>();
  };
  EXPECT_EQ(second(checkpointed), second(plain));
  EXPECT_TRUE(autograd::gradgradcheck(
      [&](const Tensors& in) { return Tensors{checkpoint(f, in[0] * 1)}; }, {x}));
}

TEST(Checkpoint, RetainedGraphsAndSeveralInputs) {
  const Tensor a = floats({4}, 1).set_requires_grad(), b = floats({4}, 2).set_requires_grad();
  int calls = 0;
  const auto f = [&](const Tensor& x, const Tensor& y) {
    ++calls;
    return std::pair(x * y, exp(x));
  };
  const auto [product, power] = checkpoint(f, a * 1, b);
  const Tensor loss = sum(product) + sum(power);
  loss.backward({}, {.retain_graph = true});
  const auto once = a.grad().to_vector<float>();
  loss.backward();
  EXPECT_EQ(calls, 2);  // what was made again is kept as long as the graph
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(a.grad().to_vector<float>()[i], 2 * once[i]);
  EXPECT_EQ(b.grad().to_vector<float>(), (a * 2).to_vector<float>());
  {
    const NoGrad off;
    checkpoint(f, a, b);
  }
  EXPECT_EQ(calls, 3);
}

TEST(Checkpoint, FunctionsOfTheUsers) {
  const Tensor x = floats({4}, 1).set_requires_grad();
  const auto run = [&](auto wrap) {
    x.zero_grad();
    sum(wrap([](const Tensor& t) { return Cube::apply(t + 1); }, x * 1)).backward();
    return x.grad().to_vector<float>();
  };
  EXPECT_EQ(run(checkpointed), run(plain));
}

TEST(Checkpoint, KeepsOnlyInputs) {
  const auto peak = [](auto wrap) {
    const Tensor x = floats({1000, 64}, 1).set_requires_grad();
    const auto block = [](const Tensor& t) { return sin(cos(sin(cos(sin(cos(t)))))); };
    reset_peak_memory();
    const auto before = memory_stats().current;
    Tensor y = x * 1;
    for (int i = 0; i < 6; ++i) y = wrap(block, y);
    sum(y).backward();
    return static_cast<double>(memory_stats().peak - before) / (64e3 * 4);
  };
  // 36 activations against 6 inputs and the 6 of one block, and some on their way.
  EXPECT_GE(peak(plain), 36);
  EXPECT_LE(peak(checkpointed), 16);
}

TEST(Checkpoint, BatchNormCountsItsBatchOnce) {
  const auto trained = [](auto wrap) {
    manual_seed(3);
    const auto norm = nn::make<nn::BatchNorm2d>(4), inner = nn::make<nn::BatchNorm2d>(4);
    const auto block = [&](const Tensor& x) {
      return norm(wrap([&](const Tensor& t) { return inner->relu(t * 2); }, x));  // nested
    };
    for (int i = 0; i < 3; ++i)
      sum(square(wrap(block, floats({5, 4, 3, 3}, 9 + i) * 1))).backward();
    std::vector<std::vector<double>> all;
    for (const auto& m : {norm, inner}) {
      for (const Tensor& t : m->buffers()) all.push_back(t.to_vector<double>());
      for (const Tensor& t : m->parameters()) all.push_back(t.grad().to_vector<double>());
    }
    return all;
  };
  const auto once = trained(plain);
  EXPECT_EQ(once[2], std::vector<double>{3});  // num_batches_tracked
  EXPECT_EQ(trained(checkpointed), once);
}

TEST(Checkpoint, SaysWhatWentWrong) {
  Tensor x = floats({4}, 1).set_requires_grad();
  int calls = 0;
  const auto changes = [&](const Tensor& t) { return ++calls == 1 ? sin(t) : sin(cos(t)); };
  const Tensor y = sum(checkpoint(changes, x * 1));
  expect_error(ErrorKind::runtime,
               {"checkpoint: the second run of the function kept 2 tensors, the first 1"},
               [&] { y.backward(); });
  calls = 0;
  const auto resizes = [&](const Tensor& t) { return sum(sin(++calls == 1 ? t : cat({t, t}))); };
  const Tensor z = checkpoint(resizes, x * 1);
  expect_error(ErrorKind::runtime, {"kept float32 [8] where the first kept float32 [4]"},
               [&] { z.backward(); });
  const Tensor input = x * 1;
  const Tensor w = sum(checkpoint([](const Tensor& t) { return sin(t); }, input));
  input.detach().assign(0);
  expect_error(ErrorKind::runtime, {"backward: checkpoint needs its input", "in-place"},
               [&] { w.backward(); });
}

}  // namespace
}  // namespace lg::testing
