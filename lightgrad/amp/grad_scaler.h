// grad_scaler.h: training in float16: the loss is multiplied by a large number, so that small
// gradients do not vanish, and the gradients are divided by it again before the step.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>

#include "lightgrad/optim/optimizer.h"

namespace lg::amp {

struct GradScalerOptions {
  double init_scale = 65536;
  double growth_factor = 2;     // after growth_interval steps in a row without infinities
  double backoff_factor = 0.5;  // after a step with one
  std::int64_t growth_interval = 2000;
  bool enabled = true;  // false: every call does what the program would do without a scaler
};

// scaler.scale(loss).backward();  scaler.step(optimizer);  scaler.update();  optimizer.zero_grad();
//
// A step whose gradients are not all finite is not taken: parameters and the optimizer's state stay
// as they are. Several optimizers may share a scaler: unscale_ and step each, then one update().
class GradScaler {
 public:
  // ValueError for a scale that is not above 0, growth below 1, backoff outside (0, 1), an interval
  // below 1.
  explicit GradScaler(GradScalerOptions options = {});

  Tensor scale(const Tensor& loss) const;
  // Divides the optimizer's gradients by the scale and looks whether all are finite, in one pass:
  // for those who clip, or look at gradients, before step(). RuntimeError when it was done already
  // since the last update(), or no parameter has a gradient; TypeError for float16 gradients.
  void unscale_(optim::Optimizer& optimizer);
  // unscale_, unless that was done, and the optimizer's step if all gradients are finite. Returns
  // whether it was taken. With max_norm, as optimizer.step(max_norm). RuntimeError when called
  // twice between updates.
  bool step(optim::Optimizer& optimizer, std::optional<double> max_norm = {});
  // Ends the step: the scale shrinks after one that was not taken, and grows from time to time; or
  // is set. RuntimeError when no optimizer was unscaled or stepped.
  void update(std::optional<double> new_scale = {});

  double get_scale() const { return options_.enabled ? scale_ : 1; }
  std::int64_t growth_tracker() const { return growth_tracker_; }
  // Steps that were not taken, in all.
  std::int64_t skipped_steps() const { return skipped_; }
  const GradScalerOptions& options() const { return options_; }

  struct State {
    double scale, growth_factor, backoff_factor;
    std::int64_t growth_interval, growth_tracker, skipped_steps;
  };
  State state_dict() const;
  void load_state_dict(const State& state);  // ValueError as the constructor

 private:
  struct Progress {
    bool finite = true, stepped = false;
  };

  GradScalerOptions options_;
  double scale_;
  std::int64_t growth_tracker_ = 0, skipped_ = 0;
  std::unordered_map<const optim::Optimizer*, Progress> progress_;  // since the last update
};

}  // namespace lg::amp
