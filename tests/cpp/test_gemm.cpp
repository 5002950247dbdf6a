// Matrix products against the triple loop, on every SIMD target of this machine.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "hwy/highway.h"
#include "lightgrad/base/memory.h"
#include "lightgrad/base/parallel.h"
#include "lightgrad/kernels/gemm.h"
#include "tests/cpp/kernel_testing.h"

namespace lg::kernels {
namespace {

using lg::testing::for_each_target;

// A strided matrix: every element that the product may read is drawn, the rest is NaN, so that a
// read beyond the operands shows in C.
template <class T> struct Matrix {
  std::int64_t row, col;
  std::vector<T> data;
  Matrix(std::int64_t rows, std::int64_t columns, std::int64_t row_stride, std::int64_t col_stride,
         unsigned seed)
      : row(row_stride), col(col_stride) {
    data.assign(rows && columns ? (rows - 1) * row + (columns - 1) * col + 1 : 0,
                std::numeric_limits<T>::quiet_NaN());
    std::minstd_rand random(seed);
    std::uniform_real_distribution<double> uniform(-1, 1);
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < columns; ++j)
        data[i * row + j * col] = static_cast<T>(uniform(random));
    }
  }
};

enum Layout { plain, transposed, padded, padded_transposed, general };
constexpr Layout layouts[] = {plain, transposed, padded, padded_transposed, general};

template <class T>
Matrix<T> make(Layout layout, std::int64_t rows, std::int64_t columns, unsigned seed) {
  switch (layout) {
    case plain: return {rows, columns, columns, 1, seed};
    case transposed: return {rows, columns, 1, rows, seed};
    case padded: return {rows, columns, columns + 3, 1, seed};
    case padded_transposed: return {rows, columns, 1, rows + 5, seed};
    default: return {rows, columns, 2 * columns + 1, 2, seed};
  }
}

// An activation that shows where it was left out and where it was applied twice.
template <class T> void half_less(const RowBlock& b) {
  for (std::int64_t r = 0; r < b.rows; ++r) {
    for (std::int64_t i = 0; i < b.n; ++i) {
      static_cast<T*>(b.out)[r * b.out_row + i] =
          1 - static_cast<const T*>(b.in[0])[r * b.in_row[0] + i] / 2;
    }
  }
}

struct Options {
  bool accumulate = false, bias = false, activate = false, save = false;
  std::int64_t pad = 0;  // of C
  bool row_sums = false;
};

template <class T>
void check(std::int64_t m, std::int64_t n, std::int64_t k, Layout la, Layout lb, Options o = {}) {
  SCOPED_TRACE(::testing::Message()
               << m << " x " << n << " x " << k << " layouts " << la << " " << lb << " activation "
               << o.activate << o.save << " accumulate " << o.accumulate << " bias " << o.bias);
  const Matrix<T> a = make<T>(la, m, k, 1), b = make<T>(lb, k, n, 2);
  const std::int64_t c_row = n + o.pad;
  Matrix<T> bias(1, n, n, 1, 3), c(m, n, c_row, 1, 4);
  if (!o.accumulate) std::fill(c.data.begin(), c.data.end(), std::numeric_limits<T>::quiet_NaN());
  c.data.resize(m * c_row + 64, T(77));  // what lies beyond must not change
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = n; j < c_row; ++j) c.data[i * c_row + j] = T(77);
  }
  std::vector<T> after(c.data.size(), T(77));
  Gemm<T> g{.m = m,
            .n = n,
            .k = k,
            .a = a.data.data(),
            .a_row = a.row,
            .a_col = a.col,
            .b = b.data.data(),
            .b_row = b.row,
            .b_col = b.col,
            .c = c.data.data(),
            .c_row = c_row};
  g.accumulate = o.accumulate;
  g.bias = o.bias ? bias.data.data() : nullptr;
  if (o.activate) g.activation = &half_less<T>;
  if (o.save) g.activated = after.data();
  const std::vector<T> sums_start(m + 1, T(0.5));  // one more, which must not change
  std::vector<T> sums = sums_start, expected_sums = sums_start;
  g.row_sums = o.row_sums ? sums.data() : nullptr;

  std::vector<T> expected = c.data, expected_after = after;
  Gemm<T> r = g;
  r.c = expected.data();
  if (o.save) r.activated = expected_after.data();
  r.row_sums = o.row_sums ? expected_sums.data() : nullptr;
  gemm_reference(r);

  // k roundings of partial sums of products below 1, which reach about sqrt(k): below k / 4 units,
  // with room.
  const double eps = std::numeric_limits<T>::epsilon(), tolerance = eps * (8 + double(k) / 4);
  const std::vector<T> start = c.data;
  for_each_target([&] {
    c.data = start;
    std::fill(after.begin(), after.end(), T(77));
    sums = sums_start;
    g.c = c.data.data();
    gemm(g);
    for (std::size_t i = 0; i < sums.size(); ++i) {
      ASSERT_NEAR(sums[i], expected_sums[i], tolerance * (1 + std::abs(double(expected_sums[i]))))
          << "sum of row " << i;
    }
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const double scale = 1 + std::abs(double(expected[i]));
      ASSERT_LE(std::abs(double(c.data[i]) - double(expected[i])), tolerance * scale) << "at " << i;
      ASSERT_LE(std::abs(double(after[i]) - double(expected_after[i])), tolerance * scale)
          << "activated at " << i;
    }
  });
}

template <class T> class GemmTest : public ::testing::Test {
 protected:
  void SetUp() override { threads_ = num_threads(); }
  void TearDown() override { set_num_threads(threads_); }

 private:
  int threads_ = 1;
};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(GemmTest, Types);

TYPED_TEST(GemmTest, EveryLayoutAroundTheEdgesOfTiles) {
  // Tiles have 3 or 6 rows and 2 to 64 columns.
  const std::int64_t rows[] = {1, 2, 5, 6, 7, 13}, columns[] = {1, 3, 8, 15, 16, 17, 31, 65},
                     depths[] = {1, 2, 7, 8, 33};
  for (auto m : rows)
    for (auto n : columns)
      for (auto k : depths)
        for (auto la : layouts)
          for (auto lb : layouts) check<TypeParam>(m, n, k, la, lb);
}

TYPED_TEST(GemmTest, EmptySizes) {
  for (std::int64_t m : {0, 1, 5})
    for (std::int64_t n : {0, 1, 17})
      for (std::int64_t k : {0, 3}) {
        if (m && n && k) continue;
        check<TypeParam>(m, n, k, plain, plain);
        check<TypeParam>(
            m, n, k, plain, plain,
            {.accumulate = true, .bias = true, .activate = true, .save = true, .pad = 2});
      }
}

TYPED_TEST(GemmTest, AroundTheEdgesOfBlocks) {
  // Depth of a pass is 384 floats or 192 doubles, a block of B some hundreds of columns.
  struct {
    std::int64_t m, n, k;
  } const sizes[] = {{97, 61, 191}, {48, 97, 193}, {49, 33, 383},  {20, 64, 385},
                     {67, 67, 769}, {7, 531, 211}, {209, 19, 97},  {3, 57, 1543},
                     {1, 4099, 67}, {4099, 1, 67}, {100, 150, 50}, {13, 700, 389}};
  for (auto [m, n, k] : sizes)
    for (auto la : {plain, transposed, general})
      for (auto lb : {plain, transposed, general}) {
        check<TypeParam>(m, n, k, la, lb, {.pad = 1});
        check<TypeParam>(m, n, k, la, lb, {.accumulate = true, .bias = true});
      }
}

TYPED_TEST(GemmTest, LongSumsAreSplit) {
  for (auto la : {plain, transposed})
    for (auto lb : {plain, transposed, general}) {
      check<TypeParam>(
          7, 33, 9001, la, lb,
          {.accumulate = true, .bias = true, .activate = true, .save = true, .pad = 3});
      check<TypeParam>(1, 10, 5003, la, lb);
      check<TypeParam>(10, 1, 5003, la, lb, {.pad = 1});
    }
}

TYPED_TEST(GemmTest, BiasAndActivationInPlaceOrApart) {
  for (bool activate : {false, true})
    for (bool accumulate : {false, true})
      for (bool bias : {false, true})
        for (bool save : {false, true}) {
          const Options o{accumulate, bias, activate, save, 2};
          check<TypeParam>(5, 19, 11, plain, transposed, o);
          check<TypeParam>(64, 150, 401, plain, transposed, o);
          check<TypeParam>(1, 37, 21, plain, plain, o);
          check<TypeParam>(1, 37, 21, plain, transposed, o);
          check<TypeParam>(23, 1, 21, plain, plain, o);
          check<TypeParam>(23, 1, 21, transposed, general, o);
        }
}

TYPED_TEST(GemmTest, SumsOfRows) {
  struct {
    std::int64_t m, n, k;
  } const sizes[] = {{1, 1, 3},    {5, 19, 11},   {7, 1, 400},   {1, 40, 9},     {33, 20, 0},
                     {64, 64, 64}, {97, 65, 385}, {210, 70, 61}, {35, 200, 391}, {9, 5, 9001}};
  for (auto [m, n, k] : sizes)
    for (auto la : layouts)
      for (bool accumulate : {false, true})
        check<TypeParam>(m, n, k, la, plain, {.accumulate = accumulate, .row_sums = true});
}

TYPED_TEST(GemmTest, TransposedLeftOperandWhoseLinesCollideInCache) {
  // A stride of 4 KiB, where A is packed, beside one that is not a whole number of lines.
  constexpr std::int64_t stride = 4096 / sizeof(TypeParam);
  for (std::int64_t row : {stride, 3 * stride, stride + 1})
    for (std::int64_t m : {6, 61, 200, 199}) {
      const std::int64_t n = 70, k = 400;
      const Matrix<TypeParam> a(m, k, 1, row, 1), b(k, n, n, 1, 2);
      std::vector<TypeParam> c(m * n), expected(m * n), sums(m), expected_sums(m);
      Gemm<TypeParam> g{.m = m,
                        .n = n,
                        .k = k,
                        .a = a.data.data(),
                        .a_row = 1,
                        .a_col = row,
                        .b = b.data.data(),
                        .b_row = n,
                        .b_col = 1,
                        .c = expected.data(),
                        .c_row = n};
      g.row_sums = expected_sums.data();
      gemm_reference(g);
      g.c = c.data();
      g.row_sums = sums.data();
      const double tolerance = 110 * std::numeric_limits<TypeParam>::epsilon();
      for_each_target([&] {
        std::fill(c.begin(), c.end(), TypeParam(77));
        gemm(g);
        for (std::int64_t i = 0; i < m * n; ++i)
          ASSERT_NEAR(c[i], expected[i], tolerance * (1 + std::abs(double(expected[i]))));
        for (std::int64_t i = 0; i < m; ++i)
          ASSERT_NEAR(sums[i], expected_sums[i], tolerance * (1 + std::abs(expected_sums[i])));
      });
    }
}

TYPED_TEST(GemmTest, InfinityAndNaNPropagate) {
  using T = TypeParam;
  const T inf = std::numeric_limits<T>::infinity();
  for_each_target([&] {
    for (std::int64_t m : {1, 6, 100}) {
      const std::int64_t n = 70, k = 40;
      std::vector<T> a(m * k, T(0)), b(k * n, T(0)), c(m * n, T(1));
      b[3 * n + 5] = std::numeric_limits<T>::quiet_NaN();
      b[4 * n + 6] = inf;  // 0 * inf is NaN
      a[(m - 1) * k + 7] = inf;
      for (std::int64_t j = 0; j < n; ++j) b[7 * n + j] = j % 2 ? T(-1) : T(1);
      Gemm<T> g{.m = m,
                .n = n,
                .k = k,
                .a = a.data(),
                .a_row = k,
                .a_col = 1,
                .b = b.data(),
                .b_row = n,
                .b_col = 1,
                .c = c.data(),
                .c_row = n};
      std::vector<T> expected = c;
      Gemm<T> r = g;
      r.c = expected.data();
      for (Row activation : {Row(nullptr), Row(&half_less<T>)}) {
        g.activation = r.activation = activation;
        gemm(g);
        gemm_reference(r);
        for (std::int64_t i = 0; i < m * n; ++i) {
          ASSERT_TRUE(c[i] == expected[i] || (std::isnan(c[i]) && std::isnan(expected[i])))
              << m << " at " << i;
        }
      }
    }
  });
}

TYPED_TEST(GemmTest, BatchedWithSharedOperands) {
  using T = TypeParam;
  for_each_target([&] {
    for (std::int64_t batch : {0, 1, 2, 7, 48})
      for (std::int64_t size : {3, 17, 64}) {
        const std::int64_t m = size, n = size / 2 + 1, k = size + 5;
        const Matrix<T> a(batch * m, k, k, 1, 1), b(k, n, n, 1, 2);
        std::vector<T> c(batch * m * n, T(1)), saved(c.size(), T(0));
        std::vector<std::int64_t> a_offset, b_offset, c_offset;
        for (std::int64_t i = 0; i < batch; ++i) {
          a_offset.push_back((batch - 1 - i) * m * k);  // any order
          b_offset.push_back(0);
          c_offset.push_back(i * m * n);
        }
        Gemm<T> g{.m = m,
                  .n = n,
                  .k = k,
                  .a = a.data.data(),
                  .a_row = k,
                  .a_col = 1,
                  .b = b.data.data(),
                  .b_row = n,
                  .b_col = 1,
                  .c = c.data(),
                  .c_row = n,
                  .accumulate = true};
        g.activation = &half_less<T>;
        g.activated = saved.data();
        std::vector<T> expected = c, expected_saved = saved;
        for (std::int64_t i = 0; i < batch; ++i) {
          Gemm<T> r = g;
          r.a += a_offset[i];
          r.c = expected.data() + c_offset[i];
          r.activated = expected_saved.data() + c_offset[i];
          gemm_reference(r);
        }
        gemm_batched(g, batch, a_offset.data(), b_offset.data(), c_offset.data());
        for (std::size_t i = 0; i < c.size(); ++i) {
          ASSERT_NEAR(c[i], expected[i], 100 * std::numeric_limits<T>::epsilon());
          ASSERT_NEAR(saved[i], expected_saved[i], 100 * std::numeric_limits<T>::epsilon());
        }
      }
  });
}

TYPED_TEST(GemmTest, SameBitsAtAnyNumberOfThreads) {
  using T = TypeParam;
  struct {
    std::int64_t m, n, k;
  } const sizes[] = {{130, 129, 400}, {97, 65, 800}, {20, 33, 9000}, {1, 3001, 513},
                     {3001, 1, 513},  {2, 400, 500}, {1000, 7, 100}, {30, 700, 130}};
  for_each_target([&] {
    for (auto [m, n, k] : sizes)
      for (auto la : {plain, transposed}) {
        const Layout lb = la == plain ? transposed : plain;
        const Matrix<T> a = make<T>(la, m, k, 1), b = make<T>(lb, k, n, 2), bias(1, n, n, 1, 3);
        std::vector<T> first;
        for (int threads : {1, 2, 3, 8}) {
          set_num_threads(threads);
          Matrix<T> c(m, n, n, 1, 4);
          Gemm<T> g{.m = m,
                    .n = n,
                    .k = k,
                    .a = a.data.data(),
                    .a_row = a.row,
                    .a_col = a.col,
                    .b = b.data.data(),
                    .b_row = b.row,
                    .b_col = b.col,
                    .c = c.data.data(),
                    .c_row = n,
                    .accumulate = true,
                    .bias = bias.data.data(),
                    .activation = &half_less<T>};
          const std::size_t all = c.data.size();
          c.data.resize(all + m, T(1));
          g.c = c.data.data();
          g.row_sums = c.data.data() + all;
          gemm(g);
          if (threads == 1) {
            first = c.data;
          } else {
            ASSERT_EQ(std::memcmp(first.data(), c.data.data(), first.size() * sizeof(T)), 0)
                << m << " x " << n << " x " << k << " at " << threads << " threads";
          }
        }
      }
  });
}

TYPED_TEST(GemmTest, NoSystemAllocationInSteadyState) {
  using T = TypeParam;
  const Matrix<T> a = make<T>(transposed, 200, 300, 1), b = make<T>(transposed, 300, 130, 2);
  std::vector<T> c(200 * 130);
  Gemm<T> g{.m = 200,
            .n = 130,
            .k = 300,
            .a = a.data.data(),
            .a_row = a.row,
            .a_col = a.col,
            .b = b.data.data(),
            .b_row = b.row,
            .b_col = b.col,
            .c = c.data(),
            .c_row = 130};
  for (int i = 0; i < 20; ++i) gemm(g);
  const auto before = memory_stats();
  for (int i = 0; i < 20; ++i) gemm(g);
  EXPECT_EQ(memory_stats().current, before.current);
  // Without a cache (under AddressSanitizer) every call asks the system.
  const bool caching = before.cached > 0;
  EXPECT_LE(caching ? memory_stats().system_allocations : 0,
            before.system_allocations + 2 * num_threads());
}

}  // namespace
}  // namespace lg::kernels
