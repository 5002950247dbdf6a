// conv_depthwise-inl.h: one plane of a depthwise 3x3 convolution of step 1 or 2 and of its
// gradients, per SIMD target. Columns of y are lanes; a row of x is loaded once, as its pixels
// under each column of the kernel, for all the rows of a block of y that it meets.
#if defined(LIGHTGRAD_KERNELS_CONV_DEPTHWISE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LIGHTGRAD_KERNELS_CONV_DEPTHWISE_INL_H_
#undef LIGHTGRAD_KERNELS_CONV_DEPTHWISE_INL_H_
#else
#define LIGHTGRAD_KERNELS_CONV_DEPTHWISE_INL_H_
#endif

#include "lightgrad/kernels/conv-inl.h"
#include "lightgrad/kernels/conv_depthwise.h"

HWY_BEFORE_NAMESPACE();
namespace lg::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET != HWY_SCALAR
// Rows of y in a block: sums, and the weights or the sums over them, must fit the registers.
#if HWY_TARGET <= HWY_AVX3
inline constexpr int kPlaneRows = 8, kPlaneGradRows = 4;
#else
inline constexpr int kPlaneRows = 4, kPlaneGradRows = 2;
#endif

// Pixels step * i, + 1 and + 2 of a row for every lane i, where the row has them: [begin, end).
template <int kStep, class T> struct KernelColumns {
  using V = hn::Vec<hn::ScalableTag<T>>;
  PairColumns<T> load;
  KernelColumns(int64_t begin, int64_t end) : load(begin, end) {}
  HWY_INLINE void operator()(const T* from, V* x) const {
    const auto p = load(from);
    x[0] = p.d0;
    x[1] = p.d1;
    x[2] = p.d2;
  }
};
template <class T> struct KernelColumns<1, T> {
  using V = hn::Vec<hn::ScalableTag<T>>;
  LoadBetween<T> load0, load1, load2;
  KernelColumns(int64_t begin, int64_t end)
      : load0(begin, end), load1(begin - 1, end - 1), load2(begin - 2, end - 2) {}
  HWY_INLINE void operator()(const T* from, V* x) const {
    x[0] = load0(from);
    x[1] = load1(from + 1);
    x[2] = load2(from + 2);
  }
};

template <int kStep, class T>
void DepthwiseForward(const ConvPlane& p, const T* HWY_RESTRICT x, const T* HWY_RESTRICT w, T bias,
                      T* HWY_RESTRICT y) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  constexpr int64_t N = kConvLanes<T>;
  const int64_t H = p.in[0], W = p.in[1];
  V weight[9];
  LG_UNROLL for (int t = 0; t < 9; ++t) weight[t] = hn::Set(d, w[t]);
  for (int64_t j = 0; j < p.out[1]; j += N) {
    const int64_t first = j * kStep - p.pad[1], lanes = std::min(N, p.out[1] - j);
    const KernelColumns<kStep, T> load(-first, W - first);
    for (int64_t i = 0; i < p.out[0]; i += kPlaneRows) {
      V sum[kPlaneRows];
      LG_UNROLL for (int k = 0; k < kPlaneRows; ++k) sum[k] = hn::Set(d, bias);
      LG_UNROLL for (int r = 0; r < (kPlaneRows - 1) * kStep + 3; ++r) {
        const int64_t row = i * kStep - p.pad[0] + r;
        if (row < 0 || row >= H) continue;
        V pixels[3];
        load(x + row * W + first, pixels);
        LG_UNROLL for (int k = 0; k < kPlaneRows; ++k) {
          const int tap = r - k * kStep;
          if (tap < 0 || tap > 2) continue;
          LG_UNROLL for (int q = 0; q < 3; ++q) sum[k] =
              hn::MulAdd(weight[3 * tap + q], pixels[q], sum[k]);
        }
      }
      LG_UNROLL for (int k = 0; k < kPlaneRows; ++k) {
        if (i + k < p.out[0]) StoreLanes(sum[k], d, y + (i + k) * p.out[1] + j, lanes);
      }
    }
  }
}

// The gradient of x for a step of 2: pixel h of a row takes the taps p of the parity of h + pad,
// with pixel (h + pad - p) / 2 of g. So two rows of x, and two columns, meet the same two of g:
// one of them tap 0 of the later and tap 2 of the earlier, the other tap 1 of one of them.
template <class T>
void DepthwiseBackwardData(const ConvPlane& p, const T* HWY_RESTRICT g, const T* HWY_RESTRICT w,
                           T* HWY_RESTRICT dx) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  constexpr int64_t N = kConvLanes<T>;
  const int64_t H = p.in[0], W = p.in[1];
  const bool odd[2] = {p.pad[0] % 2 != 0, p.pad[1] % 2 != 0};  // the odd one takes two taps
  // Pair m of x meets pixels m + early and the next.
  const int64_t early[2] = {floor_div(p.pad[0] + 1, 2) - 1, floor_div(p.pad[1] + 1, 2) - 1};
  V weight[9];
  LG_UNROLL for (int t = 0; t < 9; ++t) weight[t] = hn::Set(d, w[t]);
  for (int64_t m = 0; 2 * m < W; m += N) {
    const int64_t first = m + early[1];
    const LoadBetween<T> earlier(-first, p.out[1] - first), later(-first - 1, p.out[1] - first - 1);
    struct Row {
      V both[2], one;  // columns of g: the earlier and the later, and that of tap 1
    };
    const auto read = [&](int64_t row) LIGHTGRAD_LANES {
      Row r{{hn::Zero(d), hn::Zero(d)}, hn::Zero(d)};
      if (row < 0 || row >= p.out[0]) return r;
      const T* from = g + row * p.out[1] + first;
      r.both[0] = earlier(from);
      r.both[1] = later(from + 1);
      r.one = odd[1] ? r.both[0] : r.both[1];
      return r;
    };
    const auto write = [&](int64_t row, V two, V one) LIGHTGRAD_LANES {
      if (row >= H) return;
      HWY_ALIGN T pair[2 * N];
      const V even = odd[1] ? one : two, next = odd[1] ? two : one;
      hn::StoreInterleaved2(even, next, d, pair);
      T* to = dx + row * W + 2 * m;
      const int64_t left = W - 2 * m;
      StoreLanes(hn::Load(d, pair), d, to, std::min(left, N));
      if (left > N) StoreLanes(hn::Load(d, pair + N), d, to + N, std::min(left - N, N));
    };
    Row a = read(early[0]);
    for (int64_t i = 0; 2 * i < H; ++i) {
      const Row b = read(i + early[0] + 1), &c = odd[0] ? a : b;
      const V two =
          hn::MulAdd(weight[0], b.both[1],
                     hn::MulAdd(weight[2], b.both[0],
                                hn::MulAdd(weight[6], a.both[1], hn::Mul(weight[8], a.both[0]))));
      const V one = hn::MulAdd(weight[1], b.one, hn::Mul(weight[7], a.one));
      write(2 * i + odd[0], two, one);
      write(2 * i + !odd[0], hn::MulAdd(weight[3], c.both[1], hn::Mul(weight[5], c.both[0])),
            hn::Mul(weight[4], c.one));
      a = b;
    }
  }
}

// dw[tap] += the products of g and of x under the tap.
template <int kStep, class T>
void DepthwiseBackwardWeight(const ConvPlane& p, const T* HWY_RESTRICT x, const T* HWY_RESTRICT g,
                             T* HWY_RESTRICT dw) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  constexpr int64_t N = kConvLanes<T>;
  const int64_t H = p.in[0], W = p.in[1];
  V sum[12];  // whole blocks, for AddSums
  LG_UNROLL for (int t = 0; t < 12; ++t) sum[t] = hn::Zero(d);
  for (int64_t j = 0; j < p.out[1]; j += N) {
    const int64_t first = j * kStep - p.pad[1], lanes = std::min(N, p.out[1] - j);
    const KernelColumns<kStep, T> load(-first, W - first);
    const LoadBetween<T> load_g(0, lanes);
    const auto wanted = LanesBetween(d, 0, lanes);
    // A zero in place of a missing row of g would spread an infinity of x: rows that fill no block
    // come one by one.
    const auto block = [&](auto rows, int64_t i) LIGHTGRAD_LANES {
      constexpr int kRows = rows;
      V gv[kRows];
      LG_UNROLL for (int k = 0; k < kRows; ++k) gv[k] = load_g(g + (i + k) * p.out[1] + j);
      LG_UNROLL for (int r = 0; r < (kRows - 1) * kStep + 3; ++r) {
        const int64_t row = i * kStep - p.pad[0] + r;
        if (row < 0 || row >= H) continue;
        V pixels[3];
        load(x + row * W + first, pixels);
        LG_UNROLL for (int q = 0; q < 3; ++q) pixels[q] = hn::IfThenElseZero(wanted, pixels[q]);
        LG_UNROLL for (int k = 0; k < kRows; ++k) {
          const int tap = r - k * kStep;
          if (tap < 0 || tap > 2) continue;
          LG_UNROLL for (int q = 0; q < 3; ++q) {
            V& to = sum[3 * tap + q];
            to = hn::MulAdd(gv[k], pixels[q], to);
          }
        }
      }
    };
    int64_t i = 0;
    for (; i + kPlaneGradRows <= p.out[0]; i += kPlaneGradRows)
      block(std::integral_constant<int, kPlaneGradRows>(), i);
    for (; i < p.out[0]; ++i) block(std::integral_constant<int, 1>(), i);
  }
  T sums[12] = {};
  AddSums<12, 1>(d, sum, sums);
  for (int t = 0; t < 9; ++t) dw[t] += sums[t];
}
#endif

}  // namespace lg::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
