// Autocast and GradScaler: which operation computes in what, casts of weights, and steps that are
// not taken.
#include "lightgrad/amp/autocast.h"

#include <cmath>
#include <limits>
#include <optional>

#include "lightgrad/amp/grad_scaler.h"
#include "lightgrad/ops/autocast.h"
#include "lightgrad/optim/optim.h"
#include "tests/cpp/tensor_testing.h"

namespace lg::testing {
namespace {

using amp::Autocast;
using amp::GradScaler;

Tensor floats(const Shape& shape, std::uint64_t seed) {
  return to(uniform(shape, -1, 1, seed), DType::float32);
}

TEST(Autocast, OperationsGoLowWideOrFollow) {
  const Tensor x = floats({3, 4}, 1), w = floats({5, 4}, 2), b = floats({5}, 3),
               b4 = floats({4}, 7);
  for (const DType half : {DType::bfloat16, DType::float16}) {
    const Tensor h = to(x, half);
    const Autocast scope(half);
    EXPECT_EQ(linear(x, w, b).dtype(), half);
    EXPECT_EQ(matmul(x, transpose(w, 0, 1)).dtype(), half);
    EXPECT_EQ(conv2d(floats({1, 2, 5, 5}, 4), floats({3, 2, 3, 3}, 5)).dtype(), half);
    const Tensor q = floats({1, 2, 4, 8}, 6);
    EXPECT_EQ(scaled_dot_product_attention(q, q, q).dtype(), half);
    EXPECT_EQ(exp(h).dtype(), DType::float32);
    EXPECT_EQ(sum(h).dtype(), DType::float32);
    EXPECT_EQ(softmax(h, -1).dtype(), DType::float32);
    EXPECT_EQ(mse_loss(h, h).dtype(), DType::float32);
    EXPECT_EQ(cross_entropy(h, arange(3)).dtype(), DType::float32);
    EXPECT_EQ(layer_norm(h, {4}, Tensor(), Tensor()).dtype(), DType::float32);
    EXPECT_EQ(relu(h).dtype(), half);
    EXPECT_EQ(batch_norm(h, {}, {}, b4, b4, {.training = true}).dtype(), half);
    EXPECT_EQ(add(h, x).dtype(), DType::float32);
    const Tensor wide = to(x, DType::float64);
    EXPECT_EQ(matmul(wide, transpose(wide, 0, 1)).dtype(), DType::float64);
    {
      const Autocast off(half, false);
      EXPECT_FALSE(amp::is_autocast_enabled());
      EXPECT_EQ(linear(x, w, b).dtype(), DType::float32);
      const Autocast other(half == DType::float16 ? DType::bfloat16 : DType::float16);
      EXPECT_NE(linear(x, w, b).dtype(), half);
    }
    EXPECT_EQ(amp::autocast_dtype(), half);
  }
  EXPECT_FALSE(amp::is_autocast_enabled());
  EXPECT_EQ(linear(x, w, b).dtype(), DType::float32);
}

TEST(Autocast, IsTheSameAsCastingByHand) {
  const Tensor x = floats({3, 4}, 1);
  const auto run = [&](bool by_hand) {
    const Tensor w = floats({5, 4}, 2).set_requires_grad();
    const auto half = [](const Tensor& t) { return to(t, DType::bfloat16); };
    Tensor loss;
    if (by_hand) {
      const Tensor h = linear(half(x), half(w));
      loss = sum(square(to(h, DType::float32)));
    } else {
      const Autocast scope;
      loss = sum(square(to(linear(x, w), DType::float32)));
    }
    loss.backward();
    EXPECT_EQ(w.grad().dtype(), DType::float32);
    return std::pair(loss.item(), w.grad().to_vector<float>());
  };
  EXPECT_EQ(run(true), run(false));
}

// Activations in half precision beside weights in float32: what one operation gives another.
TEST(Autocast, ProductsTakeBothDtypes) {
  for (const DType half : {DType::bfloat16, DType::float16}) {
    const Autocast scope(half);
    const auto h = [&](const Shape& shape) { return to(floats(shape, 1), half); };
    const auto w = [&](const Shape& shape) { return floats(shape, 2).set_requires_grad(); };
    EXPECT_EQ(linear(h({2, 4}), w({3, 4}), w({3})).dtype(), half);
    EXPECT_EQ(matmul(h({2, 4}), w({4, 3})).dtype(), half);
    EXPECT_EQ(conv1d(h({1, 2, 5}), w({3, 2, 3}), w({3})).dtype(), half);
    EXPECT_EQ(conv2d(h({1, 2, 5, 5}), w({3, 2, 3, 3}), w({3})).dtype(), half);
    EXPECT_EQ(conv_transpose2d(h({1, 2, 5, 5}), w({2, 3, 3, 3}), w({3})).dtype(), half);
    EXPECT_EQ(fused_mlp(h({2, 4}), w({3, 4}), w({3}), w({3}), w({3})).dtype(), half);
    EXPECT_EQ(scaled_dot_product_attention(h({1, 4, 8}), w({1, 4, 8}), h({1, 4, 8})).dtype(), half);
    const Tensor wide = to(w({3, 2, 3, 3}), DType::float64);
    expect_error(ErrorKind::type, {"conv2d: x is float32, weight is float64"}, [&] {
      conv2d(floats({1, 2, 5, 5}, 1), wide);
    });
  }
}

// In bfloat16 with weights and statistics in float32: as in float32, rounded once.
TEST(Autocast, BatchNormTakesBfloat16) {
  const Tensor x = to(floats({6, 3, 5}, 1), DType::bfloat16),
               g = to(floats({6, 3, 5}, 2), DType::bfloat16);
  const auto run = [&](DType dtype) {
    const Tensor w = floats({3}, 3).set_requires_grad(), b = floats({3}, 4).set_requires_grad(),
                 mean = zeros({3}), var = ones({3});
    const Tensor in = to(x, dtype).set_requires_grad(), residual = to(g, dtype).set_requires_grad();
    const Autocast scope(DType::bfloat16, dtype == DType::bfloat16);
    const Tensor y =
        batch_norm(in, mean, var, w, b, {.training = true, .relu = true, .residual = residual});
    EXPECT_EQ(y.dtype(), dtype);
    y.backward(to(g, dtype));
    for (const Tensor& t : {in, residual}) EXPECT_EQ(t.grad().dtype(), dtype);
    for (const Tensor& t : {w, b, mean, var})
      EXPECT_EQ((t.grad().defined() ? t.grad() : t).dtype(), DType::float32);
    std::vector<std::vector<float>> all;
    for (const Tensor& t : {y.detach(), in.grad(), residual.grad()})
      all.push_back(to(to(t, DType::bfloat16), DType::float32).to_vector<float>());
    for (const Tensor& t : {w.grad(), b.grad(), mean, var}) all.push_back(t.to_vector<float>());
    return all;
  };
  EXPECT_EQ(run(DType::bfloat16), run(DType::float32));
}

TEST(Autocast, AWeightIsCastOnceUntilItChanges) {
  const Tensor w = floats({4, 4}, 2).set_requires_grad(), x = floats({4, 4}, 1);
  const auto cast = [&] { return autocast::input(Precision::low, w); };
  {
    const Autocast scope;
    const Tensor first = cast();
    EXPECT_TRUE(cast().is_same(first));
    EXPECT_TRUE(first.requires_grad());
    {
      const NoGrad off;  // a copy of the inside is of no use outside
      EXPECT_FALSE(cast().requires_grad());
      w.assign(zeros_like(w));
    }
    EXPECT_TRUE(cast().requires_grad());
    EXPECT_EQ(cast().to_vector<float>(), std::vector<float>(16, 0.0f));
    const Tensor second = cast();
    {
      const Autocast inner;
      EXPECT_TRUE(cast().is_same(second));
    }
    EXPECT_TRUE(cast().is_same(second));
    sum(linear(linear(x, w), w)).backward();
    EXPECT_TRUE(w.grad().defined());
  }
  const Autocast again;
  EXPECT_TRUE(cast().requires_grad());
}

TEST(Autocast, OneScopeMayHoldManyPasses) {  // of an accumulated batch, or after a skipped step
  const Tensor x = floats({4, 4}, 1);
  const auto gradient = [&](bool together) {
    const Tensor w = floats({4, 4}, 2).set_requires_grad();
    std::optional<Autocast> scope;
    if (together) scope.emplace();
    for (int i = 0; i < 3; ++i) {
      std::optional<Autocast> own;
      if (!together) own.emplace();
      sum(square(linear(x * (i + 1), w))).backward();
    }
    return w.grad().to_vector<float>();
  };
  EXPECT_EQ(gradient(true), gradient(false));
}

TEST(Autocast, PassesOfOneScopeMayBeAliveAtOnce) {
  const Tensor x = floats({4, 4}, 1), w = floats({4, 4}, 2).set_requires_grad();
  const Autocast scope;
  const auto loss = [&](int i) { return sum(square(linear(x * i, w))); };
  const Tensor first = loss(1), second = loss(2);
  first.backward();
  second.backward();
  const auto together = w.grad().to_vector<float>();
  w.set_grad({});
  for (const int i : {1, 2}) loss(i).backward();
  EXPECT_EQ(w.grad().to_vector<float>(), together);
}

TEST(Autocast, BackwardRunsWithoutIt) {
  const Autocast scope;
  const Tensor w = floats({4, 4}, 2).set_requires_grad();
  const Tensor y = linear(floats({4, 4}, 1), w);
  bool inside = true;
  y.register_hook([&](const Tensor&) -> Tensor {
    inside = amp::is_autocast_enabled();
    return {};
  });
  sum(y).backward();
  EXPECT_FALSE(inside);
  EXPECT_TRUE(amp::is_autocast_enabled());
}

TEST(Autocast, SaysOnceWhatIsSlow) {
  EXPECT_NE(amp::why_slow(DType::float16).find("saves memory, not time"), std::string::npos);
  const std::string why = amp::why_slow(DType::bfloat16);
  if (autocast::has_bf16_products())
    EXPECT_EQ(why, "");
  else
    EXPECT_NE(why.find("AVX512_BF16"), std::string::npos);
  GTEST_FLAG_SET(death_test_style, "threadsafe");  // a process that has not said it yet
  EXPECT_EXIT(
      {
        for (int i = 0; i < 2; ++i) const Autocast scope(DType::float16);
        std::exit(0);
      },
      ::testing::ExitedWithCode(0), "^lightgrad: autocast: float16[^\n]*\n$");
}

TEST(Autocast, RefusesOtherDtypes) {
  expect_error(ErrorKind::type, {"autocast: dtype is float64, expected bfloat16 or float16"},
               [] { const Autocast scope(DType::float64); });
  EXPECT_FALSE(amp::is_autocast_enabled());
}

// One parameter whose gradient is set by hand.
struct Weight {
  Tensor w = floats({3}, 1).set_requires_grad();
  optim::AdamW adam{{w}, {.lr = 0.1}};

  void set_grad(float value) const {
    w.set_grad(Tensor::empty({3}, DType::float32));
    w.grad().assign(value);
  }
  std::vector<float> all() const {
    std::vector<float> numbers = w.to_vector<float>();
    for (const auto& [i, p] : adam.state_dict().parameters) {
      numbers.push_back(static_cast<float>(p.step));
      for (const auto& [name, t] : p.tensors)
        for (const float v : t.to_vector<float>()) numbers.push_back(v);
    }
    return numbers;
  }
};

TEST(GradScaler, SkipsStepsThatAreNotFinite) {
  Weight scaled, plain;
  GradScaler scaler({.init_scale = 1024, .growth_interval = 3});
  double scale = 1024;
  int row = 0, skipped = 0;
  for (int step = 0; step < 200; ++step) {
    const float g = 0.25f * static_cast<float>(step % 7) - 0.5f;
    const bool bad = step * 7919 % 11 == 3;
    const float seen = !bad            ? g * static_cast<float>(scale)
                       : step % 2 == 0 ? std::numeric_limits<float>::infinity()
                                       : std::numeric_limits<float>::quiet_NaN();
    scaled.set_grad(g * static_cast<float>(scale));
    if (bad) scaled.w.grad().data<float>()[step % 3] = seen;
    plain.set_grad(g);
    const auto before = scaled.all();
    ASSERT_EQ(scaler.get_scale(), scale);
    ASSERT_EQ(scaler.step(scaled.adam), !bad);
    scaler.update();
    if (bad) {
      ASSERT_EQ(scaled.all(), before);
      scale /= 2;
      row = 0;
      ++skipped;
    } else {
      plain.adam.step();  // powers of two: the same to the bit
      ASSERT_EQ(scaled.all(), plain.all());
      if (++row == 3) {
        scale *= 2;
        row = 0;
      }
    }
    ASSERT_EQ(scaler.growth_tracker(), row);
  }
  EXPECT_EQ(scaler.skipped_steps(), skipped);
  EXPECT_GT(skipped, 10);
}

TEST(GradScaler, ClipsAfterUnscaling) {
  Weight a, b;
  GradScaler scaler({.init_scale = 8});
  a.set_grad(80);
  scaler.unscale_(a.adam);
  EXPECT_EQ(a.w.grad().to_vector<float>(), std::vector<float>(3, 10.0f));
  EXPECT_TRUE(scaler.step(a.adam, 1.0));
  b.set_grad(10);
  b.adam.step(1.0);
  EXPECT_EQ(a.all(), b.all());
}

TEST(GradScaler, OneScaleForSeveralOptimizers) {
  Weight good, bad;
  GradScaler scaler;
  good.set_grad(1);
  bad.set_grad(std::numeric_limits<float>::infinity());
  EXPECT_TRUE(scaler.step(good.adam));
  EXPECT_FALSE(scaler.step(bad.adam));
  scaler.update();
  EXPECT_EQ(scaler.get_scale(), 32768);
}

TEST(GradScaler, Errors) {
  Weight w;
  GradScaler scaler;
  const auto refused = [&](const char* what, auto f) {
    expect_error(ErrorKind::runtime, {what}, f);
  };
  refused("GradScaler.unscale_: no parameter of the optimizer has a gradient",
          [&] { scaler.step(w.adam); });
  refused("GradScaler.update: no optimizer was unscaled or stepped", [&] { scaler.update(); });
  w.set_grad(1);
  scaler.unscale_(w.adam);
  refused("GradScaler.unscale_: called twice", [&] { scaler.unscale_(w.adam); });
  scaler.step(w.adam);
  refused("GradScaler.unscale_: called after step()", [&] { scaler.unscale_(w.adam); });
  refused("GradScaler.step: called twice", [&] { scaler.step(w.adam); });
  expect_error(ErrorKind::value,
               {"GradScaler: backoff_factor is 1, expected a number between 0 and 1"},
               [] { GradScaler({.backoff_factor = 1}); });
  expect_error(ErrorKind::value, {"GradScaler: the scale is nan"},
               [] { GradScaler({.init_scale = std::nan("")}); });
  GradScaler::State state = scaler.state_dict();
  state.growth_interval = 0;
  expect_error(ErrorKind::value, {"GradScaler: growth_interval is 0, expected at least 1"},
               [&] { scaler.load_state_dict(state); });

  const Tensor half = to(floats({3}, 1), DType::float16).set_requires_grad();
  optim::SGD sgd({half}, {.lr = 0.1});
  half.set_grad(zeros({3}, DType::float16));
  expect_error(ErrorKind::type,
               {"GradScaler.unscale_: a gradient is float16 [3], expected float32"},
               [&] { GradScaler().step(sgd); });
}

TEST(GradScaler, StateAndDisabled) {
  GradScaler a({.init_scale = 4, .growth_interval = 2});
  Weight w;
  w.set_grad(4);
  a.step(w.adam);
  a.update();
  GradScaler b;
  b.load_state_dict(a.state_dict());
  for (GradScaler* s : {&a, &b}) {
    w.set_grad(4);
    s->step(w.adam);
    s->update();
    EXPECT_EQ(s->get_scale(), 8);
  }
  GradScaler off({.enabled = false});
  const Tensor loss = floats({}, 1);
  EXPECT_TRUE(off.scale(loss).is_same(loss));
  w.set_grad(std::numeric_limits<float>::infinity());
  EXPECT_TRUE(off.step(w.adam));
  off.update();
  EXPECT_EQ(off.get_scale(), 1);
}

}  // namespace
}  // namespace lg::testing
