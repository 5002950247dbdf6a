#include "lightgrad/optim/lr_scheduler.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace lg::optim {

namespace {

void check_positive(std::int64_t n, std::string_view scheduler, std::string_view name) {
  if (n <= 0) fail(ErrorKind::value, scheduler, name, " is ", n, ", expected a positive number");
}

// 1 at 0, 0 at 1.
double half_cosine(double share) { return (1 + std::cos(std::numbers::pi * share)) / 2; }

}  // namespace

LRScheduler::LRScheduler(Optimizer& optimizer) : optimizer_(&optimizer) {
  for (const auto& g : optimizer.groups()) {
    base_lrs_.push_back(g->options.emplace("initial_lr", (*g)["lr"]).first->second);
  }
}

void LRScheduler::go_to(std::int64_t t) {
  last_epoch_ = t;
  for (std::size_t i = 0; i < base_lrs_.size(); ++i) set(optimizer_->group(i), i, t);
}

std::vector<double> LRScheduler::get_last_lr() const {
  std::vector<double> out;
  for (const auto& g : optimizer_->groups()) out.push_back((*g)["lr"]);
  return out;
}

void LRScheduler::load_state_dict(const SchedulerState& state) {
  if (state.base_lrs.size() != base_lrs_.size()) {
    fail(ErrorKind::value, "load_state_dict", "the state has learning rates of ",
         state.base_lrs.size(), " parameter groups, the optimizer has ", base_lrs_.size());
  }
  if (state.last_epoch < 0)
    fail(ErrorKind::value, "load_state_dict", "last_epoch is ", state.last_epoch);
  base_lrs_ = state.base_lrs;
  last_epoch_ = state.last_epoch;
}

StepLR::StepLR(Optimizer& optimizer, std::int64_t step_size, double gamma)
    : LRScheduler(optimizer), step_size_(step_size), gamma_(gamma) {
  check_positive(step_size, "StepLR", "step_size");
  go_to(0);
}
double StepLR::lr_at(std::size_t group, std::int64_t t) const {
  return base_lr(group) * std::pow(gamma_, static_cast<double>(t / step_size_));
}

LambdaLR::LambdaLR(Optimizer& optimizer, std::vector<Function> functions)
    : LRScheduler(optimizer), functions_(std::move(functions)) {
  const std::size_t groups = optimizer.groups().size();
  if (functions_.size() != 1 && functions_.size() != groups) {
    fail(ErrorKind::value, "LambdaLR", "got ", functions_.size(), " functions for ", groups,
         " parameter groups");
  }
  go_to(0);
}
double LambdaLR::lr_at(std::size_t group, std::int64_t t) const {
  return base_lr(group) * functions_[functions_.size() == 1 ? 0 : group](t);
}

CosineAnnealingLR::CosineAnnealingLR(Optimizer& optimizer, std::int64_t T_max, double eta_min)
    : LRScheduler(optimizer), T_max_(T_max), eta_min_(eta_min) {
  check_positive(T_max, "CosineAnnealingLR", "T_max");
  go_to(0);
}
double CosineAnnealingLR::lr_at(std::size_t group, std::int64_t t) const {
  return eta_min_ + (base_lr(group) - eta_min_) *
                        half_cosine(static_cast<double>(t) / static_cast<double>(T_max_));
}

LinearLR::LinearLR(Optimizer& optimizer, double start_factor, double end_factor,
                   std::int64_t total_iters)
    : LRScheduler(optimizer),
      start_factor_(start_factor),
      end_factor_(end_factor),
      total_iters_(total_iters) {
  if (!(start_factor > 0 && start_factor <= 1)) {
    fail(ErrorKind::value, "LinearLR", "start_factor is ", start_factor,
         ", expected a number above 0 and up to 1");
  }
  if (!(end_factor >= 0 && end_factor <= 1)) {
    fail(ErrorKind::value, "LinearLR", "end_factor is ", end_factor,
         ", expected a number from 0 to 1");
  }
  check_positive(total_iters, "LinearLR", "total_iters");
  go_to(0);
}
double LinearLR::lr_at(std::size_t group, std::int64_t t) const {
  const double share =
      static_cast<double>(std::min(t, total_iters_)) / static_cast<double>(total_iters_);
  return base_lr(group) * (start_factor_ + (end_factor_ - start_factor_) * share);
}

WarmupCosine::WarmupCosine(Optimizer& optimizer, std::int64_t warmup_steps,
                           std::int64_t total_steps, double min_lr)
    : LRScheduler(optimizer),
      warmup_steps_(warmup_steps),
      total_steps_(total_steps),
      min_lr_(min_lr) {
  if (warmup_steps < 0 || warmup_steps >= total_steps) {
    fail(ErrorKind::value, "WarmupCosine", "warmup_steps is ", warmup_steps,
         ", expected a number from 0 up and below the ", total_steps, " total steps");
  }
  if (!(min_lr >= 0))
    fail(ErrorKind::value, "WarmupCosine", "min_lr is ", min_lr, ", expected a number from 0 up");
  go_to(0);
}
double WarmupCosine::lr_at(std::size_t group, std::int64_t t) const {
  const double lr = base_lr(group);
  if (t < warmup_steps_)
    return lr * static_cast<double>(t + 1) / static_cast<double>(warmup_steps_ + 1);
  if (t >= total_steps_) return min_lr_;
  const double share =
      static_cast<double>(t - warmup_steps_) / static_cast<double>(total_steps_ - warmup_steps_);
  return min_lr_ + (lr - min_lr_) * half_cosine(share);
}

OneCycleLR::OneCycleLR(Optimizer& optimizer, std::vector<double> max_lr, std::int64_t total_steps,
                       OneCycleOptions o)
    : LRScheduler(optimizer), max_lr_(std::move(max_lr)), total_steps_(total_steps), options_(o) {
  check_positive(total_steps, "OneCycleLR", "total_steps");
  if (!(o.pct_start >= 0 && o.pct_start <= 1)) {
    fail(ErrorKind::value, "OneCycleLR", "pct_start is ", o.pct_start,
         ", expected a share from 0 to 1");
  }
  if (max_lr_.size() != optimizer.groups().size()) {
    fail(ErrorKind::value, "OneCycleLR", "got ", max_lr_.size(), " max_lr for ",
         optimizer.groups().size(), " parameter groups");
  }
  const Options& known = optimizer.defaults();
  if (o.cycle_momentum && !known.contains("momentum") && !known.contains("beta1")) {
    fail(ErrorKind::value, "OneCycleLR", optimizer.name(),
         " has no momentum to cycle; pass cycle_momentum=False");
  }
  const double start = 1 / o.div_factor, finish = start / o.final_div_factor,
               total = static_cast<double>(total_steps);
  const double low = o.base_momentum, high = o.max_momentum, up = o.pct_start * total - 1;
  phases_.push_back({up, {start, high}, {1, low}});
  if (o.three_phase) {
    phases_.push_back({2 * o.pct_start * total - 2, {1, low}, {start, high}});
    phases_.push_back({total - 1, {start, high}, {finish, high}});
  } else {
    phases_.push_back({total - 1, {1, low}, {finish, high}});
  }
  for (std::size_t i = 0; i < max_lr_.size(); ++i) {
    base_lrs_[i] = max_lr_[i] / o.div_factor;
    optimizer.group(i).options["initial_lr"] = base_lrs_[i];
  }
  go_to(0);
}

double OneCycleLR::value_at(int which, std::int64_t t) const {
  if (t > total_steps_) {
    fail(ErrorKind::value, "OneCycleLR", "step ", t, " of a cycle of ", total_steps_, " steps");
  }
  const auto now = static_cast<double>(t);
  double begin = 0;
  const Phase* phase = &phases_.front();
  while (now > phase->end && phase != &phases_.back()) {
    begin = phase->end;
    ++phase;
  }
  const double share = (now - begin) / (phase->end - begin), from = phase->from[which],
               to = phase->to[which];
  return options_.cosine ? to + (from - to) * half_cosine(share) : from + (to - from) * share;
}

double OneCycleLR::lr_at(std::size_t group, std::int64_t t) const {
  return max_lr_[group] * value_at(0, t);
}

void OneCycleLR::set(ParameterGroup& group, std::size_t i, std::int64_t t) const {
  group.options["lr"] = lr_at(i, t);
  if (!options_.cycle_momentum) return;
  group.options[group.options.contains("beta1") ? "beta1" : "momentum"] = value_at(1, t);
}

SequentialLR::SequentialLR(Optimizer& optimizer,
                           std::vector<std::shared_ptr<LRScheduler>> schedulers,
                           std::vector<std::int64_t> milestones)
    : LRScheduler(optimizer),
      schedulers_(std::move(schedulers)),
      milestones_(std::move(milestones)) {
  if (schedulers_.empty()) fail(ErrorKind::value, "SequentialLR", "got no schedulers");
  if (milestones_.size() + 1 != schedulers_.size()) {
    fail(ErrorKind::value, "SequentialLR", "got ", milestones_.size(), " milestones between ",
         schedulers_.size(), " schedulers, expected ", schedulers_.size() - 1);
  }
  if (!std::is_sorted(milestones_.begin(), milestones_.end())) {
    fail(ErrorKind::value, "SequentialLR", "the milestones do not rise");
  }
  for (const auto& s : schedulers_) {
    if (!s || &s->optimizer() != &optimizer) {
      fail(ErrorKind::value, "SequentialLR", "a scheduler belongs to another optimizer");
    }
  }
  go_to(0);
}

void SequentialLR::set(ParameterGroup& group, std::size_t i, std::int64_t t) const {
  const auto k = static_cast<std::size_t>(
      std::upper_bound(milestones_.begin(), milestones_.end(), t) - milestones_.begin());
  schedulers_[k]->set(group, i, k == 0 ? t : t - milestones_[k - 1]);
}

SchedulerState SequentialLR::state_dict() const {
  SchedulerState state = LRScheduler::state_dict();
  for (const auto& s : schedulers_) state.parts.push_back(s->state_dict());
  return state;
}

void SequentialLR::load_state_dict(const SchedulerState& state) {
  if (state.parts.size() != schedulers_.size()) {
    fail(ErrorKind::value, "load_state_dict", "the state has ", state.parts.size(),
         " schedulers, SequentialLR has ", schedulers_.size());
  }
  for (std::size_t i = 0; i < schedulers_.size(); ++i)
    schedulers_[i]->load_state_dict(state.parts[i]);
  LRScheduler::load_state_dict(state);
}

}  // namespace lg::optim
