// normalization.h: normalisation of channels, over the batch and in groups.
#pragma once

#include "lightgrad/ops/neural.h"

namespace lg::ops {

// x [N, C, ...]; weight, bias [C]; residual as x. With statistics of the batch, or those given.
struct BatchNorm : Heavy<4> {
  double eps = 1e-5;
  bool relu = false;
  // None given: those of the batch; forward sets them, for backward.
  Tensor mean, var, rstd;
  bool batch_statistics = true;
  // Moved by `momentum` towards the batch's statistics in forward, where given.
  Tensor running_mean, running_var;
  double momentum = 0.1;
  static constexpr OpInfo info{
      .name = "batch_norm_rows",
      .math = "(x - mean) / sqrt(var + eps) weight + bias + residual, per channel, then relu",
      .args = {"x", "weight", "bias", "residual"}};
  static constexpr auto attrs =
      std::tuple(attr(&BatchNorm::eps, "eps"), attr(&BatchNorm::relu, "relu"));
  static constexpr bool widens_half = true;
  static constexpr unsigned optional = 0b1110, gradients = 0b1111, keeps = 0b11111;
  // The kernels read and write bfloat16; weight and bias may be float32, as under autocast.
  static bool takes_half(std::span<const Tensor* const> in);
  // Mean; difference, square, sum; difference, times rstd; weight, bias, residual, relu.
  Cost cost(Metas in, const Meta& out) const {
    const double more = (in[1].numel() > 0) + (in[2].numel() > 0) + (in[3].numel() > 0) + relu;
    return {((batch_statistics ? 6 : 2) + more) * in[0].numel(), moved(in, out)};
  }
  // relu; x^ = (x - mean) rstd; sums of g x^ and g; w rstd (g - mean - x^ mean), or w rstd g.
  Cost backward_cost(Metas in, const Meta&, double moved) const {
    const double sums = batch_statistics ? 9 : 1 + 4 * (in[1].numel() > 0) + (in[2].numel() > 0);
    return {(sums + relu) * in[0].numel(), moved};
  }
  Tensor forward(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& residual);
  void backward(const Tensor& g, const Tensor* in, const Tensor& y, Wanted, Gradients out) const;
  Tensor composite(const Tensor& x, const Tensor& weight, const Tensor& bias,
                   const Tensor& residual) const;
};

// x [N, C, ...], its channels in groups normalised together; weight, bias [C].
struct GroupNorm : Composite<3> {
  std::int64_t num_groups = 1;
  double eps = 1e-5;
  static constexpr OpInfo info{
      .name = "group_norm",
      .math = "(x - mean) / sqrt(var + eps) weight + bias, over each sample's groups of channels",
      .args = {"x", "weight", "bias"}};
  static constexpr auto attrs =
      std::tuple(required(&GroupNorm::num_groups, "num_groups"), attr(&GroupNorm::eps, "eps"));
  static constexpr unsigned optional = 0b110;
  static constexpr bool widens_half = true;
  Tensor forward(const Tensor& x, const Tensor& weight, const Tensor& bias) const;
};

}  // namespace lg::ops

namespace lg {

struct BatchNormOptions {
  bool training = false;  // normalise by the batch, and move the running statistics
  double momentum = 0.1;  // how far they move
  double eps = 1e-5;
  bool relu = false;     // max(0, .) of the result, in the same pass
  Tensor residual = {};  // as x, added before that
};

// x [N, C, ...] normalised per channel. Without training, by the running statistics [C]; in
// training by those of the batch, and the running ones, where given, move: mean by momentum towards
// the batch's, var towards its unbiased one.
Tensor batch_norm(const Tensor& x, const Tensor& running_mean, const Tensor& running_var,
                  const Tensor& weight, const Tensor& bias, const BatchNormOptions& options = {});

}  // namespace lg
