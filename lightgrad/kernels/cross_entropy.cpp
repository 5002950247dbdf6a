// cross_entropy.cpp: a row's loss needs its max, its sum of exponentials and one logit; smoothing
// adds one more sum.
#include "lightgrad/kernels/cross_entropy.h"

#include <cmath>
#include <limits>

#include "lightgrad/base/parallel.h"
#include "lightgrad/kernels/per_target.h"
#include "lightgrad/kernels/row_chunks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lightgrad/kernels/cross_entropy.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "lightgrad/kernels/rows-inl.h"

#ifndef LIGHTGRAD_KERNELS_CROSS_ENTROPY_TABLE
#define LIGHTGRAD_KERNELS_CROSS_ENTROPY_TABLE
namespace lg::kernels {
template <class T> struct CrossEntropyRows {
  void (*forward)(const CrossEntropy<T>&, T* loss, T* logsumexp, std::int64_t begin,
                  std::int64_t end);
  void (*backward)(const CrossEntropy<T>&, T weight_sum, const T* g, const T* logsumexp, T* dlogits,
                   std::int64_t begin, std::int64_t end);
};
}  // namespace lg::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace lg::kernels {
namespace HWY_NAMESPACE {
namespace {

template <class T>
void Forward(const CrossEntropy<T>& c, T* loss, T* logsumexp, std::int64_t begin,
             std::int64_t end) {
  const Tag<T> d;
  const T smoothing = static_cast<T>(c.label_smoothing);
  for (std::int64_t r = begin; r < end; ++r) {
    const T* x = c.logits + r * c.n;
    const MaxSum<T> row = RowMaxSumExp(x, c.n);
    const bool finite = !std::isinf(row.max);
    const T log_sum = finite ? std::log(row.sum) : std::numeric_limits<T>::quiet_NaN();
    logsumexp[r] = row.max + log_sum;
    const std::int64_t t = c.target[r];
    if (t == c.ignore_index) {
      loss[r] = T(0);
      continue;
    }
    // log_sum - (x - max), not logsumexp - x: large logits must not cost digits.
    const T nll = log_sum - (x[t] - row.max);
    loss[r] = (c.weight ? c.weight[t] : T(1)) * nll;
    if (smoothing != T(0)) {
      const auto top = hn::Set(d, row.max), offset = hn::Set(d, log_sum);
      Slots<Tag<T>> sum(T(0));
      EachVector(d, c.n, [&](int s, std::int64_t i, std::int64_t lanes) LIGHTGRAD_LANES {
        auto v = hn::Sub(offset, hn::Sub(LoadLanes(d, x + i, lanes), top));
        if (c.weight) {
          v = hn::Mul(v, LoadLanes(d, c.weight + i, lanes));
        }
        if (static_cast<std::size_t>(lanes) < hn::Lanes(d)) {
          v = hn::IfThenElseZero(hn::FirstN(d, static_cast<std::size_t>(lanes)), v);
        }
        sum.v[s] = hn::Add(sum.v[s], v);
      });
      loss[r] = (T(1) - smoothing) * loss[r] + smoothing / static_cast<T>(c.n) * sum.sum();
    }
  }
}

template <class T>
void Backward(const CrossEntropy<T>& c, T weight_sum, const T* g, const T* logsumexp, T* dlogits,
              std::int64_t begin, std::int64_t end) {
  const Tag<T> d;
  const T smoothing = static_cast<T>(c.label_smoothing),
          per_class = smoothing / static_cast<T>(c.n);
  for (std::int64_t r = begin; r < end; ++r) {
    const T* x = c.logits + r * c.n;
    T* dx = dlogits + r * c.n;
    const std::int64_t t = c.target[r];
    if (t == c.ignore_index) {
      EachVector(d, c.n, [&](int, std::int64_t i, std::int64_t lanes) LIGHTGRAD_LANES {
        StoreLanes(hn::Zero(d), d, dx + i, lanes);
      });
      continue;
    }
    const T at_target = (T(1) - smoothing) * (c.weight ? c.weight[t] : T(1));
    const auto scale = hn::Set(d, g[r] * (at_target + per_class * weight_sum));
    const auto shift = hn::Set(d, logsumexp[r]), uniform = hn::Set(d, g[r] * per_class);
    if (smoothing == T(0)) {
      EachVector(d, c.n, [&](int, std::int64_t i, std::int64_t lanes) LIGHTGRAD_LANES {
        const auto p = ShiftedExp(d, hn::Sub(LoadLanes(d, x + i, lanes), shift));
        StoreLanes(hn::Mul(scale, p), d, dx + i, lanes);
      });
    } else {
      EachVector(d, c.n, [&](int, std::int64_t i, std::int64_t lanes) LIGHTGRAD_LANES {
        const auto p = ShiftedExp(d, hn::Sub(LoadLanes(d, x + i, lanes), shift));
        const auto w = c.weight ? LoadLanes(d, c.weight + i, lanes) : hn::Set(d, T(1));
        StoreLanes(hn::Sub(hn::Mul(scale, p), hn::Mul(uniform, w)), d, dx + i, lanes);
      });
    }
    dx[t] -= g[r] * at_target;
  }
}

template <class T> constexpr CrossEntropyRows<T> kRows{&Forward<T>, &Backward<T>};

}  // namespace
LIGHTGRAD_EXPORT_TABLE(CrossEntropy, CrossEntropyRows, kRows)
}  // namespace HWY_NAMESPACE
}  // namespace lg::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lg::kernels {
LIGHTGRAD_CHOOSE_TABLE(CrossEntropy, CrossEntropyRows, rows_for)

namespace {
template <class T> T sum_of_weights(const CrossEntropy<T>& c) {
  if (!c.weight) return static_cast<T>(c.n);
  double sum = 0;
  for (std::int64_t i = 0; i < c.n; ++i) sum += c.weight[i];
  return static_cast<T>(sum);
}
}  // namespace

template <class T> void cross_entropy_forward(const CrossEntropy<T>& c, T* loss, T* logsumexp) {
  const auto& table = rows_for<T>();
  parallel_for(c.rows, row_grain(c.n), [&](std::int64_t begin, std::int64_t end) {
    table.forward(c, loss, logsumexp, begin, end);
  });
}

template <class T>
void cross_entropy_backward(const CrossEntropy<T>& c, const T* g, const T* logsumexp, T* dlogits) {
  const auto& table = rows_for<T>();
  const T weight_sum = c.label_smoothing != 0 ? sum_of_weights(c) : T(0);
  parallel_for(c.rows, row_grain(c.n), [&](std::int64_t begin, std::int64_t end) {
    table.backward(c, weight_sum, g, logsumexp, dlogits, begin, end);
  });
}

template <class T>
void cross_entropy_forward_reference(const CrossEntropy<T>& c, T* loss, T* logsumexp) {
  const T e = static_cast<T>(c.label_smoothing);
  for (std::int64_t r = 0; r < c.rows; ++r) {
    const T* x = c.logits + r * c.n;
    T max = -std::numeric_limits<T>::infinity(), sum = 0, smooth = 0;
    for (std::int64_t i = 0; i < c.n; ++i) max = x[i] > max ? x[i] : max;
    for (std::int64_t i = 0; i < c.n; ++i) sum += std::exp(x[i] - max);
    logsumexp[r] = max + std::log(sum);
    const std::int64_t t = c.target[r];
    if (t == c.ignore_index) {
      loss[r] = 0;
      continue;
    }
    const auto nll = [&](std::int64_t i) {
      return (c.weight ? c.weight[i] : T(1)) * (logsumexp[r] - x[i]);
    };
    for (std::int64_t i = 0; i < c.n && e != 0; ++i) smooth += nll(i);
    loss[r] = (1 - e) * nll(t) + (e != 0 ? e / static_cast<T>(c.n) * smooth : T(0));
  }
}

template <class T>
void cross_entropy_backward_reference(const CrossEntropy<T>& c, const T* g, const T* logsumexp,
                                      T* dlogits) {
  const T e = static_cast<T>(c.label_smoothing), weight_sum = sum_of_weights(c);
  for (std::int64_t r = 0; r < c.rows; ++r) {
    const std::int64_t t = c.target[r];
    for (std::int64_t i = 0; i < c.n; ++i) {
      T* dx = dlogits + r * c.n + i;
      if (t == c.ignore_index) {
        *dx = 0;
        continue;
      }
      const T p = std::exp(c.logits[r * c.n + i] - logsumexp[r]);
      const T wt = c.weight ? c.weight[t] : T(1), wi = c.weight ? c.weight[i] : T(1);
      const T nll = wt * (p - (i == t ? T(1) : T(0))), smooth = weight_sum * p - wi;
      *dx = g[r] * ((1 - e) * nll + e / static_cast<T>(c.n) * smooth);
    }
  }
}

#define LIGHTGRAD_INSTANTIATE(T)                                                        \
  template void cross_entropy_forward(const CrossEntropy<T>&, T*, T*);                  \
  template void cross_entropy_backward(const CrossEntropy<T>&, const T*, const T*, T*); \
  template void cross_entropy_forward_reference(const CrossEntropy<T>&, T*, T*);        \
  template void cross_entropy_backward_reference(const CrossEntropy<T>&, const T*, const T*, T*);
LIGHTGRAD_INSTANTIATE(float)
LIGHTGRAD_INSTANTIATE(double)
#undef LIGHTGRAD_INSTANTIATE

}  // namespace lg::kernels
#endif  // HWY_ONCE
