// pooling.h: windows over images [N, C, H, W] or [C, H, W], padding and interpolation.
#pragma once

#include <vector>

#include "lightgrad/ops/op.h"
#include "lightgrad/tensor/tensor.h"

namespace lg {

// How many times larger: one number for all dimensions, or one each.
struct Scale {
  std::vector<double> list;

  Scale() = default;
  Scale(double s) : list{s} {}
  Scale(std::initializer_list<double> s) : list(s) {}
};

}  // namespace lg

namespace lg::ops {

// Without a stride, windows stand side by side. ceil_mode lets a last window hang over the end.
struct MaxPool2dIndices : Heavy<1> {
  Shape kernel_size;
  std::optional<Shape> stride;
  Shape padding{0}, dilation{1};
  bool ceil_mode = false;
  static constexpr bool differentiable = false;
  static constexpr OpInfo info{.name = "max_pool2d_indices",
                               .math = "the place in its plane of each window's largest element"};
  static constexpr auto attrs = std::tuple(required(&MaxPool2dIndices::kernel_size, "kernel_size"),
                                           attr(&MaxPool2dIndices::stride, "stride"),
                                           attr(&MaxPool2dIndices::padding, "padding"),
                                           attr(&MaxPool2dIndices::dilation, "dilation"),
                                           attr(&MaxPool2dIndices::ceil_mode, "ceil_mode"));
  Cost cost(Metas in, const Meta& out) const {  // each element of each window
    const auto window = static_cast<double>(kernel_size[0] * kernel_size.back());
    return {window * out.numel(), moved(in, out)};
  }
  Tensor forward(const Tensor& x) const;
};

struct MaxPool2d : Composite<1> {
  Shape kernel_size;
  std::optional<Shape> stride;
  Shape padding{0}, dilation{1};
  bool ceil_mode = false;
  static constexpr OpInfo info{.name = "max_pool2d", .math = "the largest element of each window"};
  static constexpr auto attrs =
      std::tuple(required(&MaxPool2d::kernel_size, "kernel_size"),
                 attr(&MaxPool2d::stride, "stride"), attr(&MaxPool2d::padding, "padding"),
                 attr(&MaxPool2d::dilation, "dilation"), attr(&MaxPool2d::ceil_mode, "ceil_mode"));
  Tensor forward(const Tensor& x) const;
};

struct AvgPool2d : Composite<1> {
  Shape kernel_size;
  std::optional<Shape> stride;
  Shape padding{0};
  bool ceil_mode = false, count_include_pad = true;
  std::optional<std::int64_t> divisor_override;
  static constexpr OpInfo info{.name = "avg_pool2d", .math = "the mean of each window"};
  static constexpr auto attrs = std::tuple(
      required(&AvgPool2d::kernel_size, "kernel_size"), attr(&AvgPool2d::stride, "stride"),
      attr(&AvgPool2d::padding, "padding"), attr(&AvgPool2d::ceil_mode, "ceil_mode"),
      attr(&AvgPool2d::count_include_pad, "count_include_pad"),
      attr(&AvgPool2d::divisor_override, "divisor_override"));
  Tensor forward(const Tensor& x) const;
};

// Windows that share x out among output_size places.
struct AdaptiveAvgPool2d : Composite<1> {
  Shape output_size;
  static constexpr OpInfo info{.name = "adaptive_avg_pool2d",
                               .math =
                                   "the mean of x[floor(i H / out) : ceil((i + 1) H / out), "
                                   "...] at each place i, ... of output_size"};
  static constexpr auto attrs =
      std::tuple(required(&AdaptiveAvgPool2d::output_size, "output_size"));
  Tensor forward(const Tensor& x) const;
};

// x [N, C, W] or [N, C, H, W]; modes nearest, nearest-exact, linear, bilinear, area.
struct Interpolate : Composite<1> {
  std::optional<Shape> size;
  std::optional<Scale> scale_factor;
  std::string mode = "nearest";
  std::optional<bool> align_corners;
  static constexpr OpInfo info{.name = "interpolate", .math = "x at another size"};
  static constexpr auto attrs = std::tuple(
      attr(&Interpolate::size, "size"), attr(&Interpolate::scale_factor, "scale_factor"),
      attr(&Interpolate::mode, "mode"), attr(&Interpolate::align_corners, "align_corners"));
  Tensor forward(const Tensor& x) const;
};

// pad: elements before and after the last dimension, then the one before it, ...; negative ones
// are cut off. Modes constant, reflect, replicate, circular.
struct Pad : Composite<1> {
  Shape pad;
  std::string mode = "constant";
  std::optional<double> value;
  static constexpr OpInfo info{.name = "pad", .math = "x with elements put around it"};
  static constexpr auto attrs =
      std::tuple(required(&Pad::pad, "pad"), attr(&Pad::mode, "mode"), attr(&Pad::value, "value"));
  Tensor forward(const Tensor& x) const;
};

}  // namespace lg::ops
