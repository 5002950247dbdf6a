// test_profile.cpp: what a profile records: exact costs of known shapes, paths, memory, threads;
// that nothing is recorded outside of it; and the forms in which it is shown.
#include <algorithm>
#include <array>
#include <atomic>
#include <set>
#include <thread>

#include "lightgrad/base/table.h"
#include "lightgrad/lightgrad.h"
#include "tests/cpp/tensor_testing.h"

namespace lg::testing {
namespace {

using profiler::Event;
using profiler::Phase;
using profiler::Profile;

Tensor floats(const Shape& shape, std::uint64_t seed = 1) {
  return to(uniform(shape, -1, 1, seed), DType::float32);
}
Tensor leaf(const Shape& shape, std::uint64_t seed = 1) {
  return floats(shape, seed).set_requires_grad();
}

// What ran in f, without what ran inside of that.
template <class F> std::vector<Event> recorded(F&& f) {
  Profile p;
  f();
  p.stop();
  std::vector<Event> all = p.events();
  std::erase_if(all, [](const Event& e) { return e.depth > 0; });
  return all;
}

Event find(const std::vector<Event>& events, std::string_view name, Phase phase = Phase::forward) {
  for (const Event& e : events)
    if (e.name == name && e.phase == phase) return e;
  ADD_FAILURE() << "no " << name;
  return {};
}

void expect_cost(const Event& e, double flops, double bytes) {
  EXPECT_EQ(e.flops, flops) << e.name << " " << profiler::name_of(e.phase);
  EXPECT_EQ(e.bytes, bytes) << e.name << " " << profiler::name_of(e.phase);
}

TEST(Profile, CostOfPointwiseOperations) {
  const Tensor x = floats({2, 3}), row = floats({3});
  expect_cost(find(recorded([&] { x + row; }), "add"), 6, 24 + 12 + 24);
  expect_cost(find(recorded([&] { x * 2.0; }), "mul"), 6, 24 + 24);  // a number is no memory
  expect_cost(find(recorded([&] { expand(row, {1000, 3}) + 1; }), "add"), 3000, 12 + 12000);
  expect_cost(find(recorded([&] { x > row; }), "gt"), 6, 24 + 12 + 6);

  const Tensor w = leaf({2, 3});
  const Tensor loss = sum(exp(w) * x);
  const auto events = recorded([&] { loss.backward(); });
  expect_cost(find(events, "mul", Phase::backward), 6, 4 + 24 + 24);  // g is one number, expanded
  expect_cost(find(events, "exp", Phase::backward), 6, 24 + 24 + 24);
}

TEST(Profile, CostOfViewsAndReductions) {
  const Tensor x = floats({2, 3});
  const auto views = recorded([&] { reshape(transpose(x, 0, 1), {6}); });
  expect_cost(find(views, "transpose"), 0, 0);
  expect_cost(find(views, "reshape"), 0, 48);  // it had to copy
  expect_cost(find(recorded([&] { reshape(x, {6}); }), "reshape"), 0, 0);
  expect_cost(find(recorded([&] { sum(x, 1); }), "sum"), 6, 24 + 8);
  expect_cost(find(recorded([&] { var(x, 1); }), "var"), 24, 24 + 8);
  expect_cost(find(recorded([&] { argmax(x, 1); }), "argmax"), 6, 24 + 16);
  expect_cost(find(recorded([&] { cat({x, x}); }), "cat"), 0, 96);
}

TEST(Profile, CostOfProducts) {
  expect_cost(find(recorded([] {
                     matmul(floats({3, 4}), floats({4, 5}));
                   }),
                   "bmm"),
              2 * 3 * 4 * 5, 4 * (12 + 20 + 15));
  expect_cost(find(recorded([] {
                     matmul(floats({7, 3, 4}), floats({7, 4, 5}));
                   }),
                   "bmm"),
              7 * 2 * 3 * 4 * 5, 7 * 4 * (12 + 20 + 15));
  const Tensor x = leaf({6, 4}), weight = leaf({5, 4}, 2), bias = leaf({5}, 3);
  Tensor y;
  expect_cost(find(recorded([&] { y = linear(x, weight, bias); }), "linear"), 2 * 6 * 5 * 4 + 30,
              4 * (24 + 20 + 5 + 30));
  expect_cost(find(recorded([&] { linear(x, weight); }), "linear"), 2 * 6 * 5 * 4,
              4 * (24 + 20 + 30));
  const Event back = find(recorded([&] { y.backward(floats({6, 5})); }), "linear", Phase::backward);
  EXPECT_EQ(back.flops, 2 * (2 * 6 * 5 * 4) + 30);  // two products and the bias's sum
  const char* const fused = "linear_activation";
  // gelu's gradient needs what it was applied to, which is a second output; relu's the first.
  for (const auto& [f, kept] : {std::pair("gelu", 30), {"relu", 0}}) {
    expect_cost(find(recorded([&] { y = linear_activation(x, weight, bias, f); }), fused),
                2 * 6 * 5 * 4 + 2 * 30, 4 * (24 + 20 + 5 + 30 + kept));
    const Event pass = find(recorded([&] { y.backward(floats({6, 5})); }), fused, Phase::backward);
    EXPECT_EQ(pass.flops, back.flops + 30);
    EXPECT_EQ(pass.bytes, back.bytes + 4 * 3 * 30);
  }
}

TEST(Profile, CostOfAttention) {
  const Tensor q = leaf({1, 2, 4, 8}), k = leaf({1, 2, 4, 8}, 2), v = leaf({1, 2, 4, 8}, 3);
  const Tensor mask;
  Tensor y;
  const char* const name = "scaled_dot_product_attention";
  auto run = [&] { y = scaled_dot_product_attention(q, k, v, mask); };
  expect_cost(find(recorded(run), name), 2 * 16 * 2 * (8 + 8), 4 * 64 * 4);
  const auto events = recorded([&] { y.backward(floats({1, 2, 4, 8})); });
  // g, y and three inputs are read, three gradients written.
  expect_cost(find(events, name, Phase::backward), 2 * 16 * 2 * (3 * 8 + 2 * 8), 8 * 64 * 4);
  auto causal = [&] { y = scaled_dot_product_attention(q, k, v, mask, 0.0, true); };
  expect_cost(find(recorded(causal), name), 2 * 10 * 2 * (8 + 8), 4 * 64 * 4);
  // Two keys: query 0 sees one of them, the other three both.
  auto narrow = [&] {
    scaled_dot_product_attention(q, slice(k, 2, 0, 2), slice(v, 2, 0, 2), mask, 0.0, true);
  };
  EXPECT_EQ(find(recorded(narrow), name).flops, 2 * 7 * 2 * (8 + 8));
}

TEST(Profile, CostOfRowsAndTables) {
  const Tensor x = leaf({10, 16}), weight = leaf({16}, 2), bias = leaf({16}, 3);
  Tensor y;
  expect_cost(find(recorded([&] { y = layer_norm(x, {16}, weight, bias); }), "layer_norm"), 8 * 160,
              4 * (160 + 16 + 16 + 160));
  expect_cost(find(recorded([&] {
                     y.backward(floats({10, 16}));
                   }),
                   "layer_norm", Phase::backward),
              13 * 160, 4 * (160 + 160 + 32 + 160 + 32));
  expect_cost(find(recorded([&] { softmax(x); }), "softmax_rows"), 5 * 160, 2 * 4 * 160);
  const auto loss = recorded([&] { cross_entropy(x, integers({10}, 0, 16, 4)).backward(); });
  expect_cost(find(loss, "cross_entropy_rows"), 4 * 160, 4 * 160 + 8 * 10 + 4 * 10);
  EXPECT_EQ(find(loss, "cross_entropy_rows", Phase::backward).flops, 3 * 160);

  const Tensor table = leaf({10, 4}), ids = integers({5}, 0, 10, 5);
  expect_cost(find(recorded([&] { y = embedding(ids, table); }), "embedding"), 0, 40 + 2 * 80);
  expect_cost(find(recorded([&] {
                     y.backward(floats({5, 4}));
                   }),
                   "embedding", Phase::backward),
              20, 80 + 40 + 160);
}

TEST(Profile, OptimizerSteps) {
  const Tensor p = leaf({10});
  p.set_grad(floats({10}));
  optim::AdamW adamw({p});
  const auto events = recorded([&] {
    nn::utils::clip_grad_norm_({p}, 1e-3);
    adamw.step();
  });
  ASSERT_EQ(events.size(), 2u);
  expect_cost(find(events, "clip_grad_norm_", Phase::step), 20 + 10, 40 + 80);
  expect_cost(find(events, "AdamW", Phase::step), 15 * 10, 7 * 40);
  optim::SGD sgd({p});
  expect_cost(find(recorded([&] { sgd.step(); }), "SGD", Phase::step), 20, 3 * 40);
}

TEST(Profile, NothingIsRecordedOutside) {
  const Tensor x = floats({3});
  Profile p(false);
  x + x;
  EXPECT_EQ(watch::flags, 0u);
  p.start();
  EXPECT_TRUE(p.running());
  expect_error(ErrorKind::runtime, {"profile: it is running already"}, [&] { p.start(); });
  x* x;
  p.stop();
  p.stop();
  x - x;
  EXPECT_EQ(watch::flags, 0u);
  ASSERT_EQ(p.events().size(), 1u);
  EXPECT_EQ(p.events()[0].name, "mul");
  p.start();  // more of the same
  x / x;
  p.stop();
  ASSERT_EQ(p.events().size(), 2u);
  EXPECT_EQ(p.events()[1].name, "div");
  EXPECT_GE(p.events()[1].start, p.events()[0].start + p.events()[0].seconds);
  EXPECT_GE(p.seconds(), p.total().seconds);
}

TEST(Profile, Nests) {
  const Tensor x = floats({3});
  Profile outer;
  x + x;
  Profile inner;
  x* x;
  inner.stop();
  x - x;
  outer.stop();
  EXPECT_EQ(outer.events().size(), 3u);
  ASSERT_EQ(inner.events().size(), 1u);
  EXPECT_EQ(inner.events()[0].name, "mul");
}

struct ProfiledBackward : autograd::Function<ProfiledBackward> {
  static inline Profile* profile = nullptr;
  static Tensor forward(autograd::FunctionContext&, const Tensor& x) { return x * 2; }
  static Tensors backward(autograd::FunctionContext&, const Tensors& g) {
    profile->start();
    const Tensor twice = g[0] * 2;
    profile->stop();
    return {twice};
  }
};

TEST(Profile, BeginsInsideOfAnOperation) {
  Profile p(false);
  ProfiledBackward::profile = &p;
  const Tensor y = ProfiledBackward::apply(leaf({3}));
  Profile outer;
  y.backward(floats({3}));
  outer.stop();
  ASSERT_EQ(p.events().size(), 1u);
  EXPECT_EQ(p.events()[0].name, "mul");
  EXPECT_EQ(p.events()[0].depth, 0);
  EXPECT_EQ(find(outer.events(), "mul").depth, 1);
}

TEST(Profile, WhatAnOperationCallsCountsThere) {
  const Tensor x = leaf({6, 4}), weight = leaf({4, 5}, 2);
  const Tensor y = matmul(x, weight);
  Profile p;
  y.backward(floats({6, 5}));
  p.stop();
  const auto& all = p.events();
  const auto outer = std::find_if(all.begin(), all.end(), [](const Event& e) {
    return e.name == "bmm" && e.phase == Phase::backward;
  });
  ASSERT_NE(outer, all.end());
  EXPECT_EQ(outer->depth, 0);
  double flops = 0, seconds = 0;
  for (auto e = outer + 1; e != all.end() && e->depth > 0; ++e) {
    EXPECT_GE(e->start, outer->start);
    EXPECT_LE(e->start + e->seconds, outer->start + outer->seconds);
    flops += e->depth == 1 ? e->flops : 0;
    seconds += e->depth == 1 ? e->seconds : 0;
  }
  EXPECT_EQ(flops, outer->flops);
  EXPECT_LE(seconds, outer->seconds);
  for (const profiler::Row& r : p.rows()) EXPECT_NE(r.name, "bmm");
}

TEST(Profile, ModulePaths) {
  auto inner = nn::make<nn::Sequential>(nn::make<nn::Linear>(4, 4), nn::make<nn::ReLU>());
  auto model = nn::make<nn::Sequential>(inner, nn::make<nn::Linear>(4, 2));
  Profile p;
  sum(model(floats({3, 4}))).backward();
  p.stop();
  std::map<std::string, int> calls;
  for (const Event& e : p.events())
    if (e.depth == 0) ++calls[text(e.module, " ", e.name, " ", profiler::name_of(e.phase))];
  for (const char* expected :
       {"0.0 linear forward", "0.0 linear backward", "0.1 relu forward", "0.1 relu backward",
        "1 linear forward", "1 linear backward", " sum forward", " sum backward"})
    EXPECT_EQ(calls[expected], 1) << expected;
  const auto cut = p.rows({.group_by = "module", .sort_by = "name", .depth = 1});
  ASSERT_EQ(cut.size(), 3u);
  EXPECT_EQ(cut[0].name, "(no module)");
  EXPECT_EQ(cut[1].name, "0");
  EXPECT_EQ(cut[2].name, "1");
  EXPECT_EQ(p.rows({.group_by = "module"}).size(), 4u);
}

TEST(Profile, MemoryOfAnOperation) {
  const Tensor x = floats({1000, 1000});
  { const Tensor large = floats({3000, 1000}); }  // the peak so far
  const std::int64_t highest = memory_stats().peak;
  const auto events = recorded([&] {
    Tensor y = relu(x);
    y = softmax(transpose(y, 0, 1), 0);
  });
  EXPECT_NEAR(find(events, "relu").kept, 4e6, 1e4);
  EXPECT_NEAR(find(events, "relu").peak, 4e6, 1e4);
  EXPECT_EQ(find(events, "transpose").shape, (Shape{1000, 1000}));
  EXPECT_LT(find(events, "transpose").peak, 1e4);
  EXPECT_EQ(memory_stats().peak, highest);  // nobody else notices
}

TEST(Profile, ErrorsEndOperations) {
  const Tensor x = floats({3}), w = leaf({3});
  {
    Profile p;
    EXPECT_THROW(bmm(floats({2, 3}), floats({2, 3})), Error);
    x + x;
    w.register_hook([](const Tensor&) -> Tensor { throw std::runtime_error("hook"); });
    EXPECT_THROW(sum(w * x).backward(), std::runtime_error);
    x - x;
    p.stop();
    const auto& all = p.events();
    EXPECT_EQ(find(all, "bmm").flops, 0);
    for (const char* name : {"add", "sub"}) EXPECT_EQ(find(all, name).depth, 0) << name;
  }
  try {
    Profile p;
    throw 1;
  } catch (int) {}
  EXPECT_EQ(watch::flags, 0u);
}

TEST(Profile, EveryThreadIsRecorded) {
  const Tensor x = floats({64, 64});
  constexpr int threads = 4, calls = 50;
  Profile p;
  std::vector<std::thread> all;
  for (int t = 0; t < threads; ++t) {
    all.emplace_back([&] {
      for (int i = 0; i < calls; ++i) matmul(x, x);
    });
  }
  for (auto& t : all) t.join();
  p.stop();
  std::map<int, int> per_thread;
  double last = 0;
  int thread = -1;
  for (const Event& e : p.events()) {
    EXPECT_EQ(e.depth, 0);
    if (e.name == "bmm") ++per_thread[e.thread];
    if (e.thread == thread) {
      EXPECT_GE(e.start, last);
    }
    last = e.start;
    thread = e.thread;
  }
  EXPECT_EQ(per_thread.size(), 4u);
  for (const auto& [t, n] : per_thread) EXPECT_EQ(n, calls) << "thread " << t;
}

// For the sanitizers: profiles come and go while operations run.
TEST(Profile, StartsAndStopsWhileOthersWork) {
  const Tensor x = floats({8});
  std::atomic<bool> done{false};
  std::vector<std::thread> workers;
  for (int t = 0; t < 3; ++t) {
    workers.emplace_back([&] {
      while (!done) {
        const Tensor w = leaf({8});
        sum(w * x).backward();
      }
    });
  }
  for (int i = 0; i < 100; ++i) {
    Profile a, b;
    x + x;
    a.stop();
    EXPECT_EQ(std::count_if(a.events().begin(), a.events().end(),
                            [](const Event& e) { return e.name == "add" && e.depth == 0; }),
              1);
    for (const Event& e : a.events()) EXPECT_GE(e.seconds, 0);
  }
  done = true;
  for (auto& w : workers) w.join();
  EXPECT_EQ(watch::flags, 0u);
}

TEST(Profile, ResultsAreTheSame) {
  auto step = [] {
    const Tensor w = leaf({16, 16}), x = floats({8, 16}, 2);
    softmax(linear(layer_norm(x, {16}, Tensor(), Tensor()), w)).backward(floats({8, 16}, 3));
    return w.grad();
  };
  const Tensor expected = step();
  Profile p;
  EXPECT_TRUE(same_bits(step(), expected));
}

TEST(Profile, Table) {
  const Tensor x = floats({100, 100});
  Profile p;
  for (int i = 0; i < 3; ++i) x + x;
  matmul(x, x);
  reshape(x, {-1});
  p.stop();
  const auto by = [&](const char* sort) { return p.rows({.sort_by = sort})[0].name; };
  EXPECT_EQ(by("calls"), "add");
  EXPECT_EQ(by("flops"), "bmm");
  EXPECT_EQ(by("bytes"), "add");
  EXPECT_EQ(p.rows({.sort_by = "name"}).back().name, "reshape");
  const auto rows = p.rows();
  EXPECT_TRUE(std::is_sorted(rows.begin(), rows.end(),
                             [](auto& a, auto& b) { return a.seconds > b.seconds; }));
  EXPECT_EQ(p.rows({.limit = 2}).size(), 2u);
  EXPECT_EQ(p.rows({.group_by = "shape", .sort_by = "calls"})[0].name, "add [100, 100]");
  EXPECT_EQ(p.total().calls, 5);
  EXPECT_EQ(p.total().flops, 3 * 10000 + 2e6);
  const std::string table = p.to_string();
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 8) << table;
  for (const char* part : {"operation", "bmm ", "2.00 MF", "120 kB", "all operations", " recorded"})
    EXPECT_NE(table.find(part), table.npos) << part << "\n" << table;
  expect_error(ErrorKind::value, {"profile: group_by is \"size\", expected \"op\""},
               [&] { p.rows({.group_by = "size"}); });
  expect_error(ErrorKind::value, {"profile: sort_by is \"size\", expected \"time\""},
               [&] { p.rows({.sort_by = "size"}); });
  EXPECT_NE(Profile(false).to_string().find("0 s in operations, of 0 s recorded"),
            std::string::npos);
}

TEST(Profile, Units) {
  EXPECT_EQ(with_unit(0, "F"), "0 F");
  EXPECT_EQ(with_unit(999, "B"), "999 B");
  EXPECT_EQ(with_unit(1000, "B"), "1.00 kB");
  EXPECT_EQ(with_unit(999.6e3, "B"), "1.00 MB");
  EXPECT_EQ(with_unit(-12345, "B"), "-12.3 kB");
  EXPECT_EQ(with_unit(1.5, "s"), "1.50 s");
  EXPECT_EQ(with_unit(0.25, "s"), "250 ms");
  EXPECT_EQ(with_unit(98.7e-6, "s"), "98.7 us");
  EXPECT_EQ(with_unit(45e-9, "s"), "45.0 ns");
  EXPECT_EQ(with_unit(3.2e15, "F/s"), "3.20 PF/s");
}

std::size_t occurrences(const std::string& text, std::string_view part) {
  std::size_t n = 0;
  for (auto at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++n;
  return n;
}

TEST(Profile, Roofline) {
  const Tensor x = floats({50, 50});
  Profile p;
  tanh(matmul(x, x));
  reshape(x, {-1});
  p.stop();
  const std::string svg = p.roofline({1e11, 1e10, 1e11, 2, "AVX2"});
  EXPECT_TRUE(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
  EXPECT_EQ(occurrences(svg, "<circle"), 2u);  // what computes nothing has no place there
  EXPECT_EQ(occurrences(svg, "2 threads, AVX2: 100 GF/s in float32"), 1u);
  EXPECT_EQ(svg.find("nan"), svg.npos);
  EXPECT_EQ(svg.find("inf"), svg.npos);
  EXPECT_EQ(
      occurrences(Profile(false).roofline({1e11, 1e10, 1e11, 1, "AVX2"}), "no floating-point"), 1u);
  expect_error(ErrorKind::value, {"roofline: the peak has rates of 0 F/s"},
               [&] { p.roofline(profiler::Peak{}); });
}

TEST(Profile, PeakOfTheMachine) {
  const profiler::Peak peak = profiler::measure_peak();
  EXPECT_GT(peak.flops, 0);
  EXPECT_GT(peak.memory, 0);
  EXPECT_GT(peak.cache, 0);
  EXPECT_EQ(peak.threads, num_threads());
  EXPECT_FALSE(peak.simd_target.empty());
}

}  // namespace
}  // namespace lg::testing
