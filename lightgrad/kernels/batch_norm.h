// batch_norm.h: normalisation of each channel of row-major x [images, channels, plane], with what
// networks put behind it in the same pass:
//   y = activation((x - mean) rstd weight + bias + residual),  rstd = 1 / sqrt(var + eps),
// the activation being none or max(0, .). A channel is one piece of work: its passes after the
// first find it in cache. Statistics take two passes and correct the rounding of the first, so a
// large mean costs nothing.
#pragma once

#include <cstdint>

#include "lightgrad/base/half.h"

namespace lg::kernels {

// Of bfloat16, what belongs to a channel is float32, and so is the arithmetic: y and the gradients
// of x's size are rounded once.
template <class T> struct BatchNorm {
  std::int64_t images, channels, plane;
  const T* x;
  const Wide<T>*weight, *bias;  // [channels] or null
  const T* residual;            // as x, or null
  bool relu;
  bool batch_statistics;  // mean and var are those of x, and x's gradient goes through them
  double eps;
  Wide<T>*mean, *var, *rstd;  // [channels]; mean and var are given without batch_statistics
  T* y;
};

// Writes y and rstd, and with batch_statistics mean and var (divided by the number of elements).
template <class T> void batch_norm_forward(const BatchNorm<T>& b);

// Gradients given that of y; b as forward left it. With h = (x - mean) rstd, u = g where the
// activation let it through, and the means over a channel:
//   dx = rstd weight (u - mean(u) - h mean(u h)), or rstd weight u without batch_statistics,
//   dweight = sum of u h,  dbias = sum of u,  dresidual = u.
// Each is written, or null where not wanted.
template <class T>
void batch_norm_backward(const BatchNorm<T>& b, const T* g, T* dx, Wide<T>* dweight, Wide<T>* dbias,
                         T* dresidual);

// The same by plain loops, for float32 and float64.
template <class T> void batch_norm_forward_reference(const BatchNorm<T>& b);
template <class T>
void batch_norm_backward_reference(const BatchNorm<T>& b, const T* g, T* dx, T* dweight, T* dbias,
                                   T* dresidual);

}  // namespace lg::kernels
