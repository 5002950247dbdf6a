// adam.h: Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019), as PyTorch has them.
#pragma once

#include "lightgrad/optim/optimizer.h"

namespace lg::optim {

struct AdamOptions {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  bool amsgrad = false, maximize = false;
  DType state_dtype = DType::float32;  // or bfloat16
};
struct AdamWOptions {  // AdamOptions with another default
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 1e-2;
  bool amsgrad = false, maximize = false;
  DType state_dtype = DType::float32;
  operator AdamOptions() const {
    return {lr, beta1, beta2, eps, weight_decay, amsgrad, maximize, state_dtype};
  }
};

//   g += weight_decay p;  m += (1 - beta1)(g - m);  v = beta2 v + (1 - beta2) g^2
//   p -= lr m' / (sqrt(v') + eps),  m' = m / (1 - beta1^step), v' = v / (1 - beta2^step)
//   amsgrad: v' from the largest v so far.
class Adam : public Optimizer {
 public:
  Adam(std::vector<ParameterGroup> groups, AdamOptions options = {})
      : Adam("Adam", false, std::move(groups), options) {}
  Adam(std::vector<Tensor> params, AdamOptions options = {})
      : Adam(one_group(std::move(params)), options) {}

 protected:
  Adam(const char* name, bool decoupled, std::vector<ParameterGroup> groups, AdamOptions options);
  void update(const ParameterGroup& group, std::int64_t step, double grad_scale,
              std::span<const Update> updates) override;
  static std::span<const Rule> rules();
  std::size_t slots_wanted(const ParameterGroup& group) const override;

 private:
  bool decoupled_;
};

// Weight decay apart from the gradient: p -= lr weight_decay p.
class AdamW final : public Adam {
 public:
  AdamW(std::vector<ParameterGroup> groups, AdamWOptions options = {})
      : Adam("AdamW", true, std::move(groups), options) {}
  AdamW(std::vector<Tensor> params, AdamWOptions options = {})
      : AdamW(one_group(std::move(params)), options) {}
};

}  // namespace lg::optim
