// test_scan_sort.cpp: running sums, sort and top-k against the standard library, in rows and in
// columns, with NaN, infinities, signed zeros, ties and empties; thread counts.
#include <algorithm>
#include <numeric>

#include "lightgrad/kernels/scan.h"
#include "lightgrad/kernels/sort.h"
#include "tests/cpp/kernel_testing.h"

namespace lg::testing {
namespace {

struct Sizes {
  std::int64_t outer, n, inner;
  std::int64_t numel() const { return outer * n * inner; }
  std::size_t at(std::int64_t row, std::int64_t k,
                 std::int64_t size) const {  // in [outer, size, inner]
    return static_cast<std::size_t>((row / inner * size + k) * inner + row % inner);
  }
};
std::ostream& operator<<(std::ostream& out, const Sizes& s) {
  return out << "[" << s.outer << ", " << s.n << ", " << s.inner << "]";
}

const std::vector<Sizes> kSizes = {
    {1, 0, 1},   {2, 0, 3},     {0, 4, 2},     {3, 4, 0},     {1, 1, 1},   {5, 2, 1},
    {3, 17, 1},  {2, 31, 5},    {1, 511, 3},   {2, 513, 1},   {1, 3, 65},  {2, 300, 130},
    {1, 999, 2}, {1, 70001, 1}, {3, 20011, 1}, {1, 30011, 2}, {1, 257, 64}};

template <class T> struct ScanSort : ::testing::Test {};
using Types = ::testing::Types<float, double, std::int64_t>;
TYPED_TEST_SUITE(ScanSort, Types);

TYPED_TEST(ScanSort, CumsumAgreesWithReference) {
  using T = TypeParam;
  using W = std::conditional_t<std::is_integral_v<T>, std::int64_t, double>;
  for (const Sizes s : kSizes) {
    SCOPED_TRACE(::testing::Message() << s);
    const auto x = random_values<T>(s.numel(), 100, 1);
    std::vector<T> forward(x.size()), reverse(x.size());
    kernels::cumsum(x.data(), forward.data(), s.outer, s.n, s.inner);
    kernels::cumsum_reverse(x.data(), reverse.data(), s.outer, s.n, s.inner);
    std::vector<double> expected(x.size()), expected_reverse(x.size());
    for (std::int64_t row = 0; row < s.outer * s.inner; ++row) {
      W sum = 0, back = 0;
      for (std::int64_t k = 0; k < s.n; ++k) {
        expected[s.at(row, k, s.n)] =
            static_cast<double>(sum += static_cast<W>(x[s.at(row, k, s.n)]));
        expected_reverse[s.at(row, s.n - 1 - k, s.n)] =
            static_cast<double>(back += static_cast<W>(x[s.at(row, s.n - 1 - k, s.n)]));
      }
    }
    const double tolerance = std::is_integral_v<T> ? 0 : sizeof(T) == 4 ? 1e-7 : 1e-9;
    expect_close(forward, expected, tolerance, "cumsum");
    expect_close(reverse, expected_reverse, tolerance, "cumsum_reverse");
    auto aliased = x;
    kernels::cumsum(aliased.data(), aliased.data(), s.outer, s.n, s.inner);
    EXPECT_EQ(aliased, forward);
    aliased = x;
    kernels::cumsum_reverse(aliased.data(), aliased.data(), s.outer, s.n, s.inner);
    EXPECT_EQ(aliased, reverse);
  }
}

TEST(Scan, NanStaysFromWhereItStands) {
  std::vector<float> x(40000, 1.0f), y(x.size());
  x[20000] = NAN;
  kernels::cumsum(x.data(), y.data(), 1, 40000, 1);
  EXPECT_EQ(y[19999], 20000.0f);
  for (std::size_t i = 20000; i < y.size(); ++i) ASSERT_TRUE(std::isnan(y[i])) << i;
  kernels::cumsum_reverse(x.data(), y.data(), 1, 40000, 1);
  EXPECT_EQ(y[20001], 19999.0f);
  EXPECT_TRUE(std::isnan(y[20000]) && std::isnan(y[0]));
}

TEST(Scan, Int64Wraps) {
  constexpr std::int64_t max = std::numeric_limits<std::int64_t>::max();
  const std::int64_t x[] = {max, 1, 1};
  std::int64_t y[3];
  kernels::cumsum(x, y, 1, 3, 1);
  EXPECT_EQ(y[1], std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(y[2], std::numeric_limits<std::int64_t>::min() + 1);
}

// Positions 0 to n - 1 in the order of their values, NaN last (first when descending), ties in
// order.
template <class T>
std::vector<std::int64_t> sorted_positions(const std::vector<T>& row, bool descending) {
  std::vector<std::int64_t> order(row.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t i, std::int64_t j) {
    T a = row[static_cast<std::size_t>(i)], b = row[static_cast<std::size_t>(j)];
    if (descending) std::swap(a, b);
    return a < b || (b != b && a == a);
  });
  return order;
}

// Values with many ties, both zeros and, for floats, NaN and infinities.
template <class T> std::vector<T> tricky_values(std::int64_t n, unsigned seed) {
  auto x = random_values<T>(n, seed % 2 ? 3 : 1e9, seed);
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = static_cast<T>(std::round(static_cast<double>(x[i])));
    if constexpr (std::is_floating_point_v<T>) {
      constexpr T inf = std::numeric_limits<T>::infinity();
      if (i % 7 == 3) x[i] = i % 2 ? T(-0.0) : T(0);
      if (i % 11 == 5)
        x[i] =
            i % 4 < 2 ? std::numeric_limits<T>::quiet_NaN() : -std::numeric_limits<T>::quiet_NaN();
      if (i % 13 == 6) x[i] = i % 2 ? inf : -inf;
    } else if (i % 13 == 6) {
      x[i] = i % 2 ? std::numeric_limits<T>::max() : std::numeric_limits<T>::min();
    }
  }
  return x;
}

template <class T>
void expect_selected(const std::vector<T>& x, const std::vector<T>& values,
                     const std::vector<std::int64_t>& indices, const Sizes& s, std::int64_t k,
                     bool descending) {
  for (std::int64_t row = 0; row < s.outer * s.inner; ++row) {
    std::vector<T> one;
    for (std::int64_t i = 0; i < s.n; ++i) one.push_back(x[s.at(row, i, s.n)]);
    const auto order = sorted_positions(one, descending);
    for (std::int64_t i = 0; i < k; ++i) {
      ASSERT_EQ(indices[s.at(row, i, k)], order[static_cast<std::size_t>(i)])
          << "row " << row << ", " << i;
      const T v = one[static_cast<std::size_t>(order[static_cast<std::size_t>(i)])];
      ASSERT_EQ(std::memcmp(&values[s.at(row, i, k)], &v, sizeof(T)), 0)
          << "row " << row << ", " << i;
    }
  }
}

TYPED_TEST(ScanSort, SortIsStableWithNanLargest) {
  using T = TypeParam;
  unsigned seed = 0;
  for (const Sizes s : kSizes) {
    for (const bool descending : {false, true}) {
      SCOPED_TRACE(::testing::Message() << s << (descending ? " descending" : ""));
      const auto x = tricky_values<T>(s.numel(), ++seed / 2);
      std::vector<T> values(x.size());
      std::vector<std::int64_t> indices(x.size());
      kernels::sort(x.data(), values.data(), indices.data(), s.outer, s.n, s.inner, descending);
      expect_selected(x, values, indices, s, s.n, descending);
    }
  }
}

TYPED_TEST(ScanSort, TopKIsTheHeadOfTheSort) {
  using T = TypeParam;
  unsigned seed = 0;
  for (const Sizes s : kSizes) {
    for (const std::int64_t k : {std::int64_t{0}, std::int64_t{1}, std::int64_t{5},
                                 std::int64_t{64}, std::int64_t{65}, s.n / 5, s.n / 2, s.n}) {
      if (k > s.n) continue;
      for (const bool largest : {false, true}) {
        SCOPED_TRACE(::testing::Message() << s << " k " << k << (largest ? " largest" : ""));
        const auto x = tricky_values<T>(s.numel(), ++seed / 2);
        std::vector<T> values(static_cast<std::size_t>(s.outer * k * s.inner));
        std::vector<std::int64_t> indices(values.size());
        kernels::topk(x.data(), values.data(), indices.data(), s.outer, s.n, s.inner, k, largest);
        expect_selected(x, values, indices, s, k, largest);
      }
    }
  }
}

TYPED_TEST(ScanSort, SameBitsAtAnyThreadCount) {
  using T = TypeParam;
  for (const Sizes s : {Sizes{1, 300007, 1}, {100, 700, 3}, {1, 3000, 200}}) {
    const auto x = random_values<T>(s.numel(), 1000, 9);
    expect_same_bits([&] {
      std::vector<T> y(x.size());
      kernels::cumsum(x.data(), y.data(), s.outer, s.n, s.inner);
      return y;
    });
    expect_same_bits([&] {
      std::vector<T> y(x.size());
      std::vector<std::int64_t> indices(x.size());
      kernels::sort(x.data(), y.data(), indices.data(), s.outer, s.n, s.inner, true);
      return indices;
    });
  }
}

}  // namespace
}  // namespace lg::testing
