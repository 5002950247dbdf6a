// test_conv.cpp: the convolution kernels against plain loops in double: around the edges of blocks
// and vectors, with every kind of geometry, on every SIMD target.
#include "lightgrad/kernels/conv.h"

#include "tests/cpp/kernel_testing.h"

namespace lg::testing {
namespace {

using kernels::Conv;

struct Case {
  std::int64_t images, groups, in, out, height, width, kernel[2], stride[2], pad[2], dilation[2];
  std::int64_t end[2] = {0, 0};  // padding behind, beyond that before

  Conv conv() const {
    Conv c{images,
           groups,
           in,
           out,
           {height, width},
           {},
           {kernel[0], kernel[1]},
           {stride[0], stride[1]},
           {pad[0], pad[1]},
           {dilation[0], dilation[1]}};
    for (int d = 0; d < 2; ++d) {
      c.out[d] =
          (c.in[d] + 2 * pad[d] + end[d] - dilation[d] * (kernel[d] - 1) - 1) / stride[d] + 1;
    }
    return c;
  }
};

const std::vector<Case> kCases = {
    {1, 1, 1, 1, 1, 1, {1, 1}, {1, 1}, {0, 0}, {1, 1}},
    {2, 1, 3, 16, 8, 8, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
    {1, 1, 5, 7, 7, 7, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
    {3, 1, 4, 9, 5, 16, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
    {2, 1, 2, 8, 6, 33, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
    {1, 1, 2, 3, 9, 11, {3, 3}, {1, 1}, {0, 0}, {1, 1}},
    {2, 1, 3, 4, 9, 10, {3, 3}, {2, 2}, {1, 1}, {1, 1}},
    {2, 1, 4, 8, 8, 8, {1, 1}, {2, 2}, {0, 0}, {1, 1}},
    {1, 1, 17, 13, 6, 6, {1, 1}, {1, 1}, {0, 0}, {1, 1}},
    {3, 2, 38, 26, 9, 7, {1, 1}, {1, 1}, {0, 0}, {1, 1}},
    {2, 1, 260, 9, 28, 28, {1, 1}, {1, 1}, {0, 0}, {1, 1}},  // several tiles in place
    {2, 1, 5, 9, 8, 8, {1, 1}, {1, 1}, {0, 0}, {1, 1}, {-1, 0}},
    {2, 1, 5, 9, 11, 36, {1, 1}, {2, 2}, {0, 0}, {1, 1}},
    {2, 1, 5, 9, 37, 38, {3, 3}, {2, 2}, {1, 1}, {1, 1}},
    {1, 1, 5, 9, 12, 11, {3, 3}, {2, 2}, {3, 3}, {1, 1}},  // rows of padding alone
    {1, 1, 3, 8, 20, 20, {7, 7}, {2, 2}, {3, 3}, {1, 1}},
    {1, 1, 2, 2, 13, 9, {3, 2}, {3, 1}, {2, 0}, {2, 3}},
    {2, 2, 4, 6, 5, 5, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
    {2, 6, 6, 6, 9, 9, {3, 3}, {1, 1}, {1, 1}, {1, 1}},  // depthwise
    {2, 3, 3, 6, 8, 8, {3, 3}, {2, 2}, {1, 1}, {1, 1}},  // depthwise with a multiplier
    // Depthwise: rows beyond a block and a vector, steps of 2 over odd and even sizes and paddings.
    {2, 3, 3, 3, 19, 37, {3, 3}, {1, 1}, {0, 2}, {1, 1}},
    {1, 2, 2, 2, 3, 3, {3, 3}, {1, 1}, {3, 0}, {1, 1}},
    {2, 3, 3, 3, 21, 70, {3, 3}, {2, 2}, {1, 1}, {1, 1}},
    {1, 3, 3, 3, 20, 35, {3, 3}, {2, 2}, {0, 2}, {1, 1}},
    {1, 2, 2, 2, 18, 33, {3, 3}, {2, 2}, {3, 0}, {1, 1}, {0, 1}},
    {1, 2, 2, 2, 12, 13, {3, 3}, {2, 2}, {-1, -2}, {1, 1}, {2, 1}},
    {1, 2, 2, 2, 9, 9, {3, 3}, {1, 1}, {-2, -1}, {1, 1}},
    {1, 2, 2, 2, 9, 20, {3, 3}, {2, 1}, {1, 1}, {1, 1}},
    {1, 1, 2, 3, 3, 3, {3, 3}, {1, 1}, {4, 4}, {1, 1}},  // rows of nothing but padding
    {1, 1, 2, 3, 4, 4, {2, 2}, {5, 5}, {0, 0}, {1, 1}},  // pixels that no tap meets
    {1, 1, 2, 3, 5, 6, {2, 2}, {1, 1}, {0, 0}, {1, 1}, {1, 1}},
    {1, 1, 2, 3, 9, 9, {3, 3}, {1, 1}, {-1, -2}, {1, 1}},   // cropped
    {1, 1, 3, 5, 1, 40, {1, 5}, {1, 2}, {0, 2}, {1, 1}},    // one row
    {9, 1, 20, 24, 4, 4, {3, 3}, {1, 1}, {1, 1}, {1, 1}},   // several channel blocks and parts
    {1, 1, 40, 8, 70, 70, {3, 3}, {1, 1}, {1, 1}, {1, 1}},  // several tiles of rows
    // Winograd: channels beyond one chain of sums, odd sizes, paddings of 0 and 2, groups, images
    // that share a vector of tiles and pieces of work, rows of several vectors, streamed weights.
    {2, 1, 8, 8, 4, 4, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
    {3, 1, 67, 9, 7, 5, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
    {2, 1, 9, 17, 9, 33, {3, 3}, {1, 1}, {0, 2}, {1, 1}},
    {5, 2, 16, 22, 8, 8, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
    {1, 1, 8, 13, 6, 67, {3, 3}, {1, 1}, {2, 0}, {1, 1}},
    {1, 1, 10, 8, 12, 11, {3, 3}, {1, 1}, {-1, 3}, {1, 1}, {2, 1}},
    {7, 1, 16, 8, 32, 32, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
    {2, 1, 230, 12, 6, 14, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
    // Its gradient of the weight: several blocks of channels and outputs, a vector that shares
    // channels with the one before, parts of several pieces, tiles beyond the last row and column.
    {3, 1, 16, 32, 9, 9, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
    {2, 2, 34, 150, 5, 7, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
    {2, 1, 17, 19, 40, 38, {3, 3}, {1, 1}, {0, 2}, {1, 1}},
    {1, 1, 90, 16, 16, 70, {3, 3}, {1, 1}, {-1, 3}, {1, 1}, {2, 1}},
    {1, 1, 16, 16, 4, 4, {3, 3}, {1, 1}, {4, -1}, {1, 1}, {0, 4}},
    {0, 1, 2, 3, 4, 4, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
    {1, 1, 0, 3, 4, 4, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
};

std::string name_of(const Conv& c) {
  std::string s;
  for (const auto v :
       {c.images, c.groups, c.in_channels, c.out_channels, c.in[0], c.in[1], c.kernel[0],
        c.kernel[1], c.stride[0], c.stride[1], c.pad[0], c.pad[1], c.dilation[0], c.dilation[1]})
    s += std::to_string(v) + " ";
  return s;
}

struct Sizes {
  std::int64_t x, weight, y;
  explicit Sizes(const Conv& c)
      : x(c.images * c.in_channels * c.in[0] * c.in[1]),
        weight(c.out_channels * c.group_in() * c.taps()),
        y(c.images * c.out_channels * c.out[0] * c.out[1]) {}
};

template <class T> std::vector<T> filled(std::int64_t n) {
  return std::vector<T>(static_cast<std::size_t>(n), T(7));  // what a kernel must overwrite
}

template <class T> struct ConvKernel : ::testing::Test {};
using Types = ::testing::Types<float, double, bfloat16>;
TYPED_TEST_SUITE(ConvKernel, Types);

// Of bfloat16 one rounding, whatever is summed.
template <class T> constexpr double tolerance(double of_sums) {
  return std::is_same_v<T, bfloat16> ? 0x1p-8 + 1e-5 : of_sums * kTolerance<T>;
}

TYPED_TEST(ConvKernel, AgreesWithReference) {
  using T = TypeParam;
  for_each_target_of<T>([] {
    for (const Case& one : kCases) {
      const Conv c = one.conv();
      SCOPED_TRACE(name_of(c));
      const Sizes n(c);
      const auto x = random_values<T>(n.x, 1, 1), w = random_values<T>(n.weight, 1, 2),
                 b = random_values<T>(c.out_channels, 1, 3), g = random_values<T>(n.y, 1, 4);
      const auto xd = cast<double>(x), wd = cast<double>(w), bd = cast<double>(b),
                 gd = cast<double>(g);
      auto y = filled<T>(n.y), dx = filled<T>(n.x), dw = filled<T>(n.weight);
      auto yd = filled<double>(n.y), dxd = filled<double>(n.x), dwd = filled<double>(n.weight);
      kernels::conv_forward_reference(c, xd.data(), wd.data(), bd.data(), yd.data());
      kernels::conv_backward_data_reference(c, gd.data(), wd.data(), dxd.data());
      kernels::conv_backward_weight_reference(c, gd.data(), xd.data(), dwd.data());
      kernels::conv_forward(c, x.data(), w.data(), b.data(), y.data());
      kernels::conv_backward_data(c, g.data(), w.data(), dx.data());
      kernels::conv_backward_weight(c, g.data(), x.data(), dw.data());
      expect_close(cast<double>(y), yd, tolerance<T>(10), "y");
      expect_close(cast<double>(dx), dxd, tolerance<T>(10), "dx");
      // A weight sums over all pixels, in one chain where the target has one lane.
      const auto pixels = static_cast<double>(c.images * c.out[0] * c.out[1]);
      expect_close(cast<double>(dw), dwd, tolerance<T>(std::max(10.0, std::sqrt(pixels))),
                   "dweight");
      kernels::conv_forward<T>(c, x.data(), w.data(), nullptr, y.data());
      kernels::conv_forward_reference<double>(c, xd.data(), wd.data(), nullptr, yd.data());
      expect_close(cast<double>(y), yd, tolerance<T>(10), "y without bias");
    }
  });
}

TYPED_TEST(ConvKernel, SameBitsAtAnyNumberOfThreads) {
  using T = TypeParam;
  if (std::is_same_v<T, bfloat16> && !kernels::has_bf16_products()) GTEST_SKIP();
  for (const Case& one : {Case{13, 1, 24, 24, 12, 12, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
                          Case{5, 1, 72, 40, 17, 18, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
                          Case{3, 40, 40, 40, 15, 18, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
                          Case{3, 24, 24, 48, 15, 18, {3, 3}, {2, 2}, {1, 1}, {1, 1}},
                          Case{5, 1, 48, 40, 16, 18, {1, 1}, {2, 2}, {0, 0}, {1, 1}},
                          Case{4, 2, 8, 36, 40, 40, {3, 3}, {2, 2}, {1, 1}, {1, 1}}}) {
    const Conv c = one.conv();
    const Sizes n(c);
    const auto x = random_values<T>(n.x, 1, 1), w = random_values<T>(n.weight, 1, 2),
               g = random_values<T>(n.y, 1, 4);
    auto y = filled<T>(n.y), dx = filled<T>(n.x), dw = filled<T>(n.weight);
    expect_same_bits([&] {
      kernels::conv_forward<T>(c, x.data(), w.data(), nullptr, y.data());
      return y;
    });
    expect_same_bits([&] {
      kernels::conv_backward_data(c, g.data(), w.data(), dx.data());
      return dx;
    });
    expect_same_bits([&] {
      kernels::conv_backward_weight(c, g.data(), x.data(), dw.data());
      return dw;
    });
  }
}

// What lies beside a row in memory has no say: an infinity or NaN stays where it is.
template <class T> void check_infinities() {
  for (const Case& one : {Case{1, 1, 1, 1, 5, 5, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
                          Case{1, 2, 2, 2, 7, 9, {3, 3}, {1, 1}, {0, 0}, {1, 1}},
                          Case{1, 2, 2, 2, 7, 9, {3, 3}, {2, 2}, {0, 0}, {1, 1}}}) {
    const Conv c = one.conv();
    SCOPED_TRACE(name_of(c));
    const Sizes n(c);
    for (const float value : {INFINITY, NAN}) {
      SCOPED_TRACE(value);
      std::vector<T> x(n.x, T(1)), w(n.weight, T(1)), g(n.y, T(1)), y(n.y), dx(n.x), dw(n.weight);
      std::vector<double> yd(n.y), dxd(n.x), dwd(n.weight);
      x.back() = g[4] = T(value);
      const auto xd = cast<double>(x), wd = cast<double>(w);
      auto gd = cast<double>(g);
      kernels::conv_forward<T>(c, x.data(), w.data(), nullptr, y.data());
      kernels::conv_forward_reference<double>(c, xd.data(), wd.data(), nullptr, yd.data());
      expect_close(cast<double>(y), yd, 0, "y");
      kernels::conv_backward_data(c, g.data(), w.data(), dx.data());
      kernels::conv_backward_data_reference(c, gd.data(), wd.data(), dxd.data());
      expect_close(cast<double>(dx), dxd, 0, "dx");
      g[4] = T(1);
      gd[4] = 1;
      kernels::conv_backward_weight(c, g.data(), x.data(), dw.data());
      kernels::conv_backward_weight_reference(c, gd.data(), xd.data(), dwd.data());
      expect_close(cast<double>(dw), dwd, 0, "dweight");
    }
  }
}
TYPED_TEST(ConvKernel, InfinitiesStayLocal) {
  for_each_target_of<TypeParam>(check_infinities<TypeParam>);
}

// Tiles share pixels in Winograd's sums: numbers that would spread take the plain sums instead.
TEST(ConvKernel, LargeNumbersStayLocal) {
  const Conv c = Case{2, 1, 16, 16, 8, 8, {3, 3}, {1, 1}, {1, 1}, {1, 1}}.conv();
  const Sizes n(c);
  for (const float large : {INFINITY, -INFINITY, NAN, 1e38f, 1e20f}) {
    SCOPED_TRACE(large);
    for (const bool in_second : {false, true}) {
      auto x = random_values<float>(n.x, 1, 1), w = random_values<float>(n.weight, 1, 2);
      auto y = filled<float>(n.y), yd = filled<float>(n.y), dx = filled<float>(n.x),
           dxd = filled<float>(n.x), g = random_values<float>(n.y, 1, 3),
           dw = filled<float>(n.weight), dwd = filled<float>(n.weight);
      (in_second ? w : x)[67] = large;
      if (in_second) g[91] = large;  // away from the edge: padding times infinity is no number
      const auto same = [](const std::vector<float>& a, const std::vector<float>& b) {
        for (std::size_t i = 0; i < a.size(); ++i) {
          if (std::isfinite(b[i]) && std::abs(b[i]) < 100)
            EXPECT_NEAR(a[i], b[i], 1e-4) << i;
          else
            EXPECT_EQ(std::isnan(a[i]), std::isnan(b[i])) << i;
        }
      };
      kernels::conv_forward<float>(c, x.data(), w.data(), nullptr, y.data());
      kernels::conv_forward_reference<float>(c, x.data(), w.data(), nullptr, yd.data());
      same(y, yd);
      kernels::conv_backward_data(c, x.data(), w.data(), dx.data());
      kernels::conv_backward_data_reference(c, x.data(), w.data(), dxd.data());
      same(dx, dxd);
      kernels::conv_backward_weight(c, g.data(), x.data(), dw.data());
      kernels::conv_backward_weight_reference(c, g.data(), x.data(), dwd.data());
      same(dw, dwd);
    }
  }
}

double squared_error(const std::vector<float>& v, const std::vector<double>& exact) {
  double sum = 0;
  for (std::size_t i = 0; i < v.size(); ++i) sum += (v[i] - exact[i]) * (v[i] - exact[i]);
  return sum;
}

// The plain sums' error in float32 grows with the root of their length, which is nine times that of
// Winograd's chains forward, and much more than that of a piece of tiles.
TEST(ConvKernel, WinogradRoundsNoMoreThanPlainSums) {
  const Conv c = Case{4, 1, 64, 16, 16, 16, {3, 3}, {1, 1}, {1, 1}, {1, 1}}.conv();
  const Sizes n(c);
  const auto x = random_values<float>(n.x, 1, 1), w = random_values<float>(n.weight, 1, 2),
             g = random_values<float>(n.y, 1, 3);
  auto y = filled<float>(n.y), plain = filled<float>(n.y), dw = filled<float>(n.weight),
       plain_dw = filled<float>(n.weight);
  auto exact = filled<double>(n.y), exact_dw = filled<double>(n.weight);
  const auto xd = cast<double>(x), wd = cast<double>(w), gd = cast<double>(g);
  kernels::conv_forward<float>(c, x.data(), w.data(), nullptr, y.data());
  kernels::conv_forward_reference<float>(c, x.data(), w.data(), nullptr, plain.data());
  kernels::conv_forward_reference<double>(c, xd.data(), wd.data(), nullptr, exact.data());
  EXPECT_LT(squared_error(y, exact), squared_error(plain, exact));
  kernels::conv_backward_weight(c, g.data(), x.data(), dw.data());
  kernels::conv_backward_weight_reference(c, g.data(), x.data(), plain_dw.data());
  kernels::conv_backward_weight_reference(c, gd.data(), xd.data(), exact_dw.data());
  EXPECT_LT(squared_error(dw, exact_dw), squared_error(plain_dw, exact_dw));
}

}  // namespace
}  // namespace lg::testing
