// Initialisation: moments and bounds of the distributions, orthogonality, the state of the
// generator, errors.
#include <gtest/gtest.h>

#include <cmath>

#include "lightgrad/lightgrad.h"

namespace lg::nn {
namespace {

struct Moments {
  double mean = 0, variance = 0, low = HUGE_VAL, high = -HUGE_VAL;
};
Moments moments_of(const Tensor& x) {
  Moments m;
  const auto v = x.to_vector<double>();
  for (double e : v) m.mean += e / static_cast<double>(v.size());
  for (double e : v) {
    m.variance += (e - m.mean) * (e - m.mean) / static_cast<double>(v.size());
    m.low = std::min(m.low, e);
    m.high = std::max(m.high, e);
  }
  return m;
}

TEST(Init, UniformAndNormalHaveTheirMoments) {
  for (DType t : {DType::float32, DType::float64, DType::bfloat16}) {
    Tensor x = empty({200, 200}, t);
    Moments m = moments_of(init::uniform_(x, -1, 3));
    EXPECT_NEAR(m.mean, 1, 0.03);
    EXPECT_NEAR(m.variance, 16.0 / 12, 0.03);
    EXPECT_TRUE(m.low >= -1 && m.high <= 3);
    m = moments_of(init::normal_(x, 2, 0.5));
    EXPECT_NEAR(m.mean, 2, 0.02);
    EXPECT_NEAR(m.variance, 0.25, 0.01);
  }
}

TEST(Init, TruncatedNormalStaysInsideAndHasItsVariance) {
  Tensor x = empty({300, 300}, DType::float64);
  Moments m = moments_of(init::trunc_normal_(x));
  EXPECT_TRUE(m.low >= -2 && m.high <= 2);
  EXPECT_LT(m.low, -1.99);
  EXPECT_NEAR(m.mean, 0, 0.01);
  EXPECT_NEAR(m.variance, 0.7737, 0.01);  // 1 - 4 phi(2) / (2 Phi(2) - 1)
  m = moments_of(init::trunc_normal_(x, 1, 0.02, 0.5, 1.5));
  EXPECT_NEAR(m.mean, 1, 1e-3);
  EXPECT_NEAR(std::sqrt(m.variance), 0.02, 1e-3);
  // The quantile behind it: the share below -1 of a standard normal within [-3, 3].
  init::trunc_normal_(x, 0, 1, -3, 3);
  double below = 0;
  for (double v : x.to_vector<double>()) below += v < -1;
  EXPECT_NEAR(below / 90000, (0.158655 - 0.00135) / 0.9973, 0.005);
}

TEST(Init, FansAndGains) {
  Tensor w = empty({4, 3, 5, 5});
  EXPECT_EQ(init::calculate_fans(w).in, 75);
  EXPECT_EQ(init::calculate_fans(w).out, 100);
  EXPECT_DOUBLE_EQ(init::calculate_gain("relu"), std::sqrt(2.0));
  EXPECT_DOUBLE_EQ(init::calculate_gain("tanh"), 5.0 / 3);
  EXPECT_DOUBLE_EQ(init::calculate_gain("leaky_relu", 0.5), std::sqrt(2 / 1.25));
  EXPECT_DOUBLE_EQ(init::calculate_gain("sigmoid"), 1);
  Tensor x = empty({300, 200});
  EXPECT_NEAR(moments_of(init::xavier_uniform_(x)).high, std::sqrt(6.0 / 500), 1e-3);
  EXPECT_NEAR(moments_of(init::xavier_normal_(x, 2)).variance, 4 * 2.0 / 500, 5e-4);
  EXPECT_NEAR(moments_of(init::kaiming_uniform_(x, std::sqrt(5.0))).high, 1 / std::sqrt(200.0),
              1e-3);
  EXPECT_NEAR(moments_of(init::kaiming_normal_(x, 0, "fan_out", "relu")).variance, 2.0 / 300, 2e-4);
}

TEST(Init, OrthogonalRowsOrColumns) {
  for (const Shape& s :
       {Shape{7, 7}, Shape{40, 13}, Shape{13, 40}, Shape{5, 2, 3}, Shape{1, 1}, Shape{65, 65}}) {
    Tensor x = empty(s, DType::float64);
    init::orthogonal_(x, 3);
    const std::int64_t rows = s[0], columns = x.numel() / rows;
    Tensor a = reshape(x, {rows, columns});
    Tensor product =
        rows <= columns ? matmul(a, transpose(a, 0, 1)) : matmul(transpose(a, 0, 1), a);
    EXPECT_LT(amax(abs(product - eye(std::min(rows, columns), -1, DType::float64) * 9)).item(),
              1e-12)
        << s.to_string();
  }
}

TEST(Init, FollowsTheGeneratorAndRecordsNothing) {
  auto a = [] {
    manual_seed(5);
    return make<Linear>(6, 7);
  };
  auto first = a(), second = a();
  EXPECT_EQ(first->weight.to_vector<float>(), second->weight.to_vector<float>());
  EXPECT_NE(first->weight.to_vector<float>()[0], first->weight.to_vector<float>()[1]);
  const auto version = first->weight.impl()->storage->version();
  init::normal_(first->weight);
  EXPECT_TRUE(first->weight.is_leaf() && first->weight.requires_grad());
  EXPECT_GT(first->weight.impl()->storage->version(), version);
  Tensor columns = transpose(zeros({3, 4}), 0, 1);  // not contiguous
  init::constant_(columns, 2);
  EXPECT_EQ(sum(columns).item(), 24);
  init::uniform_(columns, 1, 2);
  EXPECT_GT(amin(columns).item(), 0.99);
}

TEST(Init, Errors) {
  Tensor vector = empty({3}), matrix = empty({3, 3});
  EXPECT_THROW(init::xavier_uniform_(vector), Error);
  EXPECT_THROW(init::kaiming_normal_(vector), Error);
  EXPECT_THROW(init::orthogonal_(vector), Error);
  EXPECT_THROW(init::kaiming_normal_(matrix, 0, "fan"), Error);
  EXPECT_THROW(init::calculate_gain("swish"), Error);
  EXPECT_THROW(init::uniform_(matrix, 2, 1), Error);
  EXPECT_THROW(init::normal_(matrix, 0, -1), Error);
  EXPECT_THROW(init::ones_(zeros({2}, DType::int64)), Error);
}

}  // namespace
}  // namespace lg::nn
