// datasets.cpp: lightgrad._core.data: data sets of C++ and of Python on one footing, the readers of
// their files, and where these are found.
#include "datasets.h"

#include <nanobind/stl/function.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>

namespace lg::python {
namespace {

using namespace data;

// What a class in Python that derives from Dataset holds in C++: nothing. Its samples are made by
// its own __getitem__, see PyDataset.
struct PyBase : Dataset {
  [[noreturn]] static void fail_abstract() {
    fail(ErrorKind::type, "Dataset", "a class that derives from it must define __len__ and ",
         "__getitem__");
  }
  std::int64_t size() const override { fail_abstract(); }
  Sample get(std::int64_t, Draw) const override { fail_abstract(); }
};

Sample foreign(nb::object o) {
  Sample s;
  s.foreign = std::make_shared<PyRef>(std::move(o));
  return s;
}

// An object with __len__ and __getitem__. Its methods run under the interpreter lock, on whatever
// thread asks: workers take turns, and give way to the main thread wherever Python does.
class PyDataset : public Dataset {
 public:
  PyDataset(nb::handle object, std::shared_ptr<const Dataset> inner, nb::handle collate)
      : object_(nb::borrow(object)), inner_(std::move(inner)), collate_(nb::borrow(collate)) {}

  std::int64_t size() const override {
    if (inner_) return inner_->size();
    const nb::gil_scoped_acquire lock;
    return static_cast<std::int64_t>(nb::len(object_.get()));
  }
  Sample get(std::int64_t index, Draw draw) const override {
    const nb::gil_scoped_acquire lock;
    return foreign(item(index, draw));
  }
  Batch batch(std::span<const std::int64_t> indices, Draw draw) const override {
    const nb::gil_scoped_acquire lock;
    nb::list samples;
    for (const std::int64_t index : indices) {
      if (stop_requested()) fail(ErrorKind::runtime, "DataLoader", "the epoch was stopped");
      samples.append(item(index, draw));
    }
    try {
      return foreign(collate_.get()(samples));
    } catch (nb::python_error& e) {
      add_note(e, text("raised while ", indices.size(), " samples were made a batch"));
      throw;
    }
  }
  nb::object object() const { return nb::borrow(object_.get()); }

 private:
  nb::object item(std::int64_t index, Draw draw) const {
    try {
      if (inner_) return to_python(inner_->get(index, draw));
      const SampleScope scope(draw, index);
      return nb::object(object_.get()[nb::int_(index)]);
    } catch (nb::python_error& e) {
      add_note(e, text("raised for sample ", index, " of the data set, in epoch ", draw.epoch));
      throw;
    }
  }

  PyRef object_;
  std::shared_ptr<const Dataset> inner_;  // of an object that is a data set of C++
  PyRef collate_;
};

PyTypeObject* dataset_type = nullptr;
PyObject *getitem_name = nullptr, *len_name = nullptr;

// Whether C++ may make the samples itself: no class in Python has other ideas.
bool is_native(nb::handle o) {
  if (!PyObject_TypeCheck(o.ptr(), dataset_type) || !nb::inst_ready(o)) return false;
  for (PyObject* name : {getitem_name, len_name}) {
    if (_PyType_Lookup(Py_TYPE(o.ptr()), name) != _PyType_Lookup(dataset_type, name)) return false;
  }
  return true;
}

Sample get(const Dataset& d, std::int64_t index) {
  const std::int64_t size = d.size();
  if (index < -size || index >= size) {
    fail(ErrorKind::index, "Dataset", "index ", index, " is out of range for ", size, " samples");
  }
  return d.get(index < 0 ? index + size : index, current_sample ? current_sample->draw : Draw());
}

nb::object inner_of(const Subset& s) {
  if (const auto* p = dynamic_cast<const PyDataset*>(s.dataset().get())) return p->object();
  return nb::cast(std::const_pointer_cast<Dataset>(s.dataset()));
}

std::vector<std::shared_ptr<Subset>> split(nb::handle dataset, nb::sequence lengths,
                                           Generator* generator) {
  const auto whole = dataset_from(dataset, nb::none(), "random_split");
  bool fractions = false;
  for (nb::handle h : lengths) fractions |= PyFloat_Check(h.ptr());
  return random_split(whole,
                      fractions
                          ? split_lengths(whole->size(), nb::cast<std::vector<double>>(lengths))
                          : nb::cast<std::vector<std::int64_t>>(lengths),
                      generator);
}

std::string path_of(nb::handle path) {
  PyObject* encoded = nullptr;
  if (!PyUnicode_FSConverter(path.ptr(), &encoded)) throw nb::python_error();
  const nb::object owner = nb::steal(encoded);
  return {PyBytes_AS_STRING(encoded), static_cast<std::size_t>(PyBytes_GET_SIZE(encoded))};
}

// One of MNIST, FashionMNIST, CIFAR10. Ctrl-C ends a download.
template <class T> void bind_found(nb::module_& m, const char* name) {
  nb::class_<T, ImageDataset>(m, name).def(
      "__init__",
      [](T* self, nb::handle root, bool train, nb::handle transform, std::optional<bool> download,
         nb::handle progress) {
        FindOptions options;
        options.train = train;
        options.download = download;
        if (!root.is_none()) options.root = path_of(root);
        options.progress = [&](std::int64_t done, std::int64_t total) {
          const nb::gil_scoped_acquire lock;
          if (PyErr_CheckSignals() != 0) throw nb::python_error();
          if (!progress.is_none()) progress(done, total);
        };
        ImageTransform f = image_transform_from(transform);
        const nb::gil_scoped_release unlocked;
        new (self) T(options, std::move(f));
      },
      "root"_a = nb::none(), "train"_a = true, "transform"_a = nb::none(),
      "download"_a = nb::none(), "progress"_a = nb::none(),
      nb::sig("def __init__(self, root: str | os.PathLike[str] | None = None, train: bool = True, "
              "transform: collections.abc.Callable[[lightgrad._core.Tensor], "
              "lightgrad._core.Tensor] | None = None, download: bool | None = None, progress: "
              "collections.abc.Callable[[int, int], object] | None = None) -> None"));
}

void bind_readers(nb::module_& m) {
  m.def(
      "read_idx",
      [](nb::handle path) {
        const std::string file = path_of(path);
        const nb::gil_scoped_release unlocked;
        return read_idx(file);
      },
      "path"_a, nb::sig("def read_idx(path: str | os.PathLike[str]) -> lightgrad._core.Tensor"),
      "The tensor in an IDX file, plain or .gz. OSError for a damaged one.");
  m.def(
      "read_cifar10",
      [](nb::args paths) {
        std::vector<std::string> files;
        for (nb::handle h : paths) files.push_back(path_of(h));
        Cifar c;
        {
          const nb::gil_scoped_release unlocked;
          c = read_cifar10(files);
        }
        return std::pair(c.images, c.labels);
      },
      "paths"_a,
      nb::sig("def read_cifar10(*paths: str | os.PathLike[str]) -> "
              "tuple[lightgrad._core.Tensor, lightgrad._core.Tensor]"),
      "Images, uint8 (n, 3, 32, 32), and labels of CIFAR-10's binary files. OSError for a damaged "
      "one.");
}

}  // namespace

nb::object to_python(const Sample& sample) {
  if (sample.foreign) return nb::borrow(static_cast<PyRef*>(sample.foreign.get())->get());
  return nb::tuple(nb::cast(sample.tensors));
}

std::shared_ptr<const Dataset> dataset_from(nb::handle object, nb::handle collate,
                                            const char* operation) {
  if (is_native(object)) {
    auto native = nb::cast<std::shared_ptr<Dataset>>(object);
    if (collate.is_none()) return native;
    return std::make_shared<PyDataset>(object, std::move(native), collate);
  }
  if (!nb::hasattr(object, "__len__") || !nb::hasattr(object, "__getitem__")) {
    fail(ErrorKind::type, operation, "expected a data set, with __len__ and __getitem__, got a ",
         Py_TYPE(object.ptr())->tp_name);
  }
  if (!collate.is_none()) return std::make_shared<PyDataset>(object, nullptr, collate);
  const nb::object standard = nb::module_::import_("lightgrad.utils.data").attr("default_collate");
  return std::make_shared<PyDataset>(object, nullptr, standard);
}

void add_note(nb::python_error& error, const std::string& note) {
  if (nb::hasattr(error.value(), "add_note")) error.value().attr("add_note")(note);
}

void bind_datasets(nb::module_& m) {
  nb::class_<Dataset, PyBase> dataset(
      m, "Dataset",
      "Samples by number. Derive from it, or from nothing, and define __len__ and __getitem__.");
  dataset.def(nb::init<>())
      .def("__len__", &Dataset::size)
      .def(
          "__getitem__",
          [](const Dataset& d, std::int64_t index) { return to_python(get(d, index)); }, "index"_a);
  dataset_type = reinterpret_cast<PyTypeObject*>(dataset.ptr());
  getitem_name = PyUnicode_InternFromString("__getitem__");
  len_name = PyUnicode_InternFromString("__len__");

  nb::class_<TensorDataset, Dataset>(m, "TensorDataset",
                                     "Sample i is row i of each tensor, as a tuple.")
      .def(
          "__init__",
          [](TensorDataset* self, nb::args tensors) {
            std::vector<Tensor> list;
            for (nb::handle h : tensors) list.push_back(nb::cast<Tensor>(h));
            new (self) TensorDataset(std::move(list));
          },
          "tensors"_a, nb::sig("def __init__(self, *tensors: lightgrad._core.Tensor) -> None"))
      .def_prop_ro("tensors", [](const TensorDataset& d) { return tuple_of(d.tensors()); });

  nb::class_<Subset, Dataset>(m, "Subset", "The samples of these numbers of another data set.")
      .def(
          "__init__",
          [](Subset* self, nb::handle d, std::vector<std::int64_t> indices) {
            new (self) Subset(dataset_from(d, nb::none(), "Subset"), std::move(indices));
          },
          "dataset"_a, "indices"_a)
      .def_prop_ro("dataset", &inner_of)
      .def_prop_ro("indices", &Subset::indices);
  m.def("random_split", &split, "dataset"_a, "lengths"_a, "generator"_a.none() = nb::none(),
        nb::sig("def random_split(dataset: object, lengths: collections.abc.Sequence[int] | "
                "collections.abc.Sequence[float], generator: lightgrad._core.Generator | None = "
                "None) -> list[Subset]"),
        "Subsets of these lengths, or of these fractions of the whole, drawn by the generator.");

  nb::class_<ImageDataset, Dataset>(
      m, "ImageDataset", "Images, uint8 or float32 (n, c, h, w), and an integer label for each.")
      .def(
          "__init__",
          [](ImageDataset* self, const Tensor& images, const Tensor& labels, nb::handle transform,
             std::vector<std::string> classes) {
            new (self)
                ImageDataset(images, labels, image_transform_from(transform), std::move(classes));
          },
          "images"_a, "labels"_a, "transform"_a = nb::none(),
          "classes"_a = std::vector<std::string>())
      .def_prop_ro("data", &ImageDataset::images, "The images, without transforms.")
      .def_prop_ro("targets", &ImageDataset::labels, "The labels.")
      .def_prop_ro("classes", &ImageDataset::classes, "Names by label.");
  bind_found<MNIST>(m, "MNIST");
  bind_found<FashionMNIST>(m, "FashionMNIST");
  bind_found<CIFAR10>(m, "CIFAR10");
  bind_readers(m);
}

}  // namespace lg::python
