// test_dropout.cpp: the dropout kernel makes the same choices as its scalar reference, to the bit.
#include "lightgrad/kernels/dropout.h"

#include "tests/cpp/kernel_testing.h"

namespace lg::testing {
namespace {

template <class T> struct DropoutKernel : ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(DropoutKernel, Types);

TYPED_TEST(DropoutKernel, IsTheReference) {
  using T = TypeParam;
  for_each_target([] {
    for (const std::int64_t n : {0, 1, 3, 4, 5, 31, 1023, 1024, 1025, 8191, 8192, 8193, 50000}) {
      for (const double p : {0.0, 0.1, 0.5, 0.999, 1.0}) {
        SCOPED_TRACE(::testing::Message() << "n " << n << " p " << p);
        const auto x = random_values<T>(n, 1, 1);
        std::vector<T> expected(x.size());
        const Stream stream{0x123456789abcdef0, 0xfedcba9876543210};
        kernels::dropout_reference(x.data(), expected.data(), n, p, stream);
        auto y = x;
        kernels::dropout(y.data(), y.data(), n, p, stream);
        ASSERT_TRUE(y == expected);
      }
    }
  });
}

TYPED_TEST(DropoutKernel, KeepsItsShare) {
  using T = TypeParam;
  const std::vector<T> x(200000, T(1));
  expect_same_bits([&] {
    std::vector<T> y(x.size());
    kernels::dropout(x.data(), y.data(), 200000, 0.3, Stream{1, 2});
    double sum = 0;
    for (const T v : y) sum += static_cast<double>(v);
    EXPECT_NEAR(sum / 200000, 1, 0.01);
    return y;
  });
}

}  // namespace
}  // namespace lg::testing
