#include "lightgrad/optim/optimizer.h"

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "lightgrad/base/watch.h"
#include "lightgrad/ops/creation.h"
#include "lightgrad/ops/update.h"

namespace lg::optim {

double ParameterGroup::operator[](std::string_view name) const {
  const auto it = options.find(name);
  if (it == options.end()) fail(ErrorKind::index, "parameter group", "no option \"", name, "\"");
  return it->second;
}

Optimizer::Optimizer(const char* name, std::span<const Rule> rules,
                     std::span<const char* const> slots, std::vector<ParameterGroup> groups,
                     Options defaults, DType state_dtype)
    : name_(name),
      rules_(rules),
      slots_(slots),
      defaults_(std::move(defaults)),
      state_dtype_(state_dtype) {
  if (state_dtype != DType::float32 && state_dtype != DType::bfloat16) {
    fail(ErrorKind::value, name_, "state_dtype is ", lg::name_of(state_dtype),
         ", expected float32 or bfloat16");
  }
  check_options(defaults_);
  if (groups.empty()) fail(ErrorKind::value, name_, "got no parameters");
  for (ParameterGroup& g : groups) add_param_group(std::move(g));
}

void Optimizer::check_options(const Options& options) const {
  for (const Rule& rule : rules_) {
    const auto it = options.find(rule.option);
    if (it == options.end() || (it->second >= rule.min && it->second < rule.limit)) continue;
    const std::string below =
        rule.limit < HUGE_VAL ? text(" and below ", rule.limit) : std::string();
    fail(ErrorKind::value, name_, rule.option, " is ", it->second,
         ", expected a finite number from ", rule.min, " up", below);
  }
}

void Optimizer::add_param_group(ParameterGroup group) {
  if (group.params.empty()) fail(ErrorKind::value, name_, "got no parameters (an empty list)");
  std::unordered_set<const TensorImpl*> known;
  for (const Tensor& p : all_parameters()) known.insert(p.impl());
  for (std::size_t i = 0; i < group.params.size(); ++i) {
    const Tensor& p = group.params[i];
    if (!p.defined()) fail(ErrorKind::type, name_, "parameter ", i, " is undefined (None)");
    if (!is_floating(p.dtype())) {
      fail(ErrorKind::type, name_, "parameter ", i, " is ", p.describe(),
           ", expected a floating-point dtype");
    }
    if (!p.is_leaf()) {
      fail(ErrorKind::value, name_, "parameter ", i, " (", p.describe(),
           ") was computed from other tensors; optimize the tensors that it was computed from");
    }
    if (!known.insert(p.impl()).second) {
      fail(ErrorKind::value, name_, "parameter ", i, " (", p.describe(), ") is given twice");
    }
  }
  group.options.insert(defaults_.begin(), defaults_.end());  // those it does not have
  check_options(group.options);
  groups_.push_back(std::make_shared<ParameterGroup>(std::move(group)));
}

DType Optimizer::state_dtype_of(const Tensor& parameter) const {
  return parameter.dtype() == DType::float64 ? DType::float64 : state_dtype_;
}

std::vector<Tensor> Optimizer::all_parameters() const {
  std::vector<Tensor> all;
  for (const auto& g : groups_) all.insert(all.end(), g->params.begin(), g->params.end());
  return all;
}

void Optimizer::zero_grad(bool set_to_none) {
  for (const auto& group : groups_) {
    for (const Tensor& p : group->params) {
      if (set_to_none)
        p.zero_grad();
      else if (p.grad().defined())
        p.set_grad(zeros_like(p.grad().detach()));
    }
  }
}

void Optimizer::step() {
  const watch::Work work(name_, watch::Phase::step);
  update_all(1);
}

void Optimizer::step(double max_norm) {
  if (!(max_norm >= 0)) {
    fail(ErrorKind::value, text(name_, ".step"), "max_norm is ", max_norm,
         ", expected a number from 0 up");
  }
  const watch::Work work(name_, watch::Phase::step);
  PoolVector<const Tensor*> gradients;
  for (const auto& group : groups_) {
    for (const Tensor& p : group->params)
      if (const Tensor& g = p.impl()->grad; g.defined()) gradients.push_back(&g);
  }
  grad_norm_ = std::sqrt(sum_of_squares(gradients));
  update_all(clipping_factor(grad_norm_, max_norm));
}

void Optimizer::update_all(double grad_scale) {
  PoolVector<Update> updates;
  std::int64_t number = -1;
  for (const auto& group : groups_) {
    const std::size_t wanted = slots_wanted(*group);
    updates.clear();
    updates.reserve(group->params.size());
    bool together = true;
    for (const Tensor& p : group->params) {
      ++number;
      const Tensor& g = p.impl()->grad;
      if (!g.defined()) continue;
      ParameterState& state = state_[p.impl()];
      for (std::size_t i = 0; i < wanted; ++i) {
        Tensor& slot = state.slots[i];
        const DType dtype = state_dtype_of(p);
        if (!slot.defined()) {
          slot = zeros(p.shape(), dtype);
        } else if (slot.dtype() != dtype) {  // Module::to came in between
          const Tensor converted = Tensor::empty(p.shape(), dtype);
          converted.assign(slot);
          slot = converted;
        }
        slot.impl()->storage->serve(MemoryUse::optimizer);
      }
      updates.push_back({++state.step, number, &p, &g, &state.slots});
      together &= updates.back().step == updates.front().step;
    }
    if (!together) {  // layers that were frozen for a time; in the order of the parameters
      std::sort(updates.begin(), updates.end(), [](const Update& a, const Update& b) {
        return std::pair(a.step, a.parameter) < std::pair(b.step, b.parameter);
      });
    }
    for (auto first = updates.begin(); first != updates.end();) {
      const auto last = std::find_if(first, updates.end(),
                                     [&](const Update& u) { return u.step != first->step; });
      update(*group, first->step, grad_scale, {first, last});
      first = last;
    }
  }
}

std::int64_t Optimizer::bytes_to_come() const {
  std::int64_t bytes = 0;
  for (const auto& group : groups_) {
    for (const Tensor& p : group->params) {
      if (!p.requires_grad()) continue;
      const auto state = state_.find(p.impl());
      for (std::size_t i = 0; i < slots_wanted(*group); ++i) {
        if (state == state_.end() || !state->second.slots[i].defined())
          bytes += p.numel() * static_cast<std::int64_t>(size_of(state_dtype_of(p)));
      }
    }
  }
  return bytes;
}

OptimizerState Optimizer::state_dict() const {
  OptimizerState out;
  std::int64_t number = 0;
  for (const auto& group : groups_) {
    OptimizerState::Group g{{}, group->options};
    for (const Tensor& p : group->params) {
      g.params.push_back(number);
      if (const auto it = state_.find(p.impl()); it != state_.end()) {
        OptimizerState::Parameter& saved = out.parameters[number];
        saved.step = it->second.step;
        for (std::size_t i = 0; i < slots_.size(); ++i) {
          if (it->second.slots[i]) saved.tensors[slots_[i]] = it->second.slots[i];
        }
      }
      ++number;
    }
    out.groups.push_back(std::move(g));
  }
  return out;
}

void Optimizer::load_state_dict(const OptimizerState& state) {
  const auto bad = [&](const auto&... what) {
    fail(ErrorKind::value, text(name_, ".load_state_dict"), what...);
  };
  if (state.groups.size() != groups_.size()) {
    bad("the state has ", state.groups.size(), " parameter groups, the optimizer ", groups_.size());
  }
  std::unordered_map<const TensorImpl*, ParameterState> loaded;
  std::map<std::int64_t, bool> used;
  for (std::size_t k = 0; k < groups_.size(); ++k) {
    const auto& saved_group = state.groups[k];
    const auto& params = groups_[k]->params;
    if (saved_group.params.size() != params.size()) {
      bad("group ", k, " has ", saved_group.params.size(), " parameters in the state, ",
          params.size(), " in the optimizer");
    }
    check_options(saved_group.options);
    for (std::size_t i = 0; i < params.size(); ++i) {
      const std::int64_t number = saved_group.params[i];
      if (!used.emplace(number, true).second)
        bad("parameter ", number, " stands in the state's groups twice");
      const auto it = state.parameters.find(number);
      if (it == state.parameters.end()) continue;
      if (it->second.step < 0) bad("parameter ", number, " has made ", it->second.step, " steps");
      ParameterState& p = loaded[params[i].impl()];
      p.step = std::max<std::int64_t>(it->second.step, it->second.tensors.empty() ? 0 : 1);
      for (const auto& [name, t] : it->second.tensors) {
        const auto slot = std::find(slots_.begin(), slots_.end(), std::string_view(name));
        if (slot == slots_.end())
          bad("parameter ", number, " has a state \"", name, "\" that ", name_, " does not know");
        if (!t.defined()) continue;
        if (!(t.shape() == params[i].shape())) {
          bad("\"", name, "\" of parameter ", number, " is ", t.shape(), ", the parameter ",
              params[i].shape());
        }
        Tensor copy = Tensor::empty(t.shape(), state_dtype_of(params[i]));
        copy.assign(t.detach());
        p.slots[static_cast<std::size_t>(slot - slots_.begin())] = std::move(copy);
      }
    }
  }
  for (const auto& [number, p] : state.parameters) {
    if (!used.contains(number)) bad("the state of parameter ", number, " belongs to no group");
  }
  for (std::size_t k = 0; k < groups_.size(); ++k) {
    for (const auto& [name, value] : state.groups[k].options) groups_[k]->options[name] = value;
  }
  state_ = std::move(loaded);
}

}  // namespace lg::optim
