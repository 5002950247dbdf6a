// fused_mlp.h: a linear layer, ReLU and LayerNorm as one operation.
#pragma once

#include <span>

#include "lightgrad/ops/op.h"
#include "lightgrad/tensor/tensor.h"

namespace lg::ops {

// x [..., in_features], weight [out_features, in_features], the rest [out_features].
struct FusedMlp : Heavy<5> {
  double eps = 1e-5;
  Tensor hidden, mean, rstd;  // kept for backward: relu(x weight^T + bias) and its rows' statistics
  static constexpr OpInfo info{.name = "fused_mlp",
                               .math = "layer_norm(relu(x weight^T + bias)) gamma + beta",
                               .args = {"x", "weight", "bias", "gamma", "beta"}};
  static constexpr auto attrs = std::tuple(attr(&FusedMlp::eps, "eps"));
  static constexpr bool widens_half = true;
  static constexpr unsigned gradients = 0b11111, keeps = 0b11111;
  static Cost cost(Metas in, const Meta& out) {  // the product; bias, max; LayerNorm's eight
    return {(2 * static_cast<double>(in[0].shape.back()) + 10) * out.numel(), moved(in, out)};
  }
  static Cost backward_cost(Metas in, const Meta& out, double moved) {  // two products; 14 else
    return {(4 * static_cast<double>(in[0].shape.back()) + 14) * out.numel(), moved + out.bytes()};
  }
  Tensor forward(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& gamma,
                 const Tensor& beta);
  void backward(const Tensor& g, const Tensor* in, const Tensor& y, unsigned wanted,
                std::span<Tensor> out) const;
  Tensor forward_cuda(const Tensor& x, const Tensor& weight, const Tensor& bias,
                      const Tensor& gamma, const Tensor& beta);
  void backward_cuda(const Tensor& g, const Tensor* in, const Tensor& y, unsigned wanted,
                     std::span<Tensor> out) const;
  static void check(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& gamma,
                    const Tensor& beta);
  Tensor composite(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& gamma,
                   const Tensor& beta) const;
};

}  // namespace lg::ops
