#include "lightgrad/optim/adam.h"

#include <cmath>

#include "lightgrad/ops/update.h"

namespace lg::optim {

namespace {
constexpr const char* slots[] = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"};
}

Adam::Adam(const char* name, bool decoupled, std::vector<ParameterGroup> groups, AdamOptions o)
    : Optimizer(name, rules(), slots, std::move(groups),
                {{"lr", o.lr},
                 {"beta1", o.beta1},
                 {"beta2", o.beta2},
                 {"eps", o.eps},
                 {"weight_decay", o.weight_decay},
                 {"amsgrad", o.amsgrad},
                 {"maximize", o.maximize}},
                o.state_dtype),
      decoupled_(decoupled) {}

std::span<const Optimizer::Rule> Adam::rules() {
  static constexpr Rule table[] = {{"lr", 0, HUGE_VAL},
                                   {"beta1", 0, 1},
                                   {"beta2", 0, 1},
                                   {"eps", 0, HUGE_VAL},
                                   {"weight_decay", 0, HUGE_VAL}};
  return table;
}

std::size_t Adam::slots_wanted(const ParameterGroup& group) const {
  return group["amsgrad"] != 0 ? 3 : 2;
}

void Adam::update(const ParameterGroup& g, std::int64_t step, double grad_scale,
                  std::span<const Update> updates) {
  const auto t = static_cast<double>(step);
  adam_update({.lr = g["lr"],
               .beta1 = g["beta1"],
               .beta2 = g["beta2"],
               .eps = g["eps"],
               .weight_decay = g["weight_decay"],
               .decoupled = decoupled_,
               .amsgrad = g["amsgrad"] != 0,
               .maximize = g["maximize"] != 0,
               .bias_correction1 = 1 - std::pow(g["beta1"], t),
               .bias_correction2 = 1 - std::pow(g["beta2"], t),
               .grad_scale = grad_scale},
              updates);
}

}  // namespace lg::optim
