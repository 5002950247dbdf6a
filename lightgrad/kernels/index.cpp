// index.cpp: indexed moves and sums walk lines: all coordinates but dim and the innermost are fixed
// on a line, and no two lines meet in dst, so that lines, or columns of a line, can go to different
// threads.
#include "lightgrad/kernels/index.h"

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <utility>

#include "lightgrad/base/parallel.h"
#include "lightgrad/kernels/divide.h"
#include "lightgrad/kernels/row_chunks.h"

namespace lg::kernels {
namespace {

// f gets a value of the unsigned type of item_size bytes.
template <class F> void visit_size(std::size_t item_size, F f) {
  switch (item_size) {
    case 1: return f(std::uint8_t{});
    case 2: return f(std::uint16_t{});
    case 4: return f(std::uint32_t{});
    default: return f(std::uint64_t{});
  }
}

template <class T> void add(T& to, T v) {
  if constexpr (std::is_integral_v<T>) {
    to = static_cast<T>(static_cast<std::uint64_t>(to) + static_cast<std::uint64_t>(v));
  } else {
    to += v;
  }
}

// The index tensor, as the walk sees it: lines of n positions along dim, each with `width` columns
// along the last dimension (1 if that is dim). Operands: 0 the index, 1 the tensor that it points
// into, 2 the other one.
struct Lines {
  std::int64_t lines = 1, n = 1, width = 1;
  std::int64_t along[3] = {},
               across[3] = {};  // strides of the two; along[1] is that of one index step
  Shape size, stride[3];        // of the dimensions in between and before, which number the lines

  Lines(const Shape& shape, int dim, const Shape& indexed, const Shape& other) {
    const Shape index = contiguous_strides(shape);
    const Shape* operand[3] = {&index, &indexed, &other};
    for (int d = 0; d < shape.rank(); ++d) {
      if (d == dim) {
        n = shape[d];
        for (int o = 0; o < 3; ++o) along[o] = (*operand[o])[d];
      } else if (d == shape.rank() - 1) {
        width = shape[d];
        for (int o = 0; o < 3; ++o) across[o] = (*operand[o])[d];
      } else {
        lines *= shape[d];
        size.push_back(shape[d]);
        for (int o = 0; o < 3; ++o) stride[o].push_back((*operand[o])[d]);
      }
    }
  }
  bool empty() const { return lines == 0 || n == 0 || width == 0; }
};

// Where the operands of line `line` begin; next() moves on by one.
class LineCursor {
 public:
  LineCursor(const Lines& all, std::int64_t line) : all_(all), position_(all.size) {
    for (int d = all.size.rank(); d-- > 0; line /= all.size[d]) {
      position_[d] = line % all.size[d];
      for (int o = 0; o < 3; ++o) offset[o] += position_[d] * all.stride[o][d];
    }
  }
  void next() {
    for (int d = all_.size.rank(); d-- > 0;) {
      const bool carry = ++position_[d] == all_.size[d];
      if (carry) position_[d] = 0;
      for (int o = 0; o < 3; ++o) offset[o] += all_.stride[o][d] * (carry ? 1 - all_.size[d] : 1);
      if (!carry) return;
    }
  }
  std::int64_t offset[3] = {};

 private:
  const Lines& all_;
  Shape position_;
};

// visit(offset in indexed, offset in other) for positions [n_begin, n_end) of a line and some of
// its columns.
template <class Visit>
void walk_line(const Lines& all, const std::int64_t* offset, const std::int64_t* index,
               std::int64_t n_begin, std::int64_t n_end, std::int64_t column, std::int64_t columns,
               Visit visit) {
  for (std::int64_t i = n_begin; i < n_end; ++i) {
    const std::int64_t* at =
        index + offset[0] + i * all.along[0] + column;  // the index is contiguous
    const std::int64_t indexed = offset[1] + column * all.across[1];
    const std::int64_t other = offset[2] + i * all.along[2] + column * all.across[2];
    for (std::int64_t j = 0; j < columns; ++j) {
      visit(indexed + at[j] * all.along[1] + j * all.across[1], other + j * all.across[2]);
    }
  }
}

// Every line in pieces of positions (for reads) or of columns (for writes, whose order along dim
// must stay).
template <class Visit>
void walk(const Lines& all, const std::int64_t* index, bool cut_columns, Visit visit) {
  if (all.empty()) return;
  constexpr std::int64_t kPiece = 16384;
  const std::int64_t step_n =
      cut_columns ? all.n : std::clamp<std::int64_t>(kPiece / all.width, 1, all.n);
  // At least a cache line of columns to each thread: they write side by side.
  const std::int64_t step_width =
      cut_columns ? std::min(all.width, std::max<std::int64_t>(64, kPiece / all.n)) : all.width;
  const std::int64_t pieces_n = ceil_div(all.n, step_n),
                     pieces_width = ceil_div(all.width, step_width);
  const std::int64_t pieces = pieces_n * pieces_width;
  parallel_for(all.lines * pieces, row_grain(step_n * step_width),
               [&](std::int64_t first, std::int64_t last) {
                 LineCursor cursor(all, first / pieces);
                 for (std::int64_t unit = first; unit < last; ++unit) {
                   const std::int64_t piece = unit % pieces;
                   const std::int64_t begin = piece / pieces_width * step_n,
                                      column = piece % pieces_width * step_width;
                   walk_line(all, cursor.offset, index, begin, std::min(begin + step_n, all.n),
                             column, std::min(step_width, all.width - column), visit);
                   if (piece == pieces - 1) cursor.next();
                 }
               });
}

constexpr std::int64_t kFlags = 65536;  // bools of one chunk

std::int64_t count_true(const bool* x, std::int64_t n) {
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < n; ++i) count += x[i];
  return count;
}

}  // namespace

std::int64_t check_indices(const std::int64_t* index, std::int64_t count, std::int64_t size) {
  const auto first_bad = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      if (index[i] < -size || index[i] >= size) return i;
    }
    return std::int64_t{-1};
  };
  constexpr std::int64_t kChunk = 65536;
  if (count <= kChunk) return first_bad(0, count);
  const std::int64_t chunks = ceil_div(count, kChunk);
  const Scratch<std::int64_t> bad(chunks);
  parallel_chunks(chunks, [&](std::int64_t c) {
    bad[c] = first_bad(c * kChunk, std::min(count, (c + 1) * kChunk));
  });
  for (std::int64_t c = 0; c < chunks; ++c) {
    if (bad[c] >= 0) return bad[c];
  }
  return -1;
}

void wrap_negative(const std::int64_t* index, std::int64_t count, std::int64_t size,
                   std::int64_t* out) {
  parallel_for(count, 65536, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) out[i] = index[i] + (index[i] < 0 ? size : 0);
  });
}

void gather(const Gather& g, std::size_t item_size, const void* x, const std::int64_t* index,
            void* out) {
  visit_size(item_size, [&](auto unit) {
    using U = decltype(unit);
    const U* from = static_cast<const U*>(x);
    U* to = static_cast<U*>(out);
    walk(Lines(g.shape, g.dim, g.x_strides, contiguous_strides(g.shape)), index, false,
         [=](std::int64_t indexed, std::int64_t other) { to[other] = from[indexed]; });
  });
}

void scatter(const Scatter& s, std::size_t item_size, void* dst, const std::int64_t* index,
             const void* src) {
  visit_size(item_size, [&](auto unit) {
    using U = decltype(unit);
    const U* from = static_cast<const U*>(src);
    U* to = static_cast<U*>(dst);
    walk(Lines(s.shape, s.dim, s.dst_strides, s.src_strides), index, true,
         [=](std::int64_t indexed, std::int64_t other) { to[indexed] = from[other]; });
  });
}

template <class T>
void scatter_add(const Scatter& s, T* dst, const std::int64_t* index, const T* src) {
  walk(Lines(s.shape, s.dim, s.dst_strides, s.src_strides), index, true,
       [=](std::int64_t indexed, std::int64_t other) { add(dst[indexed], src[other]); });
}

void index_select(std::size_t item_size, const void* x, const std::int64_t* index, void* out,
                  std::int64_t outer, std::int64_t n, std::int64_t m, std::int64_t inner) {
  if (inner == 1) {
    visit_size(item_size, [&](auto unit) {
      using U = decltype(unit);
      parallel_for(outer * m, 16384, [&](std::int64_t begin, std::int64_t end) {
        std::int64_t o = begin / m, i = begin % m;
        for (std::int64_t to = begin; to < end; ++to) {
          static_cast<U*>(out)[to] = static_cast<const U*>(x)[o * n + index[i]];
          if (++i == m) i = 0, ++o;
        }
      });
    });
    return;
  }
  const std::int64_t row = inner * static_cast<std::int64_t>(item_size);
  const std::int64_t piece = std::min<std::int64_t>(row, 65536),
                     pieces = row == 0 ? 0 : ceil_div(row, piece);
  parallel_for(
      outer * m * pieces, row_grain(piece / 4), [&](std::int64_t first, std::int64_t last) {
        for (std::int64_t unit = first; unit < last; ++unit) {
          const std::int64_t to = unit / pieces, begin = unit % pieces * piece;
          std::memcpy(static_cast<char*>(out) + to * row + begin,
                      static_cast<const char*>(x) + (to / m * n + index[to % m]) * row + begin,
                      static_cast<std::size_t>(std::min(piece, row - begin)));
        }
      });
}

template <class T>
void index_add(T* dst, const std::int64_t* index, const T* src, std::int64_t outer, std::int64_t n,
               std::int64_t m, std::int64_t inner) {
  if (outer == 0 || m == 0 || inner == 0) return;
  // Columns are cut, never the order of the indices.
  const std::int64_t width = std::min(inner, std::max<std::int64_t>(64, 16384 / m)),
                     strips = ceil_div(inner, width);
  parallel_for(outer * strips, row_grain(m * width), [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t unit = first; unit < last; ++unit) {
      const std::int64_t o = unit / strips, column = unit % strips * width,
                         columns = std::min(width, inner - column);
      for (std::int64_t i = 0; i < m; ++i) {
        T* to = dst + (o * n + index[i]) * inner + column;
        const T* from = src + (o * m + i) * inner + column;
        for (std::int64_t j = 0; j < columns; ++j) add(to[j], from[j]);
      }
    }
  });
}

std::int64_t count_nonzero(const bool* x, std::int64_t count) {
  if (count <= kFlags) return count_true(x, count);
  const std::int64_t chunks = ceil_div(count, kFlags);
  const Scratch<std::int64_t> counts(chunks);
  parallel_chunks(chunks, [&](std::int64_t c) {
    counts[c] = count_true(x + c * kFlags, std::min(kFlags, count - c * kFlags));
  });
  std::int64_t total = 0;
  for (std::int64_t c = 0; c < chunks; ++c) total += counts[c];
  return total;
}

void nonzero(const bool* x, const Shape& shape, std::int64_t* out) {
  const std::int64_t count = shape.numel(), rank = shape.rank();
  if (count == 0 || rank == 0) return;
  const std::int64_t chunks = ceil_div(count, kFlags);
  const Scratch<std::int64_t> start(chunks);  // how many are true before each chunk
  parallel_chunks(chunks, [&](std::int64_t c) {
    start[c] = count_true(x + c * kFlags, std::min(kFlags, count - c * kFlags));
  });
  std::int64_t before = 0;
  for (std::int64_t c = 0; c < chunks; ++c) before += std::exchange(start[c], before);
  parallel_chunks(chunks, [&](std::int64_t c) {
    const std::int64_t end = std::min(count, (c + 1) * kFlags);
    std::int64_t* to = out + start[c] * rank;
    for (std::int64_t i = c * kFlags; i < end; ++i) {
      if (!x[i]) continue;
      for (std::int64_t d = rank, rest = i; d-- > 0;) {
        const std::int64_t size = shape[static_cast<int>(d)];
        to[d] = d == 0 ? rest : rest % size;
        rest /= size;
      }
      to += rank;
    }
  });
}

#define LIGHTGRAD_INSTANTIATE(T)                                                         \
  template void scatter_add(const Scatter&, T*, const std::int64_t*, const T*);          \
  template void index_add(T*, const std::int64_t*, const T*, std::int64_t, std::int64_t, \
                          std::int64_t, std::int64_t);
LIGHTGRAD_INSTANTIATE(float)
LIGHTGRAD_INSTANTIATE(double)
LIGHTGRAD_INSTANTIATE(std::int64_t)
#undef LIGHTGRAD_INSTANTIATE

}  // namespace lg::kernels
