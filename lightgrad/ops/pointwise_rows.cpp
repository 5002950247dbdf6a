// pointwise_rows.cpp: finds the row kernels of an operation among the units that compile them.
#include "lightgrad/kernels/pointwise.h"
#include "lightgrad/ops/table.h"

namespace lg::kernels {

const PointwiseRows* unary_rows();
const PointwiseRows* binary_rows();
const PointwiseRows* ternary_rows();

const PointwiseRows& pointwise_rows(int operation) {
#define ROW(Op, name) +1
  constexpr int unary = 0 LG_POINTWISE_1(ROW), binary = 0 LG_POINTWISE_2(ROW);
#undef ROW
  if (operation < unary) return unary_rows()[operation];
  if (operation < unary + binary) return binary_rows()[operation - unary];
  return ternary_rows()[operation - unary - binary];
}

}  // namespace lg::kernels
