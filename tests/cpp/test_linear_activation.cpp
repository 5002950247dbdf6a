// test_linear_activation.cpp: what test_ops.cpp does not ask of linear_activation: the very bits of
// the two operations that it stands for, what it keeps and what it refuses.
#include "lightgrad/base/memory.h"
#include "lightgrad/lightgrad.h"
#include "tests/cpp/tensor_testing.h"

namespace lg::testing {
namespace {

struct Named {
  const char* name;
  Tensor (*function)(const Tensor&);
};
const Named activations[] = {{"relu", [](const Tensor& x) { return relu(x); }},
                             {"gelu", [](const Tensor& x) { return gelu(x); }},
                             {"gelu_tanh", [](const Tensor& x) { return gelu(x, "tanh"); }},
                             {"silu", [](const Tensor& x) { return silu(x); }},
                             {"sigmoid", [](const Tensor& x) { return sigmoid(x); }},
                             {"tanh", [](const Tensor& x) { return tanh(x); }}};

Tensor leaf(const Tensor& x, DType t) { return to(x, t).detach().set_requires_grad(); }

// Of numbers that a network meets: where one of a vector's is far from 0, infinite or NaN, the
// functions take another way to the same value for all of them, and other numbers share a vector.
TEST(LinearActivation, HasTheBitsOfTheTwoOperations) {
  struct {
    std::int64_t rows, in, out;
  } const sizes[] = {{1, 5, 33}, {7, 3, 1}, {13, 17, 65}, {50, 40, 70}, {67, 400, 131}};
  for (const auto [rows, n, width] : sizes)
    for (const DType t : {DType::float32, DType::float64})
      for (const int layout : {0, 1, 2})
        for (const bool with_bias : {true, false})
          for (const auto& [name, function] : activations) {
            SCOPED_TRACE(text(name, " ", rows, " x ", n, " -> ", width, " layout ", layout));
            const double scale = 1 / std::sqrt(static_cast<double>(n));
            const Tensor x = leaf(strided(uniform({rows, n}, -2, 2, 1), layout), t),
                         weight = leaf(strided(uniform({width, n}, -scale, scale, 2), layout), t),
                         bias = with_bias ? leaf(uniform({width}, -1, 1, 3), t) : Tensor(),
                         g = to(uniform({rows, width}, -1, 1, 4), t);
            Tensors inputs{x, weight};
            if (with_bias) inputs.push_back(bias);
            const Tensor one = linear_activation(x, weight, bias, name),
                         two = function(linear(x, weight, bias));
            ASSERT_TRUE(same_bits(one, two));
            const Tensors a = autograd::grad({one}, inputs, {g}),
                          b = autograd::grad({two}, inputs, {g});
            for (std::size_t i = 0; i < a.size(); ++i) ASSERT_TRUE(same_bits(a[i], b[i])) << i;
          }
}

// Half precision, by the CPU's products and widened: the function of what is not rounded yet, then
// rounded once, and gradients through what the two operations would have kept, rounded.
TEST(LinearActivation, HalfPrecision) {
  for (const DType t : {DType::bfloat16, DType::float16})
    for (const std::int64_t n : {0, 40})
      for (const auto& [name, function] : activations) {
        SCOPED_TRACE(text(name, " ", n, " ", name_of(t)));
        const Tensor x = leaf(uniform({100, n}, -1, 1, 1), t),
                     weight = leaf(uniform({70, n}, -1, 1, 2), t),
                     bias = leaf(uniform({70}, -1, 1, 3), t),
                     g = to(uniform({100, 70}, -1, 1, 4), t);
        const auto wide = [](const Tensor& a) { return leaf(a, DType::float64); };
        const Tensors in{x, weight, bias}, wide_in{wide(x), wide(weight), wide(bias)};
        const Tensor y = linear_activation(x, weight, bias, name),
                     exact = function(linear(wide_in[0], wide_in[1], wide_in[2]));
        ASSERT_EQ(y.dtype(), t);
        const double ulp = t == DType::bfloat16 ? 0x1p-8 : 0x1p-11;
        const auto got = y.to_vector<double>(), want = exact.to_vector<double>();
        for (std::size_t i = 0; i < got.size(); ++i)
          ASSERT_NEAR(got[i], want[i], ulp * std::fabs(want[i]) + 1e-6) << i;
        const Tensors a = autograd::grad({y}, in, {g}),
                      b = autograd::grad({exact}, wide_in, {to(g, DType::float64)});
        for (std::size_t i = 0; i < a.size(); ++i)
          expect_close(to(a[i], DType::float64), b[i], 8 * ulp, "gradient");
      }
}

TEST(LinearActivation, SpecialNumbers) {
  Tensor drawn = uniform({9, 5}, -1, 1, 1);
  drawn.data<double>()[0] = NAN;
  drawn.data<double>()[10] = INFINITY;
  drawn.data<double>()[20] = 1e30;
  drawn.data<double>()[30] = -1e3;
  for (const DType t : {DType::float32, DType::float64})
    for (const auto& [name, function] : activations) {
      SCOPED_TRACE(name);
      const Tensor x = leaf(drawn, t), weight = leaf(uniform({65, 5}, -1, 1, 2), t);
      const Tensor one = linear_activation(x, weight, {}, name), two = function(linear(x, weight));
      const double tolerance = t == DType::float32 ? 1e-6 : 1e-14;
      expect_close(one, two, tolerance, "forward");
      const Tensor g = to(uniform({9, 65}, -1, 1, 4), t);
      const Tensors a = autograd::grad({one}, {x, weight}, {g}),
                    b = autograd::grad({two}, {x, weight}, {g});
      expect_close(a[0], b[0], tolerance, "x");
      expect_close(a[1], b[1], tolerance, "weight");
    }
}

TEST(LinearActivation, KeepsWhatItsGradientMentions) {
  const Tensor x = ones({64, 32}), weight = ones({256, 32});
  constexpr std::int64_t kOutput = 64 * 256 * 4;
  const auto held = [&](const char* f) {
    const auto before = memory_stats().current;
    const Tensor y = linear_activation(x, weight, {}, f);
    return memory_stats().current - before;
  };
  EXPECT_LT(held("gelu"), 2 * kOutput);  // no gradient, nothing to keep
  weight.set_requires_grad();
  EXPECT_GE(held("gelu"), 2 * kOutput);
  EXPECT_LT(held("relu"), 2 * kOutput);  // its output is enough
  NoGrad off;
  EXPECT_LT(held("gelu"), 2 * kOutput);
}

TEST(LinearActivation, NoticesWhatWasChangedInPlace) {
  const Tensor x = ones({3, 2}), weight = ones({4, 2}).set_requires_grad();
  const Tensor of_relu = linear_activation(x, weight, {}, "relu"),
               of_gelu = linear_activation(x, weight, {}, "gelu");
  of_relu.detach() += 1;
  of_gelu.detach() += 1;  // which gelu's gradient does not mention
  sum(of_gelu).backward();
  expect_error(ErrorKind::runtime, {"linear_activation needs its output", "in-place"},
               [&] { sum(of_relu).backward(); });
  const Tensor y = linear_activation(x, weight, {}, "gelu");
  x += 1;
  expect_error(ErrorKind::runtime, {"linear_activation needs its x", "in-place"},
               [&] { sum(y).backward(); });
}

TEST(LinearActivation, IsALayersLastWord) {
  manual_seed(3);
  const auto layer = nn::make<nn::Linear>(6, 8, true, "gelu");
  const Tensor x = randn({5, 6});
  EXPECT_TRUE(same_bits(layer(x), gelu(linear(x, layer->weight, layer->bias))));
  EXPECT_EQ(layer->extra_repr(), "in_features=6, out_features=8, bias=True, activation='gelu'");
  EXPECT_EQ(nn::make<nn::Linear>(6, 8, false)->extra_repr(),
            "in_features=6, out_features=8, bias=False");
  expect_error(ErrorKind::value, {"Linear: activation is \"mish\"", "\"silu\""},
               [] { nn::make<nn::Linear>(3, 5, true, "mish"); });
}

}  // namespace
}  // namespace lg::testing
