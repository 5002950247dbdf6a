#include "lightgrad/ops/matmul.h"

#include "lightgrad/backend/backend.h"
#include "lightgrad/base/watch.h"
#include "lightgrad/ops/creation.h"
#include "lightgrad/ops/float_kernels.h"
#include "lightgrad/ops/ops.h"
#include "lightgrad/ops/run.h"

namespace lg {

Tensor as_rows(const Tensor& x) {
  if (x.rank() == 2) return x;
  Shape lead = x.shape();
  lead.pop_back();
  return reshape(
      x, {lead.numel(), x.shape().back()});  // not -1, which rows of no elements cannot answer
}

Tensor as_column(const Tensor& x, bool vector) { return vector ? unsqueeze(x, -1) : x; }

Tensor bmm_to(const Tensor& x, const Tensor& y, const Shape& shape) {
  const Shape batch = broadcast(leading(x.shape(), 2), leading(y.shape(), 2), "matmul");
  if (batch == leading(shape, 2)) return bmm(x, y);
  const auto wide = [](const Tensor& t) { return is_half(t.dtype()) ? to(t, DType::float32) : t; };
  return sum_to(bmm(wide(x), wide(y)), shape);
}

namespace {

void check_same_dtype(const Tensor& x, const Tensor& y, std::string_view name, const char* y_name) {
  if (x.dtype() != y.dtype()) {
    fail(ErrorKind::type, name, "x is ", name_of(x.dtype()), ", ", y_name, " is ",
         name_of(y.dtype()), ", expected one dtype; convert one with to()");
  }
}

// Offsets of every matrix of a stack in the broadcast leading shape.
void batch_offsets(const Shape& batch, const Shape& strides, std::vector<std::int64_t>& out) {
  out.assign(static_cast<std::size_t>(batch.numel()), 0);
  std::int64_t index[max_rank] = {}, at = 0;
  for (auto& o : out) {
    o = at;
    for (int d = batch.rank(); d-- > 0;) {
      at += strides[d];
      if (++index[d] < batch[d]) break;
      at -= strides[d] * batch[d];
      index[d] = 0;
    }
  }
}

// Integer products have no kernel of their own: the plain loop.
void integer_product(const kernels::Gemm<std::int64_t>& g) {
  for (std::int64_t i = 0; i < g.m; ++i) {
    for (std::int64_t j = 0; j < g.n; ++j) {
      std::uint64_t sum = 0;
      for (std::int64_t k = 0; k < g.k; ++k) {
        sum += static_cast<std::uint64_t>(g.a[i * g.a_row + k * g.a_col]) *
               static_cast<std::uint64_t>(g.b[k * g.b_row + j * g.b_col]);
      }
      g.c[i * g.c_row + j] = static_cast<std::int64_t>(sum);
    }
  }
}

template <class T> void product(const Tensor& x, const Tensor& y, const Tensor& out) {
  const Shape batch = leading(out.shape(), 2);
  kernels::Gemm<T> g{};
  g.m = out.size(-2);
  g.n = out.size(-1);
  g.k = x.size(-1);
  g.a = x.data<T>();
  g.a_row = x.strides()[x.rank() - 2];
  g.a_col = x.strides()[x.rank() - 1];
  g.b = y.data<T>();
  g.b_row = y.strides()[y.rank() - 2];
  g.b_col = y.strides()[y.rank() - 1];
  g.c = out.data<T>();
  g.c_row = g.n;
  if (batch.numel() == 1) {
    if constexpr (std::same_as<T, std::int64_t>)
      integer_product(g);
    else
      backend(x.device()).of<T>().gemm(g);
    return;
  }
  // Kept by the thread, so that a steady training step allocates nothing.
  static thread_local std::vector<std::int64_t> a, b, c;
  auto offsets = [&](const Tensor& t, std::vector<std::int64_t>& o) {
    batch_offsets(batch, broadcast_strides(leading(t.shape(), 2), leading(t.strides(), 2), batch),
                  o);
  };
  offsets(x, a);
  offsets(y, b);
  offsets(out, c);
  if constexpr (std::same_as<T, std::int64_t>) {
    const kernels::Gemm<T> first = g;
    for (std::size_t i = 0; i < c.size(); ++i) {
      g.a = first.a + a[i];
      g.b = first.b + b[i];
      g.c = first.c + c[i];
      integer_product(g);
    }
  } else {
    backend(x.device()).of<T>().gemm_batched(g, batch.numel(), a.data(), b.data(), c.data());
  }
}

}  // namespace

namespace ops {

Tensor BatchedMatmul::forward(const Tensor& x, const Tensor& y) const {
  check_same_dtype(x, y, "matmul", "y");
  if (x.rank() < 2 || y.rank() < 2) {
    fail(ErrorKind::value, "bmm", "expected matrices, got x ", x.shape(), " and y ", y.shape());
  }
  if (x.size(-1) != y.size(-2)) {
    fail(ErrorKind::value, "matmul", "x has ", x.size(-1), " columns, y has ", y.size(-2),
         " rows (x ", x.shape(), ", y ", y.shape(), "), expected equal numbers");
  }
  Shape shape = broadcast(leading(x.shape(), 2), leading(y.shape(), 2), "matmul");
  shape.push_back(x.size(-2));
  shape.push_back(y.size(-1));
  const DType result = x.dtype();
  if (is_integral(result) && result != DType::int64) {
    Tensor wide = BatchedMatmul{}.forward(Cast{{}, DType::int64}.forward(x),
                                          Cast{{}, DType::int64}.forward(y));
    return Cast{{}, result}.forward(wide);
  }
  Tensor out = Tensor::empty(shape, result);
  if (out.numel() == 0) return out;
  if (result == DType::float32)
    product<float>(x, y, out);
  else if (result == DType::float64)
    product<double>(x, y, out);
  else if (result == DType::bfloat16)
    product<bfloat16>(x, y, out);
  else
    product<std::int64_t>(x, y, out);
  return out;
}

Tensor Matmul::forward(const Tensor& x, const Tensor& y) const {
  if (x.rank() == 0 || y.rank() == 0) {
    fail(ErrorKind::value, "matmul", "0-d tensors have no matrix product (x ", x.shape(), ", y ",
         y.shape(), "); use *");
  }
  if (x.rank() == 1 && y.rank() == 1 && x.numel() != y.numel()) {
    fail(ErrorKind::value, "matmul", "vectors of sizes ", x.numel(), " and ", y.numel(),
         ", expected equal sizes");
  }
  if (x.rank() == 1) {
    Tensor r = matmul(unsqueeze(x, 0), y.rank() == 1 ? unsqueeze(y, 1) : y);
    return y.rank() == 1 ? reshape(r, {}) : squeeze(r, -2);
  }
  if (y.rank() == 1) return squeeze(matmul(x, unsqueeze(y, 1)), -1);
  if (x.rank() > 2 && y.rank() == 2 && x.size(-1) == y.size(0)) {  // one product of all rows
    Shape shape = leading(x.shape(), 1);
    shape.push_back(y.size(1));
    return reshape(
        bmm(reshape(x, {x.numel() == 0 ? leading(x.shape(), 1).numel() : -1, x.size(-1)}), y),
        shape);
  }
  return bmm(x, y);
}

namespace {

// The functions that linear_activation knows, by what the pointwise operations are.
struct Activation {
  std::string_view name;
  Tensor (*function)(const Tensor& x);
  detail::PointwiseTraits traits;
  unsigned mentions;  // by the gradient; bit 0: x, bit 1: the output
};
template <class Op> Activation activation(std::string_view name) {
  return {name, [](const Tensor& x) { return run(Op{}, x); }, detail::traits<Op>(),
          mentioned<0, Op>()};
}

const Activation& find_activation(std::string_view operation, std::string_view name) {
  static const Activation activations[] = {
      activation<Relu>("relu"), activation<GeluErf>("gelu"),    activation<GeluTanh>("gelu_tanh"),
      activation<Silu>("silu"), activation<Sigmoid>("sigmoid"), activation<Tanh>("tanh")};
  for (const Activation& f : activations)
    if (f.name == name) return f;
  fail(ErrorKind::value, operation, "activation is \"", name,
       "\", expected \"relu\", \"gelu\", \"gelu_tanh\", \"silu\", \"sigmoid\" or \"tanh\"");
}

// x weight^T + bias, and with f that of it. before: where to leave what f was applied to, or none.
Tensor linear_forward(std::string_view name, const Tensor& x, const Tensor& weight,
                      const Tensor& bias, const Activation* f = nullptr, Tensor* before = nullptr) {
  if (weight.rank() != 1 && weight.rank() != 2) {
    fail(ErrorKind::value, name, "weight has shape ", weight.shape(),
         ", expected [out_features, in_features]");
  }
  if (x.rank() == 0 || x.size(-1) != weight.size(-1)) {
    fail(ErrorKind::value, name, "x has ", x.rank() ? x.size(-1) : 0, " features, weight expects ",
         weight.size(-1), " (x ", x.shape(), ", weight ", weight.shape(), ")");
  }
  if (!f && is_integral(x.dtype()) && is_integral(weight.dtype())) {
    const Tensor y = matmul(x, weight.rank() == 2 ? transpose(weight, 0, 1) : weight);
    return bias.defined() ? add(y, bias) : y;
  }
  check_same_dtype(x, weight, name, "weight");
  const std::int64_t out_features = weight.rank() == 2 ? weight.size(0) : 1;
  if (bias.defined()) {
    check_same_dtype(x, bias, name, "bias");
    const bool fits = bias.rank() == 0 ||
                      (bias.rank() == 1 && (bias.numel() == out_features || bias.numel() == 1));
    if (!fits)
      fail(ErrorKind::value, name, "bias has shape ", bias.shape(), ", expected [", out_features,
           "]");
  }
  Shape shape = leading(x.shape(), 1);
  if (weight.rank() == 2) shape.push_back(out_features);
  Tensor y = Tensor::empty(shape, x.dtype());
  if (before) *before = Tensor::empty(shape, x.dtype());
  // Rows in place where the leading dimensions run into one another.
  const bool rows = x.rank() == 2 || x.is_contiguous();
  const Tensor flat = rows ? x : x.copy();
  with_products(x, name, [&]<class T>(const auto& table, T) {
    if (y.numel() == 0) return;
    kernels::Gemm<T> g{};
    g.m = leading(x.shape(), 1).numel();
    g.n = out_features;
    g.k = x.size(-1);
    g.a = flat.data<T>();
    g.a_row = flat.rank() == 2 ? flat.strides()[0] : g.k;
    g.a_col = flat.strides().back();
    g.b = weight.data<T>();
    g.b_row = weight.strides().back();
    g.b_col = weight.rank() == 2 ? weight.strides()[0] : 1;
    g.c = before ? before->data<T>() : y.data<T>();
    g.c_row = g.n;
    const Tensor b = bias.defined() && (bias.numel() != g.n || !bias.is_contiguous())
                         ? Expand{{}, {g.n}}.forward(bias).copy()
                         : bias;
    if (b.defined()) g.bias = b.data<T>();
    if (f) {
      constexpr std::size_t type = std::same_as<T, double> ? 1 : 0;
      g.activation = backend(x.device()).pointwise_rows(f->traits.index).forward[type];
      g.activated = y.data<T>();
    }
    table.gemm(g);
  });
  return y;
}

}  // namespace

Tensor Linear::forward(const Tensor& x, const Tensor& weight, const Tensor& bias) const {
  return linear_forward("linear", x, weight, bias);
}

void check_activation(std::string_view operation, std::string_view activation) {
  find_activation(operation, activation);
}

bool LinearActivation::keeps_output() const {
  return find_activation(info.name, activation).mentions & 2;
}

Tensor LinearActivation::forward(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const Activation& f = find_activation(info.name, activation);
  if (is_integral(x.dtype()))
    fail(ErrorKind::type, info.name, "x is ", x.describe(), ", expected a floating-point dtype");
  const Tensor* const in[] = {&x, &weight, &bias};
  const bool keep = f.mentions & 1 && autograd::grad_enabled && detail::any_requires_grad(in);
  Tensor before;
  Tensor y = linear_forward(info.name, x, weight, bias, &f, keep ? &before : nullptr);
  if (keep) preactivation = SavedTensor(std::move(before));
  return y;
}

namespace {
// The gradient of what the activation was applied to.
Tensor before_activation(const LinearActivation& op, const Tensor& g, const Tensor& y) {
  const Tensor kept = op.preactivation.get();
  return detail::pointwise_gradient(find_activation(op.info.name, op.activation).traits, 0, nullptr,
                                    g, true, &kept, y, {g.shape(), g.dtype()});
}
}  // namespace

void LinearActivation::backward(const Tensor& g, const Tensor* in, const Tensor& y, unsigned wanted,
                                std::span<Tensor> out) const {
  Linear{}.backward(before_activation(*this, g, y), in, y, wanted, out);
}

Tensor LinearActivation::forward_cuda(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const Activation& f = find_activation(info.name, activation);
  const Tensor* const in[] = {&x, &weight, &bias};
  const Tensor before = Linear{}.forward_cuda(x, weight, bias);
  if (f.mentions & 1 && autograd::grad_enabled && detail::any_requires_grad(in))
    preactivation = SavedTensor(before);
  return f.function(before);
}

void LinearActivation::backward_cuda(const Tensor& g, const Tensor* in, const Tensor& y,
                                     unsigned wanted, std::span<Tensor> out) const {
  Linear{}.backward_cuda(before_activation(*this, g, y), in, y, wanted, out);
}

Tensor LinearActivation::composite(const Tensor& x, const Tensor& weight,
                                   const Tensor& bias) const {
  return find_activation(info.name, activation).function(lg::linear(x, weight, bias));
}

namespace {

// c = a b, or a^T b, of matrices; sums: those of a^T's rows.
void multiply(const Tensor& a, bool transposed, const Tensor& b, const Tensor& c,
              const Tensor& sums = {}) {
  with_products(b, "linear", [&]<class T>(const auto& table, T) {
    const int row = transposed ? 1 : 0, column = 1 - row;
    kernels::Gemm<T> g{};
    g.m = a.shape()[row];
    g.n = b.shape()[1];
    g.k = a.shape()[column];
    g.a = a.data<T>();
    g.a_row = a.strides()[row];
    g.a_col = a.strides()[column];
    g.b = b.data<T>();
    g.b_row = b.strides()[0];
    g.b_col = b.strides()[1];
    g.c = c.data<T>();
    g.c_row = g.n;
    if (sums.defined()) g.row_sums = sums.data<T>();
    table.gemm(g);
  });
}

}  // namespace

void Linear::backward(const Tensor& g, const Tensor* in, const Tensor& y, unsigned wanted,
                      std::span<Tensor> out) const {
  const Tensor &x = in[0], &weight = in[1], &bias = in[2];
  const Tensor rows = as_rows(as_column(g, weight.rank() == 1));
  const auto count = [](const Tensor& t) { return static_cast<double>(t.numel()); };
  Cost cost;
  if (wanted & 0b001) {
    out[0] = Tensor::empty(x.shape(), x.dtype());
    multiply(rows, false, as_rows(weight), out[0]);
    cost += {2 * count(rows) * static_cast<double>(weight.size(-1)),
             count(rows) + count(weight) + count(out[0])};
  }
  const bool both = (wanted & 0b110) == 0b110 && weight.numel() > 0;
  if (wanted & 0b010) {
    const Tensor xs = as_rows(x);
    out[1] = Tensor::empty(weight.shape(), weight.dtype());
    const Tensor sums = both ? Tensor::empty({rows.size(1)}, weight.dtype()) : Tensor();
    multiply(rows, true, xs, out[1], sums);
    if (both) out[2] = sums.shape() == bias.shape() ? sums : sum_to(sums, bias.shape());
    cost += {2 * count(rows) * static_cast<double>(xs.size(1)) + (both ? count(rows) : 0),
             count(rows) + count(xs) + count(out[1]) + (both ? count(sums) : 0)};
  }
  if (watch::on(watch::profile)) [[unlikely]] {
    cost.bytes *= static_cast<double>(size_of(g.dtype()));
    watch::add(cost);
  }
  if ((wanted & 0b100) && !both) out[2] = vjp_z(g, x, weight, bias, y);
}

}  // namespace ops
}  // namespace lg
