// convolution.h: convolution of 1-D and 2-D signals. One operation and its two gradients do the
// work; each is linear in either input, so the gradients of all three are the three again.
#pragma once

#include "lightgrad/ops/op.h"
#include "lightgrad/tensor/tensor.h"

namespace lg {

// Zeros around a signal: one number for all dimensions, one for each, or first those before and
// then those behind ([top, left, bottom, right]). Or "same": as many as keep the size (an odd one
// behind), and "valid": none.
struct Padding {
  Shape sizes{0};
  bool same = false;

  Padding() = default;
  Padding(std::integral auto n) : sizes{static_cast<std::int64_t>(n)} {}
  Padding(std::initializer_list<std::int64_t> n) : sizes(n) {}
  Padding(const Shape& n) : sizes(n) {}
  Padding(std::string_view name);  // ValueError for other names
  Padding(const char* name) : Padding(std::string_view(name)) {}
};

}  // namespace lg

namespace lg::ops {

// A multiply-add for each weight of a channel at each of its pixels in g, zeros of the padding
// included: what all three operations below do.
inline double convolution_flops(const Meta& g, const Meta& weight) {
  const std::int64_t channels = weight.shape[0];
  return channels > 0 ? 2 * g.numel() * weight.numel() / static_cast<double>(channels) : 0;
}

// x [N, C, H, W], weight [O, C / groups, kernel...]; stride and dilation of two numbers, padding of
// four: [top, left, bottom, right], which may be negative.
struct Convolution : Heavy<3> {
  Shape stride, padding, dilation;
  std::int64_t groups = 1;
  static constexpr OpInfo info{.name = "convolution",
                               .math =
                                   "sum over c, p, q of weight[o, c, p, q] x[n, c, i stride - "
                                   "padding + p dilation, j ...] + bias[o]",
                               .args = {"x", "weight", "bias"}};
  static constexpr auto attrs = std::tuple(
      required(&Convolution::stride, "stride"), required(&Convolution::padding, "padding"),
      required(&Convolution::dilation, "dilation"), attr(&Convolution::groups, "groups"));
  static constexpr unsigned optional = 0b100;
  static constexpr bool widens_half = true, multiplies_bfloat16 = true;
  static Cost cost(Metas in, const Meta& out) {
    return {convolution_flops(out, in[1]) + (in[2].numel() > 0 ? out.numel() : 0), moved(in, out)};
  }
  Tensor forward(const Tensor& x, const Tensor& weight, const Tensor& bias) const;
  template <class T> T vjp_x(T g, T x, T weight, T, T) const {
    return convolution_input_grad(g, weight, x.shape(), stride, padding, dilation, groups);
  }
  template <class T> T vjp_y(T g, T x, T weight, T, T) const {
    return convolution_weight_grad(g, x, weight.shape(), stride, padding, dilation, groups);
  }
  template <class T> T vjp_z(T g, T, T, T, T) const { return sum(g, Axes{0, 2, 3}); }
};

// What the two gradients share. `shape` is that of what they are the gradient of.
struct ConvolutionGrad : Heavy<2> {
  Shape shape, stride, padding, dilation;
  std::int64_t groups = 1;
  static constexpr auto attrs = std::tuple(
      required(&ConvolutionGrad::shape, "shape"), required(&ConvolutionGrad::stride, "stride"),
      required(&ConvolutionGrad::padding, "padding"),
      required(&ConvolutionGrad::dilation, "dilation"), attr(&ConvolutionGrad::groups, "groups"));
  static constexpr bool widens_half = true, multiplies_bfloat16 = true;
};

// The gradient of x, whose shape is given: the transposed convolution of g.
struct ConvolutionInputGrad : ConvolutionGrad {
  static constexpr OpInfo info{.name = "convolution_input_grad",
                               .math =
                                   "sum over o, i, j of weight[o, c, p, q] g[n, o, i, j] at "
                                   "each x[n, c, i stride - padding + p dilation, j ...]",
                               .args = {"g", "weight"}};
  static Cost cost(Metas in, const Meta& out) {
    return {convolution_flops(in[0], in[1]), moved(in, out)};
  }
  Tensor forward(const Tensor& g, const Tensor& weight) const;
  template <class T> T vjp_x(T gx, T, T weight, T) const {
    return convolution(gx, weight, T(), stride, padding, dilation, groups);
  }
  template <class T> T vjp_y(T gx, T g, T weight, T) const {
    return convolution_weight_grad(g, gx, weight.shape(), stride, padding, dilation, groups);
  }
};

// The gradient of the weight, whose shape is given.
struct ConvolutionWeightGrad : ConvolutionGrad {
  static constexpr OpInfo info{.name = "convolution_weight_grad",
                               .math =
                                   "sum over n, i, j of g[n, o, i, j] x[n, c, i stride - "
                                   "padding + p dilation, j ...]",
                               .args = {"g", "x"}};
  static Cost cost(Metas in, const Meta& out) {
    return {convolution_flops(in[0], out), moved(in, out)};
  }
  Tensor forward(const Tensor& g, const Tensor& x) const;
  template <class T> T vjp_x(T gw, T, T x, T) const {
    return convolution(x, gw, T(), stride, padding, dilation, groups);
  }
  template <class T> T vjp_y(T gw, T g, T x, T) const {
    return convolution_input_grad(g, gw, x.shape(), stride, padding, dilation, groups);
  }
};

// x [N, C, W] or [C, W].
struct Conv1d : Composite<3> {
  Shape stride{1};
  Padding padding;
  Shape dilation{1};
  std::int64_t groups = 1;
  static constexpr OpInfo info{
      .name = "conv1d",
      .math = "sum over c, p of weight[o, c, p] x[n, c, i stride - padding + p dilation] + bias[o]",
      .args = {"x", "weight", "bias"}};
  static constexpr auto attrs =
      std::tuple(attr(&Conv1d::stride, "stride"), attr(&Conv1d::padding, "padding"),
                 attr(&Conv1d::dilation, "dilation"), attr(&Conv1d::groups, "groups"));
  static constexpr unsigned optional = 0b100;
  Tensor forward(const Tensor& x, const Tensor& weight, const Tensor& bias) const;
};

// x [N, C, H, W] or [C, H, W].
struct Conv2d : Composite<3> {
  Shape stride{1};
  Padding padding;
  Shape dilation{1};
  std::int64_t groups = 1;
  static constexpr OpInfo info{.name = "conv2d",
                               .math =
                                   "sum over c, p, q of weight[o, c, p, q] x[n, c, i stride - "
                                   "padding + p dilation, j ...] + bias[o]",
                               .args = {"x", "weight", "bias"}};
  static constexpr auto attrs =
      std::tuple(attr(&Conv2d::stride, "stride"), attr(&Conv2d::padding, "padding"),
                 attr(&Conv2d::dilation, "dilation"), attr(&Conv2d::groups, "groups"));
  static constexpr unsigned optional = 0b100;
  Tensor forward(const Tensor& x, const Tensor& weight, const Tensor& bias) const;
};

// x [N, C, H, W] or [C, H, W], weight [C, O / groups, kernel...]: what conv2d does to gradients.
struct ConvTranspose2d : Composite<3> {
  Shape stride{1}, padding{0}, output_padding{0};
  std::int64_t groups = 1;
  Shape dilation{1};
  static constexpr OpInfo info{.name = "conv_transpose2d",
                               .math =
                                   "y[n, o, i stride - padding + p dilation, j ...] = sum over "
                                   "c, p, q of weight[c, o, p, q] x[n, c, i, j], + bias[o]",
                               .args = {"x", "weight", "bias"}};
  static constexpr auto attrs = std::tuple(
      attr(&ConvTranspose2d::stride, "stride"), attr(&ConvTranspose2d::padding, "padding"),
      attr(&ConvTranspose2d::output_padding, "output_padding"),
      attr(&ConvTranspose2d::groups, "groups"), attr(&ConvTranspose2d::dilation, "dilation"));
  static constexpr unsigned optional = 0b100;
  static constexpr bool widens_half = true;
  Tensor forward(const Tensor& x, const Tensor& weight, const Tensor& bias) const;
};

}  // namespace lg::ops
