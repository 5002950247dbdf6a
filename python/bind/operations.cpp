// operations.cpp: the table, bound: every row becomes lg.name(x, ...) and x.name(...).
#include "rows.h"

namespace lg::python {
namespace {

template <class Op> inline constexpr bool attribute_first = false;
#define ROW(Op, name) template <> inline constexpr bool attribute_first<ops::Op> = true;
LG_ALONG_2(ROW)
LG_ALONG_3(ROW)
#undef ROW

// Parts of other operations, which Python reaches only as lightgrad._core.name.
constexpr bool is_internal(std::string_view name) {
  for (std::string_view end : {"_rows", "_grad", "_stream", "_along", "_indices"}) {
    if (name.ends_with(end)) return true;
  }
  return name == "sum_to" || name == "alias" || name == "cast" || name == "to" ||
         name == "convolution";
}
// Methods written by hand, because Python's have other arguments (tensor.cpp).
constexpr bool has_own_method(std::string_view name) { return name == "where"; }

// view(2, 3) beside view((2, 3)): an operation whose only attribute is a list takes it one by one,
// too.
template <class Op> constexpr bool takes_list() {
  if constexpr (Op::arity == 1 && attribute_count<Op> == 1) {
    return std::same_as<attr_t<Op, 0>, Shape> ||
           (std::same_as<attr_t<Op, 0>, Axes> && std::get<0>(Op::attrs).required);
  } else {
    return false;
  }
}

template <class Op, class F> void bind_row(nb::module_& m, nb::class_<PyTensor>& tensor, F call) {
  constexpr const char* name = Op::info.name.data();
  constexpr auto parameter_list = parameters<Op, attribute_first<Op>>();
  const auto callable = with_parameters(call, parameter_list);
  std::apply([&](const auto&... a) { m.def(name, callable, a..., Op::info.math.data()); },
             arguments<Op, 0>(parameter_list));
  if constexpr (!is_internal(Op::info.name) && Op::arity > 0 && !has_own_method(Op::info.name)) {
    std::apply([&](const auto&... a) { tensor.def(name, callable, a..., Op::info.math.data()); },
               arguments<Op, 1>(parameter_list));
    if constexpr (takes_list<Op>()) {
      tensor.def(name, [call](const Tensor& x, const nb::args& list) {
        return call(x, attr_t<Op, 0>(shape_from_args(list, name)));
      });
    }
  }
}

// The bare function of a row, whatever overloads share its name.
#define LG_FUNCTION(name) [](const auto&... a) { return lg::name(a...); }

}  // namespace

void bind_operations(nb::module_& m, nb::class_<PyTensor>& tensor) {
  nb::list all, internal;
#define ROW(Op, name)                              \
  bind_row<ops::Op>(m, tensor, LG_FUNCTION(name)); \
  (is_internal(#name) ? internal : all).append(#name);
  LG_OPS(ROW)
#undef ROW
  m.attr("_operations") = nb::tuple(all);  // the public rows, for tests and documentation
  m.attr("_internal_operations") = nb::tuple(internal);
}

}  // namespace lg::python
