// conv_bf16.cpp: convolution of bfloat16 by the CPU's dot products of pairs, in the sweeps of
// conv_sweep.h. Forward and for the gradient of x, a pair is two channels: planes of words, in
// which every tap is an offset. For the gradient of the weight it is two pixels: a product of the
// taps of x, as rows, and g's outputs, as columns. Sums are float32, rounded once.
#include <algorithm>
#include <cstring>

#include "lightgrad/base/parallel.h"
#include "lightgrad/kernels/conv_sweep.h"
#include "lightgrad/kernels/gemm_bf16.h"
#include "lightgrad/kernels/row_chunks.h"
#include "lightgrad/kernels/unroll.h"

#ifdef __x86_64__
#include "lightgrad/kernels/bf16_target.h"

namespace lg::kernels {
namespace {

using bf16::kLanes, bf16::kPanel, bf16::kTileRows, bf16::Word;

constexpr std::int64_t kPlaneBytes = 512 * 1024;  // of a tile's planes: half of L2
constexpr std::int64_t kUnits = 8;                // pieces of work, if the shape allows
constexpr std::int64_t kChunkWork = 1 << 19;      // multiply-adds that outweigh a fork-join
constexpr std::int64_t kMaxParts = 16;            // of the sum over images
constexpr std::int64_t kPartsBudget = 1 << 22;    // elements of all parts together

// ---- planes ----

LG_BF16 std::uint32_t FirstBits(std::int64_t n) {
  return n >= 32 ? ~0u : n <= 0 ? 0u : (1u << n) - 1;
}

// Columns [at, at + 16) of a plane, from a row of the source: zeros where that has none.
LG_BF16 __m256i Columns(const bfloat16* row, const Plane& p, std::int64_t step, std::int64_t at) {
  const bfloat16* from = row + p.column + step * at;
  const std::int64_t begin = p.begin - at, end = p.end - at;
  if (step == 1) {
    const auto inside = static_cast<__mmask16>(FirstBits(end) & ~FirstBits(begin));
    return _mm256_maskz_loadu_epi16(inside, from);
  }
  if (step == 2) {  // the even ones of 32
    const std::uint32_t inside = FirstBits(2 * end) & ~FirstBits(2 * begin) & 0x55555555u;
    return _mm512_cvtepi32_epi16(_mm512_maskz_loadu_epi16(inside, from));
  }
  alignas(32) bfloat16 lanes[kLanes] = {};
  for (auto j = std::max<std::int64_t>(begin, 0); j < std::min(end, kLanes); ++j)
    lanes[j] = from[j * step];
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(lanes));
}

// A channel of an image for the tile that begins at grid row `row`; null: zeros.
struct Source {
  const bfloat16* channel;
  std::int64_t row;

  // Where row j of a plane lies, or null outside of the image.
  const bfloat16* operator()(const Sweep& s, const Plane& p, std::int64_t j) const {
    const std::int64_t at = (row + j + s.first_row) * s.step[0] + p.phase;
    return channel && at >= 0 && at < s.size[0] ? channel + at * s.size[1] : nullptr;
  }
};

// The planes of one channel, rows [0, count). Up to a vector beyond each is written, zeros.
LG_BF16_FUNCTION void FillNumbers(const Sweep& s, Source x, std::int64_t count, bfloat16* to) {
  for (const Plane& p : s.plane) {
    bfloat16* at = to;
    for (std::int64_t j = 0; j < count; ++j, at += s.grid[1]) {
      const bfloat16* row = x(s, p, j);
      for (std::int64_t i = 0; i < s.grid[1]; i += kLanes) {
        const __m256i v = row ? Columns(row, p, s.step[1], i) : _mm256_setzero_si256();
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(at + i), v);
      }
    }
    to += s.plane_size;
  }
}

// The same of two channels, as words.
LG_BF16_FUNCTION void FillWords(const Sweep& s, Source low, Source high, std::int64_t count,
                                Word* to) {
  for (const Plane& p : s.plane) {
    Word* at = to;
    for (std::int64_t j = 0; j < count; ++j, at += s.grid[1]) {
      const bfloat16 *a = low(s, p, j), *b = high(s, p, j);
      for (std::int64_t i = 0; i < s.grid[1]; i += kLanes) {
        __m512i words = _mm512_setzero_si512();
        if (a) words = _mm512_cvtepu16_epi32(Columns(a, p, s.step[1], i));
        if (b) {
          const __m512i v = _mm512_cvtepu16_epi32(Columns(b, p, s.step[1], i));
          words = _mm512_or_si512(words, _mm512_slli_epi32(v, 16));
        }
        _mm512_storeu_si512(at + i, words);
      }
    }
    to += s.plane_size;
  }
}

// ---- tiles ----

// 8 outputs times 3 vectors of pixels, 3 of x and one weight are 28 of the 32 registers. A product
// has 6 rows, as in gemm_bf16.cpp.
constexpr std::int64_t kOuts = 8, kPixels = 3 * kLanes;

LG_BF16 __m512bh LoadWords(const Word* p) {
  return reinterpret_cast<__m512bh>(_mm512_loadu_si512(p));
}
LG_BF16 __m512bh Broadcast(Word w) {
  return reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<int>(w)));
}

// Outputs as rows, pixels as columns: w [pairs of channels][taps][kHeight], x the planes of words,
// sums [kHeight][kPixels].
template <int kHeight, int kVecs>
LG_BF16_FUNCTION void PixelTile(std::int64_t pairs, std::int64_t taps, const std::int64_t* offset,
                                const Word* x, std::int64_t x_pair, const Word* w, float* sums) {
  __m512 sum[kHeight][kVecs];
  LG_UNROLL for (int i = 0; i < kHeight; ++i) {
    LG_UNROLL for (int v = 0; v < kVecs; ++v) sum[i][v] = _mm512_setzero_ps();
  }
  for (std::int64_t c = 0; c < pairs; ++c, x += x_pair) {
    for (std::int64_t t = 0; t < taps; ++t, w += kHeight) {
      __m512bh b[kVecs];
      LG_UNROLL for (int v = 0; v < kVecs; ++v) b[v] = LoadWords(x + offset[t] + v * kLanes);
      LG_UNROLL for (int i = 0; i < kHeight; ++i) {
        const __m512bh a = Broadcast(w[i]);
        LG_UNROLL for (int v = 0; v < kVecs; ++v) sum[i][v] = _mm512_dpbf16_ps(sum[i][v], a, b[v]);
      }
    }
  }
  LG_UNROLL for (int i = 0; i < kHeight; ++i) {
    LG_UNROLL for (int v = 0; v < kVecs; ++v)
        _mm512_storeu_ps(sums + i * kPixels + v * kLanes, sum[i][v]);
  }
}

// Taps of x as rows, outputs of g as columns, added up: rows[i] are pixels of x, g a panel of
// pairs of pixels.
template <int kHeight, int kVecs>
LG_BF16_FUNCTION void TapTile(std::int64_t pixels, const bfloat16* const* rows, const Word* g,
                              float* sums, std::int64_t sums_row) {
  __m512 sum[kHeight][kVecs];
  LG_UNROLL for (int i = 0; i < kHeight; ++i) {
    LG_UNROLL for (int v = 0; v < kVecs; ++v) sum[i][v] =
        _mm512_loadu_ps(sums + i * sums_row + v * kLanes);
  }
  for (std::int64_t p = 0; p < pixels; p += 2, g += kPanel) {
    __m512bh b[kVecs];
    LG_UNROLL for (int v = 0; v < kVecs; ++v) b[v] = LoadWords(g + v * kLanes);
    LG_UNROLL for (int i = 0; i < kHeight; ++i) {
      Word word;
      std::memcpy(&word, rows[i] + p, sizeof(word));
      if (p + 1 == pixels) word &= 0xffff;  // what lies behind is no part of the sum, if it is NaN
      const __m512bh a = Broadcast(word);
      LG_UNROLL for (int v = 0; v < kVecs; ++v) sum[i][v] = _mm512_dpbf16_ps(sum[i][v], a, b[v]);
    }
  }
  LG_UNROLL for (int i = 0; i < kHeight; ++i) {
    LG_UNROLL for (int v = 0; v < kVecs; ++v)
        _mm512_storeu_ps(sums + i * sums_row + v * kLanes, sum[i][v]);
  }
}

#define LG_TILES(Tile, V) Tile<1, V>, Tile<2, V>, Tile<3, V>, Tile<4, V>, Tile<5, V>, Tile<6, V>
#define LG_PIXEL_TILES(V) \
  { LG_TILES(PixelTile, V), PixelTile<7, V>, PixelTile<8, V> }
constexpr decltype(&PixelTile<1, 1>) kPixelTiles[][kOuts] = {LG_PIXEL_TILES(1), LG_PIXEL_TILES(2),
                                                             LG_PIXEL_TILES(3)};
constexpr decltype(&TapTile<1, 1>) kTapTiles[][kTileRows] = {
    {LG_TILES(TapTile, 1)}, {LG_TILES(TapTile, 2)}, {LG_TILES(TapTile, 3)}, {LG_TILES(TapTile, 4)}};
#undef LG_PIXEL_TILES
#undef LG_TILES

// ---- sweeps ----

// Weights as PixelTile reads them: [group][block of outputs][pair][tap][output of the block]; a
// last block has `outs` of them as well, the missing ones zeros.
struct Weights {
  std::int64_t height, blocks, size;  // size: words of a block
  Scratch<Word> words;

  Weights(const Conv& c, const Sweep& s, const bfloat16* w)
      : height(even(s.outs, kOuts)),
        blocks(ceil_div(s.outs, height)),
        size(ceil_div(s.channels, 2) * s.taps() * height),
        words(c.groups * blocks * size) {
    Word* to = words.get();
    const auto bits = [&](const bfloat16* from, std::int64_t o, std::int64_t channel) -> Word {
      return o < s.outs && channel < s.channels
                 ? from[o * s.weight_out + channel * s.weight_channel].bits
                 : 0;
    };
    for (std::int64_t k = 0; k < c.groups * blocks; ++k) {
      const bfloat16* group = w + k / blocks * c.group_out() * c.group_in() * c.taps();
      for (std::int64_t i = 0; i < s.channels; i += 2) {
        for (const Tap& tap : s.tap) {
          for (std::int64_t o = k % blocks * height; o < (k % blocks + 1) * height; ++o)
            *to++ = bits(group + tap.weight, o, i) | bits(group + tap.weight, o, i + 1) << 16;
        }
      }
    }
  }
};

// Sums of pixels [at, at + n) of a tile to where an output's pixels of it begin.
void store(const Sweep& s, const float* sums, std::int64_t at, std::int64_t n, bfloat16* to) {
  if (s.to_column == 1 && s.to_row == s.grid[1]) return bf16::narrow(sums, n, to + at);
  bfloat16 rounded[kPixels];
  bf16::narrow(sums, n, rounded);
  const std::int64_t step = s.to_column;
  std::int64_t row = at / s.grid[1], column = at % s.grid[1];
  for (std::int64_t i = 0; i < n; ++row, column = 0) {
    bfloat16* const line = to + row * s.to_row + column * step;
    const std::int64_t some = std::min(n - i, s.grid[1] - column);
    for (std::int64_t j = 0; j < some; ++j) line[j * step] = rounded[i + j];
    i += some;
  }
}

void run(const Conv& c, Sweep s, const bfloat16* source, std::int64_t source_image,
         const bfloat16* weight, const bfloat16* bias, bfloat16* to, std::int64_t to_image) {
  const std::int64_t images = c.images * c.groups, pairs = ceil_div(s.channels, 2);
  if (images == 0 || s.outs == 0 || s.grid[0] == 0 || s.grid[1] == 0) return;
  const std::int64_t row_bytes = std::max<std::int64_t>(1, 4 * pairs * s.planes * s.grid[1]);
  std::int64_t rows = std::clamp<std::int64_t>(kPlaneBytes / row_bytes - s.span, 1, s.grid[0]);
  if (images < kUnits) rows = std::min(rows, ceil_div(s.grid[0], ceil_div(kUnits, images)));
  s.set_rows(even(s.grid[0], rows), kLanes);
  const Weights w(c, s, weight);
  const std::int64_t x_pair = s.planes * s.plane_size, tiles = s.tiles();
  const auto tile = [&](std::int64_t image, std::int64_t row, Word* planes) {
    const std::int64_t n = image / c.groups, group = image % c.groups;
    const std::int64_t count = std::min(s.rows, s.grid[0] - row), plane = s.size[0] * s.size[1];
    const bfloat16* x = source + n * source_image + group * s.channels * plane;
    for (std::int64_t i = 0; i < s.channels; i += 2) {
      FillWords(s, {x + i * plane, row}, {i + 1 < s.channels ? x + (i + 1) * plane : nullptr, row},
                count + s.span, planes + i / 2 * x_pair);
    }
    bfloat16* y = to + n * to_image + group * s.outs * s.to_channel + s.to_start + row * s.to_row;
    alignas(64) float sums[kOuts * kPixels];
    const std::int64_t pixels = count * s.grid[1];
    for (std::int64_t p = 0; p < pixels; p += kPixels) {
      const std::int64_t some = std::min(kPixels, pixels - p);
      const auto pixel_tile = kPixelTiles[ceil_div(some, kLanes) - 1][w.height - 1];
      for (std::int64_t b = 0; b < w.blocks; ++b) {
        pixel_tile(pairs, s.taps(), s.offset.data(), planes + p, x_pair,
                   w.words.get() + (group * w.blocks + b) * w.size, sums);
        for (std::int64_t i = 0; i < std::min(w.height, s.outs - b * w.height); ++i) {
          const std::int64_t o = b * w.height + i;
          float* const line = sums + i * kPixels;
          if (bias) {
            const auto add = static_cast<float>(bias[group * s.outs + o]);
            for (std::int64_t j = 0; j < some; ++j) line[j] += add;
          }
          store(s, line, p, some, y + o * s.to_channel);
        }
      }
    }
  };
  const std::int64_t work = std::max<std::int64_t>(1, s.rows * s.grid[1] * s.depth() * s.outs);
  parallel_for(images * tiles, std::max<std::int64_t>(1, kChunkWork / work),
               [&](std::int64_t begin, std::int64_t end) {
                 Scratch<Word> planes(pairs * x_pair + kPixels);  // tiles read whole vectors
                 for (std::int64_t k = begin; k < end; ++k)
                   tile(k / tiles, k % tiles * s.rows, planes.get());
               });
}

}  // namespace

template <>
void conv_forward(const Conv& c, const bfloat16* x, const bfloat16* weight, const bfloat16* bias,
                  bfloat16* y) {
  run(c, forward_sweep(c), x, c.in_channels * c.in[0] * c.in[1], weight, bias, y,
      c.out_channels * c.out[0] * c.out[1]);
}

template <>
void conv_backward_data(const Conv& c, const bfloat16* g, const bfloat16* weight, bfloat16* dx) {
  for (std::int64_t a = 0; a < std::min(c.stride[0], c.in[0]); ++a) {
    for (std::int64_t b = 0; b < std::min(c.stride[1], c.in[1]); ++b) {
      run(c, backward_sweep(c, a, b), g, c.out_channels * c.out[0] * c.out[1], weight, nullptr, dx,
          c.in_channels * c.in[0] * c.in[1]);
    }
  }
}

// A part sums over some tiles, in turn; sums stand as [part][group][channel][tap][outs padded].
template <>
void conv_backward_weight(const Conv& c, const bfloat16* g, const bfloat16* x, bfloat16* dweight) {
  Sweep s = forward_sweep(c);
  const std::int64_t columns = s.depth(), weights = c.out_channels * columns;
  if (weights == 0) return;
  if (c.images == 0 || s.grid[0] == 0 || s.grid[1] == 0)
    return void(std::fill_n(dweight, weights, bfloat16()));
  const std::int64_t row_bytes = std::max<std::int64_t>(1, 2 * s.channels * s.planes * s.grid[1]);
  s.set_rows(
      even(s.grid[0], std::clamp<std::int64_t>(kPlaneBytes / row_bytes - s.span, 1, s.grid[0])),
      2 * kLanes);
  const std::int64_t tiles = s.tiles() * c.images, channel = s.planes * s.plane_size;
  const std::int64_t outs = ceil_div(s.outs, kLanes) * kLanes, size = columns * outs;
  const std::int64_t share = ceil_div(
      tiles,
      std::clamp<std::int64_t>(kPartsBudget / (c.groups * size), 1, std::min(tiles, kMaxParts)));
  const std::int64_t parts = ceil_div(tiles, share);
  Scratch<float> sums(parts * c.groups * size);

  const auto unit = [&](std::int64_t part, std::int64_t group, bfloat16* planes, Word* panels) {
    float* const to = sums.get() + (part * c.groups + group) * size;
    std::fill_n(to, size, 0.0f);
    for (std::int64_t tile = part * share; tile < std::min(tiles, (part + 1) * share); ++tile) {
      const std::int64_t n = tile / s.tiles(), row = tile % s.tiles() * s.rows;
      const std::int64_t count = std::min(s.rows, s.grid[0] - row), pixels = count * s.grid[1];
      const std::int64_t in_plane = s.size[0] * s.size[1], out_plane = s.grid[0] * s.grid[1];
      const bfloat16* image = x + (n * c.in_channels + group * s.channels) * in_plane;
      for (std::int64_t i = 0; i < s.channels; ++i)
        FillNumbers(s, {image + i * in_plane, row}, count + s.span, planes + i * channel);
      const bfloat16* from =
          g + (n * c.out_channels + group * s.outs) * out_plane + row * s.grid[1];
      for (std::int64_t o = 0; o < s.outs; o += kPanel) {
        const std::int64_t some = std::min(kPanel, s.outs - o);
        bf16::pack(from + o * out_plane, out_plane, 1, pixels, some, kPanel, panels);
        const auto& tap_tiles = kTapTiles[ceil_div(some, kLanes) - 1];
        const bfloat16* rows[kTileRows];
        for (std::int64_t k = 0; k < columns; k += kTileRows) {
          const std::int64_t height = std::min(kTileRows, columns - k);
          for (std::int64_t i = 0; i < height; ++i) {
            rows[i] = planes + (k + i) / s.taps() * channel +
                      s.offset[static_cast<std::size_t>((k + i) % s.taps())];
          }
          tap_tiles[height - 1](pixels, rows, panels, to + k * outs + o, outs);
        }
      }
    }
  };
  parallel_chunks(parts * c.groups, [&](std::int64_t k) {
    Scratch<bfloat16> planes(s.channels * channel);
    Scratch<Word> panels(ceil_div(s.rows * s.grid[1], 2) * kPanel);
    unit(k / c.groups, k % c.groups, planes.get(), panels.get());
  });
  // The parts in order, and each weight to its place.
  parallel_for(c.groups * columns, std::max<std::int64_t>(1, 16384 / (parts * outs)),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t k = begin; k < end; ++k) {
                   float* const sum = sums.get() + k * outs;
                   for (std::int64_t p = 1; p < parts; ++p) {
                     for (std::int64_t o = 0; o < s.outs; ++o)
                       sum[o] += sum[p * c.groups * size + o];
                   }
                   bfloat16* to = dweight + k / columns * s.outs * columns + k % columns;
                   for (std::int64_t o = 0; o < s.outs; ++o) to[o * columns] = bfloat16(sum[o]);
                 }
               });
}

}  // namespace lg::kernels

#else

namespace lg::kernels {
template <>
void conv_forward(const Conv&, const bfloat16*, const bfloat16*, const bfloat16*, bfloat16*) {}
template <> void conv_backward_data(const Conv&, const bfloat16*, const bfloat16*, bfloat16*) {}
template <> void conv_backward_weight(const Conv&, const bfloat16*, const bfloat16*, bfloat16*) {}
}  // namespace lg::kernels

#endif
