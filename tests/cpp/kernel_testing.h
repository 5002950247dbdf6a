// kernel_testing.h: what kernel tests share: every SIMD target of this machine in turn, several
// thread counts with a comparison of bits, random inputs, and a comparison with a reference by
// absolute plus relative tolerance.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "hwy/targets.h"
#include "lightgrad/base/dtype.h"
#include "lightgrad/base/parallel.h"
#include "lightgrad/kernels/gemm.h"

namespace lg::testing {

// f() once per SIMD target that this machine can run.
template <class F> void for_each_target(F f) {
  const auto use = [](std::int64_t targets) {
    hwy::SetSupportedTargetsForTest(targets);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  };
  use(0);  // 0: what the machine has
  for (std::int64_t rest = hwy::SupportedTargets() & HWY_TARGETS; rest != 0; rest &= rest - 1) {
    const std::int64_t target = rest & -rest;
    use(target);
    SCOPED_TRACE(hwy::TargetName(target));
    f();
  }
  use(0);
}

// f() once per SIMD target that has the kernels of products for T.
template <class T, class F> void for_each_target_of(F f) {
  for_each_target([&] {
    if (!std::is_same_v<T, bfloat16> || kernels::has_bf16_products()) f();
  });
}

// Calls f(), which gives a vector of numbers, at 1, 2, 4 and 8 threads and expects the same bits
// each time.
template <class F> void expect_same_bits(F f) {
  const int before = num_threads();
  set_num_threads(1);
  const auto one = f();
  for (const int threads : {2, 4, 8}) {
    set_num_threads(threads);
    const auto many = f();
    ASSERT_EQ(one.size(), many.size());
    EXPECT_TRUE(one.empty() ||
                std::memcmp(one.data(), many.data(), one.size() * sizeof(one[0])) == 0)
        << "at " << threads << " threads";
  }
  set_num_threads(before);
}

template <class T> std::vector<T> random_values(std::int64_t n, double scale, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<double> normal(0, scale);
  std::vector<T> v(static_cast<std::size_t>(n));
  for (auto& x : v) x = static_cast<T>(normal(engine));
  return v;
}

template <class To, class From> std::vector<To> cast(const std::vector<From>& v) {
  std::vector<To> out;
  for (const From& x : v) out.push_back(convert<To>(x));
  return out;
}

// |actual - expected| <= tolerance * (1 + |expected|); NaN and infinities must agree.
template <class T>
void expect_close(const std::vector<T>& actual, const std::vector<double>& expected,
                  double tolerance, const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  int shown = 0;
  for (std::size_t i = 0; i < actual.size() && shown < 5; ++i) {
    const double a = static_cast<double>(actual[i]), e = expected[i];
    const bool ok = std::isnan(e)   ? std::isnan(a)
                    : std::isinf(e) ? a == e
                                    : std::abs(a - e) <= tolerance * (1 + std::abs(e));
    if (!ok) {
      ADD_FAILURE() << what << "[" << i << "]: " << a << ", expected " << e;
      ++shown;
    }
  }
}

template <class T> inline constexpr double kTolerance = sizeof(T) == 4 ? 4e-6 : 1e-13;

// Row lengths around the edges of vectors (1 to 16 lanes), of four vectors, and of blocks.
inline const std::vector<std::int64_t> kRowSizes = {
    0,  1,  2,  3,  4,  5,  7,  8,   9,   15,  16,   17,   31,   32,  33,
    47, 63, 64, 65, 67, 96, 97, 127, 128, 129, 2047, 2048, 2049, 5003};

}  // namespace lg::testing
