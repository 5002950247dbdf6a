// Products of bfloat16 against float64, on machines that have them.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "hwy/highway.h"
#include "lightgrad/amp/autocast.h"
#include "lightgrad/base/parallel.h"
#include "lightgrad/kernels/gemm.h"
#include "tests/cpp/kernel_testing.h"
#include "tests/cpp/tensor_testing.h"

namespace lg::testing {
namespace {

using kernels::Gemm;

// Matrices [rows, columns] in memory of any strides; what lies between their elements is NaN.
struct Matrix {
  std::int64_t row, col;
  std::vector<bfloat16> data;

  Matrix(int layout, std::int64_t rows, std::int64_t columns, unsigned seed) {
    const std::int64_t strides[][2] = {
        {columns, 1}, {1, rows}, {columns + 3, 1}, {1, rows + 5}, {2 * columns + 1, 2}};
    row = strides[layout][0];
    col = strides[layout][1];
    data.assign(static_cast<std::size_t>((rows - 1) * row + (columns - 1) * col + 1),
                bfloat16(NAN));
    std::minstd_rand random(seed);
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < columns; ++j)
        data[static_cast<std::size_t>(i * row + j * col)] = bfloat16(uniform(random));
  }
  double at(std::int64_t i, std::int64_t j) const {
    return static_cast<float>(data[static_cast<std::size_t>(i * row + j * col)]);
  }
};

// One rounding to 8 bits of what float32 sums, with their own small errors.
void expect_near(bfloat16 got, double want, double magnitude) {
  ASSERT_NEAR(static_cast<float>(got), want, 0x1p-8 * std::fabs(want) + 1e-6 * magnitude);
}

void check(std::int64_t m, std::int64_t n, std::int64_t k, int a_layout, int b_layout,
           bool extras) {
  SCOPED_TRACE(text(m, " x ", n, " x ", k, ", layouts ", a_layout, " and ", b_layout));
  const Matrix a(a_layout, m, k, 1), b(b_layout, k, n, 2);
  std::vector<bfloat16> bias, sums(static_cast<std::size_t>(m)),
      c(static_cast<std::size_t>(m * (n + 2)), bfloat16(7.0f));
  for (std::int64_t j = 0; j < n; ++j) bias.push_back(bfloat16(static_cast<float>(j % 5) - 2));
  Gemm<bfloat16> g{};
  g.m = m, g.n = n, g.k = k;
  g.a = a.data.data(), g.a_row = a.row, g.a_col = a.col;
  g.b = b.data.data(), g.b_row = b.row, g.b_col = b.col;
  g.c = c.data(), g.c_row = n + 2;
  if (extras) g.bias = bias.data(), g.row_sums = sums.data();
  kernels::gemm(g);
  for (std::int64_t i = 0; i < m; ++i) {
    double row = 0, all = 0;
    for (std::int64_t p = 0; p < k; ++p) row += a.at(i, p), all += std::fabs(a.at(i, p));
    if (extras) expect_near(sums[static_cast<std::size_t>(i)], row, all);
    for (std::int64_t j = 0; j < n; ++j) {
      double want = extras ? static_cast<float>(bias[static_cast<std::size_t>(j)]) : 0, sum = 2;
      for (std::int64_t p = 0; p < k; ++p) {
        want += a.at(i, p) * b.at(p, j);
        sum += std::fabs(a.at(i, p) * b.at(p, j));
      }
      expect_near(c[static_cast<std::size_t>(i * (n + 2) + j)], want, sum);
    }
    for (std::int64_t j = n; j < n + 2; ++j)
      ASSERT_EQ(static_cast<float>(c[static_cast<std::size_t>(i * (n + 2) + j)]), 7);
  }
}

#define NEEDS_PRODUCTS() \
  if (!kernels::has_bf16_products()) GTEST_SKIP() << "this CPU has no bfloat16 products"

TEST(GemmBf16, EverySizeAroundTheEdges) {
  NEEDS_PRODUCTS();
  for (const std::int64_t m : {1, 5, 6, 7, 13, 96, 97})
    for (const std::int64_t n : {1, 15, 16, 17, 63, 64, 65})
      for (const std::int64_t k : {1, 2, 3, 31, 32, 33, 34}) check(m, n, k, 0, 0, (m + n + k) % 2);
}

TEST(GemmBf16, EveryLayout) {
  NEEDS_PRODUCTS();
  for (int a = 0; a < 5; ++a)
    for (int b = 0; b < 5; ++b)
      for (const std::int64_t k : {64, 65}) check(37, 70, k, a, b, true);
}

TEST(GemmBf16, LongSums) {
  NEEDS_PRODUCTS();
  for (const std::int64_t k : {1023, 1024, 1025, 2051}) {
    check(7, 65, k, 0, 1, true);
    check(7, 65, k, 1, 0, true);
  }
}

TEST(GemmBf16, SameBitsAtAnyNumberOfThreads) {
  NEEDS_PRODUCTS();
  const Matrix a(1, 300, 700, 1), b(0, 700, 200, 2);
  const auto run = [&] {
    std::vector<bfloat16> c(300 * 200), sums(300);
    Gemm<bfloat16> g{};
    g.m = 300, g.n = 200, g.k = 700;
    g.a = a.data.data(), g.a_row = a.row, g.a_col = a.col;
    g.b = b.data.data(), g.b_row = b.row, g.b_col = b.col;
    g.c = c.data(), g.c_row = 200, g.row_sums = sums.data();
    kernels::gemm(g);
    std::vector<int> bits;
    for (const bfloat16 x : c) bits.push_back(x.bits);
    for (const bfloat16 x : sums) bits.push_back(x.bits);
    return bits;
  };
  const KeepThreads keep;
  set_num_threads(1);
  const auto one = run();
  for (const int threads : {2, 4, 8}) {
    set_num_threads(threads);
    EXPECT_EQ(run(), one);
  }
}

TEST(GemmBf16, FollowsTheForcedTarget) {
  const bool there = kernels::has_bf16_products();
  int with = 0;
  for_each_target([&] {
    with += kernels::has_bf16_products();
    EXPECT_EQ(amp::why_slow(DType::bfloat16).empty(), kernels::has_bf16_products());
  });
  EXPECT_EQ(with, there ? 1 : 0);  // on AVX3 alone
}

// Layers and products give the same on either way but for the roundings, on every target.
TEST(GemmBf16, LayersOnEveryTarget) {
  for_each_target([] {
    const auto half = [](const Shape& s, std::uint64_t seed) {
      return to(uniform(s, -1, 1, seed), DType::bfloat16);
    };
    const Tensor x = half({3, 5, 34}, 1), w = half({17, 34}, 2), b = half({17}, 3),
                 g = half({3, 5, 17}, 4);
    const auto gradients = [&](DType dtype) {
      Tensors leaves;
      for (const Tensor& t : {x, w, b}) leaves.push_back(to(t, dtype).copy().set_requires_grad());
      const Tensor y = linear(leaves[0], leaves[1], leaves[2]);
      y.backward(to(g, dtype));
      Tensors all{y.detach()};
      for (const Tensor& t : leaves) all.push_back(t.grad());
      const Tensor stack = to(half({2, 3, 9, 8}, 5), dtype);
      all.push_back(matmul(stack, transpose(stack, -1, -2)));
      return all;
    };
    const Tensors low = gradients(DType::bfloat16), exact = gradients(DType::float64);
    for (std::size_t i = 0; i < low.size(); ++i) {
      EXPECT_EQ(low[i].dtype(), DType::bfloat16);
      const auto got = low[i].to_vector<double>(), want = exact[i].to_vector<double>();
      for (std::size_t j = 0; j < got.size(); ++j)
        ASSERT_NEAR(got[j], want[j], 0x1p-8 * std::fabs(want[j]) + 1e-5);
    }
  });
}

}  // namespace
}  // namespace lg::testing
