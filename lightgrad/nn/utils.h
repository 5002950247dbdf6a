// utils.h: gradient clipping.
#pragma once

#include <vector>

#include "lightgrad/tensor/tensor.h"

namespace lg::nn::utils {

// Scales the gradients of all parameters together so that their norm (of the norms) is at most
// max_norm, and returns what it was: (sum |g|^norm_type)^(1 / norm_type), or the largest |g| for an
// infinite norm_type. A norm that is not finite makes the gradients so too, or with
// error_if_nonfinite is a RuntimeError that leaves them alone.
double clip_grad_norm_(const std::vector<Tensor>& parameters, double max_norm, double norm_type = 2,
                       bool error_if_nonfinite = false);

// The norm alone.
double grad_norm(const std::vector<Tensor>& parameters, double norm_type = 2);

// Every element of every gradient into [-limit, limit].
void clip_grad_value_(const std::vector<Tensor>& parameters, double limit);

}  // namespace lg::nn::utils
