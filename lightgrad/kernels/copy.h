// copy.h: moving elements: any dtype to any dtype, any strides. Under every copy, cast and staged
// operand.
#pragma once

#include <cstdint>

#include "lightgrad/base/dtype.h"
#include "lightgrad/base/shape.h"

namespace lg::kernels {

// n elements from `from` to `to`; strides in elements, 0 repeats the first.
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
