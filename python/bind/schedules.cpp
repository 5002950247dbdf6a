// schedules.cpp: lightgrad._core.optim.lr_scheduler.
#include <nanobind/stl/shared_ptr.h>

#include "modules.h"

namespace lg::python {
namespace {

using namespace optim;

nb::dict dict_of(const SchedulerState& s) {
  nb::dict out;
  out["last_epoch"] = s.last_epoch;
  out["base_lrs"] = nb::cast(s.base_lrs);
  if (!s.parts.empty()) {
    nb::list parts;
    for (const auto& p : s.parts) parts.append(dict_of(p));
    out["_schedulers"] = parts;
  }
  return out;
}
SchedulerState scheduler_state(nb::dict d) {
  SchedulerState s{
      nb::cast<std::int64_t>(d["last_epoch"]), nb::cast<std::vector<double>>(d["base_lrs"]), {}};
  if (d.contains("_schedulers"))
    for (nb::handle h : d["_schedulers"])
      s.parts.push_back(scheduler_state(nb::borrow<nb::dict>(h)));
  return s;
}

std::vector<double> numbers_from(nb::handle one_or_many, std::size_t count) {
  if (PyFloat_Check(one_or_many.ptr()) || PyLong_Check(one_or_many.ptr())) {
    return std::vector<double>(count, nb::cast<double>(one_or_many));
  }
  return nb::cast<std::vector<double>>(one_or_many);
}

// A Python function of the step.
LambdaLR::Function function_from(nb::object f) {
  return [f = PyRef(std::move(f))](std::int64_t t) {
    nb::gil_scoped_acquire lock;
    return nb::cast<double>(f.get()(t));
  };
}

void bind_one_cycle(nb::module_& m) {
  nb::class_<OneCycleLR, LRScheduler>(m, "OneCycleLR",
                                      "Up to max_lr and down again (Smith and Topin 2018).")
      .def(
          "__init__",
          [](OneCycleLR* at, Optimizer& o, nb::handle max_lr,
             std::optional<std::int64_t> total_steps, std::optional<std::int64_t> epochs,
             std::optional<std::int64_t> steps_per_epoch, double pct_start,
             const std::string& anneal, bool cycle_momentum, double base_momentum,
             double max_momentum, double div, double final_div, bool three_phase) {
            if (!total_steps && !(epochs && steps_per_epoch)) {
              fail(ErrorKind::value, "OneCycleLR",
                   "give total_steps, or epochs and steps_per_epoch");
            }
            if (anneal != "cos" && anneal != "linear") {
              fail(ErrorKind::value, "OneCycleLR", "anneal_strategy is \"", anneal,
                   "\", expected \"cos\" or \"linear\"");
            }
            new (at) OneCycleLR(o, numbers_from(max_lr, o.groups().size()),
                                total_steps ? *total_steps : *epochs * *steps_per_epoch,
                                {pct_start, anneal == "cos", cycle_momentum, base_momentum,
                                 max_momentum, div, final_div, three_phase});
          },
          nb::keep_alive<1, 2>(), "optimizer"_a, "max_lr"_a, "total_steps"_a.none() = nb::none(),
          "epochs"_a.none() = nb::none(), "steps_per_epoch"_a.none() = nb::none(),
          "pct_start"_a = 0.3, "anneal_strategy"_a = "cos", "cycle_momentum"_a = true,
          "base_momentum"_a = 0.85, "max_momentum"_a = 0.95, "div_factor"_a = 25.0,
          "final_div_factor"_a = 1e4, "three_phase"_a = false);
}

}  // namespace

void bind_schedules(nb::module_& optim) {
  nb::module_ m = optim.def_submodule("lr_scheduler", "Learning-rate schedules.");
  nb::class_<LRScheduler> base(m, "LRScheduler", nb::is_weak_referenceable(),
                               "What all schedules share.");
  base.def("step", &LRScheduler::step,
           "Goes on to the next step and writes the groups' learning rates.");
  base.def("get_last_lr", &LRScheduler::get_last_lr);
  base.def_prop_ro("last_epoch", &LRScheduler::last_epoch);
  base.def_prop_ro("base_lrs", &LRScheduler::base_lrs);
  base.def_prop_ro("optimizer", &LRScheduler::optimizer, nb::rv_policy::reference);
  base.def("state_dict", [](LRScheduler& s) { return dict_of(s.state_dict()); });
  base.def(
      "load_state_dict", [](LRScheduler& s, nb::dict d) { s.load_state_dict(scheduler_state(d)); },
      "state_dict"_a);
  const nb::keep_alive<1, 2> keep;
  nb::class_<StepLR, LRScheduler>(m, "StepLR", "lr gamma^floor(t / step_size)")
      .def(nb::init<Optimizer&, std::int64_t, double>(), keep, "optimizer"_a, "step_size"_a,
           "gamma"_a = 0.1);
  nb::class_<LambdaLR, LRScheduler>(m, "LambdaLR", "lr f(t)")
      .def(
          "__init__",
          [](LambdaLR* at, Optimizer& o, nb::object f) {
            std::vector<LambdaLR::Function> functions;
            if (PyCallable_Check(f.ptr()))
              functions.push_back(function_from(f));
            else
              for (nb::handle h : f) functions.push_back(function_from(nb::borrow(h)));
            new (at) LambdaLR(o, std::move(functions));
          },
          keep, "optimizer"_a, "lr_lambda"_a);
  nb::class_<CosineAnnealingLR, LRScheduler>(m, "CosineAnnealingLR",
                                             "eta_min + (lr - eta_min)(1 + cos(pi t / T_max)) / 2")
      .def(nb::init<Optimizer&, std::int64_t, double>(), keep, "optimizer"_a, "T_max"_a,
           "eta_min"_a = 0.0);
  nb::class_<LinearLR, LRScheduler>(m, "LinearLR",
                                    "lr times a factor from start_factor to end_factor.")
      .def(nb::init<Optimizer&, double, double, std::int64_t>(), keep, "optimizer"_a,
           "start_factor"_a = 1.0 / 3, "end_factor"_a = 1.0, "total_iters"_a = 5);
  nb::class_<WarmupCosine, LRScheduler>(m, "WarmupCosine",
                                        "A linear warm-up, then half a cosine down to min_lr.")
      .def(nb::init<Optimizer&, std::int64_t, std::int64_t, double>(), keep, "optimizer"_a,
           "warmup_steps"_a, "total_steps"_a, "min_lr"_a = 0.0);
  bind_one_cycle(m);
  nb::class_<SequentialLR, LRScheduler>(m, "SequentialLR",
                                        "schedulers[k] from step milestones[k - 1] on.")
      .def(
          "__init__",
          [](SequentialLR* at, Optimizer& o, std::vector<std::shared_ptr<LRScheduler>> schedulers,
             std::vector<std::int64_t> milestones) {
            new (at) SequentialLR(o, std::move(schedulers), std::move(milestones));
          },
          keep, "optimizer"_a, "schedulers"_a, "milestones"_a);
}

}  // namespace lg::python
