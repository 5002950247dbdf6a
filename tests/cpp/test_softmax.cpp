// test_softmax.cpp: softmax, log-softmax and log-sum-exp kernels against plain loops in double.
#include "lightgrad/kernels/softmax.h"

#include "tests/cpp/kernel_testing.h"

namespace lg::testing {
namespace {

template <class T> struct SoftmaxKernel : ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(SoftmaxKernel, Types);

TYPED_TEST(SoftmaxKernel, AgreesWithReference) {
  using T = TypeParam;
  for_each_target([] {
    for (const std::int64_t n : kRowSizes) {
      for (const std::int64_t rows : {0, 1, 5}) {
        SCOPED_TRACE(::testing::Message() << rows << " rows of " << n);
        auto x = random_values<T>(rows * n, 4, 1);
        if (n > 3) {
          for (std::int64_t r = 0; r < rows; ++r)
            x[static_cast<std::size_t>(r * n + r % 3)] = -INFINITY;
        }
        const auto g = random_values<T>(rows * n, 1, 2);
        const auto xd = cast<double>(x), gd = cast<double>(g);
        std::vector<T> y(x.size()), dx(x.size());
        std::vector<double> yd(x.size()), dxd(x.size());

        kernels::softmax_forward(x.data(), y.data(), rows, n);
        kernels::softmax_forward_reference(xd.data(), yd.data(), rows, n);
        expect_close(y, yd, kTolerance<T>, "softmax");
        kernels::softmax_backward(g.data(), y.data(), dx.data(), rows, n);
        kernels::softmax_backward_reference(gd.data(), yd.data(), dxd.data(), rows, n);
        expect_close(dx, dxd, kTolerance<T>, "softmax dx");
        auto aliased = g;
        kernels::softmax_backward(aliased.data(), y.data(), aliased.data(), rows, n);
        EXPECT_TRUE(aliased == dx);
        aliased = x;
        kernels::softmax_forward(aliased.data(), aliased.data(), rows, n);
        EXPECT_TRUE(aliased == y);

        kernels::log_softmax_forward(x.data(), y.data(), rows, n);
        kernels::log_softmax_forward_reference(xd.data(), yd.data(), rows, n);
        expect_close(y, yd, kTolerance<T>, "log_softmax");
        kernels::log_softmax_backward(g.data(), y.data(), dx.data(), rows, n);
        kernels::log_softmax_backward_reference(gd.data(), yd.data(), dxd.data(), rows, n);
        expect_close(dx, dxd, kTolerance<T> * (n > 1000 ? 8 : 1), "log_softmax dx");
        aliased = g;
        kernels::log_softmax_backward(aliased.data(), y.data(), aliased.data(), rows, n);
        EXPECT_TRUE(aliased == dx);

        std::vector<T> lse(static_cast<std::size_t>(rows));
        std::vector<double> lse_d(lse.size());
        kernels::logsumexp(x.data(), lse.data(), rows, n);
        kernels::logsumexp_reference(xd.data(), lse_d.data(), rows, n);
        expect_close(lse, lse_d, kTolerance<T>, "logsumexp");
      }
    }
  });
}

// Rows longer than a block of the online sum, whose maximum rises from block to block, starting
// with -inf.
TYPED_TEST(SoftmaxKernel, MaximumRisesAcrossBlocks) {
  using T = TypeParam;
  for_each_target([] {
    for (const T high : {T(5), T(2000), T(-3000)}) {
      const std::int64_t n = 9000;
      std::vector<T> x(static_cast<std::size_t>(n), -INFINITY);
      for (std::int64_t i = 2048; i < n; ++i)
        x[static_cast<std::size_t>(i)] = high * static_cast<T>(i / 2048);
      T lse;
      double expected;
      kernels::logsumexp(x.data(), &lse, 1, n);
      const auto xd = cast<double>(x);
      kernels::logsumexp_reference(xd.data(), &expected, 1, n);
      expect_close(std::vector<T>{lse}, {expected}, kTolerance<T>, "logsumexp");
    }
  });
}

TYPED_TEST(SoftmaxKernel, SpecialRows) {
  using T = TypeParam;
  const T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  for_each_target([&] {
    for (const std::int64_t n : {1, 3, 9, 40, 4099}) {
      for (const T special : {inf, -inf, nan}) {
        std::vector<T> x(static_cast<std::size_t>(n), special == -inf ? -inf : T(1)), y(x.size());
        x[static_cast<std::size_t>(n / 2)] = special;
        T lse;
        kernels::softmax_forward(x.data(), y.data(), 1, n);
        for (const T v : y) ASSERT_TRUE(std::isnan(v));
        kernels::log_softmax_forward(x.data(), y.data(), 1, n);
        for (const T v : y) ASSERT_TRUE(std::isnan(v));
        kernels::logsumexp(x.data(), &lse, 1, n);
        EXPECT_TRUE(std::isnan(special) ? std::isnan(lse) : lse == special) << lse;
      }
    }
  });
}

TYPED_TEST(SoftmaxKernel, SameBitsAtAnyThreadCount) {
  using T = TypeParam;
  const std::int64_t rows = 1001, n = 129;
  const auto x = random_values<T>(rows * n, 3, 1);
  expect_same_bits([&] {
    std::vector<T> y(x.size()), dx(x.size());
    kernels::softmax_forward(x.data(), y.data(), rows, n);
    kernels::softmax_backward(x.data(), y.data(), dx.data(), rows, n);
    kernels::log_softmax_forward(dx.data(), y.data(), rows, n);
    kernels::log_softmax_backward(x.data(), y.data(), dx.data(), rows, n);
    return dx;
  });
}

}  // namespace
}  // namespace lg::testing
