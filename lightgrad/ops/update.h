// update.h: what optimizers and gradient clipping do to parameters: whole lists of tensors in one
// pass over memory, outside of any graph, under the version counter.
#pragma once

#include <array>
#include <span>

#include "lightgrad/backend/backend.h"
#include "lightgrad/tensor/tensor.h"

namespace lg {

// The dtype that a parameter is updated in, and its state is kept in: float64 for float64, else
// float32.
inline DType update_dtype(DType t) { return t == DType::float64 ? t : DType::float32; }

// A parameter, its gradient (same shape and dtype) and its state (same shape, contiguous,
// update_dtype, or bfloat16 for float32): SGD has a momentum buffer; Adam the first and second
// moments and, with amsgrad, the largest second moment so far. Pointers, because an optimizer makes
// this list at every step.
struct Update {
  std::int64_t step;  // counts from 1
  // Of the parameter: with the step it decides how a bfloat16 state is rounded.
  std::int64_t number;
  const Tensor *parameter, *gradient;
  const std::array<Tensor, 3>* state;
};
void sgd_update(const kernels::SgdOptions& options, std::span<const Update> updates);
void adam_update(const kernels::AdamOptions& options, std::span<const Update> updates);

// The sum of x^2 over all tensors, accumulated in double in a fixed order.
double sum_of_squares(std::span<const Tensor* const> tensors);
// What gradients are multiplied by so that their norm is at most max_norm: PyTorch's formula.
inline double clipping_factor(double norm, double max_norm) {
  const double factor = max_norm / (norm + 1e-6);
  return factor >= 1 ? 1 : factor;  // a NaN stays
}
// x *= factor for each; whether all of them are finite then.
bool scale_in_place(std::span<const Tensor* const> tensors, double factor);

}  // namespace lg
