// scan.cpp: running sums, one strip of columns at a time. A long dimension is cut into segments
// that are first summed up, so that threads can share it: each then starts from the total of those
// before it.
#include "lightgrad/kernels/scan.h"

#include <algorithm>
#include <type_traits>

#include "lightgrad/base/parallel.h"
#include "lightgrad/kernels/row_chunks.h"

namespace lg::kernels {
namespace {

template <class T>
using Wide = std::conditional_t<std::is_floating_point_v<T>, double, std::uint64_t>;

constexpr std::int64_t kStrip =
    256;  // columns: their running sums stay in L1, a row of them is some cache lines
constexpr std::int64_t kSegment = 32768;  // rows of a strip times columns

// Adds up `rows` rows of `width` <= kStrip columns, `step` elements apart (negative: upwards), from
// total on. Running sums go to y or, if it is null, only the last ones to total.
template <class T>
void scan_strip(const T* x, T* y, std::int64_t rows, std::int64_t step, std::int64_t width,
                Wide<T>* total) {
  if (width == 1 && !y) {  // four chains of additions
    Wide<T> chain[4] = {*total, 0, 0, 0};
    for (std::int64_t i = 0; i + 4 <= rows; i += 4) {
      for (std::int64_t k = 0; k < 4; ++k) chain[k] += static_cast<Wide<T>>(x[(i + k) * step]);
    }
    for (std::int64_t i = rows / 4 * 4; i < rows; ++i)
      chain[0] += static_cast<Wide<T>>(x[i * step]);
    *total = (chain[0] + chain[1]) + (chain[2] + chain[3]);
    return;
  }
  if (width == 1) {
    Wide<T> sum = *total;
    for (std::int64_t i = 0; i < rows; ++i)
      y[i * step] = static_cast<T>(sum += static_cast<Wide<T>>(x[i * step]));
    return;
  }
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < width; ++j) total[j] += static_cast<Wide<T>>(x[i * step + j]);
    if (!y) continue;
    for (std::int64_t j = 0; j < width; ++j) y[i * step + j] = static_cast<T>(total[j]);
  }
}

template <class T>
void scan(const T* x, T* y, std::int64_t outer, std::int64_t n, std::int64_t inner, bool reverse) {
  if (outer == 0 || n == 0 || inner == 0) return;
  const std::int64_t width = std::min(inner, kStrip), strips = (inner + width - 1) / width;
  const std::int64_t segment = std::min(n, kSegment / width),
                     segments = (n + segment - 1) / segment;
  const Scratch<Wide<T>> totals(segments > 1 ? outer * segments * inner : 0);

  const auto each_unit = [&](auto f) {
    parallel_for(outer * segments * strips, row_grain(segment * width),
                 [&](std::int64_t first, std::int64_t last) {
                   for (std::int64_t unit = first; unit < last; ++unit) {
                     const std::int64_t column = unit % strips * width,
                                        s = unit / strips % segments, o = unit / strips / segments;
                     const std::int64_t rows = std::min(segment, n - s * segment);
                     const std::int64_t begin = reverse ? n - 1 - s * segment : s * segment;
                     f(o, s, column, (o * n + begin) * inner + column, rows,
                       std::min(width, inner - column));
                   }
                 });
  };
  const std::int64_t step = reverse ? -inner : inner;
  const auto total_of = [&](std::int64_t o, std::int64_t s) {
    return totals.get() + (o * segments + s) * inner;
  };
  if (segments > 1) {
    each_unit([&](std::int64_t o, std::int64_t s, std::int64_t column, std::int64_t at,
                  std::int64_t rows, std::int64_t columns) {
      Wide<T>* total = total_of(o, s) + column;
      std::fill_n(total, columns, Wide<T>(0));
      scan_strip<T>(x + at, nullptr, rows, step, columns, total);
    });
    for (std::int64_t o = 0; o < outer;
         ++o) {  // each segment's total becomes that of all before it
      for (std::int64_t j = 0; j < inner; ++j) {
        Wide<T> before = 0;
        for (std::int64_t s = 0; s < segments; ++s) {
          const Wide<T> own = total_of(o, s)[j];
          total_of(o, s)[j] = before;
          before += own;
        }
      }
    }
  }
  each_unit([&](std::int64_t o, std::int64_t s, std::int64_t column, std::int64_t at,
                std::int64_t rows, std::int64_t columns) {
    Wide<T> total[kStrip] = {};
    if (segments > 1) std::copy_n(total_of(o, s) + column, columns, total);
    scan_strip(x + at, y + at, rows, step, columns, total);
  });
}

}  // namespace

template <class T>
void cumsum(const T* x, T* y, std::int64_t outer, std::int64_t n, std::int64_t inner) {
  scan(x, y, outer, n, inner, false);
}
template <class T>
void cumsum_reverse(const T* x, T* y, std::int64_t outer, std::int64_t n, std::int64_t inner) {
  scan(x, y, outer, n, inner, true);
}

#define LIGHTGRAD_INSTANTIATE(T)                                                \
  template void cumsum(const T*, T*, std::int64_t, std::int64_t, std::int64_t); \
  template void cumsum_reverse(const T*, T*, std::int64_t, std::int64_t, std::int64_t);
LIGHTGRAD_INSTANTIATE(float)
LIGHTGRAD_INSTANTIATE(double)
LIGHTGRAD_INSTANTIATE(std::int64_t)
#undef LIGHTGRAD_INSTANTIATE

}  // namespace lg::kernels
