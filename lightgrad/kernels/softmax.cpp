// softmax.cpp: one row at a time, in cache after its first pass; chunks of rows in parallel.
#include "lightgrad/kernels/softmax.h"

#include <cmath>
#include <limits>

#include "lightgrad/base/parallel.h"
#include "lightgrad/kernels/per_target.h"
#include "lightgrad/kernels/row_chunks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lightgrad/kernels/softmax.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "lightgrad/kernels/rows-inl.h"

#ifndef LIGHTGRAD_KERNELS_SOFTMAX_TABLE
#define LIGHTGRAD_KERNELS_SOFTMAX_TABLE
namespace lg::kernels {
// Kernels of one row of n elements.
template <class T> struct SoftmaxRow {
  void (*softmax)(const T* x, T* y, std::int64_t n);
  void (*softmax_backward)(const T* g, const T* y, T* dx, std::int64_t n);
  void (*log_softmax)(const T* x, T* y, std::int64_t n);
  void (*log_softmax_backward)(const T* g, const T* y, T* dx, std::int64_t n);
  T (*logsumexp)(const T* x, std::int64_t n);
};
}  // namespace lg::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace lg::kernels {
namespace HWY_NAMESPACE {
namespace {

template <class T> void Softmax(const T* x, T* y, std::int64_t n) {
  const Tag<T> d;
  const T low = -std::numeric_limits<T>::infinity();
  const auto max = hn::Set(d, RowMax(x, n));
  Slots<Tag<T>> sum(T(0));
  EachVector(d, n, [&](int s, std::int64_t i, std::int64_t lanes) LIGHTGRAD_LANES {
    const auto e = ShiftedExp(d, hn::Sub(LoadLanes(d, x + i, lanes, low), max));
    StoreLanes(e, d, y + i, lanes);
    sum.v[s] = hn::Add(sum.v[s], e);
  });
  const auto scale = hn::Set(d, T(1) / sum.sum());
  EachVector(d, n, [&](int, std::int64_t i, std::int64_t lanes) LIGHTGRAD_LANES {
    StoreLanes(hn::Mul(LoadLanes(d, y + i, lanes), scale), d, y + i, lanes);
  });
}

template <class T> void SoftmaxBackward(const T* g, const T* y, T* dx, std::int64_t n) {
  const Tag<T> d;
  Slots<Tag<T>> dot(T(0));
  EachVector(d, n, [&](int s, std::int64_t i, std::int64_t lanes) LIGHTGRAD_LANES {
    dot.v[s] = hn::MulAdd(LoadLanes(d, g + i, lanes), LoadLanes(d, y + i, lanes), dot.v[s]);
  });
  const auto mean = hn::Set(d, dot.sum());
  EachVector(d, n, [&](int, std::int64_t i, std::int64_t lanes) LIGHTGRAD_LANES {
    const auto v = hn::Mul(LoadLanes(d, y + i, lanes), hn::Sub(LoadLanes(d, g + i, lanes), mean));
    StoreLanes(v, d, dx + i, lanes);
  });
}

template <class T> void LogSoftmax(const T* x, T* y, std::int64_t n) {
  const Tag<T> d;
  const MaxSum<T> row = RowMaxSumExp(x, n);
  const bool finite = !std::isinf(row.max);
  const auto max = hn::Set(d, row.max);
  const auto log_sum = hn::Set(d, finite ? std::log(row.sum) : std::numeric_limits<T>::quiet_NaN());
  EachVector(d, n, [&](int, std::int64_t i, std::int64_t lanes) LIGHTGRAD_LANES {
    StoreLanes(hn::Sub(hn::Sub(LoadLanes(d, x + i, lanes), max), log_sum), d, y + i, lanes);
  });
}

template <class T> void LogSoftmaxBackward(const T* g, const T* y, T* dx, std::int64_t n) {
  const Tag<T> d;
  const auto sum = hn::Set(d, RowSum(g, n));
  EachVector(d, n, [&](int, std::int64_t i, std::int64_t lanes) LIGHTGRAD_LANES {
    const auto p = ShiftedExp(d, LoadLanes(d, y + i, lanes));
    StoreLanes(hn::NegMulAdd(p, sum, LoadLanes(d, g + i, lanes)), d, dx + i, lanes);
  });
}

template <class T> T LogSumExp(const T* x, std::int64_t n) {
  const MaxSum<T> row = RowMaxSumExp(x, n);
  return row.shift() + std::log(row.sum);
}

template <class T>
constexpr SoftmaxRow<T> kRow{&Softmax<T>, &SoftmaxBackward<T>, &LogSoftmax<T>,
                             &LogSoftmaxBackward<T>, &LogSumExp<T>};

}  // namespace
LIGHTGRAD_EXPORT_TABLE(Softmax, SoftmaxRow, kRow)
}  // namespace HWY_NAMESPACE
}  // namespace lg::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lg::kernels {
LIGHTGRAD_CHOOSE_TABLE(Softmax, SoftmaxRow, row_kernels)

namespace {
template <class F> void each_row(std::int64_t rows, std::int64_t n, F f) {
  parallel_for(rows, row_grain(n), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) f(r, r * n);
  });
}
}  // namespace

template <class T> void softmax_forward(const T* x, T* y, std::int64_t rows, std::int64_t n) {
  const auto row = row_kernels<T>().softmax;
  each_row(rows, n, [&](std::int64_t, std::int64_t at) { row(x + at, y + at, n); });
}
template <class T>
void softmax_backward(const T* g, const T* y, T* dx, std::int64_t rows, std::int64_t n) {
  const auto row = row_kernels<T>().softmax_backward;
  each_row(rows, n, [&](std::int64_t, std::int64_t at) { row(g + at, y + at, dx + at, n); });
}
template <class T> void log_softmax_forward(const T* x, T* y, std::int64_t rows, std::int64_t n) {
  const auto row = row_kernels<T>().log_softmax;
  each_row(rows, n, [&](std::int64_t, std::int64_t at) { row(x + at, y + at, n); });
}
template <class T>
void log_softmax_backward(const T* g, const T* y, T* dx, std::int64_t rows, std::int64_t n) {
  const auto row = row_kernels<T>().log_softmax_backward;
  each_row(rows, n, [&](std::int64_t, std::int64_t at) { row(g + at, y + at, dx + at, n); });
}
template <class T> void logsumexp(const T* x, T* y, std::int64_t rows, std::int64_t n) {
  const auto row = row_kernels<T>().logsumexp;
  each_row(rows, n, [&](std::int64_t r, std::int64_t at) { y[r] = row(x + at, n); });
}

template <class T> void logsumexp_reference(const T* x, T* y, std::int64_t rows, std::int64_t n) {
  for (std::int64_t r = 0; r < rows; ++r, x += n) {
    T max = -std::numeric_limits<T>::infinity(), sum = 0;
    for (std::int64_t i = 0; i < n; ++i) max = x[i] > max ? x[i] : max;
    const T shift = std::isinf(max) ? T(0) : max;
    for (std::int64_t i = 0; i < n; ++i) sum += std::exp(x[i] - shift);
    y[r] = shift + std::log(sum);
  }
}
template <class T>
void log_softmax_forward_reference(const T* x, T* y, std::int64_t rows, std::int64_t n) {
  for (std::int64_t r = 0; r < rows; ++r, x += n, y += n) {
    T log_sum;
    logsumexp_reference(x, &log_sum, 1, n);
    if (std::isinf(log_sum)) log_sum = std::numeric_limits<T>::quiet_NaN();
    for (std::int64_t i = 0; i < n; ++i) y[i] = x[i] - log_sum;
  }
}
template <class T>
void softmax_forward_reference(const T* x, T* y, std::int64_t rows, std::int64_t n) {
  log_softmax_forward_reference(x, y, rows, n);
  for (std::int64_t i = 0; i < rows * n; ++i) y[i] = std::exp(y[i]);
}
template <class T>
void softmax_backward_reference(const T* g, const T* y, T* dx, std::int64_t rows, std::int64_t n) {
  for (std::int64_t r = 0; r < rows; ++r, g += n, y += n, dx += n) {
    T dot = 0;
    for (std::int64_t i = 0; i < n; ++i) dot += g[i] * y[i];
    for (std::int64_t i = 0; i < n; ++i) dx[i] = y[i] * (g[i] - dot);
  }
}
template <class T>
void log_softmax_backward_reference(const T* g, const T* y, T* dx, std::int64_t rows,
                                    std::int64_t n) {
  for (std::int64_t r = 0; r < rows; ++r, g += n, y += n, dx += n) {
    T sum = 0;
    for (std::int64_t i = 0; i < n; ++i) sum += g[i];
    for (std::int64_t i = 0; i < n; ++i) dx[i] = g[i] - std::exp(y[i]) * sum;
  }
}

#define LIGHTGRAD_INSTANTIATE(T)                                                                \
  template void softmax_forward(const T*, T*, std::int64_t, std::int64_t);                      \
  template void softmax_backward(const T*, const T*, T*, std::int64_t, std::int64_t);           \
  template void log_softmax_forward(const T*, T*, std::int64_t, std::int64_t);                  \
  template void log_softmax_backward(const T*, const T*, T*, std::int64_t, std::int64_t);       \
  template void logsumexp(const T*, T*, std::int64_t, std::int64_t);                            \
  template void softmax_forward_reference(const T*, T*, std::int64_t, std::int64_t);            \
  template void softmax_backward_reference(const T*, const T*, T*, std::int64_t, std::int64_t); \
  template void log_softmax_forward_reference(const T*, T*, std::int64_t, std::int64_t);        \
  template void log_softmax_backward_reference(const T*, const T*, T*, std::int64_t,            \
                                               std::int64_t);                                   \
  template void logsumexp_reference(const T*, T*, std::int64_t, std::int64_t);
LIGHTGRAD_INSTANTIATE(float)
LIGHTGRAD_INSTANTIATE(double)
#undef LIGHTGRAD_INSTANTIATE

}  // namespace lg::kernels
#endif  // HWY_ONCE
