// lr_scheduler.h: learning rates as functions of the number of steps. A scheduler writes
// group["lr"] when it is made (step 0) and at each step(); the numbers are those of PyTorch's
// schedulers of the same names.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "lightgrad/optim/optimizer.h"

namespace lg::optim {

struct SchedulerState {
  std::int64_t last_epoch = 0;
  std::vector<double> base_lrs;       // one per group
  std::vector<SchedulerState> parts;  // of a scheduler made of schedulers
};

// Refers to its optimizer, which must outlive it.
class LRScheduler {
 public:
  virtual ~LRScheduler() = default;
  LRScheduler(const LRScheduler&) = delete;
  LRScheduler& operator=(const LRScheduler&) = delete;

  void step() { go_to(last_epoch_ + 1); }
  std::int64_t last_epoch() const { return last_epoch_; }
  std::vector<double> get_last_lr() const;
  Optimizer& optimizer() const { return *optimizer_; }
  const std::vector<double>& base_lrs() const { return base_lrs_; }

  virtual SchedulerState state_dict() const { return {last_epoch_, base_lrs_, {}}; }
  virtual void load_state_dict(
      const SchedulerState& state);  // ValueError when the number of groups differs

  // Writes the options of group i at step t.
  virtual void set(ParameterGroup& group, std::size_t i, std::int64_t t) const {
    group.options["lr"] = lr_at(i, t);
  }

 protected:
  // The groups' initial_lr, which is their lr when no scheduler has been there before.
  explicit LRScheduler(Optimizer& optimizer);
  virtual double lr_at(std::size_t group, std::int64_t t) const = 0;
  double base_lr(std::size_t group) const { return base_lrs_.at(group); }
  void go_to(std::int64_t t);  // constructors end with go_to(0)

  std::vector<double> base_lrs_;

 private:
  Optimizer* optimizer_;
  std::int64_t last_epoch_ = 0;
};

// lr gamma^floor(t / step_size)
class StepLR final : public LRScheduler {
 public:
  StepLR(Optimizer& optimizer, std::int64_t step_size, double gamma = 0.1);

 private:
  double lr_at(std::size_t group, std::int64_t t) const override;
  std::int64_t step_size_;
  double gamma_;
};

// lr f(t), with one function for all groups or one for each
class LambdaLR final : public LRScheduler {
 public:
  using Function = std::function<double(std::int64_t)>;
  LambdaLR(Optimizer& optimizer, std::vector<Function> functions);
  LambdaLR(Optimizer& optimizer, Function f)
      : LambdaLR(optimizer, std::vector<Function>{std::move(f)}) {}

 private:
  double lr_at(std::size_t group, std::int64_t t) const override;
  std::vector<Function> functions_;
};

// eta_min + (lr - eta_min)(1 + cos(pi t / T_max)) / 2
class CosineAnnealingLR final : public LRScheduler {
 public:
  CosineAnnealingLR(Optimizer& optimizer, std::int64_t T_max, double eta_min = 0);

 private:
  double lr_at(std::size_t group, std::int64_t t) const override;
  std::int64_t T_max_;
  double eta_min_;
};

// lr times a factor that goes in a line from start_factor to end_factor over total_iters steps, and
// stays
class LinearLR final : public LRScheduler {
 public:
  LinearLR(Optimizer& optimizer, double start_factor = 1.0 / 3, double end_factor = 1,
           std::int64_t total_iters = 5);

 private:
  double lr_at(std::size_t group, std::int64_t t) const override;
  double start_factor_, end_factor_;
  std::int64_t total_iters_;
};

// How language models are trained: lr (t + 1) / (warmup_steps + 1) for warmup_steps steps, a half
// cosine from lr down to min_lr until total_steps, then min_lr.
class WarmupCosine final : public LRScheduler {
 public:
  WarmupCosine(Optimizer& optimizer, std::int64_t warmup_steps, std::int64_t total_steps,
               double min_lr = 0);

 private:
  double lr_at(std::size_t group, std::int64_t t) const override;
  std::int64_t warmup_steps_, total_steps_;
  double min_lr_;
};

struct OneCycleOptions {
  double pct_start = 0.3;
  bool cosine = true;          // else straight lines
  bool cycle_momentum = true;  // momentum, or Adam's beta1, goes down while lr goes up
  double base_momentum = 0.85, max_momentum = 0.95;
  double div_factor = 25, final_div_factor = 1e4;
  bool three_phase = false;
};

// Smith and Topin 2018: from max_lr / div_factor up to max_lr, then down to max_lr / div_factor /
// final_div_factor.
class OneCycleLR final : public LRScheduler {
 public:
  OneCycleLR(Optimizer& optimizer, std::vector<double> max_lr, std::int64_t total_steps,
             OneCycleOptions options = {});
  OneCycleLR(Optimizer& optimizer, double max_lr, std::int64_t total_steps,
             OneCycleOptions options = {})
      : OneCycleLR(optimizer, std::vector<double>(optimizer.groups().size(), max_lr), total_steps,
                   options) {}

  void set(ParameterGroup& group, std::size_t i, std::int64_t t) const override;

 private:
  struct Phase {
    double end;
    double from[2], to[2];  // lr as a multiple of max_lr, momentum
  };
  double lr_at(std::size_t group, std::int64_t t) const override;
  double value_at(int which, std::int64_t t) const;
  std::vector<double> max_lr_;
  std::int64_t total_steps_;
  OneCycleOptions options_;
  std::vector<Phase> phases_;
};

// schedulers[k] from step milestones[k - 1] on, its own steps counted from there
class SequentialLR final : public LRScheduler {
 public:
  SequentialLR(Optimizer& optimizer, std::vector<std::shared_ptr<LRScheduler>> schedulers,
               std::vector<std::int64_t> milestones);

  void set(ParameterGroup& group, std::size_t i, std::int64_t t) const override;
  SchedulerState state_dict() const override;
  void load_state_dict(const SchedulerState& state) override;

 private:
  double lr_at(std::size_t group, std::int64_t) const override { return base_lr(group); }
  std::vector<std::shared_ptr<LRScheduler>> schedulers_;
  std::vector<std::int64_t> milestones_;
};

}  // namespace lg::optim
