// math-inl.h: elementary functions on Highway vectors, float32 and float64 from one template.
// Included inside the per-target region by kernels; knows vectors only, no pointers. Every function
// keeps NaN, infinities, signed zeros and subnormals, and is within 1 ulp (NormalCdf and
// Softplus 1.5) on targets with and without FMA: where one rounding must not be seen, a value
// travels as an unevaluated sum hi + lo (Dekker 1971; Muller et al., Handbook of Floating-Point
// Arithmetic, chapter 4). tests/cpp/test_math.cpp holds the bounds.
#if defined(LIGHTGRAD_KERNELS_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LIGHTGRAD_KERNELS_MATH_INL_H_
#undef LIGHTGRAD_KERNELS_MATH_INL_H_
#else
#define LIGHTGRAD_KERNELS_MATH_INL_H_
#endif

#include <cmath>
#include <limits>
#include <type_traits>

#include "hwy/highway.h"
#include "lightgrad/kernels/math_constants-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lg {
namespace HWY_NAMESPACE {
namespace math {  // what the functions below are made of

namespace hn = hwy::HWY_NAMESPACE;

template <class D> using ConstantsOf = Constants<hn::TFromD<D>>;

// The unevaluated sum hi + lo.
template <class V> struct Two { V hi, lo; };

// a + b exactly, for |a| >= |b| (or a = 0).
template <class V> HWY_INLINE Two<V> FastTwoSum(V a, V b) {
  const V hi = hn::Add(a, b);
  return {hi, hn::Sub(b, hn::Sub(hi, a))};
}

template <class D, class V> HWY_INLINE V UpperHalf(D d, V x) {
  const hn::RebindToUnsigned<D> du;
  return hn::BitCast(d, hn::And(hn::BitCast(du, x), hn::Set(du, ConstantsOf<D>::upper_half)));
}

// a b - p, exact when p is a b rounded; Dekker's product where there is no FMA.
template <class D, class V> HWY_INLINE V ProductError(D d, V a, V b, V p) {
#if HWY_NATIVE_FMA
  (void)d;
  return hn::MulSub(a, b, p);
#else
  const V ah = UpperHalf(d, a), al = hn::Sub(a, ah);
  const V bh = UpperHalf(d, b), bl = hn::Sub(b, bh);
  const V sum = hn::Add(hn::Add(hn::Sub(hn::Mul(ah, bh), p), hn::Mul(ah, bl)), hn::Mul(al, bh));
  return hn::Add(sum, hn::Mul(al, bl));
#endif
}

// x - a b, nearly exact when a b is nearly x.
template <class D, class V> HWY_INLINE V Residual(D d, V x, V a, V b) {
#if HWY_NATIVE_FMA
  (void)d;
  return hn::NegMulAdd(a, b, x);
#else
  const V product = hn::Mul(a, b);
  return hn::Sub(hn::Sub(x, product), ProductError(d, a, b, product));
#endif
}

// x / y with w = 1 / y.hi: the quotient's residual corrects it, so that it is rounded nearly once.
template <class D, class V> HWY_INLINE V Divide(D d, Two<V> x, Two<V> y, V w) {
  const V quotient = hn::Mul(x.hi, w);
  const V lo = hn::NegMulAdd(quotient, y.lo, x.lo);
  return hn::MulAdd(w, hn::Add(Residual(d, x.hi, quotient, y.hi), lo), quotient);
}
template <class D, class V> HWY_INLINE V Divide(D d, Two<V> x, Two<V> y) {
  return Divide(d, x, y, hn::Div(hn::Set(d, 1), y.hi));
}

template <class D, class V>
HWY_INLINE V Clamp(D d, V x, hn::TFromD<D> max) {  // min(x, max) that keeps NaN
  const V limit = hn::Set(d, max);
  return hn::IfThenElse(hn::Gt(x, limit), limit, x);
}

// x = n ln2 + r: e^x = 2^n (1 + r + tail), r exact.
template <class V> struct ExpParts {
  V shifted, n, r, tail;  // the low bits of `shifted` are n
};

// e^(x + lo), |lo| small against x; Cody and Waite's reduction. With `precise` the roundings of r^2
// / 2 go into the tail too, for e^x - 1, where 1 is gone and they are seen.
template <bool precise = false, class D, class V> HWY_INLINE ExpParts<V> ExpReduce(D d, V x, V lo) {
  using C = ConstantsOf<D>;
  const V shifter = hn::Set(d, C::shifter), half = hn::Set(d, 0.5);
  const V shifted = hn::MulAdd(hn::Add(x, lo), hn::Set(d, 1.44269504088896340736), shifter);
  const V n = hn::Sub(shifted, shifter);
  const V r = hn::NegMulAdd(n, hn::Set(d, C::ln2_hi), x);
  const V r_lo = hn::NegMulAdd(n, hn::Set(d, C::ln2_lo), lo);
  const V sum = hn::Add(r, r_lo), q = C::ExpTail(d, sum);
  if constexpr (precise) {
    const V half_sum = hn::Mul(half, sum), square = hn::Mul(half_sum, sum);
    const V sum_lo = hn::Add(hn::Sub(r, sum), r_lo);
    const V cubic = hn::Mul(hn::Mul(hn::Add(square, square), sum), q);
    const V lost = hn::MulAdd(sum, sum_lo, hn::Add(ProductError(d, half_sum, sum, square), r_lo));
    return {shifted, n, r, hn::Add(square, hn::Add(cubic, lost))};
  } else {
    return {shifted, n, r, hn::MulAdd(hn::Mul(sum, sum), hn::MulAdd(sum, q, half), r_lo)};
  }
}

// Bits of 2^bias.
template <class T> constexpr T power_bits(int bias) {
  using F = std::conditional_t<sizeof(T) == 4, float, double>;
  return static_cast<T>(std::numeric_limits<F>::max_exponent - 1 + bias) << Constants<F>::mantissa;
}

// 2^n times the power of two whose bits are given, for n in the low bits of `shifted`.
template <class D, class V, class U> HWY_INLINE V PowerOfTwo(D d, V shifted, U bits) {
  const hn::RebindToUnsigned<D> du;
  return hn::BitCast(
      d, hn::Add(hn::ShiftLeft<ConstantsOf<D>::mantissa>(hn::BitCast(du, shifted)), bits));
}
template <int bias = 0, class D, class V> HWY_INLINE V PowerOfTwo(D d, V shifted) {
  const hn::RebindToUnsigned<D> du;
  return PowerOfTwo(d, shifted, hn::Set(du, power_bits<hn::TFromD<decltype(du)>>(bias)));
}

// y 2^n for y about 1, gradually down to 0: the last product alone rounds.
template <class D, class V> HWY_INLINE V Scale(D d, V y, const ExpParts<V>& e) {
  using C = ConstantsOf<D>;
  const hn::RebindToUnsigned<D> du;
  using TU = hn::TFromD<decltype(du)>;
  const auto low = hn::Lt(e.n, hn::Set(d, C::scale_min));
  const V step = hn::IfThenElse(low, hn::BitCast(d, hn::Set(du, power_bits<TU>(C::scale_step - 1))),
                                hn::Set(d, 0.5));
  const V power = PowerOfTwo(d, e.shifted, hn::BitCast(du, step));
  return hn::Mul(hn::Mul(y, power),
                 hn::IfThenElse(low, hn::Set(d, C::scale_step_value), hn::Set(d, 2)));
}

// 1 + r + tail. In float32 the rounding of r + tail, at most a quarter ulp, is left in for speed.
template <class D, class V> HWY_INLINE Two<V> Significand(D d, const ExpParts<V>& e) {
  const V one = hn::Set(d, 1);
  if constexpr (sizeof(hn::TFromD<D>) == 4) return FastTwoSum(one, hn::Add(e.r, e.tail));
  const Two<V> s = FastTwoSum(one, e.r);
  return FastTwoSum(s.hi, hn::Add(s.lo, e.tail));
}

// (e^x - 1) / 2 for expm1_min <= x <= exp_max, relatively exact near 0 too.
template <class D, class V> HWY_INLINE Two<V> HalfExpm1(D d, V x) {
  const ExpParts<V> e = ExpReduce<true>(d, x, hn::Zero(d));
  const V power = PowerOfTwo<-1>(d, e.shifted), half = hn::Set(d, 0.5);
  const V base = hn::Sub(power, half);
  const V base_lo = hn::Sub(hn::Sub(power, base), half);
  const Two<V> s = FastTwoSum(base, hn::Mul(power, e.r));
  return FastTwoSum(s.hi, hn::Add(hn::MulAdd(power, e.tail, s.lo), base_lo));
}

// Phi(-t) = e^(hi + lo) g(t), where hi + lo = -t^2 / 2, g = P(q) / (t + 2): the scaled tail of the
// normal distribution, by a polynomial in q = (t - 2)/(t + 2), which maps [0, inf) to [-1, 1).
template <class D, class V> HWY_INLINE V NormalTail(D d, V t, V hi, V lo) {
  using C = ConstantsOf<D>;
  const ExpParts<V> e = ExpReduce(d, hi, lo);
  const Two<V> power = Significand(d, e);
  const V two = hn::Set(d, 2);
  const Two<V> sum =
      FastTwoSum(two, t);  // exact for t > 2 also: 2 is a multiple of the sum's last bit
  const V w = hn::Div(hn::Set(d, 1), sum.hi);
  const V difference = hn::Sub(t, two), q = hn::Mul(difference, w);
  const V q_lo = hn::Mul(w, hn::NegMulAdd(q, sum.lo, Residual(d, difference, q, sum.hi)));
  const V slope = hn::Set(d, C::mills_slope), linear = hn::Mul(q, slope);
  Two<V> p = FastTwoSum(hn::Set(d, C::mills_hi), linear);
  const V p_lo = hn::Add(ProductError(d, q, slope, linear), hn::Set(d, C::mills_lo));
  p.lo = hn::Add(p.lo, hn::MulAdd(hn::Mul(q, q), C::MillsTail(d, q), p_lo));
  p.lo = hn::MulAdd(q_lo, hn::Set(d, -0.25), p.lo);  // P' = -0.3 to -0.2
  const V x = hn::Mul(p.hi, power.hi);
  const V x_lo = hn::Add(ProductError(d, p.hi, power.hi, x),
                         hn::MulAdd(p.hi, power.lo, hn::Mul(p.lo, power.hi)));
  return Scale(d, Divide(d, Two<V>{x, x_lo}, sum, w), e);
}

// x^2 = hi + lo for the exponent of a Gaussian; without FMA, hi is the exact square of x's upper
// half.
template <class D, class V> HWY_INLINE Two<V> Square(D d, V x) {
#if HWY_NATIVE_FMA
  const V hi = hn::Mul(x, x);
  return {hi, ProductError(d, x, x, hi)};
#else
  const V upper = UpperHalf(d, x);
  return {hn::Mul(upper, upper), hn::Mul(hn::Sub(x, upper), hn::Add(x, upper))};
#endif
}

// Whether every |x| is below `limit`: no NaN, and then no care for the ends of the range.
template <class D, class V> HWY_INLINE bool AllBelow(D d, V x, hn::TFromD<D> limit) {
  return hn::AllTrue(d, hn::Lt(hn::Abs(x), hn::Set(d, limit)));
}

// e^(x + lo) = 2^n (1 + t) for an ordinary result; t is good to 2^-25.
template <class V> struct OrdinaryExp { V power, t; };
template <class D, class V> HWY_INLINE OrdinaryExp<V> ReduceOrdinary(D d, V x, V lo) {
  using C = ConstantsOf<D>;
  const V shifter = hn::Set(d, C::shifter);
  const V shifted = hn::MulAdd(x, hn::Set(d, 1.44269504088896340736), shifter);
  const V n = hn::Sub(shifted, shifter);
  const V r = hn::NegMulAdd(n, hn::Set(d, C::ln2_lo),
                            hn::Add(hn::NegMulAdd(n, hn::Set(d, C::ln2_hi), x), lo));
  const V curve = hn::MulAdd(r, C::ExpTail(d, r), hn::Set(d, 0.5));
  return {PowerOfTwo(d, shifted), hn::MulAdd(hn::Mul(r, r), curve, r)};
}

// 1 / S with S = 1 + e^-x = 1 + 2^n + 2^n t; what the sums lose goes into the quotient's residual.
template <class D, class V> HWY_INLINE V OrdinarySigmoid(D d, V x) {
  const auto e = ReduceOrdinary(d, hn::Neg(x), hn::Zero(d));
  const V one = hn::Set(d, 1), rest = hn::Mul(e.power, e.t), u = hn::Add(one, e.power);
  const V sum = hn::Add(u, rest);
  const V u_lo = hn::Sub(hn::Min(one, e.power), hn::Sub(u, hn::Max(one, e.power)));
  const V lo = hn::Add(hn::Add(hn::Sub(u, sum), rest), u_lo);
  const V y = hn::Div(one, sum);
  return hn::MulAdd(y, hn::NegMulAdd(lo, y, Residual(d, one, sum, y)), y);
}

// e^(-t^2 / 2), and Phi(-t) by the formula of NormalTail without its corrections: within 5 ulp.
template <class V> struct Gaussian {
  OrdinaryExp<V> e;
  V tail;
};
template <class D, class V> HWY_INLINE Gaussian<V> OrdinaryGaussian(D d, V t) {
  const V m = hn::Mul(t, hn::Set(d, -0.5)), hi = hn::Mul(m, t), two = hn::Set(d, 2);
  const auto e = ReduceOrdinary(d, hi, ProductError(d, m, t, hi));
  const V w = hn::Div(hn::Set(d, 1), hn::Add(t, two)), q = hn::Mul(hn::Sub(t, two), w);
  const V g = hn::Mul(ConstantsOf<D>::Mills(d, q), w);
  return {e, hn::Mul(hn::MulAdd(g, e.t, g), e.power)};
}

// x = 2^k (1 + f), sqrt(1/2) <= 1 + f < sqrt(2), for normal positive x.
template <class D, class V> HWY_INLINE void LogReduce(D d, V x, V& k, V& f) {
  using C = ConstantsOf<D>;
  const hn::RebindToUnsigned<D> du;
  using TU = hn::TFromD<decltype(du)>;
  constexpr TU one = power_bits<TU>(0);
  const auto bits = hn::Add(hn::BitCast(du, x), hn::Set(du, one - C::sqrt_half));
  const auto low = hn::Set(du, (TU{1} << C::mantissa) - 1);
  f = hn::Sub(hn::BitCast(d, hn::Add(hn::And(bits, low), hn::Set(du, C::sqrt_half))),
              hn::Set(d, 1));
  // The exponent as the low bits of 2^mantissa, because AVX2 cannot convert int64 to double.
  const TU mantissa_power = (static_cast<TU>(C::mantissa) << C::mantissa) + one;
  const auto exponent = hn::Or(hn::ShiftRight<C::mantissa>(bits), hn::Set(du, mantissa_power));
  const hn::TFromD<D> offset =
      static_cast<hn::TFromD<D>>((TU{1} << C::mantissa) + (one >> C::mantissa));
  k = hn::Sub(hn::BitCast(d, exponent), hn::Set(d, offset));
}

// k ln2 + log(1 + f) + c, c a small correction; fdlibm's arrangement (Sun, 1993): with s = f / (2 +
// f), log(1 + f) = f - (f^2/2 - s (f^2/2 + R(s^2))).
template <class D, class V> HWY_INLINE V LogCombine(D d, V k, V f, V c) {
  using C = ConstantsOf<D>;
  const V s = hn::Div(f, hn::Add(hn::Set(d, 2), f)), z = hn::Mul(s, s);
  const V half_square = hn::Mul(hn::Mul(hn::Set(d, 0.5), f), f);
  const V sum = hn::MulAdd(z, C::LogTail(d, z), half_square);
  const V lo = hn::MulAdd(s, sum, hn::MulAdd(k, hn::Set(d, C::ln2_lo), c));
  return hn::MulAdd(k, hn::Set(d, C::ln2_hi), hn::Sub(f, hn::Sub(half_square, lo)));
}

// log(1 + x + lo) for finite x > -1, |lo| below x's last bit.
template <class D, class V> HWY_INLINE V Log1pOf(D d, V x, V lo) {
  const V one = hn::Set(d, 1), u = hn::Add(one, x);
  const V above = hn::IfThenElse(hn::Gt(x, one), x, one),
          below = hn::IfThenElse(hn::Gt(x, one), one, x);
  V k, f;
  LogReduce(d, u, k, f);
  const auto direct = hn::Eq(k, hn::Zero(d));  // 1 + x needs no scaling: f is x itself
  const V lost = hn::IfThenZeroElse(direct, hn::Sub(below, hn::Sub(u, above)));
  return LogCombine(d, k, hn::IfThenElse(direct, x, f), hn::Div(hn::Add(lost, lo), u));
}

// y = log(x), where that is not an ordinary number: 0 -> -inf, inf -> inf, negative and NaN -> NaN.
template <class D, class V> HWY_INLINE V LogSpecial(D d, V x, V y) {
  using T = hn::TFromD<D>;
  const V inf = hn::Set(d, std::numeric_limits<T>::infinity());
  const V nan = hn::Set(d, std::numeric_limits<T>::quiet_NaN());
  const V special = hn::IfThenElse(hn::Eq(x, inf), inf,
                                   hn::IfThenElse(hn::Eq(x, hn::Zero(d)), hn::Neg(inf), nan));
  return hn::IfThenElse(hn::And(hn::Gt(x, hn::Zero(d)), hn::Lt(x, inf)), y, special);
}

// x^3, rounded nearly once, for |x| far enough from the ends that its lower half does not
// underflow.
template <class D, class V> HWY_INLINE bool CubeIsOrdinary(D d, V x) {
  constexpr bool single = sizeof(hn::TFromD<D>) == 4;
  const V a = hn::Abs(x);
  const auto above = hn::Ge(a, hn::Set(d, single ? 0x1p-33 : 0x1p-300));
  const auto below = hn::Lt(a, hn::Set(d, single ? 0x1p42 : 0x1p341));
  return hn::AllTrue(d, hn::Or(hn::Eq(x, hn::Zero(d)), hn::And(above, below)));
}
template <class D, class V> HWY_INLINE V Cube(D d, V x) {
  const V square = hn::Mul(x, x), y = hn::Mul(square, x);
  const V lo = hn::MulAdd(ProductError(d, x, x, square), x, ProductError(d, square, x, y));
  return hn::CopySign(hn::Add(y, lo), x);  // of a zero too
}

// f(lane) for each lane: the few functions for which libm is both right and rare.
template <class D, class V, class F> HWY_INLINE V EachLane(D d, V x, V y, F f) {
  using T = hn::TFromD<D>;
  HWY_ALIGN T a[hn::MaxLanes(D())];
  HWY_ALIGN T b[hn::MaxLanes(D())];
  hn::Store(x, d, a);
  hn::Store(y, d, b);
  for (size_t i = 0; i < hn::Lanes(d); ++i) a[i] = f(a[i], b[i]);
  return hn::Load(d, a);
}

// float64 to float32, rounded once and to infinity where it is too large: Highway's portable
// targets saturate.
template <class DF, class V> HWY_INLINE hn::Vec<DF> Demote(DF df, V x) {
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
  const hn::Rebind<double, DF> dd;
  double wide[hn::MaxLanes(DF())];
  float narrow[hn::MaxLanes(DF())];
  hn::StoreU(x, dd, wide);
  for (size_t i = 0; i < hn::Lanes(df); ++i) narrow[i] = static_cast<float>(wide[i]);
  return hn::LoadU(df, narrow);
#else
  return hn::DemoteTo(df, x);
#endif
}

// A float32 function by way of float64: f(dd, x, y) on each half.
template <class D, class V, class F> HWY_INLINE V InDouble(D d, V x, V y, F f) {
#if HWY_TARGET != HWY_SCALAR
  if constexpr (hn::MaxLanes(D()) > 1) {
    const hn::Half<D> dh;
    const hn::Rebind<double, decltype(dh)> dd;
    const auto lower =
        f(dd, hn::PromoteTo(dd, hn::LowerHalf(dh, x)), hn::PromoteTo(dd, hn::LowerHalf(dh, y)));
    const auto upper =
        f(dd, hn::PromoteTo(dd, hn::UpperHalf(dh, x)), hn::PromoteTo(dd, hn::UpperHalf(dh, y)));
    return hn::Combine(d, Demote(dh, upper), Demote(dh, lower));
  } else
#endif
  {
    const hn::Rebind<double, D> dd;
    return Demote(d, f(dd, hn::PromoteTo(dd, x), hn::PromoteTo(dd, y)));
  }
}

// sin(x + quadrant pi/2) in float64, good for float32: |x| < 2^20; pi/2 in two parts, of which the
// first has 33 bits (fdlibm's), so that n pi/2 is exact to 2^-67. Errors of the polynomials 2^-37.4
// and 2^-43.6.
template <class D, class V> HWY_INLINE V SinReduced(D d, V x, uint64_t quadrant) {
  const hn::RebindToUnsigned<D> du;
  const V shifter = hn::Set(d, Constants<double>::shifter);
  const V shifted = hn::MulAdd(x, hn::Set(d, 0.63661977236758134308), shifter);
  const V n = hn::Sub(shifted, shifter);
  const V r = hn::NegMulAdd(n, hn::Set(d, 6.07710050650619224932e-11),
                            hn::NegMulAdd(n, hn::Set(d, 1.57079632673412561417), x));
  const V z = hn::Mul(r, r);
  const V sin = hn::Mul(r, Polynomial(d, z, 1.0, -0.16666666640087394, 0.008333329245030394,
                                      -0.00019839297028713374, 2.718000603890892e-06));
  const V cos = Polynomial(d, z, 1.0, -0.4999999999947383, 0.041666666551427464,
                           -0.0013888880573328663, 2.479894552442664e-05, -2.7173840487964007e-07);
  const auto turn = hn::Add(hn::BitCast(du, shifted), hn::Set(du, quadrant));
  const auto odd = hn::Eq(hn::And(turn, hn::Set(du, uint64_t{1})), hn::Set(du, uint64_t{1}));
  const auto sign = hn::ShiftLeft<62>(hn::And(turn, hn::Set(du, uint64_t{2})));
  const V y = hn::IfThenElse(hn::RebindMask(d, odd), cos, sin);
  return hn::BitCast(d, hn::Xor(hn::BitCast(du, y), sign));
}

template <class D, class V> HWY_INLINE V SinOrCos(D d, V x, bool cosine) {
  const auto libm = [cosine](double v, double) { return cosine ? std::cos(v) : std::sin(v); };
  if constexpr (sizeof(hn::TFromD<D>) == 8) {
    return EachLane(d, x, x, libm);
  } else {
    const auto small = hn::Lt(hn::Abs(x), hn::Set(d, 0x1p20f));
    if (HWY_UNLIKELY(!hn::AllTrue(d, small))) {  // NaN too
      return EachLane(d, x, x, [&](float v, float) { return static_cast<float>(libm(v, v)); });
    }
    return InDouble(d, x, x, [cosine](auto dd, auto v, auto) HWY_ATTR {
      return SinReduced(dd, v, cosine ? 1 : 0);
    });
  }
}

}  // namespace math

template <class D, class V> HWY_INLINE V Exp(D d, V x) {
  namespace hn = hwy::HWY_NAMESPACE;
  using C = math::ConstantsOf<D>;
  const auto e = math::ExpReduce(d, x, hn::Zero(d));
  const V one = hn::Set(d, 1), significand = hn::Add(one, hn::Add(e.r, e.tail));
  if (HWY_LIKELY(math::AllBelow(d, x, C::ordinary))) {
    return hn::Mul(significand, math::PowerOfTwo(d, e.shifted));
  }
  const V y = math::Scale(d, significand, e);
  const V inf = hn::Set(d, std::numeric_limits<hn::TFromD<D>>::infinity());
  return hn::IfThenElse(hn::Gt(x, hn::Set(d, C::exp_max)), inf,
                        hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, C::exp_min)), y));
}

// e^x - 1
template <class D, class V> HWY_INLINE V Expm1(D d, V x) {
  namespace hn = hwy::HWY_NAMESPACE;
  using C = math::ConstantsOf<D>;
  const auto h = math::HalfExpm1(d, x);
  const V inf = hn::Set(d, std::numeric_limits<hn::TFromD<D>>::infinity());
  V y = hn::Add(h.hi, h.hi);
  y = hn::IfThenElse(hn::Gt(x, hn::Set(d, C::exp_max)), inf, y);
  y = hn::IfThenElse(hn::Lt(x, hn::Set(d, C::expm1_min)), hn::Set(d, -1), y);
  return hn::IfThenElse(hn::Lt(hn::Abs(x), hn::Set(d, C::tiny)), x, y);
}

template <class D, class V> HWY_INLINE V Log(D d, V x) {
  namespace hn = hwy::HWY_NAMESPACE;
  using T = hn::TFromD<D>;
  constexpr int shift = math::ConstantsOf<D>::mantissa + 2;
  const auto subnormal = hn::Lt(x, hn::Set(d, std::numeric_limits<T>::min()));
  const V normal =
      hn::IfThenElse(subnormal, hn::Mul(x, hn::Set(d, static_cast<T>(int64_t{1} << shift))), x);
  V k, f;
  math::LogReduce(d, normal, k, f);
  k = hn::Sub(k, hn::IfThenElseZero(subnormal, hn::Set(d, shift)));
  return math::LogSpecial(d, x, math::LogCombine(d, k, f, hn::Zero(d)));
}

// log(1 + x)
template <class D, class V> HWY_INLINE V Log1p(D d, V x) {
  namespace hn = hwy::HWY_NAMESPACE;
  const V y = math::Log1pOf(d, x, hn::Zero(d));
  const auto tiny = hn::Lt(hn::Abs(x), hn::Set(d, math::ConstantsOf<D>::tiny));
  return hn::IfThenElse(tiny, x, math::LogSpecial(d, hn::Add(x, hn::Set(d, 1)), y));
}

template <class D, class V> HWY_INLINE V Sin(D d, V x) { return math::SinOrCos(d, x, false); }

template <class D, class V> HWY_INLINE V Cos(D d, V x) { return math::SinOrCos(d, x, true); }

// With h = (e^(2|x|) - 1) / 2: tanh |x| = h / (h + 1).
template <class D, class V> HWY_INLINE V Tanh(D d, V x) {
  namespace hn = hwy::HWY_NAMESPACE;
  using C = math::ConstantsOf<D>;
  const V a = math::Clamp(d, hn::Abs(x), C::tanh_max);
  const auto h = math::HalfExpm1(d, hn::Add(a, a));
  // h.hi may be on either side of 1
  const V one = hn::Set(d, 1), sum = hn::Add(h.hi, one);
  const V above = hn::Max(h.hi, one), below = hn::Min(h.hi, one);
  const V sum_lo = hn::Add(hn::Sub(below, hn::Sub(sum, above)), h.lo);
  const V y = math::Divide(d, h, math::Two<V>{sum, sum_lo});
  return hn::IfThenElse(hn::Lt(a, hn::Set(d, C::tiny)), x, hn::CopySign(y, x));
}

// 1 / (1 + e^-x): with E = e^-|x|, E / (1 + E) on the left and 1 / (1 + E) on the right, the left
// scaled last, so that its tail is right down to subnormals.
template <class D, class V> HWY_INLINE V Sigmoid(D d, V x) {
  namespace hn = hwy::HWY_NAMESPACE;
  using C = math::ConstantsOf<D>;
  if constexpr (sizeof(hn::TFromD<D>) == 4) {
    if (HWY_LIKELY(math::AllBelow(d, x, C::ordinary))) return math::OrdinarySigmoid(d, x);
  }
  const V a = math::Clamp(d, hn::Abs(x), -C::exp_min), one = hn::Set(d, 1);
  const auto e = math::ExpReduce(d, hn::Neg(a), hn::Zero(d));
  const auto m = math::Significand(d, e);
  const V power =
      hn::IfThenZeroElse(hn::Lt(e.n, hn::Set(d, C::scale_min)), math::PowerOfTwo(d, e.shifted));
  auto sum = math::FastTwoSum(one, hn::Mul(power, m.hi));
  sum.lo = hn::MulAdd(power, m.lo, sum.lo);
  const auto left = hn::Lt(x, hn::Zero(d));
  const V y = math::Divide(
      d, math::Two<V>{hn::IfThenElse(left, m.hi, one), hn::IfThenElseZero(left, m.lo)}, sum);
  return hn::IfThenElse(left, math::Scale(d, y, e), y);
}

// Phi(x) = erfc(-x / sqrt(2)) / 2
template <class D, class V> HWY_INLINE V NormalCdf(D d, V x) {
  namespace hn = hwy::HWY_NAMESPACE;
  using C = math::ConstantsOf<D>;
  const V t = math::Clamp(d, hn::Abs(x), C::cdf_max), half = hn::Set(d, -0.5);
  const auto square = math::Square(d, t);
  const V tail = math::NormalTail(d, t, hn::Mul(square.hi, half), hn::Mul(square.lo, half));
  return hn::IfThenElse(hn::Gt(x, hn::Zero(d)), hn::Sub(hn::Set(d, 1), tail), tail);
}

// For GELU: Phi(x) within 5 ulp where that is an ordinary float32, at two thirds of the time.
template <class D, class V> HWY_INLINE V GeluCdf(D d, V x) {
  namespace hn = hwy::HWY_NAMESPACE;
  if constexpr (sizeof(hn::TFromD<D>) == 4) {
    if (HWY_LIKELY(math::AllBelow(d, x, math::ConstantsOf<D>::cdf_ordinary))) {
      const V tail = math::OrdinaryGaussian(d, hn::Abs(x)).tail;
      return hn::IfThenElse(hn::Gt(x, hn::Zero(d)), hn::Sub(hn::Set(d, 1), tail), tail);
    }
  }
  return HWY_NAMESPACE::NormalCdf(d, x);
}
// And its derivative, Phi(x) + x phi(x), which shares the exponential.
template <class D, class V> HWY_INLINE V GeluSlope(D d, V x) {
  namespace hn = hwy::HWY_NAMESPACE;
  using C = math::ConstantsOf<D>;
  const V density = hn::Set(d, 0.39894228040143267794);  // 1 / sqrt(2 pi)
  if constexpr (sizeof(hn::TFromD<D>) == 4) {
    if (HWY_LIKELY(math::AllBelow(d, x, C::cdf_ordinary))) {
      const auto gauss = math::OrdinaryGaussian(d, hn::Abs(x));
      const V cdf =
          hn::IfThenElse(hn::Gt(x, hn::Zero(d)), hn::Sub(hn::Set(d, 1), gauss.tail), gauss.tail);
      return hn::MulAdd(hn::Mul(x, density), hn::MulAdd(gauss.e.power, gauss.e.t, gauss.e.power),
                        cdf);
    }
  }
  // e^(-t^2 / 2) as a square: its root is far from underflow where it is not. At the clamp it is 0.
  const V t = math::Clamp(d, hn::Abs(x), C::cdf_max + hn::TFromD<D>(0.5));
  const auto square = math::Square(d, t);
  const V quarter = hn::Set(d, -0.25);
  const auto e = math::ExpReduce(d, hn::Mul(square.hi, quarter), hn::Mul(square.lo, quarter));
  const V root = math::Scale(d, hn::Add(hn::Set(d, 1), hn::Add(e.r, e.tail)), e);
  const V term = hn::Mul(hn::Mul(hn::Mul(hn::CopySign(t, x), density), root), root);
  return hn::Add(term, HWY_NAMESPACE::NormalCdf(d, x));
}

// Small |x|: x + x P(x^2); else 1 - 2 Phi(-sqrt(2) |x|).
template <class D, class V> HWY_INLINE V Erf(D d, V x) {
  namespace hn = hwy::HWY_NAMESPACE;
  using C = math::ConstantsOf<D>;
  const V a = math::Clamp(d, hn::Abs(x), C::erf_max);
  const V small = hn::MulAdd(a, C::ErfSmall(d, hn::Mul(a, a)), a);
  const auto square = math::Square(d, a);
  const V tail = math::NormalTail(d, hn::Mul(a, hn::Set(d, 1.41421356237309504880)),
                                  hn::Neg(square.hi), hn::Neg(square.lo));
  const V large = hn::NegMulAdd(hn::Set(d, 2), tail, hn::Set(d, 1));
  return hn::CopySign(hn::IfThenElse(hn::Lt(a, hn::Set(d, 0.78)), small, large), x);
}

// log(1 + e^x) = max(x, 0) + log(1 + e^-|x|)
template <class D, class V> HWY_INLINE V Softplus(D d, V x) {
  namespace hn = hwy::HWY_NAMESPACE;
  using C = math::ConstantsOf<D>;
  const V a = math::Clamp(d, hn::Abs(x), -C::exp_min);
  const auto e = math::ExpReduce(d, hn::Neg(a), hn::Zero(d));
  const auto m = math::Significand(d, e);
  const auto far = hn::Lt(e.n, hn::Set(d, -(C::mantissa + 4)));  // log(1 + E) = E
  const V power = hn::IfThenZeroElse(far, math::PowerOfTwo(d, e.shifted));
  const V near = math::Log1pOf(d, hn::Mul(power, m.hi), hn::Mul(power, m.lo));
  const V y = hn::IfThenElse(far, math::Scale(d, m.hi, e), near);
  return hn::IfThenElse(hn::Gt(x, hn::Zero(d)), hn::Add(x, y), y);
}

// x^y as IEEE 754 and PyTorch have it. float32: e^(y log|x|) in float64, whose error is below
// 2^-44. The same small power in every lane, as in x^2 and its gradient, is a product.
template <class D, class V> HWY_INLINE V Pow(D d, V x, V y) {
  namespace hn = hwy::HWY_NAMESPACE;
  using T = hn::TFromD<D>;
  const auto every = [&](int power)
                         HWY_ATTR { return hn::AllTrue(d, hn::Eq(y, hn::Set(d, power))); };
  if (HWY_UNLIKELY(every(2))) return hn::Mul(x, x);
  if (HWY_UNLIKELY(every(1))) return x;
  if (HWY_UNLIKELY(every(3)) && math::CubeIsOrdinary(d, x)) return math::Cube(d, x);
  if constexpr (sizeof(T) == 8) {
    return math::EachLane(d, x, y, [](double a, double b) { return std::pow(a, b); });
  } else {
    const V one = hn::Set(d, 1), zero = hn::Zero(d), a = hn::Abs(x),
            half_y = hn::Mul(y, hn::Set(d, 0.5f));
    V p = math::InDouble(d, a, y, [](auto dd, auto u, auto v) HWY_ATTR {
      return HWY_NAMESPACE::Exp(dd, hn::Mul(v, HWY_NAMESPACE::Log(dd, u)));
    });
    p = hn::IfThenElse(hn::Eq(a, one), hn::IfThenElse(hn::Eq(y, y), one, y),
                       p);  // 1^inf and (-1)^inf are 1
    // Integers from 2^24 on are even, infinity included; half of one is an integer, and of an odd
    // one not.
    const auto whole = hn::Eq(hn::Floor(y), y);
    const auto odd = hn::AndNot(hn::Eq(hn::Floor(half_y), half_y), whole);
    p = hn::IfThenElse(odd, hn::CopySign(p, x), p);
    const auto ordinary =
        hn::And(hn::Lt(x, zero), hn::Gt(x, hn::Set(d, -std::numeric_limits<T>::infinity())));
    p = hn::IfThenElse(hn::AndNot(whole, ordinary), hn::Set(d, std::numeric_limits<T>::quiet_NaN()),
                       p);
    return hn::IfThenElse(hn::Or(hn::Eq(y, zero), hn::Eq(x, one)), one, p);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace lg
HWY_AFTER_NAMESPACE();

#endif  // LIGHTGRAD_KERNELS_MATH_INL_H_
