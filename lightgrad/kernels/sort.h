// sort.h: stable sort and top-k of contiguous x [outer, n, inner] along n; rows in parallel. NaN
// counts as larger than everything, -0 equals 0, and equals keep their order. T is float, double or
// int64_t.
#pragma once

#include <cstdint>

namespace lg::kernels {

// values and indices: [outer, n, inner]; values may not be x.
template <class T>
void sort(const T* x, T* values, std::int64_t* indices, std::int64_t outer, std::int64_t n,
          std::int64_t inner, bool descending);

// The k <= n largest (or smallest) in falling (rising) order; values and indices: [outer, k,
// inner].
template <class T>
void topk(const T* x, T* values, std::int64_t* indices, std::int64_t outer, std::int64_t n,
          std::int64_t inner, std::int64_t k, bool largest);

}  // namespace lg::kernels
