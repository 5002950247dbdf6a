// loop.h: the walk over strided operands that pointwise kernels and copies share. Dimensions are
// ordered and merged so that the inner run is as long as it can be; the last two are cut into
// blocks by shape alone.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <utility>

#include "lightgrad/base/parallel.h"
#include "lightgrad/base/shape.h"

namespace lg::kernels {

inline constexpr int max_operands = 6;

struct StridedLoop {
  int operands = 0;
  Shape size;  // outermost first; the last two are rows and the inner run, and always there
  Shape stride[max_operands];  // in elements, per operand

  std::int64_t inner() const { return size.back(); }
  std::int64_t inner_stride(int operand) const { return stride[operand].back(); }
  std::int64_t rows() const { return size[size.rank() - 2]; }
  std::int64_t row_stride(int operand) const { return stride[operand][size.rank() - 2]; }
};

// Operand 0 is written, so its order of dimensions decides; sizes of 1 vanish; neighbours merge.
inline StridedLoop make_loop(const Shape& shape, std::span<const Shape> strides) {
  StridedLoop loop;
  loop.operands = static_cast<int>(strides.size());
  int order[max_rank], rank = 0;
  for (int i = 0; i < shape.rank(); ++i) {  // insertion: at most 8, mostly in order already
    if (shape[i] == 1) continue;
    int at = rank++;
    for (; at > 0 && std::abs(strides[0][order[at - 1]]) < std::abs(strides[0][i]); --at)
      order[at] = order[at - 1];
    order[at] = i;
  }
  for (int k = 0; k < rank; ++k) {
    const int d = order[k];
    bool merge = loop.size.rank() > 0;
    for (int o = 0; merge && o < loop.operands; ++o) {
      merge = loop.stride[o].back() == strides[o][d] * shape[d];
    }
    if (merge) {
      loop.size.back() *= shape[d];
      for (int o = 0; o < loop.operands; ++o) loop.stride[o].back() = strides[o][d];
    } else {
      loop.size.push_back(shape[d]);
      for (int o = 0; o < loop.operands; ++o) loop.stride[o].push_back(strides[o][d]);
    }
  }
  for (int missing = 2 - loop.size.rank(); missing > 0;
       --missing) {  // a block needs two dimensions
    loop.size.insert(0, 1);
    for (int o = 0; o < loop.operands; ++o) loop.stride[o].insert(0, 1);
  }
  return loop;
}

// An operand whose inner run is not contiguous, but which is so along another dimension: that
// dimension becomes the rows, so that a block reads whole cache lines of it. Whether there is one.
inline bool pair_across(StridedLoop& loop) {
  const int rank = loop.size.rank();
  for (int o = 0; o < loop.operands; ++o) {
    if (std::abs(loop.inner_stride(o)) <= 1) continue;
    for (int d = 0; d < rank - 1; ++d) {
      if (std::abs(loop.stride[o][d]) != 1 || loop.size[d] == 1) continue;
      std::swap(loop.size[d], loop.size[rank - 2]);
      for (int k = 0; k < loop.operands; ++k)
        std::swap(loop.stride[k][d], loop.stride[k][rank - 2]);
      return true;
    }
  }
  return false;
}

// Calls run(offsets, rows, n) for blocks of at most `most_rows` by `most_columns` of the last two
// dimensions; offsets[o] is in elements. About `chunk` elements are one parallel piece.
template <class F>
void for_each_block(const StridedLoop& loop, std::int64_t most_rows, std::int64_t most_columns,
                    std::int64_t chunk, F&& run) {
  const int rank = loop.size.rank();
  Shape grid = loop.size, step[max_operands];  // of blocks
  std::int64_t blocks = 1;
  for (int o = 0; o < loop.operands; ++o) step[o] = loop.stride[o];
  const std::int64_t most[2] = {most_rows, most_columns};
  for (int d = rank - 2; d < rank; ++d) {
    const std::int64_t size = most[d - rank + 2];
    grid[d] = (grid[d] + size - 1) / size;
    for (int o = 0; o < loop.operands; ++o) step[o][d] *= size;
  }
  for (int d = 0; d < rank; ++d) blocks *= grid[d];
  const std::int64_t rows = loop.rows(), columns = loop.inner();
  const std::int64_t area = std::min(rows, most_rows) * std::min(columns, most_columns);
  if (blocks == 0) return;
  parallel_for(blocks, std::max<std::int64_t>(1, chunk / area),
               [&](std::int64_t begin, std::int64_t end) {
                 std::int64_t index[max_rank], offset[max_operands] = {};
                 std::int64_t rest = begin;
                 for (int d = rank; d-- > 0; rest /= grid[d]) {
                   index[d] = rest % grid[d];
                   for (int o = 0; o < loop.operands; ++o) offset[o] += index[d] * step[o][d];
                 }
                 for (std::int64_t block = begin; block < end; ++block) {
                   run(offset, std::min(most_rows, rows - index[rank - 2] * most_rows),
                       std::min(most_columns, columns - index[rank - 1] * most_columns));
                   for (int d = rank; d-- > 0;) {
                     for (int o = 0; o < loop.operands; ++o) offset[o] += step[o][d];
                     if (++index[d] < grid[d]) break;
                     for (int o = 0; o < loop.operands; ++o) offset[o] -= step[o][d] * grid[d];
                     index[d] = 0;
                   }
                 }
               });
}

}  // namespace lg::kernels
