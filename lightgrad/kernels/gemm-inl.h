// gemm-inl.h: the register tile of matrix products and the packing of its operands, per SIMD
// target. gemm.cpp and attention.cpp build their loops on these; nothing here knows about threads
// or memory.
#if defined(LIGHTGRAD_KERNELS_GEMM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LIGHTGRAD_KERNELS_GEMM_INL_H_
#undef LIGHTGRAD_KERNELS_GEMM_INL_H_
#else
#define LIGHTGRAD_KERNELS_GEMM_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "lightgrad/kernels/unroll.h"

HWY_BEFORE_NAMESPACE();
namespace lg::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// A tile of kTileRows x kTileVecs accumulators, the vectors of a row of B, and one broadcast
// element of A must fit the registers: 6 * 4 + 4 + 1 = 29 of 32, or 6 * 2 + 2 + 1 = 15 of 16 (SSE4
// needs the last one for the product). Loads per multiply-add decide the speed: (6 + 4) / 24 and (6
// + 2) / 12 are near the best shapes that fit, and six rows times two vectors are 12 chains, enough
// to cover 2 units x 4 cycles of latency. The scalar target has 16 registers of one lane.
#if HWY_TARGET <= HWY_AVX3
inline constexpr int kTileRows = 6, kTileVecs = 4;
#elif HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
inline constexpr int kTileRows = 3, kTileVecs = 2;
#else
inline constexpr int kTileRows = 6, kTileVecs = 2;
#endif

template <class T> inline constexpr int64_t kLanes = hn::MaxLanes(hn::ScalableTag<T>());
template <class T> inline constexpr int64_t kPanel = kTileVecs* kLanes<T>;  // columns of a tile

// What a tile prefetches for the one after it, once per eight steps of k in the second half:
// `lines` addresses, `line_stride` bytes apart, and `stride` bytes further each time.
struct Prefetch {
  const void* address = nullptr;
  int64_t stride = 0;
  int64_t lines = 1, line_stride = 0;
};

// C[kRows, columns] = A B (+ C), columns <= kVecs * lanes. A lies anywhere (strides a_row, a_col);
// row p of B is the kVecs vectors at b + p * b_row. The lines of C are prefetched one row at a time
// over the first half of k: asking for all of them at once fills the line buffers and stalls the
// loads of B.
template <int kRows, int kVecs, class T>
HWY_NOINLINE void Tile(int64_t k, const T* HWY_RESTRICT a, int64_t a_row, int64_t a_col,
                       const T* HWY_RESTRICT b, int64_t b_row, T* HWY_RESTRICT c, int64_t c_row,
                       int64_t columns, bool add, Prefetch next) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  constexpr int64_t N = kLanes<T>;
  V sum[kRows][kVecs];
  LG_UNROLL for (int i = 0; i < kRows; ++i) {
    LG_UNROLL for (int v = 0; v < kVecs; ++v) sum[i][v] = hn::Zero(d);
  }
  const auto step = [&]() HWY_ATTR {
    V bv[kVecs];
    LG_UNROLL for (int v = 0; v < kVecs; ++v) bv[v] = hn::LoadU(d, b + v * N);
    LG_UNROLL for (int i = 0; i < kRows; ++i) {
      const V av = hn::Set(d, a[i * a_row]);
      LG_UNROLL for (int v = 0; v < kVecs; ++v) sum[i][v] = hn::MulAdd(av, bv[v], sum[i][v]);
    }
    b += b_row;
    a += a_col;
  };
  int64_t p = k;
  const int64_t share = (k / (2 * kRows)) & ~int64_t{3};
  if (share > 0) {
    const T* line = c;
    for (int i = 0; i < kRows; ++i, p -= share, line += c_row) {
      LG_UNROLL for (int v = 0; v < kVecs * N; v += 64 / sizeof(T)) hwy::Prefetch(line + v);
      for (int64_t q = share; q > 0; q -= 4) {
        LG_UNROLL for (int u = 0; u < 4; ++u) step();
      }
    }
    const char* line_a = static_cast<const char*>(next.address);
    for (; p >= 8; p -= 8, line_a += next.stride) {
      for (int64_t i = 0; i < next.lines; ++i) hwy::Prefetch(line_a + i * next.line_stride);
      LG_UNROLL for (int u = 0; u < 8; ++u) step();
    }
  }
  for (; p > 0; --p) step();

  if (columns >= kVecs * N) {
    LG_UNROLL for (int i = 0; i < kRows; ++i) {
      LG_UNROLL for (int v = 0; v < kVecs; ++v) {
        T* to = c + i * c_row + v * N;
        hn::StoreU(add ? hn::Add(hn::LoadU(d, to), sum[i][v]) : sum[i][v], d, to);
      }
    }
    return;
  }
  HWY_ALIGN T edge[kRows][kVecs * N];
  LG_UNROLL for (int i = 0; i < kRows; ++i) {
    LG_UNROLL for (int v = 0; v < kVecs; ++v) hn::Store(sum[i][v], d, edge[i] + v * N);
  }
  for (int i = 0; i < kRows; ++i) {
    for (int64_t j = 0; j < columns; ++j)
      c[i * c_row + j] = add ? c[i * c_row + j] + edge[i][j] : edge[i][j];
  }
}

template <class T>
using TileFunction = void (*)(int64_t k, const T* a, int64_t a_row, int64_t a_col, const T* b,
                              int64_t b_row, T* c, int64_t c_row, int64_t columns, bool add,
                              Prefetch next);

// The tile for `rows` in [1, kTileRows] and `columns` >= 1 (more than a panel counts as a panel).
template <class T> TileFunction<T> PickTile(int64_t rows, int64_t columns) {
  const int64_t vecs = std::min<int64_t>(kTileVecs, (columns + kLanes<T> - 1) / kLanes<T>);
#define LG_TILE_ROW(V)                                                               \
  {                                                                                  \
    Tile<1, V, T>, Tile<2, V, T>, Tile<3, V, T>, Tile<std::min(4, kTileRows), V, T>, \
        Tile<std::min(5, kTileRows), V, T>, Tile<kTileRows, V, T>                    \
  }
  static constexpr TileFunction<T> tiles[4][6] = {
      LG_TILE_ROW(1), LG_TILE_ROW(2), LG_TILE_ROW(std::min(3, kTileVecs)), LG_TILE_ROW(kTileVecs)};
#undef LG_TILE_ROW
  return tiles[vecs - 1][rows - 1];
}

// kLanes x (128-bit block) of a matrix whose rows are `row` apart, transposed in registers: lane i
// of the q-th vector is element q of row i. Each 128-bit block b of the loaded vectors holds 16
// bytes of row b * kBlock + i.
#if HWY_TARGET != HWY_SCALAR
template <class D>
HWY_INLINE hn::Vec<D> LoadBlocks(D d, const hn::TFromD<D>* from, int64_t stride) {
  if constexpr (hn::MaxLanes(D()) * sizeof(hn::TFromD<D>) == 16) {
    return hn::LoadU(d, from);
  } else {
    const hn::Half<D> half;
    return hn::Combine(
        d,
        LoadBlocks(half, from + stride * (hn::MaxLanes(D()) * sizeof(hn::TFromD<D>) / 32), stride),
        LoadBlocks(half, from, stride));
  }
}

HWY_INLINE void StoreTransposed(const float* from, int64_t row, float* to, int64_t to_row) {
  const hn::ScalableTag<float> d;
  const hn::RepartitionToWide<decltype(d)> wide;
  const auto r0 = LoadBlocks(d, from, 4 * row), r1 = LoadBlocks(d, from + row, 4 * row);
  const auto r2 = LoadBlocks(d, from + 2 * row, 4 * row),
             r3 = LoadBlocks(d, from + 3 * row, 4 * row);
  const auto low01 = hn::BitCast(wide, hn::InterleaveLower(d, r0, r1));
  const auto low23 = hn::BitCast(wide, hn::InterleaveLower(d, r2, r3));
  const auto high01 = hn::BitCast(wide, hn::InterleaveUpper(d, r0, r1));
  const auto high23 = hn::BitCast(wide, hn::InterleaveUpper(d, r2, r3));
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(wide, low01, low23)), d, to);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(wide, low01, low23)), d, to + to_row);
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(wide, high01, high23)), d, to + 2 * to_row);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(wide, high01, high23)), d, to + 3 * to_row);
}
HWY_INLINE void StoreTransposed(const double* from, int64_t row, double* to, int64_t to_row) {
  const hn::ScalableTag<double> d;
  const auto r0 = LoadBlocks(d, from, 2 * row), r1 = LoadBlocks(d, from + row, 2 * row);
  hn::StoreU(hn::InterleaveLower(d, r0, r1), d, to);
  hn::StoreU(hn::InterleaveUpper(d, r0, r1), d, to + to_row);
}
#endif

// A panel of B: k rows of kPanel<T>, from `columns` <= kPanel columns, the vectors that they begin
// padded with zeros.
template <class T>
HWY_NOINLINE void PackPanel(const T* HWY_RESTRICT b, int64_t b_row, int64_t b_col, int64_t k,
                            int64_t columns, T* HWY_RESTRICT to) {
  const hn::ScalableTag<T> d;
  constexpr int64_t N = kLanes<T>, P = kPanel<T>;
  if (b_col == 1 && columns == P) {
    for (int64_t p = 0; p < k; ++p, b += b_row, to += P) {
      LG_UNROLL for (int v = 0; v < P; v += 64 / sizeof(T)) hwy::Prefetch(b + 12 * b_row + v);
      LG_UNROLL for (int v = 0; v < kTileVecs; ++v)
          hn::StoreU(hn::LoadU(d, b + v * N), d, to + v * N);
    }
    return;
  }
  for (int64_t j = 0; j < columns; j += N, b += N * b_col, to += N) {
    const int64_t n = std::min(N, columns - j);
    int64_t p = 0;
#if HWY_TARGET != HWY_SCALAR
    constexpr int64_t kBlock = 16 / sizeof(T);
    if (n == N && b_row == 1) {
      for (; p + kBlock <= k; p += kBlock) StoreTransposed(b + p, b_col, to + p * P, P);
    } else if (n == N && b_col == 1) {
      for (; p < k; ++p) hn::StoreU(hn::LoadU(d, b + p * b_row), d, to + p * P);
    }
#endif
    for (; p < k; ++p) {
      for (int64_t i = 0; i < N; ++i) to[p * P + i] = i < n ? b[p * b_row + i * b_col] : T(0);
    }
  }
}

// `tiles` tiles of kRows rows of A, each as [k][kRows], `tile_size` apart. Every step of k lies on
// a page of its own, where no hardware prefetcher follows: 16 steps ahead cover the latency.
template <int kRows, class T>
HWY_NOINLINE void PackTiles(const T* HWY_RESTRICT a, int64_t a_row, int64_t a_col, int64_t k,
                            int64_t tiles, T* HWY_RESTRICT to, int64_t tile_size) {
  for (int64_t p = 0; p < k; ++p, a += a_col, to += kRows) {
    if (a_row == 1) {
      const T* ahead = a + 16 * a_col;
      for (int64_t i = 0; i < tiles * kRows; i += 64 / sizeof(T)) hwy::Prefetch(ahead + i);
      for (int64_t t = 0; t < tiles; ++t) {
        LG_UNROLL for (int i = 0; i < kRows; ++i) to[t * tile_size + i] = a[t * kRows + i];
      }
    } else {
      for (int64_t t = 0; t < tiles; ++t) {
        LG_UNROLL for (int i = 0; i < kRows; ++i) to[t * tile_size + i] =
            a[(t * kRows + i) * a_row];
      }
    }
  }
}
template <class T>
void PackTiles(int64_t rows, const T* a, int64_t a_row, int64_t a_col, int64_t k, int64_t tiles,
               T* to, int64_t tile_size) {
  static constexpr decltype(&PackTiles<1, T>) pack[] = {PackTiles<1, T>, PackTiles<2, T>,
                                                        PackTiles<3, T>, PackTiles<4, T>,
                                                        PackTiles<5, T>, PackTiles<6, T>};
  pack[rows - 1](a, a_row, a_col, k, tiles, to, tile_size);
}

// sums[i] (+)= the sum of row i of A[rows, k]: four partial sums each, so that a chain is a quarter
// of k long. A row meets the same additions in a vector and in the rest.
template <class T>
HWY_NOINLINE void SumRows(const T* HWY_RESTRICT a, int64_t a_row, int64_t a_col, int64_t rows,
                          int64_t k, T* HWY_RESTRICT sums, bool add) {
  const hn::ScalableTag<T> d;
  constexpr int64_t N = kLanes<T>;
  int64_t i = 0;
  for (; a_row == 1 && i + N <= rows; i += N) {
    hn::Vec<decltype(d)> part[4];
    LG_UNROLL for (int q = 0; q < 4; ++q) part[q] = hn::Zero(d);
    const T* at = a + i;
    int64_t p = 0;
    for (; p + 4 <= k; p += 4, at += 4 * a_col) {
      LG_UNROLL for (int q = 0; q < 4; ++q) part[q] =
          hn::Add(part[q], hn::LoadU(d, at + q * a_col));
    }
    for (; p < k; ++p, at += a_col) part[0] = hn::Add(part[0], hn::LoadU(d, at));
    const auto sum = hn::Add(hn::Add(part[0], part[1]), hn::Add(part[2], part[3]));
    hn::StoreU(add ? hn::Add(hn::LoadU(d, sums + i), sum) : sum, d, sums + i);
  }
  for (; i < rows; ++i) {
    T part[4] = {};
    const T* at = a + i * a_row;
    int64_t p = 0;
    for (; p + 4 <= k; p += 4, at += 4 * a_col) {
      LG_UNROLL for (int q = 0; q < 4; ++q) part[q] += at[q * a_col];
    }
    for (; p < k; ++p, at += a_col) part[0] += *at;
    const T sum = (part[0] + part[1]) + (part[2] + part[3]);
    sums[i] = add ? sums[i] + sum : sum;
  }
}

}  // namespace lg::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
