// philox-inl.h: random words for kernels, many counters at a time: word for word those of
// lg::random_word. Included once per SIMD target, after foreach_target.h.
#if defined(LIGHTGRAD_KERNELS_PHILOX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LIGHTGRAD_KERNELS_PHILOX_INL_H_
#undef LIGHTGRAD_KERNELS_PHILOX_INL_H_
#else
#define LIGHTGRAD_KERNELS_PHILOX_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "hwy/highway.h"
#include "lightgrad/base/random.h"

HWY_BEFORE_NAMESPACE();
namespace lg::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Words that RandomWords may write beyond what it was asked for: whole vectors of counters, four
// words each.
inline constexpr std::int64_t kRandomSlack = 4 * hn::MaxLanes(hn::ScalableTag<std::uint32_t>()) + 4;

#if HWY_TARGET != HWY_SCALAR
template <class D, class V>
HWY_INLINE void MulHighLow(D d, V a, std::uint32_t by, V& high, V& low) {
  const hn::RepartitionToWide<D> wide;
  const auto b = hn::Set(d, by);
  const auto even = hn::MulEven(a, b);
  const auto odd = hn::MulEven(hn::BitCast(d, hn::ShiftRight<32>(hn::BitCast(wide, a))), b);
  high = hn::OddEven(hn::BitCast(d, odd), hn::BitCast(d, hn::ShiftRight<32>(even)));
  low = hn::OddEven(hn::BitCast(d, hn::ShiftLeft<32>(odd)), hn::BitCast(d, even));
}
#endif

// random_word(s, first + i) for i in [0, n) at the returned address, inside `buffer` of n +
// kRandomSlack words.
HWY_INLINE const std::uint32_t* RandomWords(Stream s, std::uint64_t first, std::int64_t n,
                                            std::uint32_t* buffer) {
  const std::uint64_t skip = first & 3;
  std::uint64_t counter = first >> 2;
  const std::int64_t words = n + static_cast<std::int64_t>(skip);
#if HWY_TARGET == HWY_SCALAR
  for (std::int64_t i = 0; i < words; i += 4, ++counter) {
    const auto block = philox(s.seed, counter, s.offset);
    for (int k = 0; k < 4; ++k) buffer[i + k] = block[static_cast<std::size_t>(k)];
  }
#else
  const hn::ScalableTag<std::uint32_t> d;
  const std::int64_t N = hn::Lanes(d);
  for (std::int64_t i = 0; i < words; i += 4 * N, counter += static_cast<std::uint64_t>(N)) {
    const auto start = hn::Set(d, static_cast<std::uint32_t>(counter));
    auto c0 = hn::Add(start, hn::Iota(d, 0));
    const auto carry = hn::VecFromMask(d, hn::Lt(c0, start));  // -1 where the low half overflowed
    auto c1 = hn::Sub(hn::Set(d, static_cast<std::uint32_t>(counter >> 32)), carry);
    auto c2 = hn::Set(d, static_cast<std::uint32_t>(s.offset));
    auto c3 = hn::Set(d, static_cast<std::uint32_t>(s.offset >> 32));
    auto k0 = static_cast<std::uint32_t>(s.seed), k1 = static_cast<std::uint32_t>(s.seed >> 32);
    for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9, k1 += 0xBB67AE85) {
      auto high0 = c0, low0 = c0, high2 = c2, low2 = c2;
      MulHighLow(d, c0, 0xD2511F53, high0, low0);
      MulHighLow(d, c2, 0xCD9E8D57, high2, low2);
      c0 = hn::Xor(hn::Xor(high2, c1), hn::Set(d, k0));
      c1 = low2;
      c2 = hn::Xor(hn::Xor(high0, c3), hn::Set(d, k1));
      c3 = low0;
    }
    hn::StoreInterleaved4(c0, c1, c2, c3, d, buffer + i);
  }
#endif
  return buffer + skip;
}

// Dropout's factors: 1 / (1 - p) where an element is kept, 0 where it is dropped.
template <class T> struct Keep {
  std::uint32_t threshold = 0;  // keep when the word is at least p 2^32
  T scale = 1;

  explicit Keep(double p) {
    if (p < 1) {
      threshold = static_cast<std::uint32_t>(std::min(std::ceil(p * 0x1p32), 0x1p32 - 1));
      scale = static_cast<T>(1 / (1 - p));
    } else {
      scale = 0;
    }
  }
  HWY_INLINE hn::Vec<hn::ScalableTag<T>> operator()(const std::uint32_t* words) const {
    const hn::ScalableTag<T> d;
    const hn::Rebind<std::uint32_t, decltype(d)> du;
    const auto w = hn::LoadU(du, words);
    if constexpr (sizeof(T) == 4) {
      return hn::IfThenZeroElse(hn::RebindMask(d, hn::Lt(w, hn::Set(du, threshold))),
                                hn::Set(d, scale));
    } else {
      const hn::RebindToSigned<decltype(d)> dw;
      const auto wide = hn::BitCast(dw, hn::PromoteTo(hn::RebindToUnsigned<decltype(d)>(), w));
      const auto dropped = hn::Lt(wide, hn::Set(dw, static_cast<std::int64_t>(threshold)));
      return hn::IfThenZeroElse(hn::RebindMask(d, dropped), hn::Set(d, scale));
    }
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace lg::kernels
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
