// gemm_bf16.h: what products of bfloat16 are made of, where has_bf16_products(): panels of the
// right operand, and tiles that multiply rows by a panel. gemm_bf16.cpp makes whole matrices of
// them, attention-inl.h blocks of scores.
#pragma once

#include <cstdint>

#include "lightgrad/base/half.h"

namespace lg::kernels::bf16 {

using Word = std::uint32_t;  // two consecutive values of k, the first in the lower half

inline constexpr std::int64_t kTileRows = 6, kLanes = 16, kPanel = 4 * kLanes;

// `lines` <= width rows of A, or columns of B, as words [pairs of k][width], the missing lines
// zeros, and so the missing half of the last pair of an odd k. line and k are strides in elements.
void pack(const bfloat16* from, std::int64_t line, std::int64_t k_stride, std::int64_t k,
          std::int64_t lines, std::int64_t width, Word* to);

// The words of A: pair p of row i at p * pair + i * row, in bytes.
struct Rows {
  const char* at;
  std::int64_t row, pair;
};
// sums (+)= the rows times a panel, `pairs` deep. `last`, if any, takes the place of the words of
// the last pair, where half of that is missing in place.
using Tile = void (*)(std::int64_t pairs, Rows a, const Word* panel, float* sums,
                      std::int64_t sums_row, bool add, const Word* last);
// Of 1 to 6 rows and 1 to kPanel columns, rounded up to 16, 32 or 64.
Tile tile(std::int64_t rows, std::int64_t columns);

// Rows of numbers from one form to the other, rounded to nearest even.
void widen(const bfloat16* from, std::int64_t n, float* to);
void narrow(const float* from, std::int64_t n, bfloat16* to);
// The words of two rows, n of each, rounded up to 16.
void narrow_pairs(const float* even, const float* odd, std::int64_t n, Word* to);

}  // namespace lg::kernels::bf16
