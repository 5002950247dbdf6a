// math.h: math-inl.h's elementary functions over contiguous arrays, dispatched to the best SIMD
// target.
#pragma once

#include <cstdint>

namespace lg::kernels {

enum class MathFunction : std::uint8_t {
  exp,
  expm1,
  log,
  log1p,
  sin,
  cos,
  tanh,
  sigmoid,
  erf,
  normal_cdf,
  gelu_cdf,
  gelu_slope,
  softplus
};

// out[i] = f(in[i]); out may be in. On the calling thread; T is float or double.
template <class T> void math_apply(MathFunction f, const T* in, T* out, std::int64_t n);

// out[i] = x[i]^y[i]; out may be x or y.
template <class T> void math_pow(const T* x, const T* y, T* out, std::int64_t n);

}  // namespace lg::kernels
