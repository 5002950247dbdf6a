// cuda_operations.cpp: what operations do on an NVIDIA device: each block's `forward_cuda` and
// `backward_cuda`, by Triton's kernels. Shapes and dtypes are checked as on the CPU.
#include "lightgrad/ops/cuda.h"
#include "lightgrad/ops/cuda_kernels.h"
#include "lightgrad/ops/ops.h"
#include "lightgrad/ops/run.h"

namespace lg {

namespace detail {

void fail_no_kernel(std::string_view operation, std::span<const Tensor* const> in) {
  std::string tensors;
  Device device;
  for (const Tensor* t : in) {
    if (!t->defined()) continue;
    tensors += tensors.empty() ? t->describe() : ", " + t->describe();
    if (t->device().type != DeviceType::cpu) device = t->device();
  }
  fail(ErrorKind::runtime, operation, "has no kernel for ", device, " (inputs ", tensors,
       "); move them with to(\"cpu\")");
}

namespace {

// A number of the program's becomes one on the device.
Tensor on_device(const Tensor& t, DType dtype, Device device) {
  if (!t.defined() || t.device() == device) return t;
  Tensor y = cuda::empty(t.shape(), dtype, device);
  const Tensor here = to(t.detach(), dtype);
  cuda::gpu(y).copy_in(y.raw_data(), here.raw_data(), size_of(dtype));
  return y;
}

bool is_half_or_float(DType t) { return t == DType::float32 || is_half(t); }

}  // namespace

Tensor pointwise_elsewhere(const PointwiseTraits& op, const double* attributes,
                           const Tensor* const* in, const Shape& shape, DType operands,
                           DType result, const Tensor* out) {
  constexpr const char* names[] = {"x", "y", "z"};
  Device device;
  for (int i = 0; i < op.arity; ++i)
    if (in[i]->device().type != DeviceType::cpu) device = in[i]->device();
  if (!is_half_or_float(operands))
    fail_no_kernel(op.name, {in, static_cast<std::size_t>(op.arity)});
  std::vector<cuda::Operand> list;
  for (int i = 0; i < op.arity; ++i) {
    Tensor t = on_device(*in[i], operands, device);
    if (t.dtype() != operands) t = cuda::contiguous(t, operands, op.name);
    list.push_back({names[i], std::move(t)});
  }
  Tensor y = cuda::empty(shape, result, device);
  if (shape.numel() > 0)
    cuda::pointwise(std::string(op.name), list, {attributes, op.attributes}, y, op.name);
  if (!out) return y;
  assign_elsewhere(*out, y);
  return *out;
}

Tensor pointwise_gradient_elsewhere(const PointwiseTraits& op, int which, const double* attributes,
                                    const Tensor& g, const Tensor* in, const Tensor& out) {
  constexpr const char *names[] = {"x", "y", "z"}, *ends[] = {"_vjp_x", "_vjp_y", "_vjp_z"};
  const Device device = g.device();
  std::vector<cuda::Operand> list{{"g", g}};
  const auto add = [&](const char* name, const Tensor& t) {
    if (!t.defined()) return;
    Tensor here = on_device(t, g.dtype(), device);
    if (here.dtype() != g.dtype()) here = cuda::contiguous(here, g.dtype(), op.name);
    list.push_back({name, std::move(here)});
  };
  for (int i = 0; i < op.arity; ++i) add(names[i], in[i]);
  add("y_out", out);
  Tensor y = cuda::empty(g.shape(), g.dtype(), device);
  if (g.numel() > 0)
    cuda::pointwise(std::string(op.name) + ends[which], list, {attributes, op.attributes}, y,
                    op.name);
  return y;
}

}  // namespace detail

namespace ops {
namespace {

using cuda::Epilogue;

void check_one_dtype(std::string_view operation, const Tensor& x, const Tensor& other,
                     const char* name) {
  if (other.defined() && other.dtype() != x.dtype()) {
    fail(ErrorKind::type, operation, name, " is ", name_of(other.dtype()), ", x is ",
         name_of(x.dtype()), "; expected one dtype");
  }
}

Tensor as_2d(const Tensor& x, std::int64_t columns, std::string_view operation) {
  const Tensor c = cuda::contiguous(x, operation);
  return c.view_as({columns ? c.numel() / columns : 0, columns}, {columns, 1});
}

Tensor shaped(const Tensor& t, const Shape& shape) {
  return t.view_as(shape, contiguous_strides(shape));
}

}  // namespace

Tensor Cast::forward_cuda(const Tensor& x) const {
  return x.dtype() == dtype ? x.copy() : cuda::contiguous(x, dtype, "to");
}

Tensor Sum::forward_cuda(const Tensor& x) const {
  const DType result = dtype.value_or(x.dtype());
  // All of it, or leading dimensions: what is left are columns.
  unsigned summed = dim.all ? ~0u : 0u;
  for (std::int64_t d : dim.list) summed |= 1u << normalize_axis(d, x.rank(), "sum");
  Shape shape;
  std::int64_t rows = 1, columns = 1;
  bool leading = true, over = true;
  for (int i = 0; i < x.rank(); ++i) {
    const bool is_summed = summed >> i & 1;
    leading &= over || !is_summed;
    over &= is_summed;
    (is_summed ? rows : columns) *= x.shape()[i];
    if (!is_summed)
      shape.push_back(x.shape()[i]);
    else if (keepdim)
      shape.push_back(1);
  }
  const Tensor* const in[] = {&x};
  if (!leading || !is_floating(result)) detail::fail_no_kernel("sum", in);
  Tensor wide = cuda::contiguous(x, DType::float32, "sum");
  if (columns == 1 && rows > 4096) {  // in two steps, by the size alone
    constexpr std::int64_t width = 1024;
    const std::int64_t whole = rows / width * width;
    const Tensor head =
        cuda::column_sums(wide.view_as({whole}, {1}), whole / width, width, DType::float32);
    const Tensor rest = wide.view_as({rows - whole}, {1}, whole);
    Tensor both = cuda::empty({width + rows - whole}, DType::float32, x.device());
    detail::assign_elsewhere(both.view_as({width}, {1}), head);
    detail::assign_elsewhere(both.view_as({rows - whole}, {1}, width), rest);
    wide = both;
    rows = width + rows - whole;
  }
  return shaped(cuda::column_sums(wide, rows, columns, result), shape);
}

Tensor SumTo::forward_cuda(const Tensor& x) const {
  if (x.shape() == shape) return x.detach();
  Axes dims{Shape()};
  const int lead = x.rank() - shape.rank();
  for (int i = 0; i < x.rank(); ++i) {
    if (i < lead || (shape[i - lead] == 1 && x.shape()[i] != 1)) dims.list.push_back(i);
  }
  return shaped(Sum{{}, dims, true, {}}.forward_cuda(x), shape);
}

Tensor BatchedMatmul::forward_cuda(const Tensor& x, const Tensor& y) const {
  const Tensor* const in[] = {&x, &y};
  if (x.rank() != 2 || y.rank() != 2) detail::fail_no_kernel("matmul", in);
  check_one_dtype("matmul", x, y, "y");
  if (x.size(1) != y.size(0)) {
    fail(ErrorKind::value, "matmul", "x has ", x.size(1), " columns, y has ", y.size(0),
         " rows (x ", x.shape(), ", y ", y.shape(), ")");
  }
  return cuda::matmul(cuda::matrix(x, "matmul"), cuda::matrix(y, "matmul"), x.size(0), y.size(1),
                      x.size(1), {}, Epilogue::none, "matmul");
}

Tensor Linear::forward_cuda(const Tensor& x, const Tensor& weight, const Tensor& bias) const {
  const Tensor* const in[] = {&x, &weight, &bias};
  if (weight.rank() != 2) detail::fail_no_kernel("linear", in);
  check_one_dtype("linear", x, weight, "weight");
  check_one_dtype("linear", x, bias, "bias");
  const std::int64_t n = weight.size(0), k = weight.size(1);
  if (x.rank() == 0 || x.size(-1) != k) {
    fail(ErrorKind::value, "linear", "x has ", x.rank() ? x.size(-1) : 0,
         " features, weight expects ", k, " (x ", x.shape(), ", weight ", weight.shape(), ")");
  }
  if (bias.defined() && !(bias.shape() == Shape{n}))
    fail(ErrorKind::value, "linear", "bias has shape ", bias.shape(), ", expected [", n, "]");
  Shape shape = x.shape();
  shape.back() = n;
  const std::int64_t m = n ? shape.numel() / n : 0;
  const Tensor rows = as_2d(x, k, "linear");
  const Tensor w = cuda::contiguous(weight, "linear"),
               b = bias.defined() ? cuda::contiguous(bias, "linear") : bias;
  return shaped(cuda::matmul({rows, k, false}, {w, k, true}, m, n, k, b, Epilogue::none, "linear"),
                shape);
}

namespace {

// From dz [..., n], the gradient of x weight^T + bias: those of x and weight. Of the one that is
// not needed only the sizes may be there.
void product_gradients(const Tensor& dz, const Tensor& x, const Tensor& weight, unsigned wanted,
                       std::span<Tensor> out, std::string_view operation) {
  if (!(wanted & 3)) return;
  const std::int64_t n = dz.size(-1), k = x.size(-1), m = n ? dz.numel() / n : 0;
  const Tensor rows = dz.view_as({m, n}, {n, 1});
  if (wanted & 1) {
    out[0] = shaped(cuda::matmul({rows, n, false}, {cuda::contiguous(weight, operation), k, false},
                                 m, k, n, {}, Epilogue::none, operation),
                    x.shape());
  }
  if (wanted & 2) {
    out[1] = cuda::matmul({rows, n, true}, {as_2d(x, k, operation), k, false}, n, k, m, {},
                          Epilogue::none, operation);
  }
}

}  // namespace

void Linear::backward_cuda(const Tensor& g, const Tensor* in, const Tensor&, unsigned wanted,
                           std::span<Tensor> out) const {
  const Tensor dz = cuda::contiguous(g, "linear");
  product_gradients(dz, in[0], in[1], wanted, out, "linear");
  if (wanted & 4) {
    const std::int64_t n = dz.size(-1);
    out[2] = cuda::column_sums(cuda::contiguous(dz, DType::float32, "linear"),
                               n ? dz.numel() / n : 0, n, in[2].dtype());
  }
}

Tensor LayerNorm::forward_cuda(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  check_one_dtype("layer_norm", x, weight, "weight");
  check_one_dtype("layer_norm", x, bias, "bias");
  const std::int64_t n = normalized_shape.numel(), m = n ? x.numel() / n : 0;
  bool fits = normalized_shape.rank() >= 1 && normalized_shape.rank() <= x.rank();
  for (int i = 1; i <= normalized_shape.rank() && fits; ++i)
    fits = x.size(-i) == normalized_shape[normalized_shape.rank() - i];
  for (const Tensor* t : {&weight, &bias}) fits &= !t->defined() || t->shape() == normalized_shape;
  if (!fits) {
    fail(ErrorKind::value, "layer_norm", "normalized_shape ", normalized_shape, " fits neither x ",
         x.shape(), " nor weight and bias");
  }
  const auto row_major = [](const Tensor& t) {
    return t.defined() ? cuda::contiguous(t, "layer_norm") : t;
  };
  const Tensor c = row_major(x), w = row_major(weight), b = row_major(bias);
  auto made = cuda::layer_norm(c, w, b, m, n, eps, "layer_norm");
  mean = made.mean;
  rstd = made.rstd;
  return made.y;
}

void LayerNorm::backward_cuda(const Tensor& g, const Tensor* in, const Tensor&, Wanted wanted,
                              Gradients out) const {
  const std::int64_t n = normalized_shape.numel(), m = n ? in[0].numel() / n : 0;
  const Tensor c = cuda::contiguous(g, "layer_norm"), x = cuda::contiguous(in[0], "layer_norm"),
               w = in[1].defined() ? cuda::contiguous(in[1], "layer_norm") : in[1];
  const auto made = cuda::layer_norm_backward(c, x, w, mean, rstd, false, m, n, "layer_norm");
  if (wanted & 1) out[0] = made.dx;
  if (wanted & 2) out[1] = shaped(made.total(0, in[0].dtype()), normalized_shape);
  if (wanted & 4) out[2] = shaped(made.total(1, in[0].dtype()), normalized_shape);
}

Tensor FusedMlp::forward_cuda(const Tensor& x, const Tensor& weight, const Tensor& bias,
                              const Tensor& gamma, const Tensor& beta) {
  constexpr std::string_view name = "fused_mlp";
  check(x, weight, bias, gamma, beta);
  const std::int64_t n = weight.size(0), k = weight.size(1);
  Shape shape = x.shape();
  shape.back() = n;
  const std::int64_t m = n ? shape.numel() / n : 0;
  // Copies live until the kernel that reads them is queued.
  const Tensor rows = as_2d(x, k, name), w = cuda::contiguous(weight, name),
               b = cuda::contiguous(bias, name), scale = cuda::contiguous(gamma, name),
               shift = cuda::contiguous(beta, name);
  const Tensor* const in[] = {&x, &weight, &bias, &gamma, &beta};
  const bool keep = autograd::grad_enabled && detail::any_requires_grad(in);
  const Device device = x.device();
  Tensor y = cuda::empty(shape, x.dtype(), device);
  hidden = keep ? cuda::empty(shape, x.dtype(), device) : y;
  mean = cuda::empty({m}, DType::float32, device);
  rstd = cuda::empty({m}, DType::float32, device);
  if (y.numel() == 0) return y;
  const bool ieee = x.dtype() == DType::float32 && !cuda::tf32_allowed();
  const cuda::Argument arguments[] = {
      cuda::pointer("x_ptr", rows, name),
      cuda::pointer("w_ptr", w, name),
      cuda::pointer("b_ptr", b, name),
      cuda::pointer("gamma_ptr", scale, name),
      cuda::pointer("beta_ptr", shift, name),
      cuda::pointer("y_ptr", y, name),
      cuda::pointer("h_ptr", hidden, name),
      cuda::pointer("mean_ptr", mean, name),
      cuda::pointer("rstd_ptr", rstd, name),
      cuda::Argument::integer("M", m),
      cuda::Argument::integer("N", n),
      cuda::Argument::integer("K", k),
      cuda::Argument::integer("ldx", k),
      cuda::Argument::integer("ldw", k),
      cuda::Argument::number("eps", eps),
      cuda::Argument::integer("keep", keep),
      cuda::Argument::choice("PRECISION", ieee ? "ieee" : "tf32"),
  };
  if (cuda::gpu(y).has("fused_mlp_forward", arguments)) {
    cuda::gpu(y).launch("fused_mlp_forward", arguments);
    return y;
  }
  // Too wide for one program: the product with its epilogue, then the rows.
  hidden =
      shaped(cuda::matmul({rows, k, false}, {w, k, true}, m, n, k, b, Epilogue::relu, name), shape);
  auto made = cuda::layer_norm(hidden, scale, shift, m, n, eps, name);
  mean = made.mean;
  rstd = made.rstd;
  return made.y;
}

void FusedMlp::backward_cuda(const Tensor& g, const Tensor* in, const Tensor&, unsigned wanted,
                             std::span<Tensor> out) const {
  constexpr std::string_view name = "fused_mlp";
  const std::int64_t n = in[1].size(0), m = n ? hidden.numel() / n : 0;
  const Tensor c = cuda::contiguous(g, name), scale = cuda::contiguous(in[3], name);
  const auto made = cuda::layer_norm_backward(c, hidden, scale, mean, rstd, true, m, n, name);
  product_gradients(made.dx, in[0], in[1], wanted, out, name);
  const DType dtype = in[0].dtype();
  if (wanted >> 2 & 1) out[2] = made.total(2, dtype);
  if (wanted >> 3 & 1) out[3] = made.total(0, dtype);
  if (wanted >> 4 & 1) out[4] = made.total(1, dtype);
}

}  // namespace ops
}  // namespace lg
