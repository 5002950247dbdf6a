// divide.h: division as kernels need it to cut their work.
#pragma once

#include <cstdint>

namespace lg::kernels {

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// The size of the fewest equal blocks of at most `most` that cover n.
constexpr std::int64_t even(std::int64_t n, std::int64_t most) {
  return ceil_div(n, ceil_div(n, most));
}

}  // namespace lg::kernels
