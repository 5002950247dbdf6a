// pointwise_rows_binary.cpp: row kernels of the binary pointwise operations, compiled once per SIMD
// target.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lightgrad/ops/pointwise_rows_binary.cpp"
#include "hwy/foreach_target.h"

#include "lightgrad/ops/pointwise_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lg {
namespace HWY_NAMESPACE {
#define ROW(Op, name) rows_of<ops::Op>(),
constexpr kernels::PointwiseRows table_binary[] = {LG_POINTWISE_2(ROW)};
#undef ROW
const kernels::PointwiseRows* rows_binary() { return table_binary; }
}  // namespace HWY_NAMESPACE
}  // namespace lg
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lg {
HWY_EXPORT(rows_binary);
namespace kernels {
const PointwiseRows* binary_rows() { return HWY_DYNAMIC_DISPATCH(rows_binary)(); }
}  // namespace kernels
}  // namespace lg
#endif
