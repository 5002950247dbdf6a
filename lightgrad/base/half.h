// half.h: bfloat16 and float16 as storage; arithmetic is done in float32 and rounded once, to
// nearest even.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

namespace lg {

// v with the fraction's last 39 bits as one: set where any of them is. What is left is a float,
// and rounds to 16 bits as v would, where (float)v could round onto a tie first.
constexpr float round_to_odd(double v) {
  constexpr std::uint64_t last = (std::uint64_t{1} << 39) - 1;
  const auto u = std::bit_cast<std::uint64_t>(v);
  return static_cast<float>(std::bit_cast<double>((u | ((u & last) + last)) & ~last));
}

struct bfloat16 {
  std::uint16_t bits = 0;

  bfloat16() = default;
  explicit bfloat16(float v) {
    const auto u = std::bit_cast<std::uint32_t>(v);
    if ((u & 0x7fffffffu) > 0x7f800000u) {
      bits = static_cast<std::uint16_t>((u >> 16) |
                                        0x40u);  // NaN stays NaN: never round it up to infinity
    } else {
      bits = static_cast<std::uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
    }
  }
  explicit operator float() const {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  }
};

struct float16 {
  std::uint16_t bits = 0;

  float16() = default;
  explicit float16(float v) {
    const auto u = std::bit_cast<std::uint32_t>(v);
    const std::uint32_t sign = (u >> 16) & 0x8000u, a = u & 0x7fffffffu;
    std::uint32_t h;
    if (a > 0x7f800000u) {
      h = 0x7e00u;  // NaN
    } else if (a >= 0x477ff000u) {
      h = 0x7c00u;                 // 65520 and above round to infinity
    } else if (a < 0x38800000u) {  // below 2^-14: subnormal; let float32 round
      h = std::bit_cast<std::uint32_t>(std::bit_cast<float>(a) + 0.5f) - 0x3f000000u;
    } else {
      h = (a - 0x38000000u + 0xfffu + ((a >> 13) & 1u)) >> 13;
    }
    bits = static_cast<std::uint16_t>(sign | h);
  }
  explicit operator float() const {
    const std::uint32_t sign = (bits & 0x8000u) << 16, a = bits & 0x7fffu;
    std::uint32_t u;
    if (a >= 0x7c00u) {
      u = 0x7f800000u | ((a & 0x3ffu) << 13);
    } else if (a < 0x400u) {
      u = std::bit_cast<std::uint32_t>(static_cast<float>(a) * 0x1p-24f);
    } else {
      u = (a << 13) + 0x38000000u;
    }
    return std::bit_cast<float>(sign | u);
  }
};

// What kernels compute T in.
template <class T>
using Wide =
    std::conditional_t<std::is_same_v<T, bfloat16> || std::is_same_v<T, float16>, float, T>;

}  // namespace lg
