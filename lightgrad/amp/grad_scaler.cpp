#include "lightgrad/amp/grad_scaler.h"

#include <cmath>

#include "lightgrad/ops/ops.h"
#include "lightgrad/ops/update.h"

namespace lg::amp {

namespace {

void check(double scale, const GradScalerOptions& o) {
  const auto bad = [](const char* name, double value, const char* expected) {
    fail(ErrorKind::value, "GradScaler", name, " is ", value, ", expected ", expected);
  };
  if (!(scale > 0) || std::isinf(scale)) bad("the scale", scale, "a finite number above 0");
  if (!(o.growth_factor > 1) || std::isinf(o.growth_factor))
    bad("growth_factor", o.growth_factor, "a finite number above 1");
  if (!(o.backoff_factor > 0 && o.backoff_factor < 1))
    bad("backoff_factor", o.backoff_factor, "a number between 0 and 1");
  if (o.growth_interval < 1)
    bad("growth_interval", static_cast<double>(o.growth_interval), "at least 1");
}

}  // namespace

GradScaler::GradScaler(GradScalerOptions options) : options_(options), scale_(options.init_scale) {
  check(scale_, options_);
}

Tensor GradScaler::scale(const Tensor& loss) const {
  // In float32, where the scaled loss of a float16 model still fits.
  return options_.enabled ? mul(is_half(loss.dtype()) ? to(loss, DType::float32) : loss, scale_)
                          : loss;
}

void GradScaler::unscale_(optim::Optimizer& optimizer) {
  if (!options_.enabled) return;
  if (const auto it = progress_.find(&optimizer); it != progress_.end()) {
    fail(ErrorKind::runtime, "GradScaler.unscale_",
         it->second.stepped ? "called after step()" : "called twice",
         " for this optimizer since the last update()");
  }
  PoolVector<const Tensor*> gradients;
  for (const auto& group : optimizer.groups()) {
    for (const Tensor& p : group->params) {
      const Tensor& g = p.impl()->grad;
      if (!g.defined()) continue;
      if (g.dtype() == DType::float16) {
        fail(ErrorKind::type, "GradScaler.unscale_", "a gradient is ", g.describe(),
             ", expected float32: keep parameters in float32 and use autocast");
      }
      gradients.push_back(&g);
    }
  }
  if (gradients.empty()) {
    fail(ErrorKind::runtime, "GradScaler.unscale_",
         "no parameter of the optimizer has a gradient; call scale(loss).backward() first");
  }
  progress_[&optimizer].finite = scale_in_place(gradients, 1 / scale_);
}

bool GradScaler::step(optim::Optimizer& optimizer, std::optional<double> max_norm) {
  const auto take = [&] {
    if (max_norm)
      optimizer.step(*max_norm);
    else
      optimizer.step();
    return true;
  };
  if (!options_.enabled) return take();
  if (!progress_.contains(&optimizer)) unscale_(optimizer);
  Progress& progress = progress_[&optimizer];
  if (progress.stepped) {
    fail(ErrorKind::runtime, "GradScaler.step",
         "called twice for this optimizer since the last update()");
  }
  progress.stepped = true;
  if (progress.finite) return take();
  ++skipped_;
  return false;
}

void GradScaler::update(std::optional<double> new_scale) {
  if (!options_.enabled) return;
  if (new_scale) {
    check(*new_scale, options_);
    scale_ = *new_scale;
  } else {
    if (progress_.empty()) {
      fail(ErrorKind::runtime, "GradScaler.update",
           "no optimizer was unscaled or stepped since the last update()");
    }
    bool finite = true;
    for (const auto& [optimizer, progress] : progress_) finite &= progress.finite;
    if (!finite) {
      scale_ *= options_.backoff_factor;
      growth_tracker_ = 0;
    } else if (++growth_tracker_ == options_.growth_interval) {
      // Gradients are float32: a scale beyond it would be infinite there.
      if (const double grown = scale_ * options_.growth_factor;
          std::isfinite(static_cast<float>(grown)))
        scale_ = grown;
      growth_tracker_ = 0;
    }
  }
  progress_.clear();
}

GradScaler::State GradScaler::state_dict() const {
  return {scale_,
          options_.growth_factor,
          options_.backoff_factor,
          options_.growth_interval,
          growth_tracker_,
          skipped_};
}

void GradScaler::load_state_dict(const State& s) {
  GradScalerOptions options = options_;
  options.growth_factor = s.growth_factor;
  options.backoff_factor = s.backoff_factor;
  options.growth_interval = s.growth_interval;
  check(s.scale, options);
  if (s.growth_tracker < 0 || s.skipped_steps < 0) {
    fail(ErrorKind::value, "GradScaler.load_state_dict", "growth_tracker is ", s.growth_tracker,
         " and skipped_steps ", s.skipped_steps, ", expected numbers from 0 up");
  }
  options_ = options;
  scale_ = s.scale;
  growth_tracker_ = s.growth_tracker;
  skipped_ = s.skipped_steps;
}

}  // namespace lg::amp
