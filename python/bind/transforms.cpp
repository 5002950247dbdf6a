// transforms.cpp: lightgrad._core.transforms: the steps and their list, called on images or handed
// to a data set.
#include <nanobind/stl/variant.h>

#include "datasets.h"

namespace lg::python {
namespace {

using namespace data;

std::vector<float> numbers(nb::handle values, const char* name) {
  if (is_number(values.ptr())) return {nb::cast<float>(nb::float_(values))};
  std::vector<float> out;
  if (!nb::try_cast(values, out)) {
    fail(ErrorKind::type, "Normalize", name, " is a number, or one for each channel, got ",
         nb::repr(values).c_str());
  }
  return out;
}

// Steps by themselves, outside of a data set: of the sample that is being made, or as told.
Tensor call(const Compose& steps, const Tensor& images, std::optional<std::uint64_t> seed,
            std::uint64_t epoch, std::int64_t number) {
  if (!seed && current_sample) {
    const CurrentSample s = *current_sample;
    const nb::gil_scoped_release unlocked;
    return steps(images, s.draw, s.number);
  }
  const nb::gil_scoped_release unlocked;
  return steps(images, {seed.value_or(0), epoch}, number);
}

constexpr const char* call_doc =
    "The images, [c, h, w] or [n, c, h, w], transformed. What is random depends on seed, epoch and "
    "number (of the first image); while a DataLoader makes a sample, on that one's.";

template <class T, class... Options>
nb::class_<T> bind_step(nb::module_& m, const char* name, const char* doc) {
  return nb::class_<T>(m, name, doc)
      .def(
          "__call__",
          [](const T& step, const Tensor& images, std::optional<std::uint64_t> seed,
             std::uint64_t epoch,
             std::int64_t number) { return call(Compose{step}, images, seed, epoch, number); },
          "images"_a, nb::kw_only(), "seed"_a = nb::none(), "epoch"_a = 0, "number"_a = 0, call_doc)
      .def("__repr__", &T::to_string);
}

Transform step_from(nb::handle h) {
  Transform step = ToFloat();
  const bool known = [&] {
    const auto take = [&]<class T>(T*) {
      if (!nb::isinstance<T>(h)) return false;
      step = nb::cast<const T&>(h);
      return true;
    };
    return take((RandomCrop*)nullptr) || take((RandomHorizontalFlip*)nullptr) ||
           take((Cutout*)nullptr) || take((ToFloat*)nullptr) || take((Normalize*)nullptr);
  }();
  if (!known) {
    fail(ErrorKind::type, "Compose", "expected transforms of lightgrad.transforms, got a ",
         Py_TYPE(h.ptr())->tp_name, "; a function of your own may be a data set's whole transform");
  }
  return step;
}

bool is_step(nb::handle h) {
  return nb::isinstance<RandomCrop>(h) || nb::isinstance<RandomHorizontalFlip>(h) ||
         nb::isinstance<Cutout>(h) || nb::isinstance<ToFloat>(h) || nb::isinstance<Normalize>(h);
}

// A Python function over each image, under the interpreter lock.
struct PyTransform {
  std::shared_ptr<PyRef> f;

  Tensor operator()(const Tensor& images, std::span<const std::int64_t> rows, Draw draw) const {
    const nb::gil_scoped_acquire lock;
    std::vector<Tensor> out;
    for (const std::int64_t row : rows) {
      const SampleScope scope(draw, row);
      const std::int64_t one[] = {row};
      Tensor image = gather_rows(images, one);  // a copy: what f does to it stays with it
      Shape shape = image.shape();
      shape.erase(0);
      image = image.view_as(shape, contiguous_strides(shape));
      nb::object result;
      try {
        result = f->get()(image);
      } catch (nb::python_error& e) {
        add_note(e, text("raised by the transform of image ", row));
        throw;
      }
      if (!is_tensor(result.ptr())) {
        fail(ErrorKind::type, "transform", "returned a ", Py_TYPE(result.ptr())->tp_name,
             " for image ", row, ", expected a Tensor");
      }
      out.push_back(tensor_of(result.ptr()).detach());
    }
    return stack(out);
  }
};

}  // namespace

ImageTransform image_transform_from(nb::handle transform) {
  if (transform.is_none()) return {};
  if (nb::isinstance<Compose>(transform)) return nb::cast<const Compose&>(transform);
  if (is_step(transform)) return Compose{step_from(transform)};
  if (!PyCallable_Check(transform.ptr())) {
    fail(ErrorKind::type, "transform", "expected a transform or a function of one image, got a ",
         Py_TYPE(transform.ptr())->tp_name);
  }
  return PyTransform{std::make_shared<PyRef>(nb::borrow(transform))};
}

void bind_transforms(nb::module_& parent) {
  nb::module_ m = parent.def_submodule("transforms", "What is done to images on their way.");
  bind_step<RandomCrop>(m, "RandomCrop",
                        "A random part of `size`, an int or (height, width), after `padding` zeros "
                        "were put around the image.")
      .def(
          "__init__",
          [](RandomCrop* self, const Shape& size, std::int64_t padding) {
            if (size.rank() != 1 && size.rank() != 2) {
              fail(ErrorKind::value, "RandomCrop", "size is an int or (height, width), got ", size);
            }
            new (self) RandomCrop(size[0], size.back(), padding);
          },
          "size"_a, "padding"_a = 0);
  bind_step<RandomHorizontalFlip>(m, "RandomHorizontalFlip",
                                  "Mirrored left to right with probability p.")
      .def(nb::init<double>(), "p"_a = 0.5);
  bind_step<Cutout>(m, "Cutout",
                    "A square of zeros around a random pixel, cut at the edges (DeVries and "
                    "Taylor, 2017).")
      .def(nb::init<std::int64_t>(), "size"_a);
  bind_step<ToFloat>(m, "ToFloat", "Bytes as float32 from 0 to 1; floats stay what they are.")
      .def(nb::init<>());
  bind_step<Normalize>(m, "Normalize",
                       "(x - mean) / std, with one number for each channel or one for all.")
      .def(
          "__init__",
          [](Normalize* self, nb::object mean, nb::object std) {
            new (self) Normalize(numbers(mean, "mean"), numbers(std, "std"));
          },
          "mean"_a, "std"_a,
          nb::sig("def __init__(self, mean: float | collections.abc.Sequence[float], "
                  "std: float | collections.abc.Sequence[float]) -> None"));
  nb::class_<Compose>(m, "Compose",
                      "Transforms in their order. Crop, flip, to float, normalise and cutout over "
                      "bytes run in one pass.")
      .def(
          "__init__",
          [](Compose* self, nb::iterable steps) {
            std::vector<Transform> list;
            for (nb::handle h : steps) list.push_back(step_from(h));
            new (self) Compose(std::move(list));
          },
          "transforms"_a,
          nb::sig("def __init__(self, transforms: collections.abc.Iterable[RandomCrop | "
                  "RandomHorizontalFlip | Cutout | ToFloat | Normalize]) -> None"))
      .def("__call__", &call, "images"_a, nb::kw_only(), "seed"_a = nb::none(), "epoch"_a = 0,
           "number"_a = 0, call_doc)
      .def("__len__", [](const Compose& c) { return c.steps().size(); })
      .def("__repr__", &Compose::to_string);
}

}  // namespace lg::python
