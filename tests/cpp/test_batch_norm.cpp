// test_batch_norm.cpp: the batch norm kernels against plain loops in double.
#include "lightgrad/kernels/batch_norm.h"

#include "tests/cpp/kernel_testing.h"

namespace lg::testing {
namespace {

// Everything that a call reads and writes.
template <class T> struct Numbers {
  std::vector<T> x, residual, g, y, dx, dresidual;
  std::vector<Wide<T>> weight, bias, mean, var, rstd, dweight, dbias;

  Numbers(std::int64_t images, std::int64_t channels, std::int64_t plane) {
    const std::int64_t n = images * channels * plane;
    const auto c = static_cast<std::size_t>(channels);
    x = random_values<T>(n, 2, 1);
    weight = random_values<Wide<T>>(channels, 1, 2);
    bias = random_values<Wide<T>>(channels, 1, 3);
    residual = random_values<T>(n, 1, 4);
    g = random_values<T>(n, 1, 5);
    mean = random_values<Wide<T>>(channels, 1, 6);
    var = rstd = dweight = dbias = std::vector<Wide<T>>(c, Wide<T>(2));
    y = dx = dresidual = std::vector<T>(x.size());
  }
  kernels::BatchNorm<T> arguments(std::int64_t images, std::int64_t channels, std::int64_t plane,
                                  unsigned options) {
    return {images,
            channels,
            plane,
            x.data(),
            options & 1 ? weight.data() : nullptr,
            options & 2 ? bias.data() : nullptr,
            options & 4 ? residual.data() : nullptr,
            (options & 8) != 0,
            (options & 16) != 0,
            1e-2,
            mean.data(),
            var.data(),
            rstd.data(),
            y.data()};
  }
};

template <class T> struct BatchNormKernel : ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(BatchNormKernel, Types);

TYPED_TEST(BatchNormKernel, AgreesWithReference) {
  using T = TypeParam;
  for_each_target([] {
    for (const std::int64_t plane : {1, 3, 16, 17, 64, 100, 1031}) {
      for (unsigned options = 0; options < 32; ++options) {
        SCOPED_TRACE(::testing::Message() << "plane " << plane << ", options " << options);
        Numbers<T> a(5, 3, plane);
        Numbers<double> e(5, 3, plane);
        for (auto [to, from] : {std::pair(&e.x, &a.x),
                                {&e.weight, &a.weight},
                                {&e.bias, &a.bias},
                                {&e.residual, &a.residual},
                                {&e.g, &a.g},
                                {&e.mean, &a.mean}})
          *to = cast<double>(*from);
        const auto b = a.arguments(5, 3, plane, options);
        const auto bd = e.arguments(5, 3, plane, options);
        kernels::batch_norm_forward(b);
        kernels::batch_norm_forward_reference(bd);
        expect_close(a.y, e.y, 4 * kTolerance<T>, "y");
        expect_close(a.mean, e.mean, kTolerance<T>, "mean");
        expect_close(a.var, e.var, kTolerance<T>, "var");
        std::copy(a.y.begin(), a.y.end(), e.y.begin());  // the same decisions of relu
        kernels::batch_norm_backward(b, a.g.data(), a.dx.data(), a.dweight.data(), a.dbias.data(),
                                     a.dresidual.data());
        kernels::batch_norm_backward_reference(bd, e.g.data(), e.dx.data(), e.dweight.data(),
                                               e.dbias.data(), e.dresidual.data());
        expect_close(a.dx, e.dx, 8 * kTolerance<T>, "dx");
        expect_close(a.dweight, e.dweight, 30 * kTolerance<T>, "dweight");
        expect_close(a.dbias, e.dbias, 30 * kTolerance<T>, "dbias");
        expect_close(a.dresidual, e.dresidual, 0, "dresidual");
        // One wanted at a time.
        auto dx = a.dx, dweight = a.dweight;
        kernels::batch_norm_backward<T>(b, a.g.data(), dx.data(), nullptr, nullptr, nullptr);
        kernels::batch_norm_backward<T>(b, a.g.data(), nullptr, dweight.data(), nullptr, nullptr);
        EXPECT_TRUE(dx == a.dx && dweight == a.dweight);
      }
    }
  });
}

// float32's numbers, rounded where they are of x's size.
TEST(BatchNormBfloat16, IsFloat32Rounded) {
  for_each_target([] {
    for (const std::int64_t plane : {1, 3, 16, 17, 64, 100, 1031}) {
      for (unsigned options = 0; options < 32; ++options) {
        SCOPED_TRACE(::testing::Message() << "plane " << plane << ", options " << options);
        Numbers<bfloat16> a(5, 3, plane);
        Numbers<float> e(5, 3, plane);
        for (auto [to, from] : {std::pair(&e.x, &a.x), {&e.residual, &a.residual}, {&e.g, &a.g}})
          *to = cast<float>(*from);
        const auto call = [&](auto& n) {
          const auto b = n.arguments(5, 3, plane, options);
          kernels::batch_norm_forward(b);
          kernels::batch_norm_backward(b, n.g.data(), n.dx.data(), n.dweight.data(), n.dbias.data(),
                                       n.dresidual.data());
        };
        call(a);
        call(e);
        const auto rounded = [](const std::vector<float>& v) {
          return cast<float>(cast<bfloat16>(v));
        };
        EXPECT_TRUE(cast<float>(a.y) == rounded(e.y));
        EXPECT_TRUE(cast<float>(a.dx) == rounded(e.dx));
        EXPECT_TRUE(cast<float>(a.dresidual) == rounded(e.dresidual));
        EXPECT_TRUE(a.mean == e.mean && a.var == e.var && a.rstd == e.rstd);
        EXPECT_TRUE(a.dweight == e.dweight && a.dbias == e.dbias);
      }
    }
  });
}

TEST(BatchNormBfloat16, RoundsAsBfloat16Does) {  // ties, NaN, what rounds to infinity
  for_each_target([] {
    const float inf = std::numeric_limits<float>::infinity();
    for (const float v : {1.00390625f, 1.01171875f, 1.0f, -1.0f, 3.3961776e38f, inf, -inf,
                          std::numeric_limits<float>::quiet_NaN(), 1e-40f}) {
      const std::vector<bfloat16> x(5, bfloat16(0));
      std::vector<bfloat16> y(5);
      float mean = 0, var = 1, rstd, bias = v;
      kernels::batch_norm_forward<bfloat16>({1, 1, 5, x.data(), nullptr, &bias, nullptr, false,
                                             false, 0, &mean, &var, &rstd, y.data()});
      for (const bfloat16 r : y) EXPECT_EQ(r.bits, bfloat16(v).bits) << v;
    }
  });
}

TYPED_TEST(BatchNormKernel, LargeMean) {
  using T = TypeParam;
  Numbers<T> a(4, 1, 1000);
  for (auto& x : a.x) x += static_cast<T>(sizeof(T) == 4 ? 1e4 : 1e10);
  Numbers<double> e(4, 1, 1000);
  long double sum = 0, squares = 0;
  for (const T x : a.x) sum += x;
  for (const T x : a.x) squares += (x - sum / 4000) * (x - sum / 4000);
  kernels::batch_norm_forward(a.arguments(4, 1, 1000, 16));
  EXPECT_NEAR(static_cast<double>(a.var[0] / (squares / 4000)), 1, 1e-6);
}

TYPED_TEST(BatchNormKernel, SameBitsAtAnyNumberOfThreads) {
  using T = TypeParam;
  Numbers<T> a(16, 24, 200);
  const auto b = a.arguments(16, 24, 200, 31);
  expect_same_bits([&] {
    kernels::batch_norm_forward(b);
    return a.y;
  });
  expect_same_bits([&] {
    kernels::batch_norm_backward(b, a.g.data(), a.dx.data(), a.dweight.data(), a.dbias.data(),
                                 a.dresidual.data());
    auto all = a.dx;
    all.insert(all.end(), a.dweight.begin(), a.dweight.end());
    return all;
  });
}

}  // namespace
}  // namespace lg::testing
