// pointwise.h: how an element-by-element kernel is called. A row kernel sees rows of contiguous
// elements of one compute type (float, double or int64), or single values to repeat along them, and
// nothing else; the driver here brings everything to that form: strided operands and other dtypes
// pass through small tiles on the stack.
#pragma once

#include <array>
#include <cstdint>

#include "lightgrad/base/dtype.h"
#include "lightgrad/kernels/loop.h"

namespace lg::kernels {

// out[r, i] = f(in[0][r, i], in[1][r, i], ...) for r < rows, i < n.
struct RowBlock {
  void* out;
  const void* in[max_operands - 1];  // null: not read
  unsigned scalars;                  // bit o: in[o] has one value for a whole row
  std::int64_t rows, n;
  std::int64_t out_row, in_row[max_operands - 1];  // from row to row, in elements
  const double* attributes;
};
using Row = void (*)(const RowBlock& block);

// What one operation brings: its forward, and the gradient formula of each input as one pass over
// (g, inputs..., output). Compute types: 0 float, 1 double, 2 int64.
struct PointwiseRows {
  std::array<Row, 3> forward;
  std::array<std::array<Row, 2>, 3> vjp;
};

struct Operand {
  void* data;
  DType dtype;
  Shape strides;  // in the loop's shape; 0 along broadcast dimensions
};

struct Pointwise {
  Shape shape;
  int inputs;
  DType compute;  // float32, float64 or int64
  Row row;
  const double* attributes;           // the operation's data members, as numbers
  Operand out, in[max_operands - 1];  // an input without data is not read
};
void pointwise(const Pointwise& p);
// The same when every operand is contiguous, of size n and of the compute type already, or one
// value of it (scalars).
void pointwise_plain(Row row, void* out, const void* const* in, int inputs, unsigned scalars,
                     std::int64_t n, std::size_t item_size, const double* attributes);

// Every pointwise operation's rows, for the best instruction set of this machine, in the order of
// the operation table. Defined where the operation blocks are read
// (lightgrad/ops/pointwise_rows.cpp): kernels do not know them.
const PointwiseRows& pointwise_rows(int operation);

}  // namespace lg::kernels
