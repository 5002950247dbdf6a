// optimizer.h: parameter groups, state by the identity of a parameter, and the checks that all
// optimizers share. load_state_dict and Module::to put new data into the same Tensor, so an
// optimizer never goes stale.
#pragma once

#include <array>
#include <limits>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "lightgrad/tensor/tensor.h"

namespace lg {
struct Update;  // ops/update.h
}

namespace lg::optim {

using Options = std::map<std::string, double, std::less<>>;  // flags as 0 and 1

// Parameters with the same options; schedulers and users write options["lr"]. Options that are left
// out are the optimizer's defaults.
struct ParameterGroup {
  std::vector<Tensor> params;
  Options options;

  double operator[](std::string_view name) const;  // IndexError when there is none
};

// Everything but the parameters themselves: what is saved. Parameters are numbered across the
// groups.
struct OptimizerState {
  struct Group {
    std::vector<std::int64_t> params;
    Options options;
  };
  struct Parameter {
    std::int64_t step = 0;
    std::map<std::string, Tensor> tensors;
  };
  std::vector<Group> groups;
  std::map<std::int64_t, Parameter> parameters;
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  // Updates every parameter that has a gradient.
  void step();
  // The same as nn::utils::clip_grad_norm_ on the gradients of all groups and then step(), without
  // a pass over memory for the scaling: the gradients keep their values. ValueError when max_norm
  // is below 0.
  void step(double max_norm);
  // The norm of the gradients that the last step(max_norm) found; NaN before.
  double grad_norm() const { return grad_norm_; }
  // Lets the gradients go, or fills them with zeros.
  void zero_grad(bool set_to_none = true);
  // ValueError for an empty group, a parameter that is computed, not floating-point or already
  // here, an option out of its range.
  void add_param_group(ParameterGroup group);

  const std::vector<std::shared_ptr<ParameterGroup>>& groups() const { return groups_; }
  ParameterGroup& group(std::size_t i) const { return *groups_.at(i); }
  const Options& defaults() const { return defaults_; }
  DType state_dtype() const { return state_dtype_; }
  // Of the states that a step with all gradients would make, and that are not there yet.
  std::int64_t bytes_to_come() const;
  std::string_view name() const { return name_; }

  OptimizerState state_dict() const;  // shares the state's memory
  // Copies the state, converting dtypes: to this optimizer's state_dtype. ValueError when groups,
  // parameters or shapes do not match; then nothing has changed.
  void load_state_dict(const OptimizerState& state);

 protected:
  // An option is a number with min <= value < limit; NaN never is.
  struct Rule {
    const char* option;
    double min, limit;
  };
  static std::vector<ParameterGroup> one_group(std::vector<Tensor> params) {
    return {{std::move(params), {}}};
  }

  // `slots` names the state tensors in the order of Update::state. `rules` and `slots` have static
  // lifetime. The state of float64 parameters is float64; that of the others float32, or bfloat16
  // for half the memory, rounded by chance so that no small change is lost (kernels/optimizer.h).
  Optimizer(const char* name, std::span<const Rule> rules, std::span<const char* const> slots,
            std::vector<ParameterGroup> groups, Options defaults, DType state_dtype);

  // The updates of one group, all at the same step, which counts from 1. Gradients are multiplied
  // by grad_scale first.
  virtual void update(const ParameterGroup& group, std::int64_t step, double grad_scale,
                      std::span<const Update> updates) = 0;
  // How many state tensors the group's options ask for.
  virtual std::size_t slots_wanted(const ParameterGroup& group) const = 0;

 private:
  void update_all(double grad_scale);
  DType state_dtype_of(const Tensor& parameter) const;
  void check_options(const Options& options) const;
  std::vector<Tensor> all_parameters() const;

  struct ParameterState {
    std::int64_t step = 0;
    std::array<Tensor, 3> slots;
  };

  const char* name_;
  std::span<const Rule> rules_;
  std::span<const char* const> slots_;
  Options defaults_;
  DType state_dtype_;
  std::vector<std::shared_ptr<ParameterGroup>> groups_;  // shared: Python edits group["lr"]
  std::unordered_map<const TensorImpl*, ParameterState> state_;
  double grad_norm_ = std::numeric_limits<double>::quiet_NaN();
};

}  // namespace lg::optim
