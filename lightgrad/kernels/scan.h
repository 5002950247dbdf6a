// scan.h: running sums of contiguous x [outer, n, inner] along n. float and double add up in
// double, int64 wraps; long runs are cut by shape alone: the same bits at any number of threads.
#pragma once

#include <cstdint>

namespace lg::kernels {

// y[i] = x[0] + ... + x[i]; T is float, double or int64_t. y may be x.
template <class T>
void cumsum(const T* x, T* y, std::int64_t outer, std::int64_t n, std::int64_t inner);
// y[i] = x[i] + ... + x[n - 1]: the gradient of cumsum. y may be x.
template <class T>
void cumsum_reverse(const T* x, T* y, std::int64_t outer, std::int64_t n, std::int64_t inner);

}  // namespace lg::kernels
