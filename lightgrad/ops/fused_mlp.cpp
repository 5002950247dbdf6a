#include "lightgrad/ops/fused_mlp.h"

#include "lightgrad/ops/float_kernels.h"
#include "lightgrad/ops/ops.h"
#include "lightgrad/ops/run.h"

namespace lg::ops {
void FusedMlp::check(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& gamma,
                     const Tensor& beta) {
  if (weight.rank() != 2) {
    fail(ErrorKind::value, "fused_mlp", "weight has shape ", weight.shape(),
         ", expected [out_features, in_features]");
  }
  if (x.rank() == 0 || x.size(-1) != weight.size(1)) {
    fail(ErrorKind::value, "fused_mlp", "x has ", x.rank() ? x.size(-1) : 0,
         " features, weight expects ", weight.size(1), " (x ", x.shape(), ", weight ",
         weight.shape(), ")");
  }
  if (!is_floating(x.dtype()))
    fail(ErrorKind::type, "fused_mlp", "x is ", x.describe(), ", expected a floating-point dtype");
  const Tensor* const others[] = {&weight, &bias, &gamma, &beta};
  for (int i = 0; i < 4; ++i) {
    const char* name = info.args[static_cast<std::size_t>(i + 1)];
    const Tensor& t = *others[i];
    if (t.dtype() != x.dtype()) {
      fail(ErrorKind::type, "fused_mlp", name, " is ", name_of(t.dtype()), ", x is ",
           name_of(x.dtype()), "; expected one dtype");
    }
    if (i > 0 && !(t.shape() == Shape{weight.size(0)})) {
      fail(ErrorKind::value, "fused_mlp", name, " has shape ", t.shape(), ", expected [",
           weight.size(0), "]");
    }
  }
}

namespace {

struct Sizes {
  std::int64_t m, n, k;
  Shape out;
  Sizes(const Tensor& x, const Tensor& weight) : n(weight.size(0)), k(weight.size(1)) {
    out = x.shape();
    out.back() = n;
    m = 1;
    for (int i = 0; i + 1 < out.rank(); ++i) m *= out[i];
  }
};

}  // namespace

Tensor FusedMlp::forward(const Tensor& x, const Tensor& weight, const Tensor& bias,
                         const Tensor& gamma, const Tensor& beta) {
  check(x, weight, bias, gamma, beta);
  const Sizes s(x, weight);
  const Tensor flat = x.contiguous_data(), b = bias.contiguous_data(),
               scale = gamma.contiguous_data(), shift = beta.contiguous_data();
  hidden = Tensor::empty(s.out, x.dtype());
  mean = Tensor::empty({s.m}, x.dtype());
  rstd = Tensor::empty({s.m}, x.dtype());
  const Tensor* const in[] = {&x, &weight, &bias, &gamma, &beta};
  const bool keep = autograd::grad_enabled && detail::any_requires_grad(in);
  Tensor y = keep ? Tensor::empty(s.out, x.dtype()) : hidden;
  if (y.numel() == 0) return y;
  with_floats(x, "fused_mlp", [&]<class T>(const auto& table, T) {
    kernels::Gemm<T> g{};
    g.m = s.m;
    g.n = s.n;
    g.k = s.k;
    g.a = flat.data<T>();
    g.a_row = s.k;
    g.a_col = 1;
    g.b = weight.data<T>();
    g.b_row = weight.strides()[1];
    g.b_col = weight.strides()[0];
    g.c = hidden.data<T>();
    g.c_row = s.n;
    g.bias = b.data<T>();
    g.activation = backend(x.device())
                       .pointwise_rows(PointwiseOps::index<Relu>())
                       .forward[std::same_as<T, float> ? 0 : 1];
    table.gemm(g);
    table.layer_norm_forward(hidden.data<T>(), scale.data<T>(), shift.data<T>(), y.data<T>(),
                             mean.data<T>(), rstd.data<T>(), s.m, s.n, eps);
  });
  return y;
}

void FusedMlp::backward(const Tensor& g, const Tensor* in, const Tensor& y, unsigned wanted,
                        std::span<Tensor> out) const {
  const Tensor &x = in[0], &weight = in[1], &bias = in[2];
  const Sizes s(x, weight);
  const Tensor c = g.contiguous_data(), scale = in[3].contiguous_data();
  Tensor dh = Tensor::empty(s.out, g.dtype());
  if (wanted >> 3 & 1) out[3] = Tensor::empty({s.n}, g.dtype());
  if (wanted >> 4 & 1) out[4] = Tensor::empty({s.n}, g.dtype());
  with_floats(g, "fused_mlp", [&]<class T>(const auto& table, T) {
    table.layer_norm_backward(c.data<T>(), hidden.data<T>(), scale.data<T>(), mean.data<T>(),
                              rstd.data<T>(), dh.data<T>(), false,
                              wanted >> 3 & 1 ? out[3].data<T>() : nullptr,
                              wanted >> 4 & 1 ? out[4].data<T>() : nullptr, s.m, s.n);
  });
  if (!(wanted & 0b111)) return;
  // Where the layer gave 0, nothing goes back; in place.
  const Tensor before[] = {Tensor()};
  const Tensor dz = detail::pointwise_gradient(detail::traits<Relu>(), 0, nullptr, dh, true, before,
                                               hidden, {s.out, g.dtype()});
  const Tensor linear_in[] = {x, weight, bias};
  Linear{}.backward(dz, linear_in, y, wanted & 0b111, out.first(3));
}

Tensor FusedMlp::composite(const Tensor& x, const Tensor& weight, const Tensor& bias,
                           const Tensor& gamma, const Tensor& beta) const {
  return layer_norm(relu(linear(x, weight, bias)), {weight.size(0)}, gamma, beta, eps);
}

}  // namespace lg::ops
