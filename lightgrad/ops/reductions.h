// reductions.h: operations that make one number of many. `dim`: one axis, several, or all (the
// default).
#pragma once

#include "lightgrad/ops/op.h"
#include "lightgrad/tensor/tensor.h"

namespace lg {

// A reduction's result y (or its gradient) with the reduced dimensions of x put back as size 1.
Tensor restore_dims(const Tensor& y, const Tensor& x, const Axes& dim, bool keepdim);
inline Probe restore_dims(const Probe& y, const Probe&, const Axes&, bool) { return y; }
// How many elements of x become one.
double reduced_count(const Tensor& x, const Axes& dim);
inline double reduced_count(const Probe&, const Axes&) { return 1; }

struct ValuesIndices {
  Tensor values, indices;
};
// The values of x at the indices along dim, by gather, so that the gradient goes there.
ValuesIndices pick(const Tensor& x, std::int64_t dim, const Tensor& indices);

namespace ops {

struct Sum : Reduce {
  Axes dim;
  bool keepdim = false;
  std::optional<DType> dtype;
  static constexpr OpInfo info{.name = "sum",
                               .math = "the sum of x along dim; integers sum in int64"};
  static constexpr auto attrs = std::tuple(attr(&Sum::dim, "dim"), attr(&Sum::keepdim, "keepdim"),
                                           attr(&Sum::dtype, "dtype"));
  Tensor forward(const Tensor& x) const;
  Tensor forward_cuda(const Tensor& x) const;
  template <class T> T vjp(T g, T x, T) const {
    return expand(restore_dims(g, x, dim, keepdim), x.shape());
  }
};

struct Mean : Reduce {
  Axes dim;
  bool keepdim = false;
  static constexpr OpInfo info{.name = "mean",
                               .math = "the sum of x along dim, divided by their number"};
  static constexpr auto attrs =
      std::tuple(attr(&Mean::dim, "dim"), attr(&Mean::keepdim, "keepdim"));
  Tensor forward(const Tensor& x) const;
  template <class T> T vjp(T g, T x, T) const {
    return expand(restore_dims(g / reduced_count(x, dim), x, dim, keepdim), x.shape());
  }
};

struct Prod : Reduce {
  Axes dim;
  bool keepdim = false;
  static constexpr bool widens_half = true;
  static constexpr OpInfo info{.name = "prod", .math = "the product of x along dim"};
  static constexpr auto attrs =
      std::tuple(attr(&Prod::dim, "dim"), attr(&Prod::keepdim, "keepdim"));
  static constexpr unsigned keeps = 0b11;
  Tensor forward(const Tensor& x) const;
  template <class T> T vjp(T g, T x, T y) const { return gradient(g, x, y); }
  Tensor gradient(const Tensor& g, const Tensor& x, const Tensor& y) const;
  Probe gradient(Probe g, Probe, Probe) const { return g; }
};

struct Amax : Reduce {
  Axes dim;
  bool keepdim = false;
  static constexpr OpInfo info{.name = "amax",
                               .math = "the largest of x along dim; a tie shares the gradient"};
  static constexpr auto attrs =
      std::tuple(attr(&Amax::dim, "dim"), attr(&Amax::keepdim, "keepdim"));
  Tensor forward(const Tensor& x) const;
  template <class T> T vjp(T g, T x, T y) const {
    T ties = to(x == restore_dims(y, x, dim, keepdim), x.dtype());
    return restore_dims(g, x, dim, keepdim) * (ties / sum(ties, dim, true));
  }
};

struct Amin : Reduce {
  Axes dim;
  bool keepdim = false;
  static constexpr OpInfo info{.name = "amin",
                               .math = "the smallest of x along dim; a tie shares the gradient"};
  static constexpr auto attrs =
      std::tuple(attr(&Amin::dim, "dim"), attr(&Amin::keepdim, "keepdim"));
  Tensor forward(const Tensor& x) const;
  template <class T> T vjp(T g, T x, T y) const {
    T ties = to(x == restore_dims(y, x, dim, keepdim), x.dtype());
    return restore_dims(g, x, dim, keepdim) * (ties / sum(ties, dim, true));
  }
};

// (values, indices) along one dimension; the gradient goes to the element at the index.
struct MaxAlong : Composite<1> {
  std::int64_t dim = 0;
  bool keepdim = false;
  static constexpr OpInfo info{.name = "max_along",
                               .math = "the largest of x along dim, and where it is"};
  static constexpr auto attrs =
      std::tuple(required(&MaxAlong::dim, "dim"), attr(&MaxAlong::keepdim, "keepdim"));
  ValuesIndices forward(const Tensor& x) const;
};

struct MinAlong : Composite<1> {
  std::int64_t dim = 0;
  bool keepdim = false;
  static constexpr OpInfo info{.name = "min_along",
                               .math = "the smallest of x along dim, and where it is"};
  static constexpr auto attrs =
      std::tuple(required(&MinAlong::dim, "dim"), attr(&MinAlong::keepdim, "keepdim"));
  ValuesIndices forward(const Tensor& x) const;
};

struct Argmax : Reduce {
  std::optional<std::int64_t> dim;
  bool keepdim = false;
  static constexpr OpInfo info{
      .name = "argmax", .math = "where the first largest of x is along dim (flattened without)"};
  static constexpr auto attrs =
      std::tuple(attr(&Argmax::dim, "dim"), attr(&Argmax::keepdim, "keepdim"));
  static constexpr bool differentiable = false;
  Tensor forward(const Tensor& x) const;
};

struct Argmin : Reduce {
  std::optional<std::int64_t> dim;
  bool keepdim = false;
  static constexpr OpInfo info{
      .name = "argmin", .math = "where the first smallest of x is along dim (flattened without)"};
  static constexpr auto attrs =
      std::tuple(attr(&Argmin::dim, "dim"), attr(&Argmin::keepdim, "keepdim"));
  static constexpr bool differentiable = false;
  Tensor forward(const Tensor& x) const;
};

struct Var : Reduce {
  Axes dim;
  double correction = 1;
  bool keepdim = false;
  static constexpr bool widens_half = true;
  static constexpr OpInfo info{
      .name = "var", .math = "sum of (x - mean)^2 along dim, divided by their number - correction"};
  static constexpr auto attrs = std::tuple(
      attr(&Var::dim, "dim"), attr(&Var::correction, "correction"), attr(&Var::keepdim, "keepdim"));
  static Cost cost(Metas in, const Meta& out) {  // mean; difference, square, sum
    return {4 * in[0].numel(), moved(in, out)};
  }
  Tensor forward(const Tensor& x) const;
  template <class T> T vjp(T g, T x, T) const {
    const double n = std::max(reduced_count(x, dim) - correction, 0.0);
    return restore_dims(g, x, dim, keepdim) * ((x - mean(x, dim, true)) * T(2 / n));
  }
};

struct Std : Reduce {
  Axes dim;
  double correction = 1;
  bool keepdim = false;
  static constexpr bool widens_half = true;
  static constexpr OpInfo info{.name = "std",
                               .math = "the square root of var; gradient 0 where it is 0"};
  static constexpr auto attrs = std::tuple(
      attr(&Std::dim, "dim"), attr(&Std::correction, "correction"), attr(&Std::keepdim, "keepdim"));
  static Cost cost(Metas in, const Meta& out) {  // as var
    return {4 * in[0].numel(), moved(in, out)};
  }
  Tensor forward(const Tensor& x) const;
  template <class T> T vjp(T g, T x, T y) const {
    const double n = std::max(reduced_count(x, dim) - correction, 0.0);
    T scale = where(y == T(0), T(0), g / (y * T(n)));
    return restore_dims(scale, x, dim, keepdim) * (x - mean(x, dim, true));
  }
};

struct LogSumExp : Reduce {
  Axes dim;
  bool keepdim = false;
  static constexpr OpInfo info{.name = "logsumexp", .math = "ln of the sum of e^x along dim"};
  static constexpr auto attrs =
      std::tuple(attr(&LogSumExp::dim, "dim"), attr(&LogSumExp::keepdim, "keepdim"));
  static Cost cost(Metas in, const Meta& out) {  // largest; difference, e^, sum
    return {4 * in[0].numel(), moved(in, out)};
  }
  Tensor forward(const Tensor& x) const;
  template <class T> T vjp(T g, T x, T y) const {
    T shift = where(isinf(y), T(0), y);  // a row of -inf has weight 0 everywhere, not NaN
    return restore_dims(g, x, dim, keepdim) * exp(x - restore_dims(shift, x, dim, keepdim));
  }
};

struct Norm : Reduce {
  double p = 2;
  Axes dim;
  bool keepdim = false;
  static constexpr bool widens_half = true;
  static constexpr OpInfo info{.name = "norm",
                               .math = "(sum of |x|^p along dim)^(1/p); p = inf: the largest |x|"};
  static constexpr auto attrs =
      std::tuple(attr(&Norm::p, "p"), attr(&Norm::dim, "dim"), attr(&Norm::keepdim, "keepdim"));
  static constexpr unsigned keeps = 0b11;
  static Cost cost(Metas in, const Meta& out) {  // power, sum
    return {2 * in[0].numel(), moved(in, out)};
  }
  Tensor forward(const Tensor& x) const;
  template <class T> T vjp(T g, T x, T y) const { return gradient(g, x, y); }
  Tensor gradient(const Tensor& g, const Tensor& x, const Tensor& y) const;
  Probe gradient(Probe g, Probe, Probe) const { return g; }
};

struct Any : Reduce {
  Axes dim;
  bool keepdim = false;
  static constexpr OpInfo info{.name = "any", .math = "whether some x along dim is not 0"};
  static constexpr auto attrs = std::tuple(attr(&Any::dim, "dim"), attr(&Any::keepdim, "keepdim"));
  static constexpr bool differentiable = false;
  Tensor forward(const Tensor& x) const;
};

struct All : Reduce {
  Axes dim;
  bool keepdim = false;
  static constexpr OpInfo info{.name = "all", .math = "whether no x along dim is 0"};
  static constexpr auto attrs = std::tuple(attr(&All::dim, "dim"), attr(&All::keepdim, "keepdim"));
  static constexpr bool differentiable = false;
  Tensor forward(const Tensor& x) const;
};

struct CumSum : Heavy<1> {
  std::int64_t dim = 0;
  bool reverse = false;
  static constexpr OpInfo info{.name = "cumsum",
                               .math = "y_i = x_0 + ... + x_i along dim (from the end: reverse)"};
  static constexpr auto attrs =
      std::tuple(required(&CumSum::dim, "dim"), attr(&CumSum::reverse, "reverse"));
  static Cost cost(Metas in, const Meta& out) { return {in[0].numel(), moved(in, out)}; }
  Tensor forward(const Tensor& x) const;
  template <class T> T vjp(T g, T, T) const { return cumsum(g, dim, !reverse); }
};

}  // namespace ops
}  // namespace lg
