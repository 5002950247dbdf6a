// gemm_bf16.cpp: B is packed whole, once, in panels of 64 columns whose rows are pairs of k; A is
// read where it lies when its rows are contiguous (a pair is then a 32-bit word to broadcast), and
// packed alike otherwise. A task is a block of rows times a panel; its float32 sums stay in L1 and
// L2 while k passes by. In intrinsics, because Highway 1.0.3 has no dot product of bfloat16.
#include <algorithm>
#include <cstring>

#include "lightgrad/base/parallel.h"
#include "lightgrad/kernels/divide.h"
#include "lightgrad/kernels/gemm.h"
#include "lightgrad/kernels/gemm_bf16.h"
#include "lightgrad/kernels/row_chunks.h"
#include "lightgrad/kernels/unroll.h"

#ifdef __x86_64__
#include "lightgrad/kernels/bf16_target.h"

namespace lg::kernels {
namespace {

using bf16::kLanes, bf16::kPanel, bf16::Rows, bf16::Word;

// 6 x 4 vectors of sums, 4 of B and one of A are 29 of the 32 registers, as in gemm-inl.h.
constexpr int kRows = bf16::kTileRows;
// A block of rows and a panel of B, kDepth pairs deep, take 96 x 2 KiB and 64 x 2 KiB: a third of
// an L2 of 1 MiB. The block's sums take 24 KiB.
constexpr std::int64_t kBlockRows = 16 * kRows, kDepth = 512;

LG_BF16 __m512i Load(const Word* p) { return _mm512_loadu_si512(p); }

// Transposes 16 x 16 words.
LG_BF16 void Transpose(__m512i r[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 4) {
    const __m512i a = _mm512_unpacklo_epi32(r[i], r[i + 1]),
                  b = _mm512_unpackhi_epi32(r[i], r[i + 1]),
                  c = _mm512_unpacklo_epi32(r[i + 2], r[i + 3]),
                  d = _mm512_unpackhi_epi32(r[i + 2], r[i + 3]);
    t[i] = _mm512_unpacklo_epi64(a, c);
    t[i + 1] = _mm512_unpackhi_epi64(a, c);
    t[i + 2] = _mm512_unpacklo_epi64(b, d);
    t[i + 3] = _mm512_unpackhi_epi64(b, d);
  }
  // t[4 q + i], block j of 128 bits: rows 4 q .. 4 q + 3 of column 4 j + i.
  for (int i = 0; i < 4; ++i) {
    const __m512i a = _mm512_shuffle_i32x4(t[i], t[i + 4], 0x88),
                  b = _mm512_shuffle_i32x4(t[i], t[i + 4], 0xdd),
                  c = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0x88),
                  d = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0xdd);
    r[i] = _mm512_shuffle_i32x4(a, c, 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(a, c, 0xdd);
    r[i + 4] = _mm512_shuffle_i32x4(b, d, 0x88);
    r[i + 12] = _mm512_shuffle_i32x4(b, d, 0xdd);
  }
}

Word word_of(const bfloat16* at, std::int64_t k_stride, bool whole) {
  return at->bits | (whole ? static_cast<Word>(at[k_stride].bits) << 16 : 0);
}

template <int kHeight, int kVecs>
LG_BF16_FUNCTION void Tile(std::int64_t pairs, Rows a, const Word* b, float* sums,
                           std::int64_t sums_row, bool add, const Word* last) {
  __m512 sum[kHeight][kVecs];
  LG_UNROLL for (int i = 0; i < kHeight; ++i) {
    LG_UNROLL for (int v = 0; v < kVecs; ++v) sum[i][v] =
        add ? _mm512_loadu_ps(sums + i * sums_row + v * kLanes) : _mm512_setzero_ps();
  }
  const std::int64_t whole = pairs - (last ? 1 : 0);
  for (std::int64_t p = 0; p < pairs; ++p, b += kPanel, a.at += a.pair) {
    __m512bh bv[kVecs];
    LG_UNROLL for (int v = 0; v < kVecs; ++v) bv[v] =
        reinterpret_cast<__m512bh>(Load(b + v * kLanes));
    LG_UNROLL for (int i = 0; i < kHeight; ++i) {
      int word;
      std::memcpy(&word, p < whole ? a.at + i * a.row : reinterpret_cast<const char*>(last + i),
                  sizeof(word));
      const auto av = reinterpret_cast<__m512bh>(_mm512_set1_epi32(word));
      LG_UNROLL for (int v = 0; v < kVecs; ++v) sum[i][v] = _mm512_dpbf16_ps(sum[i][v], av, bv[v]);
    }
  }
  LG_UNROLL for (int i = 0; i < kHeight; ++i) {
    LG_UNROLL for (int v = 0; v < kVecs; ++v)
        _mm512_storeu_ps(sums + i * sums_row + v * kLanes, sum[i][v]);
  }
}

template <int kVecs>
constexpr bf16::Tile kTiles[kRows] = {Tile<1, kVecs>, Tile<2, kVecs>, Tile<3, kVecs>,
                                      Tile<4, kVecs>, Tile<5, kVecs>, Tile<6, kVecs>};

LG_BF16 __m512 Widen(__m256i x) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}

// In the lower halves of words.
LG_BF16 __m512i Narrow(const float* from) {
  const auto x = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(_mm512_loadu_ps(from)));
  return _mm512_cvtepu16_epi32(x);
}

LG_BF16 __mmask16 FirstLanes(std::int64_t n) {
  return static_cast<__mmask16>(n >= kLanes ? 0xffff : (1 << n) - 1);
}

LG_BF16_FUNCTION void AddRow(const bfloat16* from, std::int64_t n, float* to) {
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const __mmask16 some = FirstLanes(n - i);
    const __m512 x = _mm512_maskz_loadu_ps(some, to + i);
    const __m512 y = Widen(_mm256_maskz_loadu_epi16(some, from + i));
    _mm512_mask_storeu_ps(to + i, some, _mm512_add_ps(x, y));
  }
}

// row_sums of rows [i, i + rows): four partial sums each, so that a chain is a quarter of k long.
LG_BF16_FUNCTION void SumRows(const Gemm<bfloat16>& g, std::int64_t i, std::int64_t rows) {
  const auto at = [&](std::int64_t row, std::int64_t p) {
    return g.a + row * g.a_row + p * g.a_col;
  };
  const std::int64_t end = i + rows;
  if (g.a_row == 1) {
    for (; i + kLanes <= end; i += kLanes) {
      __m512 part[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(),
                        _mm512_setzero_ps()};
      for (std::int64_t p = 0; p < g.k; ++p) {
        const auto* from = reinterpret_cast<const __m256i*>(at(i, p));
        part[p % 4] = _mm512_add_ps(part[p % 4], Widen(_mm256_loadu_si256(from)));
      }
      const __m512 sum =
          _mm512_add_ps(_mm512_add_ps(part[0], part[1]), _mm512_add_ps(part[2], part[3]));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(g.row_sums + i),
                          reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(sum)));
    }
  }
  for (; i < end; ++i) {
    float part[4] = {};
    for (std::int64_t p = 0; p < g.k; ++p) part[p % 4] += static_cast<float>(*at(i, p));
    g.row_sums[i] = bfloat16((part[0] + part[1]) + (part[2] + part[3]));
  }
}

// Rows [i0, i0 + rows) times panel j0 / kPanel. `a`: the words of those rows.
void block(const Gemm<bfloat16>& g, std::int64_t i0, std::int64_t rows, std::int64_t j0, Rows a,
           const Word* panel, const Word* last) {
  alignas(64) float sums[kBlockRows * kPanel];
  const std::int64_t pairs = ceil_div(g.k, 2);
  if (pairs == 0) std::fill_n(sums, rows * kPanel, 0.0f);
  for (std::int64_t p = 0; p < pairs; p += kDepth) {
    const std::int64_t depth = std::min(kDepth, pairs - p);
    const bool ends = p + depth == pairs;
    for (std::int64_t i = 0; i < rows; i += kRows) {
      bf16::tile(std::min<std::int64_t>(kRows, rows - i), kPanel)(
          depth, {a.at + p * a.pair + i * a.row, a.row, a.pair}, panel + p * kPanel,
          sums + i * kPanel, kPanel, p > 0, ends && last ? last + i : nullptr);
    }
  }
  const std::int64_t columns = std::min(kPanel, g.n - j0);
  bfloat16 *const c = g.c + i0 * g.c_row + j0, *const activated =
                                                   g.activated ? g.activated + i0 * g.c_row + j0
                                                               : c;
  for (std::int64_t i = 0; i < rows; ++i) {
    float* const row = sums + i * kPanel;
    if (g.bias) AddRow(g.bias + j0, columns, row);
    if (!g.activation || g.activated) bf16::narrow(row, columns, c + i * g.c_row);
  }
  if (!g.activation) return;
  g.activation({sums, {sums}, 0, rows, columns, kPanel, {kPanel}, nullptr});
  for (std::int64_t i = 0; i < rows; ++i)
    bf16::narrow(sums + i * kPanel, columns, activated + i * g.c_row);
}

void zeros(const Gemm<bfloat16>& g) {  // k = 0
  if (g.row_sums) std::fill_n(g.row_sums, g.m, bfloat16());
  for (std::int64_t i = 0; i < g.m; i += kBlockRows) {
    for (std::int64_t j = 0; j < g.n; j += kPanel)
      block(g, i, std::min(kBlockRows, g.m - i), j, {}, nullptr, nullptr);
  }
}

}  // namespace

namespace bf16 {

LG_BF16_FUNCTION void pack(const bfloat16* from, std::int64_t line, std::int64_t k_stride,
                           std::int64_t k, std::int64_t lines, std::int64_t width, Word* to) {
  const std::int64_t pairs = k / 2;
  if (k % 2 != 0) {
    for (std::int64_t i = 0; i < width; ++i) {
      to[pairs * width + i] =
          i < lines ? word_of(from + i * line + (k - 1) * k_stride, k_stride, false) : 0;
    }
  }
  for (std::int64_t j = 0; j < width; j += kLanes) {
    const std::int64_t some = std::clamp<std::int64_t>(lines - j, 0, kLanes);
    const bfloat16* at = from + j * line;
    std::int64_t p = 0;
    if (some == kLanes && k_stride == 1) {
      for (; p + kLanes <= pairs; p += kLanes) {
        __m512i r[16];
        for (int i = 0; i < 16; ++i)
          r[i] = Load(reinterpret_cast<const Word*>(at + i * line + 2 * p));
        Transpose(r);
        for (int i = 0; i < 16; ++i) _mm512_storeu_si512(to + (p + i) * width + j, r[i]);
      }
    } else if (some == kLanes && line == 1) {
      for (; p < pairs; ++p) {
        const bfloat16* row = at + 2 * p * k_stride;
        const __m512i low = _mm512_cvtepu16_epi32(
                          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row))),
                      high = _mm512_cvtepu16_epi32(
                          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + k_stride)));
        _mm512_storeu_si512(to + p * width + j, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
      }
    }
    for (; p < pairs; ++p) {
      for (std::int64_t i = 0; i < kLanes && j + i < width; ++i) {
        to[p * width + j + i] =
            i < some ? word_of(at + i * line + 2 * p * k_stride, k_stride, true) : 0;
      }
    }
  }
}

Tile tile(std::int64_t rows, std::int64_t columns) {
  const auto& tiles = columns <= kLanes ? kTiles<1> : columns <= 2 * kLanes ? kTiles<2> : kTiles<4>;
  return tiles[rows - 1];
}

LG_BF16_FUNCTION void widen(const bfloat16* from, std::int64_t n, float* to) {
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const __mmask16 some = FirstLanes(n - i);
    _mm512_mask_storeu_ps(to + i, some, Widen(_mm256_maskz_loadu_epi16(some, from + i)));
  }
}

LG_BF16_FUNCTION void narrow(const float* from, std::int64_t n, bfloat16* to) {
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const __mmask16 some = FirstLanes(n - i);
    const __m512 x = _mm512_maskz_loadu_ps(some, from + i);
    _mm256_mask_storeu_epi16(to + i, some, reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x)));
  }
}

LG_BF16_FUNCTION void narrow_pairs(const float* even, const float* odd, std::int64_t n, Word* to) {
  for (std::int64_t i = 0; i < n; i += kLanes) {
    _mm512_storeu_si512(to + i,
                        _mm512_or_si512(Narrow(even + i), _mm512_slli_epi32(Narrow(odd + i), 16)));
  }
}

}  // namespace bf16

template <> void gemm(const Gemm<bfloat16>& g) {
  if (g.m <= 0 || g.n <= 0) return;
  if (g.k == 0) return zeros(g);
  const std::int64_t pairs = ceil_div(g.k, 2), panels = ceil_div(g.n, kPanel),
                     blocks = ceil_div(g.m, kBlockRows);
  const bool in_place = g.a_col == 1;
  const bool half_pair = in_place && g.k % 2 != 0;
  const Scratch<Word> b(panels * kPanel * pairs);
  const Scratch<Word> a(in_place ? (half_pair ? g.m : 0) : blocks * kBlockRows * pairs);
  // Packing, in pieces of about 64 Ki elements.
  const std::int64_t panel_grain = std::max<std::int64_t>(1, (1 << 15) / (pairs * kPanel));
  parallel_for(panels, panel_grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t q = begin; q < end; ++q) {
      bf16::pack(g.b + q * kPanel * g.b_col, g.b_col, g.b_row, g.k,
                 std::min(kPanel, g.n - q * kPanel), kPanel, b.get() + q * kPanel * pairs);
    }
  });
  const std::int64_t block_grain = std::max<std::int64_t>(1, (1 << 15) / (pairs * kBlockRows));
  if (!in_place || g.row_sums || half_pair) {
    parallel_for(blocks, block_grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t q = begin; q < end; ++q) {
        const std::int64_t i = q * kBlockRows, rows = std::min(kBlockRows, g.m - i);
        if (g.row_sums) SumRows(g, i, rows);
        if (!in_place) {
          bf16::pack(g.a + i * g.a_row, g.a_row, g.a_col, g.k, rows, kBlockRows,
                     a.get() + q * kBlockRows * pairs);
        } else if (half_pair) {
          for (std::int64_t r = i; r < i + rows; ++r)
            a[r] = word_of(g.a + r * g.a_row + g.k - 1, 1, false);
        }
      }
    });
  }
  const auto work = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      const std::int64_t q = t / panels, j = t % panels, i = q * kBlockRows;
      const Rows rows = in_place
                            ? Rows{reinterpret_cast<const char*>(g.a + i * g.a_row), 2 * g.a_row, 4}
                            : Rows{reinterpret_cast<const char*>(a.get() + q * kBlockRows * pairs),
                                   4, 4 * kBlockRows};
      block(g, i, std::min(kBlockRows, g.m - i), j * kPanel, rows, b.get() + j * kPanel * pairs,
            half_pair ? a.get() + i : nullptr);
    }
  };
  // Tasks of at least 2^18 multiply-adds, some microseconds.
  const std::int64_t one = std::min(g.m, kBlockRows) * kPanel * g.k;
  parallel_for(blocks * panels, std::max<std::int64_t>(1, (1 << 18) / one), work);
}

template <>
void gemm_batched(const Gemm<bfloat16>& one, std::int64_t batch, const std::int64_t* a_offset,
                  const std::int64_t* b_offset, const std::int64_t* c_offset) {
  const auto item = [&](std::int64_t i) {
    Gemm<bfloat16> g = one;
    g.a += a_offset[i];
    g.b += b_offset[i];
    g.c += c_offset[i];
    gemm(g);
  };
  if (batch < 4 * num_threads()) {
    for (std::int64_t i = 0; i < batch; ++i) item(i);
  } else {
    parallel_for(batch, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) item(i);  // a nested call runs inline
    });
  }
}

}  // namespace lg::kernels

#else

namespace lg::kernels {
namespace bf16 {
void pack(const bfloat16*, std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t,
          Word*) {}
Tile tile(std::int64_t, std::int64_t) { return nullptr; }
void widen(const bfloat16*, std::int64_t, float*) {}
void narrow(const float*, std::int64_t, bfloat16*) {}
void narrow_pairs(const float*, const float*, std::int64_t, Word*) {}
}  // namespace bf16
template <> void gemm(const Gemm<bfloat16>&) {}
template <>
void gemm_batched(const Gemm<bfloat16>&, std::int64_t, const std::int64_t*, const std::int64_t*,
                  const std::int64_t*) {}
}  // namespace lg::kernels

#endif
