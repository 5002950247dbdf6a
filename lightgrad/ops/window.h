// window.h: the checks that operations with a moving window share: lists of one number per
// dimension, and sums and products of sizes that saturate instead of overflowing.
#pragma once

#include <limits>
#include <string_view>

#include "lightgrad/base/shape.h"

namespace lg::ops {

inline std::int64_t saturating_add(std::int64_t a, std::int64_t b) {
  std::int64_t sum = 0;
  if (!__builtin_add_overflow(a, b, &sum)) return sum;
  return a > 0 ? std::numeric_limits<std::int64_t>::max()
               : std::numeric_limits<std::int64_t>::min();
}

// How many pixels a kernel of `size` covers, both positive.
inline std::int64_t window_extent(std::int64_t size, std::int64_t dilation) {
  std::int64_t n = 0;
  if (__builtin_mul_overflow(size - 1, dilation, &n))
    return std::numeric_limits<std::int64_t>::max();
  return saturating_add(n, 1);
}

// `list` with a number for each of `dims` dimensions; one stands for all.
inline Shape per_dimension(const Shape& list, int dims, std::int64_t lowest, std::string_view name,
                           const char* what, const Shape& x) {
  const bool fits = list.rank() == 1 || list.rank() == dims;
  for (const std::int64_t n : list) {
    if (n >= lowest && fits) continue;
    fail(ErrorKind::value, name, what, " is ", list, ", expected ", dims, " numbers, or one, from ",
         lowest, " up (x ", x, ")");
  }
  if (!fits) {
    fail(ErrorKind::value, name, what, " is ", list, ", expected ", dims, " numbers, or one (x ", x,
         ")");
  }
  return list.rank() == dims ? list : Shape::filled(dims, list[0]);
}

}  // namespace lg::ops
