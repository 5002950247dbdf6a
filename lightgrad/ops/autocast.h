// autocast.h: mixed precision: which operations run in half precision while autocast is on, which
// in float32, and the state of a thread. run<Op> asks here; users write amp/autocast.h's scope.
#pragma once

#include <span>

#include "lightgrad/autograd/node.h"
#include "lightgrad/ops/ops.h"

namespace lg {

// What autocast does to an operation's floating-point inputs (float64 is left alone).
enum class Precision : std::uint8_t {
  follow,  // nothing: it computes in what it is given, and promotes
  low,     // rounded to autocast's dtype: products, where half precision pays
  wide,    // halves widened to float32: what overflows, cancels or adds up many
};

// THE table: PyTorch's choice, and layer normalisation, whose sums want float32.
using LowOps = TypeList<ops::BatchedMatmul, ops::Linear, ops::LinearActivation, ops::Convolution,
                        ops::ConvolutionInputGrad, ops::Attention, ops::FusedMlp>;
using WideOps =
    TypeList<ops::Exp, ops::Expm1, ops::Log, ops::Log1p, ops::Pow, ops::Reciprocal, ops::Rsqrt,
             ops::Softplus, ops::Sum, ops::Mean, ops::Prod, ops::Var, ops::Std, ops::Norm,
             ops::LogSumExp, ops::CumSum, ops::SoftmaxRows, ops::LogSoftmaxRows, ops::LayerNorm,
             ops::GroupNorm, ops::CrossEntropy, ops::CrossEntropyRows, ops::NllLoss, ops::MseLoss>;

template <class Op>
inline constexpr Precision precision_of = LowOps::index<Op>() >= 0    ? Precision::low
                                          : WideOps::index<Op>() >= 0 ? Precision::wide
                                                                      : Precision::follow;

namespace autocast {

// Whether this machine multiplies matrices of bfloat16 faster than of float32.
bool has_bf16_products();

// The dtype in which an operation of this precision gets t: t's own while autocast is off.
DType arriving(Precision precision, const Tensor& t);
// Whether any input has another dtype than the operation is to get.
bool changes(Precision precision, std::span<const Tensor* const> in);
// t as the operation is to get it. A leaf that wants a gradient, a weight, is rounded once: the
// copy serves until the weight changes or the outermost scope ends.
Tensor input(Precision precision, const Tensor& t);

// Autocast to this dtype (float32: none) on this thread, between the two ends. The outermost leave
// lets the copies of weights go. enter returns what leave wants.
DType enter(DType dtype);
void leave(DType before);
struct Scope {
  explicit Scope(DType dtype) : before(enter(dtype)) {}
  ~Scope() { leave(before); }
  Scope(const Scope&) = delete;
  DType before;
};

}  // namespace autocast
}  // namespace lg
