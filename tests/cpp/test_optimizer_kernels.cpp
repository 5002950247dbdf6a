// test_optimizer_kernels.cpp: optimizer steps against plain loops in double, ten steps each, every
// option.
#include "lightgrad/kernels/optimizer.h"

#include <bit>

#include "tests/cpp/kernel_testing.h"

namespace lg::testing {
namespace {

using namespace kernels;  // NOLINT: a test of one header

TEST(RoundByChance, IsRightInTheMean) {
  for (const float v :
       {1.0f, -3.14159f, 1e-30f, 65535.99f, 0x1.000002p0f, -0x1.fffffep5f, 1e-40f}) {
    double sum = 0;
    for (std::uint32_t chance = 0; chance < 65536; ++chance)
      sum += static_cast<float>(round_by_chance(v, static_cast<std::uint16_t>(chance)));
    EXPECT_NEAR(sum / 65536, v, 1e-12 * std::abs(v)) << v;  // all chances together: the number
  }
  for (const std::uint16_t chance : {0, 1, 65535}) {
    for (const float v :
         {0.0f, -1.5f, float(INFINITY), -float(INFINITY)})  // those that bfloat16 has
      EXPECT_EQ(static_cast<float>(round_by_chance(v, chance)), v);
    EXPECT_TRUE(
        std::isnan(static_cast<float>(round_by_chance(std::bit_cast<float>(0x7fffffffu), chance))));
  }
}

template <class T> struct OptimizerKernel : ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(OptimizerKernel, Types);

// Relative to the parameter: 1e-6 over ten steps is what design asks of float32.
template <class T>
void expect_parameters(const std::vector<T>& p, const std::vector<double>& expected) {
  expect_close(p, expected, sizeof(T) == 4 ? 1e-6 : 1e-14, "p");
}

TYPED_TEST(OptimizerKernel, SgdAgreesWithReference) {
  using T = TypeParam;
  for_each_target([] {
    for (const std::int64_t n : {0, 1, 3, 8, 17, 67, 5003}) {
      for (int variant = 0; variant < 32; ++variant) {
        SCOPED_TRACE(::testing::Message() << "n " << n << " variant " << variant);
        SgdOptions o;
        o.lr = 0.1;
        o.momentum = variant & 1 ? 0.9 : 0;
        o.dampening = variant & 2 ? 0.3 : 0;
        o.weight_decay = variant & 4 ? 0.05 : 0;
        o.nesterov = variant & 8;
        o.maximize = variant & 16;
        o.grad_scale = variant & 4 ? 0.5 : 1;
        auto p = random_values<T>(n, 1, 1);
        auto pd = cast<double>(p);
        std::vector<T> buffer(p.size(), T(NAN));  // the first step must not read it
        std::vector<double> buffer_d(p.size());
        for (int step = 0; step < 10; ++step) {
          o.first_step = step == 0;
          const auto g = random_values<T>(n, 1, 10 + static_cast<unsigned>(step));
          sgd_step(o, p.data(), g.data(), o.momentum != 0 ? buffer.data() : nullptr, n);
          sgd_step_reference(o, pd.data(), cast<double>(g).data(), buffer_d.data(), n);
        }
        expect_parameters(p, pd);
      }
    }
  });
}

TYPED_TEST(OptimizerKernel, AdamAgreesWithReference) {
  using T = TypeParam;
  for_each_target([] {
    for (const std::int64_t n : {0, 1, 3, 8, 17, 67, 5003}) {
      for (int variant = 0; variant < 16; ++variant) {
        SCOPED_TRACE(::testing::Message() << "n " << n << " variant " << variant);
        AdamOptions o;
        o.lr = 1e-2;
        o.weight_decay = variant & 1 ? 0.1 : 0;
        o.decoupled = variant & 2;
        o.amsgrad = variant & 4;
        o.maximize = variant & 8;
        o.grad_scale = variant & 1 ? 0.25 : 1;
        auto p = random_values<T>(n, 1, 1);
        auto pd = cast<double>(p);
        std::vector<T> m(p.size()), v(p.size()), vmax(p.size());
        std::vector<double> md(p.size()), vd(p.size()), vmax_d(p.size());
        for (int step = 1; step <= 10; ++step) {
          o.bias_correction1 = 1 - std::pow(o.beta1, step);
          o.bias_correction2 = 1 - std::pow(o.beta2, step);
          const auto g =
              random_values<T>(n, step % 3 == 0 ? 3 : 1, 10 + static_cast<unsigned>(step));
          adam_step(o, p.data(), g.data(), m.data(), v.data(), o.amsgrad ? vmax.data() : nullptr,
                    n);
          adam_step_reference(o, pd.data(), cast<double>(g).data(), md.data(), vd.data(),
                              vmax_d.data(), n);
        }
        expect_parameters(p, pd);
        expect_close(m, md, kTolerance<T>, "m");
        expect_close(v, vd, kTolerance<T>, "v");
        if (o.amsgrad) expect_close(vmax, vmax_d, kTolerance<T>, "vmax");
      }
    }
  });
}

// Where the kernel and the reference differ in the last bits before rounding they may round apart,
// which is rare.
struct Rounded {
  std::int64_t n = 0, apart = 0;
  void add(const std::vector<bfloat16>& a, const std::vector<bfloat16>& b) {
    for (std::size_t i = 0; i < a.size(); ++i) apart += a[i].bits != b[i].bits;
    n += static_cast<std::int64_t>(a.size());
  }
};

TEST(OptimizerKernelBfloat16, AgreesWithReference) {
  for_each_target([] {
    Rounded all;
    for (const std::int64_t n : {0, 1, 3, 8, 17, 67, 1023, 1024, 5003}) {
      for (int variant = 0; variant < 8; ++variant) {
        SCOPED_TRACE(::testing::Message() << "n " << n << " variant " << variant);
        AdamOptions adam;
        adam.lr = 1e-2;
        adam.weight_decay = variant & 1 ? 0.1 : 0;
        adam.decoupled = variant & 2;
        adam.amsgrad = variant & 4;
        SgdOptions sgd;
        sgd.lr = 1e-2;
        sgd.momentum = variant & 1 ? 0.9 : 0;
        sgd.nesterov = variant & 2;
        sgd.maximize = variant & 4;
        const auto count = static_cast<std::size_t>(n);
        struct Side {
          std::vector<float> p, q;
          std::vector<bfloat16> m, v, vmax, buffer;
        };
        Side kernel{random_values<float>(n, 1, 1), random_values<float>(n, 1, 2),
                    std::vector<bfloat16>(count),  std::vector<bfloat16>(count),
                    std::vector<bfloat16>(count),  std::vector<bfloat16>(count)};
        Side plain = kernel;
        for (int step = 1; step <= 5; ++step) {
          adam.bias_correction1 = 1 - std::pow(adam.beta1, step);
          adam.bias_correction2 = 1 - std::pow(adam.beta2, step);
          sgd.first_step = step == 1;
          const Stream rounding{17, static_cast<std::uint64_t>(step)};
          const auto g = random_values<float>(n, 1, 10 + static_cast<unsigned>(step));
          const AdamTensor<float, bfloat16> a{kernel.p.data(), g.data(),           kernel.m.data(),
                                              kernel.v.data(), kernel.vmax.data(), n,
                                              rounding};
          const SgdTensor<float, bfloat16> s{kernel.q.data(), g.data(), kernel.buffer.data(), n,
                                             rounding};
          adam_steps_bfloat16(adam, {&a, 1});
          sgd_steps_bfloat16(sgd, {&s, 1});
          adam_step_reference(adam, plain.p.data(), g.data(), plain.m.data(), plain.v.data(),
                              plain.vmax.data(), n, rounding);
          sgd_step_reference(sgd, plain.q.data(), g.data(), plain.buffer.data(), n, rounding);
        }
        expect_close(kernel.p, cast<double>(plain.p), 1e-3, "p");  // a unit of m at some elements
        expect_close(kernel.q, cast<double>(plain.q), 1e-3, "q");
        all.add(kernel.m, plain.m);
        all.add(kernel.v, plain.v);
        all.add(kernel.vmax, plain.vmax);
        all.add(kernel.buffer, plain.buffer);
      }
    }
    EXPECT_LT(all.apart, all.n / 500);
  });
}

TEST(OptimizerKernelBfloat16, ManyTensorsAreOneByOne) {
  const std::vector<std::int64_t> sizes = {5, 0, 40000, 1, 16384, 16383, 7, 100000, 3};
  std::int64_t total = 0;
  for (const auto n : sizes) total += n;
  const auto g = random_values<float>(total, 1, 2), start = random_values<float>(total, 1, 1);
  AdamOptions adam;
  SgdOptions sgd;
  sgd.momentum = 0.9;
  sgd.first_step = true;
  const auto run = [&](bool together) {
    auto p = start;
    std::vector<bfloat16> state(3 * p.size());
    std::vector<AdamTensor<float, bfloat16>> adams;
    std::vector<SgdTensor<float, bfloat16>> sgds;
    std::int64_t at = 0;
    for (const auto n : sizes) {
      bfloat16* s = state.data() + 3 * at;
      const Stream rounding{static_cast<std::uint64_t>(n), 3};
      adams.push_back({p.data() + at, g.data() + at, s, s + n, nullptr, n, rounding});
      sgds.push_back({p.data() + at, g.data() + at, s + 2 * n, n, rounding});
      at += n;
    }
    if (together) {
      adam_steps_bfloat16(adam, adams);
      sgd_steps_bfloat16(sgd, sgds);
    } else {
      for (const auto& t : adams) adam_steps_bfloat16(adam, {&t, 1});
      for (const auto& t : sgds) sgd_steps_bfloat16(sgd, {&t, 1});
    }
    std::vector<std::uint16_t> bits;
    for (const bfloat16 b : state) bits.push_back(b.bits);
    for (const float v : p) {
      bits.push_back(static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(v)));
      bits.push_back(static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(v) >> 16));
    }
    return bits;
  };
  expect_same_bits([&] { return run(true); });
  EXPECT_TRUE(run(true) == run(false));
}

// The second moment of a gradient that does not change: rounded to the nearest it would stop where
// a step of (1 - beta2) is less than half a unit.
TEST(OptimizerKernelBfloat16, SmallChangesAreNotLost) {
  constexpr std::int64_t n = 4096;
  AdamOptions o;
  o.lr = 0;
  const std::vector<float> g(n, 1.0f);
  std::vector<float> p(n);
  std::vector<bfloat16> m(n), v(n);
  for (std::uint64_t step = 1; step <= 3000; ++step) {
    const AdamTensor<float, bfloat16> t{p.data(), g.data(), m.data(), v.data(),
                                        nullptr,  n,        {1, step}};
    adam_steps_bfloat16(o, {&t, 1});
  }
  double mean = 0;
  for (const bfloat16 b : v) mean += static_cast<float>(b) / n;
  EXPECT_NEAR(mean, 1 - std::pow(0.999, 3000), 2e-3);  // to the nearest: 0.25
}

// Many tensors in one call give the bits of one call each, at any thread count.
TYPED_TEST(OptimizerKernel, ManyTensorsAreOneByOne) {
  using T = TypeParam;
  const std::vector<std::int64_t> sizes = {5, 0, 40000, 1, 16384, 16383, 0, 7, 100000, 3};
  std::int64_t total = 0;
  for (const auto n : sizes) total += n;
  const auto g = random_values<T>(total, 1, 2), start = random_values<T>(total, 1, 1);
  AdamOptions adam;
  adam.bias_correction1 = 0.1;
  adam.bias_correction2 = 0.001;
  SgdOptions sgd;
  sgd.momentum = 0.9;
  sgd.first_step = true;
  const auto run = [&](bool together) {
    auto p = start;
    std::vector<T> m(p.size()), v(p.size());
    std::vector<AdamTensor<T>> adams;
    std::vector<SgdTensor<T>> sgds;
    std::int64_t at = 0;
    for (const auto n : sizes) {
      adams.push_back({p.data() + at, g.data() + at, m.data() + at, v.data() + at, nullptr, n});
      sgds.push_back({p.data() + at, g.data() + at, m.data() + at, n});
      at += n;
    }
    if (together) {
      adam_steps<T>(adam, adams);
      sgd_steps<T>(sgd, sgds);
    } else {
      for (const auto& t : adams) adam_step(adam, t.p, t.g, t.m, t.v, t.vmax, t.n);
      for (const auto& t : sgds) sgd_step(sgd, t.p, t.g, t.momentum_buffer, t.n);
    }
    return p;
  };
  expect_same_bits([&] { return run(true); });
  EXPECT_TRUE(run(true) == run(false));
  adam_steps<T>(adam, {});
  sgd_steps<T>(sgd, {});
}

TYPED_TEST(OptimizerKernel, SumOfSquaresAndScale) {
  using T = TypeParam;
  const auto sum_of = [](const std::vector<T>& x) {
    const std::span<const T> all(x);
    return sum_of_squares<T>({&all, 1});
  };
  for_each_target([&] {
    for (const std::int64_t n : {0, 1, 7, 64, 16384, 16385, 100003}) {
      auto x = random_values<T>(n, 1, 1);
      long double expected = 0;
      for (const T v : x) expected += static_cast<long double>(v) * static_cast<long double>(v);
      EXPECT_NEAR(sum_of(x), static_cast<double>(expected), 1e-14 * static_cast<double>(expected));
      const auto before = x;
      const std::span<T> all(x);
      scale_inplace<T>({&all, 1}, T(3));
      for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(x[i], before[i] * 3);
    }
    const std::vector<T> huge(3,
                              sizeof(T) == 4 ? T(1e30) : T(1e100));  // its squares overflow float32
    const double one = static_cast<double>(huge[0]);
    EXPECT_DOUBLE_EQ(sum_of(huge), 3 * one * one);
    const std::vector<T> bad = {1, T(NAN), 2};
    EXPECT_TRUE(std::isnan(sum_of(bad)));
  });
  // Many tensors are as one: chunks are cut through all of them.
  const auto x = random_values<T>(300007, 1, 1);
  std::vector<std::span<const T>> parts;
  std::vector<T> scaled = x;
  std::vector<std::span<T>> targets;
  for (std::size_t at = 0, n = 0; at < x.size(); at += n) {
    n = std::min<std::size_t>(parts.size() * 1000, x.size() - at);
    parts.push_back(std::span(x).subspan(at, n));
    targets.push_back(std::span(scaled).subspan(at, n));
  }
  expect_same_bits([&] { return std::vector<double>{sum_of_squares<T>(parts)}; });
  EXPECT_NEAR(sum_of_squares<T>(parts) / sum_of(x), 1, 1e-14);
  scale_inplace<T>(targets, T(3));
  for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(scaled[i], x[i] * 3);
}

}  // namespace
}  // namespace lg::testing
