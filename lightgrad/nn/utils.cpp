// utils.cpp: norms are summed in double, in the given order: the same bits at any thread count.
#include "lightgrad/nn/utils.h"

#include <algorithm>
#include <cmath>

#include "lightgrad/autograd/node.h"
#include "lightgrad/ops/creation.h"
#include "lightgrad/ops/ops.h"
#include "lightgrad/ops/update.h"

namespace lg::nn::utils {

namespace {

// The gradient of p as memory of its own that may be written to; undefined when there is none.
Tensor writable_grad(const Tensor& p) {
  Tensor g = p.grad();
  if (!g.defined() || g.is_contiguous()) return g;
  g = g.copy();
  p.set_grad(g);
  return g;
}

// The gradients that there are.
PoolVector<const Tensor*> gradients_of(const std::vector<Tensor>& parameters) {
  PoolVector<const Tensor*> all;
  all.reserve(parameters.size());
  for (const Tensor& p : parameters)
    if (const Tensor& g = p.impl()->grad; g.defined()) all.push_back(&g);
  return all;
}

double power_sum(const Tensor& g, double norm_type) {
  const Tensor magnitude = lg::abs(lg::to(g.detach(), DType::float64));
  return lg::sum(lg::pow(magnitude, norm_type)).item();
}

// The larger one; a NaN stays.
double larger(double a, double b) { return std::isnan(a) || a > b ? a : b; }

}  // namespace

double grad_norm(const std::vector<Tensor>& parameters, double norm_type) {
  if (!(norm_type > 0))
    fail(ErrorKind::value, "clip_grad_norm_", "norm_type is ", norm_type,
         ", expected a number above 0");
  const NoGrad off;
  const auto gradients = gradients_of(parameters);
  if (norm_type == 2) return std::sqrt(sum_of_squares(gradients));
  double total = 0;
  for (const Tensor* g : gradients) {
    if (g->numel() == 0) continue;
    if (std::isinf(norm_type))
      total = larger(total, lg::amax(lg::abs(g->detach())).item());
    else
      total += power_sum(*g, norm_type);
  }
  return std::isinf(norm_type) ? total : std::pow(total, 1 / norm_type);
}

double clip_grad_norm_(const std::vector<Tensor>& parameters, double max_norm, double norm_type,
                       bool error_if_nonfinite) {
  if (!(max_norm >= 0))
    fail(ErrorKind::value, "clip_grad_norm_", "max_norm is ", max_norm,
         ", expected a number from 0 up");
  const watch::Work work("clip_grad_norm_", watch::Phase::step);
  const double norm = grad_norm(parameters, norm_type);
  if (error_if_nonfinite && !std::isfinite(norm)) {
    fail(ErrorKind::runtime, "clip_grad_norm_", "the norm of the gradients is ", norm,
         "; pass error_if_nonfinite=False to clip anyway");
  }
  const double factor = clipping_factor(norm, max_norm);
  if (factor == 1) return norm;
  for (const Tensor& p : parameters) writable_grad(p);
  scale_in_place(gradients_of(parameters), factor);
  return norm;
}

void clip_grad_value_(const std::vector<Tensor>& parameters, double limit) {
  if (!(limit >= 0))
    fail(ErrorKind::value, "clip_grad_value_", "the limit is ", limit,
         ", expected a number from 0 up");
  const NoGrad off;
  for (const Tensor& p : parameters) {
    if (const Tensor g = writable_grad(p); g.defined()) copy_(g, lg::clamp(g, -limit, limit));
  }
}

}  // namespace lg::nn::utils
