// nn_images.cpp: the layers for images: convolutions, normalisation of channels; and batch_norm,
// which has too many inputs to be a row of the table.
#include "modules.h"

namespace lg::python {
namespace {

using Device = std::optional<std::string>;
using OptDType = std::optional<DType>;

void check_padding_mode(const std::string& mode) {
  if (mode != "zeros") {
    fail(ErrorKind::value, "Conv", "padding_mode is '", mode,
         "', expected 'zeros'; for others, pad x first (nn.functional.pad)");
  }
}

template <class T>
nb::class_<T, nn::ConvBase> conv_class(nb::module_& m, const char* name, const char* doc) {
  nb::class_<T, nn::ConvBase> c(m, name, nb::type_slots(module_slots), doc);
  c.def("__deepcopy__", &deepcopy<T>, "memo"_a);
  nn::class_of<T>.name = name;
  bind_forward<T>(c, nn::signature_t<T>(), "x"_a);
  return c;
}

template <class T>
nb::class_<T, Module> layer_class(nb::module_& m, const char* name, const char* doc) {
  nb::class_<T, Module> c(m, name, nb::type_slots(module_slots), doc);
  c.def("__deepcopy__", &deepcopy<T>, "memo"_a);
  nn::class_of<T>.name = name;
  bind_forward<T>(c, nn::signature_t<T>(), "x"_a);
  return c;
}

void bind_convolutions(nb::module_& m) {
  nb::class_<nn::ConvBase, Module> base(m, "_Conv", nb::type_slots(module_slots),
                                        "What the convolutions share.");
  base.def_ro("in_channels", &nn::ConvBase::in_channels)
      .def_ro("out_channels", &nn::ConvBase::out_channels)
      .def_ro("kernel_size", &nn::ConvBase::kernel_size)
      .def_ro("stride", &nn::ConvBase::stride)
      .def_ro("padding", &nn::ConvBase::padding)
      .def_ro("dilation", &nn::ConvBase::dilation)
      .def_ro("groups", &nn::ConvBase::groups)
      .def("reset_parameters", &nn::ConvBase::reset_parameters);
  const auto constructor = [](auto c, auto type) {
    using T = typename decltype(type)::type;
    c.def(
        "__init__",
        [](nb::pointer_and_handle<T> self, std::int64_t in, std::int64_t out, const Shape& kernel,
           const Shape& stride, const Padding& padding, const Shape& dilation, std::int64_t groups,
           bool bias, const std::string& padding_mode, const Device& device, OptDType dtype) {
          check_device(device);
          check_padding_mode(padding_mode);
          build<T>(self.h, in, out, nn::Sizes(kernel),
                   nn::ConvOptions{stride, padding, dilation, groups, bias, dtype});
        },
        "in_channels"_a, "out_channels"_a, "kernel_size"_a, "stride"_a = 1, "padding"_a = 0,
        "dilation"_a = 1, "groups"_a = 1, "bias"_a = true, "padding_mode"_a = "zeros",
        "device"_a.none() = nb::none(), "dtype"_a.none() = nb::none());
  };
  constructor(conv_class<nn::Conv1d>(m, "Conv1d", "Convolution of x [N, C, W] or [C, W]."),
              std::type_identity<nn::Conv1d>());
  constructor(conv_class<nn::Conv2d>(m, "Conv2d", "Convolution of x [N, C, H, W] or [C, H, W]."),
              std::type_identity<nn::Conv2d>());
  using T = nn::ConvTranspose2d;
  conv_class<T>(m, "ConvTranspose2d", "Transposed convolution of x [N, C, H, W] or [C, H, W].")
      .def(
          "__init__",
          [](nb::pointer_and_handle<T> self, std::int64_t in, std::int64_t out, const Shape& kernel,
             const Shape& stride, const Shape& padding, const Shape& output_padding,
             std::int64_t groups, bool bias, const Shape& dilation, const std::string& padding_mode,
             const Device& device, OptDType dtype) {
            check_device(device);
            check_padding_mode(padding_mode);
            build<T>(self.h, in, out, nn::Sizes(kernel),
                     nn::ConvOptions{stride, padding, dilation, groups, bias, dtype},
                     nn::Sizes(output_padding));
          },
          "in_channels"_a, "out_channels"_a, "kernel_size"_a, "stride"_a = 1, "padding"_a = 0,
          "output_padding"_a = 0, "groups"_a = 1, "bias"_a = true, "dilation"_a = 1,
          "padding_mode"_a = "zeros", "device"_a.none() = nb::none(), "dtype"_a.none() = nb::none())
      .def_ro("output_padding", &T::output_padding);
}

template <class T> void bind_batch_norm(nb::module_& m, const char* name, const char* doc) {
  nb::class_<T, nn::BatchNormBase> c(m, name, nb::type_slots(module_slots), doc);
  c.def("__deepcopy__", &deepcopy<T>, "memo"_a);
  nn::class_of<T>.name = name;
  bind_forward<T>(c, nn::signature_t<T>(), "x"_a);
  c.def(
      "__init__",
      [](nb::pointer_and_handle<T> self, std::int64_t features, double eps,
         std::optional<double> momentum, bool affine, bool track, const Device& device,
         OptDType dtype) {
        check_device(device);
        build<T>(self.h, features, nn::BatchNormOptions{eps, momentum, affine, track, dtype});
      },
      "num_features"_a, "eps"_a = 1e-5, "momentum"_a.none() = 0.1, "affine"_a = true,
      "track_running_stats"_a = true, "device"_a.none() = nb::none(),
      "dtype"_a.none() = nb::none());
}

void bind_normalizations(nb::module_& m) {
  using Base = nn::BatchNormBase;
  nb::class_<Base, Module>(m, "_BatchNorm", nb::type_slots(module_slots),
                           "What the batch normalisations share.")
      .def_ro("num_features", &Base::num_features)
      .def_rw("eps", &Base::eps)
      .def_rw("momentum", &Base::momentum, nb::arg().none())
      .def("reset_parameters", &Base::reset_parameters)
      .def("reset_running_stats", &Base::reset_running_stats)
      .def(
          "relu",
          [](const Base& b, const Tensor& x, const MaybeTensor& residual) {
            return b.relu(x, residual.t);
          },
          "x"_a, "residual"_a.none() = nb::none(),
          "relu(self(x) + residual) in the pass that normalises.");
  bind_batch_norm<nn::BatchNorm1d>(m, "BatchNorm1d",
                                   "Normalises channels of x [N, C] or [N, C, W].");
  bind_batch_norm<nn::BatchNorm2d>(m, "BatchNorm2d", "Normalises channels of x [N, C, H, W].");

  using T = nn::GroupNorm;
  auto c = layer_class<T>(m, "GroupNorm",
                          "Normalises groups of channels of each sample of x [N, C, ...].");
  c.def(
      "__init__",
      [](nb::pointer_and_handle<T> self, std::int64_t groups, std::int64_t channels, double eps,
         bool affine, const Device& device, OptDType dtype) {
        check_device(device);
        build<T>(self.h, groups, channels, eps, affine, dtype);
      },
      "num_groups"_a, "num_channels"_a, "eps"_a = 1e-5, "affine"_a = true,
      "device"_a.none() = nb::none(), "dtype"_a.none() = nb::none());
  c.def_ro("num_groups", &T::num_groups).def_ro("num_channels", &T::num_channels);
  c.def_rw("eps", &T::eps).def("reset_parameters", &T::reset_parameters);
}

using OptShape = std::optional<Shape>;

void bind_poolings(nb::module_& m) {
  auto max_pool = layer_class<nn::MaxPool2d>(m, "MaxPool2d", "The largest element of each window.");
  max_pool.def(
      "__init__",
      [](nb::pointer_and_handle<nn::MaxPool2d> self, const Shape& kernel, const OptShape& stride,
         const Shape& padding, const Shape& dilation, bool ceil_mode) {
        build<nn::MaxPool2d>(self.h, nn::Sizes(kernel),
                             nn::MaxPoolOptions{stride, padding, dilation, ceil_mode});
      },
      "kernel_size"_a, "stride"_a.none() = nb::none(), "padding"_a = 0, "dilation"_a = 1,
      "ceil_mode"_a = false);
  max_pool.def_ro("kernel_size", &nn::MaxPool2d::kernel_size);

  auto avg_pool = layer_class<nn::AvgPool2d>(m, "AvgPool2d", "The mean of each window.");
  avg_pool.def(
      "__init__",
      [](nb::pointer_and_handle<nn::AvgPool2d> self, const Shape& kernel, const OptShape& stride,
         const Shape& padding, bool ceil_mode, bool count_include_pad,
         std::optional<std::int64_t> divisor) {
        build<nn::AvgPool2d>(
            self.h, nn::Sizes(kernel),
            nn::AvgPoolOptions{stride, padding, ceil_mode, count_include_pad, divisor});
      },
      "kernel_size"_a, "stride"_a.none() = nb::none(), "padding"_a = 0, "ceil_mode"_a = false,
      "count_include_pad"_a = true, "divisor_override"_a.none() = nb::none());
  avg_pool.def_ro("kernel_size", &nn::AvgPool2d::kernel_size);

  auto adaptive = layer_class<nn::AdaptiveAvgPool2d>(
      m, "AdaptiveAvgPool2d", "Means over windows that share x out among output_size places.");
  adaptive.def(
      "__init__",
      [](nb::pointer_and_handle<nn::AdaptiveAvgPool2d> self, const Shape& size) {
        build<nn::AdaptiveAvgPool2d>(self.h, nn::Sizes(size));
      },
      "output_size"_a);
  adaptive.def_ro("output_size", &nn::AdaptiveAvgPool2d::output_size);

  auto upsample = layer_class<nn::Upsample>(m, "Upsample", "x at another size.");
  upsample.def(
      "__init__",
      [](nb::pointer_and_handle<nn::Upsample> self, const OptShape& size,
         const std::optional<Scale>& factor, const std::string& mode,
         std::optional<bool> align_corners) {
        build<nn::Upsample>(self.h, size, factor, mode, align_corners);
      },
      "size"_a.none() = nb::none(), "scale_factor"_a.none() = nb::none(), "mode"_a = "nearest",
      "align_corners"_a.none() = nb::none());
}

}  // namespace

void bind_image_layers(nb::module_& m) {
  bind_convolutions(m);
  bind_normalizations(m);
  bind_poolings(m);
}

void bind_image_functions(nb::module_& m) {
  m.def(
      "max_pool2d",
      [](const Tensor& x, const Shape& kernel, const OptShape& stride, const Shape& padding,
         const Shape& dilation, bool ceil_mode, bool return_indices) -> nb::object {
        Tensor y = max_pool2d(x, kernel, stride, padding, dilation, ceil_mode);
        if (!return_indices) return nb::cast(y);
        return nb::make_tuple(y,
                              max_pool2d_indices(x, kernel, stride, padding, dilation, ceil_mode));
      },
      "x"_a, "kernel_size"_a, "stride"_a.none() = nb::none(), "padding"_a = 0, "dilation"_a = 1,
      "ceil_mode"_a = false, "return_indices"_a,
      "with return_indices: also where in its plane each element stood");
  m.def(
      "batch_norm",
      [](const Tensor& x, const MaybeTensor& running_mean, const MaybeTensor& running_var,
         const MaybeTensor& weight, const MaybeTensor& bias, bool training, double momentum,
         double eps, const MaybeTensor& residual, bool relu) {
        return batch_norm(x, running_mean.t, running_var.t, weight.t, bias.t,
                          {training, momentum, eps, relu, residual.t});
      },
      "x"_a, "running_mean"_a.none(), "running_var"_a.none(), "weight"_a.none() = nb::none(),
      "bias"_a.none() = nb::none(), "training"_a = false, "momentum"_a = 0.1, "eps"_a = 1e-5,
      nb::kw_only(), "residual"_a.none() = nb::none(), "relu"_a = false,
      "x [N, C, ...] normalised per channel: in training by the batch, which the running "
      "statistics follow, else by those. residual is added and relu applied in the same pass.");
}

}  // namespace lg::python
