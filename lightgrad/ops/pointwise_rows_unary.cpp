// pointwise_rows_unary.cpp: row kernels of the unary pointwise operations, compiled once per SIMD
// target.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lightgrad/ops/pointwise_rows_unary.cpp"
#include "hwy/foreach_target.h"

#include "lightgrad/ops/pointwise_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lg {
namespace HWY_NAMESPACE {
#define ROW(Op, name) rows_of<ops::Op>(),
constexpr kernels::PointwiseRows table_unary[] = {LG_POINTWISE_1(ROW)};
#undef ROW
const kernels::PointwiseRows* rows_unary() { return table_unary; }
}  // namespace HWY_NAMESPACE
}  // namespace lg
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lg {
HWY_EXPORT(rows_unary);
namespace kernels {
const PointwiseRows* unary_rows() { return HWY_DYNAMIC_DISPATCH(rows_unary)(); }
}  // namespace kernels
}  // namespace lg
#endif
