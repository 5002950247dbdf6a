// run_watched.h: how run<Op> (run.h) computes while somebody watches (base/watch.h): the same, with
// a record of it. All out of line, and never on the way of those who do not watch.
#pragma once

#include <span>
#include <vector>

#include "lightgrad/base/watch.h"
#include "lightgrad/ops/op.h"
#include "lightgrad/tensor/tensor.h"

namespace lg::detail {

inline Meta meta_of(const Tensor& t) { return t.defined() ? Meta{t.shape(), t.dtype()} : Meta{}; }
// Ends a forward: its cost, unless y only shares its input's memory, and anomaly mode's look at y.
void finish_watched(watch::Work& work, std::string_view operation, Cost cost, bool view,
                    const Tensor& y, std::span<const Tensor* const> in);

template <class Op, class... T>
[[gnu::noinline, gnu::cold]] Tensor forward_watched(Op& op, const Tensor* const* in,
                                                    const T&... tensors) {
  watch::Work work(Op::info.name, watch::Phase::forward);
  Tensor y = op.forward(tensors...);
  const Meta metas[] = {meta_of(tensors)...};
  finish_watched(work, Op::info.name, op.cost(metas, meta_of(y)), requires { Op::view; }, y,
                 {in, sizeof...(T)});
  return y;
}

// What a backward kernel must do: its own rule, else twice the forward; it reads what was kept and
// g, and writes the gradients that are wanted.
template <class Op>
[[gnu::noinline, gnu::cold]] void add_backward_cost(const Op& op, Metas in, const Meta& out,
                                                    unsigned wanted) {
  double moved = out.bytes();
  for (std::size_t i = 0; i <= in.size(); ++i) {
    const double bytes = i < in.size() ? in[i].bytes() : out.bytes();
    moved += ((Op::keeps >> i & 1) + (wanted >> i & 1)) * bytes;
  }
  if constexpr (requires { op.backward_cost(in, out, moved); })
    watch::add(op.backward_cost(in, out, moved));
  else
    watch::add({2 * op.cost(in, out).flops, moved});
}

template <class Op>
[[gnu::noinline, gnu::cold]] Tensor variadic_watched(Op& op, const std::vector<Tensor>& tensors) {
  watch::Work work(Op::info.name, watch::Phase::forward);
  Tensor y = op.forward(tensors);
  std::vector<const Tensor*> in;
  std::vector<Meta> metas;
  for (const Tensor& t : tensors) {
    in.push_back(&t);
    metas.push_back(meta_of(t));
  }
  finish_watched(work, Op::info.name, op.cost(metas, meta_of(y)), false, y, in);
  return y;
}

}  // namespace lg::detail
