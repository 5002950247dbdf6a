// loop.h: the walk over strided operands that pointwise kernels and copies share. Dimensions are
// ordered and merged so that the inner run is as long as it can be, then cut into units by shape
// alone.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "lightgrad/base/parallel.h"
#include "lightgrad/base/shape.h"

namespace lg::kernels {

inline constexpr int max_operands = 6;

struct StridedLoop {
  int operands = 0;
  Shape size;                  // outermost first; the last one is the inner run
  Shape stride[max_operands];  // in elements, per operand

  std::int64_t inner() const { return size.back(); }
  std::int64_t inner_stride(int operand) const { return stride[operand].back(); }
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
  if (loop.size.rank() == 0) {
    loop.size.push_back(1);
    for (int o = 0; o < loop.operands; ++o) loop.stride[o].push_back(1);
  }
  return loop;
}

// Calls run(offsets, n) for inner runs of at most `segment` elements; offsets[o] is in elements.
// Segments are the outer order, so that an operand whose inner stride is long uses each cache line
// it touched again in the next row while it is still near. `chunk` elements are one parallel piece.
template <class F>
void for_each_run(const StridedLoop& loop, std::int64_t segment, std::int64_t chunk, F&& run) {
  const int outer_rank = loop.size.rank() - 1;
  const std::int64_t inner = loop.inner();
  std::int64_t rows = 1;
  for (int d = 0; d < outer_rank; ++d) rows *= loop.size[d];
  if (rows == 0 || inner == 0) return;
  segment = std::min(segment, inner);
  const std::int64_t segments = (inner + segment - 1) / segment;
  const std::int64_t rows_per_chunk = std::clamp<std::int64_t>(chunk / segment, 1, rows);
  const std::int64_t row_chunks = (rows + rows_per_chunk - 1) / rows_per_chunk;
  parallel_chunks(segments * row_chunks, [&](std::int64_t c) {
    const std::int64_t first = c / row_chunks * segment, n = std::min(segment, inner - first);
    const std::int64_t begin = c % row_chunks * rows_per_chunk,
                       end = std::min(rows, begin + rows_per_chunk);
    std::int64_t index[max_rank], offset[max_operands];
    for (int o = 0; o < loop.operands; ++o) offset[o] = first * loop.inner_stride(o);
    std::int64_t rest = begin;
    for (int d = outer_rank; d-- > 0; rest /= loop.size[d]) {
      index[d] = rest % loop.size[d];
      for (int o = 0; o < loop.operands; ++o) offset[o] += index[d] * loop.stride[o][d];
    }
    for (std::int64_t row = begin; row < end; ++row) {
      run(offset, n);
      for (int d = outer_rank; d-- > 0;) {
        for (int o = 0; o < loop.operands; ++o) offset[o] += loop.stride[o][d];
        if (++index[d] < loop.size[d]) break;
        for (int o = 0; o < loop.operands; ++o) offset[o] -= loop.stride[o][d] * loop.size[d];
        index[d] = 0;
      }
    }
  });
}

}  // namespace lg::kernels
