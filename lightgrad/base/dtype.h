// dtype.h: the eight element types, their names and sizes, and how they combine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "lightgrad/base/half.h"

namespace lg {

enum class DType : std::uint8_t { bool_, uint8, int32, int64, float16, bfloat16, float32, float64 };
inline constexpr int dtype_count = 8;

constexpr std::size_t size_of(DType t) {
  constexpr std::size_t sizes[] = {1, 1, 4, 8, 2, 2, 4, 8};
  return sizes[static_cast<int>(t)];
}
constexpr std::string_view name_of(DType t) {
  constexpr std::string_view names[] = {"bool",    "uint8",    "int32",   "int64",
                                        "float16", "bfloat16", "float32", "float64"};
  return names[static_cast<int>(t)];
}
constexpr bool is_floating(DType t) { return t >= DType::float16; }
constexpr bool is_half(DType t) { return t == DType::float16 || t == DType::bfloat16; }
constexpr bool is_integral(DType t) { return t < DType::float16; }  // bool included, as in PyTorch
// What kernels compute t in: halves in float32, integers in int64.
constexpr DType compute_type(DType t) {
  return is_half(t) ? DType::float32 : is_integral(t) ? DType::int64 : t;
}

// PyTorch's lattice for two tensors of full rank: the smaller type that holds both kinds.
constexpr DType promote(DType a, DType b) {
  if (a == b) return a;
  if (a > b) {
    const DType t = a;
    a = b;
    b = t;
  }
  if (a == DType::float16 && b == DType::bfloat16) return DType::float32;
  return b;  // the enumerators are in rising order; uint8 with int32 or int64 gives the larger
}

template <class T> struct DTypeOf;
template <> struct DTypeOf<bool> { static constexpr DType value = DType::bool_; };
template <> struct DTypeOf<std::uint8_t> { static constexpr DType value = DType::uint8; };
template <> struct DTypeOf<std::int32_t> { static constexpr DType value = DType::int32; };
template <> struct DTypeOf<std::int64_t> { static constexpr DType value = DType::int64; };
template <> struct DTypeOf<float16> { static constexpr DType value = DType::float16; };
template <> struct DTypeOf<bfloat16> { static constexpr DType value = DType::bfloat16; };
template <> struct DTypeOf<float> { static constexpr DType value = DType::float32; };
template <> struct DTypeOf<double> { static constexpr DType value = DType::float64; };
template <class T> inline constexpr DType dtype_of = DTypeOf<T>::value;

// visit(t, f) calls f(T{}) with the C++ type of t.
template <class F> decltype(auto) visit(DType t, F&& f) {
  switch (t) {
    case DType::bool_: return f(bool{});
    case DType::uint8: return f(std::uint8_t{});
    case DType::int32: return f(std::int32_t{});
    case DType::int64: return f(std::int64_t{});
    case DType::float16: return f(float16{});
    case DType::bfloat16: return f(bfloat16{});
    case DType::float32: return f(float{});
    default: return f(double{});
  }
}

// Number conversion with every pair of types, halves through float32; float to integer saturates
// never traps.
template <class To, class From> constexpr To convert(From v) {
  if constexpr (std::is_same_v<To, From>) {
    return v;
  } else if constexpr (std::is_same_v<From, float16> || std::is_same_v<From, bfloat16>) {
    return convert<To>(static_cast<float>(v));
  } else if constexpr (std::is_same_v<To, float16> || std::is_same_v<To, bfloat16>) {
    if constexpr (std::is_same_v<From, float> || sizeof(From) == 1)
      return To(static_cast<float>(v));
    else
      return To(round_to_odd(static_cast<double>(v)));
  } else if constexpr (std::is_same_v<To, bool>) {
    return v != From(0);
  } else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    // Out of range and NaN are undefined in C++; x86 gives the smallest int64, and we keep to that
    // everywhere.
    const auto wide =
        v >= From(-0x1p63) && v < From(0x1p63) ? static_cast<std::int64_t>(v) : INT64_MIN;
    return static_cast<To>(wide);
  } else {
    return static_cast<To>(v);
  }
}

}  // namespace lg
