// test_autograd.cpp: the engine: accumulation, lifetimes, hooks, what it refuses and with which
// words, user functions, long chains on small stacks, several threads.
#include <pthread.h>

#include <cstdio>
#include <thread>

#include "lightgrad/base/memory.h"
#include "lightgrad/ops/run.h"
#include "tests/cpp/tensor_testing.h"

namespace lg::testing {
namespace {

using autograd::grad;

Tensor leaf(std::initializer_list<double> values) { return tensor(values).set_requires_grad(); }
Line values(const Tensor& t) { return t.to_vector<double>(); }

TEST(Autograd, LeavesAccumulate) {
  const Tensor x = leaf({1, 2, 3});
  sum(x * x).backward();
  EXPECT_EQ(values(x.grad()), (Line{2, 4, 6}));
  const Tensor held = x.grad();
  sum(x * 3).backward();
  EXPECT_EQ(values(x.grad()), (Line{5, 7, 9}));
  EXPECT_EQ(values(held), (Line{2, 4, 6})) << "a gradient that somebody holds is not written to";
  x.zero_grad();
  EXPECT_FALSE(x.grad().defined());
}

TEST(Autograd, TheLeafOwnsItsGradient) {
  const Tensor x = leaf({1, 2}), g = tensor({5.0, 7.0});
  alias(x).backward(g);
  alias(x).backward(g);
  EXPECT_EQ(values(x.grad()), (Line{10, 14}));
  EXPECT_EQ(values(g), (Line{5, 7}));
  const Tensor y = leaf({1, 2, 3});
  sum(y).backward();  // an expanded 1: memory that elements share
  sum(y).backward();
  EXPECT_EQ(values(y.grad()), (Line{2, 2, 2}));
}

TEST(Autograd, SharedPartsAreVisitedOnce) {
  const Tensor x = leaf({2});
  Tensor y = x;
  for (int i = 0; i < 60; ++i) y = y + y;  // 2^60 paths
  y.backward();
  EXPECT_EQ(values(x.grad()), (Line{std::exp2(60)}));
}

TEST(Autograd, RetainGraph) {
  const Tensor x = leaf({1, 2}), y = sum(exp(x) * x);
  y.backward({}, {.retain_graph = true});
  y.backward();
  expect_close(x.grad(), 2 * (exp(x) * x + exp(x)).detach(), 1e-14, "twice");
  expect_error(ErrorKind::runtime,
               {"backward", "was freed by an earlier backward", "retain_graph=true"},
               [&] { y.backward(); });
}

TEST(Autograd, APartThatKeepsNothingRunsAgain) {  // one that two graphs share, say
  const Tensor x = leaf({1, 2}), shared = x + x, y = sum(exp(shared)), z = sum(sin(shared));
  y.backward();
  z.backward();
  expect_close(x.grad(), (2 * exp(shared) + 2 * cos(shared)).detach(), 1e-14, "both");
}

TEST(Autograd, WhatBackwardRefuses) {
  const Tensor x = leaf({1, 2});
  expect_error(ErrorKind::runtime, {"backward: the tensor has shape [2]", "one element"},
               [&] { (x * x).backward(); });
  expect_error(ErrorKind::runtime, {"does not require a gradient"},
               [&] { sum(tensor({1.0})).backward(); });
  expect_error(ErrorKind::value, {"the gradient has shape [3], the tensor [2]"},
               [&] { (x * x).backward(zeros({3}, DType::float64)); });
  expect_error(ErrorKind::type, {"only floating-point tensors have gradients", "int64 [2]"},
               [] { arange(2).set_requires_grad(); });
  expect_error(ErrorKind::runtime, {"detach()"}, [&] { (x * x).set_requires_grad(false); });
  expect_error(ErrorKind::value, {"float64 [2]", "float64 [3]"},
               [&] { x.set_grad(zeros({3}, DType::float64)); });
}

TEST(Autograd, VersionCounter) {
  const Tensor x = leaf({1, 2, 3});
  Tensor a = x * 2, y = a * a;
  a += 1;
  expect_error(ErrorKind::runtime, {"mul needs its x", "in-place operation changed it", "clone()"},
               [&] { sum(y).backward(); });
  Tensor e = exp(x);
  {
    NoGrad off;
    e *= 2;  // what exp keeps is its own output
  }
  expect_error(ErrorKind::runtime, {"exp needs its output"}, [&] { sum(e).backward(); });
  Tensor b = x * 2, z = b + b;
  b += 1;  // add keeps nothing
  sum(z).backward();
  EXPECT_EQ(values(x.grad()), (Line{4, 4, 4}));
}

// A sum hands its gradient on without a pass over memory; what is shared is never written to.
TEST(Autograd, SumsShareTheirGradient) {
  const Tensor x = leaf({1, -2, 3}), y = leaf({4, 5, 6}), g = tensor({2.0, 3.0, 4.0});
  {
    const Tensor a = x * 1, b = y * 1;
    const void* arrived[2] = {};
    a.register_hook([&](const Tensor& t) { return arrived[0] = t.raw_data(), Tensor(); });
    b.register_hook([&](const Tensor& t) { return arrived[1] = t.raw_data(), Tensor(); });
    (a + b).backward(g);
    EXPECT_EQ(arrived[0], arrived[1]);
  }
  x.zero_grad();
  y.zero_grad();
  const Tensor a = x * 1, b = y * 1;
  (relu(a + b) - b).backward(g);
  EXPECT_EQ(values(x.grad()), (Line{2, 3, 4}));
  EXPECT_EQ(values(y.grad()), (Line{0, 0, 0}));
  const Tensor p = leaf({1, 1, 1}), q = leaf({1, 1, 1});
  (p + q).backward(g);
  p.grad() += 1;
  EXPECT_EQ(values(q.grad()), (Line{2, 3, 4}));
  EXPECT_EQ(values(g), (Line{2, 3, 4}));
  // Clamp's formula is g itself only while it has no bounds, and a smaller input's is a sum.
  const Tensor one = leaf({1});
  (clamp(x, 0.0) + one).backward(g);
  EXPECT_EQ(values(x.grad()), (Line{4, 3, 8}));
  EXPECT_EQ(values(one.grad()), (Line{9}));
}

// layer_norm's gradient is added to what a residual connection brought already, with the bits of an
// addition, unless somebody else holds that.
TEST(Autograd, LayerNormAddsToAResidualsGradient) {
  for (const DType t : {DType::float32, DType::float64}) {
    const Tensor start = to(uniform({6, 33}, -1, 1, 1), t), g = to(uniform({6, 33}, -1, 1, 2), t),
                 k = to(uniform({6, 33}, -1, 1, 3), t);
    const auto input = [&] { return start.detach().set_requires_grad(); };
    const Tensor alone = input();
    layer_norm(alone, {33}, Tensor(), Tensor()).backward(g * k);
    const Tensor x = input();
    {
      const Tensor h = x * 1, n = layer_norm(h, {33}, Tensor(), Tensor());
      (h + n * k).backward(g);
    }
    EXPECT_TRUE(same_bits(x.grad(), g + alone.grad()));
    // The same gradient lies at both summands when layer_norm's comes.
    const Tensor y = input(), z = input();
    {
      const Tensor h = y * 1, w = z * 1, n = layer_norm(h, {33}, Tensor(), Tensor());
      ((h + w) + n * k).backward(g);
    }
    EXPECT_TRUE(same_bits(y.grad(), g + alone.grad()));
    EXPECT_TRUE(same_bits(z.grad(), g));
  }
}

TEST(Autograd, InPlaceOperationsAreRecorded) {
  const Tensor x = leaf({1, 2, 3}), w = leaf({2, 2, 2});
  Tensor y = x * 1;
  y *= w.detach();
  y -= w;
  y += x * x;
  sum(y).backward();
  EXPECT_EQ(values(x.grad()), (Line{4, 6, 8}));
  EXPECT_EQ(values(w.grad()), (Line{-1, -1, -1}));
  y = x * 1;
  y *= w;  // w's gradient is the y that was just overwritten
  expect_error(ErrorKind::runtime, {"mul needs its x"}, [&] { sum(y).backward(); });
  expect_error(ErrorKind::runtime, {"add: in place on a leaf", "no_grad"}, [&] { x += 1; });
  {
    NoGrad off;
    x += 1;
  }
  EXPECT_EQ(values(x), (Line{2, 3, 4}));
}

TEST(Autograd, ViewsAndInPlaceChanges) {
  const Tensor x = leaf({1, 2, 3});
  Tensor base = x * 1, part = slice(base, 0, 0, 2);
  expect_error(ErrorKind::runtime, {"in place on a view", "base"},
               [&] { part += x.index({Slice(0, 2)}); });
  base += 1;
  expect_error(ErrorKind::runtime, {"is a view whose base was changed in place"},
               [&] { sum(part * 2); });
  // Views taken before there was a graph do not know of it either.
  Tensor buffer = zeros({3}, DType::float64), row = slice(buffer, 0, 0, 2);
  expect_error(ErrorKind::runtime, {"in place on a view"}, [&] { row += x.index({Slice(0, 2)}); });
  buffer += x;
  expect_error(ErrorKind::runtime, {"is a view whose base was changed in place"},
               [&] { sum(row * x.index({Slice(0, 2)})); });
  // A view that nobody shares, and a reshape that had to copy, are tensors like any other.
  Tensor alone = reshape(zeros({2, 2}, DType::float64), {4}),
         copied = reshape(transpose(zeros({2, 3}, DType::float64), 0, 1), {6});
  alone += leaf({1, 2, 3, 4});
  copied += leaf({1, 2, 3, 4, 5, 6});
  EXPECT_TRUE(alone.requires_grad() && copied.requires_grad());
  // Elements that share memory.
  expect_error(ErrorKind::runtime, {"elements share memory"},
               [&] { expand(zeros({1}), {3}) += 1; });
}

TEST(Autograd, AssignmentByIndex) {
  const Tensor x = leaf({1, 2, 3, 4}), v = leaf({10, 20});
  Tensor y = x * 2;
  const Tensor at = tensor<std::int64_t>({3, 1});
  y.index_put({at}, v);
  EXPECT_EQ(values(y), (Line{2, 20, 6, 10}));
  at.index_put({0}, 0);  // the graph keeps indices of its own
  sum(y * tensor({1.0, 2.0, 3.0, 4.0})).backward();
  EXPECT_EQ(values(x.grad()), (Line{2, 0, 6, 0}));
  EXPECT_EQ(values(v.grad()), (Line{4, 2}));
  autograd::gradgradcheck(
      [](const Tensors& a) {
        Tensor t = a[0] * a[0];
        t.index_put({Slice(0, 4, 2)}, a[1] * a[1]);
        t.index_put({a[0] > 2.5}, a[1] * 3);
        return Tensors{t * t};
      },
      {leaf({1, 2, 3, 4}), leaf({5, 6})});
}

TEST(Autograd, Hooks) {
  const Tensor x = leaf({1, 2});
  Tensor y = x * 3;
  int calls = 0;
  const int seen = y.register_hook([&](const Tensor& g) {
    ++calls;
    EXPECT_EQ(values(g), (Line{2, 4}));
    return Tensor();
  });
  y.register_hook([](const Tensor& g) { return g * 10; });
  x.register_hook([](const Tensor& g) { return g + 1; });
  sum(y * y / 3).backward({}, {.retain_graph = true});
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(values(x.grad()), (Line{61, 121}));
  y.remove_hook(seen);
  sum(y).backward();
  EXPECT_EQ(calls, 1);
  expect_error(ErrorKind::runtime, {"register_hook"},
               [] { tensor({1.0}).register_hook([](const Tensor& g) { return g; }); });
}

TEST(Autograd, RetainGrad) {
  const Tensor x = leaf({1, 2});
  Tensor y = x * 3;
  y.retain_grad();
  Tensor loss = sum(y * y);
  loss.backward({}, {.retain_graph = true});
  EXPECT_EQ(values(y.grad()), (Line{6, 12}));
  y = Tensor();
  loss.backward();  // the tensor is gone, its node is not
  // In place: the gradient that is kept is that of the tensor as it is now.
  Tensor z = x * 3;
  z.retain_grad();
  z *= 2;
  loss = sum(z * 5);
  loss.backward({}, {.retain_graph = true});
  EXPECT_EQ(values(z.grad()), (Line{5, 5}));
  z = Tensor();
  loss.backward();
}

TEST(Autograd, LeavesThatAreGoneOrNoLongerWanted) {
  Tensor x = leaf({1, 2}), y = sum(x * x), z = sum(x * 2);
  x.set_requires_grad(false);
  y.backward();
  EXPECT_FALSE(x.grad().defined());
  x = Tensor();
  z.backward();
}

TEST(Autograd, GradOfInnerTensors) {
  const Tensor x = leaf({2, 3}), w = leaf({5, 7}), unused = leaf({1});
  const Tensor a = x * w, b = exp(a * 0.1), y = sum(b);
  const Tensors g = grad({y}, {a, x, b, x}, {}, {.retain_graph = true});
  expect_close(g[0], (b * 0.1).detach(), 1e-14, "inner");
  expect_close(g[1], (b * 0.1 * w).detach(), 1e-14, "behind it");
  EXPECT_EQ(values(g[2]), (Line{1, 1}));
  expect_close(g[3], g[1], 0, "named twice");
  EXPECT_FALSE(w.grad().defined() || x.grad().defined()) << "grad() leaves the leaves alone";
  EXPECT_EQ(values(grad({y}, {y}, {}, {.retain_graph = true})[0]), (Line{1}));
  EXPECT_FALSE(grad({y}, {unused}, {}, {.retain_graph = true, .allow_unused = true})[0].defined());
  expect_error(ErrorKind::runtime, {"grad: input 1", "allow_unused=true"}, [&] {
    grad({y}, {x, unused}, {}, {.retain_graph = true});
  });
  expect_error(ErrorKind::runtime, {"grad: input 0", "does not require a gradient"},
               [&] { grad({y}, {tensor({1.0})}); });
  expect_error(ErrorKind::value, {"got 1 outputs but 2 gradients"}, [&] {
    grad({y}, {x}, {y, y});
  });
  const Tensors two =
      grad({y, sum(x)}, {x}, {tensor({1.0}).index({0}), 3.0 * ones({}, DType::float64)});
  expect_close(two[0], (b * 0.1 * w + 3).detach(), 1e-14, "two outputs");
}

TEST(Autograd, CreateGraph) {
  const Tensor x = leaf({0.5});
  Tensor y = sum(sin(x));
  for (int order = 1; order <= 4; ++order) y = sum(grad({y}, {x}, {}, {.create_graph = true})[0]);
  expect_close(y.detach(), sum(sin(x)).detach(), 1e-14, "the fourth derivative of the sine");
  sum(x * x).backward({}, {.create_graph = true});
  EXPECT_TRUE(x.grad().requires_grad());
}

TEST(Autograd, ModesAndDetach) {
  const Tensor x = leaf({1, 2});
  {
    NoGrad off;
    EXPECT_FALSE((x * 2).requires_grad());
    EnableGrad on;
    EXPECT_TRUE((x * 2).requires_grad());
  }
  EXPECT_TRUE((x * 2).requires_grad());
  const Tensor d = (x * 2).detach();
  EXPECT_FALSE(d.requires_grad());
  EXPECT_TRUE(d.is_leaf() && x.is_leaf() && !(x * 2).is_leaf());
  sum(x * d).backward();
  EXPECT_EQ(values(x.grad()), (Line{2, 4}));
  EXPECT_FALSE((x > 1).requires_grad() || to(x, DType::int64).requires_grad());
}

struct Wrong : autograd::Function<Wrong> {
  static Tensor forward(autograd::FunctionContext&, const Tensor& x, double factor) {
    return x * factor;
  }
  static Tensors backward(autograd::FunctionContext&, const Tensors& g) { return {g[0] * 2.01}; }
};
struct BadShape : autograd::Function<BadShape> {
  static Tensor forward(autograd::FunctionContext&, const Tensor& x) { return x * 2; }
  static Tensors backward(autograd::FunctionContext&, const Tensors& g) { return {sum(g[0])}; }
};

TEST(Autograd, UserFunctions) {
  const Tensor x = leaf({1, 2, -3});
  EXPECT_TRUE(
      autograd::gradcheck([](const Tensors& a) { return Tensors{Cube::apply(a[0])}; }, {x}));
  EXPECT_TRUE(
      autograd::gradgradcheck([](const Tensors& a) { return Tensors{Cube::apply(a[0])}; }, {x}));
  Tensor a = x * 1, y = Cube::apply(a);
  a += 1;
  expect_error(ErrorKind::runtime, {"saved tensor 0", "in-place"}, [&] { sum(y).backward(); });
  expect_error(ErrorKind::runtime, {"shape []", "input 0 of shape [3]"},
               [&] { sum(BadShape::apply(x)).backward(); });
}

TEST(Autograd, GradcheckCatchesAWrongGradient) {
  const Tensor x = leaf({1, 2});
  expect_error(
      ErrorKind::runtime,
      {"gradcheck: gradient of output 0 element 0 for input 0 element 0", "backward gives 2.01"},
      [&] {
        autograd::gradcheck([](const Tensors& a) { return Tensors{Wrong::apply(a[0], 2.0)}; }, {x});
      });
  expect_error(ErrorKind::runtime, {"gradgradcheck"}, [&] {
    autograd::gradgradcheck(
        [](const Tensors& a) { return Tensors{Wrong::apply(a[0] * a[0], 2.0).detach() * a[0]}; },
        {x});
  });
  expect_error(ErrorKind::type, {"finite differences need float64"}, [] {
    autograd::gradcheck([](const Tensors& a) { return a; }, {tensor({1.0f}).set_requires_grad()});
  });
  expect_error(ErrorKind::value, {"no input requires a gradient"},
               [] { autograd::gradcheck([](const Tensors& a) { return a; }, {tensor({1.0})}); });
}

// Several outputs of one function: a pass that fails must leave nothing behind for the next one.
TEST(Autograd, SplitJoinsItsGradients) {
  const Tensor x = leaf({1, 2, 3, 4});
  const Tensors part = split(x, {1, 3}, 0);
  sum(part[1] * 2).backward({}, {.retain_graph = true});
  EXPECT_EQ(values(x.grad()), (Line{0, 2, 2, 2}));
  x.zero_grad();
  bool throws = true;
  part[0].register_hook([&](const Tensor&) -> Tensor {
    if (throws) fail(ErrorKind::runtime, "hook", "stop");
    return {};
  });
  // part[1]'s gradient has arrived when part[0]'s hook fails.
  expect_error(ErrorKind::runtime, {"hook: stop"},
               [&] { (sum(part[0]) + sum(part[1] * 5)).backward({}, {.retain_graph = true}); });
  throws = false;
  sum(part[0]).backward();
  EXPECT_EQ(values(x.grad()), (Line{1, 0, 0, 0}));
}

TEST(Autograd, AnomalyModeNamesTheFirstOperation) {
  struct Scope {
    Scope() { autograd::set_detect_anomaly(true); }
    ~Scope() { autograd::set_detect_anomaly(false); }
  } on;
  const Tensor x = leaf({1, 0, -1});
  expect_error(ErrorKind::runtime, {"log: forward made -inf at index [1] of a float64 [3] tensor"},
               [&] { sum(exp(log(x))); });
  expect_error(ErrorKind::runtime, {"sqrt", "backward made a gradient with inf at index [0]"},
               [] { sum(sqrt(leaf({0.0}))).backward(); });
  // Infinities that the program put there itself are no anomaly; a NaN made from them is.
  const Tensor mask = tensor<double>({0, -INFINITY, 0});
  EXPECT_NO_THROW(sum(softmax(x + mask)).backward());
  expect_error(ErrorKind::runtime, {"sub: forward made nan"}, [&] { sum((x + mask) - mask); });
  const Tensor q = uniform({2, 3}, -1, 1, 1).set_requires_grad(),
               seen = tril(ones({2, 2}, DType::bool_));
  EXPECT_NO_THROW(sum(scaled_dot_product_attention(q, q, q, seen)).backward());
}

struct Report {
  std::int64_t bytes = 0;
  double gradient = 0;
  std::string error;
};

// On 64 KiB of stack: build, differentiate and free a million nodes; then free as many that were
// never run.
TEST(Autograd, AMillionOperationsOnASmallStack) {
  constexpr int length = 1'000'000;
  Report report;
  auto run = [](void* to) -> void* {
    auto& r = *static_cast<Report*>(to);
    try {
      const Tensor x = leaf({1});
      for (const bool differentiate : {true, false}) {
        reset_peak_memory();
        const std::int64_t before = memory_stats().current;
        Tensor y = x;
        for (int i = 0; i < length; ++i) y = y + x;
        if (differentiate) y.backward();
        r.bytes = std::max(r.bytes, memory_stats().peak - before);
      }
      r.gradient = x.grad().item();
    } catch (const std::exception& e) {
      r.error = e.what();
    }
    return nullptr;
  };
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 64 << 10);
  pthread_t thread;
  ASSERT_EQ(pthread_create(&thread, &attributes, run, &report), 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
  EXPECT_EQ(report.error, "");
  EXPECT_EQ(report.gradient, length + 1.0);
  const double per_node = static_cast<double>(report.bytes) / length;
  std::printf("peak memory of a chain of %d additions: %.0f bytes a node\n", length, per_node);
  EXPECT_LT(per_node, 1500);
}

TEST(Autograd, ThreadsWithGraphsOfTheirOwn) {
  Line results(2);
  const Tensor shared = uniform({64, 64}, -1, 1, 3);
  auto work = [&](std::size_t k) {
    Tensor w = uniform({64, 64}, -1, 1, 10 + k).set_requires_grad();
    for (int i = 0; i < 20; ++i) {
      sum(tanh(matmul(shared, w)) * static_cast<double>(k + 1)).backward();
    }
    results[k] = sum(w.grad()).item();
  };
  std::thread a(work, 0), b(work, 1);
  a.join();
  b.join();
  const Line together = results;
  work(0);
  work(1);
  EXPECT_EQ(results, together);
}

}  // namespace
}  // namespace lg::testing
