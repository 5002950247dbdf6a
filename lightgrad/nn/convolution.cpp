#include "lightgrad/nn/convolution.h"

#include <cmath>

#include "lightgrad/nn/init.h"
#include "lightgrad/ops/ops.h"

namespace lg::nn {

namespace {

Shape all_dimensions(const Shape& sizes, int dims, std::string_view layer, const char* what) {
  const bool fits = sizes.rank() == 1 || sizes.rank() == dims;
  bool positive = true;
  for (const std::int64_t n : sizes) positive &= n >= 1;
  if (!fits || !positive) {
    fail(ErrorKind::value, layer, what, " is ", sizes, ", expected ",
         dims == 1 ? "one number" : text(dims, " numbers, or one,"), " from 1 up");
  }
  return sizes.rank() == dims ? sizes : Shape::filled(dims, sizes[0]);
}

Shape weight_shape(std::int64_t in, std::int64_t out, std::int64_t groups, bool transposed,
                   const Shape& kernel, std::string_view layer) {
  for (const std::int64_t n : {in, out}) {
    if (groups >= 1 && n >= 0 && n % groups == 0) continue;
    fail(ErrorKind::value, layer, "in_channels ", in, " and out_channels ", out,
         " are not both divisible by groups ", groups);
  }
  Shape shape = transposed ? Shape{in, out / groups} : Shape{out, in / groups};
  for (const std::int64_t n : kernel) shape.push_back(n);
  return shape;
}

std::string tuple_text(const Shape& sizes) {  // as Python writes it
  std::string s;
  for (const std::int64_t n : sizes) s += text(s.empty() ? "" : ", ", n);
  return text("(", s, sizes.rank() == 1 ? ",)" : ")");
}

}  // namespace

ConvBase::ConvBase(const char* layer, int dims, bool transposed, std::int64_t in, std::int64_t out,
                   const Sizes& kernel, const ConvOptions& options)
    : in_channels(in),
      out_channels(out),
      kernel_size(all_dimensions(kernel, dims, layer, "kernel_size")),
      stride(all_dimensions(options.stride, dims, layer, "stride")),
      dilation(all_dimensions(options.dilation, dims, layer, "dilation")),
      padding(options.padding),
      groups(options.groups),
      weight(this, "weight",
             empty(weight_shape(in, out, groups, transposed, kernel_size, layer), options.dtype)),
      bias(this, "bias", options.bias ? empty({out}, options.dtype) : Tensor()) {
  if (!padding.same && padding.sizes.rank() == 1)
    padding.sizes = Shape::filled(dims, padding.sizes[0]);
  reset_parameters();
}

void ConvBase::reset_parameters() {
  if (weight.numel() > 0)  // that is, uniform within 1 / sqrt(fan_in)
    init::kaiming_uniform_(weight, std::sqrt(5.0));
  if (!bias.defined()) return;
  const std::int64_t fan_in = weight.numel() > 0 ? init::calculate_fans(weight).in : 0;
  const double bound = fan_in > 0 ? 1 / std::sqrt(static_cast<double>(fan_in)) : 0;
  init::uniform_(bias, -bound, bound);
}

std::string ConvBase::extra_repr() const {
  const int dims = kernel_size.rank();
  std::string s = text(in_channels, ", ", out_channels, ", kernel_size=", tuple_text(kernel_size),
                       ", stride=", tuple_text(stride));
  if (padding.same)
    s += ", padding=same";
  else if (!(padding.sizes == Shape::filled(dims, 0)))
    s += ", padding=" + tuple_text(padding.sizes);
  if (!(dilation == Shape::filled(dims, 1))) s += ", dilation=" + tuple_text(dilation);
  if (output_padding.rank() > 0 && !(output_padding == Shape::filled(dims, 0)))
    s += ", output_padding=" + tuple_text(output_padding);
  if (groups != 1) s += text(", groups=", groups);
  return bias.defined() ? s : s + ", bias=False";
}

Tensor Conv1d::forward(const Tensor& x) const {
  return lg::conv1d(x, weight, bias, stride, padding, dilation, groups);
}

Tensor Conv2d::forward(const Tensor& x) const {
  return lg::conv2d(x, weight, bias, stride, padding, dilation, groups);
}

ConvTranspose2d::ConvTranspose2d(std::int64_t in, std::int64_t out, const Sizes& kernel,
                                 const ConvOptions& options, const Sizes& more)
    : ConvBase("ConvTranspose2d", 2, true, in, out, kernel, options) {
  output_padding = more.rank() == 1 ? Shape{more[0], more[0]} : Shape(more);
  if (padding.same)
    fail(ErrorKind::value, "ConvTranspose2d", "padding is \"same\", expected numbers");
}

Tensor ConvTranspose2d::forward(const Tensor& x) const {
  return lg::conv_transpose2d(x, weight, bias, stride, padding.sizes, output_padding, groups,
                              dilation);
}

}  // namespace lg::nn
