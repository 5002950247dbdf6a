// test_embedding.cpp: embedding kernels; each sum is taken in the order of the ids, so results are
// equal to the bit.
#include "lightgrad/kernels/embedding.h"

#include "tests/cpp/kernel_testing.h"

namespace lg::testing {
namespace {

template <class T> struct EmbeddingKernel : ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(EmbeddingKernel, Types);

TYPED_TEST(EmbeddingKernel, IsTheReference) {
  using T = TypeParam;
  for_each_target([] {
    for (const std::int64_t width : {0, 1, 3, 16, 63, 64, 65, 128, 300, 700}) {
      for (const std::int64_t n : {0, 1, 5, 1000}) {
        for (const std::int64_t padding : {-1, 3}) {
          SCOPED_TRACE(::testing::Message()
                       << n << " ids, width " << width << ", padding " << padding);
          const std::int64_t vocab = 13;
          const auto weight = random_values<T>(vocab * width, 1, 1),
                     g = random_values<T>(n * width, 1, 2);
          std::mt19937 engine(3);
          std::vector<std::int64_t> ids(static_cast<std::size_t>(n));
          for (auto& id : ids) id = engine() % vocab;
          std::vector<T> out(g.size());
          kernels::embedding_forward(weight.data(), ids.data(), out.data(), n, width);
          for (std::int64_t i = 0; i < n * width; ++i) {
            const std::int64_t id = ids[static_cast<std::size_t>(i / width)];
            ASSERT_EQ(out[static_cast<std::size_t>(i)],
                      weight[static_cast<std::size_t>(id * width + i % width)]);
          }
          auto expected = weight;  // backward adds to what is there
          kernels::embedding_backward_reference(g.data(), ids.data(), expected.data(), n, width,
                                                padding);
          expect_same_bits([&] {
            auto dweight = weight;
            kernels::embedding_backward(g.data(), ids.data(), dweight.data(), n, width, padding);
            EXPECT_TRUE(dweight == expected);
            return dweight;
          });
        }
      }
    }
  });
}

}  // namespace
}  // namespace lg::testing
