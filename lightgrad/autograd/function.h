// function.h: operations of the user's own, with their own gradient.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "lightgrad/autograd/saved_tensor.h"

namespace lg::autograd {

// What forward keeps for backward.
class FunctionContext {
 public:
  void save_for_backward(std::vector<Tensor> tensors);
  // RuntimeError when one of them was changed in place since.
  std::vector<Tensor> saved_tensors();
  // needs_input_grad[i]: whether backward's result i will be used.
  std::vector<bool> needs_input_grad;

  // Whether there was anything to let go of.
  bool release() { return !std::exchange(saved_, {}).empty(); }

 private:
  std::vector<SavedTensor> saved_;
};

using FunctionBackward =
    std::function<std::vector<Tensor>(FunctionContext&, const std::vector<Tensor>& gradients)>;

// Makes `outputs` (computed from `inputs` by the caller, without a graph) part of the graph: their
// gradients go through `backward`, which gives one gradient per input (undefined: none). An
// undefined incoming gradient of one of several outputs arrives as zeros.
std::vector<Tensor> record_function(std::string name, const std::vector<Tensor>& inputs,
                                    std::vector<Tensor> outputs,
                                    std::shared_ptr<FunctionContext> context,
                                    FunctionBackward backward);

// struct Cube : autograd::Function<Cube> {
//   static Tensor forward(FunctionContext& c, const Tensor& x) { c.save_for_backward({x}); return x
//   * x * x; } static std::vector<Tensor> backward(FunctionContext& c, const std::vector<Tensor>&
//   g) {
//     Tensor x = c.saved_tensors()[0]; return {g[0] * 3 * x * x}; }
// };
// Tensor y = Cube::apply(x);
template <class Derived> struct Function {
  template <class... A> static Tensor apply(const A&... args) {
    auto context = std::make_shared<FunctionContext>();
    std::vector<Tensor> inputs;
    (
        [&] {
          if constexpr (std::is_base_of_v<Tensor, A>) inputs.push_back(args);
        }(),
        ...);
    for (const Tensor& t : inputs) context->needs_input_grad.push_back(t.requires_grad());
    Tensor y;
    {
      GradMode off(false);
      y = Derived::forward(*context, args...);
    }
    return record_function(typeid(Derived).name(), inputs, {y}, context, &Derived::backward)[0];
  }
};

}  // namespace lg::autograd
