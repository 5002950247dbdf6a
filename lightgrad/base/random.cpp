// random.cpp: the draws made from Philox words. Words are made for 32 counters at a time by loops
// over arrays that the compiler turns into SIMD; on x86 the loops are compiled for AVX2 too and
// chosen at run time. Only IEEE basic operations are used for float, so both give the same bits.
#include "lightgrad/base/random.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>
#include <type_traits>
#include <utility>

#include "lightgrad/base/parallel.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define LIGHTGRAD_AVX2 [[gnu::target("avx2")]]
#endif
#define LIGHTGRAD_INLINE [[gnu::always_inline]] inline

namespace lg {
namespace {

constexpr std::uint32_t multiplier0 = 0xD2511F53,
                        multiplier1 = 0xCD9E8D57;  // the paper's constants
constexpr std::uint32_t weyl0 = 0x9E3779B9, weyl1 = 0xBB67AE85;

constexpr int lanes = 32;               // counters of one batch
using Words = std::uint32_t[4][lanes];  // word k of counter first + lane

LIGHTGRAD_INLINE std::uint32_t high(std::uint32_t a, std::uint32_t b) {
  return static_cast<std::uint32_t>(std::uint64_t{a} * b >> 32);
}

LIGHTGRAD_INLINE void philox_batch(Stream s, std::uint64_t first, Words& c) {
  for (int i = 0; i < lanes; ++i) {
    const std::uint64_t counter = first + static_cast<std::uint64_t>(i);
    c[0][i] = static_cast<std::uint32_t>(counter);
    c[1][i] = static_cast<std::uint32_t>(counter >> 32);
    c[2][i] = static_cast<std::uint32_t>(s.offset);
    c[3][i] = static_cast<std::uint32_t>(s.offset >> 32);
  }
  auto k0 = static_cast<std::uint32_t>(s.seed), k1 = static_cast<std::uint32_t>(s.seed >> 32);
  for (int round = 0; round < 10; ++round, k0 += weyl0, k1 += weyl1) {
    for (int i = 0; i < lanes; ++i) {
      const std::uint32_t a = c[0][i], b = c[2][i];
      c[0][i] = high(multiplier1, b) ^ c[1][i] ^ k0;
      c[1][i] = multiplier1 * b;
      c[2][i] = high(multiplier0, a) ^ c[3][i] ^ k1;
      c[3][i] = multiplier0 * a;
    }
  }
}

// log(w / 2^31) for 0 < w < 2^31, to 2 ulp: w / 2^31 = m 2^e with m in [sqrt(1/2), sqrt(2)); the
// polynomial is Cephes' logf. Where e = 0, m - 1 comes from the integer: rounding m first would
// spoil the small radii.
LIGHTGRAD_INLINE float log_unit(std::int32_t w) {
  const std::uint32_t u =
      std::bit_cast<std::uint32_t>(static_cast<float>(w) * 0x1p-31f) - 0x3f3504f3u;
  const std::int32_t exponent = static_cast<std::int32_t>(u) >> 23;
  const auto e = static_cast<float>(exponent);
  const float rounded =
      std::bit_cast<float>((u & 0x7fffffu) + 0x3f3504f3u) - 1.0f;  // 0x3f3504f3: sqrt(1/2)
  const float exact = static_cast<float>(w - 0x7fffffff - 1) * 0x1p-31f;
  const std::uint32_t mask = exponent == 0 ? ~0u : 0u;
  const float x = std::bit_cast<float>((std::bit_cast<std::uint32_t>(exact) & mask) |
                                       (std::bit_cast<std::uint32_t>(rounded) & ~mask));
  const float z = x * x;
  float p = 7.0376836292e-2f;
  p = p * x - 1.1514610310e-1f;
  p = p * x + 1.1676998740e-1f;
  p = p * x - 1.2420140846e-1f;
  p = p * x + 1.4249322787e-1f;
  p = p * x - 1.6668057665e-1f;
  p = p * x + 2.0000714765e-1f;
  p = p * x - 2.4999993993e-1f;
  p = p * x + 3.3333331174e-1f;
  return x + (x * z * p - 2.12194440e-4f * e - 0.5f * z) + 0.693359375f * e;  // log 2 in two parts
}

// cos and sin of 2 pi w / 2^32. The top two bits of w + 2^29 are the quadrant; what is left is an
// angle of at most pi / 4, where Taylor's polynomials to degree 8 and 9 are exact to float.
LIGHTGRAD_INLINE void turn(std::uint32_t w, float& cosine, float& sine) {
  const std::uint32_t shifted = w + 0x20000000u;
  const auto rest = static_cast<std::int32_t>(shifted & 0x3fffffffu) - 0x20000000;
  const float a = static_cast<float>(rest) * (2 * std::numbers::pi_v<float> * 0x1p-32f), z = a * a;
  const float c = 1 + z * (-0.5f + z * (1.0f / 24 + z * (-1.0f / 720 + z * (1.0f / 40320))));
  const float s =
      a + a * z * (-1.0f / 6 + z * (1.0f / 120 + z * (-1.0f / 5040 + z * (1.0f / 362880))));
  const std::uint32_t swap = 0u - (shifted >> 30 & 1), cu = std::bit_cast<std::uint32_t>(c),
                      su = std::bit_cast<std::uint32_t>(s);
  const std::uint32_t cosine_sign = (shifted ^ shifted << 1) & 0x80000000u;  // quadrants 1 and 2
  const std::uint32_t sine_sign = shifted & 0x80000000u;                     // quadrants 2 and 3
  cosine = std::bit_cast<float>(((cu & ~swap) | (su & swap)) ^ cosine_sign);
  sine = std::bit_cast<float>(((su & ~swap) | (cu & swap)) ^ sine_sign);
}

// Each draw turns a batch of words into per_batch numbers: element i takes word i (float) or words
// 2i, 2i + 1.
template <class T> constexpr int per_batch = lanes * 16 / static_cast<int>(sizeof(T));

LIGHTGRAD_INLINE std::uint64_t word64(const Words& w, int i) {
  const int k = (i & 1) * 2, lane = i >> 1;
  return std::uint64_t{w[k + 1][lane]} << 32 | w[k][lane];
}

template <class T> struct Uniform {
  T low, range,
      below;  // below: the largest number less than high, where rounding would give high itself

  LIGHTGRAD_INLINE void operator()(const Words& w, T* out) const {
    if constexpr (std::is_same_v<T, float>) {
      for (int lane = 0; lane < lanes; ++lane) {
        for (int k = 0; k < 4; ++k) {
          const float v =
              low +
              range * (static_cast<float>(static_cast<std::int32_t>(w[k][lane] >> 8)) * 0x1p-24f);
          out[4 * lane + k] = v < below ? v : below;
        }
      }
    } else {
      for (int i = 0; i < 2 * lanes; ++i) {
        const double v =
            low +
            range * (static_cast<double>(static_cast<std::int64_t>(word64(w, i) >> 11)) * 0x1p-53);
        out[i] = v < below ? v : below;
      }
    }
  }
};

// Box-Muller. Float: words 0 and 2 of a counter are radii (31 bits: tails to 6.5 sigma), 1 and 3
// angles. Double: both 64-bit words of a counter make one pair (tails to 9.4 sigma).
template <class T> struct Normal {
  T mean, stddev;

  LIGHTGRAD_INLINE void operator()(const Words& w, T* out) const {
    if constexpr (std::is_same_v<T, float>) {
      float z[4][lanes];
      for (int pair = 0; pair < 4; pair += 2) {
        for (int i = 0; i < lanes; ++i) {
          const float r =
              stddev * std::sqrt(-2.0f * log_unit(static_cast<std::int32_t>(w[pair][i] >> 1 | 1)));
          float cosine, sine;
          turn(w[pair + 1][i], cosine, sine);
          z[pair][i] = mean + r * cosine;
          z[pair + 1][i] = mean + r * sine;
        }
      }
      for (int i = 0; i < lanes; ++i) {
        for (int k = 0; k < 4; ++k) out[4 * i + k] = z[k][i];
      }
    } else {
      for (int i = 0; i < lanes; ++i) {
        const auto v = static_cast<std::int64_t>(word64(w, 2 * i) >> 1 | 1);
        const double a =
            static_cast<double>(static_cast<std::int64_t>(word64(w, 2 * i + 1) >> 11)) * 0x1p-53;
        const double gap =
            static_cast<double>(INT64_MAX - v + 1) * 0x1p-63;  // exact where log is small
        const double log =
            gap < 0.5 ? std::log1p(-gap) : std::log(static_cast<double>(v) * 0x1p-63);
        const double r = stddev * std::sqrt(-2.0 * log);
        out[2 * i] = mean + r * std::cos(2 * std::numbers::pi * a);
        out[2 * i + 1] = mean + r * std::sin(2 * std::numbers::pi * a);
      }
    }
  }
};

// Lemire's multiply-shift: of `range` values none is favoured by more than range / 2^64.
LIGHTGRAD_INLINE std::uint64_t below(std::uint64_t word, std::uint64_t range) {
  return static_cast<std::uint64_t>(static_cast<unsigned __int128>(word) * range >> 64);
}

struct RandInt {
  std::uint64_t low, range;

  LIGHTGRAD_INLINE void operator()(const Words& w, std::int64_t* out) const {
    for (int i = 0; i < 2 * lanes; ++i)
      out[i] = static_cast<std::int64_t>(low + below(word64(w, i), range));
  }
};

// Elements [begin, end) of a draw; begin is a multiple of a batch.
template <class T, class Draw>
LIGHTGRAD_INLINE void fill_range(T* out, std::int64_t begin, std::int64_t end, Stream s,
                                 const Draw& draw) {
  constexpr std::int64_t batch = per_batch<T>;
  alignas(64) Words words;
  for (std::int64_t i = begin; i < end; i += batch) {
    philox_batch(s, static_cast<std::uint64_t>(i / batch) * lanes, words);
    if (end - i >= batch) {
      draw(words, out + i);
    } else {
      T last[batch];
      draw(words, last);
      std::copy(last, last + (end - i), out + i);
    }
  }
}

#ifdef LIGHTGRAD_AVX2
template <class T, class Draw>
LIGHTGRAD_AVX2 void fill_range_avx2(T* out, std::int64_t begin, std::int64_t end, Stream s,
                                    const Draw& draw) {
  fill_range(out, begin, end, s, draw);
}
#endif
template <class T, class Draw>
void fill_range_baseline(T* out, std::int64_t begin, std::int64_t end, Stream s, const Draw& draw) {
  fill_range(out, begin, end, s, draw);
}

template <class T, class Draw> void fill(T* out, std::int64_t n, Stream s, const Draw& draw) {
  auto* range = fill_range_baseline<T, Draw>;
#ifdef LIGHTGRAD_AVX2
  if (__builtin_cpu_supports("avx2")) range = fill_range_avx2<T, Draw>;
#endif
  parallel_for(n, per_batch<T> * 128,
               [&](std::int64_t begin, std::int64_t end) { range(out, begin, end, s, draw); });
}

}  // namespace

std::array<std::uint32_t, 4> philox(std::uint64_t key, std::uint64_t counter_low,
                                    std::uint64_t counter_high) {
  auto k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
  auto c0 = static_cast<std::uint32_t>(counter_low),
       c1 = static_cast<std::uint32_t>(counter_low >> 32);
  auto c2 = static_cast<std::uint32_t>(counter_high),
       c3 = static_cast<std::uint32_t>(counter_high >> 32);
  for (int round = 0; round < 10; ++round, k0 += weyl0, k1 += weyl1) {
    const std::uint32_t a = c0, b = c2;
    c0 = high(multiplier1, b) ^ c1 ^ k0;
    c1 = multiplier1 * b;
    c2 = high(multiplier0, a) ^ c3 ^ k1;
    c3 = multiplier0 * a;
  }
  return {c0, c1, c2, c3};
}

Generator& default_generator() {
  static Generator generator;
  return generator;
}

template <class T> void fill_uniform(T* out, std::int64_t n, T low, T high, Stream stream) {
  fill(out, n, stream, Uniform<T>{low, high - low, std::max(low, std::nextafter(high, low))});
}

template <class T> void fill_normal(T* out, std::int64_t n, T mean, T stddev, Stream stream) {
  fill(out, n, stream, Normal<T>{mean, stddev});
}

void fill_randint(std::int64_t* out, std::int64_t n, std::int64_t low, std::int64_t high,
                  Stream stream) {
  const auto start = static_cast<std::uint64_t>(low);
  fill(out, n, stream, RandInt{start, static_cast<std::uint64_t>(high) - start});
}

void fill_permutation(std::int64_t* out, std::int64_t n, Stream stream) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = i;
  for (std::int64_t i = n - 1; i > 0; --i) {
    const auto word = philox(stream.seed, static_cast<std::uint64_t>(i), stream.offset);
    const std::uint64_t j =
        below(std::uint64_t{word[1]} << 32 | word[0], static_cast<std::uint64_t>(i) + 1);
    std::swap(out[i], out[j]);
  }
}

template void fill_uniform(float*, std::int64_t, float, float, Stream);
template void fill_uniform(double*, std::int64_t, double, double, Stream);
template void fill_normal(float*, std::int64_t, float, float, Stream);
template void fill_normal(double*, std::int64_t, double, double, Stream);

}  // namespace lg
