// test_random.cpp: Philox against the vectors of its authors, and the draws against their
// distributions.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>
#include <set>
#include <thread>
#include <vector>

#include "lightgrad/base/parallel.h"
#include "lightgrad/base/random.h"

namespace lg {
namespace {

constexpr Stream stream{0x123456789abcdefULL, 0xfedcba9876543210ULL};

TEST(Philox, KnownAnswers) {  // kat_vectors of Random123
  using Four = std::array<std::uint32_t, 4>;
  EXPECT_EQ(philox(0, 0, 0), (Four{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox(~0ULL, ~0ULL, ~0ULL), (Four{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(
      philox(0x299f31d0a4093822ULL, 0x85a308d3243f6a88ULL, 0x0370734413198a2eULL),  // digits of pi
      (Four{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

std::uint64_t word64(std::uint64_t i) {
  const auto w = philox(stream.seed, i / 2, stream.offset);
  return i % 2 ? std::uint64_t{w[3]} << 32 | w[2] : std::uint64_t{w[1]} << 32 | w[0];
}

// What one element should be, in long double.
template <class T> long double uniform_reference(std::uint64_t i) {
  if constexpr (sizeof(T) == 4)
    return (random_word(stream, i) >> 8) * 0x1p-24L;
  else
    return static_cast<long double>(word64(i) >> 11) * 0x1p-53L;
}
template <class T> long double normal_reference(std::uint64_t i) {
  long double v, a;
  const std::uint64_t even = i & ~std::uint64_t{1};
  if constexpr (sizeof(T) == 4) {
    v = (random_word(stream, even) >> 1 | 1) * 0x1p-31L;
    a = random_word(stream, even + 1) * 0x1p-32L;
  } else {
    v = static_cast<long double>(word64(even) >> 1 | 1) * 0x1p-63L;
    a = static_cast<long double>(word64(even + 1) >> 11) * 0x1p-53L;
  }
  const long double angle = 2 * std::numbers::pi_v<long double> * a;
  return std::sqrt(-2 * std::log(v)) * (i % 2 ? std::sin(angle) : std::cos(angle));
}

template <class T> class Fill : public testing::Test {};
using FloatTypes = testing::Types<float, double>;
TYPED_TEST_SUITE(Fill, FloatTypes);

TYPED_TEST(Fill, ElementsAreThoseOfTheReference) {
  using T = TypeParam;
  constexpr T epsilon = std::numeric_limits<T>::epsilon();
  const std::int64_t n = 40013;
  std::vector<T> x(n);
  fill_uniform(x.data(), n, T(0), T(1), stream);
  for (std::int64_t i = 0; i < n; ++i) ASSERT_EQ(x[i], uniform_reference<T>(i)) << i;
  fill_uniform(x.data(), n, T(-3), T(5), stream);
  for (std::int64_t i = 0; i < n; ++i)
    ASSERT_NEAR(x[i], 8 * uniform_reference<T>(i) - 3, 8 * epsilon) << i;
  fill_normal(x.data(), n, T(0), T(1), stream);
  for (std::int64_t i = 0; i < n; ++i) {
    const long double r = normal_reference<T>(i);
    // double's cos near its zeros is as exact as its argument, an angle of up to 2 pi; float
    // reduces it exactly
    ASSERT_NEAR(x[i], r, epsilon * (sizeof(T) == 4 ? 3 * std::abs(r) : 2 * std::abs(r) + 20)) << i;
  }
}

TYPED_TEST(Fill, SameBitsAtAnyLengthAndThreadCount) {
  using T = TypeParam;
  const std::int64_t n = 100003;
  std::vector<T> all(n), x(n + 1);
  const int before = num_threads();
  fill_normal(all.data(), n, T(1), T(2), stream);
  for (const int threads : {1, 2, 4, 8}) {
    set_num_threads(threads);
    for (const std::int64_t m :
         {0, 1, 2, 3, 63, 64, 65, 127, 128, 129, 8192, 16383, 16385, 100003}) {
      std::fill(x.begin(), x.end(), T(-77));
      fill_normal(x.data(), m, T(1), T(2), stream);
      ASSERT_TRUE(std::equal(x.begin(), x.begin() + m, all.begin())) << m;
      ASSERT_EQ(x[m], T(-77));  // nothing is written behind the end
    }
  }
  set_num_threads(before);
}

// Kolmogorov and Smirnov's distance, times sqrt(n): above 1.95 once in a thousand.
template <class T, class Cdf> double ks(std::vector<T> x, Cdf cdf) {
  std::sort(x.begin(), x.end());
  const auto n = static_cast<double>(x.size());
  double distance = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double p = cdf(static_cast<double>(x[i])), k = static_cast<double>(i);
    distance = std::max({distance, p - k / n, (k + 1) / n - p});
  }
  return distance * std::sqrt(n);
}

TYPED_TEST(Fill, Distributions) {
  using T = TypeParam;
  const std::int64_t n = 200000;
  std::vector<T> x(n);
  const auto moment = [&](int k, double centre) {
    return std::accumulate(x.begin(), x.end(), 0.0,
                           [&](double s, T v) { return s + std::pow(v - centre, k); }) /
           n;
  };
  fill_uniform(x.data(), n, T(0), T(1), stream);
  EXPECT_NEAR(moment(1, 0), 0.5, 5 * std::sqrt(1 / 12.0 / n));
  EXPECT_NEAR(moment(2, 0.5), 1 / 12.0, 5 * std::sqrt(1 / 180.0 / n));
  EXPECT_LT(ks(x, [](double v) { return v; }), 1.95);
  fill_normal(x.data(), n, T(0), T(1), stream);
  EXPECT_NEAR(moment(1, 0), 0, 5 * std::sqrt(1.0 / n));
  EXPECT_NEAR(moment(2, 0), 1, 5 * std::sqrt(2.0 / n));
  EXPECT_NEAR(moment(3, 0), 0, 5 * std::sqrt(15.0 / n));
  EXPECT_NEAR(moment(4, 0), 3, 5 * std::sqrt(96.0 / n));
  EXPECT_LT(ks(x, [](double v) { return std::erfc(-v / std::numbers::sqrt2) / 2; }), 1.95);
  double product = 0;  // neighbours of a pair share a radius, and are independent all the same
  for (std::int64_t i = 0; i < n; i += 2) product += static_cast<double>(x[i]) * x[i + 1];
  EXPECT_LT(std::abs(product), 5 * std::sqrt(n / 2));
}

TYPED_TEST(Fill, UniformStaysBelowHigh) {
  using T = TypeParam;
  std::vector<T> x(100000);
  const T low = 1, high = std::nextafter(std::nextafter(T(1), T(2)),
                                         T(2));  // two values: rounding would reach high
  fill_uniform(x.data(), 100000, low, high, stream);
  for (T v : x) ASSERT_TRUE(v >= low && v < high);
  fill_uniform(x.data(), 100, T(4), T(4), stream);
  for (int i = 0; i < 100; ++i) ASSERT_EQ(x[i], T(4));
}

TEST(RandInt, RangeAndFrequencies) {
  const std::int64_t n = 70000;
  std::vector<std::int64_t> x(n);
  fill_randint(x.data(), n, -3, 4, stream);
  std::vector<int> count(7);
  for (std::int64_t i = 0; i < n; ++i) {
    ASSERT_TRUE(x[i] >= -3 && x[i] < 4);
    ASSERT_EQ(x[i], static_cast<std::int64_t>(word64(i) / 0x1p64L * 7) - 3);
    ++count[x[i] + 3];
  }
  double chi_square = 0;
  for (int c : count) chi_square += (c - 10000.0) * (c - 10000.0) / 10000.0;
  EXPECT_LT(chi_square, 22.46);  // 6 degrees of freedom, once in a thousand
  fill_randint(x.data(), n, INT64_MIN, INT64_MAX, stream);
  EXPECT_NEAR(std::count_if(x.begin(), x.end(), [](auto v) { return v < 0; }), n / 2,
              5 * std::sqrt(n) / 2);
}

TEST(Permutation, EachOnceAndFair) {
  for (const std::int64_t n : {0, 1, 2, 1000}) {
    std::vector<std::int64_t> x(n);
    fill_permutation(x.data(), n, stream);
    EXPECT_EQ(std::set(x.begin(), x.end()).size(), x.size());
    EXPECT_TRUE(std::all_of(x.begin(), x.end(), [&](auto v) { return v >= 0 && v < n; }));
  }
  std::vector<int> count(27);  // the 6 orders of three
  for (std::uint64_t i = 0; i < 6000; ++i) {
    std::int64_t x[3];
    fill_permutation(x, 3, {7, i});
    ++count[x[0] * 9 + x[1] * 3 + x[2]];
  }
  double chi_square = 0;
  for (int c : count) chi_square += c ? (c - 1000.0) * (c - 1000.0) / 1000.0 : 0;
  EXPECT_EQ(std::count(count.begin(), count.end(), 0), 21);
  EXPECT_LT(chi_square, 20.5);  // 5 degrees of freedom, once in a thousand
}

TEST(Generator, StreamsDifferAndStateComesBack) {
  Generator g(5);
  const Stream a = g.next(), b = g.next();
  EXPECT_NE(random_word(a, 0), random_word(b, 0));
  EXPECT_EQ(g.offset(), 2u);
  g.set_state(5, 1);
  EXPECT_EQ(g.next().offset, b.offset);
  g.manual_seed(5);
  EXPECT_EQ(g.next().offset, a.offset);
}

TEST(Generator, ACopyDrawsTheSame) {
  Generator g(7);
  g.next();
  Generator copy = g, assigned;
  assigned = g;
  const Stream next = g.next();
  for (Generator* other : {&copy, &assigned}) {
    const Stream s = other->next();
    EXPECT_EQ(s.seed, next.seed);
    EXPECT_EQ(s.offset, next.offset);
  }
}

TEST(Generator, NextFromManyThreads) {
  Generator& g = default_generator();
  g.manual_seed(1);
  std::vector<std::vector<std::uint64_t>> offsets(4);
  std::vector<std::thread> threads;
  for (auto& mine : offsets) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) mine.push_back(g.next().offset);
    });
  }
  for (auto& t : threads) t.join();
  std::set<std::uint64_t> all;
  for (auto& mine : offsets) all.insert(mine.begin(), mine.end());
  EXPECT_EQ(all.size(), 4000u);
  EXPECT_EQ(*all.rbegin(), 3999u);
}

}  // namespace
}  // namespace lg
