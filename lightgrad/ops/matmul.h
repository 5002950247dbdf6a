// matmul.h: products of matrices.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "lightgrad/autograd/saved_tensor.h"
#include "lightgrad/ops/op.h"
#include "lightgrad/tensor/tensor.h"

namespace lg {
// x [..., n] seen as [rows, n].
Tensor as_rows(const Tensor& x);
inline Probe as_rows(const Probe& x) { return x; }
// x [...] seen as [..., 1] where the weight is a vector.
Tensor as_column(const Tensor& x, bool vector);
inline Probe as_column(const Probe& x, bool) { return x; }
// bmm(x, y), summed over the matrices that broadcasting made of one; of halves in float32.
Tensor bmm_to(const Tensor& x, const Tensor& y, const Shape& shape);
inline Probe bmm_to(const Probe& x, const Probe& y, const Shape&) { return x * y; }
}  // namespace lg

namespace lg::ops {

// An operation that says `multiplies_bfloat16` does without widening where all of its numbers are
// bfloat16 and the device multiplies those.

// [..., m, k] times [..., k, n]; the leading dimensions broadcast. Any strides, no copies.
struct BatchedMatmul : Heavy<2> {
  static constexpr OpInfo info{.name = "bmm",
                               .math = "x y, matrices over broadcast leading dimensions"};
  static constexpr bool widens_half = true, multiplies_bfloat16 = true;
  static Cost cost(Metas in, const Meta& out) {
    return {2 * out.numel() * static_cast<double>(in[0].shape.back()), moved(in, out)};
  }
  Tensor forward(const Tensor& x, const Tensor& y) const;
  Tensor forward_cuda(const Tensor& x, const Tensor& y) const;
  template <class T> static T vjp_x(T g, T x, T y, T) {
    return bmm_to(g, transpose(y, -2, -1), x.shape());
  }
  template <class T> static T vjp_y(T g, T x, T y, T) {
    return bmm_to(transpose(x, -2, -1), g, y.shape());
  }
};

struct Matmul : Composite<2> {
  static constexpr OpInfo info{
      .name = "matmul", .math = "x y: vectors, matrices, or stacks of matrices that broadcast"};
  Tensor forward(const Tensor& x, const Tensor& y) const;
};

// weight may be a vector, which gives one number per row of x; bias may be absent. The formulas are
// for gradients of gradients; `backward` sums the bias's gradient while it multiplies for the
// weight's.
struct Linear : Heavy<3> {
  static constexpr OpInfo info{
      .name = "linear", .math = "x weight^T + bias", .args = {"x", "weight", "bias"}};
  static constexpr unsigned optional = 0b100, gradients = 0b111;
  static constexpr bool widens_half = true, multiplies_bfloat16 = true;
  static Cost cost(Metas in, const Meta& out) {
    const double bias = in[2].numel() > 0 ? out.numel() : 0;
    return {2 * out.numel() * static_cast<double>(in[0].shape.back()) + bias, moved(in, out)};
  }
  Tensor forward(const Tensor& x, const Tensor& weight, const Tensor& bias) const;
  void backward(const Tensor& g, const Tensor* in, const Tensor& y, unsigned wanted,
                std::span<Tensor> out) const;
  Tensor forward_cuda(const Tensor& x, const Tensor& weight, const Tensor& bias) const;
  void backward_cuda(const Tensor& g, const Tensor* in, const Tensor& y, unsigned wanted,
                     std::span<Tensor> out) const;
  template <class T> static T vjp_x(T g, T, T weight, T, T) {
    return matmul(as_column(g, weight.shape().rank() == 1), as_rows(weight));
  }
  template <class T> static T vjp_y(T g, T x, T weight, T, T) {
    const T columns = as_column(g, weight.shape().rank() == 1);
    return sum_to(matmul(transpose(as_rows(columns), 0, 1), as_rows(x)), weight.shape());
  }
  template <class T> static T vjp_z(T g, T, T, T bias, T) { return sum_to(g, bias.shape()); }
};

// linear and a pointwise function of it, applied while the product is in cache. What the gradient
// of the function mentions is kept, and only where a gradient is wanted: of relu the output, of
// gelu what it was applied to.
struct LinearActivation : Heavy<3> {
  std::string activation = "relu";
  SavedTensor preactivation;
  static constexpr OpInfo info{.name = "linear_activation",
                               .math =
                                   "f(x weight^T + bias); f: relu, gelu, gelu_tanh, silu, "
                                   "sigmoid or tanh",
                               .args = {"x", "weight", "bias"}};
  static constexpr auto attrs = std::tuple(attr(&LinearActivation::activation, "activation"));
  static constexpr unsigned optional = 0b100, gradients = 0b111, keeps = 0b0111;
  static constexpr bool widens_half = true, multiplies_bfloat16 = true;
  bool keeps_output() const;
  Cost cost(Metas in, const Meta& out) const {
    const Cost product = Linear::cost(in, out);
    return {product.flops + out.numel(), product.bytes + (preactivation.kept() ? out.bytes() : 0)};
  }
  static Cost backward_cost(Metas, const Meta&, double) { return {}; }  // its parts count theirs
  Tensor forward(const Tensor& x, const Tensor& weight, const Tensor& bias);
  void backward(const Tensor& g, const Tensor* in, const Tensor& y, unsigned wanted,
                std::span<Tensor> out) const;
  Tensor forward_cuda(const Tensor& x, const Tensor& weight, const Tensor& bias);
  void backward_cuda(const Tensor& g, const Tensor* in, const Tensor& y, unsigned wanted,
                     std::span<Tensor> out) const;
  Tensor composite(const Tensor& x, const Tensor& weight, const Tensor& bias) const;
};

// ValueError, of `operation`, unless linear_activation knows the function.
void check_activation(std::string_view operation, std::string_view activation);

}  // namespace lg::ops

namespace lg {
// NumPy's einsum: "ij,jk->ik", with ellipsis and repeated letters. ValueError on a malformed
// equation.
Tensor einsum(std::string_view equation, const std::vector<Tensor>& operands);
}  // namespace lg
