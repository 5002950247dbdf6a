// test_layer_norm.cpp: the layer norm kernels against plain loops in double.
#include "lightgrad/kernels/layer_norm.h"

#include "tests/cpp/kernel_testing.h"

namespace lg::testing {
namespace {

template <class T> struct LayerNormKernel : ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(LayerNormKernel, Types);

TYPED_TEST(LayerNormKernel, AgreesWithReference) {
  using T = TypeParam;
  for_each_target([] {
    for (const std::int64_t n : kRowSizes) {
      for (const std::int64_t rows : {0, 1, 7, 70}) {
        if (n == 0 || n * rows > 100000) continue;
        for (const int affine : {0, 1, 2, 3}) {
          SCOPED_TRACE(::testing::Message() << rows << " rows of " << n << ", affine " << affine);
          const auto x = random_values<T>(rows * n, 2, 1), g = random_values<T>(rows * n, 1, 2);
          const auto w = random_values<T>(n, 1, 3), b = random_values<T>(n, 1, 4);
          const auto xd = cast<double>(x), gd = cast<double>(g), wd = cast<double>(w),
                     bd = cast<double>(b);
          const bool with_w = affine & 1, with_b = affine & 2;
          const double eps = 1e-2;  // a row of one is all eps: its rstd must not magnify rounding
          const auto m = static_cast<std::size_t>(rows), k = static_cast<std::size_t>(n);
          std::vector<T> y(x.size()), mean(m), rstd(m), dx(x.size()), dw(k), db(k);
          std::vector<double> yd(x.size()), mean_d(m), rstd_d(m), dxd(x.size()), dwd(k), dbd(k);
          kernels::layer_norm_forward(x.data(), with_w ? w.data() : nullptr,
                                      with_b ? b.data() : nullptr, y.data(), mean.data(),
                                      rstd.data(), rows, n, eps);
          kernels::layer_norm_forward_reference(xd.data(), with_w ? wd.data() : nullptr,
                                                with_b ? bd.data() : nullptr, yd.data(),
                                                mean_d.data(), rstd_d.data(), rows, n, eps);
          expect_close(y, yd, 2 * kTolerance<T>, "y");
          expect_close(mean, mean_d, kTolerance<T>, "mean");
          expect_close(rstd, rstd_d, kTolerance<T>, "rstd");
          kernels::layer_norm_backward(g.data(), x.data(), with_w ? w.data() : nullptr, mean.data(),
                                       rstd.data(), dx.data(), false, dw.data(), db.data(), rows,
                                       n);
          kernels::layer_norm_backward_reference(gd.data(), xd.data(), with_w ? wd.data() : nullptr,
                                                 mean_d.data(), rstd_d.data(), dxd.data(), false,
                                                 dwd.data(), dbd.data(), rows, n);
          expect_close(dx, dxd, 8 * kTolerance<T>, "dx");
          expect_close(dw, dwd, 8 * kTolerance<T>, "dweight");
          expect_close(db, dbd, 8 * kTolerance<T>, "dbias");
          // One wanted at a time, dx over g.
          std::vector<T> only(k);
          auto in_place = g;
          kernels::layer_norm_backward<T>(g.data(), x.data(), with_w ? w.data() : nullptr,
                                          mean.data(), rstd.data(), nullptr, false, only.data(),
                                          nullptr, rows, n);
          EXPECT_TRUE(only == dw);
          kernels::layer_norm_backward<T>(g.data(), x.data(), with_w ? w.data() : nullptr,
                                          mean.data(), rstd.data(), nullptr, false, nullptr,
                                          only.data(), rows, n);
          EXPECT_TRUE(only == db);
          kernels::layer_norm_backward<T>(in_place.data(), x.data(), with_w ? w.data() : nullptr,
                                          mean.data(), rstd.data(), in_place.data(), false, nullptr,
                                          nullptr, rows, n);
          EXPECT_TRUE(in_place == dx);
          // dx added to what is there: the very bits of an addition.
          auto sum = x;
          kernels::layer_norm_backward<T>(g.data(), x.data(), with_w ? w.data() : nullptr,
                                          mean.data(), rstd.data(), sum.data(), true, nullptr,
                                          nullptr, rows, n);
          for (std::size_t i = 0; i < sum.size(); ++i) ASSERT_EQ(sum[i], x[i] + dx[i]);
        }
      }
    }
  });
}

TYPED_TEST(LayerNormKernel, LargeMeanKeepsItsDigits) {
  using T = TypeParam;
  for_each_target([] {
    for (const std::int64_t n : {5, 64, 1000}) {
      std::vector<T> x(static_cast<std::size_t>(n)), y(x.size());
      for (std::int64_t i = 0; i < n; ++i)
        x[static_cast<std::size_t>(i)] = T(4096) + static_cast<T>(i % 5) / 4;
      const auto xd = cast<double>(x);
      std::vector<double> yd(x.size());
      T mean, rstd;
      double mean_d, rstd_d;
      kernels::layer_norm_forward<T>(x.data(), nullptr, nullptr, y.data(), &mean, &rstd, 1, n,
                                     1e-5);
      kernels::layer_norm_forward_reference<double>(xd.data(), nullptr, nullptr, yd.data(), &mean_d,
                                                    &rstd_d, 1, n, 1e-5);
      expect_close(std::vector<T>{rstd}, {rstd_d}, kTolerance<T>, "rstd");
      expect_close(y, yd, sizeof(T) == 4 ? 1e-3 : 1e-12,
                   "y");  // float32 has 2.4e-4 of resolution at 4096
    }
  });
}

TYPED_TEST(LayerNormKernel, NaNAndInfinitySpreadOverTheirRowOnly) {
  using T = TypeParam;
  for_each_target([] {
    for (const T bad : {std::numeric_limits<T>::quiet_NaN(), std::numeric_limits<T>::infinity()}) {
      const std::int64_t n = 19;
      auto x = random_values<T>(2 * n, 1, 1);
      x[18] = bad;
      std::vector<T> y(x.size()), mean(2), rstd(2);
      kernels::layer_norm_forward<T>(x.data(), nullptr, nullptr, y.data(), mean.data(), rstd.data(),
                                     2, n, 1e-5);
      for (std::size_t i = 0; i < y.size(); ++i) EXPECT_EQ(std::isnan(y[i]), i < 19) << i;
    }
  });
}

TYPED_TEST(LayerNormKernel, SameBitsAtAnyThreadCount) {
  using T = TypeParam;
  const std::int64_t rows = 3001, n = 129;
  const auto x = random_values<T>(rows * n, 3, 1), g = random_values<T>(rows * n, 1, 2),
             w = random_values<T>(n, 1, 3);
  expect_same_bits([&] {
    std::vector<T> y(x.size()), mean(rows), rstd(rows), out(x.size() + 2 * n);
    kernels::layer_norm_forward<T>(x.data(), w.data(), nullptr, y.data(), mean.data(), rstd.data(),
                                   rows, n, 1e-5);
    T* dw = out.data() + rows * n;
    kernels::layer_norm_backward<T>(g.data(), x.data(), w.data(), mean.data(), rstd.data(),
                                    out.data(), false, dw, dw + n, rows, n);
    return out;
  });
}

}  // namespace
}  // namespace lg::testing
