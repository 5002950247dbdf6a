// random.cpp: Philox4x32-10 and the draws made from it.
#include "lightgrad/base/random.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <type_traits>
#include <utility>

#include "lightgrad/base/error.h"
#include "lightgrad/base/parallel.h"

namespace lg {

std::array<std::uint32_t, 4> philox(std::uint64_t key, std::uint64_t counter_low, std::uint64_t counter_high) {
  auto k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
  auto c0 = static_cast<std::uint32_t>(counter_low), c1 = static_cast<std::uint32_t>(counter_low >> 32);
  auto c2 = static_cast<std::uint32_t>(counter_high), c3 = static_cast<std::uint32_t>(counter_high >> 32);
  for (int round = 0; round < 10; ++round) {
    const auto p0 = std::uint64_t{0xD2511F53} * c0, p1 = std::uint64_t{0xCD9E8D57} * c2;
    c0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<std::uint32_t>(p1);
    c2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<std::uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {c0, c1, c2, c3};
}

Generator& default_generator() {
  static Generator generator;
  return generator;
}

namespace {
std::uint64_t word64(Stream s, std::uint64_t i) {  // element i takes 64 bits: two to a counter
  const auto w = philox(s.seed, i >> 1, s.offset);
  return (i & 1) ? (std::uint64_t{w[3]} << 32 | w[2]) : (std::uint64_t{w[1]} << 32 | w[0]);
}
template <class T>
T unit(Stream s, std::uint64_t i) {
  if constexpr (std::is_same_v<T, float>) return static_cast<float>(random_word(s, i) >> 8) * 0x1p-24f;
  else return static_cast<double>(word64(s, i) >> 11) * 0x1p-53;
}
constexpr std::int64_t grain = 1 << 14;
}  // namespace

template <class T>
void fill_uniform(T* out, std::int64_t n, T low, T high, Stream stream) {
  parallel_for(n, grain, [=](std::int64_t begin, std::int64_t end) {
    for (auto i = begin; i < end; ++i) {
      const T v = low + (high - low) * unit<T>(stream, static_cast<std::uint64_t>(i));
      out[i] = v < high ? v : low;
    }
  });
}

template <class T>
void fill_normal(T* out, std::int64_t n, T mean, T stddev, Stream stream) {
  parallel_for(n, grain, [=](std::int64_t begin, std::int64_t end) {
    for (auto i = begin; i < end; ++i) {
      const auto pair = static_cast<std::uint64_t>(i) & ~std::uint64_t{1};
      const T r = std::sqrt(T(-2) * std::log(T(1) - unit<T>(stream, pair)));
      const T a = T(2) * std::numbers::pi_v<T> * unit<T>(stream, pair + 1);
      out[i] = mean + stddev * r * ((i & 1) ? std::sin(a) : std::cos(a));
    }
  });
}

void fill_randint(std::int64_t* out, std::int64_t n, std::int64_t low, std::int64_t high, Stream stream) {
  const auto range = static_cast<std::uint64_t>(high) - static_cast<std::uint64_t>(low);
  parallel_for(n, grain, [=](std::int64_t begin, std::int64_t end) {
    for (auto i = begin; i < end; ++i) {
      const auto word = word64(stream, static_cast<std::uint64_t>(i));
      out[i] = static_cast<std::int64_t>(static_cast<std::uint64_t>(low) +
                                         static_cast<std::uint64_t>((static_cast<unsigned __int128>(word) * range) >> 64));
    }
  });
}

void fill_permutation(std::int64_t* out, std::int64_t n, Stream stream) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = i;
  for (std::int64_t i = n - 1; i > 0; --i) {
    const auto word = word64(stream, static_cast<std::uint64_t>(i));
    std::swap(out[i], out[static_cast<std::uint64_t>((static_cast<unsigned __int128>(word) * static_cast<std::uint64_t>(i + 1)) >> 64)]);
  }
}

template void fill_uniform(float*, std::int64_t, float, float, Stream);
template void fill_uniform(double*, std::int64_t, double, double, Stream);
template void fill_normal(float*, std::int64_t, float, float, Stream);
template void fill_normal(double*, std::int64_t, double, double, Stream);

}  // namespace lg
