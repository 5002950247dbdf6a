#include "lightgrad/ops/reductions.h"

#include <algorithm>
#include <cmath>

#include "lightgrad/autograd/node.h"
#include "lightgrad/backend/backend.h"
#include "lightgrad/ops/creation.h"
#include "lightgrad/ops/ops.h"

namespace lg {
namespace {

// Bit d: dimension d is reduced. An empty list means all, as in PyTorch.
unsigned reduced_mask(const Axes& dim, int rank, std::string_view name) {
  if (dim.all || dim.list.empty()) return (1u << rank) - 1;
  unsigned mask = 0;
  for (auto axis : dim.list) {
    const int d = normalize_axis(axis, rank, name);
    if (mask >> d & 1)
      fail(ErrorKind::value, name, "dimension ", d, " is named twice in dim ", dim.list);
    mask |= 1u << d;
  }
  return mask;
}

// x brought to contiguous [outer, n, inner], and the shape of the result.
struct Layout {
  Tensor x;
  std::int64_t outer = 1, n = 1, inner = 1;
  Shape shape;
};

Layout layout(const Tensor& x, DType compute, const Axes& dim, bool keepdim,
              std::string_view name) {
  const unsigned mask = reduced_mask(dim, x.rank(), name);
  Layout l;
  int first = -1, last = -1;
  for (int d = 0; d < x.rank(); ++d) {
    if (mask >> d & 1) {
      if (first < 0) first = d;
      last = d;
      l.n *= x.shape()[d];
      if (keepdim) l.shape.push_back(1);
    } else {
      l.shape.push_back(x.shape()[d]);
    }
  }
  bool block = true;  // the reduced dimensions stand side by side
  for (int d = first; d >= 0 && d <= last; ++d) block &= (mask >> d & 1) || x.shape()[d] == 1;
  Tensor t = x;
  if (block) {
    for (int d = 0; d < x.rank(); ++d) {
      if (!(mask >> d & 1)) (first < 0 || d < first ? l.outer : l.inner) *= x.shape()[d];
    }
  } else {  // the kept ones first
    Shape order, rest;
    for (int d = 0; d < x.rank(); ++d) (mask >> d & 1 ? rest : order).push_back(d);
    for (auto d : order) l.outer *= x.shape()[static_cast<int>(d)];
    for (auto d : rest) order.push_back(d);
    t = ops::Permute{{}, order}.forward(x);
  }
  if (t.dtype() != compute) {
    Tensor c = Tensor::empty(t.shape(), compute);
    t.copy_out(c.raw_data(), compute);
    l.x = c;
  } else {
    l.x = t.contiguous_data();
  }
  return l;
}

// Calls f(T{}, kernels of T) for the compute type, and rounds the result to `result` once.
template <class F>
Tensor reduce(const Tensor& x, const Axes& dim, bool keepdim, std::string_view name, DType result,
              F&& f) {
  const DType compute =
      compute_type(is_floating(result) && !is_floating(x.dtype()) ? result : x.dtype());
  const Layout l = layout(x, compute, dim, keepdim, name);
  Tensor y = Tensor::empty(l.shape, compute);
  const Backend& b = backend(x.device());
  if (y.numel() > 0) {
    if (compute == DType::float32)
      f(b.float32, l, l.x.data<float>(), y.data<float>());
    else if (compute == DType::float64)
      f(b.float64, l, l.x.data<double>(), y.data<double>());
    else
      f(b.int64, l, l.x.data<std::int64_t>(), y.data<std::int64_t>());
  }
  return y.dtype() == result ? y : ops::Cast{{}, result}.forward(y);
}

// Sums, products and extremes take their dimensions in any order and in any number of steps: in
// memory's order, one group of neighbours after the other, nothing has to be copied.
template <class F>
Tensor fold(const Tensor& x, const Axes& dim, bool keepdim, std::string_view name, DType result,
            F&& f) {
  const unsigned mask = reduced_mask(dim, x.rank(), name);
  const auto groups = [&](const Shape& order) {
    int count = 0;
    for (int d = 0; d < x.rank(); ++d)
      count += (mask >> order[d] & 1) && !(d > 0 && mask >> order[d - 1] & 1);
    return count;
  };
  Shape order;
  for (int d = 0; d < x.rank(); ++d) order.push_back(d);
  if (compute_type(x.dtype()) != x.dtype() || x.numel() == 0 ||
      (x.is_contiguous() && groups(order) <= 1)) {
    return reduce(x, dim, keepdim, name, result, f);
  }
  std::sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    const auto of_a = x.strides()[static_cast<int>(a)], of_b = x.strides()[static_cast<int>(b)];
    return of_a != of_b ? of_a > of_b : a < b;
  });
  Tensor t = ops::Permute{{}, order}.forward(x);
  if (!t.is_contiguous()) return reduce(x, dim, keepdim, name, result, f);
  for (int end = x.rank(); end > 0;) {  // from the fastest dimension outwards
    Shape group;
    while (end > 0 && !(mask >> order[end - 1] & 1)) --end;
    while (end > 0 && mask >> order[end - 1] & 1) group.push_back(--end);
    if (!group.empty()) t = reduce(t, Axes(group), true, name, result, f);
  }
  Shape shape, back = order;
  for (int d = 0; d < x.rank(); ++d) {
    back[static_cast<int>(order[d])] = d;
    if (keepdim || !(mask >> d & 1)) shape.push_back(mask >> d & 1 ? 1 : x.shape()[d]);
  }
  return ops::Reshape{{}, shape}.forward(ops::Permute{{}, back}.forward(t).contiguous_data());
}

void check_not_empty(const Tensor& x, const Axes& dim, std::string_view name) {
  const unsigned mask = reduced_mask(dim, x.rank(), name);
  bool empty = false, kept_empty = false;
  for (int d = 0; d < x.rank(); ++d) {
    if (x.shape()[d] == 0) (mask >> d & 1 ? empty : kept_empty) = true;
  }
  if (empty && !kept_empty) {
    fail(ErrorKind::value, name, "of no elements (x ", x.shape(),
         "): it has no identity, expected at least one");
  }
}

DType float_result(DType t) { return is_floating(t) ? t : default_dtype(); }

template <class F>
Tensor arg(const Tensor& x, std::optional<std::int64_t> dim, bool keepdim, std::string_view name,
           F&& f) {
  const Axes axes = dim ? Axes(*dim) : Axes();
  check_not_empty(x, axes, name);
  const Layout l = layout(x, compute_type(x.dtype()), axes, keepdim, name);
  Tensor y = Tensor::empty(l.shape, DType::int64);
  const Backend& b = backend(x.device());
  if (y.numel() == 0) return y;
  auto* out = y.data<std::int64_t>();
  if (l.x.dtype() == DType::float32)
    f(b.float32, l, l.x.data<float>(), out);
  else if (l.x.dtype() == DType::float64)
    f(b.float64, l, l.x.data<double>(), out);
  else
    f(b.int64, l, l.x.data<std::int64_t>(), out);
  return y;
}

}  // namespace

Tensor restore_dims(const Tensor& y, const Tensor& x, const Axes& dim, bool keepdim) {
  if (keepdim || x.rank() == y.rank()) return y;
  const unsigned mask = reduced_mask(dim, x.rank(), "reduction");
  Shape shape = x.shape();
  for (int d = 0; d < x.rank(); ++d)
    if (mask >> d & 1) shape[d] = 1;
  return reshape(y, shape);
}

ValuesIndices pick(const Tensor& x, std::int64_t dim, const Tensor& indices) {
  return {gather(x, dim, indices), indices};
}

double reduced_count(const Tensor& x, const Axes& dim) {
  const unsigned mask = reduced_mask(dim, x.rank(), "reduction");
  double n = 1;
  for (int d = 0; d < x.rank(); ++d)
    if (mask >> d & 1) n *= static_cast<double>(x.shape()[d]);
  return n;
}

namespace ops {

Tensor Sum::forward(const Tensor& x) const {
  const DType result = dtype ? *dtype : is_integral(x.dtype()) ? DType::int64 : x.dtype();
  if (x.dtype() == DType::bool_ && result == DType::int64 && !keepdim && x.is_contiguous() &&
      reduced_mask(dim, x.rank(), "sum") == (1u << x.rank()) - 1) {
    Tensor y = Tensor::empty({}, result);
    *y.data<std::int64_t>() = backend(x.device()).count_nonzero(x.data<bool>(), x.numel());
    return y;
  }
  return fold(dtype && x.dtype() != result ? Cast{{}, result}.forward(x) : x, dim, keepdim, "sum",
              result, [](const auto& k, const Layout& l, const auto* p, auto* y) {
                k.reduce_sum(p, y, l.outer, l.n, l.inner);
              });
}

Tensor Mean::forward(const Tensor& x) const {
  if (!is_floating(x.dtype())) {
    fail(ErrorKind::type, "mean", "x is ", x.describe(), ", expected a floating-point dtype");
  }
  const NoGrad off;
  const double n = reduced_count(x, dim);
  if (is_half(x.dtype())) return to(div(sum(to(x, DType::float32), dim, keepdim), n), x.dtype());
  return div(sum(x, dim, keepdim), n);
}

Tensor Prod::forward(const Tensor& x) const {
  const DType result = is_integral(x.dtype()) ? DType::int64 : x.dtype();
  return fold(x, dim, keepdim, "prod", result,
              [](const auto& k, const Layout& l, const auto* p, auto* y) {
                k.reduce_prod(p, y, l.outer, l.n, l.inner);
              });
}

Tensor Prod::gradient(const Tensor& g, const Tensor& x, const Tensor& y) const {
  const bool zeros = [&] {
    NoGrad off;
    return lg::any(eq(x, 0)).item<bool>();
  }();
  Tensor gy = restore_dims(g, x, dim, keepdim);
  if (!zeros) return gy * (restore_dims(y, x, dim, keepdim) / x);
  // The product of the others, spelled out: each element's row has a 1 in its own place. Quadratic,
  // but right for any number of zeros and to any order.
  const unsigned mask = reduced_mask(dim, x.rank(), "prod");
  Shape order, back = Shape::filled(x.rank(), 0), kept;
  for (int d = 0; d < x.rank(); ++d)
    if (!(mask >> d & 1)) order.push_back(d), kept.push_back(x.shape()[d]);
  for (int d = 0; d < x.rank(); ++d)
    if (mask >> d & 1) order.push_back(d);
  for (int i = 0; i < x.rank(); ++i) back[static_cast<int>(order[i])] = i;
  Tensor moved = permute(x, order);
  const Shape moved_shape = moved.shape();
  const std::int64_t n = static_cast<std::int64_t>(reduced_count(x, dim));
  kept.push_back(n);
  Tensor rows = unsqueeze(reshape(moved, kept), -2);
  Tensor others = prod(where(eye(n, n, DType::bool_), 1, rows), -1);
  return gy * permute(reshape(others, moved_shape), back);
}

Tensor Amax::forward(const Tensor& x) const {
  check_not_empty(x, dim, "amax");
  return fold(x, dim, keepdim, "amax", x.dtype(),
              [](const auto& k, const Layout& l, const auto* p, auto* y) {
                k.reduce_max(p, y, l.outer, l.n, l.inner);
              });
}

Tensor Amin::forward(const Tensor& x) const {
  check_not_empty(x, dim, "amin");
  return fold(x, dim, keepdim, "amin", x.dtype(),
              [](const auto& k, const Layout& l, const auto* p, auto* y) {
                k.reduce_min(p, y, l.outer, l.n, l.inner);
              });
}

namespace {
ValuesIndices extreme(const Tensor& x, std::int64_t dim, bool keepdim, const Tensor& indices) {
  ValuesIndices r = pick(x, dim, indices);
  return keepdim || x.rank() == 0 ? r
                                  : ValuesIndices{squeeze(r.values, dim), squeeze(r.indices, dim)};
}
}  // namespace

ValuesIndices MaxAlong::forward(const Tensor& x) const {
  return extreme(x, dim, keepdim, argmax(x, dim, true));
}
ValuesIndices MinAlong::forward(const Tensor& x) const {
  return extreme(x, dim, keepdim, argmin(x, dim, true));
}

Tensor Argmax::forward(const Tensor& x) const {
  return arg(x, dim, keepdim, "argmax",
             [](const auto& k, const Layout& l, const auto* p, std::int64_t* y) {
               k.reduce_argmax(p, y, l.outer, l.n, l.inner);
             });
}

Tensor Argmin::forward(const Tensor& x) const {
  return arg(x, dim, keepdim, "argmin",
             [](const auto& k, const Layout& l, const auto* p, std::int64_t* y) {
               k.reduce_argmin(p, y, l.outer, l.n, l.inner);
             });
}

namespace {
// Reductions that only floating-point numbers have.
template <class F>
Tensor reduce_float(const Tensor& x, const Axes& dim, bool keepdim, std::string_view name, F&& f) {
  return reduce(x, dim, keepdim, name, float_result(x.dtype()),
                [&]<class T>(const auto& k, const Layout& l, const T* p, T* y) {
                  if constexpr (std::is_floating_point_v<T>) f(k, l, p, y);
                });
}
void check_float(const Tensor& x, std::string_view name) {
  if (!is_floating(x.dtype())) {
    fail(ErrorKind::type, name, "x is ", x.describe(), ", expected a floating-point dtype");
  }
}
}  // namespace

Tensor Var::forward(const Tensor& x) const {
  check_float(x, "var");
  return reduce_float(x, dim, keepdim, "var",
                      [&](const auto& k, const Layout& l, const auto* p, auto* y) {
                        k.reduce_var(p, y, l.outer, l.n, l.inner, correction);
                      });
}

Tensor Std::forward(const Tensor& x) const {
  check_float(x, "std");
  return lg::sqrt(Var{{}, dim, correction, keepdim}.forward(x));
}

Tensor LogSumExp::forward(const Tensor& x) const {
  return reduce_float(x, dim, keepdim, "logsumexp",
                      [](const auto& k, const Layout& l, const auto* p, auto* y) {
                        k.reduce_logsumexp(p, y, l.outer, l.n, l.inner);
                      });
}

Tensor Norm::forward(const Tensor& x) const {
  check_float(x, "norm");
  if (std::isinf(p)) check_not_empty(x, dim, "norm");
  return reduce_float(x, dim, keepdim, "norm",
                      [&](const auto& k, const Layout& l, const auto* q, auto* y) {
                        k.reduce_norm(q, y, l.outer, l.n, l.inner, p);
                      });
}

Tensor Norm::gradient(const Tensor& g, const Tensor& x, const Tensor& y) const {
  Tensor gy = restore_dims(g, x, dim, keepdim), norm = restore_dims(y, x, dim, keepdim);
  if (p == 0) return zeros_like(x);
  if (p == 1) return gy * sign(x);
  if (std::isinf(p)) {  // shared by ties, as amax
    Tensor ties = to(lg::abs(x) == norm, x.dtype());
    return gy * sign(x) * (ties / sum(ties, dim, true));
  }
  // At the origin every subgradient of the norm is finite; 0 is the one PyTorch gives.
  Tensor zero = norm == 0;
  if (p == 2) return where(zero, 0, x * (gy / norm));
  if (p < 1) {
    Tensor at_zero = x == 0;
    Tensor scaled = sign(x) * pow(where(at_zero, 1, lg::abs(x)), p - 1) *
                    (gy / pow(where(zero, 1, norm), p - 1));
    return where(at_zero || zero, 0, scaled);
  }
  if (p < 2) {
    Tensor scaled = sign(x) * pow(lg::abs(x), p - 1) * (gy / pow(where(zero, 1, norm), p - 1));
    return where(zero, 0, scaled);
  }
  return where(zero, 0, x * pow(lg::abs(x), p - 2) * (gy / pow(where(zero, 1, norm), p - 1)));
}

namespace {
Tensor reduce_bool(const Tensor& x, const Axes& dim, bool keepdim, std::string_view name,
                   bool is_any) {
  const Layout l = layout(x.dtype() == DType::bool_ ? x : ops::Cast{{}, DType::bool_}.forward(x),
                          DType::bool_, dim, keepdim, name);
  Tensor y = Tensor::empty(l.shape, DType::bool_);
  if (y.numel() == 0) return y;
  const Backend& b = backend(x.device());
  (is_any ? b.reduce_any : b.reduce_all)(l.x.data<bool>(), y.data<bool>(), l.outer, l.n, l.inner);
  return y;
}
}  // namespace

Tensor Any::forward(const Tensor& x) const { return reduce_bool(x, dim, keepdim, "any", true); }
Tensor All::forward(const Tensor& x) const { return reduce_bool(x, dim, keepdim, "all", false); }

Tensor CumSum::forward(const Tensor& x) const {
  const DType result = is_integral(x.dtype()) ? DType::int64 : x.dtype();
  const int d = normalize_axis(dim, x.rank(), "cumsum");
  const Layout l = layout(x, compute_type(x.dtype()), x.rank() ? Axes(d) : Axes(), true, "cumsum");
  Tensor y = Tensor::empty(x.shape(), l.x.dtype());
  auto scan = [&]<class T>(const NumberKernels<T>& k) {
    (reverse ? k.cumsum_reverse : k.cumsum)(l.x.data<T>(), y.data<T>(), l.outer, l.n, l.inner);
  };
  const Backend& b = backend(x.device());
  if (y.numel() > 0) {
    if (l.x.dtype() == DType::float32)
      scan.operator()<float>(b.float32);
    else if (l.x.dtype() == DType::float64)
      scan.operator()<double>(b.float64);
    else
      scan.operator()<std::int64_t>(b.int64);
  }
  return y.dtype() == result ? y : Cast{{}, result}.forward(y);
}

}  // namespace ops
}  // namespace lg
