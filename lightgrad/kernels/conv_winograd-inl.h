// conv_winograd-inl.h: Winograd's F(2x2, 3x3), per SIMD target: how pixels and sums are transformed
// and the products between; conv_winograd.h says what it is. Lanes are tiles that stand side by
// side, so a tile is transformed without a shuffle among its own 16 numbers.
#if defined(LIGHTGRAD_KERNELS_CONV_WINOGRAD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LIGHTGRAD_KERNELS_CONV_WINOGRAD_INL_H_
#undef LIGHTGRAD_KERNELS_CONV_WINOGRAD_INL_H_
#else
#define LIGHTGRAD_KERNELS_CONV_WINOGRAD_INL_H_
#endif

#include "lightgrad/kernels/conv-inl.h"
#include "lightgrad/kernels/conv_target.h"

HWY_BEFORE_NAMESPACE();
namespace lg::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET != HWY_SCALAR
// `rows` rows of `columns` tiles of each channel of an image: v[frequency][channel][tile]. Tiles
// overlap: the first has its corner at pixel (top, left) of the image, the next two further. Up to
// a vector beyond the last tile is written. False where a number is too large, or none.
template <class T>
bool WinogradInput(const WinogradTiles& s, int64_t channels, const T* HWY_RESTRICT image,
                   int64_t top, int64_t rows, T* HWY_RESTRICT v) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  constexpr int64_t N = kConvLanes<T>;
  const int64_t H = s.size[0], W = s.size[1];
  V squares = hn::Zero(d);
  // What a vector writes beyond its row is overwritten: by the next row, or, where a row has
  // several vectors, by their first, which comes last.
  for (int64_t at = (s.columns - 1) / N * N; at >= 0; at -= N) {
    const int64_t first = 2 * at + s.left;
    const PairColumns<T> load(-first, W - first);
    for (int64_t c = 0; c < channels; ++c) {
      const T* const from = image + c * H * W + first;
      V h[4][4];
      const auto row = [&](int64_t r, V* to) LIGHTGRAD_LANES {
        if (r >= 0 && r < H) {
          const auto p = load(from + r * W);
          to[0] = hn::Sub(p.d0, p.d2);
          to[1] = hn::Add(p.d1, p.d2);
          to[2] = hn::Sub(p.d2, p.d1);
          to[3] = hn::Sub(p.d1, p.d3);
          // All four columns are in these two; a sum of squares stays finite only below 1e19.
          squares = hn::MulAdd(to[0], to[0], hn::MulAdd(to[3], to[3], squares));
        } else {
          LG_UNROLL for (int j = 0; j < 4; ++j) to[j] = hn::Zero(d);
        }
      };
      row(top, h[0]);
      row(top + 1, h[1]);
      T* to = v + c * s.row + at;
      for (int64_t i = 0; i < rows; ++i, to += s.columns) {
        row(top + 2 * i + 2, h[2]);
        row(top + 2 * i + 3, h[3]);
        LG_UNROLL for (int j = 0; j < 4; ++j) {
          hn::StoreU(hn::Sub(h[0][j], h[2][j]), d, to + j * s.in_frequency);
          hn::StoreU(hn::Add(h[1][j], h[2][j]), d, to + (4 + j) * s.in_frequency);
          hn::StoreU(hn::Sub(h[2][j], h[1][j]), d, to + (8 + j) * s.in_frequency);
          hn::StoreU(hn::Sub(h[1][j], h[3][j]), d, to + (12 + j) * s.in_frequency);
          // The next channel's lines come from L2 meanwhile: stores would wait for one after
          // another.
          LG_UNROLL for (int k = 0; k < 4; ++k)
              __builtin_prefetch(to + s.row + (4 * k + j) * s.in_frequency, 1, 3);
          h[0][j] = h[2][j];
          h[1][j] = h[3][j];
        }
      }
    }
  }
  return std::isfinite(hn::GetLane(hn::SumOfLanes(d, squares)));
}

// u[frequency][channel][o], a block of kOuts outputs, of w's first `outs`; both orders of the taps.
// False where a number is too large, or none.
template <int kOuts, class T>
bool WinogradWeight(const WinogradWeights& s, const T* HWY_RESTRICT w, int64_t outs,
                    T* HWY_RESTRICT u) {
  const hn::CappedTag<T, kOuts> d;
  using V = hn::Vec<decltype(d)>;
  constexpr int64_t N = hn::MaxLanes(d);
  const V half = hn::Set(d, T(0.5));
  V squares = hn::Zero(d);
  for (int64_t c = 0; c < s.channels; ++c, w += s.channel) {
    for (int64_t first = 0; first < kOuts; first += N) {
      HWY_ALIGN T taps[9][N];
      for (int64_t o = 0; o < N; ++o) {
        for (int64_t k = 0; k < 9; ++k) {
          taps[s.flipped ? 8 - k : k][o] = first + o < outs ? w[(first + o) * s.out + k] : T(0);
        }
      }
      V g[4][3];
      LG_UNROLL for (int j = 0; j < 3; ++j) {
        const V t0 = hn::Load(d, taps[j]), t1 = hn::Load(d, taps[3 + j]),
                t2 = hn::Load(d, taps[6 + j]), sum = hn::Add(t0, t2);
        g[0][j] = t0;
        g[1][j] = hn::Mul(half, hn::Add(sum, t1));
        g[2][j] = hn::Mul(half, hn::Sub(sum, t1));
        g[3][j] = t2;
        squares = hn::MulAdd(t0, t0, hn::MulAdd(t1, t1, hn::MulAdd(t2, t2, squares)));
      }
      T* to = u + c * kOuts + first;
      LG_UNROLL for (int i = 0; i < 4; ++i, to += 4 * s.frequency) {
        const V sum = hn::Add(g[i][0], g[i][2]);
        hn::StoreU(g[i][0], d, to);
        hn::StoreU(hn::Mul(half, hn::Add(sum, g[i][1])), d, to + s.frequency);
        hn::StoreU(hn::Mul(half, hn::Sub(sum, g[i][1])), d, to + 2 * s.frequency);
        hn::StoreU(g[i][2], d, to + 3 * s.frequency);
      }
    }
  }
  return std::isfinite(hn::GetLane(hn::SumOfLanes(d, squares)));
}

// m[o] = (or +=) the sum over k < depth of u[k][o] v[k], kVecs vectors: kOuts rows of m.
template <int kOuts, int kVecs, class T>
HWY_NOINLINE void WinogradProduct(int64_t depth, const T* HWY_RESTRICT u, int64_t u_row,
                                  const T* HWY_RESTRICT v, int64_t row, T* HWY_RESTRICT m,
                                  bool add) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  constexpr int64_t N = kConvLanes<T>;
  V sum[kOuts][kVecs];
  LG_UNROLL for (int o = 0; o < kOuts; ++o) {
    LG_UNROLL for (int k = 0; k < kVecs; ++k) sum[o][k] = hn::Zero(d);
  }
  for (int64_t k = 0; k < depth; ++k, u += u_row, v += row) {
    V vv[kVecs];
    LG_UNROLL for (int i = 0; i < kVecs; ++i) vv[i] = hn::LoadU(d, v + i * N);
    LG_UNROLL for (int o = 0; o < kOuts; ++o) {
      const V uv = hn::Set(d, u[o]);
      LG_UNROLL for (int i = 0; i < kVecs; ++i) sum[o][i] = hn::MulAdd(uv, vv[i], sum[o][i]);
    }
  }
  LG_UNROLL for (int o = 0; o < kOuts; ++o, m += row) {
    LG_UNROLL for (int k = 0; k < kVecs; ++k) {
      T* to = m + k * N;
      hn::StoreU(add ? hn::Add(sum[o][k], hn::LoadU(d, to)) : sum[o][k], d, to);
    }
  }
}

// The pixels of `rows` rows of tiles of each of `outs` outputs; y is theirs, of `height` rows.
template <class T>
void WinogradOutput(const WinogradTiles& s, int64_t outs, const T* HWY_RESTRICT m,
                    const T* HWY_RESTRICT bias, int64_t rows, int64_t height, T* HWY_RESTRICT y) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  constexpr int64_t N = kConvLanes<T>;
  const int64_t W = s.out[1];
  for (int64_t o = 0; o < outs; ++o, y += s.out[0] * W, m += s.row) {
    const V start = bias ? hn::Set(d, bias[o]) : hn::Zero(d);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t at = 0; at < s.columns; at += N) {
        const T* from = m + i * s.columns + at;
        V upper[4], lower[4];
        LG_UNROLL for (int j = 0; j < 4; ++j) {
          const auto part = [&](int k) LIGHTGRAD_LANES {
            return hn::LoadU(d, from + (4 * k + j) * s.out_frequency);
          };
          const V m1 = part(1), m2 = part(2);
          upper[j] = hn::Add(part(0), hn::Add(m1, m2));
          lower[j] = hn::Sub(hn::Sub(m1, m2), part(3));
        }
        const int64_t left = std::min(2 * N, W - 2 * at);
        const auto write = [&](const V* p, T* to) LIGHTGRAD_LANES {
          const V even = hn::Add(hn::Add(p[0], start), hn::Add(p[1], p[2]));
          const V odd = hn::Add(hn::Sub(hn::Sub(p[1], p[2]), p[3]), start);
          if (left == 2 * N) {
            hn::StoreInterleaved2(even, odd, d, to);
            return;
          }
          HWY_ALIGN T both[2 * N];
          hn::StoreInterleaved2(even, odd, d, both);
          StoreLanes(hn::Load(d, both), d, to, std::min(left, N));
          if (left > N) StoreLanes(hn::Load(d, both + N), d, to + N, left - N);
        };
        write(upper, y + 2 * i * W + 2 * at);
        if (2 * i + 1 < height) write(lower, y + (2 * i + 1) * W + 2 * at);
      }
    }
  }
}
#endif

}  // namespace lg::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
