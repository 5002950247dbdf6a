// amp.cpp: lightgrad._core.amp: the two ends of an autocast scope, and the scaler of losses.
#include <nanobind/stl/shared_ptr.h>

#include "common.h"

namespace lg::python {
namespace {

using amp::GradScaler;

nb::dict state_of(const GradScaler& scaler) {
  const GradScaler::State s = scaler.state_dict();
  nb::dict out;
  out["scale"] = s.scale;
  out["growth_factor"] = s.growth_factor;
  out["backoff_factor"] = s.backoff_factor;
  out["growth_interval"] = s.growth_interval;
  out["_growth_tracker"] = s.growth_tracker;
  out["skipped_steps"] = s.skipped_steps;
  return out;
}

void load_state(GradScaler& scaler, nb::dict d) {
  GradScaler::State s{};
  const auto take = [&](const char* name, auto& to) {
    if (!d.contains(name))
      fail(ErrorKind::value, "GradScaler.load_state_dict", "the state has no \"", name, "\"");
    to = nb::cast<std::remove_reference_t<decltype(to)>>(d[name]);
  };
  take("scale", s.scale);
  take("growth_factor", s.growth_factor);
  take("backoff_factor", s.backoff_factor);
  take("growth_interval", s.growth_interval);
  take("_growth_tracker", s.growth_tracker);
  if (d.contains("skipped_steps")) take("skipped_steps", s.skipped_steps);  // PyTorch has none
  scaler.load_state_dict(s);
}

void bind_scaler(nb::module_& m) {
  const amp::GradScalerOptions defaults;
  nb::class_<GradScaler>(
      m, "GradScaler", nb::is_weak_referenceable(),
      "Training in float16: scaler.scale(loss).backward(); scaler.step(optimizer); "
      "scaler.update(). A step whose gradients are not all finite is not taken: parameters and "
      "the optimizer's state stay as they are.")
      .def(
          "__init__",
          [](GradScaler* at, double scale, double growth, double backoff, std::int64_t interval,
             bool enabled) {
            new (at) GradScaler({scale, growth, backoff, interval, enabled});
          },
          "init_scale"_a = defaults.init_scale, "growth_factor"_a = defaults.growth_factor,
          "backoff_factor"_a = defaults.backoff_factor,
          "growth_interval"_a = defaults.growth_interval, "enabled"_a = true)
      .def("scale", &GradScaler::scale, "loss"_a, "The loss times the scale, in float32.")
      .def("unscale_", &GradScaler::unscale_, "optimizer"_a,
           "Divides the optimizer's gradients by the scale, for those who clip them before step().")
      .def("step", &GradScaler::step, "optimizer"_a, nb::kw_only(),
           "max_norm"_a.none() = nb::none(),
           "The optimizer's step, if all gradients are finite; returns whether it was taken.")
      .def("update", &GradScaler::update, "new_scale"_a.none() = nb::none(),
           "Ends the step: the scale shrinks after one that was not taken, and grows after "
           "growth_interval others.")
      .def("get_scale", &GradScaler::get_scale)
      .def("is_enabled", [](const GradScaler& s) { return s.options().enabled; })
      .def_prop_ro("skipped_steps", &GradScaler::skipped_steps,
                   "The number of steps that were not taken.")
      .def("state_dict", &state_of)
      .def("load_state_dict", &load_state, "state_dict"_a);
}

}  // namespace

void bind_amp(nb::module_& core) {
  nb::module_ m = core.def_submodule("amp");
  m.def("_enter", &amp::detail::enter, "dtype"_a, "enabled"_a);
  m.def("_leave", &amp::detail::leave, "before"_a);
  m.def("_why_slow", &amp::why_slow, "dtype"_a);
  m.def("is_autocast_enabled", &amp::is_autocast_enabled,
        "Whether operations of this thread run in half precision where that is sound.");
  m.def("autocast_dtype", &amp::autocast_dtype, "The dtype of that; float32 where it is off.");
  bind_scaler(m);
}

}  // namespace lg::python
