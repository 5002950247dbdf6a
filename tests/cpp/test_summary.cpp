// test_summary.cpp: shapes, parameters, work and memory of layers against numbers worked out by
// hand; that looking changes nothing. Whole models are in tests/python/test_summary.py.
#include "lightgrad/nn/summary.h"

#include <thread>

#include "lightgrad/lightgrad.h"
#include "tests/cpp/tensor_testing.h"

namespace lg::testing {
namespace {

using nn::Child;

Tensor floats(const Shape& shape) { return to(uniform(shape, -1, 1, 1), DType::float32); }

const Summary::Layer& find(const Summary& s, std::string_view path) {
  for (const Summary::Layer& layer : s.layers)
    if (layer.path == path) return layer;
  ADD_FAILURE() << "no " << path;
  return s.layers[0];
}

struct Perceptron : nn::Module {
  Child<nn::Linear> up{this, "up", 4, 500}, down{this, "down", 500, 2};
  Child<nn::Identity> idle{this, "idle"};
  Child<nn::Dropout> drop{this, "drop", 0.5};
  Child<nn::Tanh> spare{this, "spare"};

  Tensor forward(const Tensor& x) const { return idle(down(drop(relu(up(x))))); }
};

TEST(Summary, OfLayersByHand) {
  const auto model = nn::make<Perceptron>();
  model->eval();
  const Summary s = summary(model, floats({300, 4}));
  ASSERT_EQ(s.layers.size(), 6u);
  EXPECT_EQ(s.layers[0].type, "Perceptron");
  EXPECT_EQ(s.layers[0].path, "");
  const auto &up = find(s, "up"), &down = find(s, "down"), &all = s.layers[0];
  EXPECT_EQ(up.type, "Linear");
  EXPECT_EQ(up.depth, 1);
  EXPECT_EQ(up.output, (Shape{300, 500}));
  EXPECT_EQ(up.parameters, 4 * 500 + 500);
  EXPECT_EQ(up.flops, 2 * 300 * 4 * 500 + 300 * 500);
  EXPECT_NEAR(static_cast<double>(up.kept), 4 * 300 * 500, 2000);
  EXPECT_EQ(down.flops, 2 * 300 * 500 * 2 + 300 * 2);
  EXPECT_NEAR(static_cast<double>(down.kept), 4 * 300 * 2, 2000);
  EXPECT_EQ(find(s, "idle").output, (Shape{300, 2}));
  EXPECT_EQ(find(s, "drop").output, (Shape{300, 500}));
  for (const char* path : {"idle", "drop"}) {  // the latter not in training
    EXPECT_EQ(find(s, path).flops, 0);
    EXPECT_EQ(find(s, path).kept, 0);
  }
  EXPECT_EQ(find(s, "spare").output, std::nullopt);  // not called
  // The model ran relu itself. Its gradient needs its output, as down's does; nothing needs up's.
  EXPECT_NEAR(static_cast<double>(all.kept), 4 * (300 * 500 + 300 * 2), 4000);
  EXPECT_EQ(all.flops, up.flops + 300 * 500 + down.flops);
  EXPECT_EQ(all.output, (Shape{300, 2}));
  EXPECT_EQ(all.parameters, 4 * 500 + 500 + 500 * 2 + 2);
  EXPECT_EQ(s.trained, all.parameters);
  EXPECT_EQ(s.bytes, 4 * all.parameters);
  EXPECT_GE(s.peak, all.kept);

  EXPECT_EQ(model->hooks(), nullptr);
  EXPECT_EQ(model->up->hooks(), nullptr);

  const NoGrad off;
  const Summary narrow = summary(model, floats({300, 4}));
  EXPECT_EQ(narrow.layers[0].flops, all.flops);
  EXPECT_LT(narrow.layers[0].kept, 8000);
  EXPECT_GT(narrow.peak, 2 * 4 * 300 * 500);
}

TEST(Summary, WhatIsSharedCountsOnce) {
  const auto inner = nn::make<nn::Linear>(8, 8);
  const auto model = nn::make<nn::Sequential>(inner, nn::make<nn::ReLU>(), inner);
  inner->bias.set_requires_grad(false);
  const Summary s = summary(model, floats({10, 8}));
  ASSERT_EQ(s.layers.size(), 3u);  // the model, 0, 1
  EXPECT_EQ(s.layers[0].parameters, 72);
  EXPECT_EQ(s.trained, 64);
  EXPECT_EQ(find(s, "0").flops, 2 * (2 * 10 * 64 + 80));  // ran twice
  EXPECT_EQ(s.layers[0].flops, 2 * (2 * 10 * 64 + 80) + 80);
}

struct Watched : nn::Module {
  Child<nn::BatchNorm2d> bn{this, "bn", 3};
  Child<nn::Dropout> drop{this, "drop", 0.5};
  bool fails = false;

  Tensor forward(const Tensor& x) const {
    const Tensor y = drop(bn->relu(x, x));
    if (fails) fail(ErrorKind::value, "watched", "no");
    return y;
  }
};

TEST(Summary, LooksWithoutATouch) {
  const auto model = nn::make<Watched>();
  const Tensor x = floats({2, 3, 4, 4});
  const Tensor mean = model->bn->running_mean.copy();
  const auto offset = default_generator().offset();
  const auto unchanged = [&] {
    EXPECT_EQ(default_generator().offset(), offset);
    EXPECT_EQ(model->bn->num_batches_tracked.item<std::int64_t>(), 0);
    for (int c = 0; c < 3; ++c)
      EXPECT_EQ(model->bn->running_mean.data<float>()[c], mean.data<float>()[c]);
    EXPECT_TRUE(model->training);
    EXPECT_EQ(watch::flags, 0u);
  };
  const Summary s = summary(model, x);
  unchanged();
  // Statistics 4, 2 to normalise, weight, bias, residual, relu; and the count of batches.
  EXPECT_EQ(find(s, "bn").flops, 10 * 96 + 1);
  EXPECT_EQ(find(s, "bn").output, (Shape{2, 3, 4, 4}));
  model->fails = true;
  EXPECT_THROW(summary(model, x), Error);
  unchanged();
  EXPECT_EQ(model->hooks(), nullptr);
  EXPECT_EQ(model->drop->hooks(), nullptr);

  // Nor does it spoil a graph that waits for its backward pass.
  model->fails = false;
  model->eval();
  const Tensor loss = sum(model(x));
  summary(model, x);
  loss.backward();
}

struct Outer : nn::Module {
  Child<nn::Sequential> inner{this, "inner", nn::make<nn::Linear>(4, 4), nn::make<nn::Tanh>()};
  mutable Summary seen;

  Tensor forward(const Tensor& x) const {
    seen = summary(static_cast<const nn::Mod<nn::Sequential>&>(inner), x);
    return inner(x);
  }
};

TEST(Summary, InsideOfAModuleAndBesideAnotherThread) {
  const auto outer = nn::make<Outer>();
  std::atomic<bool> stop = false;
  std::thread other([&] {
    while (!stop) floats({16}) + 1;
  });
  const Summary s = summary(outer, floats({5, 4}));
  stop = true;
  other.join();
  for (const Summary* seen : {&s, &std::as_const(outer->seen)}) {
    EXPECT_EQ(seen->layers.back().type, "Tanh");
    EXPECT_EQ(seen->layers.back().flops, 20);
  }
  EXPECT_EQ(outer->seen.layers[0].flops, 2 * 5 * 16 + 20 + 20);
  EXPECT_EQ(find(outer->seen, "0").flops, 2 * 5 * 16 + 20);
}

TEST(Summary, OfTwoThreadsAtOnce) {
  const auto expect_right = [](std::int64_t width) {
    const auto model = nn::make<nn::Sequential>(nn::make<nn::Linear>(width, width));
    EXPECT_EQ(summary(model, floats({20, width})).layers[0].flops, 20 * width * (2 * width + 1));
  };
  std::atomic<int> made = 0;
  std::atomic<bool> stop = false;
  std::thread other([&] {
    for (; !stop; ++made) expect_right(3);
  });
  for (int i = 0; i < 200 || made < 200; ++i) expect_right(300);
  stop = true;
  other.join();
}

TEST(Summary, Table) {
  const auto model = nn::make<nn::Sequential>(
      nn::make<nn::Sequential>(nn::make<nn::Linear>(100, 1000), nn::make<nn::Identity>()),
      nn::make<nn::ReLU>());
  const Summary s = summary(model, floats({3, 100}));
  const std::string all = s.to_string(), top = s.to_string(1);
  for (const char* part : {"layer             output  parameters     work     kept\n-----",
                           "\n0: Sequential  [3, 1000]     101,000   603 kF  1",
                           "\n  0: Linear    [3, 1000]     101,000",
                           "\n  1: Identity  [3, 1000]           0      0 F      0 B\n",
                           "\nSequential ", "404 kB of parameters, 101,000 of them trained; "})
    EXPECT_NE(all.find(part), all.npos) << part << "\n" << all;
  EXPECT_EQ(top.find("Linear"), top.npos) << top;
  EXPECT_NE(top.find("\n1: ReLU "), top.npos) << top;
}

}  // namespace
}  // namespace lg::testing
