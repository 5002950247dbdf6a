// plan.h: the memory of a training step, predicted before it is made, layer by layer; and which
// modules to checkpoint (ops/checkpoint.h) to stay within a budget.
//   const auto loss = [&](const Tensor& x, const Tensor& y) { return cross_entropy(model(x), y); };
//   std::puts(lg::plan(model, loss, {.optimizer = &adam, .budget = 700'000'000}, x, y)
//                 .to_string().c_str());
//
// Knows no operation: two steps on a few rows of the batch are watched, and each moment's memory is
// continued along the batch.
#pragma once

#include <functional>
#include <string>
#include <type_traits>
#include <vector>

#include "lightgrad/nn/members.h"
#include "lightgrad/ops/ops.h"
#include "lightgrad/optim/optimizer.h"

namespace lg {

struct PlanOptions {
  const optim::Optimizer* optimizer = nullptr;  // its states count; without one there are none
  std::int64_t budget = 0;                      // bytes; 0: none
  std::int64_t accumulate = 1;                  // parts that the batch is computed in
};

struct Plan {
  // A module with all that is below it; parents first, the model itself comes first. In bytes.
  struct Layer {
    std::string path, type;
    int depth = 0;                // of the model: 0
    std::int64_t parameters = 0;  // shared ones once
    std::int64_t kept = 0;        // after its forward: what it gives, and what backward will need
    std::int64_t forward = 0;     // in use at the most while it runs forward, and backward: of the
    std::int64_t backward = 0;    // whole program. 0 when it does not
    bool checkpoint = false;      // to be checkpointed
  };
  std::vector<Layer> layers;
  std::int64_t before = 0;  // in use before a step: parameters, the batch, all that the program has
  std::int64_t states = 0;  // of the optimizer, those of them that are not made yet
  std::int64_t peak = 0;    // in use at the most during a step
  std::string at;           // where that is: "backward of blocks.0.up"
  std::int64_t budget = 0;
  std::vector<std::string> checkpoints;  // with a budget that `peak` is above
  std::int64_t checkpointed_peak = 0;    // with those

  bool fits() const {
    return budget == 0 || (checkpoints.empty() ? peak : checkpointed_peak) <= budget;
  }
  // A table down to `depth` levels below the model (0: all).
  std::string to_string(int depth = 0) const;
};

namespace detail {
// prepare(n) makes a step on the first n rows of the batch: its call computes loss and gradients.
using PrepareStep = std::function<std::function<void()>(std::int64_t rows)>;
Plan plan(nn::Module& model, std::int64_t rows, const PlanOptions& options,
          const PrepareStep& prepare);
// The rows of a batch; ValueError unless all have as many.
std::int64_t rows_of(std::span<const Tensor> batch);
Tensor first_rows(const Tensor& x, std::int64_t n);  // in memory of its own
}  // namespace detail

// loss(batch...) is a tensor of one element, computed by the model. Steps on an eighth (twice) and
// a quarter of the batch run, or on less where memory is short (and on all of it where that takes
// little), in the model's own mode and autocast. Afterwards gradients, buffers and the default
// generator are as they were. What other threads allocate meanwhile counts too. RuntimeError when
// the steps do not consist of the same operations, ValueError when the rows of the batch differ.
template <class T, class F, class... A>
requires std::is_invocable_r_v<Tensor, F, const A&...> Plan plan(const nn::Mod<T>& model, F loss,
                                                                 const PlanOptions& options,
                                                                 const A&... batch) {
  if (!model) nn::fail_missing_module();
  const std::vector<Tensor> all{batch...};
  return detail::plan(*model, detail::rows_of(all), options, [&](std::int64_t n) {
    return [&loss, few = std::tuple(detail::first_rows(batch, n)...)] {
      std::apply(loss, few).backward();
    };
  });
}
// The loss is the sum of what the model gives.
template <class T, class... A> Plan plan(const nn::Mod<T>& model, const A&... batch) {
  return plan(
      model, [&](const A&... few) { return sum(model(few...)); }, {}, batch...);
}

}  // namespace lg
