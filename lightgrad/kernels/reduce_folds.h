// reduce_folds.h: what the reductions of reduce.cpp do with two partial results, and with nothing.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace lg::kernels {

// What partial sums and products are kept in.
template <class T>
using Wide = std::conditional_t<std::is_floating_point_v<T>, double, std::uint64_t>;

template <class T> constexpr bool is_nan(T v) {
  return v != v;  // false for integers
}

struct SumFold {
  template <class T> using Partial = Wide<T>;
  template <class T> static constexpr T start = T(0);
  template <class A> static A join(A a, A b) {
    if constexpr (std::is_same_v<A, std::int64_t>) {
      return static_cast<A>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
    } else {
      return a + b;
    }
  }
};
template <bool kLargest> struct ExtremeFold {
  template <class T> using Partial = T;
  template <class T>
  static constexpr T start = std::is_floating_point_v<T>
                                 ? (kLargest ? -1 : 1) * std::numeric_limits<T>::infinity()
                             : kLargest ? std::numeric_limits<T>::min()
                                        : std::numeric_limits<T>::max();
  template <class T> static bool better(T b, T a) {  // b takes the place of a: the first NaN stays
    return (kLargest ? b > a : b < a) || (is_nan(b) && !is_nan(a));
  }
  template <class T> static T join(T a, T b) { return better(b, a) ? b : a; }
};

template <class T, class Partial> struct FoldKernel {
  Partial (*run)(const T* x, std::int64_t n);
  void (*rows)(const T* x, T* y, std::int64_t rows, std::int64_t n);  // y[r] folds x[r, :]
  // y[j] folds x[:, j] for j < width; rows > 0 of x are `stride` apart.
  void (*columns)(const T* x, std::int64_t rows, std::int64_t stride, std::int64_t width, T* y);
};
template <class T> struct FoldKernels {
  FoldKernel<T, Wide<T>> sum;
  FoldKernel<T, T> max, min;

  template <class Fold> const auto& get() const {
    if constexpr (std::is_same_v<Fold, SumFold>)
      return sum;
    else if constexpr (std::is_same_v<Fold, ExtremeFold<true>>)
      return max;
    else
      return min;
  }
};
}  // namespace lg::kernels
