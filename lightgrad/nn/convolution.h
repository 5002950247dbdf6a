// convolution.h: convolutions as layers. Arguments, default initialisation, names and layouts of
// parameters are PyTorch's.
#pragma once

#include "lightgrad/nn/members.h"
#include "lightgrad/ops/convolution.h"
#include "lightgrad/ops/creation.h"

namespace lg::nn {

// One number for every dimension, or one each.
struct Sizes : Shape {
  Sizes(std::integral auto n) : Shape{static_cast<std::int64_t>(n)} {}
  Sizes(std::initializer_list<std::int64_t> list) : Shape(list) {}
  Sizes(const Shape& list) : Shape(list) {}
};

struct ConvOptions {
  Sizes stride = 1;
  Padding padding;
  Sizes dilation = 1;
  std::int64_t groups = 1;
  bool bias = true;
  OptionalDType dtype;
};

// What the convolutions share; of `dims` dimensions.
struct ConvBase : Module {
  std::int64_t in_channels, out_channels;
  Shape kernel_size, stride, dilation;  // of `dims` numbers
  Padding padding;
  Shape output_padding;  // of a transposed convolution
  std::int64_t groups;
  Param weight, bias;  // [out_channels, in_channels / groups, kernel...], [out_channels]

  void reset_parameters();
  std::string extra_repr() const override;

 protected:
  ConvBase(const char* layer, int dims, bool transposed, std::int64_t in_channels,
           std::int64_t out_channels, const Sizes& kernel_size, const ConvOptions& options);
};

// x [N, C, W] or [C, W].
struct Conv1d : ConvBase {
  Conv1d(std::int64_t in_channels, std::int64_t out_channels, const Sizes& kernel_size,
         const ConvOptions& options = {})
      : ConvBase("Conv1d", 1, false, in_channels, out_channels, kernel_size, options) {}
  Tensor forward(const Tensor& x) const;
};

// x [N, C, H, W] or [C, H, W].
struct Conv2d : ConvBase {
  Conv2d(std::int64_t in_channels, std::int64_t out_channels, const Sizes& kernel_size,
         const ConvOptions& options = {})
      : ConvBase("Conv2d", 2, false, in_channels, out_channels, kernel_size, options) {}
  Tensor forward(const Tensor& x) const;
};

// x [N, C, H, W] or [C, H, W]; weight [in_channels, out_channels / groups, kernel...].
struct ConvTranspose2d : ConvBase {
  ConvTranspose2d(std::int64_t in_channels, std::int64_t out_channels, const Sizes& kernel_size,
                  const ConvOptions& options = {}, const Sizes& output_padding = 0);
  Tensor forward(const Tensor& x) const;
};

}  // namespace lg::nn
