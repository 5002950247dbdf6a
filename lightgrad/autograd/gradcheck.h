// gradcheck.h: gradients against finite differences.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "lightgrad/autograd/node.h"

namespace lg::autograd {

using CheckedFunction = std::function<std::vector<Tensor>(const std::vector<Tensor>&)>;

struct GradcheckOptions {
  double eps = 1e-6, atol = 1e-5, rtol = 1e-3;  // PyTorch's
};

// Compares the gradients of every differentiable output with central differences of float64 inputs
// that require a gradient. Throws RuntimeError naming the input, the output, the element and both
// numbers; otherwise returns true.
bool gradcheck(const CheckedFunction& f, const std::vector<Tensor>& inputs,
               GradcheckOptions options = {});
// The same for the gradients of the gradients.
bool gradgradcheck(const CheckedFunction& f, const std::vector<Tensor>& inputs,
                   GradcheckOptions options = {});

}  // namespace lg::autograd
