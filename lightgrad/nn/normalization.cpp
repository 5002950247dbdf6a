#include "lightgrad/nn/normalization.h"

#include "lightgrad/autograd/node.h"
#include "lightgrad/nn/init.h"
#include "lightgrad/ops/checkpoint.h"
#include "lightgrad/ops/ops.h"

namespace lg::nn {

namespace {
Tensor channels(std::int64_t n, bool wanted, OptionalDType dtype, std::string_view layer) {
  if (n < 0) fail(ErrorKind::value, layer, "the number of channels is ", n, ", expected 0 or more");
  return wanted ? empty({n}, dtype) : Tensor();
}
}  // namespace

BatchNormBase::BatchNormBase(std::int64_t n, const BatchNormOptions& o)
    : num_features(n),
      eps(o.eps),
      momentum(o.momentum),
      weight(this, "weight", channels(n, o.affine, o.dtype, "BatchNorm")),
      bias(this, "bias", channels(n, o.affine, o.dtype, "BatchNorm")),
      running_mean(this, "running_mean", channels(n, o.track_running_stats, o.dtype, "BatchNorm")),
      running_var(this, "running_var", channels(n, o.track_running_stats, o.dtype, "BatchNorm")),
      num_batches_tracked(this, "num_batches_tracked",
                          o.track_running_stats ? zeros({}, DType::int64) : Tensor()) {
  reset_parameters();
}

void BatchNormBase::reset_running_stats() const {
  if (running_mean.defined()) running_mean.assign(0);
  if (running_var.defined()) running_var.assign(1);
  if (num_batches_tracked.defined()) num_batches_tracked.assign(0);
}

void BatchNormBase::reset_parameters() {
  reset_running_stats();
  if (weight.defined()) init::ones_(weight);
  if (bias.defined()) init::zeros_(bias);
}

Tensor BatchNormBase::normalized(const Tensor& x, const Tensor& residual, bool relu) const {
  check(x);
  const bool tracks = training && running_mean.defined() && !lg::detail::recomputing();
  double factor = momentum.value_or(0);
  if (tracks && num_batches_tracked.defined()) {
    num_batches_tracked.assign(num_batches_tracked + 1);
    if (!momentum) factor = 1 / static_cast<double>(num_batches_tracked.item<std::int64_t>());
  }
  return lg::batch_norm(x, running_mean, running_var, weight, bias,
                        {.training = training || !running_mean.defined(),
                         .momentum = factor,
                         .eps = eps,
                         .relu = relu,
                         .residual = residual});
}

Tensor BatchNormBase::relu(const Tensor& x, const Tensor& residual) const {
  const Scope scope(*this);
  return normalized(x, residual, true);
}

std::string BatchNormBase::extra_repr() const {
  return text(num_features, ", eps=", eps, ", momentum=", momentum ? text(*momentum) : "None",
              ", affine=", weight.defined() ? "True" : "False",
              ", track_running_stats=", running_mean.defined() ? "True" : "False");
}

void BatchNorm1d::check(const Tensor& x) const {
  if (x.rank() != 2 && x.rank() != 3) {
    fail(ErrorKind::value, "BatchNorm1d", "x is ", x.describe(), ", expected [N, C] or [N, C, W]");
  }
}

void BatchNorm2d::check(const Tensor& x) const {
  if (x.rank() != 4)
    fail(ErrorKind::value, "BatchNorm2d", "x is ", x.describe(), ", expected [N, C, H, W]");
}

GroupNorm::GroupNorm(std::int64_t groups, std::int64_t n, double eps_, bool affine,
                     OptionalDType dtype)
    : num_groups(groups),
      num_channels(n),
      eps(eps_),
      weight(this, "weight", channels(n, affine, dtype, "GroupNorm")),
      bias(this, "bias", channels(n, affine, dtype, "GroupNorm")) {
  if (groups < 1 || n % groups != 0) {
    fail(ErrorKind::value, "GroupNorm", "num_channels ", n, " is not divisible by num_groups ",
         groups);
  }
  reset_parameters();
}

void GroupNorm::reset_parameters() {
  if (weight.defined()) init::ones_(weight);
  if (bias.defined()) init::zeros_(bias);
}

Tensor GroupNorm::forward(const Tensor& x) const {
  return lg::group_norm(x, num_groups, weight, bias, eps);
}

std::string GroupNorm::extra_repr() const {
  return text(num_groups, ", ", num_channels, ", eps=", eps,
              ", affine=", weight.defined() ? "True" : "False");
}

}  // namespace lg::nn
