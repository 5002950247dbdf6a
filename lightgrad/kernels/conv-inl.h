// conv-inl.h: the register tiles of convolution and the copy of images to padded planes, per SIMD
// target. conv.cpp builds its loops on these; nothing here knows about threads or memory.
#if defined(LIGHTGRAD_KERNELS_CONV_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LIGHTGRAD_KERNELS_CONV_INL_H_
#undef LIGHTGRAD_KERNELS_CONV_INL_H_
#else
#define LIGHTGRAD_KERNELS_CONV_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "hwy/highway.h"
#include "lightgrad/kernels/conv_sweep.h"
#include "lightgrad/kernels/rows-inl.h"
#include "lightgrad/kernels/unroll.h"

// GCC would load an operand of several multiply-adds again for each of them.
#undef LG_IN_REGISTER
#if HWY_ARCH_X86 && HWY_COMPILER_GCC_ACTUAL
#define LG_IN_REGISTER(vector) asm("" : "+v"(vector.raw))
#else
#define LG_IN_REGISTER(vector)
#endif

HWY_BEFORE_NAMESPACE();
namespace lg::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// A tile of kOuts x kVecs accumulators, the vectors of a tap and one broadcast weight must fit the
// registers: 8 * 3 + 3 + 1 = 28 of 32, or 4 * 3 + 3 + 1 = 16 of 16; SSE4 needs one for the product.
// (8 + 3) / 24 and (4 + 3) / 12 loads per multiply-add, of the two that a cycle allows.
#if HWY_TARGET <= HWY_AVX3
inline constexpr int kConvOuts = 8, kConvVecs = 3;
#elif HWY_TARGET <= HWY_AVX2
inline constexpr int kConvOuts = 4, kConvVecs = 3;
#else
inline constexpr int kConvOuts = 4, kConvVecs = 2;
#endif

template <class T> inline constexpr int64_t kConvLanes = hn::MaxLanes(hn::ScalableTag<T>());

// y[o][pixels] = bias[o] (or y, without a bias) + sum over channels c and taps t of w[c][t][o] *
// x[c * channel + offset[t]...]: o < outs <= kOuts rows of y, `y_channel` apart. x is read to the
// end of the last vector.
template <int kOuts, int kVecs, class T>
HWY_NOINLINE void ConvTile(int64_t channels, int64_t taps, const int64_t* HWY_RESTRICT offset,
                           const T* HWY_RESTRICT x, int64_t channel, const T* HWY_RESTRICT w,
                           const T* HWY_RESTRICT bias, T* HWY_RESTRICT y, int64_t y_channel,
                           int64_t outs, int64_t pixels) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  constexpr int64_t N = kConvLanes<T>;
  V sum[kOuts][kVecs];
  LG_UNROLL for (int o = 0; o < kOuts; ++o) {
    LG_UNROLL for (int v = 0; v < kVecs; ++v) {
      const int64_t left = std::clamp<int64_t>(pixels - v * N, 0, N);
      sum[o][v] = bias       ? hn::Set(d, bias[o])
                  : o < outs ? LoadLanes(d, y + o * y_channel + v * N, left)
                             : hn::Zero(d);
    }
  }
  for (int64_t c = 0; c < channels; ++c, x += channel) {
    for (int64_t t = 0; t < taps; ++t, w += kOuts) {
      const T* from = x + offset[t];
      V xv[kVecs];
      LG_UNROLL for (int v = 0; v < kVecs; ++v) xv[v] = hn::LoadU(d, from + v * N);
      LG_UNROLL for (int o = 0; o < kOuts; ++o) {
        const V wv = hn::Set(d, w[o]);
        LG_UNROLL for (int v = 0; v < kVecs; ++v) sum[o][v] = hn::MulAdd(wv, xv[v], sum[o][v]);
      }
    }
  }
  LG_UNROLL for (int o = 0; o < kOuts; ++o) {
    if (o >= outs) return;
    LG_UNROLL for (int v = 0; v < kVecs; ++v) {
      const int64_t left = pixels - v * N;
      if (left > 0) StoreLanes(sum[o][v], d, y + o * y_channel + v * N, left < N ? left : N);
    }
  }
}

#if HWY_TARGET != HWY_SCALAR
// The sum of the 128-bit blocks of v, added to to[0, ...).
template <class D> HWY_INLINE void AddBlocks(D d, hn::Vec<D> v, hn::TFromD<D>* to) {
  if constexpr (hn::MaxLanes(d) * sizeof(hn::TFromD<D>) == 16) {
    hn::StoreU(hn::Add(hn::LoadU(d, to), v), d, to);
  } else {
    const hn::Half<D> half;
    AddBlocks(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)), to);
  }
}
#endif

// The sums of the lanes of each of the vectors v[0], v[stride], ..., added to to[0, kCount).
template <int kCount, int kStride, class D, class T = hn::TFromD<D>>
HWY_INLINE void AddSums(D d, const hn::Vec<D>* v, T* to) {
#if HWY_TARGET != HWY_SCALAR
  constexpr int kBlock = 16 / sizeof(T);  // lanes of a 128-bit block
  if constexpr (kCount % kBlock == 0) {
    const auto pair = [](auto dd, auto a, auto b) LIGHTGRAD_LANES {
      return hn::Add(hn::InterleaveLower(dd, a, b), hn::InterleaveUpper(dd, a, b));
    };
    LG_UNROLL for (int i = 0; i < kCount; i += kBlock, v += kBlock * kStride) {
      auto sum = pair(d, v[0], v[kStride]);
      if constexpr (kBlock == 4) {
        // Blocks of a + a, b + b, a + a, b + b: their halves again in turn with those of c, d.
        const hn::Repartition<double, D> wide;
        const auto ab = hn::BitCast(wide, sum);
        const auto cd = hn::BitCast(wide, pair(d, v[2 * kStride], v[3 * kStride]));
        sum = hn::Add(hn::BitCast(d, hn::InterleaveLower(wide, ab, cd)),
                      hn::BitCast(d, hn::InterleaveUpper(wide, ab, cd)));
      }
      AddBlocks(d, sum, to + i);
    }
    return;
  }
#endif
  for (int i = 0; i < kCount; ++i) to[i] += hn::GetLane(hn::SumOfLanes(d, v[i * kStride]));
}

// sums[c][o] += the products of row o of g and of x_c, over `images` of `pixels`: the gradient of
// kOuts x kColumns weights.
template <int kOuts, int kColumns, class T>
HWY_NOINLINE void ConvGradTile(int64_t images, int64_t pixels, const T* HWY_RESTRICT g,
                               int64_t g_channel, int64_t g_image, const T* HWY_RESTRICT x,
                               const int64_t* HWY_RESTRICT column, int64_t x_image,
                               T* HWY_RESTRICT sums, int64_t sums_row) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  constexpr int64_t N = kConvLanes<T>;
  V sum[kOuts * kColumns];
  LG_UNROLL for (int i = 0; i < kOuts * kColumns; ++i) sum[i] = hn::Zero(d);
  for (int64_t n = 0; n < images; ++n, g += g_image, x += x_image) {
    const auto step = [&](int64_t p, int64_t lanes) LIGHTGRAD_LANES {
      V xv[kColumns];
      LG_UNROLL for (int c = 0; c < kColumns; ++c) xv[c] = LoadLanes(d, x + column[c] + p, lanes);
      LG_UNROLL for (int o = 0; o < kOuts; ++o) {
        V gv = LoadLanes(d, g + o * g_channel + p, lanes);
        LG_IN_REGISTER(gv);
        LG_UNROLL for (int c = 0; c < kColumns; ++c) {
          V& to = sum[o * kColumns + c];
          to = hn::MulAdd(gv, xv[c], to);
        }
      }
    };
    int64_t p = 0;
    for (; p + N <= pixels; p += N) step(p, N);
    if (p < pixels) step(p, pixels - p);
  }
  LG_UNROLL for (int c = 0; c < kColumns; ++c) {
    AddSums<kOuts, kColumns>(d, sum + c, sums + c * sums_row);
  }
}

// Lanes [begin, end) of a vector.
template <class D> HWY_INLINE hn::Mask<D> LanesBetween(D d, int64_t begin, int64_t end) {
  constexpr int64_t N = hn::MaxLanes(d);
  return hn::AndNot(hn::FirstN(d, std::clamp<int64_t>(begin, 0, N)),
                    hn::FirstN(d, std::clamp<int64_t>(end, 0, N)));
}

// Lanes [begin, end) of vectors in memory, zeros in the others, which are not touched.
template <class T> struct LoadBetween {
  static constexpr hn::ScalableTag<T> d{};
  static constexpr int64_t N = hn::MaxLanes(d);
  int64_t begin, end;
  hn::Mask<decltype(d)> mask;
  LoadBetween(int64_t b, int64_t e) : begin(b), end(e), mask(LanesBetween(d, b, e)) {}

  HWY_INLINE hn::Vec<decltype(d)> operator()(const T* from) const {
#if LIGHTGRAD_MASKS_MAY_FAULT
    if (begin <= 0 && end >= N) return hn::LoadU(d, from);
    HWY_ALIGN T buffer[N];
    for (int64_t i = 0; i < N; ++i) buffer[i] = i >= begin && i < end ? from[i] : T(0);
    return hn::Load(d, buffer);
#else
    return hn::MaskedLoad(mask, d, from);
#endif
  }
};

#if HWY_TARGET != HWY_SCALAR
// Pixels 2 i to 2 i + 3 of a row for every lane i, where the row has them: pixels [begin, end).
template <class T> struct PairColumns {
  static constexpr hn::ScalableTag<T> d{};
  static constexpr int64_t N = hn::MaxLanes(d);
  using V = hn::Vec<decltype(d)>;
  struct Pixels {
    V d0, d1, d2, d3;
  };
  LoadBetween<T> low, high, next_low, next_high;
  PairColumns(int64_t begin, int64_t end)
      : low(begin, end),
        high(begin - N, end - N),
        next_low(begin - 2, end - 2),
        next_high(begin - N - 2, end - N - 2) {}

  HWY_INLINE Pixels operator()(const T* from) const {
    const V a = low(from), b = high(from + N), e = next_low(from + 2), f = next_high(from + N + 2);
    return {hn::ConcatEven(d, b, a), hn::ConcatOdd(d, b, a), hn::ConcatEven(d, f, e),
            hn::ConcatOdd(d, f, e)};
  }
};
#endif

// Elements from[i * step] for begin <= i < end, zeros in the rest of to[0, columns). Whole vectors
// are written, up to one beyond the columns.
template <class T>
HWY_INLINE void FillRow(const T* HWY_RESTRICT from, int64_t step, int64_t begin, int64_t end,
                        int64_t columns, T* HWY_RESTRICT to) {
#if LIGHTGRAD_MASKS_MAY_FAULT || HWY_TARGET == HWY_SCALAR
  for (int64_t i = 0; i < columns; ++i) to[i] = i >= begin && i < end ? from[i * step] : T(0);
#else
  const hn::ScalableTag<T> d;
  constexpr int64_t N = hn::MaxLanes(d);
  if (step == 1) {
    for (int64_t i = 0; i < columns; i += N) {
      if (i >= begin && i + N <= end)
        hn::StoreU(hn::LoadU(d, from + i), d, to + i);
      else
        hn::StoreU(hn::MaskedLoad(LanesBetween(d, begin - i, end - i), d, from + i), d, to + i);
    }
  } else {
    for (int64_t i = 0; i < columns; ++i) to[i] = i >= begin && i < end ? from[i * step] : T(0);
  }
#endif
}

#if !LIGHTGRAD_MASKS_MAY_FAULT && HWY_TARGET != HWY_SCALAR
inline constexpr int64_t kMasksMost = 512;  // elements of a row whose masks are looked up

// Which elements of a row of `period` are wanted: [begin, end). A row follows a row, so that
// vectors may cross from one to the next.
template <class T> struct RowMasks {
  HWY_ALIGN T wanted[2 * kMasksMost];
  RowMasks(int64_t begin, int64_t end, int64_t period) {
    constexpr int64_t N = kConvLanes<T>;
    for (int64_t i = 0; i < period; ++i) wanted[i] = i >= begin && i < end ? T(1) : T(0);
    for (int64_t i = period; i < period + 2 * N; ++i) wanted[i] = wanted[i - period];
  }
  template <class D> HWY_INLINE hn::Mask<D> operator()(D d, int64_t i) const {
    return hn::Ne(hn::LoadU(d, wanted + i), hn::Zero(d));
  }
};

// Rows [0, count) of `columns` elements, which are those of `from` one after the other: zeros
// outside [first, last) and where the masks do not want them.
template <class T>
HWY_INLINE void FillDense(const T* HWY_RESTRICT from, const RowMasks<T>& mask, int64_t columns,
                          int64_t count, int64_t first, int64_t last, T* HWY_RESTRICT to) {
  const hn::ScalableTag<T> d;
  constexpr int64_t N = hn::MaxLanes(d);
  const int64_t end = count * columns, low = first * columns, high = last * columns;
  const int64_t turn = N % columns;
  for (int64_t p = 0, q = 0; p < end; p += N) {
    auto wanted = mask(d, q);
    if (p < low || p + N > high) wanted = hn::And(wanted, LanesBetween(d, low - p, high - p));
    hn::StoreU(hn::MaskedLoad(wanted, d, from + p), d, to + p);
    q += turn;
    q -= q >= columns ? columns : 0;
  }
}

#endif

#if HWY_TARGET != HWY_SCALAR
// Elements from[2 i] of `rows` rows of each channel, where begin <= i < end, as rows of `columns`.
template <class T>
HWY_INLINE void FillEven(const T* HWY_RESTRICT from, int64_t from_row, int64_t from_channel,
                         int64_t begin, int64_t end, int64_t columns, int64_t channels,
                         int64_t rows, T* HWY_RESTRICT to, int64_t to_channel) {
  const hn::ScalableTag<T> d;
  constexpr int64_t N = hn::MaxLanes(d);
  // What a vector writes beyond its row is overwritten by the first one of the next, which comes
  // later.
  for (int64_t i = (columns - 1) / N * N; i >= 0; i -= N) {
    const int64_t first = 2 * (begin - i), last = 2 * (end - i) - 1;
    const LoadBetween<T> low(first, last), high(first - N, last - N);
    for (int64_t c = 0; c < channels; ++c) {
      const T* p = from + c * from_channel + 2 * i;
      T* q = to + c * to_channel + i;
      for (int64_t j = 0; j < rows; ++j, p += from_row, q += columns)
        hn::StoreU(hn::ConcatEven(d, high(p + N), low(p)), d, q);
    }
  }
}
#endif

// Channels [0, channels) of one image, rows `row` to `row + rows` of the grid and the span of the
// taps: [channel][plane][row][column]. Up to a vector beyond each plane is written.
template <class T>
void FillPlanes(const Sweep& s, int64_t channels, const T* HWY_RESTRICT image, int64_t row,
                int64_t rows, T* HWY_RESTRICT to) {
  const int64_t H = s.size[0], W = s.size[1], Q = s.grid[1], count = rows + s.span;
  const int64_t step = s.step[1], next = s.planes * s.plane_size;
  if (channels == 0 || H == 0 || W == 0) {  // no address to reckon from
    std::fill_n(to, channels * next, T(0));
    return;
  }
  for (int64_t k = 0; k < s.planes; ++k, to += s.plane_size) {
    const Plane& plane = s.plane[static_cast<std::size_t>(k)];
    // Row j of the plane is row (row + j + first) * step + phase of the image, if it has that.
    const int64_t start = (row + s.first_row) * s.step[0] + plane.phase;
    const int64_t first = std::clamp<int64_t>(ceil_div(-start, s.step[0]), 0, count);
    const int64_t last = std::clamp<int64_t>(ceil_div(H - start, s.step[0]), first, count);
    const T* from = image + start * W + plane.column;
#if HWY_TARGET != HWY_SCALAR
    if (step == 2 && Q > 0) {
      FillEven(from + first * s.step[0] * W, s.step[0] * W, H * W, plane.begin, plane.end, Q,
               channels, last - first, to + first * Q, next);
      for (int64_t c = 0; c < channels; ++c) {
        std::fill(to + c * next, to + c * next + first * Q, T(0));
        std::fill(to + c * next + last * Q, to + c * next + count * Q, T(0));
      }
      continue;
    }
#endif
#if !LIGHTGRAD_MASKS_MAY_FAULT && HWY_TARGET != HWY_SCALAR
    if (step == 1 && Q <= kMasksMost) {
      const RowMasks<T> mask(plane.begin, plane.end, Q);
      for (int64_t c = 0; c < channels; ++c, from += H * W) {
        T* p = to + c * next;
        if (s.step[0] == 1 && Q == W) {
          FillDense(from, mask, Q, count, first, last, p);
          continue;
        }
        std::fill(p, p + first * Q, T(0));
        for (int64_t j = first; j < last; ++j)
          FillDense(from + j * s.step[0] * W, mask, Q, 1, 0, 1, p + j * Q);
        std::fill(p + last * Q, p + count * Q, T(0));
      }
      continue;
    }
#endif
    for (int64_t c = 0; c < channels; ++c) {
      T* p = to + c * next;
      for (int64_t j = 0; j < count; ++j, p += Q) {
        const bool inside = j >= first && j < last;
        FillRow(inside ? from + c * H * W + j * s.step[0] * W : from, step, plane.begin,
                inside ? plane.end : 0, Q, p);
      }
    }
  }
}

// low[0], high[0], low[1], high[1], ...: `n` elements in all.
template <class T>
void Interleave(const T* HWY_RESTRICT low, const T* HWY_RESTRICT high, int64_t n,
                T* HWY_RESTRICT to) {
  int64_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::ScalableTag<T> d;
  constexpr int64_t N = hn::MaxLanes(d);
  for (; 2 * (i + N) <= n; i += N)
    hn::StoreInterleaved2(hn::LoadU(d, low + i), hn::LoadU(d, high + i), d, to + 2 * i);
#endif
  for (; 2 * i < n; ++i) {
    to[2 * i] = low[i];
    if (2 * i + 1 < n) to[2 * i + 1] = high[i];
  }
}

}  // namespace lg::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
