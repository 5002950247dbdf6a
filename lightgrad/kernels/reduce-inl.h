// reduce-inl.h: what the folds of reduce_folds.h do with two vectors, and with the lanes of one.
// Included once per SIMD target, after foreach_target.h.
#if defined(LIGHTGRAD_KERNELS_REDUCE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LIGHTGRAD_KERNELS_REDUCE_INL_H_
#undef LIGHTGRAD_KERNELS_REDUCE_INL_H_
#else
#define LIGHTGRAD_KERNELS_REDUCE_INL_H_
#endif

#include <cstdint>
#include <type_traits>

#include "hwy/highway.h"
#include "lightgrad/kernels/reduce_folds.h"

HWY_BEFORE_NAMESPACE();
namespace lg::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class Fold, class D, class V = hn::Vec<D>> HWY_INLINE V Join(D, V a, V b) {
  using T = hn::TFromD<D>;
  if constexpr (std::is_same_v<Fold, SumFold>) {
    return hn::Add(a, b);
  } else {
    const auto better = std::is_same_v<Fold, ExtremeFold<true>> ? hn::Gt(b, a) : hn::Lt(b, a);
    // Max and Min of the hardware lose a NaN on one side: take every NaN, and nothing is better
    // than one.
    if constexpr (std::is_floating_point_v<T>)
      return hn::IfThenElse(hn::Or(better, hn::IsNaN(b)), b, a);
    else
      return hn::IfThenElse(better, b, a);
  }
}

template <class Fold, class D, class T = hn::TFromD<D>> HWY_INLINE T JoinLanes(D d, hn::Vec<D> v) {
  if constexpr (std::is_same_v<Fold, SumFold>) {
    return hn::GetLane(hn::SumOfLanes(d, v));
  } else {
    if constexpr (std::is_floating_point_v<T>) {
      if (hn::AllFalse(d, hn::IsNaN(v))) {
        if constexpr (std::is_same_v<Fold, ExtremeFold<true>>)
          return hn::GetLane(hn::MaxOfLanes(d, v));
        else
          return hn::GetLane(hn::MinOfLanes(d, v));
      }
    }
    HWY_ALIGN T lane[hn::MaxLanes(d)];
    hn::Store(v, d, lane);
    T all = lane[0];
    for (std::size_t k = 1; k < hn::Lanes(d); ++k) all = Fold::join(all, lane[k]);
    return all;
  }
}

// The instruction, which may lose a NaN.
template <class Fold, class V> HWY_INLINE V Extreme(V a, V b) {
  if constexpr (std::is_same_v<Fold, ExtremeFold<true>>)
    return hn::Max(a, b);
  else
    return hn::Min(a, b);
}
// Extremes of floats at the speed of sums: the sum beside them is NaN when one of them is. Where it
// is NaN (opposite infinities make it so too), the careful Join has the word.
template <class Fold, class T>
inline constexpr bool kGuarded = !std::is_same_v<Fold, SumFold> && std::is_floating_point_v<T>;

}  // namespace HWY_NAMESPACE
}  // namespace lg::kernels
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
