// pointwise_rows_ternary.cpp: row kernels of the ternary pointwise operations, compiled once per
// SIMD target.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lightgrad/ops/pointwise_rows_ternary.cpp"
#include "hwy/foreach_target.h"

#include "lightgrad/ops/pointwise_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lg {
namespace HWY_NAMESPACE {
#define ROW(Op, name) rows_of<ops::Op>(),
constexpr kernels::PointwiseRows table_ternary[] = {LG_POINTWISE_3(ROW)};
#undef ROW
const kernels::PointwiseRows* rows_ternary() { return table_ternary; }
}  // namespace HWY_NAMESPACE
}  // namespace lg
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lg {
HWY_EXPORT(rows_ternary);
namespace kernels {
const PointwiseRows* ternary_rows() { return HWY_DYNAMIC_DISPATCH(rows_ternary)(); }
}  // namespace kernels
}  // namespace lg
#endif
