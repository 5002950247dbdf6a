// Operations on bfloat16 and float16, every finite input of them: computed in float32 and rounded
// once, that is the 16-bit number nearest to the exact value, but where float32's own rounding
// falls on a tie between two of those.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <map>

#include "lightgrad/ops/run.h"
#include "tests/cpp/kernel_testing.h"
#include "tests/cpp/tensor_testing.h"

namespace lg::testing {
namespace {

// How many of the 65,280 finite inputs of bfloat16 and the 63,488 of float16 do not give the
// nearest number, at most; of operations that are not here, none.
struct Misses {
  int bf16, f16;
};
const std::map<std::string_view, Misses> misses{
    {"exp", {0, 2}},        {"expm1", {0, 1}},    {"log", {0, 1}},       {"log1p", {0, 2}},
    {"sin", {0, 4}},        {"cos", {0, 2}},      {"sigmoid", {0, 7}},   {"erf", {0, 2}},
    {"normal_cdf", {1, 4}}, {"gelu_erf", {0, 3}}, {"gelu_tanh", {0, 6}}, {"silu", {0, 2}},
    {"softplus", {0, 2}}};

template <class Half> Tensor finite_values() {
  std::vector<double> all;
  for (unsigned bits = 0; bits < 0x10000; ++bits) {
    const auto v = static_cast<float>(std::bit_cast<Half>(static_cast<std::uint16_t>(bits)));
    if (std::isfinite(v)) all.push_back(v);
  }
  Tensor x = Tensor::empty({static_cast<std::int64_t>(all.size())}, DType::float64);
  std::copy(all.begin(), all.end(), x.data<double>());
  return x;
}

// The distance of 16-bit numbers about x.
template <class Half> double spacing(double x) {
  const Half at(static_cast<float>(std::fabs(x)));
  const Half next = std::bit_cast<Half>(static_cast<std::uint16_t>(at.bits ^ 1));
  return std::fabs(static_cast<double>(static_cast<float>(next)) - static_cast<float>(at));
}

template <class Half, class Op> void check_operation(DType dtype, const Tensor& inputs) {
  SCOPED_TRACE(text(Op::info.name, " of ", name_of(dtype)));
  const auto x = inputs.to_vector<double>(), exact = run(Op{}, inputs).template to_vector<double>(),
             got = run(Op{}, to(inputs, dtype)).template to_vector<double>();
  const auto found = misses.find(Op::info.name);
  const Misses known = found == misses.end() ? Misses{} : found->second;
  // A miss of float32's last bit or two: its ulp is 2^-16 of bfloat16's and 2^-13 of float16's.
  const double slack = std::is_same_v<Half, bfloat16> ? 0x1p-15 : 0x1p-12;
  int count = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto want = static_cast<float>(convert<Half>(exact[i]));
    if (got[i] == want || (std::isnan(got[i]) && std::isnan(want))) continue;
    ++count;
    ASSERT_LT(std::fabs(got[i] - exact[i]), (0.5 + slack) * spacing<Half>(want))
        << "x = " << x[i] << " gives " << got[i] << ", expected " << want;
  }
  EXPECT_LE(count, dtype == DType::bfloat16 ? known.bf16 : known.f16);
}

template <class Half> void check_every_operation(DType dtype) {
  const Tensor x = finite_values<Half>();
  AllOps::each([&]<class Op> {
    if constexpr (Op::pointwise && Op::arity == 1) check_operation<Half, Op>(dtype, x);
  });
}

TEST(Half, EveryInputOfEveryUnaryOperation) {
  for_each_target([] {
    check_every_operation<bfloat16>(DType::bfloat16);
    check_every_operation<float16>(DType::float16);
  });
}

// float64 and integers are rounded to 16 bits once, not to float32 on the way.
template <class Half> void check_ties(DType dtype) {
  std::vector<double> values, wanted;
  for (unsigned bits = 1; bits < 0x7f00; bits += 7) {  // positive, below the largest
    const auto number = [](unsigned b) {
      return static_cast<double>(
          static_cast<float>(std::bit_cast<Half>(static_cast<std::uint16_t>(b))));
    };
    const double low = number(bits), high = number(bits + 1);
    if (!std::isfinite(high)) break;
    const double tie = low + (high - low) / 2;
    values.insert(values.end(), {std::nextafter(tie, 0.0), tie, std::nextafter(tie, INFINITY)});
    wanted.insert(wanted.end(), {low, bits % 2 ? high : low, high});
  }
  Tensor x = Tensor::empty({static_cast<std::int64_t>(values.size())}, DType::float64);
  std::copy(values.begin(), values.end(), x.data<double>());
  EXPECT_EQ(to(x, dtype).to_vector<double>(), wanted) << name_of(dtype);
  EXPECT_EQ(to(-x, dtype).to_vector<double>(), (-to(x, dtype)).to_vector<double>());
}

TEST(Half, NumbersAreRoundedOnce) {
  for_each_target([] {
    check_ties<bfloat16>(DType::bfloat16);
    check_ties<float16>(DType::float16);
    const double outside[] = {NAN, INFINITY, -INFINITY, 1e300, 1e-300, -1e-300, 0x1p-25, 65520};
    for (const double v : outside) {
      Tensor x = Tensor::empty({1}, DType::float64);
      *x.data<double>() = v;
      for (const DType half : {DType::bfloat16, DType::float16}) {
        const double got = to(x, half).item();
        const double by_float = to(to(x, DType::float32), half).item();
        EXPECT_TRUE(got == by_float || (std::isnan(got) && std::isnan(by_float))) << v;
      }
    }
    // Above the tie of 2^31 and 2^31 + 2^24 by what float32 cannot hold.
    Tensor x = Tensor::empty({1}, DType::int64);
    *x.data<std::int64_t>() = (std::int64_t{1} << 31) + (1 << 23) + 1;
    EXPECT_EQ(to(x, DType::bfloat16).item(), 0x1p31 + 0x1p24);
  });
}

// Values and gradients of operations that multiply, by the CPU's products of bfloat16 or widened:
// as far from float64 as a rounding or two of single numbers, on every target.
template <class F> void check_products(const Tensors& inputs, F f) {
  const Tensor like = f(inputs);
  const Tensor g = to(uniform(like.shape(), -1, 1, 9), DType::bfloat16);
  const auto all = [&](DType dtype) {
    Tensors leaves;
    for (const Tensor& t : inputs) leaves.push_back(to(t, dtype).copy().set_requires_grad());
    const Tensor y = f(leaves);
    EXPECT_EQ(y.dtype(), dtype);
    Tensors results = autograd::grad({y}, leaves, {to(g, dtype)});
    results.push_back(y.detach());
    return results;
  };
  for (const DType half : {DType::bfloat16, DType::float16}) {
    const double ulp = half == DType::bfloat16 ? 0x1p-8 : 0x1p-11;
    const Tensors low = all(half), exact = all(DType::float64);
    for (std::size_t i = 0; i < low.size(); ++i) {
      EXPECT_EQ(low[i].dtype(), half);
      const Tensor error = to(low[i], DType::float64) - exact[i];
      EXPECT_LE(norm(error).item(), 2 * ulp * norm(exact[i]).item()) << i << name_of(half);
    }
  }
}

TEST(Half, ProductsOnEveryTarget) {
  const auto draw = [](const Shape& s, std::uint64_t seed) {
    return to(uniform(s, -1, 1, seed), DType::bfloat16);
  };
  const Tensors heads{draw({2, 3, 70, 33}, 1), draw({2, 3, 70, 33}, 2), draw({2, 3, 70, 5}, 3)},
      small{draw({2, 3, 5, 17}, 1), draw({2, 3, 7, 17}, 2), draw({2, 3, 7, 5}, 3)},
      layer{draw({3, 5, 34}, 1), draw({17, 34}, 2), draw({17}, 3)},
      image{draw({2, 5, 9, 11}, 1), draw({7, 5, 3, 3}, 2), draw({7}, 3)};
  const Tensor seen = uniform({70, 70}, -1, 1, 4) > 0;
  for_each_target([&] {
    check_products({draw({3, 33, 20}, 1), draw({20, 35}, 2)},
                   [](const Tensors& a) { return matmul(a[0], a[1]); });
    check_products(layer, [](const Tensors& a) { return linear(a[0], a[1], a[2]); });
    check_products(layer,
                   [](const Tensors& a) { return linear_activation(a[0], a[1], a[2], "silu"); });
    check_products(heads, [](const Tensors& a) {
      return scaled_dot_product_attention(a[0], a[1], a[2], {}, 0, true);
    });
    check_products(small, [](const Tensors& a) {
      return scaled_dot_product_attention(a[0], a[1], a[2], {}, 0, true);
    });
    check_products(heads, [&](const Tensors& a) {
      return scaled_dot_product_attention(a[0], a[1], a[2], seen);
    });
    check_products({heads[0], heads[1], heads[2], draw({3, 70, 70}, 5)}, [](const Tensors& a) {
      return scaled_dot_product_attention(a[0], a[1], a[2], a[3]);
    });
    check_products(image, [](const Tensors& a) { return conv2d(a[0], a[1], a[2], {2}, 1); });
    check_products(image, [](const Tensors& a) { return conv2d(a[0], a[1], a[2], {1}, 1); });
    check_products({image[0], draw({5, 4, 3, 3}, 2), draw({4}, 3)},
                   [](const Tensors& a) { return conv_transpose2d(a[0], a[1], a[2], {2}, {1}); });
  });
}

}  // namespace
}  // namespace lg::testing
