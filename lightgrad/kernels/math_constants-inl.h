// math_constants-inl.h: the numbers of math-inl.h: polynomials, reductions and limits per element
// type.
#if defined(LIGHTGRAD_KERNELS_MATH_CONSTANTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LIGHTGRAD_KERNELS_MATH_CONSTANTS_INL_H_
#undef LIGHTGRAD_KERNELS_MATH_CONSTANTS_INL_H_
#else
#define LIGHTGRAD_KERNELS_MATH_CONSTANTS_INL_H_
#endif

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lg {
namespace HWY_NAMESPACE {
namespace math {

namespace hn = hwy::HWY_NAMESPACE;

// c0 + x (c1 + x (c2 + ...)).
template <class D, class V, class T> HWY_INLINE V Horner(D d, V, T c) { return hn::Set(d, c); }
template <class D, class V, class T, class... Rest>
HWY_INLINE V Horner(D d, V x, T c, Rest... rest) {
  return hn::MulAdd(x, Horner(d, x, rest...), hn::Set(d, c));
}

// c[first] + c[first + 2] z + ...
template <size_t first, class D, class V, class T, size_t count>
HWY_INLINE V EverySecond(D d, V z, const T (&c)[count]) {
  if constexpr (first + 2 >= count) {
    return hn::Set(d, c[first]);
  } else {
    return hn::MulAdd(z, EverySecond<first + 2>(d, z, c), hn::Set(d, c[first]));
  }
}

// c0 + c1 x + c2 x^2 + ...; long ones as even + x odd, which halves the chain of dependent
// operations.
template <class D, class V, class T, class... Rest>
HWY_INLINE V Polynomial(D d, V x, T c, Rest... rest) {
  if constexpr (sizeof...(rest) < 4) {
    return Horner(d, x, c, rest...);
  } else {
    const T all[] = {c, rest...};
    const V z = hn::Mul(x, x);
    return hn::MulAdd(x, EverySecond<1>(d, z, all), EverySecond<0>(d, z, all));
  }
}

// Polynomials are near-minimax least-squares fits on Chebyshev nodes at 70 digits, each coefficient
// rounded to the type before the next ones are fitted again; "error" is the largest relative to the
// function's value.
template <class T> struct Constants;

template <> struct Constants<float> {
  static constexpr int mantissa = 23;
  static constexpr float shifter =
      0x1.8p23f;  // x + shifter: x rounded to an integer, in the low bits
  static constexpr float ln2_hi = 0x1.62e4p-1f;  // 15 bits, so that n ln2_hi is exact for |n| < 2^9
  static constexpr float ln2_lo = 0x1.7f7d1cp-20f;
  static constexpr uint32_t upper_half = 0xfffff000u;   // the 12 leading bits of a significand
  static constexpr uint32_t sqrt_half = 0x3f3504f3u;    // bits of sqrt(1/2)
  static constexpr float exp_max = 88.72283935546875f;  // the largest x with finite e^x
  static constexpr float exp_min = -104.5f;             // e^x rounds to 0; below -150 ln 2
  static constexpr float expm1_min = -18, tanh_max = 9.5f, cdf_max = 14.5f, erf_max = 6;
  static constexpr float ordinary = 87, cdf_ordinary = 12.5f;  // results are normal, scaled at once
  static constexpr float tiny = 0x1p-26f;   // f(x) = x to the last bit for x + O(x^2)
  static constexpr float scale_min = -110;  // below this, 2^n goes in two steps
  static constexpr int scale_step = 64;
  static constexpr float scale_step_value = 0x1p-63f;

  // (e^r - 1 - r - r^2 / 2) / r^3, |r| <= ln(2)/2; error of r^3 q 2^-28.1.
  template <class D, class V> static HWY_INLINE V ExpTail(D d, V r) {
    return Polynomial(d, r, 1.6666515e-01f, 4.1666456e-02f, 8.369235e-03f, 1.3935767e-03f);
  }
  // (log((1 + s) / (1 - s)) / s - 2) / z, z = s^2, |s| <= 3 - 2 sqrt(2); error of z R / 2 2^-30.1.
  template <class D, class V> static HWY_INLINE V LogTail(D d, V z) {
    return Polynomial(d, z, 6.666678e-01f, 3.9976984e-01f, 2.988487e-01f);
  }
  // erf(x) / x - 1, |x| <= 0.85, z = x^2; error 2^-27.1.
  template <class D, class V> static HWY_INLINE V ErfSmall(D d, V z) {
    return Polynomial(d, z, 1.2837917e-01f, -3.7612587e-01f, 1.12828314e-01f, -2.6806032e-02f,
                      5.0557842e-03f, -6.3381885e-04f);
  }
  // (t + 2) e^(t^2/2) Phi(-t) = mills_hi + mills_lo + mills_slope q + q^2 MillsTail(q), q = (t -
  // 2)/(t + 2), t
  // <= 14.3; error 2^-27.9.
  static constexpr float mills_hi = 6.72408e-01f, mills_lo = 2.040782e-08f;
  static constexpr float mills_slope = -3.3140448e-01f;
  template <class D, class V> static HWY_INLINE V MillsTail(D d, V q) {
    return Polynomial(d, q, 2.8797356e-02f, 3.6719408e-02f, -4.695641e-04f, -6.7344126e-03f,
                      -1.9524009e-03f, 8.229177e-04f, 8.381167e-04f, 1.3436726e-04f,
                      -1.5020354e-04f, -6.649588e-05f);
  }
  // The whole of it with fewer terms, t <= 12.5; error 2^-25.7.
  template <class D, class V> static HWY_INLINE V Mills(D d, V q) {
    return Polynomial(d, q, 6.72407994e-01f, -3.31404509e-01f, 2.87983092e-02f, 3.67202229e-02f,
                      -4.82612025e-04f, -6.74221683e-03f, -1.88974232e-03f, 8.60342991e-04f,
                      7.13940955e-04f, 5.12454122e-05f, -6.28229786e-05f);
  }
};

template <> struct Constants<double> {
  static constexpr int mantissa = 52;
  static constexpr double shifter = 0x1.8p52;
  static constexpr double ln2_hi = 0x1.62e42feep-1;  // 32 bits; as in fdlibm
  static constexpr double ln2_lo = 0x1.a39ef35793c76p-33;
  static constexpr uint64_t upper_half = 0xfffffffff8000000u;  // 26 bits
  static constexpr uint64_t sqrt_half = 0x3fe6a09e667f3bcdu;
  static constexpr double exp_max = 709.782712893384;
  static constexpr double exp_min = -746;
  static constexpr double expm1_min = -38, tanh_max = 19.5, cdf_max = 39, erf_max = 6;
  static constexpr double ordinary = 700;
  static constexpr double tiny = 0x1p-55;
  static constexpr double scale_min = -1000;
  static constexpr int scale_step = 128;
  static constexpr double scale_step_value = 0x1p-127;

  // Error of r^3 q 2^-61.7.
  template <class D, class V> static HWY_INLINE V ExpTail(D d, V r) {
    return Polynomial(d, r, 0.16666666666666685, 0.041666666666666685, 0.00833333333331626,
                      0.0013888888888872945, 0.00019841269898062216, 2.4801587349805126e-05,
                      2.755723335804189e-06, 2.7557251368019036e-07, 2.51125147400622e-08,
                      2.0921891142271783e-09);
  }
  // Error of z R / 2 2^-59.4.
  template <class D, class V> static HWY_INLINE V LogTail(D d, V z) {
    return Polynomial(d, z, 0.6666666666666737, 0.3999999999939776, 0.28571428745911026,
                      0.2222219822317957, 0.1818358226929742, 0.15313592519740213,
                      0.14800555253576078);
  }
  // Error 2^-56.3.
  template <class D, class V> static HWY_INLINE V ErfSmall(D d, V z) {
    return Polynomial(d, z, 0.1283791670955126, -0.37612638903183754, 0.11283791670955118,
                      -0.02686617064512873, 0.0052239776254026, -0.000854832701974594,
                      0.00012055332758823719, -1.4925641348727629e-05, 1.6461864538549293e-06,
                      -1.6361071010964834e-07, 1.474522467477993e-08, -1.1765221933430763e-09,
                      6.750762089870038e-11);
  }
  // t <= 38.7; error 2^-56.8.
  static constexpr double mills_hi = 0.6724080048926824, mills_lo = 4.568603379873292e-17;
  static constexpr double mills_slope = -0.33140444238878103;
  template <class D, class V> static HWY_INLINE V MillsTail(D d, V q) {
    return Polynomial(d, q, 0.028797360345363107, 0.03671836096892077, -0.00046959683440988246,
                      -0.0067249070780757165, -0.0019511241602209624, 0.0007851181546820252,
                      0.0008271989311591183, 0.00020699175243357062, -0.00011569248228805043,
                      -0.00012855203090009041, -4.60586268286722e-05, 9.681906906576903e-06,
                      2.172352592847316e-05, 1.2571087893552124e-05, 1.9679337866025396e-06,
                      -2.8569829754335124e-06, -2.8351201079765684e-06, -1.3455483289616215e-06,
                      -3.5442608972600224e-07, 2.813541990595567e-07, 7.084049610055488e-07,
                      4.524292068554966e-07, -1.3160581000684757e-07, -2.575202275798666e-07,
                      -4.6497924756986515e-08, 4.409605751720523e-08, 1.5920810426357958e-08);
  }
};

}  // namespace math
}  // namespace HWY_NAMESPACE
}  // namespace lg
HWY_AFTER_NAMESPACE();

#endif  // LIGHTGRAD_KERNELS_MATH_CONSTANTS_INL_H_
