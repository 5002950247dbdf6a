// reduce_reference.cpp: reductions by plain loops, one result after another: what tests hold the
// kernels against.
#include <cmath>
#include <type_traits>

#include "lightgrad/kernels/reduce.h"

namespace lg::kernels {
namespace {
template <class T> bool is_nan(T v) {
  if constexpr (std::is_floating_point_v<T>)
    return std::isnan(v);
  else
    return false;
}
}  // namespace

template <class T>
void reduce_reference(Reduction reduction, const T* x, T* y, std::int64_t outer, std::int64_t n,
                      std::int64_t inner) {
  using P = std::conditional_t<std::is_floating_point_v<T>, double, std::uint64_t>;
  for (std::int64_t i = 0; i < outer * inner; ++i) {
    const auto at = [&](std::int64_t k) { return x[(i / inner * n + k) * inner + i % inner]; };
    P sum(0), prod(1);
    T extreme = n > 0 ? at(0) : T(0);
    for (std::int64_t k = 0; k < n; ++k) {
      sum += static_cast<P>(at(k));
      prod *= static_cast<P>(at(k));
      if (is_nan(extreme)) continue;
      if (is_nan(at(k)) || (reduction == Reduction::max ? at(k) > extreme : at(k) < extreme))
        extreme = at(k);
    }
    y[i] = reduction == Reduction::sum    ? static_cast<T>(sum)
           : reduction == Reduction::prod ? static_cast<T>(prod)
                                          : extreme;
  }
}
template <class T>
void reduce_arg_reference(bool largest, const T* x, std::int64_t* y, std::int64_t outer,
                          std::int64_t n, std::int64_t inner) {
  for (std::int64_t i = 0; i < outer * inner; ++i) {
    const auto at = [&](std::int64_t k) { return x[(i / inner * n + k) * inner + i % inner]; };
    y[i] = 0;
    for (std::int64_t k = 1; k < n && !is_nan(at(y[i])); ++k) {
      if (is_nan(at(k)) || (largest ? at(k) > at(y[i]) : at(k) < at(y[i]))) y[i] = k;
    }
  }
}

using i64 = std::int64_t;
#define LIGHTGRAD_INSTANTIATE(T)                                          \
  template void reduce_reference(Reduction, const T*, T*, i64, i64, i64); \
  template void reduce_arg_reference(bool, const T*, i64*, i64, i64, i64);
LIGHTGRAD_INSTANTIATE(float)
LIGHTGRAD_INSTANTIATE(double)
LIGHTGRAD_INSTANTIATE(i64)
#undef LIGHTGRAD_INSTANTIATE

}  // namespace lg::kernels
