// copy.cpp: blocks of two dimensions. Rows that both sides have in order are plain loops, which the
// compiler makes vectors of for each target; where the sides run along different dimensions, small
// tiles are transposed in registers.
#include "lightgrad/kernels/copy.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>

#include "lightgrad/kernels/loop.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lightgrad/kernels/copy.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "lightgrad/kernels/gemm-inl.h"

#ifndef LIGHTGRAD_KERNELS_COPY_TABLE
#define LIGHTGRAD_KERNELS_COPY_TABLE
namespace lg::kernels {
// [to][from]
using MoverTable = std::array<std::array<BlockMover, dtype_count>, dtype_count>;
}  // namespace lg::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace lg::kernels {
namespace HWY_NAMESPACE {
namespace {

// The instructions for float16, where a target has them.
#define LIGHTGRAD_F16C (HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3)

// The first elements, as many as whole vectors hold; returns how many.
template <class To, class From>
HWY_INLINE std::int64_t HalfVectors([[maybe_unused]] To* to, [[maybe_unused]] const From* from,
                                    [[maybe_unused]] std::int64_t n) {
  std::int64_t i = 0;
#if LIGHTGRAD_F16C
  constexpr bool narrows = std::is_same_v<To, float16> && std::is_same_v<From, float>;
  if constexpr (narrows || (std::is_same_v<To, float> && std::is_same_v<From, float16>)) {
    const hn::ScalableTag<float> d;
    const hn::Rebind<hwy::float16_t, decltype(d)> half;
    for (; i + kLanes<float> <= n; i += kLanes<float>) {
      if constexpr (narrows) {
        hn::StoreU(hn::DemoteTo(half, hn::LoadU(d, from + i)), half,
                   reinterpret_cast<hwy::float16_t*>(to + i));
      } else {
        hn::StoreU(
            hn::PromoteTo(d, hn::LoadU(half, reinterpret_cast<const hwy::float16_t*>(from + i))), d,
            to + i);
      }
    }
  }
#endif
  return i;
}

template <class To, class From>
HWY_INLINE void MoveRow(To* HWY_RESTRICT to, std::int64_t to_step, const From* HWY_RESTRICT from,
                        std::int64_t from_step, std::int64_t n) {
  if (to_step == 1 && from_step == 1) {
    if constexpr (std::is_same_v<To, From>) {
      std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(To));
    } else {
      for (std::int64_t i = HalfVectors(to, from, n); i < n; ++i) to[i] = convert<To>(from[i]);
    }
  } else if (to_step == 1 && from_step == 0) {
    const To v = convert<To>(*from);
    for (std::int64_t i = 0; i < n; ++i) to[i] = v;
  } else if (to_step == 1 && from_step == 2) {  // a step that is known is shuffles, not gathers
    for (std::int64_t i = 0; i < n; ++i) to[i] = convert<To>(from[2 * i]);
  } else {
    for (std::int64_t i = 0; i < n; ++i) to[i * to_step] = convert<To>(from[i * from_step]);
  }
}

// to[r, c] = from[c, r], both of contiguous rows. Tiles of one cache line each way: every line is
// read once and written once, whatever the strides do to the caches' sets.
template <class To, class From>
HWY_INLINE void Transpose(To* HWY_RESTRICT to, std::int64_t to_row, const From* HWY_RESTRICT from,
                          std::int64_t from_row, std::int64_t rows, std::int64_t n) {
  constexpr std::int64_t kTile = 64 / std::max(sizeof(To), sizeof(From));
  for (std::int64_t r = 0; r < rows; r += kTile) {
    const std::int64_t height = std::min(kTile, rows - r);
    for (std::int64_t c = 0; c < n; c += kTile) {
      const std::int64_t width = std::min(kTile, n - c);
      To* out = to + r * to_row + c;
      const From* in = from + c * from_row + r;
#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
      if constexpr (std::is_same_v<To, From> && sizeof(To) >= 4) {
        constexpr std::int64_t kBlock = 16 / sizeof(To);
        if (height == kTile && width == kTile) {
          LG_UNROLL for (std::int64_t i = 0; i < kTile; i += kLanes<To>) {
            LG_UNROLL for (std::int64_t k = 0; k < kTile; k += kBlock)
                StoreTransposed(in + i * from_row + k, from_row, out + k * to_row + i, to_row);
          }
          continue;
        }
      }
#endif
      for (std::int64_t k = 0; k < height; ++k) {
        for (std::int64_t i = 0; i < width; ++i)
          out[k * to_row + i] = convert<To>(in[i * from_row + k]);
      }
    }
  }
}

template <class To, class From> void Move(const Block& b) {
  To* to = static_cast<To*>(b.to);
  const From* from = static_cast<const From*>(b.from);
  if (b.to_column == 1 && b.from_row == 1 && b.from_column > 1 && b.rows > 1 && b.n > 1) {
    Transpose(to, b.to_row, from, b.from_column, b.rows, b.n);
    return;
  }
  for (std::int64_t r = 0; r < b.rows; ++r)
    MoveRow(to + r * b.to_row, b.to_column, from + r * b.from_row, b.from_column, b.n);
}

template <class To, class From> constexpr BlockMover MoverOf() {
  if constexpr (!std::is_same_v<To, From>)
    return &Move<To, From>;
  else if constexpr (sizeof(To) == 8)  // bits are bits
    return &Move<double, double>;
  else if constexpr (sizeof(To) == 4)
    return &Move<float, float>;
  else if constexpr (sizeof(To) == 2)
    return &Move<bfloat16, bfloat16>;
  else
    return &Move<std::uint8_t, std::uint8_t>;
}
template <class... T> struct MoversOf {
  template <class To>
  static constexpr std::array<BlockMover, sizeof...(T)> row{MoverOf<To, T>()...};
  static constexpr MoverTable table{row<T>...};
};

}  // namespace
const MoverTable* Movers() {
  return &MoversOf<bool, std::uint8_t, std::int32_t, std::int64_t, float16, bfloat16, float,
                   double>::table;  // in the order of DType
}
}  // namespace HWY_NAMESPACE
}  // namespace lg::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lg::kernels {
HWY_EXPORT(Movers);

namespace {
constexpr std::int64_t chunk = 1 << 15;
}

BlockMover block_mover(DType to, DType from) {
  const MoverTable& movers = *HWY_DYNAMIC_DISPATCH(Movers)();
  return movers[static_cast<std::size_t>(to)][static_cast<std::size_t>(from)];
}

void move_block_reference(DType to_type, DType from_type, const Block& b) {
  visit(to_type, [&]<class To>(To) {
    visit(from_type, [&]<class From>(From) {
      for (std::int64_t r = 0; r < b.rows; ++r) {
        for (std::int64_t c = 0; c < b.n; ++c) {
          static_cast<To*>(b.to)[r * b.to_row + c * b.to_column] =
              convert<To>(static_cast<const From*>(b.from)[r * b.from_row + c * b.from_column]);
        }
      }
    });
  });
}

void convert_run(DType to_type, void* to, std::int64_t to_stride, DType from_type, const void* from,
                 std::int64_t from_stride, std::int64_t n) {
  block_mover(to_type, from_type)({to, from, 1, n, 0, to_stride, 0, from_stride});
}

void copy(const Copy& c) {
  const Shape strides[] = {c.to_strides, c.from_strides};
  StridedLoop loop = make_loop(c.shape, strides);
  const auto to_size = static_cast<std::int64_t>(size_of(c.to_type));
  const auto from_size = static_cast<std::int64_t>(size_of(c.from_type));
  const BlockMover move = block_mover(c.to_type, c.from_type);
  // Across the grain: squares, of which both sides have some lines in a row.
  const bool across = pair_across(loop);
  const std::int64_t columns = across ? 128 : std::min(chunk, loop.inner());
  const std::int64_t rows =
      across ? 128 : std::max<std::int64_t>(1, chunk / std::max<std::int64_t>(1, columns));
  for_each_block(
      loop, rows, columns, chunk, [&](const std::int64_t* offset, std::int64_t m, std::int64_t n) {
        move({static_cast<char*>(c.to) + offset[0] * to_size,
              static_cast<const char*>(c.from) + offset[1] * from_size, m, n, loop.row_stride(0),
              loop.inner_stride(0), loop.row_stride(1), loop.inner_stride(1)});
      });
}

void fill(DType type, void* to, std::int64_t n, const void* value) {
  const BlockMover move = block_mover(type, type);
  parallel_for(n, chunk, [&](std::int64_t begin, std::int64_t end) {
    const auto at = begin * static_cast<std::int64_t>(size_of(type));
    move({static_cast<char*>(to) + at, value, 1, end - begin, 0, 1, 0, 0});
  });
}

}  // namespace lg::kernels
#endif  // HWY_ONCE
