// checkpoint.h: how a checkpoint keeps optimizers, schedules and scalers. checkpoint.py is the same
// in Python.
#pragma once

#include "lightgrad/lightgrad.h"

namespace io = lg::io;

inline void put_optimizer(io::Checkpoint& c, const lg::optim::Optimizer& optimizer) {
  for (const auto& [i, p] : optimizer.state_dict().parameters) {
    c.put(lg::text("optimizer.", i, ".step"), p.step);
    c.put_state(lg::text("optimizer.", i, "."), p.tensors);
  }
}

// Of an optimizer that has made a step.
inline void take_optimizer(const io::Checkpoint& c, lg::optim::Optimizer& optimizer) {
  lg::optim::OptimizerState state = optimizer.state_dict();
  for (const auto& group : state.groups) {
    for (const std::int64_t i : group.params) {
      auto& p = state.parameters[i];
      p.step = c.get<std::int64_t>(lg::text("optimizer.", i, ".step"));
      p.tensors = c.take_state(lg::text("optimizer.", i, "."));
    }
  }
  optimizer.load_state_dict(state);
}

// As after `step` steps, of which there was one at least: the learning rates are written too.
inline void go_to(lg::optim::LRScheduler& schedule, std::int64_t step) {
  schedule.load_state_dict({step - 1, schedule.base_lrs(), {}});
  schedule.step();
}

inline void put_scaler(io::Checkpoint& c, const lg::amp::GradScaler& scaler) {
  const auto state = scaler.state_dict();
  c.put("scaler.scale", state.scale);
  c.put("scaler.growth_tracker", state.growth_tracker);
  c.put("scaler.skipped_steps", state.skipped_steps);
}

inline void take_scaler(const io::Checkpoint& c, lg::amp::GradScaler& scaler) {
  auto state = scaler.state_dict();
  state.scale = c.get<double>("scaler.scale");
  state.growth_tracker = c.get<std::int64_t>("scaler.growth_tracker");
  state.skipped_steps = c.get<std::int64_t>("scaler.skipped_steps");
  scaler.load_state_dict(state);
}
