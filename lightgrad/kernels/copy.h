// copy.h: moving elements: any dtype to any dtype, any strides. Under every copy, cast and staged
// operand.
#pragma once

#include <cstdint>

#include "lightgrad/base/dtype.h"
#include "lightgrad/base/shape.h"

namespace lg::kernels {

// rows x n elements; strides in elements, 0 repeats the first.
struct Block {
  void* to;
  const void* from;
  std::int64_t rows, n;
  std::int64_t to_row, to_column, from_row, from_column;
};
using BlockMover = void (*)(const Block& block);
// For the best instruction set of this machine; runs on the calling thread.
BlockMover block_mover(DType to, DType from);
void move_block_reference(DType to, DType from, const Block& block);

// n elements from `from` to `to`.
void convert_run(DType to_type, void* to, std::int64_t to_stride, DType from_type, const void* from,
                 std::int64_t from_stride, std::int64_t n);

struct Copy {
  Shape shape, to_strides, from_strides;
  DType to_type, from_type;
  void* to;
  const void* from;
};
// Parallel, in tiles when the two sides run along different dimensions.
void copy(const Copy& c);

// n elements of `type` set to the one at `value` (of the same type).
void fill(DType type, void* to, std::int64_t n, const void* value);

}  // namespace lg::kernels
