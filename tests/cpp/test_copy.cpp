// test_copy.cpp: block moves against plain loops, on every SIMD target; copies and pointwise
// operations over operands that run along different dimensions, against the same made contiguous.
#include "lightgrad/kernels/copy.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "lightgrad/kernels/stream.h"
#include "lightgrad/lightgrad.h"
#include "tests/cpp/kernel_testing.h"

namespace lg::testing {
namespace {

using kernels::Block;

// Numbers that every dtype holds and that no bit pattern of which is alike, in memory of `type`.
std::vector<char> numbers(DType type, std::int64_t n) {
  std::vector<char> bytes(static_cast<std::size_t>(n) * size_of(type) + 8);
  std::mt19937 engine(3);
  visit(type, [&]<class T>(T) {
    T* to = reinterpret_cast<T*>(bytes.data());
    for (std::int64_t i = 0; i < n; ++i)
      to[i] = convert<T>(static_cast<float>(engine() % 120) + 1.25f);
  });
  return bytes;
}

// Moves with the kernel and with the reference into memory of the same garbage: all of it must
// agree, what lies between the elements too.
void check_move(DType to, DType from, std::int64_t rows, std::int64_t n, bool across,
                std::int64_t to_step, std::int64_t from_step) {
  const std::int64_t from_row = across           ? 1
                                : from_step == 0 ? 1
                                                 : n * from_step + 1,
                     from_column = across ? rows + 3 : from_step;
  const std::int64_t to_row = n * to_step + 2;
  const auto source = numbers(from, 1 + rows * from_row + n * from_column);
  std::vector<char> got(static_cast<std::size_t>(2 + rows * to_row) * size_of(to), 7), want = got;
  const auto block = [&](std::vector<char>& bytes) {  // one element in: aligned to nothing more
    return Block{bytes.data() + size_of(to),
                 source.data() + size_of(from),
                 rows,
                 n,
                 to_row,
                 to_step,
                 from_row,
                 from_column};
  };
  kernels::block_mover(to, from)(block(got));
  kernels::move_block_reference(to, from, block(want));
  EXPECT_TRUE(got == want) << name_of(from) << " to " << name_of(to) << " [" << rows << ", " << n
                           << "], across " << across << ", steps " << from_step << ", " << to_step;
}

TEST(CopyKernel, BlocksAgreeWithReference) {
  const std::vector<std::int64_t> sizes = {0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 67, 130};
  for_each_target([&] {
    for (int to = 0; to < dtype_count; ++to) {
      for (int from = 0; from < dtype_count; ++from) {
        const auto t = static_cast<DType>(to), f = static_cast<DType>(from);
        for (const std::int64_t n : sizes) {
          for (const std::int64_t rows : {1, 3, 16, 17, 40}) {
            check_move(t, f, rows, n, false, 1, 1);
            check_move(t, f, rows, n, true, 1, 1);
          }
          for (const std::int64_t step : {0, 2, 3}) check_move(t, f, 2, n, false, 1, step);
          check_move(t, f, 2, n, false, 2, 1);
          check_move(t, f, 5, n, true, 2, 1);
        }
      }
    }
  });
}

TEST(CopyKernel, HalvesOfEveryKind) {
  std::vector<float> x;
  std::vector<float16> h;
  for (int i = 0; i < 1 << 16; ++i) {
    float16 v;
    v.bits = static_cast<std::uint16_t>(i);
    if ((i & 0x7c00) == 0x7c00 && (i & 0x3ff)) continue;  // NaN: its payload is nobody's business
    h.push_back(v);
    const float f = static_cast<float>(v);
    for (const float near :
         {f, std::nextafter(f, INFINITY), std::nextafter(f, -INFINITY), f * 1.00048828125f})
      x.push_back(near);
  }
  const auto count = [](const auto& v) { return static_cast<std::int64_t>(v.size()); };
  for_each_target([&] {
    std::vector<float16> narrow(x.size()), expected(x.size());
    std::vector<float> wide(h.size());
    kernels::convert_run(DType::float16, narrow.data(), 1, DType::float32, x.data(), 1, count(x));
    kernels::convert_run(DType::float32, wide.data(), 1, DType::float16, h.data(), 1, count(h));
    for (std::size_t i = 0; i < x.size(); ++i)
      ASSERT_EQ(narrow[i].bits, float16(x[i]).bits) << x[i];
    for (std::size_t i = 0; i < h.size(); ++i) ASSERT_EQ(wide[i], static_cast<float>(h[i]));
    const float nan = NAN;
    float16 kept;
    kernels::convert_run(DType::float16, &kept, 1, DType::float32, &nan, 1, 1);
    EXPECT_TRUE(std::isnan(static_cast<float>(kept)));
  });
}

std::string text(const Shape& shape) {
  std::string s;
  for (const std::int64_t size : shape) s += std::to_string(size) + " ";
  return s;
}

// Shapes around the edges of tiles (16 and 64), of blocks (128) and of threads' pieces.
const std::vector<Shape> kShapes = {{1, 1},      {2, 3},     {15, 17},   {16, 16},
                                    {64, 65},    {129, 7},   {130, 257}, {3, 40, 5},
                                    {2, 33, 17}, {5, 1, 70}, {0, 4},     {2, 3, 4, 5}};

std::vector<Shape> orders_of(int rank) {
  Shape order;
  for (int i = 0; i < rank; ++i) order.push_back(i);
  std::vector<Shape> all;
  do all.push_back(order);
  while (std::next_permutation(&order[0], &order[0] + rank));
  return all;
}

TEST(CopyKernel, PermutedCopies) {
  for (const Shape& shape : kShapes) {
    for (const DType type :
         {DType::float32, DType::float64, DType::bfloat16, DType::bool_, DType::int32}) {
      const Tensor x = reshape(to(remainder(arange(shape.numel()), 119), type), shape);
      for (const Shape& order : orders_of(shape.rank())) {
        const Tensor p = permute(x, order), y = contiguous(p);
        for (std::int64_t i = 0; i < y.numel(); ++i) {
          std::int64_t rest = i, offset = 0;
          for (int d = y.rank(); d-- > 0; rest /= y.shape()[d])
            offset += rest % y.shape()[d] * p.strides()[d];
          ASSERT_EQ(to(y, DType::float64).data<double>()[i],
                    to(x, DType::float64).data<double>()[offset])
              << text(shape) << ", order " << text(order);
          if (y.numel() > 500) i += 97;
        }
      }
    }
  }
}

bool same_bits(const Tensor& a, const Tensor& b) {
  const Tensor x = contiguous(a), y = contiguous(b);
  return x.shape() == y.shape() && x.dtype() == y.dtype() &&
         std::memcmp(x.raw_data(), y.raw_data(),
                     static_cast<std::size_t>(x.numel()) * size_of(x.dtype())) == 0;
}

TEST(CopyKernel, PointwiseOverAnyStridesEqualsContiguous) {
  for (const Shape& shape : kShapes) {
    const int r = shape.rank();
    for (const DType type : {DType::float32, DType::float64, DType::bfloat16, DType::int32}) {
      const auto made = [&](const Shape& s, int seed) {
        return reshape(to(remainder(arange(s.numel()) * 37 + seed, 211), type), s);
      };
      const Tensor x = made(shape, 1);
      for (const Shape& order : orders_of(r)) {
        Shape back = order;  // memory in another order, seen in this shape
        for (int d = 0; d < r; ++d) back[static_cast<int>(order[d])] = d;
        Shape memory = shape;
        for (int d = 0; d < r; ++d) memory[d] = shape[static_cast<int>(order[d])];
        const Tensor y = permute(made(memory, 5), back);
        ASSERT_TRUE(same_bits(x * y, x * contiguous(y)))
            << text(shape) << ", order " << text(order);
        ASSERT_TRUE(same_bits(y - x, contiguous(y) - x))
            << text(shape) << ", order " << text(order);
        ASSERT_TRUE(same_bits(sin(y), sin(contiguous(y))))
            << text(shape) << ", order " << text(order);
        const Tensor row = made({shape[r - 1]}, 3), column = unsqueeze(select(y, r - 1, 0), r - 1);
        if (shape.numel() == 0) continue;
        ASSERT_TRUE(same_bits(where(y > row, column, x),
                              where(contiguous(y) > row, contiguous(column), x)));
        const Tensor z = x.copy();
        mul_(permute(z, order), permute(y, order));  // in place, along other dimensions
        ASSERT_TRUE(same_bits(z, x * y)) << text(shape) << ", order " << text(order);
      }
    }
  }
}

TEST(CopyKernel, StreamedBytesAreThoseCopied) {
  std::vector<std::uint8_t> from(600), to(900), want(900);
  for (std::size_t i = 0; i < from.size(); ++i) from[i] = static_cast<std::uint8_t>(i * 7 + 1);
  for_each_target([&] {
    for (const std::int64_t bytes : {0, 1, 4, 63, 64, 65, 127, 128, 192, 500}) {
      for (const std::int64_t at : {0, 1, 4, 60, 63, 64, 100}) {
        std::fill(to.begin(), to.end(), std::uint8_t{9});
        want = to;
        std::copy_n(from.data() + 3, bytes, want.data() + at);
        kernels::stream_copy(to.data() + at, from.data() + 3, bytes);
        kernels::stream_fence();
        EXPECT_TRUE(to == want) << bytes << " bytes at " << at;
      }
    }
  });
}

// Results beyond kStreamBytes: as a whole, by rows that broadcast, and by rows that are strided.
TEST(CopyKernel, LargeResultsAreStreamed) {
  const std::int64_t rows = 1031, n = kernels::kStreamBytes / 4 / 1024 + 7;
  const Tensor x = reshape(to(remainder(arange(rows * n), 1021), DType::float32), {rows, n});
  const Tensor row = to(arange(n), DType::float32),
               column = reshape(to(arange(rows), DType::float32), {rows, 1});
  const Tensor wide = Tensor::empty({rows, n + 3}, DType::float32);
  const Tensor part = slice(wide, 1, 1, n + 1);
  fill_(wide, -1);
  add_(part, x + 2);
  const Tensor a = x + 2, b = x * row, c = column - x;
  const auto* px = x.data<float>();
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t i = 0; i < n; ++i) {
      const float v = px[r * n + i];
      ASSERT_EQ(a.data<float>()[r * n + i], v + 2);
      ASSERT_EQ(b.data<float>()[r * n + i], v * static_cast<float>(i));
      ASSERT_EQ(c.data<float>()[r * n + i], static_cast<float>(r) - v);
      ASSERT_EQ(part.data<float>()[r * (n + 3) + i], v + 1);
    }
    ASSERT_EQ(wide.data<float>()[r * (n + 3)], -1);
    ASSERT_EQ(wide.data<float>()[r * (n + 3) + n + 1], -1);
  }
}

TEST(CopyKernel, SameBitsAtAnyThreadCount) {
  manual_seed(1);
  const Tensor x = randn({300, 517}), y = randn({517, 300}), b = randn({300, 1});
  expect_same_bits([&] { return contiguous(x * transpose(y, 0, 1) + b).to_vector<float>(); });
}

}  // namespace
}  // namespace lg::testing
