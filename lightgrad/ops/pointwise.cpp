// pointwise.cpp: what pointwise operations share: dtype promotion, broadcasting, and the call of
// their row kernels.
#include "lightgrad/ops/run.h"

namespace lg {

namespace {

int category(DType t) { return t == DType::bool_ ? 0 : is_integral(t) ? 1 : 2; }

// PyTorch's three ranks of operands: a lower rank has a say only when its kind of number is higher.
struct Promotion {
  std::optional<DType> of_tensors, of_zero_dim, of_weak;

  void add(const Tensor& t) {
    auto& slot = t.is_weak() ? of_weak : t.rank() == 0 ? of_zero_dim : of_tensors;
    const DType d = t.is_weak() && is_floating(t.dtype()) ? default_dtype() : t.dtype();
    slot = slot ? promote(*slot, d) : d;
  }
  static std::optional<DType> combine(std::optional<DType> higher, std::optional<DType> lower) {
    if (!higher) return lower;
    if (!lower || category(*higher) >= category(*lower)) return higher;
    return *higher == DType::bool_ || is_floating(*lower) ? promote(*higher, *lower) : *higher;
  }
  DType result() const {
    return combine(combine(of_tensors, of_zero_dim), of_weak).value_or(default_dtype());
  }
};

int compute_index(DType compute) {
  return compute == DType::float32 ? 0 : compute == DType::float64 ? 1 : 2;
}

kernels::Operand operand(const Tensor& t, const Shape& shape) {
  return {t.raw_data(), t.dtype(),
          t.shape() == shape ? t.strides() : broadcast_strides(t.shape(), t.strides(), shape)};
}

// Whether every element of t is the same place in memory.
bool is_one_value(const Tensor& t) {
  for (int i = 0; i < t.rank(); ++i)
    if (t.strides()[i] != 0 && t.shape()[i] != 1) return false;
  return true;
}

// The common case, and the one that must cost nothing: each operand is either row-major in the
// output's shape and of the compute type, or one value. Returns false when it is not so. A null
// operand is not read.
bool run_plain(kernels::Row row, const double* attributes, DType compute,
               std::span<const Tensor* const> in, const Tensor& out) {
  const void* pointers[kernels::max_operands] = {};
  double values[kernels::max_operands];  // a value of another dtype, converted
  unsigned scalars = 0;
  for (std::size_t i = 0; i < in.size(); ++i) {
    const Tensor* t = in[i];
    if (!t || !t->defined()) continue;
    pointers[i] = t->raw_data();
    if (t->dtype() == compute && t->shape() == out.shape() && t->is_contiguous()) continue;
    if (t->numel() != 1 && !(t->shape() == out.shape() && is_one_value(*t))) return false;
    scalars |= 1u << i;
    if (t->dtype() != compute) {
      kernels::convert_run(compute, &values[i], 1, t->dtype(), t->raw_data(), 1, 1);
      pointers[i] = &values[i];
    }
  }
  backend(out.device())
      .pointwise_plain(row, out.raw_data(), pointers, static_cast<int>(in.size()), scalars,
                       out.numel(), size_of(compute), attributes);
  return true;
}

// Sharing memory without being the very same elements: writing one would spoil the other.
bool overlaps(const Tensor& a, const Tensor& b) {
  return a.impl()->storage.get() == b.impl()->storage.get() &&
         !(a.impl()->offset == b.impl()->offset && a.strides() == b.strides() &&
           a.shape() == b.shape());
}

}  // namespace

DType result_type(std::span<const Tensor* const> in) {
  Promotion p;
  for (const Tensor* t : in) p.add(*t);
  return p.result();
}

namespace detail {

namespace {

struct Dtypes {
  DType compute, operands, result;
};

Dtypes dtypes_of(const PointwiseTraits& op, const Tensor* const* in) {
  DType t;
  if (op.arity == 1 && !in[0]->is_weak()) {
    t = in[0]->dtype();
  } else if (op.arity == 2 && in[0]->dtype() == in[1]->dtype() && !in[0]->is_weak() &&
             !in[1]->is_weak()) {
    t = in[0]->dtype();
  } else {
    const int first = op.is_where ? 1 : 0;
    if (op.is_where && in[0]->dtype() != DType::bool_) {
      fail(ErrorKind::type, op.name, "condition is ", in[0]->describe(), ", expected bool");
    }
    t = result_type({in + first, static_cast<std::size_t>(op.arity - first)});
  }
  if (op.rule == Rule::floating && is_integral(t)) t = default_dtype();
  if (op.rule == Rule::number && t == DType::bool_) t = DType::int64;
  return {compute_type(t), t, op.rule == Rule::comparison ? DType::bool_ : t};
}

}  // namespace

Tensor pointwise_forward(const PointwiseTraits& op, const double* attributes,
                         const Tensor* const* in, const Tensor* out) {
  const auto [compute, operands, result] = dtypes_of(op, in);
  Shape shape = in[0]->shape();
  for (int i = 1; i < op.arity; ++i) {
    if (!(in[i]->shape() == shape)) shape = broadcast(shape, in[i]->shape(), op.name);
  }
  check_device(op.name, {in, static_cast<std::size_t>(op.arity)});
  if (out) {
    if (!(shape == out->shape())) {
      fail(ErrorKind::value, op.name, "in place on ", out->describe(),
           ", but the result has shape ", shape);
    }
    if (category(result) > category(out->dtype())) {
      fail(ErrorKind::type, op.name, "in place on ", out->describe(), ", but the result is ",
           name_of(result));
    }
  }
  if (elsewhere({in, static_cast<std::size_t>(op.arity)})) [[unlikely]]
    return pointwise_elsewhere(op, attributes, in, shape, operands, result, out);
  const auto& rows = cpu_backend.pointwise_rows(op.index);
  const kernels::Row row = rows.forward[static_cast<std::size_t>(compute_index(compute))];
  Tensor y = out ? *out : Tensor::empty(shape, result);
  if (!out && result == compute &&
      run_plain(row, attributes, compute, {in, static_cast<std::size_t>(op.arity)}, y)) {
    return y;
  }
  kernels::Pointwise call;
  call.shape = shape;
  call.inputs = op.arity;
  call.compute = compute;
  call.row = row;
  call.attributes = attributes;
  call.out = operand(y, shape);
  Tensor hold[3];
  for (int i = 0; i < op.arity; ++i) {
    hold[i] = out && overlaps(*out, *in[i]) ? in[i]->copy() : *in[i];
    call.in[i] = operand(hold[i], shape);
  }
  if (shape.numel() > 0) backend(y.device()).pointwise(call);
  return y;
}

namespace {
// The bytes of t that are not the same place in memory; a weak number is part of the program.
double bytes_of(const Tensor& t) {
  if (!t.defined() || t.is_weak()) return 0;
  auto bytes = static_cast<double>(size_of(t.dtype()));
  for (int i = 0; i < t.rank(); ++i)
    if (t.strides()[i] != 0) bytes *= static_cast<double>(t.shape()[i]);
  return bytes;
}
}  // namespace

Tensor pointwise_watched(const PointwiseTraits& op, const double* attributes,
                         const Tensor* const* in, const Tensor* out) {
  watch::Work work(op.name, watch::Phase::forward);
  Tensor y = pointwise_forward(op, attributes, in, out);
  const std::span<const Tensor* const> inputs(in, static_cast<std::size_t>(op.arity));
  // A flop and a write for each element, whatever the formula, and every input read once.
  Cost cost{static_cast<double>(y.numel()), bytes_of(y)};
  for (const Tensor* t : inputs) cost.bytes += bytes_of(*t);
  if (out) {
    work.set(cost);
    work.set_shape(y.shape());
  } else {
    finish_watched(work, op.name, cost, false, y, inputs);
  }
  return y;
}

Tensor pointwise_gradient(const PointwiseTraits& op, int which, const double* attributes,
                          const Tensor& g, bool g_is_free, const Tensor* in, const Tensor& out,
                          const Meta& target) {
  if (elsewhere(g)) [[unlikely]]
    return reduce_to(pointwise_gradient_elsewhere(op, which, attributes, g, in, out), target);
  const DType compute = compute_type(g.dtype());
  const auto& rows = backend(g.device()).pointwise_rows(op.index);
  const bool same_shape = g.shape() == target.shape;
  const DType dtype = same_shape ? target.dtype : compute;
  const bool reuse = g_is_free && g.dtype() == dtype && dtype == compute && is_unshared(g);
  Tensor result = reuse ? g : Tensor::empty(g.shape(), dtype);
  if (watch::on(watch::profile)) [[unlikely]] {
    Cost cost{static_cast<double>(g.numel()), bytes_of(g) + bytes_of(out) + bytes_of(result)};
    for (int i = 0; i < op.arity; ++i) cost.bytes += bytes_of(in[i]);
    watch::add(cost);
  }
  const kernels::Row row =
      rows.vjp[static_cast<std::size_t>(which)][compute == DType::float32 ? 0 : 1];
  if (result.dtype() == compute) {
    const Tensor* operands[kernels::max_operands] = {&g};
    for (int i = 0; i < op.arity; ++i) operands[i + 1] = &in[i];
    operands[op.arity + 1] = &out;
    if (run_plain(row, attributes, compute, {operands, static_cast<std::size_t>(op.arity + 2)},
                  result)) {
      return same_shape ? result : reduce_to(std::move(result), target);
    }
  }
  kernels::Pointwise call;
  call.shape = g.shape();
  call.inputs = op.arity + 2;  // g, the inputs, the output
  call.compute = compute;
  call.row = row;
  call.attributes = attributes;
  call.out = operand(result, call.shape);
  call.in[0] = operand(g, call.shape);
  for (int i = 0; i < op.arity; ++i) {
    call.in[i + 1] =
        in[i].defined() ? operand(in[i], call.shape) : kernels::Operand{nullptr, compute, {}};
  }
  call.in[op.arity + 1] =
      out.defined() ? operand(out, call.shape) : kernels::Operand{nullptr, compute, {}};
  if (call.shape.numel() > 0) backend(g.device()).pointwise(call);
  return same_shape ? result : reduce_to(std::move(result), target);
}

Tensor reduce_to(Tensor g, const Meta& target) {
  if (!(g.shape() == target.shape)) g = sum_to(g, target.shape);
  return g.dtype() == target.dtype ? g : to(g, target.dtype);
}

}  // namespace detail
}  // namespace lg
