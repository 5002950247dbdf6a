// in_place.cpp: x.exp_(), x.clamp_(0, 1), ...: every pointwise row that gives a number, written
// into x's own memory.
#include "lightgrad/ops/run.h"
#include "rows.h"

namespace lg::python {
namespace {

template <class Op, class... P>
void bind_row(nb::class_<PyTensor>& tensor, TypeList<Input<Op, 0>, P...> all) {
  const std::string name = text(Op::info.name, "_");
  auto call = [](const Tensor& x, typename P::type... rest) -> Tensor {
    if constexpr (Op::arity == 1)
      return run_in_place(make_op<Op>(rest...), x);
    else
      return run_in_place(Op{}, x, rest...);
  };
  const std::string doc = text(Op::info.math, ", written into this tensor.");
  std::apply([&](const auto&... a) { tensor.def(name.c_str(), call, a..., doc.c_str()); },
             arguments<Op, 1>(all));
}

}  // namespace

void bind_in_place(nb::class_<PyTensor>& tensor) {
  PointwiseOps::each([&]<class Op>() {
    if constexpr (Op::rule != Rule::comparison && Op::arity < 3)
      bind_row<Op>(tensor, parameters<Op, false>());
  });
}

}  // namespace lg::python
