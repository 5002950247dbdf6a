#include "lightgrad/ops/normalization.h"

#include "lightgrad/ops/checkpoint.h"
#include "lightgrad/ops/creation.h"
#include "lightgrad/ops/float_kernels.h"
#include "lightgrad/ops/ops.h"
#include "lightgrad/ops/run.h"

namespace lg {
namespace {

std::int64_t plane_of(const Shape& x) {
  std::int64_t n = 1;
  for (int d = 2; d < x.rank(); ++d) n *= x[d];
  return n;
}

// [C] as it broadcasts over x [N, C, ...].
Tensor per_channel(const Tensor& t, const Tensor& x) {
  Shape shape = Shape::filled(x.rank() - 1, 1);
  shape[0] = t.numel();
  return reshape(t, shape);
}

void check_channels(const Tensor& x, const Tensor& t, const char* which, std::string_view name) {
  if (t.defined() && !(t.shape() == Shape{x.shape()[1]})) {
    fail(ErrorKind::value, name, which, " has shape ", t.shape(), ", expected [", x.shape()[1],
         "] (x ", x.shape(), ")");
  }
}

// t's dtype is x's, or this one.
void check_dtype(const Tensor& x, const Tensor& t, DType other, const char* which,
                 std::string_view name) {
  if (t.defined() && t.dtype() != x.dtype() && t.dtype() != other) {
    fail(ErrorKind::type, name, "x is ", name_of(x.dtype()), ", ", which, " is ",
         name_of(t.dtype()), ", expected one dtype; convert one with to()");
  }
}

}  // namespace

namespace ops {
namespace {

template <class T>
kernels::BatchNorm<T> kernel_arguments(const BatchNorm& op, const Tensor& x, const Tensor& weight,
                                       const Tensor& bias, const Tensor& residual,
                                       const Tensor& y) {
  return {x.shape()[0],
          x.shape()[1],
          plane_of(x.shape()),
          x.data<T>(),
          data_or_null<Wide<T>>(weight),
          data_or_null<Wide<T>>(bias),
          data_or_null<T>(residual),
          op.relu,
          op.batch_statistics,
          op.eps,
          op.mean.data<Wide<T>>(),
          op.var.data<Wide<T>>(),
          op.rstd.data<Wide<T>>(),
          y.data<T>()};
}

// running moves by `momentum` towards `factor` times the statistics of a batch.
void move_towards(Tensor& running, const Tensor& batch, double factor, double momentum) {
  if (!running.defined()) return;
  const NoGrad off;
  running.assign(running * (1 - momentum) + batch * (momentum * factor));
  running = {};  // the graph need not hold it
}

Tensor contiguous_or_none(const Tensor& t) { return t.defined() ? t.contiguous_data() : t; }

Tensor contiguous_as(DType dtype, const Tensor& t) {
  return t.defined() && t.dtype() != dtype ? Cast{{}, dtype}.forward(t) : contiguous_or_none(t);
}

}  // namespace

bool BatchNorm::takes_half(std::span<const Tensor* const> in) {
  const auto fits = [](const Tensor& t) { return t.defined() && t.dtype() == DType::bfloat16; };
  return fits(*in[0]) && (fits(*in[3]) || !in[3]->defined());
}

Tensor BatchNorm::forward(const Tensor& x, const Tensor& weight, const Tensor& bias,
                          const Tensor& residual) {
  constexpr std::string_view name = "batch_norm";
  if (x.rank() < 2)
    fail(ErrorKind::value, name, "x is ", x.describe(), ", expected [N, C] or [N, C, ...]");
  check_channels(x, weight, "weight", name);
  check_channels(x, bias, "bias", name);
  const DType wide = compute_type(x.dtype());
  check_dtype(x, weight, wide, "weight", name);
  check_dtype(x, bias, wide, "bias", name);
  check_dtype(x, residual, x.dtype(), "residual", name);
  if (residual.defined() && !(residual.shape() == x.shape())) {
    fail(ErrorKind::value, name, "residual has shape ", residual.shape(), ", expected x's ",
         x.shape());
  }
  const std::int64_t values = x.shape()[0] * plane_of(x.shape());
  if (batch_statistics && values == 1) {
    fail(ErrorKind::value, name, "x ", x.shape(),
         " has one value per channel, whose variance is not defined; train on more");
  }
  const Shape channels{x.shape()[1]};
  if (batch_statistics) {
    mean = Tensor::empty(channels, wide);
    var = Tensor::empty(channels, wide);
  }
  rstd = Tensor::empty(channels, wide);
  Tensor y = Tensor::empty(x.shape(), x.dtype());
  const Tensor c = x.contiguous_data(), w = contiguous_as(wide, weight),
               b = contiguous_as(wide, bias), r = contiguous_or_none(residual);
  with_products(x, name, [&]<class T>(const auto& k, T) {
    k.batch_norm_forward(kernel_arguments<T>(*this, c, w, b, r, y));
  });
  if (batch_statistics && values > 0) {
    move_towards(running_mean, mean, 1, momentum);
    const auto n = static_cast<double>(values);
    move_towards(running_var, var, n / (n - 1), momentum);  // the unbiased one
  }
  return y;
}

void BatchNorm::backward(const Tensor& g, const Tensor* in, const Tensor& y, Wanted wanted,
                         Gradients out) const {
  const Tensor c = g.contiguous_data(), x = in[0].contiguous_data();
  const DType wide = compute_type(x.dtype());
  const Tensor w = contiguous_as(wide, in[1]);
  for (std::size_t i : {0, 3})
    if (wanted >> i & 1) out[i] = Tensor::empty(x.shape(), x.dtype());
  for (std::size_t i : {1, 2})
    if (wanted >> i & 1) out[i] = Tensor::empty({x.shape()[1]}, wide);
  with_products(x, "batch_norm", [&]<class T>(const auto& k, T) {
    const auto target = [&]<class E>(std::size_t i, E) {
      return wanted >> i & 1 ? out[i].data<E>() : nullptr;
    };
    k.batch_norm_backward(kernel_arguments<T>(*this, x, w, {}, {}, y), c.data<T>(), target(0, T{}),
                          target(1, Wide<T>{}), target(2, Wide<T>{}), target(3, T{}));
  });
  for (std::size_t i : {1, 2})
    if (wanted >> i & 1) out[i] = contiguous_as(in[i].dtype(), out[i]);
}

Tensor BatchNorm::composite(const Tensor& x, const Tensor& weight, const Tensor& bias,
                            const Tensor& residual) const {
  Tensor centre, spread;
  if (batch_statistics) {
    Axes dims{0};
    for (int d = 2; d < x.rank(); ++d) dims.list.push_back(d);
    centre = lg::mean(x, dims, true);
    spread = lg::mean(square(x - centre), dims, true);
  } else {
    centre = per_channel(mean, x);
    spread = per_channel(var, x);
  }
  Tensor y = (x - centre) * rsqrt(spread + eps);
  if (weight.defined()) y = y * per_channel(weight, x);
  if (bias.defined()) y = y + per_channel(bias, x);
  if (residual.defined()) y = y + residual;
  return relu ? lg::relu(y) : y;
}

Tensor GroupNorm::forward(const Tensor& x, const Tensor& weight, const Tensor& bias) const {
  constexpr std::string_view name = "group_norm";
  if (x.rank() < 2)
    fail(ErrorKind::value, name, "x is ", x.describe(), ", expected [N, C] or [N, C, ...]");
  if (num_groups < 1 || x.shape()[1] % num_groups != 0) {
    fail(ErrorKind::value, name, "num_groups is ", num_groups,
         ", which does not divide x's channels (x ", x.shape(), ")");
  }
  check_channels(x, weight, "weight", name);
  check_channels(x, bias, "bias", name);
  if (x.numel() == 0) return x * 1;
  const std::int64_t rows = x.shape()[0] * num_groups, n = x.numel() / rows;
  Tensor y = layer_norm(reshape(x, {rows, n}), {n}, Tensor(), Tensor(), eps);
  y = reshape(y, x.shape());
  if (weight.defined()) y = y * per_channel(weight, x);
  return bias.defined() ? y + per_channel(bias, x) : y;
}

}  // namespace ops

Tensor batch_norm(const Tensor& x, const Tensor& running_mean, const Tensor& running_var,
                  const Tensor& weight, const Tensor& bias, const BatchNormOptions& options) {
  constexpr std::string_view name = "batch_norm";
  if (!x.defined()) detail::fail_undefined(name, "x");
  if (x.rank() < 2)
    fail(ErrorKind::value, name, "x is ", x.describe(), ", expected [N, C] or [N, C, ...]");
  if (!is_floating(x.dtype()))
    fail(ErrorKind::type, name, "x is ", x.describe(), ", expected a floating-point dtype");
  check_channels(x, running_mean, "running_mean", name);
  check_channels(x, running_var, "running_var", name);
  auto op = make_op<ops::BatchNorm>(options.eps, options.relu);
  if (!options.training) {
    if (!running_mean.defined() || !running_var.defined()) {
      fail(ErrorKind::value, name,
           "running_mean and running_var are None, but without training they are what x is "
           "normalised by");
    }
    const DType t = is_half(x.dtype()) ? DType::float32 : x.dtype();
    op.batch_statistics = false;
    op.mean = to(running_mean.detach(), t).contiguous_data();
    op.var = to(running_var.detach(), t).contiguous_data();
    return run(std::move(op), x, weight, bias, options.residual);
  }
  if (!detail::recomputing()) {
    op.running_mean = running_mean;
    op.running_var = running_var;
  }
  op.momentum = options.momentum;
  return run(std::move(op), x, weight, bias, options.residual);
}

}  // namespace lg
