// test_index_kernels.cpp: gather, scatter, index_select, index_add, nonzero and index checks
// against loops over plain coordinates: every dimension and item size, operands larger than the
// index, repeats, empties, thread counts.
#include "lightgrad/kernels/index.h"

#include <algorithm>

#include "tests/cpp/kernel_testing.h"

namespace lg::testing {
namespace {

// Calls f(coordinates) in row-major order.
template <class F> void for_each_position(const Shape& shape, F f) {
  Shape at = Shape::filled(shape.rank(), 0);
  for (std::int64_t i = 0; i < shape.numel(); ++i) {
    f(at);
    for (int d = shape.rank(); d-- > 0;) {
      if (++at[d] < shape[d]) break;
      at[d] = 0;
    }
  }
}

std::size_t offset(const Shape& at, const Shape& strides) {
  std::int64_t sum = 0;
  for (int d = 0; d < at.rank(); ++d) sum += at[d] * strides[d];
  return static_cast<std::size_t>(sum);
}

std::vector<std::int64_t> random_indices(std::int64_t count, std::int64_t size, unsigned seed) {
  std::mt19937 engine(seed);
  std::vector<std::int64_t> index(static_cast<std::size_t>(count));
  for (auto& i : index) i = static_cast<std::int64_t>(engine() % static_cast<std::uint64_t>(size));
  return index;
}

template <class T> std::vector<T> counting(std::int64_t n) {
  std::vector<T> v(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = static_cast<T>(i * 2654435761u >> 3);
  return v;
}

// index [shape] points into `target`, whose sizes are shape's plus `extra`, and `size` along dim.
struct Case {
  Shape shape;
  int dim;
  std::int64_t size;
  std::int64_t extra = 0;

  Shape target() const {
    Shape t = shape;
    for (auto& s : t) s += extra;
    t[dim] = size;
    return t;
  }
};

const std::vector<Case> kCases = {
    {{5}, 0, 3},
    {{100003}, 0, 1000},
    {{7, 1}, 1, 65},
    {{300, 1}, 1, 65, 2},
    {{4, 5}, 0, 9},
    {{4, 5}, 1, 9, 1},
    {{3, 4, 5}, 0, 6},
    {{3, 4, 5}, 1, 6, 2},
    {{3, 4, 5}, 2, 6, 3},
    {{0, 4}, 0, 3},
    {{4, 0}, 0, 3},
    {{70, 300, 3}, 1, 11},
    {{900, 130}, 0, 40},
    {{2, 3, 2, 3, 2}, 2, 4, 1},
    {{40, 40, 40}, 0, 7, 1},
    {{3, 20000}, 0, 2, 1},
    {{2, 20000}, 1, 50000},
    {{1, 1, 1}, 1, 1},
};

template <class T> struct IndexMoves : ::testing::Test {};
using Units = ::testing::Types<std::uint8_t, std::uint16_t, std::uint32_t, std::uint64_t>;
TYPED_TEST_SUITE(IndexMoves, Units);
template <class T> struct IndexSums : ::testing::Test {};
using Types = ::testing::Types<float, double, std::int64_t>;
TYPED_TEST_SUITE(IndexSums, Types);

TYPED_TEST(IndexMoves, Gather) {
  using T = TypeParam;
  for (const Case& c : kCases) {
    SCOPED_TRACE(::testing::Message() << c.shape.to_string() << " dim " << c.dim);
    const Shape strides = contiguous_strides(c.target());
    const auto x = counting<T>(c.target().numel());
    const auto index = random_indices(c.shape.numel(), c.size, 1);
    std::vector<T> out(index.size()), expected;
    kernels::gather({c.shape, c.dim, strides}, sizeof(T), x.data(), index.data(), out.data());
    for_each_position(c.shape, [&](Shape at) {
      at[c.dim] = index[expected.size()];
      expected.push_back(x[offset(at, strides)]);
    });
    EXPECT_EQ(out, expected);
  }
}

TYPED_TEST(IndexMoves, ScatterLastWriteWins) {
  using T = TypeParam;
  for (const Case& c : kCases) {
    for (const std::int64_t src_extra : {0, 2, -1}) {  // -1: one value for all
      SCOPED_TRACE(::testing::Message()
                   << c.shape.to_string() << " dim " << c.dim << " src " << src_extra);
      const Shape strides = contiguous_strides(c.target());
      Shape src_shape = c.shape;
      for (auto& s : src_shape) s += std::max<std::int64_t>(src_extra, 0);
      const Shape src_strides =
          src_extra < 0 ? Shape::filled(c.shape.rank(), 0) : contiguous_strides(src_shape);
      const auto src = counting<T>(src_shape.numel() + 1);
      const auto index = random_indices(c.shape.numel(), c.size, 2);
      std::vector<T> dst(static_cast<std::size_t>(c.target().numel()), T(7)), expected = dst;
      kernels::scatter({c.shape, c.dim, strides, src_strides}, sizeof(T), dst.data(), index.data(),
                       src.data());
      std::size_t i = 0;
      for_each_position(c.shape, [&](Shape at) {
        const T v = src[offset(at, src_strides)];
        at[c.dim] = index[i++];
        expected[offset(at, strides)] = v;
      });
      EXPECT_EQ(dst, expected);
    }
  }
}

TYPED_TEST(IndexMoves, IndexSelect) {
  using T = TypeParam;
  struct Sizes {
    std::int64_t outer, n, m, inner;
  };
  for (const Sizes s : {Sizes{1, 10, 7, 1},
                        {3, 10, 40000, 1},
                        {2, 5, 9, 3},
                        {1, 65, 768, 128},
                        {2, 3, 4, 100003},
                        {0, 3, 4, 2},
                        {2, 3, 0, 5},
                        {2, 3, 0, 1},
                        {2, 3, 4, 0}}) {
    SCOPED_TRACE(::testing::Message() << s.outer << " " << s.n << " " << s.m << " " << s.inner);
    const auto x = counting<T>(s.outer * s.n * s.inner);
    const auto index = random_indices(s.m, s.n, 3);
    std::vector<T> out(static_cast<std::size_t>(s.outer * s.m * s.inner)), expected;
    kernels::index_select(sizeof(T), x.data(), index.data(), out.data(), s.outer, s.n, s.m,
                          s.inner);
    for (std::int64_t o = 0; o < s.outer; ++o) {
      for (const std::int64_t i : index) {
        const auto* row = x.data() + (o * s.n + i) * s.inner;
        expected.insert(expected.end(), row, row + s.inner);
      }
    }
    EXPECT_EQ(out, expected);
  }
}

// The same additions in the same order: equal to the bit.
TYPED_TEST(IndexSums, ScatterAdd) {
  using T = TypeParam;
  for (const Case& c : kCases) {
    SCOPED_TRACE(::testing::Message() << c.shape.to_string() << " dim " << c.dim);
    const Shape strides = contiguous_strides(c.target()), src_strides = contiguous_strides(c.shape);
    const auto src = random_values<T>(c.shape.numel(), 100, 4);
    const auto index = random_indices(c.shape.numel(), c.size, 5);
    const auto start = random_values<T>(c.target().numel(), 100, 6);
    auto expected = start;
    std::size_t i = 0;
    for_each_position(c.shape, [&](Shape at) {
      at[c.dim] = index[i];
      expected[offset(at, strides)] += src[i++];
    });
    expect_same_bits([&] {
      auto dst = start;
      kernels::scatter_add({c.shape, c.dim, strides, src_strides}, dst.data(), index.data(),
                           src.data());
      EXPECT_EQ(dst, expected);
      return dst;
    });
  }
}

TYPED_TEST(IndexSums, IndexAdd) {
  using T = TypeParam;
  struct Sizes {
    std::int64_t outer, n, m, inner;
  };
  for (const Sizes s : {Sizes{1, 10, 7, 1},
                        {3, 10, 40000, 1},
                        {2, 5, 9, 3},
                        {1, 65, 768, 384},
                        {2, 3, 4, 30011},
                        {0, 3, 4, 2},
                        {2, 3, 0, 5},
                        {2, 3, 4, 0}}) {
    SCOPED_TRACE(::testing::Message() << s.outer << " " << s.n << " " << s.m << " " << s.inner);
    const auto src = random_values<T>(s.outer * s.m * s.inner, 100, 7);
    const auto index = random_indices(s.m, s.n, 8);
    const auto start = random_values<T>(s.outer * s.n * s.inner, 100, 9);
    auto expected = start;
    for (std::int64_t o = 0; o < s.outer; ++o) {
      for (std::int64_t i = 0; i < s.m; ++i) {
        for (std::int64_t j = 0; j < s.inner; ++j) {
          expected[static_cast<std::size_t>(
              (o * s.n + index[static_cast<std::size_t>(i)]) * s.inner + j)] +=
              src[static_cast<std::size_t>((o * s.m + i) * s.inner + j)];
        }
      }
    }
    expect_same_bits([&] {
      auto dst = start;
      kernels::index_add(dst.data(), index.data(), src.data(), s.outer, s.n, s.m, s.inner);
      EXPECT_EQ(dst, expected);
      return dst;
    });
  }
}

TEST(IndexAdd, Int64Wraps) {
  constexpr std::int64_t max = std::numeric_limits<std::int64_t>::max();
  const std::int64_t index[] = {0, 0}, src[] = {max, 2};
  std::int64_t dst = 0;
  kernels::index_add(&dst, index, src, 1, 1, 2, 1);
  EXPECT_EQ(dst, std::numeric_limits<std::int64_t>::min() + 1);
}

TEST(IndexChecks, FirstBadPosition) {
  for (const std::int64_t count : {0, 1, 100, 65536, 65537, 300000}) {
    auto index = random_indices(count, 10, 10);
    EXPECT_EQ(kernels::check_indices(index.data(), count, 10), -1);
    for (const std::int64_t bad :
         {std::int64_t{10}, std::int64_t{-11}, std::numeric_limits<std::int64_t>::min()}) {
      for (const std::int64_t at : {count / 2, count - 1}) {
        if (count == 0) continue;
        auto broken = index;
        broken[static_cast<std::size_t>(at)] = broken.back() = bad;
        EXPECT_EQ(kernels::check_indices(broken.data(), count, 10), at);
      }
    }
    std::vector<std::int64_t> negative(index.size());
    for (std::size_t i = 0; i < index.size(); ++i) negative[i] = index[i] - (i % 2 ? 10 : 0);
    EXPECT_EQ(kernels::check_indices(negative.data(), count, 10), -1);
    kernels::wrap_negative(negative.data(), count, 10, negative.data());
    EXPECT_EQ(negative, index);
  }
  const std::int64_t zero = 0;
  EXPECT_EQ(kernels::check_indices(&zero, 1, 0), 0);
}

TEST(Nonzero, CoordinatesInRowMajorOrder) {
  for (const Shape& shape : {Shape{}, Shape{0}, Shape{1}, Shape{17}, Shape{3, 0, 2}, Shape{5, 7},
                             Shape{65537}, Shape{40, 50, 60}, Shape{2, 3, 2, 3, 2, 3, 2, 300}}) {
    for (const unsigned every : {1u, 3u, 1000u}) {
      SCOPED_TRACE(::testing::Message() << shape.to_string() << " " << every);
      std::mt19937 engine(11);
      std::vector<std::uint8_t> x(static_cast<std::size_t>(shape.numel()));
      for (auto& v : x) v = engine() % every == 0;
      const bool* flags = reinterpret_cast<const bool*>(x.data());
      std::vector<std::int64_t> expected;
      std::int64_t count = 0;
      std::size_t i = 0;
      for_each_position(shape, [&](const Shape& at) {
        if (!x[i++]) return;
        ++count;
        expected.insert(expected.end(), at.begin(), at.end());
      });
      EXPECT_EQ(kernels::count_nonzero(flags, shape.numel()), count);
      std::vector<std::int64_t> out(expected.size());
      kernels::nonzero(flags, shape, out.data());
      EXPECT_EQ(out, expected);
    }
  }
}

}  // namespace
}  // namespace lg::testing
