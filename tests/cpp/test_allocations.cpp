// test_allocations.cpp: a steady training step makes no heap allocation, asks the system for no
// memory and meets no page fault: all three are counted.
#include <sys/resource.h>

#include <atomic>
#include <cstdlib>
#include <functional>
#include <new>

#include "lightgrad/base/memory.h"
#include "lightgrad/lightgrad.h"
#include "tests/cpp/tensor_testing.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LIGHTGRAD_COUNT_NEW 0  // the sanitizer brings its own operator new and its own pages
#else
#define LIGHTGRAD_COUNT_NEW 1
#endif

namespace {
std::atomic<std::int64_t> heap_allocations{0};
}  // namespace

#if LIGHTGRAD_COUNT_NEW
// For the whole test program. The other forms of new and delete come here.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  heap_allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* p = std::malloc(bytes ? bytes : 1)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }
#endif

namespace lg::testing {
namespace {

struct Counts {
  std::int64_t heap = heap_allocations.load(), system = memory_stats().system_allocations,
               faults = [] {
                 if (!LIGHTGRAD_COUNT_NEW) return std::int64_t{0};
                 rusage usage{};
                 getrusage(RUSAGE_SELF, &usage);
                 return static_cast<std::int64_t>(usage.ru_minflt);
               }();
  bool operator==(const Counts&) const = default;
};

// Steps until ten in a row leave every count alone. Some warm-up is chance: with several threads,
// when each first gets its piece of every kernel; with one, a page of the stack or of the code.
bool settles(const std::function<double()>& step) {
  for (int round = 0; round < 50; ++round) {
    const Counts before;
    for (int i = 0; i < 10; ++i) step();
    if (before == Counts()) return true;
  }
  return false;
}

void expect_steady(const std::function<double()>& step) {
  const KeepThreads keep;
  const double first = step();
  const bool cached = memory_stats().cached > 0;  // not under AddressSanitizer
  for (const int threads : {1, 2, 4}) {
    set_num_threads(threads);
    if (cached) {
      EXPECT_TRUE(settles(step)) << threads << " threads";
    } else {
      step();
    }
  }
  const MemoryStats before = memory_stats();
  const double last = step();
  const MemoryStats after = memory_stats();
  EXPECT_LT(last, first);
  EXPECT_EQ(after.current, before.current);
  EXPECT_GT(after.allocations, before.allocations);  // it does take blocks, from the cache
}

TEST(Allocations, TheCountsCount) {
  ones({1000});
  if (memory_stats().cached == 0) GTEST_SKIP() << "built or run without a cache";
  if (LIGHTGRAD_COUNT_NEW) {
    const Counts before;
    const std::function<double()> allocates = [] {
      return static_cast<double>(std::vector<int>(10).size());
    };
    EXPECT_FALSE(settles(allocates));
  }
  const Counts before;
  ones({1 << 22}).copy();
  EXPECT_GT(Counts().system, before.system);
  EXPECT_TRUE(Counts().faults > before.faults || !LIGHTGRAD_COUNT_NEW);
  trim_memory();
}

TEST(Allocations, PlainUpdates) {
  const Tensor x = to(uniform({64, 100}, -1, 1, 1), DType::float32),
               target = integers({64}, 0, 10, 2);
  const Tensors parameters{to(uniform({128, 100}, -0.1, 0.1, 3), DType::float32), zeros({128}),
                           to(uniform({10, 128}, -0.1, 0.1, 4), DType::float32), zeros({10})};
  for (const Tensor& p : parameters) p.set_requires_grad();
  expect_steady([&] {
    const Tensor hidden = relu(linear(x, parameters[0], parameters[1]));
    const Tensor loss = cross_entropy(linear(hidden, parameters[2], parameters[3]), target);
    loss.backward();
    NoGrad off;
    for (const Tensor& p : parameters) {
      sub_(p, p.grad() * 0.1);
      p.zero_grad();
    }
    return loss.item();
  });
}

TEST(Allocations, TinyPerceptron) {
  manual_seed(0);
  const auto model = nn::make<nn::Sequential>(nn::make<nn::Linear>(2, 16), nn::make<nn::Tanh>(),
                                              nn::make<nn::Linear>(16, 1));
  optim::SGD optimizer(model->parameters(), {.lr = 0.05, .momentum = 0.9, .weight_decay = 1e-4});
  const Tensor x = randn({1, 2}), y = randn({1, 1});
  expect_steady([&] {
    optimizer.zero_grad();
    const Tensor loss = mean(square(model(x) - y));
    loss.backward();
    optimizer.step();
    return loss.item();
  });
}

// What a Transformer is made of: embedding, layer_norm, split, attention, residuals, clipping.
TEST(Allocations, Transformer) {
  manual_seed(0);
  constexpr std::int64_t B = 4, T = 32, C = 64, heads = 4, vocabulary = 17;
  const auto tok = nn::make<nn::Embedding>(vocabulary, C);
  const auto ln1 = nn::make<nn::LayerNorm>(C), ln2 = nn::make<nn::LayerNorm>(C);
  const auto qkv = nn::make<nn::Linear>(C, 3 * C), proj = nn::make<nn::Linear>(C, C),
             up = nn::make<nn::Linear>(C, 4 * C), down = nn::make<nn::Linear>(4 * C, C),
             head = nn::make<nn::Linear>(C, vocabulary, false);
  Tensors parameters = tok->parameters();
  for (const auto& m : {qkv, proj, up, down, head})
    for (const Tensor& p : m->parameters()) parameters.push_back(p);
  for (const auto& m : {ln1, ln2})
    for (const Tensor& p : m->parameters()) parameters.push_back(p);
  optim::AdamW optimizer(parameters, {.lr = 1e-3});
  const Tensor ids = randint(0, vocabulary, {B, T}), targets = randint(0, vocabulary, {B * T});
  const auto loss_of = [&] {
    Tensor x = tok(ids);
    Tensors part = split(qkv(ln1(x)), C, 2);
    for (Tensor& p : part) p = transpose(view(p, {B, T, heads, C / heads}), 1, 2);
    const Tensor y = scaled_dot_product_attention(part[0], part[1], part[2], {}, 0, true);
    x = x + proj(reshape(transpose(y, 1, 2), {B, T, C}));
    x = x + down(gelu(up(ln2(x))));
    return cross_entropy(reshape(head(x), {-1, vocabulary}), targets);
  };
  expect_steady([&] {
    optimizer.zero_grad();
    const Tensor loss = loss_of();
    loss.backward();
    optimizer.step(1.0);
    return loss.item();
  });
  expect_steady([&] {
    optimizer.zero_grad();
    const Tensor loss = loss_of();
    loss.backward();
    nn::utils::clip_grad_norm_(parameters, 0.5);
    optimizer.step();
    return loss.item();
  });
}

// ---- buffers that are used again ----

constexpr std::int64_t million = 1 << 18;  // floats: 1 MiB
constexpr std::int64_t mebibyte = 1 << 20;

TEST(Buffers, APointwiseGradientIsWrittenOverTheOneThatCame) {
  const Tensor x = ones({million}).set_requires_grad();
  sum(x);
  if (memory_stats().cached == 0) GTEST_SKIP() << "built or run without a cache";
  const Tensor w = full({million}, 0.5).set_requires_grad();
  const Tensor y = sum(tanh(exp(sin(x * w))));
  trim_memory();
  const auto before = memory_stats().system_allocations;
  // The saved tensors stay; w's gradient, then x's, which goes down the chain in one buffer.
  y.backward({}, {.retain_graph = true});
  EXPECT_EQ(memory_stats().system_allocations - before, 2);
  const Tensor first = x.grad();
  x.zero_grad();
  y.backward();
  EXPECT_TRUE(same_bits(x.grad(), first));
}

TEST(Buffers, SavedTensorsGoBeforeTheLastGradientIsMade) {
  const Tensor x = ones({million}).set_requires_grad();
  const Tensor w = full({million}, 0.5).set_requires_grad();
  const Tensor y = sum(cos(x) * w);  // cos(x) is kept for w's gradient only
  reset_peak_memory();
  const auto before = memory_stats().current;
  y.backward();
  // w's gradient; x's takes the place of cos(x).
  EXPECT_LT(memory_stats().peak - before, mebibyte + mebibyte / 2);
  EXPECT_NEAR(memory_stats().current - before, mebibyte, mebibyte / 16);
}

TEST(Buffers, WhatOthersHoldIsLeftAlone) {
  const Tensor x = to(uniform({100}, 0.1, 1, 1), DType::float32).set_requires_grad();
  const Tensor g = to(uniform({100}, -1, 1, 2), DType::float32), copy = g.copy();
  // The caller's gradient.
  exp(x).backward(g);
  EXPECT_TRUE(same_bits(g, copy));
  // What a hook kept, what retain_grad keeps, and what grad() hands out.
  const Tensor inner = x * 2.0, y = tanh(exp(inner));
  Tensor kept;
  inner.retain_grad();
  const Tensor z = sin(inner) + y;
  y.register_hook([&](const Tensor& seen) {
    kept = seen;
    return Tensor();
  });
  z.backward(g.copy(), {.retain_graph = true});
  EXPECT_TRUE(same_bits(kept, g));
  const Tensor of_inner = inner.grad().copy();
  const auto captured = autograd::grad({z}, {y, inner, x}, {g}, {.retain_graph = true});
  EXPECT_TRUE(same_bits(captured[0], g));
  EXPECT_TRUE(same_bits(captured[1], of_inner));
  EXPECT_TRUE(same_bits(captured[2], of_inner * 2.0));
  EXPECT_TRUE(same_bits(inner.grad(), of_inner));
  // A gradient that arrives twice: one buffer for two users.
  const Tensor a = x + 0.0, b = tanh(a + a) + a;
  x.zero_grad();
  b.backward(g);
  const Tensor t = tanh(x * 2.0);
  expect_close(x.grad(), g * (3.0 - 2.0 * t * t).detach(), 1e-6, "a + a");
  // Gradients of gradients keep all that they were made from.
  const Tensor first = autograd::grad({tanh(exp(x))}, {x}, {g}, {.create_graph = true})[0];
  const Tensor before = first.detach().copy();
  sum(first).backward();
  EXPECT_TRUE(same_bits(first, before));
  EXPECT_TRUE(same_bits(g, copy));
}

// ---- statistics ----

std::int64_t used(MemoryUse use) {
  return memory_stats().uses[static_cast<std::size_t>(use)].current;
}

TEST(MemoryUses, EachByteIsCountedOnce) {
  const auto near = [](std::int64_t bytes, double mebibytes) {
    EXPECT_NEAR(static_cast<double>(bytes) / mebibyte, mebibytes, 0.01);
  };
  const auto parameters = used(MemoryUse::parameter), gradients = used(MemoryUse::gradient),
             state = used(MemoryUse::optimizer), activations = used(MemoryUse::activation),
             other = used(MemoryUse::other);
  {
    Tensor w = ones({million});
    near(used(MemoryUse::parameter) - parameters, 0);
    w.set_requires_grad();
    near(used(MemoryUse::parameter) - parameters, 1);
    near(used(MemoryUse::other) - other, 0);
    optim::AdamW optimizer({w});
    Tensor y = exp(w);  // the node keeps its output
    near(used(MemoryUse::activation) - activations, 1);
    Tensor loss = sum(y * y);  // y again, and the product, which nobody keeps
    near(used(MemoryUse::activation) - activations, 1);
    y = {};
    reset_peak_memory();
    loss.backward();
    near(used(MemoryUse::activation) - activations, 0);
    near(used(MemoryUse::gradient) - gradients, 1);
    optimizer.step();
    near(used(MemoryUse::optimizer) - state, 2);
    near(used(MemoryUse::parameter) - parameters, 1);
    near(used(MemoryUse::other) - other, 0);
    const MemoryStats s = memory_stats();
    std::int64_t sum_of_uses = 0;
    for (const auto& u : s.uses) {
      sum_of_uses += u.current;
      EXPECT_GE(u.peak, u.current);
    }
    EXPECT_EQ(sum_of_uses, s.current);
    near(s.uses[static_cast<std::size_t>(MemoryUse::activation)].peak - activations, 1);
    optimizer.zero_grad();
    near(used(MemoryUse::gradient) - gradients, 0);
  }
  EXPECT_EQ(used(MemoryUse::parameter), parameters);
  EXPECT_EQ(used(MemoryUse::gradient), gradients);
  EXPECT_EQ(used(MemoryUse::optimizer), state);
  EXPECT_EQ(used(MemoryUse::activation), activations);
  near(used(MemoryUse::other) - other, 0);
}

}  // namespace
}  // namespace lg::testing
