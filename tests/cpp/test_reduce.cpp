// test_reduce.cpp: reduction kernels against plain loops in double (or int64), on every SIMD
// target: row lengths and widths around the edges of vectors, blocks and segments; NaN, infinities,
// ties, empties; thread counts.
#include "lightgrad/kernels/reduce.h"

#include <algorithm>

#include "tests/cpp/kernel_testing.h"

namespace lg::testing {
namespace {

using kernels::Reduction;

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

struct Sizes {
  std::int64_t outer, n, inner;
  std::int64_t rows() const { return outer * inner; }
};

std::string text_of(const Sizes& s) {
  return "[" + std::to_string(s.outer) + ", " + std::to_string(s.n) + ", " +
         std::to_string(s.inner) + "]";
}

// Rows, wide and narrow columns, and sizes that are cut into segments or blocks along n.
std::vector<Sizes> all_sizes() {
  std::vector<Sizes> sizes;
  for (const std::int64_t n : kRowSizes) {
    for (const std::int64_t outer : {1, 3}) sizes.push_back({outer, n, 1});
    for (const std::int64_t inner : {2, 3, 16, 37, 65}) sizes.push_back({2, n, inner});
  }
  for (const Sizes s : {Sizes{1, 32767, 1},
                        {2, 32769, 1},
                        {1, 100003, 1},
                        {300, 7, 1},
                        {70, 9, 5},
                        {1, 3, 2049},
                        {1, 70, 4099},
                        {1, 40007, 3},
                        {2, 1100, 130},
                        {1, 513, 64},
                        {0, 5, 2},
                        {2, 5, 0}}) {
    sizes.push_back(s);
  }
  return sizes;
}

template <class T> std::vector<T> values(const Sizes& s, unsigned seed) {
  return random_values<T>(s.outer * s.n * s.inner, std::is_integral_v<T> ? 1e6 : 2, seed);
}

// y by `kernel` and by `reference`, which reads doubles and fills a double per row.
template <class T, class Kernel, class Row>
void expect_rows(const std::vector<T>& x, const Sizes& s, double tolerance, const std::string& what,
                 Kernel kernel, Row row) {
  std::vector<T> y(static_cast<std::size_t>(s.rows()), T(7));
  kernel(x.data(), y.data());
  std::vector<double> expected, one(static_cast<std::size_t>(s.n));
  for (std::int64_t i = 0; i < s.rows(); ++i) {
    for (std::int64_t k = 0; k < s.n; ++k) {
      one[static_cast<std::size_t>(k)] = static_cast<double>(
          x[static_cast<std::size_t>((i / s.inner * s.n + k) * s.inner + i % s.inner)]);
    }
    expected.push_back(row(one));
  }
  expect_close(y, expected, tolerance, what + " of " + text_of(s));
}

double variance(const std::vector<double>& row, double correction) {
  long double mean = 0, m2 = 0;
  for (const double v : row) mean += v;
  mean /= static_cast<long double>(row.size());
  for (const double v : row) m2 += (v - mean) * (v - mean);
  return static_cast<double>(m2) / std::max(0.0, static_cast<double>(row.size()) - correction);
}
double logsumexp(const std::vector<double>& row) {
  double max = -inf, sum = 0;
  for (const double v : row) max = std::max(max, v);
  if (std::isinf(max)) return max;
  for (const double v : row) sum += std::exp(v - max);
  return max + std::log(sum);
}
double norm(const std::vector<double>& row, double p) {
  if (row.empty()) return 0;
  long double sum = 0;
  double max = 0, min = inf;
  for (const double v : row) {
    sum += p == 0 ? (v != 0)
                  : std::pow(std::abs(static_cast<long double>(v)), static_cast<long double>(p));
    max = std::max(max, std::abs(v));
    min = std::min(min, std::abs(v));
  }
  return p == inf    ? max
         : p == -inf ? min
         : p == 0    ? static_cast<double>(sum)
                     : static_cast<double>(std::pow(sum, 1 / static_cast<long double>(p)));
}

template <class T> struct ReduceKernel : ::testing::Test {};
using Types = ::testing::Types<float, double, std::int64_t>;
TYPED_TEST_SUITE(ReduceKernel, Types);
template <class T> struct ReduceFloatKernel : ::testing::Test {};
using FloatTypes = ::testing::Types<float, double>;
TYPED_TEST_SUITE(ReduceFloatKernel, FloatTypes);

TYPED_TEST(ReduceKernel, FoldsAgreeWithReference) {
  using T = TypeParam;
  for_each_target([] {
    for (const Sizes s : all_sizes()) {
      SCOPED_TRACE(text_of(s));
      const auto x = values<T>(s, 1);
      const auto xd = cast<std::conditional_t<std::is_integral_v<T>, std::int64_t, double>>(x);
      std::vector<T> y(static_cast<std::size_t>(s.rows()), T(7));
      auto yd = std::vector<typename decltype(xd)::value_type>(y.size());
      const auto check = [&](Reduction reduction, double tolerance, const char* what) {
        kernels::reduce_reference(reduction, xd.data(), yd.data(), s.outer, s.n, s.inner);
        if constexpr (std::is_integral_v<T>)
          EXPECT_EQ(y, yd) << what;
        else
          expect_close(y, yd, tolerance, what);
      };
      kernels::reduce_sum(x.data(), y.data(), s.outer, s.n, s.inner);
      // Rounding grows with the sum of magnitudes, here about 1.6 a value.
      check(Reduction::sum,
            kTolerance<T> + static_cast<double>(s.n) * (sizeof(T) == 4 ? 3e-8 : 1e-16), "sum");
      kernels::reduce_prod(x.data(), y.data(), s.outer, s.n, s.inner);
      if (s.n < 1000) check(Reduction::prod, kTolerance<T> * 10, "prod");
      if (s.n == 0) continue;
      kernels::reduce_max(x.data(), y.data(), s.outer, s.n, s.inner);
      check(Reduction::max, 0, "max");
      kernels::reduce_min(x.data(), y.data(), s.outer, s.n, s.inner);
      check(Reduction::min, 0, "min");
    }
  });
}

TYPED_TEST(ReduceKernel, ArgumentsAreTheFirstOfTies) {
  using T = TypeParam;
  for_each_target([] {
    for (const Sizes s : all_sizes()) {
      if (s.n == 0) continue;
      auto x = values<T>(s, 2);
      for (auto& v : x)
        v = std::round(static_cast<double>(v) / (std::is_integral_v<T> ? 1e6 : 1));  // many ties
      std::vector<std::int64_t> y(static_cast<std::size_t>(s.rows())), expected(y.size());
      kernels::reduce_argmax(x.data(), y.data(), s.outer, s.n, s.inner);
      kernels::reduce_arg_reference(true, x.data(), expected.data(), s.outer, s.n, s.inner);
      EXPECT_EQ(y, expected) << text_of(s);
      kernels::reduce_argmin(x.data(), y.data(), s.outer, s.n, s.inner);
      kernels::reduce_arg_reference(false, x.data(), expected.data(), s.outer, s.n, s.inner);
      EXPECT_EQ(y, expected) << text_of(s);
    }
  });
}

TEST(ReduceReference, KnowsItsNumbers) {
  const std::vector<double> x{3, 1, 2, 1, 3, -4};  // [1, 3, 2]
  std::vector<double> y(2);
  std::vector<std::int64_t> at(2);
  kernels::reduce_reference(Reduction::sum, x.data(), y.data(), 1, 3, 2);
  EXPECT_EQ(y, (std::vector<double>{8, -2}));
  kernels::reduce_reference(Reduction::prod, x.data(), y.data(), 1, 3, 2);
  EXPECT_EQ(y, (std::vector<double>{18, -4}));
  kernels::reduce_reference(Reduction::max, x.data(), y.data(), 1, 3, 2);
  EXPECT_EQ(y, (std::vector<double>{3, 1}));
  kernels::reduce_reference(Reduction::min, x.data(), y.data(), 1, 3, 2);
  EXPECT_EQ(y, (std::vector<double>{2, -4}));
  kernels::reduce_arg_reference(true, x.data(), at.data(), 1, 3, 2);
  EXPECT_EQ(at, (std::vector<std::int64_t>{0, 0}));
  kernels::reduce_arg_reference(false, x.data(), at.data(), 1, 3, 2);
  EXPECT_EQ(at, (std::vector<std::int64_t>{1, 2}));
}

TEST(ReduceInt64, Wraps) {
  constexpr std::int64_t max = std::numeric_limits<std::int64_t>::max();
  for_each_target([] {
    for (const std::int64_t n : {2, 20, 40000}) {
      std::vector<std::int64_t> x(static_cast<std::size_t>(n), 1), y(1);
      x[0] = max;
      kernels::reduce_sum(x.data(), y.data(), 1, n, 1);
      EXPECT_EQ(y[0], static_cast<std::int64_t>(static_cast<std::uint64_t>(max) +
                                                static_cast<std::uint64_t>(n - 1)));
    }
    const std::int64_t x[] = {max, max, std::numeric_limits<std::int64_t>::min()};
    std::int64_t y;
    kernels::reduce_prod(x, &y, 1, 2, 1);
    EXPECT_EQ(y, 1);
    kernels::reduce_min(x, &y, 1, 3, 1);
    EXPECT_EQ(y, x[2]);
    kernels::reduce_max(x + 2, &y, 1, 1, 1);
    EXPECT_EQ(y, x[2]);
  });
}

TYPED_TEST(ReduceKernel, EmptyHasAnIdentity) {
  using T = TypeParam;
  std::vector<T> y(4, T(7));
  kernels::reduce_sum<T>(nullptr, y.data(), 2, 0, 2);
  EXPECT_EQ(y, std::vector<T>(4, T(0)));
  kernels::reduce_prod<T>(nullptr, y.data(), 2, 0, 2);
  EXPECT_EQ(y, std::vector<T>(4, T(1)));
  if constexpr (std::is_floating_point_v<T>) {
    kernels::reduce_logsumexp<T>(nullptr, y.data(), 2, 0, 2);
    EXPECT_EQ(y, std::vector<T>(4, T(-inf)));
    for (const double p : {0.0, 1.0, 2.0, 3.5, inf, -inf}) {
      y.assign(4, T(7));
      kernels::reduce_norm<T>(nullptr, y.data(), 4, 0, 1, p);
      EXPECT_EQ(y, std::vector<T>(4, T(0))) << p;
    }
    kernels::reduce_var<T>(nullptr, y.data(), 2, 0, 2, 1);
    for (const T v : y) EXPECT_TRUE(std::isnan(v));
  }
}

TYPED_TEST(ReduceFloatKernel, NanIsTheExtremeWhereverItStands) {
  using T = TypeParam;
  for_each_target([] {
    for (const Sizes s : {Sizes{1, 5, 1},
                          {1, 37, 1},
                          {1, 600, 1},
                          {1, 40000, 1},
                          {1, 5, 3},
                          {1, 37, 9},
                          {1, 700, 70}}) {
      const std::int64_t step = s.n > 1000 ? 9973 : s.n > 100 ? 61 : 1;
      for (std::int64_t at = 0; at < s.n; at += step) {
        auto x = values<T>(s, 3);
        const auto set = [&](std::int64_t i, double v) {
          x[static_cast<std::size_t>(i * s.inner)] = static_cast<T>(v);
        };
        set(s.n - 1, nan);
        set(at, nan);
        set(s.n / 2, at == s.n / 2 ? nan : inf);
        std::vector<T> y(static_cast<std::size_t>(s.inner)), other(y);
        std::vector<std::int64_t> arg(y.size());
        kernels::reduce_max(x.data(), y.data(), 1, s.n, s.inner);
        EXPECT_TRUE(std::isnan(y[0])) << at;
        for (std::size_t j = 1; j < y.size(); ++j) EXPECT_FALSE(std::isnan(y[j]));
        kernels::reduce_min(x.data(), y.data(), 1, s.n, s.inner);
        EXPECT_TRUE(std::isnan(y[0])) << at;
        const std::int64_t first = std::min(at, s.n - 1);
        kernels::reduce_argmax(x.data(), arg.data(), 1, s.n, s.inner);
        EXPECT_EQ(arg[0], first);
        kernels::reduce_argmin(x.data(), arg.data(), 1, s.n, s.inner);
        EXPECT_EQ(arg[0], first);
        for (const double p : {1.0, 2.0, 2.5, inf, -inf}) {
          kernels::reduce_norm(x.data(), y.data(), 1, s.n, s.inner, p);
          EXPECT_TRUE(std::isnan(y[0])) << p;
          EXPECT_FALSE(std::isnan(y.back()) && y.size() > 1) << p;
        }
        kernels::reduce_logsumexp(x.data(), y.data(), 1, s.n, s.inner);
        EXPECT_TRUE(std::isnan(y[0]));
        kernels::reduce_var(x.data(), y.data(), 1, s.n, s.inner, 1);
        EXPECT_TRUE(std::isnan(y[0]));
        kernels::reduce_sum(x.data(), y.data(), 1, s.n, s.inner);
        EXPECT_TRUE(std::isnan(y[0]));
      }
    }
  });
}

TYPED_TEST(ReduceFloatKernel, InfinitiesAreOrdinaryExtremes) {
  using T = TypeParam;
  for (const std::int64_t n : {3, 40, 40000}) {
    for (const std::int64_t inner : {1, 3}) {
      std::vector<T> x(static_cast<std::size_t>(n * inner), T(-inf)),
          y(static_cast<std::size_t>(inner));
      kernels::reduce_max(x.data(), y.data(), 1, n, inner);
      EXPECT_EQ(y[0], T(-inf));
      kernels::reduce_logsumexp(x.data(), y.data(), 1, n, inner);
      EXPECT_EQ(y[0], T(-inf));
      std::vector<std::int64_t> arg(y.size());
      kernels::reduce_argmax(x.data(), arg.data(), 1, n, inner);
      EXPECT_EQ(arg[0], 0);
      kernels::reduce_norm(x.data(), y.data(), 1, n, inner, 2);
      EXPECT_EQ(y[0], T(inf));
      x[static_cast<std::size_t>((n - 1) * inner)] = T(inf);
      kernels::reduce_logsumexp(x.data(), y.data(), 1, n, inner);
      EXPECT_EQ(y[0], T(inf));
      kernels::reduce_min(x.data(), y.data(), 1, n, inner);
      EXPECT_EQ(y[0], T(-inf));
    }
  }
}

TYPED_TEST(ReduceFloatKernel, StatisticsAgreeWithReference) {
  using T = TypeParam;
  const double tolerance = kTolerance<T> / 4;
  for (const Sizes s : all_sizes()) {
    const auto x = values<T>(s, 4);
    for (const double correction : {0.0, 1.0, 2.0, 2.5}) {
      expect_rows(
          x, s, tolerance, "var",
          [&](const T* in, T* out) {
            kernels::reduce_var(in, out, s.outer, s.n, s.inner, correction);
          },
          [&](const std::vector<double>& row) { return variance(row, correction); });
    }
    expect_rows(
        x, s, tolerance, "logsumexp",
        [&](const T* in, T* out) { kernels::reduce_logsumexp(in, out, s.outer, s.n, s.inner); },
        logsumexp);
    if (s.outer * s.n * s.inner > 40000 && s.inner > 1) continue;
    for (const double p : {0.0, 0.5, 1.0, 2.0, 3.0, -1.5, inf, -inf}) {
      expect_rows(
          x, s, tolerance * (p == 0.5 ? 10 : 1), "norm " + std::to_string(p),
          [&](const T* in, T* out) { kernels::reduce_norm(in, out, s.outer, s.n, s.inner, p); },
          [&](const std::vector<double>& row) { return norm(row, p); });
    }
  }
}

TYPED_TEST(ReduceFloatKernel, VarianceOfALargeMean) {
  using T = TypeParam;
  for (const Sizes s : {Sizes{1, 100, 1}, {1, 100003, 1}, {1, 3000, 5}}) {
    auto x = values<T>(s, 5);
    for (auto& v : x)
      v = static_cast<T>(v * T(sizeof(T) == 4 ? 0.01 : 1) + T(sizeof(T) == 4 ? 1e4 : 1e9));
    std::vector<T> y(static_cast<std::size_t>(s.rows()));
    kernels::reduce_var(x.data(), y.data(), s.outer, s.n, s.inner, 1);
    std::vector<double> row;
    for (std::int64_t k = 0; k < s.n; ++k)
      row.push_back(static_cast<double>(x[static_cast<std::size_t>(k * s.inner)]));
    EXPECT_NEAR(static_cast<double>(y[0]) / variance(row, 1), 1, 1e-6);
  }
}

TYPED_TEST(ReduceFloatKernel, VarianceOfFewFollowsPyTorch) {
  using T = TypeParam;
  const T x[] = {T(1), T(2)};
  T y;
  kernels::reduce_var(x, &y, 1, 1, 1, 1);
  EXPECT_TRUE(std::isnan(y));
  kernels::reduce_var(x, &y, 1, 1, 1, 0);
  EXPECT_EQ(y, T(0));
  kernels::reduce_var(x, &y, 1, 2, 1, 3);
  EXPECT_EQ(y, T(inf));
}

TYPED_TEST(ReduceFloatKernel, NormsNeitherOverflowNorUnderflow) {
  using T = TypeParam;
  const double big = std::numeric_limits<T>::max() / 16.0,
               small = std::numeric_limits<T>::min() / 16.0;
  for (const double scale : {big, small}) {
    for (const std::int64_t inner : {1, 2}) {
      for (const double p : {2.0, 3.0, 40.0, -7.0}) {
        std::vector<T> x;
        for (std::int64_t i = 0; i < 17 * inner; ++i)
          x.push_back(static_cast<T>(scale * (1 + i % 2)));
        std::vector<T> y(static_cast<std::size_t>(inner));
        kernels::reduce_norm(x.data(), y.data(), 1, 17, inner, p);
        double sum = 0;
        for (std::int64_t i = 0; i < 17; ++i) {
          sum += std::pow(static_cast<double>(x[static_cast<std::size_t>(i * inner)]) / scale, p);
        }
        EXPECT_NEAR(static_cast<double>(y[0]) / scale, std::pow(sum, 1 / p), 1e-5)
            << scale << " " << p;
      }
    }
  }
  const T zeros[3] = {};
  T y;
  for (const double p : {0.0, 1.0, 2.0, 3.0, -1.0, inf, -inf}) {
    kernels::reduce_norm(zeros, &y, 1, 3, 1, p);
    EXPECT_EQ(y, T(0)) << p;
  }
}

TEST(ReduceFloat, BigSumsStayAccurate) {
  const std::int64_t n = std::int64_t{1} << 24;
  std::vector<float> x(static_cast<std::size_t>(n));
  std::mt19937 engine(6);
  std::uniform_real_distribution<float> uniform(0, 1);
  for (auto& v : x) v = uniform(engine);
  for (const std::int64_t inner : {1, 3, 64, 4096}) {
    const std::int64_t rows = n / inner;
    std::vector<float> y(static_cast<std::size_t>(inner));
    kernels::reduce_sum(x.data(), y.data(), 1, rows, inner);
    std::vector<double> expected(y.size());
    for (std::int64_t i = 0; i < rows * inner; ++i) {
      expected[static_cast<std::size_t>(i % inner)] += x[static_cast<std::size_t>(i)];
    }
    for (std::size_t j = 0; j < y.size(); ++j) EXPECT_NEAR(y[j] / expected[j], 1, 2e-7) << inner;
  }
}

TEST(ReduceBool, AnyAndAll) {
  for (const Sizes s :
       {Sizes{3, 0, 2}, {1, 1, 1}, {5, 9, 1}, {3, 100, 7}, {1, 40000, 1}, {2, 3000, 17}}) {
    for (const bool rare : {false, true}) {  // one value of the other kind, or none
      std::mt19937 engine(7);
      std::vector<std::uint8_t> x(static_cast<std::size_t>(s.outer * s.n * s.inner));
      for (auto& v : x) v = engine() % static_cast<unsigned>(s.n + 1) == 0 ? !rare : rare;
      std::vector<std::uint8_t> any(static_cast<std::size_t>(s.rows()), 9), all(any);
      const auto bools = [](auto& v) { return reinterpret_cast<bool*>(v.data()); };
      kernels::reduce_any(bools(x), bools(any), s.outer, s.n, s.inner);
      kernels::reduce_all(bools(x), bools(all), s.outer, s.n, s.inner);
      for (std::int64_t i = 0; i < s.rows(); ++i) {
        bool some = false, each = true;
        for (std::int64_t k = 0; k < s.n; ++k) {
          const bool v =
              x[static_cast<std::size_t>((i / s.inner * s.n + k) * s.inner + i % s.inner)];
          some |= v;
          each &= v;
        }
        EXPECT_EQ(any[static_cast<std::size_t>(i)], some);
        EXPECT_EQ(all[static_cast<std::size_t>(i)], each);
      }
    }
  }
}

TYPED_TEST(ReduceKernel, SameBitsAtAnyThreadCount) {
  using T = TypeParam;
  for (const Sizes s : {Sizes{1, 1000003, 1},
                        {3, 70001, 1},
                        {2000, 129, 1},
                        {1, 2048, 1152},
                        {1, 100001, 3},
                        {40, 300, 20}}) {
    SCOPED_TRACE(text_of(s));
    const auto x = values<T>(s, 8);
    const auto run = [&](auto kernel) {
      expect_same_bits([&] {
        std::vector<T> y(static_cast<std::size_t>(s.rows()));
        kernel(x.data(), y.data());
        return y;
      });
    };
    run([&](const T* a, T* y) { kernels::reduce_sum(a, y, s.outer, s.n, s.inner); });
    run([&](const T* a, T* y) { kernels::reduce_prod(a, y, s.outer, s.n, s.inner); });
    run([&](const T* a, T* y) { kernels::reduce_max(a, y, s.outer, s.n, s.inner); });
    if constexpr (std::is_floating_point_v<T>) {
      run([&](const T* a, T* y) { kernels::reduce_var(a, y, s.outer, s.n, s.inner, 1); });
      run([&](const T* a, T* y) { kernels::reduce_logsumexp(a, y, s.outer, s.n, s.inner); });
      run([&](const T* a, T* y) { kernels::reduce_norm(a, y, s.outer, s.n, s.inner, 2); });
    }
    expect_same_bits([&] {
      std::vector<std::int64_t> y(static_cast<std::size_t>(s.rows()));
      kernels::reduce_argmax(x.data(), y.data(), s.outer, s.n, s.inner);
      return y;
    });
  }
}

}  // namespace
}  // namespace lg::testing
