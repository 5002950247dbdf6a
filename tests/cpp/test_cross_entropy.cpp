// test_cross_entropy.cpp: the cross-entropy kernels against plain loops in double.
#include "lightgrad/kernels/cross_entropy.h"

#include "tests/cpp/kernel_testing.h"

namespace lg::testing {
namespace {

using kernels::CrossEntropy;

template <class T> struct CrossEntropyKernel : ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(CrossEntropyKernel, Types);

std::vector<std::int64_t> random_targets(std::int64_t rows, std::int64_t n, unsigned seed) {
  std::mt19937 engine(seed);
  std::vector<std::int64_t> t(static_cast<std::size_t>(rows));
  for (auto& x : t) x = static_cast<std::int64_t>(engine() % static_cast<unsigned>(n));
  if (rows > 2) t[1] = -100;
  return t;
}

TYPED_TEST(CrossEntropyKernel, AgreesWithReference) {
  using T = TypeParam;
  for_each_target([] {
    for (const std::int64_t n : kRowSizes) {
      if (n == 0) continue;
      for (const double smoothing : {0.0, 0.1, 1.0}) {
        for (const bool weighted : {false, true}) {
          SCOPED_TRACE(::testing::Message()
                       << "n " << n << " smoothing " << smoothing << " weighted " << weighted);
          const std::int64_t rows = n > 1000 ? 3 : 9;
          auto x = random_values<T>(rows * n, 3, 1);
          auto w = random_values<T>(n, 1, 2);
          for (auto& v : w) v = std::abs(v);
          if (n > 40) x[static_cast<std::size_t>(n / 2)] = -std::numeric_limits<T>::infinity();
          auto t = random_targets(rows, n, 3);
          const auto g = random_values<T>(rows, 1, 4);
          if (n > 40) t[0] = 0;
          CrossEntropy<T> c{x.data(), t.data(), rows, n, weighted ? w.data() : nullptr,
                            -100,     smoothing};
          std::vector<T> loss(g.size()), lse(g.size()), dx(x.size());
          cross_entropy_forward(c, loss.data(), lse.data());
          cross_entropy_backward(c, g.data(), lse.data(), dx.data());

          const auto xd = cast<double>(x), wd = cast<double>(w), gd = cast<double>(g);
          CrossEntropy<double> cd{xd.data(), t.data(), rows, n, weighted ? wd.data() : nullptr,
                                  -100,      smoothing};
          std::vector<double> loss_d(gd.size()), lse_d(gd.size()), dx_d(xd.size());
          cross_entropy_forward_reference(cd, loss_d.data(), lse_d.data());
          cross_entropy_backward_reference(cd, gd.data(), lse_d.data(), dx_d.data());
          expect_close(loss, loss_d, 2 * kTolerance<T>, "loss");
          expect_close(lse, lse_d, kTolerance<T>, "logsumexp");
          expect_close(dx, dx_d, kTolerance<T>, "dlogits");
          cross_entropy_backward(c, g.data(), lse.data(), x.data());  // in place
          EXPECT_EQ(std::memcmp(x.data(), dx.data(), x.size() * sizeof(T)), 0);
        }
      }
    }
  });
}

TYPED_TEST(CrossEntropyKernel, SpecialRows) {
  using T = TypeParam;
  const T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  for_each_target([&] {
    const std::vector<T> x = {1,    2, 3, 4, 5, -inf,  -inf,  -inf, -inf,   -inf,
                              inf,  1, 2, 3, 4, 1,     nan,   3,    4,      5,
                              -inf, 2, 2, 2, 2, 30000, 29999, 0,    -1e30f, 0};
    const std::vector<std::int64_t> t = {7, 1, 1, 0, 0, 1};
    CrossEntropy<T> c{x.data(), t.data(), 6, 5, nullptr, 7, 0};
    std::vector<T> loss(6), lse(6), dx(30);
    cross_entropy_forward(c, loss.data(), lse.data());
    EXPECT_EQ(loss[0], T(0));
    EXPECT_TRUE(std::isnan(loss[1]) && std::isnan(loss[2]) && std::isnan(loss[3]));
    EXPECT_EQ(loss[4], inf);
    EXPECT_NEAR(static_cast<double>(loss[5]), 1.31326168751822,
                1e-6);  // log(1 + e), though logits are huge
    const std::vector<T> g(6, 1);
    cross_entropy_backward(c, g.data(), lse.data(), dx.data());
    for (int i = 0; i < 5; ++i) EXPECT_EQ(dx[static_cast<std::size_t>(i)], T(0));
    for (int i = 5; i < 20; ++i) EXPECT_TRUE(std::isnan(dx[static_cast<std::size_t>(i)])) << i;
    EXPECT_EQ(dx[20], T(-1));
    EXPECT_NEAR(static_cast<double>(dx[21]), 0.25, 1e-6);
  });
}

TYPED_TEST(CrossEntropyKernel, SameBitsAtAnyThreadCount) {
  using T = TypeParam;
  const std::int64_t rows = 1001, n = 65;
  const auto x = random_values<T>(rows * n, 3, 1), g = random_values<T>(rows, 1, 4);
  const auto t = random_targets(rows, n, 3);
  expect_same_bits([&] {
    CrossEntropy<T> c{x.data(), t.data(), rows, n, nullptr, -100, 0.1};
    std::vector<T> out(static_cast<std::size_t>(2 * rows + rows * n));
    cross_entropy_forward(c, out.data(), out.data() + rows);
    cross_entropy_backward(c, g.data(), out.data() + rows, out.data() + 2 * rows);
    return out;
  });
}

TYPED_TEST(CrossEntropyKernel, NoRows) {
  CrossEntropy<TypeParam> c{nullptr, nullptr, 0, 5};
  cross_entropy_forward<TypeParam>(c, nullptr, nullptr);
  cross_entropy_backward<TypeParam>(c, nullptr, nullptr, nullptr);
}

}  // namespace
}  // namespace lg::testing
