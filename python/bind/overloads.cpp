// overloads.cpp: other ways to call rows of the table, which PyTorch's users know: add(x, y,
// alpha=2), mean(x, dtype=float64), clamp(x, lower, upper) with tensors, ... Each is its row with
// arguments prepared.
#include "overloads.h"

#include <cmath>

namespace lg::python {
namespace {

// As function and as method.
struct Both {
  nb::module_& m;
  nb::class_<PyTensor>& tensor;

  template <class F, class... A> void def(const char* name, F f, const A&... arguments) {
    m.def(name, f, "x"_a, arguments...);
    tensor.def(name, f, arguments...);
  }
};

Tensor rounded_quotient(const Tensor& x, const Tensor& y, const std::optional<std::string>& mode) {
  if (!mode) return div(x, y);
  if (*mode == "floor") return floor_divide(x, y);
  if (*mode != "trunc")
    fail(ErrorKind::value, "div", "rounding_mode is '", *mode,
         "', expected None, 'floor' or 'trunc'");
  Tensor down = floor_divide(x, y);
  if (is_floating(down.dtype())) return trunc(div(x, y));
  // Towards zero: one above the floor where there is a remainder and the signs differ.
  return where(ne(mul(down, y), x) && lt(x, 0) != lt(y, 0), add(down, 1), down);
}

// As PyTorch: above max counts last, so max wins where min > max; a NaN bound gives NaN.
Tensor clamped(const Tensor& x, const MaybeTensor& min, const MaybeTensor& max) {
  auto is_number = [](const Tensor& t) { return !t.defined() || t.is_weak(); };
  auto number = [](const Tensor& t) {
    return t.defined() ? std::optional(t.item()) : std::nullopt;
  };
  if (is_number(min.t) && is_number(max.t)) return clamp(x, number(min.t), number(max.t));
  Tensor y = x;
  if (min.t.defined()) y = where(lt(y, min.t) || isnan(min.t), min.t, y);
  if (max.t.defined()) y = where(gt(y, max.t) || isnan(max.t), max.t, y);
  return y;
}

Tensor rounded(const Tensor& x, int decimals) {
  const double power = std::pow(10.0, std::abs(decimals));
  if (decimals == 0) return round(x);
  return decimals > 0 ? div(round(mul(x, power)), power) : mul(round(div(x, power)), power);
}

double order_of(const std::string& p) {
  if (p != "fro") fail(ErrorKind::value, "norm", "p is '", p, "', expected a number or 'fro'");
  return 2;
}

void bind_arithmetic(Both both) {
  both.def(
      "add",
      [](const Tensor& x, const Tensor& y, const Tensor& alpha) { return add(x, mul(y, alpha)); },
      "y"_a, nb::kw_only(), "alpha"_a, "x + alpha y");
  both.def(
      "sub",
      [](const Tensor& x, const Tensor& y, const Tensor& alpha) { return sub(x, mul(y, alpha)); },
      "y"_a, nb::kw_only(), "alpha"_a, "x - alpha y");
  both.def("div", &rounded_quotient, "y"_a, nb::kw_only(), "rounding_mode"_a.none(),
           "x / y, rounded: 'floor' or 'trunc'");
  both.def("clamp", &clamped, "min"_a = nb::none(), "max"_a = nb::none(),
           "x held between tensors, elementwise");
  both.def("round", &rounded, nb::kw_only(), "decimals"_a, "the nearest multiple of 10^-decimals");
}

void bind_reductions(Both both) {
  both.def(
      "mean",
      [](const Tensor& x, const Axes& dim, bool keepdim, DType t) {
        return mean(to(x, t), dim, keepdim);
      },
      "dim"_a = nb::none(), "keepdim"_a = false, nb::kw_only(), "dtype"_a, "in dtype");
  both.def(
      "prod",
      [](const Tensor& x, const Axes& dim, bool keepdim, DType t) {
        return to(prod(to(x, t), dim, keepdim), t);
      },
      "dim"_a = nb::none(), "keepdim"_a = false, nb::kw_only(), "dtype"_a, "in dtype");
  both.def(
      "cumsum",
      [](const Tensor& x, std::int64_t dim, DType t) { return to(cumsum(to(x, t), dim), t); },
      "dim"_a, nb::kw_only(), "dtype"_a, "in dtype");
  both.def(
      "softmax", [](const Tensor& x, std::int64_t dim, DType t) { return softmax(to(x, t), dim); },
      "dim"_a, "dtype"_a, "in dtype");
  both.def(
      "log_softmax",
      [](const Tensor& x, std::int64_t dim, DType t) { return log_softmax(to(x, t), dim); },
      "dim"_a, "dtype"_a, "in dtype");
  both.def(
      "norm",
      [](const Tensor& x, const std::string& p, const Axes& dim, bool keepdim) {
        return norm(x, order_of(p), dim, keepdim);
      },
      "p"_a, "dim"_a = nb::none(), "keepdim"_a = false, "'fro': the root of the sum of squares");
  both.def(
      "norm",
      [](const Tensor& x, double p, const Axes& dim, bool keepdim, DType t) {
        return norm(to(x, t), p, dim, keepdim);
      },
      "p"_a = 2, "dim"_a = nb::none(), "keepdim"_a = false, nb::kw_only(), "dtype"_a, "in dtype");
}

// var(x, unbiased), var(x, dim, unbiased=..., keepdim=...), var(x, dim, correction=None).
template <class F> void bind_spread(Both both, const char* name, F f) {
  both.def(
      name, [f](const Tensor& x, bool unbiased) { return f(x, Axes(), unbiased, false); },
      "unbiased"_a);
  both.def(
      name,
      [f](const Tensor& x, const Axes& dim, bool unbiased, bool keepdim) {
        return f(x, dim, unbiased, keepdim);
      },
      "dim"_a.none(), nb::kw_only(), "unbiased"_a, "keepdim"_a = false);
  both.def(
      name,
      [f](const Tensor& x, const Axes& dim, std::optional<double> correction, bool keepdim) {
        return f(x, dim, correction.value_or(1), keepdim);
      },
      "dim"_a = nb::none(), nb::kw_only(), "correction"_a.none(), "keepdim"_a = false,
      "unbiased: correction 1, else 0");
}

void bind_selection(Both both) {
  // Sorting is always stable, and topk always sorted.
  both.def(
      "sort",
      [](const Tensor& x, std::int64_t dim, bool descending, bool) {
        return sort(x, dim, descending);
      },
      "dim"_a = -1, "descending"_a = false, nb::kw_only(), "stable"_a);
  both.def(
      "argsort",
      [](const Tensor& x, std::int64_t dim, bool descending, bool) {
        return argsort(x, dim, descending);
      },
      "dim"_a = -1, "descending"_a = false, nb::kw_only(), "stable"_a);
  both.def(
      "topk",
      [](const Tensor& x, std::int64_t k, std::int64_t dim, bool largest, bool) {
        return topk(x, k, dim, largest);
      },
      "k"_a, "dim"_a = -1, "largest"_a = true, "sorted"_a);
  both.def(
      "nonzero",
      [](const Tensor& x, bool as_tuple) -> nb::object {
        if (!as_tuple) return nb::cast(nonzero(x));
        const Tensor one = x.rank() == 0 ? unsqueeze(x, 0) : x;
        return tuple_of(unbind(nonzero(one), 1));
      },
      nb::kw_only(), "as_tuple"_a, "as_tuple: an index tensor per dimension");
  both.def(
      "index_add",
      [](const Tensor& x, std::int64_t dim, const Tensor& index, const Tensor& source,
         const Tensor& alpha) { return index_add(x, dim, index, mul(source, alpha)); },
      "dim"_a, "index"_a, "source"_a, nb::kw_only(), "alpha"_a, "alpha source added");
  both.def(
      "scatter",
      [](const Tensor& x, std::int64_t dim, const Tensor& index, const Tensor& source,
         const std::string& reduce) {
        if (reduce != "add")
          fail(ErrorKind::value, "scatter", "reduce is '", reduce, "', expected 'add'");
        const bool number = source.rank() == 0;
        return scatter_add(x, dim, index,
                           number ? expand(to(source, x.dtype()), index.shape()) : source);
      },
      "dim"_a, "index"_a, "source"_a, nb::kw_only(), "reduce"_a, "reduce='add': scatter_add");
}

}  // namespace

void bind_overloads(nb::module_& m, nb::class_<PyTensor>& tensor) {
  const Both both{m, tensor};
  bind_arithmetic(both);
  bind_reductions(both);
  bind_spread(both, "var",
              [](const Tensor& x, const Axes& d, double c, bool k) { return var(x, d, c, k); });
  bind_spread(both, "std",
              [](const Tensor& x, const Axes& d, double c, bool k) { return std(x, d, c, k); });
  bind_selection(both);
}

}  // namespace lg::python
