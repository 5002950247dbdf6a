// run_variadic.h: run<Op> for an operation on any number of tensors, as cat.
#pragma once

#include "lightgrad/ops/run.h"

namespace lg {

// The node of an operation on any number of tensors.
template <class Op> struct VariadicNode final : Node {
  Op op;
  PoolVector<Ref<Node>> edge;
  PoolVector<Shape> shapes;
  PoolVector<DType> dtypes;
  Meta out_meta;

  VariadicNode(Op o, const std::vector<Tensor>& in, const Tensor& y)
      : op(std::move(o)), out_meta{y.shape(), y.dtype()} {
    for (const Tensor& t : in) {
      if (t.impl()->is_view) detail::check_stale_view(Op::info.name, t);
      edge.push_back(t.edge());
      shapes.push_back(t.shape());
      dtypes.push_back(t.dtype());
    }
    n_edges = static_cast<int>(edge.size());
    edges = edge.data();
    detail::note_path(*this);
  }
  std::string_view name() const override { return Op::info.name; }
  Shape output_shape() const override { return out_meta.shape; }
  DType output_dtype() const override { return out_meta.dtype; }
  void backward(Tensor g, std::span<Tensor> gradients) override {
    for (std::size_t i = 0; i < edge.size(); ++i) {
      if (edge[i]) gradients[i] = detail::reduce_to(op.vjp(g, i, shapes), {shapes[i], dtypes[i]});
    }
  }
};

template <class Op> result_t<Op> run_variadic(Op op, const std::vector<Tensor>& tensors) {
  bool wanted = false;
  for (const Tensor& t : tensors) {
    if (!t.defined()) detail::fail_undefined(Op::info.name, Op::info.args[0]);
    wanted |= t.requires_grad();
    if constexpr (!IsComposite<Op>) {
      const Tensor* const in[] = {&t};
      if (detail::elsewhere(t)) detail::fail_no_kernel(Op::info.name, in);
    }
  }
  if constexpr (IsComposite<Op>) {
    return op.forward(tensors);
  } else {
    const bool watched = watch::flags.load(std::memory_order_relaxed) != 0;
    Tensor y = watched ? detail::variadic_watched(op, tensors) : op.forward(tensors);
    if (wanted && autograd::grad_enabled && is_floating(y.dtype())) {
      autograd::set_history(y, Ref<Node>::adopt(new VariadicNode<Op>(std::move(op), tensors, y)));
    }
    return y;
  }
}

}  // namespace lg
