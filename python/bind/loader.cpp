// loader.cpp: the DataLoader in Python. Waiting for a batch leaves the interpreter to others and
// answers Ctrl-C; workers are gone before the iterator is.
#include <nanobind/stl/map.h>
#include <nanobind/stl/unique_ptr.h>

#include <set>

#include "datasets.h"

namespace lg::python {
namespace {

using namespace data;

struct PyLoader {
  DataLoader loader;
  PyRef dataset;
};

struct PyEpoch;
std::set<PyEpoch*> live;  // under the interpreter lock

struct PyEpoch {
  std::unique_ptr<Epoch> epoch;

  explicit PyEpoch(std::unique_ptr<Epoch> e) : epoch(std::move(e)) { live.insert(this); }
  PyEpoch(const PyEpoch&) = delete;
  ~PyEpoch() {
    live.erase(this);
    const nb::gil_scoped_release unlocked;  // the workers may want the lock to end
    epoch.reset();
  }
};

nb::object next(PyEpoch& self) {
  std::optional<Batch> batch;
  for (bool ready = false; !ready;) {
    {
      const nb::gil_scoped_release unlocked;
      ready = self.epoch->wait(std::chrono::milliseconds(50));
      if (ready) batch = self.epoch->next();
    }
    if (!ready && PyErr_CheckSignals() != 0) throw nb::python_error();
  }
  if (!batch) throw nb::stop_iteration();
  return to_python(*batch);
}

void init(PyLoader* self, nb::handle dataset, std::int64_t batch_size, bool shuffle,
          int num_workers, nb::handle collate_fn, bool drop_last, int prefetch_factor,
          std::optional<std::int64_t> seed, Generator* generator) {
  if (!seed && generator) seed = draw_seed(*generator);
  new (self) PyLoader{
      DataLoader(dataset_from(dataset, collate_fn, "DataLoader"), {.batch_size = batch_size,
                                                                   .shuffle = shuffle,
                                                                   .drop_last = drop_last,
                                                                   .workers = num_workers,
                                                                   .prefetch = prefetch_factor,
                                                                   .seed = seed}),
      PyRef(nb::borrow(dataset))};
}

Generator sample_generator() {
  if (!current_sample) {
    fail(ErrorKind::runtime, "sample_generator", "no DataLoader is making a sample here");
  }
  const auto [draw, number] = *current_sample;
  const auto word = philox(draw.seed, static_cast<std::uint64_t>(number),
                           draw.epoch | std::uint64_t{0xffff} << 48);
  return Generator(std::uint64_t{word[1]} << 32 | word[0]);
}

}  // namespace

void bind_loader(nb::module_& m) {
  nb::class_<PyEpoch>(m, "_Epoch")
      .def("__iter__", [](nb::handle self) { return nb::borrow(self); })
      .def("__next__", &next);
  nb::class_<PyLoader>(
      m, "DataLoader",
      "Batches of a data set, epoch after epoch, made ahead of time by num_workers threads.\n\n"
      "The order and the random transforms depend on the seed, the epoch and the sample, never on "
      "the workers. Without a seed, it is drawn from the generator, or the default one.")
      .def(
          "__init__", &init, "dataset"_a, "batch_size"_a = 1, "shuffle"_a = false, nb::kw_only(),
          "num_workers"_a = 0, "collate_fn"_a = nb::none(), "drop_last"_a = false,
          "prefetch_factor"_a = 2, "seed"_a = nb::none(), "generator"_a.none() = nb::none(),
          nb::sig("def __init__(self, dataset: object, batch_size: int = 1, shuffle: bool = False, "
                  "*, num_workers: int = 0, collate_fn: collections.abc.Callable[[list], object] "
                  "| None = None, drop_last: bool = False, prefetch_factor: int = 2, seed: int | "
                  "None = None, generator: lightgrad._core.Generator | None = None) -> None"))
      .def("__len__", [](const PyLoader& p) { return p.loader.size(); })
      .def(
          "__iter__", [](PyLoader& p) { return std::make_unique<PyEpoch>(p.loader.begin_epoch()); },
          nb::sig("def __iter__(self) -> collections.abc.Iterator"),
          "Begins the next epoch, or the rest of the one that load_state_dict has set.")
      .def(
          "state_dict", [](const PyLoader& p) { return p.loader.state_dict(); },
          "Whole numbers that say where the loader stands, in the middle of an epoch too.")
      .def(
          "load_state_dict",
          [](PyLoader& p, const std::map<std::string, std::int64_t>& s) {
            p.loader.load_state_dict(s);
          },
          "state_dict"_a, "Goes on from there. ValueError when the loader is not alike.")
      .def_prop_ro(
          "epoch", [](const PyLoader& p) { return p.loader.epoch(); },
          "The epoch begun last, or the next one where that has ended.")
      .def_prop_ro("dataset", [](const PyLoader& p) { return nb::borrow(p.dataset.get()); })
      .def_prop_ro("batch_size", [](const PyLoader& p) { return p.loader.options().batch_size; })
      .def_prop_ro("shuffle", [](const PyLoader& p) { return p.loader.options().shuffle; })
      .def_prop_ro("drop_last", [](const PyLoader& p) { return p.loader.options().drop_last; })
      .def_prop_ro("num_workers", [](const PyLoader& p) { return p.loader.options().workers; })
      .def_prop_ro("seed", [](const PyLoader& p) { return *p.loader.options().seed; });
  m.def("sample_generator", &sample_generator,
        "Random numbers for the sample that is being made: they depend on the loader's seed, the "
        "epoch and the sample's number alone. RuntimeError outside of a DataLoader.");
  // Workers must not ask for the interpreter when it is gone.
  nb::module_::import_("atexit").attr("register")(nb::cpp_function([] {
    for (PyEpoch* e : std::set(live)) {
      const nb::gil_scoped_release unlocked;
      e->epoch->stop();
    }
  }));
}

}  // namespace lg::python
