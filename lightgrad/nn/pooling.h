// pooling.h: pooling and interpolation as layers, for x [N, C, H, W] or [C, H, W]. Arguments and
// defaults are PyTorch's.
#pragma once

#include "lightgrad/nn/convolution.h"
#include "lightgrad/ops/pooling.h"

namespace lg::nn {

struct MaxPoolOptions {
  std::optional<Shape> stride;  // without: the kernel's size
  Sizes padding = 0, dilation = 1;
  bool ceil_mode = false;  // a last window may hang over the end
};

struct MaxPool2d : Module {
  Shape kernel_size;
  MaxPoolOptions options;

  explicit MaxPool2d(const Sizes& kernel_size, const MaxPoolOptions& options = {})
      : kernel_size(kernel_size), options(options) {}
  Tensor forward(const Tensor& x) const;
  std::string extra_repr() const override;
};

struct AvgPoolOptions {
  std::optional<Shape> stride;  // without: the kernel's size
  Sizes padding = 0;
  bool ceil_mode = false, count_include_pad = true;
  std::optional<std::int64_t> divisor_override;
};

struct AvgPool2d : Module {
  Shape kernel_size;
  AvgPoolOptions options;

  explicit AvgPool2d(const Sizes& kernel_size, const AvgPoolOptions& options = {})
      : kernel_size(kernel_size), options(options) {}
  Tensor forward(const Tensor& x) const;
  std::string extra_repr() const override;
};

struct AdaptiveAvgPool2d : Module {
  Shape output_size;

  explicit AdaptiveAvgPool2d(const Sizes& output_size) : output_size(output_size) {}
  Tensor forward(const Tensor& x) const;
  std::string extra_repr() const override;
};

// x [N, C, W] or [N, C, H, W] at another size, given as such or as a factor.
struct Upsample : Module {
  std::optional<Shape> size;
  std::optional<Scale> scale_factor;
  std::string mode;  // nearest, nearest-exact, linear, bilinear
  std::optional<bool> align_corners;

  Upsample(std::optional<Shape> size, std::optional<Scale> scale_factor,
           std::string mode = "nearest", std::optional<bool> align_corners = {})
      : size(size),
        scale_factor(std::move(scale_factor)),
        mode(std::move(mode)),
        align_corners(align_corners) {}
  Tensor forward(const Tensor& x) const;
  std::string extra_repr() const override;
};

}  // namespace lg::nn
