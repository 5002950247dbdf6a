// elsewhere.h: how run<Op> (run.h) computes on another device than the CPU: by the block's
// `forward_cuda` and `backward_cuda`, and with an error that names the operation where there are
// none.
#pragma once

#include <span>

#include "lightgrad/ops/ops.h"

namespace lg::detail {

inline bool elsewhere(const Tensor& t) {
  return t.defined() && t.impl()->device.type != DeviceType::cpu;
}
inline bool elsewhere(std::span<const Tensor* const> in) {
  bool any = false;
  for (const Tensor* t : in) any |= elsewhere(*t);
  return any;
}
[[noreturn]] void fail_no_kernel(std::string_view operation, std::span<const Tensor* const> in);
// The block's `forward_cuda`; what only looks at sizes needs none.
template <class Op, class... T>
[[gnu::noinline]] result_t<Op> forward_elsewhere(Op& op, std::span<const Tensor* const> in,
                                                 const T&... tensors) {
  if constexpr (requires { op.forward_cuda(tensors...); })
    return op.forward_cuda(tensors...);
  else if constexpr (
      requires { Op::any_device; } || requires { Op::view; })
    return op.forward(tensors...);
  else
    fail_no_kernel(Op::info.name, in);
}
template <class Op>
[[gnu::noinline]] void backward_elsewhere(const Op& op, const Tensor& g, const Tensor* x,
                                          const Tensor& y, unsigned wanted,
                                          std::span<Tensor> gradients) {
  const Tensor* const in[] = {&g};
  if constexpr (requires { op.backward_cuda(g, x, y, wanted, gradients); })
    op.backward_cuda(g, x, y, wanted, gradients);
  else
    fail_no_kernel(text(Op::info.name, "'s backward"), in);
}
// Overwrites `to` where it or the source lies elsewhere.
void assign_elsewhere(const Tensor& to, const Tensor& source);

}  // namespace lg::detail
