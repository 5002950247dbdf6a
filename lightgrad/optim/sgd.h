// sgd.h: stochastic gradient descent with momentum (Sutskever et al. 2013), as PyTorch has it.
#pragma once

#include "lightgrad/optim/optimizer.h"

namespace lg::optim {

struct SGDOptions {
  double lr = 1e-3, momentum = 0, dampening = 0, weight_decay = 0;
  bool nesterov = false, maximize = false;
  DType state_dtype = DType::float32;  // or bfloat16
};

//   g += weight_decay p;  v = momentum v + (1 - dampening) g;  p -= lr v     (v = g in the first
//   step) with nesterov: p -= lr (g + momentum v)
class SGD final : public Optimizer {
 public:
  SGD(std::vector<ParameterGroup> groups, SGDOptions options = {});
  SGD(std::vector<Tensor> params, SGDOptions options = {})
      : SGD(one_group(std::move(params)), options) {}

 protected:
  void update(const ParameterGroup& group, std::int64_t step, double grad_scale,
              std::span<const Update> updates) override;
  static std::span<const Rule> rules();
  std::size_t slots_wanted(const ParameterGroup& group) const override;
};

}  // namespace lg::optim
