// ops.h: the table's rows as functions: lg::exp(x), lg::sum(x, 1), lg::reshape(x, {2, 3}), ...
// Every one takes Tensors (and numbers) and then its attributes; what each computes is said in its
// block.
#pragma once

#include "lightgrad/ops/convolution.h"
#include "lightgrad/ops/fused_mlp.h"
#include "lightgrad/ops/matmul.h"
#include "lightgrad/ops/neural.h"
#include "lightgrad/ops/normalization.h"
#include "lightgrad/ops/pooling.h"
#include "lightgrad/ops/reductions.h"
#include "lightgrad/ops/selection.h"
#include "lightgrad/ops/table.h"
#include "lightgrad/ops/views.h"

namespace lg {

namespace ops {
#include "lightgrad/ops/pointwise.inl"
}  // namespace ops

namespace detail {
template <class F> struct Returns;
template <class R, class C, class... A> struct Returns<R (C::*)(A...)> { using type = R; };
template <class R, class C, class... A> struct Returns<R (C::*)(A...) const> { using type = R; };
template <class R, class... A> struct Returns<R (*)(A...)> { using type = R; };
template <class Op> struct Result { using type = typename Returns<decltype(&Op::forward)>::type; };
template <class Op>
requires(Op::pointwise) struct Result<Op> {
  using type = Tensor;
};
}  // namespace detail
template <class Op> using result_t = typename detail::Result<Op>::type;

// A function has up to six attributes; the defaults are the block's. It is a template of nothing
// (Z is always 0) so that the default of a required attribute fails only where it is used.
#define LG_ATTR(Op, I) const attr_t<ops::Op, I>&
#define LG_ATTRIBUTES(Op)                                      \
  LG_ATTR(Op, 0) = attr_default<ops::Op, Z + 0>(),             \
              LG_ATTR(Op, 1) = attr_default<ops::Op, Z + 1>(), \
              LG_ATTR(Op, 2) = attr_default<ops::Op, Z + 2>(), \
              LG_ATTR(Op, 3) = attr_default<ops::Op, Z + 3>(), \
              LG_ATTR(Op, 4) = attr_default<ops::Op, Z + 4>(), \
              LG_ATTR(Op, 5) = attr_default<ops::Op, Z + 5>()
#define LG_ATTRIBUTES_AFTER_FIRST(Op) \
  LG_ATTR(Op, 1) = attr_default<ops::Op, Z + 1>(), LG_ATTR(Op, 2) = attr_default<ops::Op, Z + 2>()
// On a Probe, a function only notes which values it was given.
template <class... A> constexpr Probe probe_all(const A&... a) {
  unsigned mask = 0;
  (
      [&] {
        if constexpr (std::same_as<A, Probe>) mask |= a.mask;
      }(),
      ...);
  return Probe::of(mask);
}
#define LG_ON_PROBE(name)                                                     \
  template <class... A> constexpr Probe name(const Probe& x, const A&... a) { \
    return probe_all(x, a...);                                                \
  }

#define ROW(Op, name)                                                              \
  template <int Z = 0> result_t<ops::Op> name(const Tensor& x, LG_ATTRIBUTES(Op)); \
  LG_ON_PROBE(name)
LG_POINTWISE_1(ROW)
LG_STRUCTURAL_1(ROW)
#undef ROW
#define ROW(Op, name)                                                          \
  template <int Z = 0>                                                         \
  result_t<ops::Op> name(const Tensor& x, const Tensor& y, LG_ATTRIBUTES(Op)); \
  LG_ON_PROBE(name)
LG_POINTWISE_2(ROW)
LG_STRUCTURAL_2(ROW)
#undef ROW
#define ROW(Op, name)                                                                           \
  template <int Z = 0>                                                                          \
  result_t<ops::Op> name(const Tensor& x, const Tensor& y, const Tensor& z, LG_ATTRIBUTES(Op)); \
  LG_ON_PROBE(name)
LG_POINTWISE_3(ROW)
LG_STRUCTURAL_3(ROW)
#undef ROW
#define ROW(Op, name)                                                                             \
  template <int Z = 0>                                                                            \
  result_t<ops::Op> name(const Tensor& x, const Tensor& y, const Tensor& z, const Tensor& w = {}, \
                         LG_ATTRIBUTES(Op));                                                      \
  LG_ON_PROBE(name)
LG_STRUCTURAL_4(ROW)
#undef ROW
#define ROW(Op, name)                                                                        \
  template <int Z = 0>                                                                       \
  result_t<ops::Op> name(const Tensor& x, const Tensor& y, const Tensor& z, const Tensor& w, \
                         const Tensor& v, LG_ATTRIBUTES(Op));                                \
  LG_ON_PROBE(name)
LG_STRUCTURAL_5(ROW)
#undef ROW
#define ROW(Op, name)                                                      \
  template <int Z = 0>                                                     \
  result_t<ops::Op> name(const Tensor& x, LG_ATTR(Op, 0), const Tensor& y, \
                         LG_ATTRIBUTES_AFTER_FIRST(Op));                   \
  LG_ON_PROBE(name)
LG_ALONG_2(ROW)
#undef ROW
#define ROW(Op, name)                                                                       \
  template <int Z = 0>                                                                      \
  result_t<ops::Op> name(const Tensor& x, LG_ATTR(Op, 0), const Tensor& y, const Tensor& z, \
                         LG_ATTRIBUTES_AFTER_FIRST(Op));                                    \
  LG_ON_PROBE(name)
LG_ALONG_3(ROW)
#undef ROW
#define ROW(Op, name) \
  template <int Z = 0> result_t<ops::Op> name(const std::vector<Tensor>& x, LG_ATTRIBUTES(Op));
LG_STRUCTURAL_N(ROW)
#undef ROW

inline Tensor linear(const Tensor& x, const Tensor& weight) { return linear(x, weight, Tensor()); }
inline Tensor cross_entropy(const Tensor& logits, const Tensor& target) {
  return cross_entropy(logits, target, Tensor());
}
inline Tensor nll_loss(const Tensor& x, const Tensor& target) {
  return nll_loss(x, target, Tensor());
}
inline Tensor conv2d(const Tensor& x, const Tensor& weight) { return conv2d(x, weight, Tensor()); }
inline Tensor conv1d(const Tensor& x, const Tensor& weight) { return conv1d(x, weight, Tensor()); }
inline Tensor conv_transpose2d(const Tensor& x, const Tensor& weight) {
  return conv_transpose2d(x, weight, Tensor());
}
inline Tensor max(const Tensor& x) { return amax(x); }
inline Tensor min(const Tensor& x) { return amin(x); }
inline ValuesIndices max(const Tensor& x, std::int64_t dim, bool keepdim = false) {
  return max_along(x, dim, keepdim);
}
inline ValuesIndices min(const Tensor& x, std::int64_t dim, bool keepdim = false) {
  return min_along(x, dim, keepdim);
}

inline Tensor operator+(const Tensor& x, const Tensor& y) { return add(x, y); }
inline Tensor operator-(const Tensor& x, const Tensor& y) { return sub(x, y); }
inline Tensor operator*(const Tensor& x, const Tensor& y) { return mul(x, y); }
inline Tensor operator/(const Tensor& x, const Tensor& y) { return div(x, y); }
inline Tensor operator-(const Tensor& x) { return neg(x); }
Tensor operator!(const Tensor&) =
    delete;  // !t reads as a question about the handle: logical_not(t), or !t.defined()
inline Tensor operator==(const Tensor& x, const Tensor& y) { return eq(x, y); }
inline Tensor operator!=(const Tensor& x, const Tensor& y) { return ne(x, y); }
inline Tensor operator<(const Tensor& x, const Tensor& y) { return lt(x, y); }
inline Tensor operator<=(const Tensor& x, const Tensor& y) { return le(x, y); }
inline Tensor operator>(const Tensor& x, const Tensor& y) { return gt(x, y); }
inline Tensor operator>=(const Tensor& x, const Tensor& y) { return ge(x, y); }
inline Tensor operator&&(const Tensor& x, const Tensor& y) { return logical_and(x, y); }
inline Tensor operator||(const Tensor& x, const Tensor& y) { return logical_or(x, y); }

// Every operation, as types, in the table's order.
struct EndOfList {};
namespace detail {
template <class... Ops> TypeList<Ops...> list_of(TypeList<EndOfList, Ops...>);
}
#define ROW(Op, name) , ops::Op
using PointwiseOps = decltype(detail::list_of(TypeList<EndOfList LG_POINTWISE(ROW)>{}));
using AllOps = decltype(detail::list_of(TypeList<EndOfList LG_OPS(ROW)>{}));
#undef ROW

}  // namespace lg
