// checkpoint.h: activations for time: inside of checkpoint(f, x) nodes keep nothing for backward,
// which runs f again when it comes there. (Chen et al. 2016.)
#pragma once

#include <functional>
#include <type_traits>
#include <vector>

#include "lightgrad/autograd/saved_tensor.h"

namespace lg {

namespace detail {
// The recomputation of f on these inputs, with this thread's modes and random numbers of now.
Ref<autograd::Recompute> recompute(autograd::Recompute::Again f, const std::vector<Tensor>& inputs);
// Whether a checkpointed function runs again on this thread: what counts batches leaves that out.
bool recomputing();
}  // namespace detail

// f(inputs...), with the gradients that it would have without the checkpoint, to the bit. f may use
// other tensors (weights) too; it must do the same when it is called again, for which the default
// generator and autocast are set as they were. A batch norm inside counts its batch once in its
// running statistics. Checkpoints nest; the graph may be differentiated again. RuntimeError in
// backward when an input was changed in place since, or f did something else the second time.
template <class F, class... T> auto checkpoint(F f, const T&... inputs) {
  static_assert((std::is_base_of_v<Tensor, T> && ...), "inputs are tensors; f captures the rest");
  if (!autograd::grad_enabled) return f(inputs...);
  const auto again = [f](const std::vector<Tensor>& in) mutable {
    [&]<std::size_t... I>(std::index_sequence<I...>) { f(in[I]...); }
    (std::index_sequence_for<T...>());
  };
  const Ref<autograd::Recompute> r = detail::recompute(again, {inputs...});
  const autograd::Recompute::Scope scope(*r);
  return f(inputs...);
}

}  // namespace lg
