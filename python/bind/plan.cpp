// plan.cpp: lightgrad.plan.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "common.h"

namespace lg::python {
namespace {

// The batch with the first n rows of each tensor.
nb::tuple rows_of_batch(nb::handle batch, std::int64_t n) {
  nb::list few;
  for (nb::handle h : batch) {
    if (is_tensor(h.ptr()))
      few.append(nb::cast(detail::first_rows(tensor_of(h.ptr()), n)));
    else
      few.append(h);
  }
  return nb::tuple(few);
}

Plan plan_of(nb::handle model, nb::args batch, nb::object loss, nb::handle optimizer,
             std::int64_t accumulate, std::optional<double> budget) {
  if (!nb::isinstance<nn::Module>(model)) {
    fail(ErrorKind::type, "plan", "model is a ", nb::type_name(model.type()).c_str(),
         ", expected a Module");
  }
  PlanOptions options;
  options.accumulate = accumulate;
  if (budget) options.budget = static_cast<std::int64_t>(*budget);
  if (!optimizer.is_none()) options.optimizer = nb::cast<optim::Optimizer*>(optimizer);
  std::vector<Tensor> tensors;
  for (nb::handle h : batch)
    if (is_tensor(h.ptr())) tensors.push_back(tensor_of(h.ptr()));
  const nb::handle function = loss.is_none() ? model : nb::handle(loss);
  return detail::plan(*nb::inst_ptr<nn::Module>(model), detail::rows_of(tensors), options,
                      [&](std::int64_t n) {
                        return [&, few = rows_of_batch(batch, n)] {
                          try {
                            nb::object y = function(*few);
                            if (loss.is_none()) y = y.attr("sum")();
                            y.attr("backward")();
                          } catch (nb::python_error& e) {  // a plan tries fewer rows, then
                            if (!e.matches(PyExc_MemoryError)) throw;
                            throw Error(ErrorKind::memory, nb::str(e.value()).c_str());
                          }
                        };
                      });
}

}  // namespace

void bind_plan(nb::module_& core) {
  const nb::object m = core.attr("profiler");
  using Layer = Plan::Layer;
  nb::class_<Layer>(m, "PlannedLayer", "A module with all that is below it; in bytes.")
      .def_ro("path", &Layer::path, "Dotted; \"\" for the model itself.")
      .def_ro("type", &Layer::type)
      .def_ro("depth", &Layer::depth, "0 for the model itself.")
      .def_ro("parameters", &Layer::parameters, "Shared ones count once.")
      .def_ro("kept", &Layer::kept,
              "After its forward: what it gives, and what the backward pass will need.")
      .def_ro("forward", &Layer::forward,
              "In use at the most, by the whole program, while it runs forward.")
      .def_ro("backward", &Layer::backward, "The same while its backward runs.")
      .def_ro("checkpoint", &Layer::checkpoint, "Whether it is to be checkpointed.");
  nb::class_<Plan>(m, "Plan", "The memory of a training step, in bytes; print it for a table.")
      .def_prop_ro(
          "layers", [](const Plan& p) { return p.layers; },
          "Parents first; the model itself comes first.")
      .def_ro("before", &Plan::before, "In use before a step, by the whole program.")
      .def_ro("states", &Plan::states, "Of the optimizer, those that its first step will make.")
      .def_ro("peak", &Plan::peak, "In use at the most during a step.")
      .def_ro("at", &Plan::at, "Where that is.")
      .def_ro("budget", &Plan::budget, "0 for none.")
      .def_ro("checkpoints", &Plan::checkpoints,
              "Paths of modules to checkpoint, where the peak is above the budget.")
      .def_ro("checkpointed_peak", &Plan::checkpointed_peak, "The peak with those.")
      .def_prop_ro("fits", &Plan::fits, "Whether the budget is kept, with the checkpoints.")
      .def("table", &Plan::to_string, "depth"_a = 0,
           "The layers down to `depth` levels below the model (0: all) as text.")
      .def("__str__", [](const Plan& p) { return p.to_string(); });
  core.def("plan", &plan_of, "model"_a, "batch"_a, nb::kw_only(), "loss"_a.none() = nb::none(),
           "optimizer"_a.none() = nb::none(), "accumulate"_a = 1, "budget"_a.none() = nb::none(),
           "Predicts the memory of a training step, layer by layer, and with a budget which "
           "modules to checkpoint. loss(*batch) is computed by the model; without it, it is the "
           "sum of model(*batch). The optimizer's states count, and `accumulate` is the number of "
           "parts that the batch is computed in.\n\nKnows no operation: steps on an eighth and a "
           "quarter of the batch are watched, in the model's own mode, and each moment's memory is "
           "continued along the batch; a step of less than 16 MiB is simply made. Gradients, "
           "buffers and the default generator are afterwards "
           "as they were. RuntimeError when the steps do not consist of the same operations.");
}

}  // namespace lg::python
