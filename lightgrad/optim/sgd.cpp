#include "lightgrad/optim/sgd.h"

#include <cmath>

#include "lightgrad/ops/update.h"

namespace lg::optim {

namespace {
constexpr const char* slots[] = {"momentum_buffer"};
}

SGD::SGD(std::vector<ParameterGroup> groups, SGDOptions o)
    : Optimizer("SGD", rules(), slots, std::move(groups),
                {{"lr", o.lr},
                 {"momentum", o.momentum},
                 {"dampening", o.dampening},
                 {"weight_decay", o.weight_decay},
                 {"nesterov", o.nesterov},
                 {"maximize", o.maximize}},
                o.state_dtype) {
  for (const auto& g : this->groups()) {
    if ((*g)["nesterov"] != 0 && ((*g)["momentum"] <= 0 || (*g)["dampening"] != 0)) {
      fail(ErrorKind::value, "SGD",
           "nesterov needs a momentum above 0 and no dampening, got momentum ", (*g)["momentum"],
           " and dampening ", (*g)["dampening"]);
    }
  }
}

std::span<const Optimizer::Rule> SGD::rules() {
  static constexpr Rule table[] = {{"lr", 0, HUGE_VAL},
                                   {"momentum", 0, HUGE_VAL},
                                   {"dampening", -HUGE_VAL, HUGE_VAL},
                                   {"weight_decay", 0, HUGE_VAL}};
  return table;
}

std::size_t SGD::slots_wanted(const ParameterGroup& group) const {
  return group["momentum"] != 0 ? 1 : 0;
}

void SGD::update(const ParameterGroup& g, std::int64_t step, double grad_scale,
                 std::span<const Update> updates) {
  sgd_update({.lr = g["lr"],
              .momentum = g["momentum"],
              .dampening = g["dampening"],
              .weight_decay = g["weight_decay"],
              .nesterov = g["nesterov"] != 0,
              .maximize = g["maximize"] != 0,
              .first_step = step == 1,
              .grad_scale = grad_scale},
             updates);
}

}  // namespace lg::optim
