// math.cpp: loops over math-inl.h, one per function, compiled for every target.
#include "lightgrad/kernels/math.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lightgrad/kernels/math.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "lightgrad/kernels/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lg {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Whole vectors, then the rest by way of a padded one (of ones: no function is slow or special
// there).
template <class T, class F>
HWY_INLINE void Map(const T* x, const T* y, T* out, std::int64_t n, F f) {
  const hn::ScalableTag<T> d;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    hn::StoreU(f(d, hn::LoadU(d, x + i), hn::LoadU(d, y + i)), d, out + i);
  if (i == n) return;
  HWY_ALIGN T a[hn::MaxLanes(hn::ScalableTag<T>())];
  HWY_ALIGN T b[hn::MaxLanes(hn::ScalableTag<T>())];
  for (std::int64_t j = 0; j < lanes; ++j) {
    a[j] = i + j < n ? x[i + j] : T(1);
    b[j] = i + j < n ? y[i + j] : T(1);
  }
  hn::Store(f(d, hn::Load(d, a), hn::Load(d, b)), d, a);
  for (std::int64_t j = 0; i + j < n; ++j) out[i + j] = a[j];
}

template <class T> void Apply(kernels::MathFunction function, const T* in, T* out, std::int64_t n) {
  using F = kernels::MathFunction;
  switch (function) {
#define LG_MATH_CASE(name, Function) \
  case F::name:                      \
    return Map(in, in, out, n, [](auto d, auto x, auto) HWY_ATTR { return Function(d, x); })
    LG_MATH_CASE(exp, Exp);
    LG_MATH_CASE(expm1, Expm1);
    LG_MATH_CASE(log, Log);
    LG_MATH_CASE(log1p, Log1p);
    LG_MATH_CASE(sin, Sin);
    LG_MATH_CASE(cos, Cos);
    LG_MATH_CASE(tanh, Tanh);
    LG_MATH_CASE(sigmoid, Sigmoid);
    LG_MATH_CASE(erf, Erf);
    LG_MATH_CASE(normal_cdf, NormalCdf);
    LG_MATH_CASE(softplus, Softplus);
    LG_MATH_CASE(gelu_cdf, GeluCdf);
    LG_MATH_CASE(gelu_slope, GeluSlope);
#undef LG_MATH_CASE
  }
}

template <class T> void Power(const T* x, const T* y, T* out, std::int64_t n) {
  Map(x, y, out, n, [](auto d, auto a, auto b) HWY_ATTR { return Pow(d, a, b); });
}

void ApplyFloat(kernels::MathFunction f, const float* in, float* out, std::int64_t n) {
  Apply(f, in, out, n);
}
void ApplyDouble(kernels::MathFunction f, const double* in, double* out, std::int64_t n) {
  Apply(f, in, out, n);
}
void PowerFloat(const float* x, const float* y, float* out, std::int64_t n) { Power(x, y, out, n); }
void PowerDouble(const double* x, const double* y, double* out, std::int64_t n) {
  Power(x, y, out, n);
}

}  // namespace HWY_NAMESPACE
}  // namespace lg
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lg {

HWY_EXPORT(ApplyFloat);
HWY_EXPORT(ApplyDouble);
HWY_EXPORT(PowerFloat);
HWY_EXPORT(PowerDouble);

namespace kernels {

template <> void math_apply(MathFunction f, const float* in, float* out, std::int64_t n) {
  HWY_DYNAMIC_DISPATCH(ApplyFloat)(f, in, out, n);
}
template <> void math_apply(MathFunction f, const double* in, double* out, std::int64_t n) {
  HWY_DYNAMIC_DISPATCH(ApplyDouble)(f, in, out, n);
}
template <> void math_pow(const float* x, const float* y, float* out, std::int64_t n) {
  HWY_DYNAMIC_DISPATCH(PowerFloat)(x, y, out, n);
}
template <> void math_pow(const double* x, const double* y, double* out, std::int64_t n) {
  HWY_DYNAMIC_DISPATCH(PowerDouble)(x, y, out, n);
}

}  // namespace kernels
}  // namespace lg
#endif  // HWY_ONCE
