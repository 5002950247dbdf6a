// test_peak.cpp: the kernels that measure the machine compute what they say.
#include "lightgrad/kernels/peak.h"

#include "tests/cpp/kernel_testing.h"

namespace lg::testing {
namespace {

TEST(Peak, KernelsComputeWhatTheySay) {
  for_each_target([] {
    float values[kernels::peak_fma_values] = {0, 1, 2, 3, -4, 5, 6, 7, 8, 9, 10, 11};
    const double flops = kernels::peak_fma(100, values);
    const double lanes = flops / (100 * 12 * 2);  // twelve multiply-adds a round
    EXPECT_EQ(lanes, std::floor(lanes));
    for (const float v : values) EXPECT_EQ(v, 2 * lanes);  // every lane has come to x = x / 2 + 1
    for (const std::int64_t n : kRowSizes) {
      std::vector<float> x(static_cast<std::size_t>(n)), y(x);
      for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 64);
      float sum = 0;
      for (const float v : x) sum += v;
      EXPECT_EQ(kernels::peak_read(x.data(), n), sum) << n;
      for (auto& v : y) v = 1;
      kernels::peak_update(x.data(), y.data(), n);
      for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(y[i], 2 * x[i] + 1) << n << ", " << i;
    }
  });
}

}  // namespace
}  // namespace lg::testing
