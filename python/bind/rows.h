// rows.h: a row of the operation table as Python parameters: names, types and defaults from the
// operation's block.
#pragma once

#include <array>
#include <tuple>

#include "common.h"

namespace lg::python {

// An absent optional input is None.
template <class Op, std::size_t I> constexpr bool is_optional_input() {
  if constexpr (requires { Op::optional; })
    return Op::optional >> I & 1;
  else
    return false;
}

// One parameter: its type P in C++, whether an attribute of Op stands behind it, and which.
template <class P, bool IsAttribute, std::size_t I> struct Parameter {
  using type = P;
  static constexpr bool is_attribute = IsAttribute;
  static constexpr std::size_t index = I;
};
template <class Op, std::size_t I>
using Input =
    Parameter<std::conditional_t<is_optional_input<Op, I>(), MaybeTensor, const Tensor&>, false, I>;
template <class Op, std::size_t I>
using Attribute = Parameter<attr_t<Op, static_cast<int>(I)>, true, I>;

// Tensors first, then attributes; gather(x, dim, index) has its first attribute behind the first
// tensor.
template <class Op, bool AttributeFirst> constexpr auto parameters() {
  return []<std::size_t... A>(std::index_sequence<A...>) {
    if constexpr (Op::arity < 0) {
      return TypeList<Parameter<const std::vector<Tensor>&, false, 0>, Attribute<Op, A>...>{};
    } else {
      return []<std::size_t... I>(std::index_sequence<I...>) {
        if constexpr (AttributeFirst) {
          return []<std::size_t... R>(std::index_sequence<R...>) {
            return TypeList<Input<Op, 0>, Attribute<Op, 0>, Input<Op, I + 1>...,
                            Attribute<Op, R + 1>...>{};
          }
          (std::make_index_sequence<sizeof...(A) - 1>());
        } else {
          return TypeList<Input<Op, 0>, Input<Op, I + 1>..., Attribute<Op, A>...>{};
        }
      }
      (std::make_index_sequence<static_cast<std::size_t>(Op::arity) - 1>());
    }
  }
  (std::make_index_sequence<static_cast<std::size_t>(attribute_count<Op>)>());
}

// The parameter's name and default, as nanobind wants them.
template <class Op, class P> auto argument() {
  if constexpr (P::is_attribute) {
    constexpr auto a = std::get<P::index>(Op::attrs);
    if constexpr (a.required)
      return nb::arg(a.name);
    else if constexpr (std::same_as<attr_t<Op, static_cast<int>(P::index)>, Axes>)
      return nb::arg(a.name) = nb::none();
    else
      return nb::arg(a.name) = Op{}.*(a.member);
  } else if constexpr (std::same_as<typename P::type, MaybeTensor>) {
    return nb::arg(Op::info.args[P::index]) = nb::none();
  } else {
    return nb::arg(Op::info.args[P::index]);
  }
}
// Those of all parameters from the first (0: a function) or second (1: a method, whose self has no
// name) on.
template <class Op, std::size_t From, class... P> auto arguments(TypeList<P...>) {
  return []<std::size_t... I>(std::index_sequence<I...>) {
    using All = std::tuple<P...>;
    return std::tuple(argument<Op, std::tuple_element_t<I + From, All>>()...);
  }
  (std::make_index_sequence<sizeof...(P) - From>());
}

template <class T> const T& unwrap(const T& v) { return v; }
inline const Tensor& unwrap(const MaybeTensor& v) { return v.t; }

// A callable of exactly these parameters.
template <class F, class... P> auto with_parameters(F call, TypeList<P...>) {
  return [call](typename P::type... p) {
    using R = decltype(call(unwrap(p)...));
    if constexpr (std::same_as<R, std::vector<Tensor>>)
      return tuple_of(call(unwrap(p)...));
    else
      return call(unwrap(p)...);
  };
}

}  // namespace lg::python
