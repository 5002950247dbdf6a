// optimizer.h: optimizer steps in one pass over each parameter: every value is read and written
// once. Formulas and their order are PyTorch's. Plus what clipping needs: a sum of squares, and
// scaling in place.
#pragma once

#include <bit>
#include <cstdint>
#include <span>

#include "lightgrad/base/half.h"
#include "lightgrad/base/random.h"

namespace lg::kernels {

// g is first multiplied by grad_scale (clipping, or undoing a loss scale); maximize turns its sign.
//   g += weight_decay p;  buf = first_step ? g : momentum buf + (1 - dampening) g;  g = nesterov ?
//   g + momentum buf : buf p -= lr g
struct SgdOptions {
  double lr = 1e-3, momentum = 0, dampening = 0, weight_decay = 0;
  bool nesterov = false, maximize = false;
  bool first_step = false;  // momentum_buffer holds nothing yet
  double grad_scale = 1;
};

//   decoupled (AdamW): p -= lr weight_decay p;  otherwise g += weight_decay p
//   m += (1 - beta1)(g - m);  v = beta2 v + (1 - beta2) g g;  vmax = max(vmax, v) with amsgrad,
//   whose root is then taken p -= lr / bias_correction1 m / (sqrt(v) / sqrt(bias_correction2) +
//   eps)
struct AdamOptions {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  bool decoupled = false, amsgrad = false, maximize = false;
  double bias_correction1 = 1, bias_correction2 = 1;  // 1 - beta^step
  double grad_scale = 1;
};

// One parameter of n elements and its state. momentum_buffer is not touched when momentum is 0, nor
// vmax without amsgrad: they may be null then. A state of fewer bits, S, is rounded up or down by
// chance, so that its mean is the number that was rounded: to the nearest, changes of less than
// half a unit would be lost every time. Element i takes its chance from random_word(rounding, first
// + i), whose low half is for momentum_buffer and m, the high half for v and vmax.
template <class T, class S = T> struct SgdTensor {
  T* p;
  const T* g;
  S* momentum_buffer;
  std::int64_t n;
  Stream rounding = {};
  std::int64_t first = 0;
};
template <class T, class S = T> struct AdamTensor {
  T* p;
  const T* g;
  S *m, *v, *vmax;
  std::int64_t n;
  Stream rounding = {};
  std::int64_t first = 0;
};

// v as one of the two bfloat16 around it: the one farther from 0 for as many of the 2^16 values of
// `chance` as v lies 2^-16 parts of the way towards it.
inline bfloat16 round_by_chance(float v, std::uint16_t chance) {
  bfloat16 r(v);
  if (v == v) r.bits = static_cast<std::uint16_t>((std::bit_cast<std::uint32_t>(v) + chance) >> 16);
  return r;
}

// All tensors in one parallel region, cut into chunks of fixed size.
template <class T> void sgd_steps(const SgdOptions& options, std::span<const SgdTensor<T>> tensors);
template <class T>
void adam_steps(const AdamOptions& options, std::span<const AdamTensor<T>> tensors);
void sgd_steps_bfloat16(const SgdOptions& options,
                        std::span<const SgdTensor<float, bfloat16>> tensors);
void adam_steps_bfloat16(const AdamOptions& options,
                         std::span<const AdamTensor<float, bfloat16>> tensors);

template <class T>
void sgd_step(const SgdOptions& options, T* p, const T* g, T* momentum_buffer, std::int64_t n) {
  const SgdTensor<T> tensor{p, g, momentum_buffer, n};
  sgd_steps<T>(options, {&tensor, 1});
}
template <class T>
void adam_step(const AdamOptions& options, T* p, const T* g, T* m, T* v, T* vmax, std::int64_t n) {
  const AdamTensor<T> tensor{p, g, m, v, vmax, n};
  adam_steps<T>(options, {&tensor, 1});
}

// Over all elements of all tensors; accumulated in double, chunk by chunk in rising order.
template <class T> double sum_of_squares(std::span<const std::span<const T>> tensors);
// x *= factor; whether every product is finite, learnt on the way.
template <class T> bool scale_inplace(std::span<const std::span<T>> tensors, T factor);

// The same by plain loops.
template <class T, class S>
void sgd_step_reference(const SgdOptions& options, T* p, const T* g, S* momentum_buffer,
                        std::int64_t n, Stream rounding = {});
template <class T, class S>
void adam_step_reference(const AdamOptions& options, T* p, const T* g, S* m, S* v, S* vmax,
                         std::int64_t n, Stream rounding = {});

}  // namespace lg::kernels
