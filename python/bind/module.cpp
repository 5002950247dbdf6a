// module.cpp: the extension module lightgrad._core: all parts, and the few functions that belong to
// none.
#include "common.h"
#include "datasets.h"

namespace lg::python {
namespace {

void bind_process(nb::module_& m) {
  m.def("set_num_threads", &set_num_threads, "n"_a,
        "Threads used by one operation, the caller's included.");
  m.def("get_num_threads", &num_threads);
  m.def("_memory_stats", [] {
    const MemoryStats s = memory_stats();
    nb::dict d = memory_dict(s);
    nb::dict uses;
    for (std::size_t i = 0; i < memory_uses; ++i) {
      nb::dict use;
      use["current"] = s.uses[i].current;
      use["peak"] = s.uses[i].peak;
      const std::string_view name = name_of(static_cast<MemoryUse>(i));
      uses[nb::str(name.data(), name.size())] = use;
    }
    d["uses"] = uses;
    return d;
  });
  m.def("_reset_peak_memory", &reset_peak_memory);
  m.def("_trim_memory", &trim_memory);
  m.def("_set_memory_limit", &set_memory_limit);
  m.def("_memory_limit", &memory_limit);
}

// What `from lightgrad._core import *` gives: the public names.
void list_names(nb::module_& m) {
  const nb::object internal = m.attr("_internal_operations");
  nb::list names;
  for (auto [name, value] : nb::borrow<nb::dict>(m.attr("__dict__"))) {
    const bool hidden = nb::cast<std::string>(name).starts_with('_') ||
                        PyModule_Check(value.ptr()) ||
                        PySequence_Contains(internal.ptr(), name.ptr()) == 1;
    if (!hidden) names.append(name);
  }
  m.attr("__all__") = names;
}

}  // namespace
}  // namespace lg::python

NB_MODULE(_core, m) {
  using namespace lg::python;
  m.doc() = "The engine of LightGrad: tensors, operations, autograd, nn, optim.";
  nb::set_leak_warnings(
      false);  // what modules and graphs still hold when Python ends is no news for users
  m.attr("__version__") = LIGHTGRAD_VERSION;
  bind_dtype(m);
  bind_process(m);
  bind_tensor(m);
  bind_data(m);
  bind_creation(m);
  bind_nn(m);
  bind_optim(m);
  bind_amp(m);
  bind_io(m);
  bind_graph(m);
  bind_profile(m);
  bind_plan(m);
  bind_cuda(m);
  nb::module_ data = m.def_submodule("data", "Data sets, their transforms, and the loader.");
  bind_transforms(data);
  bind_datasets(data);
  bind_loader(data);
  list_names(m);
}
