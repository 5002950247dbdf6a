// layer_norm.cpp: rows in cache; backward reads g and x once from memory for dx, dweight and dbias
// together.
#include "lightgrad/kernels/layer_norm.h"

#include <algorithm>
#include <cmath>

#include "lightgrad/base/parallel.h"
#include "lightgrad/kernels/per_target.h"
#include "lightgrad/kernels/row_chunks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lightgrad/kernels/layer_norm.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "lightgrad/kernels/rows-inl.h"

#ifndef LIGHTGRAD_KERNELS_LAYER_NORM_TABLE
#define LIGHTGRAD_KERNELS_LAYER_NORM_TABLE
namespace lg::kernels {
// Kernels of one row. dweight and dbias are sums to add to, or null.
template <class T> struct LayerNormRow {
  void (*forward)(const T* x, const T* weight, const T* bias, T* y, T* mean, T* rstd,
                  std::int64_t n, T eps);
  void (*backward)(const T* g, const T* x, const T* weight, T mean, T rstd, T* dx, bool add,
                   T* dweight, T* dbias, std::int64_t n);
};
}  // namespace lg::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace lg::kernels {
namespace HWY_NAMESPACE {
namespace {

template <bool affine, class T>
HWY_INLINE void Normalize(const T* x, const T* weight, const T* bias, T* y, T mean, T rstd,
                          std::int64_t n) {
  const Tag<T> d;
  const auto m = hn::Set(d, mean), r = hn::Set(d, rstd);
  EachVector(d, n, [&](int, std::int64_t i, std::int64_t lanes) LIGHTGRAD_LANES {
    auto v = hn::Mul(hn::Sub(LoadLanes(d, x + i, lanes), m), r);
    if constexpr (affine) {
      if (bias) {
        v = hn::MulAdd(v, LoadLanes(d, weight + i, lanes), LoadLanes(d, bias + i, lanes));
      } else {
        v = hn::Mul(v, LoadLanes(d, weight + i, lanes));
      }
    } else if (bias) {
      v = hn::Add(v, LoadLanes(d, bias + i, lanes));
    }
    StoreLanes(v, d, y + i, lanes);
  });
}

template <class T>
void Forward(const T* x, const T* weight, const T* bias, T* y, T* mean, T* rstd, std::int64_t n,
             T eps) {
  const Tag<T> d;
  const T count = static_cast<T>(n), first = RowSum(x, n) / count;
  const auto m = hn::Set(d, first);
  Slots<Tag<T>> squares(T(0)), rest(T(0));
  EachVector(d, n, [&](int s, std::int64_t i, std::int64_t lanes) LIGHTGRAD_LANES {
    const auto v = hn::Sub(LoadLanes(d, x + i, lanes, first), m);
    squares.v[s] = hn::MulAdd(v, v, squares.v[s]);
    rest.v[s] = hn::Add(rest.v[s], v);
  });
  // The deviations from a rounded mean do not sum to zero: what is left corrects mean and variance.
  const T left = rest.sum() / count;
  *mean = first + left;
  *rstd = T(1) / std::sqrt(std::max(squares.sum() / count - left * left, T(0)) + eps);
  if (weight) {
    Normalize<true>(x, weight, bias, y, *mean, *rstd, n);
  } else {
    Normalize<false>(x, weight, bias, y, *mean, *rstd, n);
  }
}

template <bool affine, class T>
HWY_INLINE void BackwardRow(const T* g, const T* x, const T* weight, T mean, T rstd, T* dx,
                            bool add, T* dweight, T* dbias, std::int64_t n) {
  const Tag<T> d;
  const auto m = hn::Set(d, mean), r = hn::Set(d, rstd);
  const auto scaled = [&](hn::Vec<Tag<T>> v, std::int64_t i, std::int64_t lanes) LIGHTGRAD_LANES {
    if constexpr (affine) {
      return hn::Mul(v, LoadLanes(d, weight + i, lanes));
    } else {
      return v;
    }
  };
  Slots<Tag<T>> sum(T(0)), dot(T(0));
  EachVector(d, n, [&](int s, std::int64_t i, std::int64_t lanes) LIGHTGRAD_LANES {
    const auto v = LoadLanes(d, g + i, lanes);
    const auto h = hn::Mul(hn::Sub(LoadLanes(d, x + i, lanes), m), r);
    if (dweight)
      StoreLanes(hn::MulAdd(v, h, LoadLanes(d, dweight + i, lanes)), d, dweight + i, lanes);
    if (dbias) StoreLanes(hn::Add(v, LoadLanes(d, dbias + i, lanes)), d, dbias + i, lanes);
    const auto u = scaled(v, i, lanes);
    sum.v[s] = hn::Add(sum.v[s], u);
    dot.v[s] = hn::MulAdd(u, h, dot.v[s]);
  });
  if (!dx) return;
  const auto mean_u = hn::Set(d, sum.sum() / static_cast<T>(n)),
             mean_uh = hn::Set(d, dot.sum() / static_cast<T>(n));
  EachVector(d, n, [&](int, std::int64_t i, std::int64_t lanes) LIGHTGRAD_LANES {
    const auto h = hn::Mul(hn::Sub(LoadLanes(d, x + i, lanes), m), r);
    const auto u = scaled(LoadLanes(d, g + i, lanes), i, lanes);
    auto v = hn::Mul(r, hn::NegMulAdd(h, mean_uh, hn::Sub(u, mean_u)));
    if (add) v = hn::Add(LoadLanes(d, dx + i, lanes), v);
    StoreLanes(v, d, dx + i, lanes);
  });
}

template <class T>
void Backward(const T* g, const T* x, const T* weight, T mean, T rstd, T* dx, bool add, T* dweight,
              T* dbias, std::int64_t n) {
  if (weight) {
    BackwardRow<true>(g, x, weight, mean, rstd, dx, add, dweight, dbias, n);
  } else {
    BackwardRow<false>(g, x, weight, mean, rstd, dx, add, dweight, dbias, n);
  }
}

template <class T> constexpr LayerNormRow<T> kRow{&Forward<T>, &Backward<T>};

}  // namespace
LIGHTGRAD_EXPORT_TABLE(LayerNorm, LayerNormRow, kRow)
}  // namespace HWY_NAMESPACE
}  // namespace lg::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lg::kernels {
LIGHTGRAD_CHOOSE_TABLE(LayerNorm, LayerNormRow, row_kernels)

template <class T>
void layer_norm_forward(const T* x, const T* weight, const T* bias, T* y, T* mean, T* rstd,
                        std::int64_t rows, std::int64_t n, double eps) {
  const auto row = row_kernels<T>().forward;
  parallel_for(rows, row_grain(n), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      row(x + r * n, weight, bias, y + r * n, mean + r, rstd + r, n, static_cast<T>(eps));
    }
  });
}

template <class T>
void layer_norm_backward(const T* g, const T* x, const T* weight, const T* mean, const T* rstd,
                         T* dx, bool add, T* dweight, T* dbias, std::int64_t rows, std::int64_t n) {
  const auto row = row_kernels<T>().backward;
  // At most 64 partial sums, whatever the number of rows: they must be small beside g and x.
  const std::int64_t grain = std::max({row_grain(n), std::int64_t{16}, (rows + 63) / 64});
  const std::int64_t chunks = (rows + grain - 1) / grain;
  const bool sums = dweight || dbias;
  Scratch<T> partial(sums ? chunks * 2 * n : 0);  // [chunks, 2, n]: dweight, dbias
  parallel_for(rows, grain, [&](std::int64_t begin, std::int64_t end) {
    T* dw = sums ? partial.get() + begin / grain * 2 * n : nullptr;
    T* db = sums ? dw + n : nullptr;
    if (sums) std::fill(dw, dw + 2 * n, T(0));
    for (std::int64_t r = begin; r < end; ++r) {
      row(g + r * n, x + r * n, weight, mean[r], rstd[r], dx ? dx + r * n : nullptr, add,
          dweight ? dw : nullptr, dbias ? db : nullptr, n);
    }
  });
  if (!sums) return;
  parallel_for(n, std::max<std::int64_t>(64, 16384 / std::max<std::int64_t>(1, chunks)),
               [&](std::int64_t begin, std::int64_t end) {
                 for (T* out : {dweight, dbias}) {
                   if (!out) continue;
                   const T* p = partial.get() + (out == dbias ? n : 0);
                   std::fill(out + begin, out + end, T(0));
                   for (std::int64_t c = 0; c < chunks; ++c, p += 2 * n) {
                     for (std::int64_t i = begin; i < end; ++i) out[i] += p[i];
                   }
                 }
               });
}

template <class T>
void layer_norm_forward_reference(const T* x, const T* weight, const T* bias, T* y, T* mean,
                                  T* rstd, std::int64_t rows, std::int64_t n, double eps) {
  for (std::int64_t r = 0; r < rows; ++r, x += n, y += n) {
    T sum = 0, squares = 0;
    for (std::int64_t i = 0; i < n; ++i) sum += x[i];
    mean[r] = sum / static_cast<T>(n);
    for (std::int64_t i = 0; i < n; ++i) squares += (x[i] - mean[r]) * (x[i] - mean[r]);
    rstd[r] = T(1) / std::sqrt(squares / static_cast<T>(n) + static_cast<T>(eps));
    for (std::int64_t i = 0; i < n; ++i) {
      y[i] = (x[i] - mean[r]) * rstd[r] * (weight ? weight[i] : T(1)) + (bias ? bias[i] : T(0));
    }
  }
}

template <class T>
void layer_norm_backward_reference(const T* g, const T* x, const T* weight, const T* mean,
                                   const T* rstd, T* dx, bool add, T* dweight, T* dbias,
                                   std::int64_t rows, std::int64_t n) {
  if (dweight) std::fill(dweight, dweight + n, T(0));
  if (dbias) std::fill(dbias, dbias + n, T(0));
  for (std::int64_t r = 0; r < rows; ++r, g += n, x += n) {
    const auto h = [&](std::int64_t i) { return (x[i] - mean[r]) * rstd[r]; };
    const auto u = [&](std::int64_t i) { return g[i] * (weight ? weight[i] : T(1)); };
    T sum = 0, dot = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      sum += u(i);
      dot += u(i) * h(i);
      if (dweight) dweight[i] += g[i] * h(i);
      if (dbias) dbias[i] += g[i];
    }
    for (std::int64_t i = 0; dx && i < n; ++i) {
      const T v = rstd[r] * (u(i) - sum / static_cast<T>(n) - h(i) * dot / static_cast<T>(n));
      dx[r * n + i] = add ? dx[r * n + i] + v : v;
    }
  }
}

#define LIGHTGRAD_INSTANTIATE(T)                                                                \
  template void layer_norm_forward(const T*, const T*, const T*, T*, T*, T*, std::int64_t,      \
                                   std::int64_t, double);                                       \
  template void layer_norm_backward(const T*, const T*, const T*, const T*, const T*, T*, bool, \
                                    T*, T*, std::int64_t, std::int64_t);                        \
  template void layer_norm_forward_reference(const T*, const T*, const T*, T*, T*, T*,          \
                                             std::int64_t, std::int64_t, double);               \
  template void layer_norm_backward_reference(const T*, const T*, const T*, const T*, const T*, \
                                              T*, bool, T*, T*, std::int64_t, std::int64_t);
LIGHTGRAD_INSTANTIATE(float)
LIGHTGRAD_INSTANTIATE(double)
#undef LIGHTGRAD_INSTANTIATE

}  // namespace lg::kernels
#endif  // HWY_ONCE
