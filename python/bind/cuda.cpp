// cuda.cpp: lightgrad._core's functions behind lightgrad.cuda.
#include "common.h"

namespace lg::python {

void bind_cuda(nb::module_& m) {
  nb::module_ c = m.def_submodule("_cuda", "NVIDIA devices: see lightgrad.cuda.");
  c.def("is_available", &cuda::is_available, "Whether there is a driver, and a device.");
  c.def("why_not_available", &cuda::why_not_available, "What is missing, or an empty text.");
  c.def("device_count", &cuda::device_count, "How many devices the driver shows.");
  c.def("get_device_name", &cuda::device_name, "index"_a = 0);
  c.def(
      "get_device_capability",
      [](int index) {
        const int capability = cuda::device_capability(index);
        return nb::make_tuple(capability / 10, capability % 10);
      },
      "index"_a = 0, "The compute capability: (9, 0), ...");
  c.def("synchronize", &cuda::synchronize, "index"_a = 0, nb::call_guard<nb::gil_scoped_release>(),
        "Waits until the device has done all it was given.");
  c.def(
      "memory_stats", [](int index) { return memory_dict(cuda::memory_stats(index)); },
      "index"_a = 0, "In bytes, as lightgrad.memory.stats().");
  c.def("reset_peak_memory", &cuda::reset_peak_memory, "index"_a = 0);
  c.def("empty_cache", &cuda::trim_memory, "index"_a = 0,
        "Gives the blocks that are kept for reuse back to the driver.");
  c.def("load_kernels", &cuda::load_kernels, "folder"_a,
        "Takes compiled kernels from this folder, which tools/build_kernels.py wrote.");
  c.def("_set_own_kernels", &cuda::set_own_kernels);
  c.def("kernels_folder", &cuda::kernels_folder);
  c.def(
      "allow_tf32", &cuda::allow_tf32, "on"_a,
      "Lets products of float32 round their factors to ten bits, which is several times as fast.");
  c.def("_start_tuning", &cuda::start_tuning);
  c.def("_stop_tuning", [](int index) {
    nb::list out;
    for (const cuda::Tuned& t : cuda::stop_tuning(index)) {
      nb::dict row;
      row["kernel"] = t.kernel;
      row["instead_of"] = t.instead_of;
      row["sizes"] = t.sizes;
      row["take"] = t.take;
      row["before"] = t.before;
      row["after"] = t.after;
      out.append(row);
    }
    return out;
  });
  nb::class_<cuda::Event>(c, "Event", "A moment in a device's queue.")
      .def(nb::init<int>(), "index"_a = 0)
      .def("milliseconds_to", &cuda::Event::milliseconds_to, "later"_a,
           "Time from this moment to a later one; waits for that.");
}

}  // namespace lg::python
