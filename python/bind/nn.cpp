// nn.cpp: lightgrad._core.nn: the layers, initialisation and gradient clipping.
#include "modules.h"

namespace lg::python {
namespace {

using Device = std::optional<std::string>;
using OptDType = std::optional<DType>;

// Layers whose parameters can be made with another dtype take PyTorch's device and dtype, too.
template <class T, class Make, class... Extra>
void constructor(nb::class_<T, Module>& c, Make make, const Extra&... extra) {
  c.def("__init__", make, extra..., "device"_a.none() = nb::none(), "dtype"_a.none() = nb::none());
}
template <class T>
nb::class_<T, Module> layer_class(nb::module_& m, const char* name, const char* doc) {
  nb::class_<T, Module> c(m, name, nb::type_slots(module_slots), doc);
  c.def("__deepcopy__", &deepcopy<T>, "memo"_a);
  nn::class_of<T>.name = name;
  return c;
}

void bind_parameter_layers(nb::module_& m) {
  auto linear =
      layer_class<nn::Linear>(m, "Linear",
                              "y = x weight^T + bias; weight [out_features, in_features]. With an "
                              "activation ('relu', 'gelu', 'gelu_tanh', 'silu', 'sigmoid' or "
                              "'tanh') that of it, in the same pass over memory.");
  linear.def(
      "__init__",
      [](nb::pointer_and_handle<nn::Linear> self, std::int64_t in, std::int64_t out, bool bias,
         const Device& device, OptDType dtype, const std::optional<std::string>& activation) {
        check_device(device);
        build<nn::Linear>(self.h, in, out, bias, activation.value_or(""), dtype);
      },
      "in_features"_a, "out_features"_a, "bias"_a = true, "device"_a.none() = nb::none(),
      "dtype"_a.none() = nb::none(), nb::kw_only(), "activation"_a.none() = nb::none());
  linear.def_ro("in_features", &nn::Linear::in_features)
      .def_ro("out_features", &nn::Linear::out_features)
      .def_ro("activation", &nn::Linear::activation);
  linear.def("reset_parameters", &nn::Linear::reset_parameters);
  bind_forward<nn::Linear>(linear, nn::signature_t<nn::Linear>(), "x"_a);

  auto mlp = layer_class<nn::FusedMlp>(
      m, "FusedMLP", "LayerNorm(ReLU(x weight^T + bias)) gamma + beta as one operation.");
  constructor(
      mlp,
      [](nb::pointer_and_handle<nn::FusedMlp> self, std::int64_t in, std::int64_t out, double eps,
         const Device& device, OptDType dtype) {
        check_device(device);
        build<nn::FusedMlp>(self.h, in, out, eps, dtype);
      },
      "in_features"_a, "out_features"_a, "eps"_a = 1e-5);
  mlp.def_ro("in_features", &nn::FusedMlp::in_features)
      .def_ro("out_features", &nn::FusedMlp::out_features)
      .def_rw("eps", &nn::FusedMlp::eps);
  mlp.def("reset_parameters", &nn::FusedMlp::reset_parameters);
  bind_forward<nn::FusedMlp>(mlp, nn::signature_t<nn::FusedMlp>(), "x"_a);

  auto norm = layer_class<nn::LayerNorm>(m, "LayerNorm",
                                         "Normalises over the last dimensions, normalized_shape.");
  constructor(
      norm,
      [](nb::pointer_and_handle<nn::LayerNorm> self, const Shape& shape, double eps, bool affine,
         bool bias, const Device& device, OptDType dtype) {
        check_device(device);
        build<nn::LayerNorm>(self.h, shape, eps, affine, bias, dtype);
      },
      "normalized_shape"_a, "eps"_a = 1e-5, "elementwise_affine"_a = true, "bias"_a = true);
  norm.def_ro("normalized_shape", &nn::LayerNorm::normalized_shape)
      .def_rw("eps", &nn::LayerNorm::eps);
  norm.def("reset_parameters", &nn::LayerNorm::reset_parameters);
  bind_forward<nn::LayerNorm>(norm, nn::signature_t<nn::LayerNorm>(), "x"_a);

  auto embedding = layer_class<nn::Embedding>(
      m, "Embedding", "Rows of a table weight [num_embeddings, embedding_dim].");
  constructor(
      embedding,
      [](nb::pointer_and_handle<nn::Embedding> self, std::int64_t count, std::int64_t width,
         std::optional<std::int64_t> padding_idx, const Device& device, OptDType dtype) {
        check_device(device);
        build<nn::Embedding>(self.h, count, width, padding_idx, dtype);
      },
      "num_embeddings"_a, "embedding_dim"_a, "padding_idx"_a.none() = nb::none());
  embedding.def_ro("num_embeddings", &nn::Embedding::num_embeddings)
      .def_ro("embedding_dim", &nn::Embedding::embedding_dim)
      .def_ro("padding_idx", &nn::Embedding::padding_idx)
      .def("reset_parameters", &nn::Embedding::reset_parameters);
  bind_forward<nn::Embedding>(embedding, nn::signature_t<nn::Embedding>(), "x"_a);
}

std::pair<Tensor, Tensor> attention_override(Module& m, const Tensor& q, const Tensor& k,
                                             const Tensor& v, const nn::AttentionOptions& o) {
  nb::gil_scoped_acquire lock;
  nb::object f = override_of(self_of(m), forward_name, nb::type<nn::MultiheadAttention>());
  if (!f.is_valid()) return static_cast<nn::MultiheadAttention&>(m).forward(q, k, v, o);
  return with_path([&] {
    nb::object r =
        f(q, k, v, "key_padding_mask"_a = nb::cast(o.key_padding_mask),
          "need_weights"_a = o.need_weights, "attn_mask"_a = nb::cast(o.attn_mask),
          "average_attn_weights"_a = o.average_attn_weights, "is_causal"_a = o.is_causal);
    return std::pair(nb::cast<Tensor>(r[0]), nb::cast<MaybeTensor>(r[1]).t);
  });
}

void bind_attention(nb::module_& m) {
  using T = nn::MultiheadAttention;
  auto c = layer_class<T>(m, "MultiheadAttention",
                          "Attention of several heads. Gives (output, weights); the weights are "
                          "None unless need_weights.");
  constructor(
      c,
      [](nb::pointer_and_handle<T> self, std::int64_t width, std::int64_t heads, double dropout,
         bool bias, bool batch_first, const Device& device, OptDType dtype) {
        check_device(device);
        build<T>(self.h, width, heads, dropout, bias, batch_first, dtype);
      },
      "embed_dim"_a, "num_heads"_a, "dropout"_a = 0.0, "bias"_a = true, "batch_first"_a = false);
  c.def_ro("embed_dim", &T::embed_dim)
      .def_ro("num_heads", &T::num_heads)
      .def_ro("batch_first", &T::batch_first);
  c.def_rw("dropout", &T::dropout);
  nn::class_of<T>.overridable = reinterpret_cast<void (*)()>(&attention_override);
  c.def(
      "forward",
      [](T& t, const Tensor& q, const Tensor& k, const Tensor& v, const MaybeTensor& padding,
         bool weights, const MaybeTensor& mask, bool average, bool causal) {
        return t.forward(q, k, v, {padding.t, mask.t, weights, average, causal});
      },
      "query"_a, "key"_a, "value"_a, "key_padding_mask"_a.none() = nb::none(),
      "need_weights"_a = false, "attn_mask"_a.none() = nb::none(), "average_attn_weights"_a = true,
      "is_causal"_a = false);
}

void bind_activations(nb::module_& m) {
  plain_layer<nn::Identity>(m, "Identity", "x itself.", Arguments<>());
  plain_layer<nn::ReLU>(m, "ReLU", "max(x, 0).", Arguments<>());
  plain_layer<nn::SiLU>(m, "SiLU", "x sigmoid(x).", Arguments<>());
  plain_layer<nn::Tanh>(m, "Tanh", "tanh(x).", Arguments<>());
  plain_layer<nn::Sigmoid>(m, "Sigmoid", "1 / (1 + e^-x).", Arguments<>());
  plain_layer<nn::GELU>(
      m, "GELU", "x times the normal distribution function of x; approximate is 'none' or 'tanh'.",
      Arguments<std::string>(), "approximate"_a = "none")
      .def_ro("approximate", &nn::GELU::approximate);
  plain_layer<nn::Softmax>(m, "Softmax", "Shares that sum to 1 along dim.",
                           Arguments<std::int64_t>(), "dim"_a = -1)
      .def_rw("dim", &nn::Softmax::dim);
  plain_layer<nn::LogSoftmax>(m, "LogSoftmax", "ln of softmax along dim.",
                              Arguments<std::int64_t>(), "dim"_a = -1)
      .def_rw("dim", &nn::LogSoftmax::dim);
  plain_layer<nn::LeakyReLU>(m, "LeakyReLU", "x, or negative_slope x below 0.", Arguments<double>(),
                             "negative_slope"_a = 0.01)
      .def_rw("negative_slope", &nn::LeakyReLU::negative_slope);
  plain_layer<nn::ELU>(m, "ELU", "x, or alpha (e^x - 1) below 0.", Arguments<double>(),
                       "alpha"_a = 1.0)
      .def_rw("alpha", &nn::ELU::alpha);
  plain_layer<nn::Softplus>(m, "Softplus", "ln(1 + e^(beta x)) / beta.",
                            Arguments<double, double>(), "beta"_a = 1.0, "threshold"_a = 20.0)
      .def_ro("beta", &nn::Softplus::beta)
      .def_ro("threshold", &nn::Softplus::threshold);
  plain_layer<nn::Flatten>(m, "Flatten", "The dimensions start_dim to end_dim as one.",
                           Arguments<std::int64_t, std::int64_t>(), "start_dim"_a = 1,
                           "end_dim"_a = -1)
      .def_ro("start_dim", &nn::Flatten::start_dim)
      .def_ro("end_dim", &nn::Flatten::end_dim);
  plain_layer<nn::Dropout>(m, "Dropout", "While training, zeroes a share p of the elements.",
                           Arguments<double>(), "p"_a = 0.5)
      .def_rw("p", &nn::Dropout::p);
}

void bind_losses(nb::module_& m) {
  plain_layer<nn::MSELoss>(m, "MSELoss", "(x - target)^2, averaged.", Arguments<std::string>(),
                           "reduction"_a = "mean")
      .def_ro("reduction", &nn::MSELoss::reduction);
  auto cross_entropy =
      layer_class<nn::CrossEntropyLoss>(m, "CrossEntropyLoss", "-ln softmax(x)[target], averaged.");
  cross_entropy.def(
      "__init__",
      [](nb::pointer_and_handle<nn::CrossEntropyLoss> self, const MaybeTensor& weight,
         std::int64_t ignore_index, const std::string& reduction, double smoothing) {
        build<nn::CrossEntropyLoss>(self.h, weight.t, ignore_index, reduction, smoothing);
      },
      "weight"_a.none() = nb::none(), "ignore_index"_a = -100, "reduction"_a = "mean",
      "label_smoothing"_a = 0.0);
  bind_forward<nn::CrossEntropyLoss>(cross_entropy, nn::signature_t<nn::CrossEntropyLoss>(), "x"_a,
                                     "target"_a);
  auto nll =
      layer_class<nn::NLLLoss>(m, "NLLLoss", "-x[target], averaged; x are log-probabilities.");
  nll.def(
      "__init__",
      [](nb::pointer_and_handle<nn::NLLLoss> self, const MaybeTensor& weight,
         std::int64_t ignore_index, const std::string& reduction) {
        build<nn::NLLLoss>(self.h, weight.t, ignore_index, reduction);
      },
      "weight"_a.none() = nb::none(), "ignore_index"_a = -100, "reduction"_a = "mean");
  bind_forward<nn::NLLLoss>(nll, nn::signature_t<nn::NLLLoss>(), "x"_a, "target"_a);
}

void bind_init(nb::module_& m) {
  using namespace nn::init;
  m.def("uniform_", &uniform_, "tensor"_a, "a"_a = 0.0, "b"_a = 1.0);
  m.def("normal_", &normal_, "tensor"_a, "mean"_a = 0.0, "std"_a = 1.0);
  m.def("trunc_normal_", &trunc_normal_, "tensor"_a, "mean"_a = 0.0, "std"_a = 1.0, "a"_a = -2.0,
        "b"_a = 2.0);
  m.def("constant_", &constant_, "tensor"_a, "val"_a);
  m.def("zeros_", &zeros_, "tensor"_a);
  m.def("ones_", &ones_, "tensor"_a);
  m.def("xavier_uniform_", &xavier_uniform_, "tensor"_a, "gain"_a = 1.0);
  m.def("xavier_normal_", &xavier_normal_, "tensor"_a, "gain"_a = 1.0);
  m.def("orthogonal_", &orthogonal_, "tensor"_a, "gain"_a = 1.0);
  const auto kaiming = [&](const char* name, auto* f) {
    m.def(
        name,
        [f](const Tensor& x, double a, const std::string& mode, const std::string& nonlinearity) {
          return f(x, a, mode, nonlinearity);
        },
        "tensor"_a, "a"_a = 0.0, "mode"_a = "fan_in", "nonlinearity"_a = "leaky_relu");
  };
  kaiming("kaiming_uniform_", &kaiming_uniform_);
  kaiming("kaiming_normal_", &kaiming_normal_);
  m.def(
      "calculate_gain",
      [](const std::string& nonlinearity, std::optional<double> param) {
        return calculate_gain(nonlinearity, param.value_or(0.01));
      },
      "nonlinearity"_a, "param"_a.none() = nb::none());
}

void bind_utils(nb::module_& m) {
  m.def(
      "clip_grad_norm_",
      [](nb::handle parameters, double max_norm, double norm_type, bool error_if_nonfinite) {
        return Tensor(full({}, nn::utils::clip_grad_norm_(tensors_from(parameters), max_norm,
                                                          norm_type, error_if_nonfinite)));
      },
      "parameters"_a, "max_norm"_a, "norm_type"_a = 2.0, "error_if_nonfinite"_a = false,
      "Scales all gradients so that their joint norm is at most max_norm; returns the norm that it "
      "was.");
  m.def(
      "clip_grad_value_",
      [](nb::handle parameters, double limit) {
        nn::utils::clip_grad_value_(tensors_from(parameters), limit);
      },
      "parameters"_a, "clip_value"_a,
      "Every element of every gradient into [-clip_value, clip_value].");
  const char* const fuse =
      "A convolution that gives bn(conv(x)), both in evaluation: bn's running statistics and scale "
      "go into its weight and bias. Both stay as they are.";
  m.def(
      "fuse_conv_bn_eval",
      [](const nn::Conv1d& conv, const nn::BatchNorm1d& bn) {
        return nn::utils::fuse_conv_bn_eval(conv, bn);
      },
      "conv"_a, "bn"_a, fuse);
  m.def(
      "fuse_conv_bn_eval",
      [](const nn::Conv2d& conv, const nn::BatchNorm2d& bn) {
        return nn::utils::fuse_conv_bn_eval(conv, bn);
      },
      "conv"_a, "bn"_a, fuse);
}

}  // namespace

std::vector<Tensor> tensors_from(nb::handle one_or_many) {
  std::vector<Tensor> out;
  if (is_tensor(one_or_many.ptr())) return {tensor_of(one_or_many.ptr())};
  for (nb::handle h : one_or_many) out.push_back(nb::cast<Tensor>(h));
  return out;
}

void bind_nn(nb::module_& m) {
  nb::module_ nn = m.def_submodule("nn", "Modules: layers and models.");
  bind_module_class(nn);
  bind_parameter_layers(nn);
  bind_attention(nn);
  bind_activations(nn);
  bind_losses(nn);
  bind_containers(nn);
  bind_image_layers(nn);
  bind_image_functions(m);
  nb::module_ init = nn.def_submodule("init", "How parameters start.");
  bind_init(init);
  nb::module_ utils = nn.def_submodule("utils", "Gradient clipping.");
  bind_utils(utils);
}

}  // namespace lg::python
