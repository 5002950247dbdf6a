#include "lightgrad/ops/convolution.h"

#include "lightgrad/ops/creation.h"
#include "lightgrad/ops/float_kernels.h"
#include "lightgrad/ops/ops.h"
#include "lightgrad/ops/run.h"
#include "lightgrad/ops/window.h"

namespace lg {

Padding::Padding(std::string_view name) : same(name == "same") {
  if (!same && name != "valid") {
    fail(ErrorKind::value, "padding", "got \"", name,
         "\", expected numbers, \"same\" or \"valid\"");
  }
}

namespace ops {
namespace {

// The kernels' description of a convolution of shapes that were checked.
kernels::Conv geometry(const Shape& x, const Shape& weight, const Shape& y, const Shape& stride,
                       const Shape& padding, const Shape& dilation, std::int64_t groups) {
  kernels::Conv c{x[0], groups, x[1], weight[0], {}, {}, {}, {}, {}, {}};
  for (int d = 0; d < 2; ++d) {
    c.in[d] = x[2 + d];
    c.out[d] = y[2 + d];
    c.kernel[d] = weight[2 + d];
    c.pad[d] = padding[d];
    // A single step has no length: sizes that nobody uses must not overflow.
    c.stride[d] = c.out[d] > 1 ? stride[d] : 1;
    c.dilation[d] = c.kernel[d] > 1 ? dilation[d] : 1;
  }
  return c;
}

// What the convolution of x [N, C, ...] with weight [O, C / groups, ...] has in its last
// dimensions; every size is checked.
Shape output_shape(const Shape& x, const Shape& weight, const Shape& stride, const Shape& padding,
                   const Shape& dilation, std::string_view name) {
  const int dims = x.rank() - 2;
  Shape out{x[0], weight[0]}, covers, padded;
  bool fits = true;
  for (int d = 0; d < dims; ++d) {
    covers.push_back(window_extent(weight[2 + d], dilation[d]));
    padded.push_back(saturating_add(saturating_add(x[2 + d], padding[d]), padding[dims + d]));
    fits &= covers[d] <= padded[d];
    if (fits) out.push_back((padded[d] - covers[d]) / stride[d] + 1);
  }
  if (!fits) {
    fail(ErrorKind::value, name, "the kernel covers ", covers, " pixels, the padded input has ",
         padded, " (x ", x, ", weight ", weight, ", dilation ", dilation, ")");
  }
  return out;
}

struct Arguments {
  Shape stride, padding, dilation;  // of `dims` numbers, padding of twice as many
};

// Checks ranks, dtypes, channels and groups; x is batched.
void check_tensors(const Tensor& x, const Tensor& weight, const Tensor& bias, std::int64_t groups,
                   bool transposed, int dims, std::string_view name) {
  const char* const sizes = dims == 1 ? "W" : "H, W";
  if (x.rank() != dims + 2) {
    fail(ErrorKind::value, name, "x is ", x.describe(), ", expected [N, C, ", sizes, "] or [C, ",
         sizes, "]");
  }
  if (weight.rank() != dims + 2) {
    fail(ErrorKind::value, name, "weight has shape ", weight.shape(), ", expected ",
         transposed ? "[C, O / groups, " : "[O, C / groups, ",
         dims == 1 ? "kernel" : "kernel, kernel", "]");
  }
  for (int d = 0; d < dims; ++d) {
    if (weight.shape()[2 + d] == 0)
      fail(ErrorKind::value, name, "the kernel has no taps (weight ", weight.shape(), ")");
  }
  for (const Tensor* t : {&weight, &bias}) {
    if (t->defined() &&
        autocast::arriving(Precision::low, *t) != autocast::arriving(Precision::low, x)) {
      fail(ErrorKind::type, name, "x is ", name_of(x.dtype()), ", ",
           t == &weight ? "weight" : "bias", " is ", name_of(t->dtype()),
           ", expected one dtype; convert one with to()");
    }
  }
  const std::int64_t channels = x.shape()[1], first = weight.shape()[0], second = weight.shape()[1];
  if (groups < 1 || first % groups != 0 || channels % groups != 0) {
    fail(ErrorKind::value, name, "groups is ", groups, ", which does not divide ",
         groups < 1 || channels % groups != 0 ? "x's channels" : "the output channels", " (x ",
         x.shape(), ", weight ", weight.shape(), ")");
  }
  const std::int64_t expected = transposed ? first : second * groups;
  if (channels != expected) {
    fail(ErrorKind::value, name, "weight has ", expected, " input channels",
         groups > 1 ? text(" in ", groups, " groups") : "", ", x has ", channels, " (x ", x.shape(),
         ", weight ", weight.shape(), ")");
  }
  const std::int64_t outs = transposed ? second * groups : first;
  if (bias.defined() && !(bias.shape() == Shape{outs})) {
    fail(ErrorKind::value, name, "bias has shape ", bias.shape(), ", expected [", outs,
         "] (weight ", weight.shape(), ")");
  }
}

Arguments checked(const Tensor& x, const Tensor& weight, const Shape& stride,
                  const Padding& padding, const Shape& dilation, int dims, std::string_view name) {
  Arguments a{per_dimension(stride, dims, 1, name, "stride", x.shape()),
              {},
              per_dimension(dilation, dims, 1, name, "dilation", x.shape())};
  if (!padding.same) {
    a.padding = padding.sizes.rank() == 2 * dims && dims > 1
                    ? padding.sizes
                    : per_dimension(padding.sizes, dims, 0, name, "padding", x.shape());
    for (const std::int64_t n : a.padding) {
      if (n < 0)
        fail(ErrorKind::value, name, "padding is ", a.padding, ", expected numbers from 0 up");
    }
    if (a.padding.rank() == dims)
      for (int d = 0; d < dims; ++d) a.padding.push_back(a.padding[d]);
    return a;
  }
  for (int d = 0; d < dims; ++d) {
    if (a.stride[d] != 1) {
      fail(ErrorKind::value, name, "padding \"same\" keeps the size, which stride ", a.stride,
           " does not; give numbers");
    }
    a.padding.push_back((window_extent(weight.shape()[2 + d], a.dilation[d]) - 1) / 2);
  }
  for (int d = 0; d < dims; ++d) {
    const std::int64_t all = window_extent(weight.shape()[2 + d], a.dilation[d]) - 1;
    a.padding.push_back(all - all / 2);
  }
  return a;
}

// f on x with a batch dimension, where x has none.
template <class F> Tensor batched(const Tensor& x, int dims, F&& f) {
  return x.rank() == dims + 1 ? squeeze(f(unsqueeze(x, 0)), 0) : f(x);
}

}  // namespace

Tensor Convolution::forward(const Tensor& x, const Tensor& weight, const Tensor& bias) const {
  check_tensors(x, weight, bias, groups, false, 2, "convolution");
  Tensor y = Tensor::empty(
      output_shape(x.shape(), weight.shape(), stride, padding, dilation, "convolution"), x.dtype());
  const auto c = geometry(x.shape(), weight.shape(), y.shape(), stride, padding, dilation, groups);
  const Tensor a = x.contiguous_data(), w = weight.contiguous_data(),
               b = bias.defined() ? bias.contiguous_data() : bias;
  with_products(x, "conv2d", [&]<class T>(const auto& k, T) {
    k.conv_forward(c, a.data<T>(), w.data<T>(), data_or_null<T>(b), y.data<T>());
  });
  return y;
}

Tensor ConvolutionInputGrad::forward(const Tensor& g, const Tensor& weight) const {
  Tensor dx = Tensor::empty(shape, g.dtype());
  const auto c = geometry(shape, weight.shape(), g.shape(), stride, padding, dilation, groups);
  const Tensor a = g.contiguous_data(), w = weight.contiguous_data();
  with_products(g, "convolution_input_grad", [&]<class T>(const auto& k, T) {
    k.conv_backward_data(c, a.data<T>(), w.data<T>(), dx.data<T>());
  });
  return dx;
}

Tensor ConvolutionWeightGrad::forward(const Tensor& g, const Tensor& x) const {
  Tensor dw = Tensor::empty(shape, g.dtype());
  const auto c = geometry(x.shape(), shape, g.shape(), stride, padding, dilation, groups);
  const Tensor a = g.contiguous_data(), b = x.contiguous_data();
  with_products(g, "convolution_weight_grad", [&]<class T>(const auto& k, T) {
    k.conv_backward_weight(c, a.data<T>(), b.data<T>(), dw.data<T>());
  });
  return dw;
}

Tensor Conv1d::forward(const Tensor& x, const Tensor& weight, const Tensor& bias) const {
  return batched(x, 1, [&](const Tensor& in) {
    check_tensors(in, weight, bias, groups, false, 1, "conv1d");
    const Arguments a = checked(in, weight, stride, padding, dilation, 1, "conv1d");
    output_shape(in.shape(), weight.shape(), a.stride, a.padding, a.dilation, "conv1d");
    return squeeze(
        convolution(unsqueeze(in, 2), unsqueeze(weight, 2), bias, Shape{1, a.stride[0]},
                    Shape{0, a.padding[0], 0, a.padding[1]}, Shape{1, a.dilation[0]}, groups),
        2);
  });
}

Tensor Conv2d::forward(const Tensor& x, const Tensor& weight, const Tensor& bias) const {
  return batched(x, 2, [&](const Tensor& in) {
    check_tensors(in, weight, bias, groups, false, 2, "conv2d");
    const Arguments a = checked(in, weight, stride, padding, dilation, 2, "conv2d");
    output_shape(in.shape(), weight.shape(), a.stride, a.padding, a.dilation, "conv2d");
    return convolution(in, weight, bias, a.stride, a.padding, a.dilation, groups);
  });
}

Tensor ConvTranspose2d::forward(const Tensor& x, const Tensor& weight, const Tensor& bias) const {
  constexpr std::string_view name = "conv_transpose2d";
  return batched(x, 2, [&](const Tensor& in) {
    check_tensors(in, weight, bias, groups, true, 2, name);
    const Arguments a = checked(in, weight, stride, padding, dilation, 2, name);
    const Shape more = per_dimension(output_padding, 2, 0, name, "output_padding", in.shape());
    Shape shape{in.shape()[0], weight.shape()[1] * groups}, pad = a.padding;
    for (int d = 0; d < 2; ++d) {
      if (more[d] >= std::max(a.stride[d], a.dilation[d])) {
        fail(ErrorKind::value, name, "output_padding is ", more,
             ", expected less than stride or dilation (stride ", a.stride, ", dilation ",
             a.dilation, ")");
      }
      const std::int64_t covers = window_extent(weight.shape()[2 + d], a.dilation[d]);
      std::int64_t size = 0;
      const bool overflow = __builtin_mul_overflow(in.shape()[2 + d] - 1, a.stride[d], &size);
      size = overflow ? std::numeric_limits<std::int64_t>::max() : size;
      size = saturating_add(saturating_add(size, covers), more[d]);
      size = saturating_add(size, -saturating_add(a.padding[d], a.padding[2 + d]));
      if (in.shape()[2 + d] == 0 || size < 1) {
        fail(ErrorKind::value, name, "the output would have size ", size, " in dimension ", 2 + d,
             " (x ", in.shape(), ", weight ", weight.shape(), ", padding ", a.padding, ")");
      }
      shape.push_back(size);
      // Rows behind the last window are padding that was cut less: then every size fits.
      pad[2 + d] -= more[d];
    }
    Tensor y = convolution_input_grad(in, weight, shape, a.stride, pad, a.dilation, groups);
    return bias.defined() ? y + reshape(bias, {-1, 1, 1}) : y;
  });
}

}  // namespace ops
}  // namespace lg
