#include "lightgrad/kernels/batch_norm.h"

#include <algorithm>
#include <cmath>

#include "lightgrad/base/parallel.h"
#include "lightgrad/kernels/per_target.h"
#include "lightgrad/kernels/row_chunks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lightgrad/kernels/batch_norm.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "lightgrad/kernels/rows-inl.h"

#ifndef LIGHTGRAD_KERNELS_BATCH_NORM_TABLE
#define LIGHTGRAD_KERNELS_BATCH_NORM_TABLE
namespace lg::kernels {
// Kernels of one channel.
template <class T> struct BatchNormChannel {
  void (*forward)(const BatchNorm<T>& b, std::int64_t channel);
  void (*backward)(const BatchNorm<T>& b, std::int64_t channel, const T* g, T* dx, Wide<T>* dweight,
                   Wide<T>* dbias, T* dresidual);
};
}  // namespace lg::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace lg::kernels {
namespace HWY_NAMESPACE {
namespace {

// Row by row, the sums of a channel go on in double: a row is at most an image long.
template <class T> void Statistics(const BatchNorm<T>& b, std::int64_t c) {
  using A = Wide<T>;
  const Tag<A> d;
  const double count = static_cast<double>(b.images * b.plane);
  const std::int64_t step = b.channels * b.plane;
  double sum = 0, squares = 0, left = 0;
  for (std::int64_t n = 0; n < b.images; ++n) sum += RowSum(b.x + n * step + c * b.plane, b.plane);
  const A first = static_cast<A>(sum / count);
  const auto m = hn::Set(d, first);
  for (std::int64_t n = 0; n < b.images; ++n) {
    const T* x = b.x + n * step + c * b.plane;
    Slots<Tag<A>> square(A(0)), rest(A(0));
    EachVector(d, b.plane, [&](int s, std::int64_t i, std::int64_t lanes) LIGHTGRAD_LANES {
      const auto v = hn::Sub(LoadLanes(d, x + i, lanes, first), m);
      square.v[s] = hn::MulAdd(v, v, square.v[s]);
      rest.v[s] = hn::Add(rest.v[s], v);
    });
    squares += square.sum();
    left += rest.sum();
  }
  // The deviations from a rounded mean do not sum to zero: what is left corrects mean and variance.
  left /= count;
  b.mean[c] = static_cast<A>(first + left);
  b.var[c] = static_cast<A>(std::max(squares / count - left * left, 0.0));
}

template <class T> void Forward(const BatchNorm<T>& b, std::int64_t c) {
  if (b.batch_statistics) Statistics(b, c);
  using A = Wide<T>;
  b.rstd[c] = static_cast<A>(1 / std::sqrt(b.var[c] + b.eps));
  const Tag<A> d;
  const auto m = hn::Set(d, b.mean[c]), zero = hn::Zero(d);
  const auto scale = hn::Set(d, b.weight ? b.rstd[c] * b.weight[c] : b.rstd[c]);
  const auto shift = hn::Set(d, b.bias ? b.bias[c] : A(0));
  for (std::int64_t n = 0; n < b.images; ++n) {
    const std::int64_t at = (n * b.channels + c) * b.plane;
    EachVector(d, b.plane, [&](int, std::int64_t i, std::int64_t lanes) LIGHTGRAD_LANES {
      auto v = hn::MulAdd(hn::Sub(LoadLanes(d, b.x + at + i, lanes), m), scale, shift);
      if (b.residual) v = hn::Add(v, LoadLanes(d, b.residual + at + i, lanes));
      if (b.relu) v = hn::IfThenZeroElse(hn::Le(v, zero), v);  // NaN stays
      StoreLanes(v, d, b.y + at + i, lanes);
    });
  }
}

template <class T>
void Backward(const BatchNorm<T>& b, std::int64_t c, const T* g, T* dx, Wide<T>* dweight,
              Wide<T>* dbias, T* dresidual) {
  using A = Wide<T>;
  const Tag<A> d;
  const auto m = hn::Set(d, b.mean[c]), r = hn::Set(d, b.rstd[c]), zero = hn::Zero(d);
  const auto gradient = [&](std::int64_t at, std::int64_t lanes) LIGHTGRAD_LANES {
    const auto u = LoadLanes(d, g + at, lanes);
    return b.relu ? hn::IfThenZeroElse(hn::Le(LoadLanes(d, b.y + at, lanes), zero), u) : u;
  };
  const bool sums = dweight || dbias || (dx && b.batch_statistics);
  double sum = 0, dot = 0;
  for (std::int64_t n = 0; n < b.images && (sums || dresidual); ++n) {
    const std::int64_t at = (n * b.channels + c) * b.plane;
    Slots<Tag<A>> s1(A(0)), s2(A(0));
    EachVector(d, b.plane, [&](int s, std::int64_t i, std::int64_t lanes) LIGHTGRAD_LANES {
      const auto u = gradient(at + i, lanes);
      const auto h = hn::Mul(hn::Sub(LoadLanes(d, b.x + at + i, lanes), m), r);
      s1.v[s] = hn::Add(s1.v[s], u);
      s2.v[s] = hn::MulAdd(u, h, s2.v[s]);
      if (dresidual) StoreLanes(u, d, dresidual + at + i, lanes);
    });
    sum += s1.sum();
    dot += s2.sum();
  }
  if (dweight) dweight[c] = static_cast<A>(dot);
  if (dbias) dbias[c] = static_cast<A>(sum);
  if (!dx) return;
  const double count = b.batch_statistics ? static_cast<double>(b.images * b.plane) : INFINITY;
  const auto scale = hn::Set(d, b.weight ? b.rstd[c] * b.weight[c] : b.rstd[c]);
  const auto mean_u = hn::Set(d, static_cast<A>(sum / count)),
             mean_uh = hn::Set(d, static_cast<A>(dot / count));
  for (std::int64_t n = 0; n < b.images; ++n) {
    const std::int64_t at = (n * b.channels + c) * b.plane;
    EachVector(d, b.plane, [&](int, std::int64_t i, std::int64_t lanes) LIGHTGRAD_LANES {
      auto u = gradient(at + i, lanes);
      if (b.batch_statistics) {
        const auto h = hn::Mul(hn::Sub(LoadLanes(d, b.x + at + i, lanes), m), r);
        u = hn::NegMulAdd(h, mean_uh, hn::Sub(u, mean_u));
      }
      StoreLanes(hn::Mul(u, scale), d, dx + at + i, lanes);
    });
  }
}

template <class T> constexpr BatchNormChannel<T> kChannel{&Forward<T>, &Backward<T>};

}  // namespace
LIGHTGRAD_EXPORT_TABLE(BatchNorm, BatchNormChannel, kChannel)
const BatchNormChannel<bfloat16>* BatchNormBfloat16() { return &kChannel<bfloat16>; }
}  // namespace HWY_NAMESPACE
}  // namespace lg::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lg::kernels {
LIGHTGRAD_CHOOSE_TABLE(BatchNorm, BatchNormChannel, channel_kernels)
HWY_EXPORT(BatchNormBfloat16);
namespace {
template <> const BatchNormChannel<bfloat16>& channel_kernels() {
  return *HWY_DYNAMIC_DISPATCH(BatchNormBfloat16)();
}
}  // namespace

template <class T> void batch_norm_forward(const BatchNorm<T>& b) {
  const auto run = channel_kernels<T>().forward;
  parallel_for(b.channels, row_grain(b.images * b.plane),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t c = begin; c < end; ++c) run(b, c);
               });
}

template <class T>
void batch_norm_backward(const BatchNorm<T>& b, const T* g, T* dx, Wide<T>* dweight, Wide<T>* dbias,
                         T* dresidual) {
  const auto run = channel_kernels<T>().backward;
  parallel_for(b.channels, row_grain(b.images * b.plane),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t c = begin; c < end; ++c)
                   run(b, c, g, dx, dweight, dbias, dresidual);
               });
}

namespace {
// f(i) for every element of a channel.
template <class T, class F> void each_of_channel(const BatchNorm<T>& b, std::int64_t c, F&& f) {
  for (std::int64_t n = 0; n < b.images; ++n) {
    for (std::int64_t i = 0; i < b.plane; ++i) f((n * b.channels + c) * b.plane + i);
  }
}
}  // namespace

template <class T> void batch_norm_forward_reference(const BatchNorm<T>& b) {
  const T count = static_cast<T>(b.images * b.plane);
  for (std::int64_t c = 0; c < b.channels; ++c) {
    if (b.batch_statistics) {
      T sum = 0, squares = 0;
      each_of_channel(b, c, [&](std::int64_t i) { sum += b.x[i]; });
      const T mean = sum / count;
      each_of_channel(b, c, [&](std::int64_t i) { squares += (b.x[i] - mean) * (b.x[i] - mean); });
      b.mean[c] = mean;
      b.var[c] = squares / count;
    }
    b.rstd[c] = T(1) / std::sqrt(b.var[c] + static_cast<T>(b.eps));
    each_of_channel(b, c, [&](std::int64_t i) {
      T v = (b.x[i] - b.mean[c]) * b.rstd[c] * (b.weight ? b.weight[c] : T(1));
      v += (b.bias ? b.bias[c] : T(0)) + (b.residual ? b.residual[i] : T(0));
      b.y[i] = b.relu && v <= 0 ? T(0) : v;
    });
  }
}

template <class T>
void batch_norm_backward_reference(const BatchNorm<T>& b, const T* g, T* dx, T* dweight, T* dbias,
                                   T* dresidual) {
  const T count = static_cast<T>(b.images * b.plane);
  for (std::int64_t c = 0; c < b.channels; ++c) {
    const auto u = [&](std::int64_t i) { return b.relu && b.y[i] <= 0 ? T(0) : g[i]; };
    const auto h = [&](std::int64_t i) { return (b.x[i] - b.mean[c]) * b.rstd[c]; };
    T sum = 0, dot = 0;
    each_of_channel(b, c, [&](std::int64_t i) {
      sum += u(i);
      dot += u(i) * h(i);
    });
    if (dweight) dweight[c] = dot;
    if (dbias) dbias[c] = sum;
    each_of_channel(b, c, [&](std::int64_t i) {
      const T through = b.batch_statistics ? sum / count + h(i) * dot / count : T(0);
      if (dx) dx[i] = b.rstd[c] * (b.weight ? b.weight[c] : T(1)) * (u(i) - through);
      if (dresidual) dresidual[i] = u(i);
    });
  }
}

#define LIGHTGRAD_INSTANTIATE(T)                         \
  template void batch_norm_forward(const BatchNorm<T>&); \
  template void batch_norm_backward(const BatchNorm<T>&, const T*, T*, Wide<T>*, Wide<T>*, T*);
LIGHTGRAD_INSTANTIATE(float)
LIGHTGRAD_INSTANTIATE(double)
LIGHTGRAD_INSTANTIATE(bfloat16)
#undef LIGHTGRAD_INSTANTIATE
#define LIGHTGRAD_INSTANTIATE(T)                                   \
  template void batch_norm_forward_reference(const BatchNorm<T>&); \
  template void batch_norm_backward_reference(const BatchNorm<T>&, const T*, T*, T*, T*, T*);
LIGHTGRAD_INSTANTIATE(float)
LIGHTGRAD_INSTANTIATE(double)
#undef LIGHTGRAD_INSTANTIATE

}  // namespace lg::kernels
#endif  // HWY_ONCE
