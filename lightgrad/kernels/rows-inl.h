// rows-inl.h: walks along one contiguous row, a vector at a time, and what several row kernels
// share: the maximum, the sum, and the sum of exponentials of a row. Included once per SIMD target,
// after foreach_target.h.
#if defined(LIGHTGRAD_KERNELS_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LIGHTGRAD_KERNELS_ROWS_INL_H_
#undef LIGHTGRAD_KERNELS_ROWS_INL_H_
#else
#define LIGHTGRAD_KERNELS_ROWS_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "hwy/highway.h"
#include "lightgrad/base/half.h"
#include "lightgrad/kernels/math-inl.h"

// A lambda in code for one target: it must carry the target and must dissolve in its caller.
#undef LIGHTGRAD_LANES
#define LIGHTGRAD_LANES HWY_ATTR __attribute__((always_inline))

// Masked loads and stores of 4 and 8 bytes never fault on AVX2, though Highway says so of AVX2 as a
// whole.
#undef LIGHTGRAD_MASKS_MAY_FAULT
#define LIGHTGRAD_MASKS_MAY_FAULT (HWY_MEM_OPS_MIGHT_FAULT && HWY_TARGET != HWY_AVX2)

HWY_BEFORE_NAMESPACE();
namespace lg::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace math = lg::HWY_NAMESPACE;

template <class T> using Tag = hn::ScalableTag<T>;

// e^x for shifted scores, x <= 0 or hardly above: half the work of math::Exp, because 2^n needs no
// care. float32 is within 1 ulp down to 2^-126, then 0, and infinite from 88.4 on; NaN stays.
template <class D, class V> HWY_INLINE V ShiftedExp(D d, V x) {
  if constexpr (sizeof(hn::TFromD<D>) == 8) {
    return math::Exp(d, x);
  } else {
    const hn::RebindToUnsigned<D> du;
    const V limit = hn::Set(d, 89.0f);
    x = hn::IfThenElse(hn::Gt(x, limit), limit, x);  // Min would lose NaN
    // n + 127 in the low bits: after the shift they are the exponent of 2^n.
    const V shifter = hn::Set(d, 0x1.8p23f + 127);
    const V shifted = hn::MulAdd(x, hn::Set(d, 1.44269504f), shifter),
            n = hn::Sub(shifted, shifter);
    const V r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f),
                              hn::NegMulAdd(n, hn::Set(d, 0.693359375f), x));
    // Minimax of relative error 3e-9 over |r| <= ln(2)/2, its first two coefficients held at 1.
    V p = hn::MulAdd(r, hn::Set(d, 1.3814539e-3f), hn::Set(d, 8.3687454e-3f));
    p = hn::MulAdd(r, p, hn::Set(d, 4.1668389e-2f));
    p = hn::MulAdd(r, p, hn::Set(d, 0.16666521f));
    p = hn::MulAdd(r, p, hn::Set(d, 0.49999994f));
    p = hn::MulAdd(r, p, hn::Set(d, 1.0f));
    p = hn::MulAdd(r, p, hn::Set(d, 1.0f));
    const V power = hn::BitCast(d, hn::ShiftLeft<23>(hn::BitCast(du, shifted)));
    return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -87.33654f)), hn::Mul(p, power));
  }
}

// The first `lanes` values at p, `fill` in the rest; touches no memory beyond them.
template <class D, class T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> LoadLanes(D d, const T* p, std::int64_t lanes, T fill = T(0)) {
  if (static_cast<std::size_t>(lanes) == hn::Lanes(d)) return hn::LoadU(d, p);
#if LIGHTGRAD_MASKS_MAY_FAULT
  HWY_ALIGN T buffer[hn::MaxLanes(d)];
  for (std::size_t k = 0; k < hn::Lanes(d); ++k)
    buffer[k] = k < static_cast<std::size_t>(lanes) ? p[k] : fill;
  return hn::Load(d, buffer);
#else
  const auto mask = hn::FirstN(d, static_cast<std::size_t>(lanes));
  return hn::IfThenElse(mask, hn::MaskedLoad(mask, d, p), hn::Set(d, fill));
#endif
}

template <class D, class T = hn::TFromD<D>>
HWY_INLINE void StoreLanes(hn::Vec<D> v, D d, T* p, std::int64_t lanes) {
  if (static_cast<std::size_t>(lanes) == hn::Lanes(d)) {
    hn::StoreU(v, d, p);
    return;
  }
#if LIGHTGRAD_MASKS_MAY_FAULT
  HWY_ALIGN T buffer[hn::MaxLanes(d)];
  hn::Store(v, d, buffer);
  for (std::int64_t k = 0; k < lanes; ++k) p[k] = buffer[k];
#else
  hn::BlendedStore(v, hn::FirstN(d, static_cast<std::size_t>(lanes)), d, p);
#endif
}

// The same of bfloat16, as float32.
template <class D>
HWY_INLINE hn::Vec<D> LoadLanes(D d, const bfloat16* p, std::int64_t lanes, float fill = 0) {
  const hn::RebindToUnsigned<D> du;
  const hn::Rebind<std::uint16_t, D> narrow;
  const auto widen = [&](const std::uint16_t* bits) LIGHTGRAD_LANES {
    return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, hn::LoadU(narrow, bits))));
  };
  const auto* bits = reinterpret_cast<const std::uint16_t*>(p);
  if (static_cast<std::size_t>(lanes) == hn::Lanes(d)) return widen(bits);
  HWY_ALIGN std::uint16_t buffer[hn::MaxLanes(narrow)] = {};
  std::copy_n(bits, lanes, buffer);
  const auto mask = hn::FirstN(d, static_cast<std::size_t>(lanes));
  return hn::IfThenElse(mask, widen(buffer), hn::Set(d, fill));
}

// The upper half of each of the first `lanes` of u.
template <class DU> HWY_INLINE void StoreUpper(hn::Vec<DU> u, DU, bfloat16* p, std::int64_t lanes) {
  const hn::Rebind<std::uint16_t, DU> narrow;
  const auto bits = hn::TruncateTo(narrow, hn::ShiftRight<16>(u));
  auto* to = reinterpret_cast<std::uint16_t*>(p);
  if (static_cast<std::size_t>(lanes) == hn::Lanes(narrow)) {
    hn::StoreU(bits, narrow, to);
    return;
  }
  HWY_ALIGN std::uint16_t buffer[hn::MaxLanes(narrow)];
  hn::Store(bits, narrow, buffer);
  std::copy_n(buffer, lanes, to);
}

// float32 rounded to bfloat16 as that does itself.
template <class D> HWY_INLINE void StoreLanes(hn::Vec<D> v, D, bfloat16* p, std::int64_t lanes) {
  const hn::RebindToUnsigned<D> du;
  const auto u = hn::BitCast(du, v);
  const auto odd = hn::And(hn::ShiftRight<16>(u), hn::Set(du, 1u));
  const auto rounded = hn::Add(u, hn::Add(odd, hn::Set(du, 0x7fffu)));
  const auto quiet = hn::Or(u, hn::Set(du, 0x400000u));
  StoreUpper(hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(v)), quiet, rounded), du, p, lanes);
}

// f(slot, i, lanes) over [0, n): slots 0 to 3 in turn let a reduction keep four sums in flight.
template <class D, class F> HWY_INLINE void EachVector(D d, std::int64_t n, F f) {
  const std::int64_t N = hn::Lanes(d);
  std::int64_t i = 0;
  for (; i + 4 * N <= n; i += 4 * N) {
    f(0, i, N);
    f(1, i + N, N);
    f(2, i + 2 * N, N);
    f(3, i + 3 * N, N);
  }
  for (; i + N <= n; i += N) f(0, i, N);
  if (i < n) f(0, i, n - i);
}

// Four running vectors of a reduction; each access names its slot by a constant, so they stay in
// registers.
template <class D> struct Slots {
  hn::Vec<D> v[4];
  HWY_INLINE explicit Slots(hn::TFromD<D> start) {
    v[0] = v[1] = v[2] = v[3] = hn::Set(D(), start);
  }
  HWY_INLINE hn::TFromD<D> sum() const {
    return hn::GetLane(hn::SumOfLanes(D(), hn::Add(hn::Add(v[0], v[1]), hn::Add(v[2], v[3]))));
  }
  HWY_INLINE hn::TFromD<D> max() const {
    return hn::GetLane(hn::MaxOfLanes(D(), hn::Max(hn::Max(v[0], v[1]), hn::Max(v[2], v[3]))));
  }
};

// May lose a NaN: whoever shifts by it meets the NaN again in the exponentials.
template <class T> HWY_INLINE T RowMax(const T* x, std::int64_t n) {
  const Tag<T> d;
  const T low = -std::numeric_limits<T>::infinity();
  Slots<Tag<T>> m(low);
  EachVector(d, n, [&](int s, std::int64_t i, std::int64_t lanes) LIGHTGRAD_LANES {
    m.v[s] = hn::Max(m.v[s], LoadLanes(d, x + i, lanes, low));
  });
  return m.max();
}

template <class T> HWY_INLINE Wide<T> RowSum(const T* x, std::int64_t n) {
  const Tag<Wide<T>> d;
  Slots<Tag<Wide<T>>> sum(Wide<T>(0));
  EachVector(d, n, [&](int s, std::int64_t i, std::int64_t lanes) LIGHTGRAD_LANES {
    sum.v[s] = hn::Add(sum.v[s], LoadLanes(d, x + i, lanes));
  });
  return sum.sum();
}

// max and sum of exp(x - shift) of a row, where shift = max, or 0 while the max is infinite.
template <class T> struct MaxSum {
  T max, sum;
  T shift() const { return std::isinf(max) ? T(0) : max; }
};

// One pass over memory: each block is read again only out of L1, and a larger max rescales the sum
// so far.
template <class T> HWY_INLINE MaxSum<T> RowMaxSumExp(const T* x, std::int64_t n) {
  constexpr std::int64_t block = 2048;
  const Tag<T> d;
  const T low = -std::numeric_limits<T>::infinity();
  MaxSum<T> r{low, T(0)};
  for (std::int64_t at = 0; at < n; at += block) {
    const T* p = x + at;
    const std::int64_t length = n - at < block ? n - at : block;
    const T block_max = RowMax(p, length), old_shift = r.shift();
    if (block_max > r.max) r.max = block_max;
    const auto shift = hn::Set(d, r.shift());
    Slots<Tag<T>> sum(T(0));
    EachVector(d, length, [&](int s, std::int64_t i, std::int64_t lanes) LIGHTGRAD_LANES {
      sum.v[s] = hn::Add(sum.v[s], ShiftedExp(d, hn::Sub(LoadLanes(d, p + i, lanes, low), shift)));
    });
    if (r.sum != T(0) && old_shift != r.shift()) r.sum *= std::exp(old_shift - r.shift());
    r.sum += sum.sum();
  }
  return r;
}

}  // namespace HWY_NAMESPACE
}  // namespace lg::kernels
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
