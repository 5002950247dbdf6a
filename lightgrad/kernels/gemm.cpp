// gemm.cpp: the loops around the register tile of gemm-inl.h: which path a product takes, how it is
// blocked for the caches, and how it is cut for threads.
//
// A product takes the first of these paths that it fits:
//   fill     k = 0                         nothing to multiply
//   split    m n small, k large            parts of k in parallel, added in order; by shape alone
//   vector   m = 1 or n = 1                bound by reading the matrix once: packing would triple
//   it small    at most 2^17 multiply-adds    B in place or one panel on the stack, one thread: a
//                                          fork-join costs as much
//   blocked  everything else               B packed for L2, A in place, a grid of threads
#include "lightgrad/kernels/gemm.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <type_traits>

#include "lightgrad/base/memory.h"
#include "lightgrad/base/parallel.h"
#include "lightgrad/kernels/divide.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lightgrad/kernels/gemm.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include "lightgrad/kernels/gemm-inl.h"

#ifndef LIGHTGRAD_KERNELS_GEMM_CPP_
#define LIGHTGRAD_KERNELS_GEMM_CPP_
namespace lg::kernels {
namespace {

// Scratch of a call: 16 KiB on the stack, the caching allocator beyond.
template <class T> class Scratch {
 public:
  static constexpr int64_t kInline = 16384 / sizeof(T);
  explicit Scratch(int64_t n)
      : n_(n), p_(n <= kInline ? inline_ : static_cast<T*>(allocate(n * sizeof(T)))) {}
  ~Scratch() {
    if (p_ != inline_) deallocate(p_, n_ * sizeof(T));
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* get() { return p_; }

 private:
  alignas(64) T inline_[kInline];
  int64_t n_;
  T* p_;
};

// Only the order of the work depends on it, never a result.
int64_t l2_bytes() {
  static const int64_t bytes = [] {
    const long l2 = sysconf(_SC_LEVEL2_CACHE_SIZE);
    return std::clamp<int64_t>(l2 > 0 ? l2 : 256 * 1024, 128 * 1024, 2048 * 1024);
  }();
  return bytes;
}

// A tile reads A where it lies: a broadcast costs the same from anywhere in L2. Along k a
// transposed A has one line for each of the `depth` steps, used again by every panel of B, so they
// must fit L2 together. At a stride of s lines they fall on every gcd(s, sets)-th of its sets
// (about 1024 in the L2 of most): a stride of 4 KiB leaves a 64th of the cache, and such an A is
// packed. (TN 1024 x 1024 x 1024 on Zen 5: .61 of the peak in place, .88 packed; 1152 x 384 x
// 2048: .86 and .79.)
bool lines_collide(int64_t stride_bytes, int64_t depth) {
  if (stride_bytes % 64 != 0) return false;  // they drift over the sets
  return depth * std::gcd(stride_bytes / 64, int64_t{1024}) > l2_bytes() / 64;
}

// k per pass: a tile of A (6 rows) takes 9 KiB of the 32 of L1 and stays there while a panel
// streams past. A longer pass would store C less often, a shorter one would leave room for a panel;
// both measured slower.
template <class T> constexpr int64_t kDepth = 1536 / sizeof(T);
constexpr int64_t kSmallWork = 1 << 17;    // multiply-adds, about 3 us
constexpr int64_t kThreadWork = 1 << 16;   // multiply-adds per thread that outweigh a fork-join
constexpr int64_t kVectorGrain = 1 << 15;  // elements of the matrix per chunk of a vector product

// How many parts of k, by shape alone: where C has too few tiles to share, and k is long enough to.
int64_t split_parts(int64_t m, int64_t n, int64_t k) {
  return m * n <= 64 * 64 && k >= 4096 ? std::min<int64_t>(16, k / 2048) : 1;
}

}  // namespace
}  // namespace lg::kernels
#endif  // LIGHTGRAD_KERNELS_GEMM_CPP_

HWY_BEFORE_NAMESPACE();
namespace lg::kernels::HWY_NAMESPACE {
namespace {

template <class T> void AddBias(int64_t n, T* c, const T* bias, int64_t bias_step) {
  const hn::ScalableTag<T> d;
  constexpr int64_t N = kLanes<T>;
  int64_t j = 0;
  for (; j + N <= n; j += N) {
    const auto add = bias_step ? hn::LoadU(d, bias + j) : hn::Set(d, *bias);
    hn::StoreU(hn::Add(hn::LoadU(d, c + j), add), d, c + j);
  }
  for (; j < n; ++j) c[j] += bias[j * bias_step];
}

// Bias and activation on a finished part of C, while it is in cache.
template <class T>
void Finish(const Gemm<T>& g, int64_t i, int64_t rows, int64_t j, int64_t columns,
            int64_t bias_step = 1) {
  const int64_t at = i * g.c_row + j;
  if (g.bias) {
    for (int64_t r = 0; r < rows; ++r)
      AddBias(columns, g.c + at + r * g.c_row, g.bias + j * bias_step, bias_step);
  }
  if (g.activation) {
    T* const to = g.activated ? g.activated : g.c;
    g.activation({to + at, {g.c + at}, 0, rows, columns, g.c_row, {g.c_row}, nullptr});
  }
}

// ---- vector: y[n] (+)= x[k] B[k, n].

// Columns of B contiguous: eight vectors of y at a time, eight chains.
template <class T>
HWY_NOINLINE void VectorColumns(int64_t k, int64_t n, const T* x, int64_t x_step, const T* b,
                                int64_t b_row, T* y, bool add) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  constexpr int64_t N = kLanes<T>, kWide = 8;
  int64_t j = 0;
  for (; j + kWide * N <= n; j += kWide * N) {
    V sum[kWide];
    LG_UNROLL for (int v = 0; v < kWide; ++v) sum[v] = hn::Zero(d);
    for (int64_t p = 0; p < k; ++p) {
      const V xv = hn::Set(d, x[p * x_step]);
      LG_UNROLL for (int v = 0; v < kWide; ++v) {
        sum[v] = hn::MulAdd(xv, hn::LoadU(d, b + p * b_row + j + v * N), sum[v]);
      }
    }
    LG_UNROLL for (int v = 0; v < kWide; ++v) {
      hn::StoreU(add ? hn::Add(hn::LoadU(d, y + j + v * N), sum[v]) : sum[v], d, y + j + v * N);
    }
  }
  for (; j < n; j += N) {
    HWY_ALIGN T row[N] = {}, sums[N];
    const int64_t rest = std::min(N, n - j);
    V sum = hn::Zero(d);
    for (int64_t p = 0; p < k; ++p) {
      const T* from = b + p * b_row + j;
      if (rest < N) from = std::copy_n(from, rest, row) - rest;
      sum = hn::MulAdd(hn::Set(d, x[p * x_step]), hn::LoadU(d, from), sum);
    }
    hn::Store(sum, d, sums);
    for (int64_t i = 0; i < rest; ++i) y[j + i] = add ? y[j + i] + sums[i] : sums[i];
  }
}

// Columns of B (b_col apart) and x contiguous along k: four dot products of two vectors of partial
// sums at a time.
template <int kColumns, class T>
HWY_INLINE void Dots(int64_t k, const T* x, const T* b, int64_t b_col, T* y, bool add) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  constexpr int64_t N = kLanes<T>;
  V sum[kColumns][2];
  LG_UNROLL for (int c = 0; c < kColumns; ++c) sum[c][0] = sum[c][1] = hn::Zero(d);
  int64_t p = 0;
  for (; p + 2 * N <= k; p += 2 * N) {
    const V x0 = hn::LoadU(d, x + p), x1 = hn::LoadU(d, x + p + N);
    LG_UNROLL for (int c = 0; c < kColumns; ++c) {
      sum[c][0] = hn::MulAdd(x0, hn::LoadU(d, b + c * b_col + p), sum[c][0]);
      sum[c][1] = hn::MulAdd(x1, hn::LoadU(d, b + c * b_col + p + N), sum[c][1]);
    }
  }
  LG_UNROLL for (int c = 0; c < kColumns; ++c) {
    T total = hn::GetLane(hn::SumOfLanes(d, hn::Add(sum[c][0], sum[c][1])));
    for (int64_t q = p; q < k; ++q) total += x[q] * b[c * b_col + q];
    y[c] = add ? y[c] + total : total;
  }
}
template <class T>
HWY_NOINLINE void VectorDots(int64_t k, int64_t n, const T* x, const T* b, int64_t b_col, T* y,
                             bool add) {
  int64_t j = 0;
  for (; j + 4 <= n; j += 4) Dots<4>(k, x, b + j * b_col, b_col, y + j, add);
  for (; j < n; ++j) Dots<1>(k, x, b + j * b_col, b_col, y + j, add);
}

// C = A B with one row or one column; a column is the product of the transposes. False if B has no
// unit stride.
template <class T> bool Vector(const Gemm<T>& g, int threads) {
  const bool row = g.m == 1;
  const int64_t n = row ? g.n : g.m, k = g.k, b_row = row ? g.b_row : g.a_col,
                b_col = row ? g.b_col : g.a_row;
  const T *x = row ? g.a : g.b, *b = row ? g.b : g.a;
  const int64_t x_step = row ? g.a_col : g.b_row, y_step = row ? 1 : g.c_row;
  if (b_col != 1 && b_row != 1) return false;
  const bool columns = b_col == 1;
  Scratch<T> x_copy(columns || x_step == 1 ? 0 : k), y_copy(y_step == 1 ? 0 : n);
  if (!columns && x_step != 1) {
    for (int64_t p = 0; p < k; ++p) x_copy.get()[p] = x[p * x_step];
    x = x_copy.get();
  }
  T* const y = y_step == 1 ? g.c : y_copy.get();
  const auto part = [&](int64_t begin, int64_t end) HWY_ATTR {
    if (y_step != 1 && g.accumulate) {
      for (int64_t i = begin; i < end; ++i) y[i] = g.c[i * y_step];
    }
    if (columns) {
      VectorColumns(k, end - begin, x, x_step, b + begin, b_row, y + begin, g.accumulate);
    } else {
      VectorDots(k, end - begin, x, b + begin * b_col, b_col, y + begin, g.accumulate);
    }
    if (y_step == 1) {
      Finish(g, 0, 1, begin, end - begin, row ? 1 : 0);
    } else {
      for (int64_t i = begin; i < end; ++i) g.c[i * y_step] = y[i];
      Finish(g, begin, end - begin, 0, 1);
    }
  };
  // Chunks of whole groups of columns, so that each column meets the same code wherever the cut
  // falls.
  const int64_t group = 8 * kLanes<T>, grain = std::max(group, kVectorGrain / k / group * group);
  if (threads == 1) {
    part(0, n);
  } else {
    parallel_for(n, grain, part);
  }
  return true;
}

// ---- small: one thread, no blocking; B in place where its columns are contiguous.
template <class T> void Small(const Gemm<T>& g) {
  constexpr int64_t P = kPanel<T>;
  HWY_ALIGN T packed[Scratch<T>::kInline];
  const int64_t tiles = ceil_div(g.m, kTileRows), height = g.m / tiles, taller = g.m % tiles;
  for (int64_t j = 0; j < g.n; j += P) {
    const int64_t columns = std::min(P, g.n - j);
    const T* b = g.b + j * g.b_col;
    int64_t b_row = g.b_row;
    if (g.b_col != 1 || columns < P) {
      PackPanel(b, g.b_row, g.b_col, g.k, columns, packed);
      b = packed;
      b_row = P;
    }
    const TileFunction<T> tile = PickTile<T>(height, columns);
    const TileFunction<T> taller_tile = taller ? PickTile<T>(height + 1, columns) : tile;
    for (int64_t t = 0, i = 0; t < tiles; ++t) {
      (t < taller ? taller_tile : tile)(g.k, g.a + i * g.a_row, g.a_row, g.a_col, b, b_row,
                                        g.c + i * g.c_row + j, g.c_row, columns, g.accumulate,
                                        {g.a, 0});
      i += height + (t < taller);
    }
  }
  Finish(g, 0, g.m, 0, g.n);
}

// ---- blocked

// Whether a transposed A is packed: where its lines collide in L2, and with 16 registers as soon as
// a few panels use it, because a tile then does half of the arithmetic for each line that it reads.
// (TN 1152 x 384 x 2048 on Zen 3: .67 of the peak in place, .75 packed; 768 x 16 x 768: .55 and
// .48.)
template <class T> bool PacksA(const Gemm<T>& g) {
  if (g.a_col == 1) return false;
  if (kTileVecs < 4 && g.n >= 4 * kPanel<T>) return true;
  return lines_collide(g.a_col * int64_t{sizeof(T)}, even(g.k, kDepth<T>));
}

// What the tile that multiplies panel q of `panels` prefetches of the next tile's A, so that all
// panels together cover it: its rows, a line of each at a time, or the one line of each step of k.
template <class T>
Prefetch NextA(const T* next, int64_t a_row, int64_t a_col, int64_t k, int64_t q, int64_t panels) {
  constexpr int64_t kSize = sizeof(T);
  if (a_col == 1) {
    const int64_t lines = ceil_div(kTileRows, panels);
    return {next + q * lines % kTileRows * a_row, 64, lines, a_row * kSize};
  }
  const int64_t lines = ceil_div(16, panels);  // a tile prefetches k / 16 times
  return {next + q * lines * (k / 16) * a_col, lines * a_col * kSize, lines, a_col * kSize};
}

// Rows [i0, i1) and columns [j0, j1) of C by one thread. Each block of B (depth x half of L2; the
// other half is for A, C and what streams through) is packed once and stays in L2 while tiles of
// rows of A pass over its panels.
template <class T> void Blocked(const Gemm<T>& g, int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
  if (i0 >= i1 || j0 >= j1) return;
  // Packing visits each step of k once per group, 12 lines of a transposed A of floats at a time.
  constexpr int64_t P = kPanel<T>, kGroup = 32;
  const int64_t m = i1 - i0, n = j1 - j0;
  const int64_t depth = even(g.k, kDepth<T>), panels = ceil_div(n, P);
  const int64_t block =
      even(panels, std::max<int64_t>(1, l2_bytes() / 2 / (depth * P * int64_t{sizeof(T)})));
  // Heights differ by one at most: a last tile of one row would run at a sixth of the speed.
  const int64_t tiles = ceil_div(m, kTileRows), height = m / tiles, taller = m % tiles;
  const bool pack_a = PacksA(g);
  const bool keep_a = block < panels;  // packed tiles are used again by the next block of B
  const int64_t tile_size = kTileRows * depth;
  Scratch<T> packed_b(block * P * depth),
      packed_a(pack_a ? (keep_a ? tiles : std::min(tiles, kGroup)) * tile_size : 0);

  for (int64_t p = 0; p < g.k; p += depth) {
    const int64_t k = std::min(depth, g.k - p);
    const bool add = g.accumulate || p > 0, last = p + k == g.k;
    for (int64_t q0 = 0; q0 < panels; q0 += block) {
      const int64_t q1 = std::min(panels, q0 + block);
      for (int64_t q = q0; q < q1; ++q) {
        const int64_t j = j0 + q * P;
        PackPanel(g.b + p * g.b_row + j * g.b_col, g.b_row, g.b_col, k, std::min(P, j1 - j),
                  packed_b.get() + (q - q0) * P * k);
      }
      for (int64_t t = 0, i = i0, rows; t < tiles; ++t, i += rows) {
        rows = height + (t < taller);
        const T *a = g.a + i * g.a_row + p * g.a_col, *next = a + rows * g.a_row;
        int64_t a_row = g.a_row, a_col = g.a_col, next_row = g.a_row, next_col = g.a_col;
        if (g.row_sums && j0 == 0 && q0 == 0 && t % kGroup == 0) {  // brings A near as well
          const int64_t end = std::min(tiles, t + kGroup);
          SumRows(a, a_row, a_col, end * height + std::min(end, taller) - (i - i0), k,
                  g.row_sums + i, add);
        }
        if (pack_a) {
          if (q0 == 0 && t % kGroup == 0) {
            const int64_t end = std::min(tiles, t + kGroup), turn = std::clamp(taller, t, end);
            T* to = packed_a.get() + (keep_a ? t : 0) * tile_size;
            if (t < turn) PackTiles(height + 1, a, g.a_row, g.a_col, k, turn - t, to, tile_size);
            if (turn < end) {
              PackTiles(height, a + (turn - t) * rows * g.a_row, g.a_row, g.a_col, k, end - turn,
                        to + (turn - t) * tile_size, tile_size);
            }
          }
          a = packed_a.get() + (keep_a ? t : t % kGroup) * tile_size;
          next = a + tile_size;
          a_row = 1;
          a_col = rows;
          next_row = k;  // all that matters is that six runs of k elements cover it
          next_col = 1;
        }
        const TileFunction<T> tile = PickTile<T>(rows, P);
        for (int64_t q = q0; q < q1; ++q) {
          const int64_t j = j0 + q * P, columns = std::min(P, j1 - j);
          const TileFunction<T> fitting = columns == P ? tile : PickTile<T>(rows, columns);
          fitting(k, a, a_row, a_col, packed_b.get() + (q - q0) * P * k, P, g.c + i * g.c_row + j,
                  g.c_row, columns, add, NextA(next, next_row, next_col, k, q - q0, q1 - q0));
        }
        if (last) Finish(g, i, rows, j0 + q0 * P, std::min(n, q1 * P) - q0 * P);
      }
    }
  }
}

// Cuts C into a grid of rows x columns parts, one per thread. Where the cuts fall does not change a
// bit, so they may depend on the number of threads. Every thread packs its own B (no barrier), so
// more rows cost more packing, more columns more reading of A: the cheapest grid by elements
// touched (A in place .4, packed 1.4, B 1; a multiply-add costs 1 / 24 of an element) is taken.
template <class T> void Grid(const Gemm<T>& g, int threads) {
  const double work = double(g.m) * double(g.n) * double(g.k);
  const auto parts = static_cast<int64_t>(std::min(double(threads), work / kThreadWork));
  if (parts <= 1) return Blocked(g, 0, g.m, 0, g.n);
  constexpr int64_t P = kPanel<T>;
  const int64_t tiles = ceil_div(g.m, kTileRows), panels = ceil_div(g.n, P);
  int64_t best_rows = 1, best_columns = 1;
  double best = 1e300;
  const bool packs_a = PacksA(g);
  for (int64_t columns = 1; columns <= std::min(parts, panels); ++columns) {
    const int64_t rows = std::min(parts / columns, tiles);
    const double m = double(ceil_div(tiles, rows)) * kTileRows,
                 n = double(ceil_div(panels, columns)) * P;
    const double cost = m * n / 24 + m * (packs_a ? 1.4 : 0.4) + n;  // per step of k
    if (cost < best) {
      best = cost;
      best_rows = rows;
      best_columns = columns;
    }
  }
  parallel_chunks(best_rows * best_columns, [&](int64_t chunk) HWY_ATTR {
    const int64_t r = chunk / best_columns, c = chunk % best_columns;
    Blocked(g, tiles * r / best_rows * kTileRows,
            std::min(g.m, tiles * (r + 1) / best_rows * kTileRows), panels * c / best_columns * P,
            std::min(g.n, panels * (c + 1) / best_columns * P));
  });
}

template <class T> void Multiply(const Gemm<T>& g, int threads);

// Parts of k, each into its own copy of C, added in order.
template <class T> void Split(const Gemm<T>& g, int64_t parts) {
  const int64_t size = g.m * g.n, depth = ceil_div(g.k, parts);
  Scratch<T> sums(parts * size);
  parallel_chunks(parts, [&](int64_t part) HWY_ATTR {
    Gemm<T> s{g.m,
              g.n,
              std::min(depth, g.k - part * depth),
              g.a + part * depth * g.a_col,
              g.a_row,
              g.a_col,
              g.b + part * depth * g.b_row,
              g.b_row,
              g.b_col,
              sums.get() + part * size,
              g.n};
    Multiply(s, 1);
  });
  for (int64_t i = 0; i < g.m; ++i) {
    for (int64_t j = 0; j < g.n; ++j) {
      T sum = g.accumulate ? g.c[i * g.c_row + j] : T(0);
      for (int64_t part = 0; part < parts; ++part) sum += sums.get()[part * size + i * g.n + j];
      g.c[i * g.c_row + j] = sum;
    }
  }
  Finish(g, 0, g.m, 0, g.n);
}

// The row sums of a product that is not blocked, in the same parts of k.
template <class T> void SumAllRows(const Gemm<T>& g) {
  if (!g.row_sums) return;
  int64_t p = 0;
  do {
    const int64_t k = std::min(g.k - p, kDepth<T>);
    SumRows(g.a + p * g.a_col, g.a_row, g.a_col, g.m, k, g.row_sums, g.accumulate || p > 0);
    p += k;
  } while (p < g.k);
}

template <class T> void Multiply(const Gemm<T>& g, int threads) {
  if (g.k == 0) {
    if (!g.accumulate) {
      for (int64_t i = 0; i < g.m; ++i) std::fill_n(g.c + i * g.c_row, g.n, T(0));
    }
    SumAllRows(g);
    return Finish(g, 0, g.m, 0, g.n);
  }
  if (g.k >= 4096) {
    if (const int64_t parts = split_parts(g.m, g.n, g.k); parts > 1) {
      SumAllRows(g);
      return Split(g, parts);
    }
  }
  if ((g.m == 1 || g.n == 1) && Vector(g, threads)) return SumAllRows(g);
  if (g.k * kPanel<T> <= Scratch<T>::kInline && g.m * g.n <= kSmallWork &&
      g.m * g.n * g.k <= kSmallWork) {
    SumAllRows(g);
    return Small(g);
  }
  Grid(g, threads);
}

void GemmFloat(const Gemm<float>& g, int threads) { Multiply(g, threads); }
void GemmDouble(const Gemm<double>& g, int threads) { Multiply(g, threads); }
bool IsAvx3() { return HWY_TARGET == HWY_AVX3; }

}  // namespace
}  // namespace lg::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lg::kernels {

HWY_EXPORT(GemmFloat);
HWY_EXPORT(GemmDouble);
HWY_EXPORT(IsAvx3);

namespace {
void run(const Gemm<float>& g, int threads) { HWY_DYNAMIC_DISPATCH(GemmFloat)(g, threads); }
void run(const Gemm<double>& g, int threads) { HWY_DYNAMIC_DISPATCH(GemmDouble)(g, threads); }
}  // namespace

bool has_bf16_products() {
#ifdef __x86_64__
  static const bool machine = __builtin_cpu_supports("avx512bf16");
  // By dispatch: operations ask each time, and hwy::SupportedTargets() would ask the CPU each time.
  return machine && HWY_DYNAMIC_DISPATCH(IsAvx3)();
#else
  return false;
#endif
}

template <class T> void gemm(const Gemm<T>& g) {
  if (g.m > 0 && g.n > 0) run(g, num_threads());
}

template <class T>
void gemm_batched(const Gemm<T>& one, int64_t batch, const int64_t* a_offset,
                  const int64_t* b_offset, const int64_t* c_offset) {
  if (one.m <= 0 || one.n <= 0) return;
  const auto item = [&](int64_t i, int threads) {
    Gemm<T> g = one;
    g.a += a_offset[i];
    g.b += b_offset[i];
    g.c += c_offset[i];
    if (g.activated) g.activated += c_offset[i];
    run(g, threads);
  };
  // Whole products are the cheapest pieces, unless they are too few and too large to share out.
  const int threads = num_threads();
  const double work = double(one.m) * double(one.n) * double(one.k);
  if (batch < 4 * threads && work > 64 * kThreadWork) {
    for (int64_t i = 0; i < batch; ++i) item(i, threads);
    return;
  }
  const auto grain = static_cast<int64_t>(double(kThreadWork) / std::max(work, 1.0)) + 1;
  parallel_for(batch, std::min(batch, grain), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) item(i, 1);
  });
}

template <class T> void gemm_reference(const Gemm<T>& g) {
  using Wide = std::conditional_t<std::is_same_v<T, float>, double, long double>;
  for (int64_t i = 0; i < g.m; ++i) {
    if (g.row_sums) {
      Wide sum = g.accumulate ? g.row_sums[i] : 0;
      for (int64_t p = 0; p < g.k; ++p) sum += g.a[i * g.a_row + p * g.a_col];
      g.row_sums[i] = static_cast<T>(sum);
    }
    for (int64_t j = 0; j < g.n; ++j) {
      Wide sum = g.accumulate ? g.c[i * g.c_row + j] : 0;
      for (int64_t p = 0; p < g.k; ++p)
        sum += Wide(g.a[i * g.a_row + p * g.a_col]) * g.b[p * g.b_row + j * g.b_col];
      g.c[i * g.c_row + j] = static_cast<T>(g.bias ? sum + g.bias[j] : sum);
    }
  }
  if (g.activation && g.m > 0 && g.n > 0) {
    T* const to = g.activated ? g.activated : g.c;
    g.activation({to, {g.c}, 0, g.m, g.n, g.c_row, {g.c_row}, nullptr});
  }
}

#define LG_INSTANTIATE(T)                                                                \
  template void gemm<T>(const Gemm<T>&);                                                 \
  template void gemm_batched<T>(const Gemm<T>&, int64_t, const int64_t*, const int64_t*, \
                                const int64_t*);                                         \
  template void gemm_reference<T>(const Gemm<T>&);
LG_INSTANTIATE(float)
LG_INSTANTIATE(double)
#undef LG_INSTANTIATE

}  // namespace lg::kernels
#endif  // HWY_ONCE
