// conv_winograd_grad-inl.h: the transforms of Winograd's F(3x3, 2x2), per SIMD target;
// conv_winograd.h says what it is. Lanes are channels here: the products sum over tiles, and a sum
// over lanes would cost as much as they do.
#if defined(LIGHTGRAD_KERNELS_CONV_WINOGRAD_GRAD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LIGHTGRAD_KERNELS_CONV_WINOGRAD_GRAD_INL_H_
#undef LIGHTGRAD_KERNELS_CONV_WINOGRAD_GRAD_INL_H_
#else
#define LIGHTGRAD_KERNELS_CONV_WINOGRAD_GRAD_INL_H_
#endif

#include "lightgrad/kernels/conv-inl.h"
#include "lightgrad/kernels/conv_target.h"
#include "lightgrad/kernels/gemm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lg::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET != HWY_SCALAR
// Pixels [begin, end) of a row of each of a vector of channels, as to[pixel][channel].
template <class T>
HWY_INLINE void TransposeRow(const T* HWY_RESTRICT from, int64_t plane, int64_t begin, int64_t end,
                             T* HWY_RESTRICT to) {
  constexpr int64_t N = kConvLanes<T>, kBlock = 16 / sizeof(T);
  if (end - begin < kBlock) {
    for (int64_t p = begin; p < end; ++p) {
      for (int64_t c = 0; c < N; ++c) to[p * N + c] = from[c * plane + p];
    }
    return;
  }
  for (int64_t p = begin; p < end; p += kBlock) {
    const int64_t at = std::min(p, end - kBlock);
    StoreTransposed(from + at, plane, to + at * N, N);
  }
}

// `rows` rows of tiles of a vector of channels, v[frequency][tile][channel]: kSource 4x4 pixels of
// x, two apart, or 2x2 pixels of g. The first tile's corner is pixel (top, left). `lines` holds two
// or four rows of pixels. False where a number is too large, or none.
template <bool kSource, class T>
bool WinogradByChannel(const WinogradGrad& s, const T* HWY_RESTRICT image, int64_t top,
                       int64_t rows, T* HWY_RESTRICT lines, T* HWY_RESTRICT v) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  constexpr int64_t N = kConvLanes<T>, kRows = kSource ? 4 : 2;
  const auto& side = kSource ? s.x : s.g;
  const int64_t H = side.size[0], W = side.size[1], left = kSource ? s.left : 0;
  const int64_t line = (2 * s.columns + kRows - 2) * N;
  const int64_t begin = std::max<int64_t>(0, left), end = std::min(W, left + line / N);
  std::fill(lines, lines + kRows * line, T(0));
  const auto read = [&](int64_t r) LIGHTGRAD_LANES {  // what is not read stays 0
    T* const to = lines + (r & (kRows - 1)) * line;
    if (r >= 0 && r < H)
      TransposeRow(image + r * W, H * W, begin, end, to - left * N);
    else
      std::fill(to, to + line, T(0));
  };
  V squares = hn::Zero(d);
  if constexpr (kSource) {
    read(top);
    read(top + 1);
  }
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t first = top + 2 * i;
    for (int64_t r = kRows - 2; r < kRows; ++r) read(first + r);
    const T* row[kRows];
    LG_UNROLL for (int r = 0; r < kRows; ++r) row[r] = lines + ((first + r) & (kRows - 1)) * line;
    // The four vertical frequencies of a column.
    const auto column = [&](int64_t k, V* h) LIGHTGRAD_LANES {
      const V a = hn::Load(d, row[0] + k * N), b = hn::Load(d, row[1] + k * N);
      if constexpr (kSource) {
        const V e = hn::Load(d, row[2] + k * N), f = hn::Load(d, row[3] + k * N);
        h[0] = hn::Sub(a, e);
        h[1] = hn::Add(b, e);
        h[2] = hn::Sub(e, b);
        h[3] = hn::Sub(b, f);
      } else {
        h[0] = a;
        h[1] = hn::Add(a, b);
        h[2] = hn::Sub(a, b);
        h[3] = b;
      }
      // All pixels are in these two; a sum of squares stays finite only below 1e19.
      squares = hn::MulAdd(h[0], h[0], hn::MulAdd(h[3], h[3], squares));
    };
    T* to = v + i * s.columns * side.row;
    const auto store = [&](int f, V value)
                           LIGHTGRAD_LANES { hn::Store(value, d, to + f * side.frequency); };
    V h[4][4];
    if constexpr (kSource) {
      column(0, h[0]);
      column(1, h[1]);
    }
    for (int64_t j = 0; j < s.columns; ++j, to += side.row) {
      column(2 * j + kRows - 2, h[kRows - 2]);
      column(2 * j + kRows - 1, h[kRows - 1]);
      LG_UNROLL for (int k = 0; k < 4; ++k) {
        if constexpr (kSource) {
          store(4 * k, hn::Sub(h[0][k], h[2][k]));
          store(4 * k + 1, hn::Add(h[1][k], h[2][k]));
          store(4 * k + 2, hn::Sub(h[2][k], h[1][k]));
          store(4 * k + 3, hn::Sub(h[1][k], h[3][k]));
          h[0][k] = h[2][k];
          h[1][k] = h[3][k];
        } else {
          store(4 * k, h[0][k]);
          store(4 * k + 1, hn::Add(h[0][k], h[1][k]));
          store(4 * k + 2, hn::Sub(h[0][k], h[1][k]));
          store(4 * k + 3, h[1][k]);
        }
      }
    }
  }
  return std::isfinite(hn::GetLane(hn::SumOfLanes(d, squares)));
}

// dw[channel][tap], a vector of channels, from the parts of its sums m[part][frequency][channel].
template <class T>
void WinogradGradWeight(int64_t parts, int64_t part, int64_t frequency, const T* HWY_RESTRICT m,
                        T* HWY_RESTRICT dw) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  constexpr int64_t N = kConvLanes<T>;
  const V half = hn::Set(d, T(0.5));
  // [1 1/2 1/2 0; 0 1/2 -1/2 0; 0 1/2 1/2 -1] of four numbers: G^T, where the sign of the last is
  // what the transform of g left out.
  const auto taps = [&](V a, V b, V e, V f, V* to) LIGHTGRAD_LANES {
    const V sum = hn::Mul(half, hn::Add(b, e));
    to[0] = hn::Add(a, sum);
    to[1] = hn::Mul(half, hn::Sub(b, e));
    to[2] = hn::Sub(sum, f);
  };
  V rows[4][3];
  LG_UNROLL for (int i = 0; i < 4; ++i) {
    V sum[4];
    LG_UNROLL for (int j = 0; j < 4; ++j) {
      const T* from = m + (4 * i + j) * frequency;
      sum[j] = hn::Load(d, from);
      for (int64_t p = 1; p < parts; ++p) sum[j] = hn::Add(sum[j], hn::Load(d, from + p * part));
    }
    taps(sum[0], sum[1], sum[2], sum[3], rows[i]);
  }
  HWY_ALIGN T tap[9][N];
  LG_UNROLL for (int j = 0; j < 3; ++j) {
    V column[3];
    taps(rows[0][j], rows[1][j], rows[2][j], rows[3][j], column);
    LG_UNROLL for (int i = 0; i < 3; ++i) hn::Store(column[i], d, tap[3 * i + j]);
  }
  for (int64_t c = 0; c < N; ++c) {
    for (int64_t t = 0; t < 9; ++t) dw[9 * c + t] = tap[t][c];
  }
}
#endif

}  // namespace lg::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
