// profile.cpp: lightgrad._core.profiler: a profile as a context manager; lightgrad.summary.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "common.h"

namespace lg::python {
namespace {

using namespace profiler;

TableOptions options_of(std::string group_by, std::string sort_by, std::optional<std::size_t> limit,
                        int depth) {
  return {std::move(group_by), std::move(sort_by), limit.value_or(0), depth};
}

void bind_results(nb::module_& m) {
  nb::class_<Event>(m, "Event", "One operation that ran.")
      .def_ro("name", &Event::name)
      .def_ro("module", &Event::module, "The module's dotted path, or \"\".")
      .def_prop_ro(
          "phase", [](const Event& e) { return std::string(name_of(e.phase)); },
          "\"forward\", \"backward\" or \"step\".")
      .def_prop_ro(
          "shape", [](const Event& e) { return e.shape; }, "Of its output.")
      .def_ro("thread", &Event::thread)
      .def_ro("depth", &Event::depth, "How many operations it ran inside of.")
      .def_ro("start", &Event::start, "Seconds since the profile began.")
      .def_ro("seconds", &Event::seconds)
      .def_ro("flops", &Event::flops)
      .def_ro("bytes", &Event::bytes, "What it must read and write at least.")
      .def_ro("held", &Event::held, "Bytes allocated when it ended.")
      .def_ro("kept", &Event::kept, "Bytes allocated when it ended, beyond those at its start.")
      .def_ro("peak", &Event::peak, "Bytes allocated at the most, beyond those at its start.")
      .def("__repr__", [](const Event& e) {
        return text("Event(", e.name, " ", name_of(e.phase), ", module=\"", e.module,
                    "\", shape=", e.shape, ", seconds=", e.seconds, ")");
      });
  nb::class_<Row>(m, "Row", "All calls of one operation (or in one module) together.")
      .def_ro("name", &Row::name)
      .def_ro("calls", &Row::calls)
      .def_ro("seconds", &Row::seconds)
      .def_ro("flops", &Row::flops)
      .def_ro("bytes", &Row::bytes)
      .def_ro("kept", &Row::kept)
      .def_ro("peak", &Row::peak)
      .def_prop_ro("flops_per_second", &Row::flops_per_second)
      .def_prop_ro("bytes_per_second", &Row::bytes_per_second)
      .def("__repr__", [](const Row& r) {
        return text("Row(", r.name, ", calls=", r.calls, ", seconds=", r.seconds,
                    ", flops=", r.flops, ", bytes=", r.bytes, ")");
      });
  nb::class_<Peak>(m, "Peak", "What a machine can do, per second.")
      .def(
          "__init__",
          [](Peak* at, double flops, double memory, double cache, int threads,
             std::string simd_target) {
            new (at) Peak{flops, memory, cache, threads, std::move(simd_target)};
          },
          "flops"_a, "memory"_a, "cache"_a, "threads"_a = 1, "simd_target"_a = "")
      .def_ro("flops", &Peak::flops, "float32 multiply-adds, each counted as two.")
      .def_ro("memory", &Peak::memory, "Bytes from or to main memory.")
      .def_ro("cache", &Peak::cache, "Bytes from or to the cores' own caches.")
      .def_ro("threads", &Peak::threads)
      .def_ro("simd_target", &Peak::simd_target)
      .def("__repr__", [](const Peak& p) {
        return text("Peak(flops=", p.flops, ", memory=", p.memory, ", cache=", p.cache,
                    ", threads=", p.threads, ", simd_target=\"", p.simd_target, "\")");
      });
}

void bind_summary(nb::module_& core, nb::module_& m) {
  using Layer = Summary::Layer;
  nb::class_<Layer>(m, "Layer", "A module with all that is below it.")
      .def_ro("path", &Layer::path, "Dotted; \"\" for the model itself.")
      .def_ro("type", &Layer::type)
      .def_ro("depth", &Layer::depth, "0 for the model itself.")
      .def_ro(
          "output", &Layer::output,
          "The shape of what it gave last; None when it was not called, or gave no single tensor.")
      .def_ro("parameters", &Layer::parameters, "Elements; shared ones count once.")
      .def_ro("flops", &Layer::flops, "By the operations' own rules, as in a profile.")
      .def_ro("kept", &Layer::kept,
              "Bytes allocated after its calls beyond those before: what it gives, and what the "
              "backward pass will need.")
      .def("__repr__", [](const Layer& l) {
        return text("Layer(\"", l.path, "\", ", l.type, ", parameters=", l.parameters,
                    ", flops=", l.flops, ", kept=", l.kept, ")");
      });
  nb::class_<Summary>(m, "Summary", "What lightgrad.summary has seen; print it for a table.")
      .def_prop_ro(
          "layers", [](const Summary& s) { return s.layers; },
          "Parents first; the model itself comes first.")
      .def_ro("trained", &Summary::trained, "Parameters that want a gradient, in elements.")
      .def_ro("bytes", &Summary::bytes, "Of the parameters.")
      .def_ro("peak", &Summary::peak, "Bytes allocated at the most while it ran.")
      .def_prop_ro("parameters", [](const Summary& s) { return s.layers[0].parameters; })
      .def_prop_ro("flops", [](const Summary& s) { return s.layers[0].flops; })
      .def_prop_ro("kept", [](const Summary& s) { return s.layers[0].kept; })
      .def("table", &Summary::to_string, "depth"_a = 0,
           "The layers down to `depth` levels below the model (0: all) as text.")
      .def("__str__", [](const Summary& s) { return s.to_string(); });
  core.def(
      "summary",
      [](nb::handle model, const nb::args& inputs, const nb::kwargs& named) {
        if (!nb::isinstance<nn::Module>(model)) {
          fail(ErrorKind::type, "summary", "model is a ", nb::type_name(model.type()).c_str(),
               ", expected a Module");
        }
        nb::object result;  // lives to the end: it is kept, too
        return detail::summarize(*nb::inst_ptr<nn::Module>(model),
                                 [&] { result = model(*inputs, **named); });
      },
      "model"_a, "inputs"_a, "named"_a,
      "Runs model(*inputs, **named) once, in its own mode, and tells of each layer its output's "
      "shape, its parameters, its floating-point operations and the memory that it keeps. Buffers "
      "and the default generator are afterwards as they were.");
}

}  // namespace

void bind_profile(nb::module_& core) {
  nb::module_ m = core.def_submodule("profiler", "What ran, how long it took, and at what rate.");
  bind_results(m);
  bind_summary(core, m);
  const nb::call_guard<nb::gil_scoped_release> let_go;  // they may measure the machine
  m.def("measure_peak", &measure_peak, let_go,
        "Measures what this machine can do with get_num_threads() threads; a second at most.");
  nb::class_<Profile>(m, "profile",
                      "Records every operation of every thread inside of `with profile() as p:`. "
                      "print(p) shows a table.")
      .def("__init__", [](Profile* at) { new (at) Profile(false); })
      .def("start", &Profile::start, "What `with` does on entering; later parts are added.")
      .def("stop", &Profile::stop)
      .def(
          "__enter__",
          [](Profile& p) -> Profile& {
            p.start();
            return p;
          },
          nb::rv_policy::reference)
      .def(
          "__exit__", [](Profile& p, nb::handle, nb::handle, nb::handle) { p.stop(); },
          "type"_a.none(), "value"_a.none(), "traceback"_a.none())
      .def_prop_ro("running", &Profile::running)
      .def_prop_ro("seconds", &Profile::seconds, "Recorded, between start and stop.")
      .def_prop_ro(
          "events", [](const Profile& p) { return p.events(); },
          "Thread by thread in the order of their starts; those that an operation called itself "
          "follow it at a greater depth.")
      .def(
          "rows",
          [](const Profile& p, std::string group_by, std::string sort_by,
             std::optional<std::size_t> limit, int depth) {
            return p.rows(options_of(std::move(group_by), std::move(sort_by), limit, depth));
          },
          "group_by"_a = "op", "sort_by"_a = "time", "limit"_a = nb::none(), "depth"_a = 0,
          "The events by operation: group_by is \"op\", \"shape\" (operation and output shape) or "
          "\"module\", whose paths are cut to their first `depth` names (0: not cut). sort_by is "
          "\"time\", \"calls\", \"flops\", \"bytes\", \"memory\" or \"name\".")
      .def("total", &Profile::total, "All rows together.")
      .def(
          "table",
          [](const Profile& p, std::string group_by, std::string sort_by,
             std::optional<std::size_t> limit, int depth) {
            return p.to_string(options_of(std::move(group_by), std::move(sort_by), limit, depth));
          },
          "group_by"_a = "op", "sort_by"_a = "time", "limit"_a = nb::none(), "depth"_a = 0,
          "The rows as text.")
      .def("__str__", [](const Profile& p) { return p.to_string(); })
      .def("trace", &Profile::trace, "JSON in Chrome's trace format, which Perfetto opens.")
      .def(
          "save_trace", [](const Profile& p, nb::object path) { p.save_trace(path_of(path)); },
          "path"_a)
      .def(
          "roofline",
          [](const Profile& p, std::optional<Peak> peak) {
            return p.roofline(peak ? *peak : measured_peak());
          },
          let_go, "peak"_a = nb::none(),
          "A picture (SVG) of the operations below what the machine can do, which is measured "
          "unless `peak` says it.")
      .def(
          "save_roofline",
          [](const Profile& p, nb::object path, std::optional<Peak> peak) {
            p.save_roofline(path_of(path), peak ? *peak : measured_peak());
          },
          "path"_a, "peak"_a = nb::none());
}

}  // namespace lg::python
