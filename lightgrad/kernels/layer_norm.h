// layer_norm.h: y = (x - mean) / sqrt(var + eps) * weight + bias over contiguous rows [rows, n],
// variance divided by n. Statistics take two passes over a row in cache and correct the rounding of
// the first, so a large mean costs nothing.
#pragma once

#include <cstdint>

namespace lg::kernels {

// weight, bias: [n] or null. mean, rstd: [rows], kept for backward. y may be x.
template <class T>
void layer_norm_forward(const T* x, const T* weight, const T* bias, T* y, T* mean, T* rstd,
                        std::int64_t rows, std::int64_t n, double eps);

// With h = (x - mean) rstd and u = g weight:
//   dx = rstd (u - mean(u) - h mean(u h)),  dweight = sum over rows of g h,  dbias = sum over rows
//   of g.
// dx, dweight, dbias: written (dx added to, with `add`), or null where not wanted; dx may be g. Row
// chunks of a size fixed by
// the shape are summed one by one into partial sums, and those in rising order.
template <class T>
void layer_norm_backward(const T* g, const T* x, const T* weight, const T* mean, const T* rstd,
                         T* dx, bool add, T* dweight, T* dbias, std::int64_t rows, std::int64_t n);

// The same by plain loops.
template <class T>
void layer_norm_forward_reference(const T* x, const T* weight, const T* bias, T* y, T* mean,
                                  T* rstd, std::int64_t rows, std::int64_t n, double eps);
template <class T>
void layer_norm_backward_reference(const T* g, const T* x, const T* weight, const T* mean,
                                   const T* rstd, T* dx, bool add, T* dweight, T* dbias,
                                   std::int64_t rows, std::int64_t n);

}  // namespace lg::kernels
