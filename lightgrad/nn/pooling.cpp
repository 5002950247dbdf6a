#include "lightgrad/nn/pooling.h"

#include "lightgrad/ops/ops.h"

namespace lg::nn {

namespace {

std::string size_text(const Shape& s) {  // a number, or a tuple as Python writes it
  std::string list;
  for (const std::int64_t n : s) list += text(list.empty() ? "" : ", ", n);
  return s.rank() == 1 ? list : "(" + list + ")";
}

std::string factor_text(const Scale& s) {
  std::string list;
  for (const double f : s.list)
    list += text(list.empty() ? "" : ", ", f,
                 f == static_cast<double>(static_cast<std::int64_t>(f)) ? ".0" : "");
  return s.list.size() == 1 ? list : "(" + list + ")";
}

}  // namespace

Tensor MaxPool2d::forward(const Tensor& x) const {
  return lg::max_pool2d(x, kernel_size, options.stride, options.padding, options.dilation,
                        options.ceil_mode);
}

std::string MaxPool2d::extra_repr() const {
  return text("kernel_size=", size_text(kernel_size),
              ", stride=", size_text(options.stride.value_or(kernel_size)),
              ", padding=", size_text(options.padding), ", dilation=", size_text(options.dilation),
              ", ceil_mode=", options.ceil_mode ? "True" : "False");
}

Tensor AvgPool2d::forward(const Tensor& x) const {
  return lg::avg_pool2d(x, kernel_size, options.stride, options.padding, options.ceil_mode,
                        options.count_include_pad, options.divisor_override);
}

std::string AvgPool2d::extra_repr() const {
  return text("kernel_size=", size_text(kernel_size),
              ", stride=", size_text(options.stride.value_or(kernel_size)),
              ", padding=", size_text(options.padding));
}

Tensor AdaptiveAvgPool2d::forward(const Tensor& x) const {
  return lg::adaptive_avg_pool2d(x, output_size);
}

std::string AdaptiveAvgPool2d::extra_repr() const {
  return "output_size=" + size_text(output_size);
}

Tensor Upsample::forward(const Tensor& x) const {
  return lg::interpolate(x, size, scale_factor, mode, align_corners);
}

std::string Upsample::extra_repr() const {
  return text(size ? "size=" + size_text(*size) : "",
              scale_factor ? "scale_factor=" + factor_text(*scale_factor) : "", ", mode='", mode,
              "'");
}

}  // namespace lg::nn
