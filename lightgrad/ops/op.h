// op.h: the vocabulary in which operations are written: families, attributes, and the Probe that
// finds out which values a gradient mentions. Knows nothing of kernels, SIMD or Python.
#pragma once

#include <array>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <vector>

#include "lightgrad/base/dtype.h"
#include "lightgrad/base/shape.h"
#include "lightgrad/base/watch.h"

namespace lg {

struct Domain {
  double low = -3, high = 3;
};

struct OpInfo {
  std::string_view name, math;
  Domain domain{};  // where tests draw inputs from
  std::array<const char*, 5> args{"x", "y", "z", "w", "v"};
};

// The dimensions that a reduction takes: all of them unless some are named.
struct Axes {
  Shape list;
  bool all = true;

  Axes() = default;
  Axes(std::integral auto axis) : list{static_cast<std::int64_t>(axis)}, all(false) {}
  Axes(std::initializer_list<std::int64_t> axes) : list(axes), all(false) {}
  explicit Axes(const Shape& axes) : list(axes), all(false) {}
};

// --- cost: what a tensor is to it, and the bytes that nobody can spare ---
struct Meta {
  Shape shape{0};  // an absent tensor has no elements
  DType dtype = DType::float32;

  double numel() const { return static_cast<double>(shape.numel()); }
  double bytes() const { return numel() * static_cast<double>(size_of(dtype)); }
};
using Metas = std::span<const Meta>;
// Every input read once, the output written once: a fused kernel does no less.
inline double moved(Metas in, const Meta& out) {
  double bytes = out.bytes();
  for (const Meta& m : in) bytes += m.bytes();
  return bytes;
}

// --- families: the shape rule, dtype rule and bookkeeping that all members share ---
enum class Rule : std::uint8_t {
  floating,    // integers become the default float dtype
  any,         // integers stay integers (computed in int64, wrapped)
  number,      // as any, but truths become int64
  comparison,  // computed in the promoted dtype, gives bool
};
template <int N, Rule R> struct Pointwise {
  static constexpr int arity = N;
  static constexpr bool pointwise = true;
  static constexpr Rule rule = R;
};
using Unary = Pointwise<1, Rule::floating>;
using UnaryAny = Pointwise<1, Rule::any>;
using UnaryNumber = Pointwise<1, Rule::number>;
using Predicate = Pointwise<1, Rule::comparison>;
using Binary = Pointwise<2, Rule::any>;
using BinaryFloat = Pointwise<2, Rule::floating>;
using Compare = Pointwise<2, Rule::comparison>;

// An operation with a shape rule and kernel of its own: a member `forward`.
template <int N> struct Heavy {
  static constexpr int arity = N;
  static constexpr bool pointwise = false;
  // The operation's cost, given its inputs and its output: by default it only moves them.
  static Cost cost(Metas in, const Meta& out) { return {0, moved(in, out)}; }
};
struct Reduce : Heavy<1> {
  static Cost cost(Metas in, const Meta& out) { return {in[0].numel(), moved(in, out)}; }
};
struct View : Heavy<1> {  // costs nothing when it shares, the default when it had to copy
  static constexpr bool view = true;  // the output shares the input's storage
};
// Any number of inputs: forward(const std::vector<Tensor>&).
struct Variadic {
  static constexpr int arity = -1;
  static constexpr bool pointwise = false;
  static Cost cost(Metas in, const Meta& out) { return {0, moved(in, out)}; }
};
// Written in terms of other operations: nothing is recorded for it, its parts are.
template <int N> struct Composite {
  static constexpr int arity = N;
  static constexpr bool pointwise = false;
  static constexpr bool is_composite = true;
};

// --- attributes: an operation's data members, named once, for C++ arguments, Python defaults, docs
// and pictures ---
template <class Op, class M> struct Attr {
  M Op::*member;
  const char* name;
  bool required;
  using type = M;
};
// With a default (the member's initialiser) ...
template <class Op, class M> constexpr Attr<Op, M> attr(M Op::*member, const char* name) {
  return {member, name, false};
}
// ... and without one.
template <class Op, class M> constexpr Attr<Op, M> required(M Op::*member, const char* name) {
  return {member, name, true};
}
template <class Op> constexpr auto attributes_of() {
  if constexpr (requires { Op::attrs; })
    return Op::attrs;
  else
    return std::tuple<>{};
}
template <class Op>
inline constexpr int attribute_count = std::tuple_size_v<decltype(attributes_of<Op>())>;

// The type and default of attribute I as a function parameter; past the last one, a type that
// nobody passes.
struct NoAttribute {};
template <class Op, int I> constexpr auto attribute_type() {
  if constexpr (I < attribute_count<Op>) {
    return std::type_identity<
        typename std::tuple_element_t<I, decltype(attributes_of<Op>())>::type>{};
  } else {
    return std::type_identity<NoAttribute>{};
  }
}
template <class Op, int I> using attr_t = typename decltype(attribute_type<Op, I>())::type;
template <class Op, int I> attr_t<Op, I> attr_default() {
  if constexpr (I < attribute_count<Op>) {
    static_assert(!std::get<I>(Op::attrs).required,
                  "this argument of the operation has no default");
    return Op{}.*(std::get<I>(Op::attrs).member);
  } else {
    return {};
  }
}
template <class Op, class... A> Op make_op([[maybe_unused]] A&&... attributes) {
  Op op{};
  if constexpr (attribute_count < Op >> 0) {
    auto all = std::forward_as_tuple(attributes...);
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      ((op.*(std::get<I>(Op::attrs).member) = std::get<I>(all)), ...);
    }
    (std::make_index_sequence<static_cast<std::size_t>(attribute_count<Op>)>());
  }
  return op;
}

// Pointwise attributes travel to kernels as numbers; an absent one as NaN.
inline double to_number(double v) { return v; }
inline double to_number(bool v) { return v; }
inline double to_number(std::int64_t v) { return static_cast<double>(v); }
inline double to_number(const std::optional<double>& v) {
  return v ? *v : std::numeric_limits<double>::quiet_NaN();
}
template <class M> M from_number(double v) {
  if constexpr (std::same_as<M, std::optional<double>>)
    return std::isnan(v) ? M{} : M{v};
  else
    return static_cast<M>(v);
}

template <class... Ops> struct TypeList {
  static constexpr int size = sizeof...(Ops);
  template <class F> static constexpr void each(F&& f) { (f.template operator()<Ops>(), ...); }
  template <class Op> static constexpr int index() {
    int i = 0, found = -1;
    ((std::same_as<Op, Ops> ? void(found = i++) : void(i++)), ...);
    return found;
  }
};

// A value that only knows which inputs it came from: run through a gradient at compile time, it
// tells what that gradient mentions, and a node saves nothing else. Bit i: input i; bit `arity`:
// the output.
struct Probe {
  unsigned mask = 0;
  bool untouched = false;  // g itself, which no operation has gone over

  constexpr Probe() = default;
  template <class T>
  requires std::is_arithmetic_v<T>
  constexpr Probe(T) {}
  static constexpr Probe of(unsigned mask) {
    Probe p;
    p.mask = mask;
    return p;
  }
  // Sizes and dtype are always kept; asking for them mentions nothing.
  Shape shape() const { return {}; }
  DType dtype() const { return DType::float32; }

  friend constexpr Probe operator+(Probe a, Probe b) { return of(a.mask | b.mask); }
  friend constexpr Probe operator-(Probe a, Probe b) { return of(a.mask | b.mask); }
  friend constexpr Probe operator*(Probe a, Probe b) { return of(a.mask | b.mask); }
  friend constexpr Probe operator/(Probe a, Probe b) { return of(a.mask | b.mask); }
  friend constexpr Probe operator-(Probe a) { return of(a.mask); }
  friend constexpr Probe operator!(Probe a) { return of(a.mask); }
  friend constexpr Probe operator<(Probe a, Probe b) { return of(a.mask | b.mask); }
  friend constexpr Probe operator<=(Probe a, Probe b) { return of(a.mask | b.mask); }
  friend constexpr Probe operator>(Probe a, Probe b) { return of(a.mask | b.mask); }
  friend constexpr Probe operator>=(Probe a, Probe b) { return of(a.mask | b.mask); }
  friend constexpr Probe operator==(Probe a, Probe b) { return of(a.mask | b.mask); }
  friend constexpr Probe operator!=(Probe a, Probe b) { return of(a.mask | b.mask); }
  friend constexpr Probe operator&&(Probe a, Probe b) { return of(a.mask | b.mask); }
  friend constexpr Probe operator||(Probe a, Probe b) { return of(a.mask | b.mask); }
};

// --- gradient formulas: vjp for one input, vjp_x, vjp_y, vjp_z for several; one template per
// formula ---
template <int I, class Op, class T>
constexpr auto call_vjp(const Op& op, const T& g, const T* in, const T& out) {
  if constexpr (Op::arity == 1) {
    return op.vjp(g, in[0], out);
  } else if constexpr (Op::arity == 2) {
    if constexpr (I == 0)
      return op.vjp_x(g, in[0], in[1], out);
    else
      return op.vjp_y(g, in[0], in[1], out);
  } else {
    if constexpr (I == 0)
      return op.vjp_x(g, in[0], in[1], in[2], out);
    else if constexpr (I == 1)
      return op.vjp_y(g, in[0], in[1], in[2], out);
    else
      return op.vjp_z(g, in[0], in[1], in[2], out);
  }
}
// By name, not by trying the call: a formula with an error in it must not vanish.
template <int I, class Op>
concept HasVjp = (Op::arity == 1 && I == 0 && requires { &Op::template vjp<Probe>; }) ||
                 (Op::arity > 1 && I == 0 && requires { &Op::template vjp_x<Probe>; }) ||
                 (Op::arity > 1 && I == 1 && requires { &Op::template vjp_y<Probe>; }) ||
                 (Op::arity > 2 && I == 2 && requires { &Op::template vjp_z<Probe>; });
template <class Op>
concept HasJointBackward = requires {
  Op::gradients;
};  // bit i: input i gets one from op.backward(...)
template <class Op>
concept IsComposite = requires {
  Op::is_composite;
};
template <class Op>
inline constexpr bool differentiable = [] {
  if constexpr (requires { Op::differentiable; })
    return Op::differentiable;
  else
    return true;
}();

// The gradient formula of input I, run on values that know only where they came from.
template <int I, class Op> Probe probe_vjp() {
  Probe g, in[3];
  g.untouched = true;
  for (int i = 0; i < Op::arity; ++i) in[i] = Probe::of(1u << i);
  return call_vjp<I>(Op{}, g, in, Probe::of(1u << Op::arity));
}
// What the gradient of input I mentions; an operation may say it itself (`keeps`) when its formula
// is not written for every value type.
template <int I, class Op> unsigned mentioned() {
  if constexpr (requires { Op::keeps; }) {
    return Op::keeps;
  } else if constexpr (HasVjp<I, Op>) {
    return probe_vjp<I, Op>().mask;
  } else {
    return 0;
  }
}
// Whether the gradient of input I is g itself, which then needs no pass over memory. Only pointwise
// formulas are asked, in whose vocabulary every function leaves its mark, and only those without
// attributes, which might have a say.
template <int I, class Op> bool passes_gradient() {
  if constexpr (HasVjp<I, Op> && Op::pointwise && attribute_count<Op> == 0)
    return probe_vjp<I, Op>().untouched;
  else
    return false;
}

}  // namespace lg
