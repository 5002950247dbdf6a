// io.cpp: files and texts: safetensors, checkpoints, pictures, the text to learn and its
// characters. The Python side (lightgrad/io.py) adds nested objects.
#include <nanobind/stl/map.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string_view.h>

#include "common.h"

namespace lg::python {
namespace {

std::string_view view(const nb::bytes& b) { return {b.c_str(), b.size()}; }
nb::bytes to_bytes(std::string_view s) { return nb::bytes(s.data(), s.size()); }

io::NamedTensors named_tensors(nb::mapping tensors, const char* operation) {
  io::NamedTensors out;
  for (nb::handle pair : tensors.items()) {
    const nb::object name = pair[0], tensor = pair[1];
    if (!nb::isinstance<nb::str>(name)) {
      fail(ErrorKind::type, operation, "names are strings, got ", nb::repr(name).c_str());
    }
    if (!is_tensor(tensor.ptr())) {
      fail(ErrorKind::type, operation, nb::repr(name).c_str(), " is a ",
           nb::type_name(tensor.type()).c_str(), ", expected a Tensor");
    }
    out.emplace_back(nb::cast<std::string>(name), tensor_of(tensor.ptr()));
  }
  return out;
}

nb::dict dict_of(auto&& tensors) {
  nb::dict out;
  for (auto& [name, tensor] : tensors) out[nb::cast(name)] = nb::cast(tensor);
  return out;
}

void put(io::Checkpoint& c, const std::string& name, nb::handle value) {
  PyObject* o = value.ptr();
  int overflow = 0;
  if (is_tensor(o)) {
    c.put(name, tensor_of(o));
  } else if (nb::isinstance<nb::str>(value)) {
    c.put(name, nb::cast<std::string>(value));
  } else if (PyFloat_Check(o)) {
    c.put(name, PyFloat_AS_DOUBLE(o));
  } else if (PyIndex_Check(o) && !PyBool_Check(o)) {  // ints, NumPy's too
    const nb::object number = nb::steal(PyNumber_Index(o));
    if (!number.is_valid()) throw nb::python_error();
    const long long integer = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
    if (overflow) {
      fail(ErrorKind::value, "Checkpoint", "'", name, "': ", nb::str(value).c_str(),
           " does not fit int64");
    }
    c.put(name, integer);
  } else {
    fail(ErrorKind::type, "Checkpoint", "'", name, "' is a ", nb::type_name(value.type()).c_str(),
         ", expected a Tensor, int, float or str");
  }
}

nb::object get(const io::Checkpoint& c, const std::string& name) {
  return std::visit([](const auto& v) { return nb::cast(v); }, c.value(name));
}

void bind_safetensors(nb::module_& m) {
  m.def(
      "save_safetensors",
      [](nb::mapping tensors, nb::handle path, const io::Metadata& metadata) {
        const io::NamedTensors named = named_tensors(tensors, "save_safetensors");
        const std::string file = path_of(path);
        const nb::gil_scoped_release unlocked;
        io::save_safetensors(file, named, metadata);
      },
      "tensors"_a, "path"_a, "metadata"_a = io::Metadata(),
      "Writes a dict of name to Tensor, and strings, in one step: the file is whole or the old "
      "one.");
  m.def(
      "load_safetensors",
      [](nb::handle path) {
        const std::string file = path_of(path);
        io::Safetensors s;
        {
          const nb::gil_scoped_release unlocked;
          s = io::load_safetensors(file);
        }
        return nb::make_tuple(dict_of(s.tensors), s.metadata);
      },
      "path"_a,
      nb::sig("def load_safetensors(path: str | os.PathLike[str]) -> "
              "tuple[dict[str, lightgrad._core.Tensor], dict[str, str]]"),
      "The tensors of a safetensors file by name, and its metadata. OSError for a damaged one.");
}

void bind_checkpoint(nb::module_& m) {
  using io::Checkpoint;
  nb::class_<Checkpoint>(m, "Checkpoint",
                         "A run's tensors, numbers and strings by name, in one safetensors file.")
      .def(nb::init<>())
      .def("put", &put, "name"_a, "value"_a, "Adds or replaces a Tensor, int, float or str.")
      .def("get", &get, "name"_a, "The int, float or str of this name.")
      .def("tensor", &Checkpoint::tensor, "name"_a)
      .def("has", &Checkpoint::has, "name"_a)
      .def("__contains__", &Checkpoint::has, "name"_a)
      .def("names", &Checkpoint::names, "prefix"_a = "",
           "All names that begin with `prefix`, tensors first.")
      .def(
          "put_state",
          [](Checkpoint& c, const std::string& prefix, nb::mapping state) {
            c.put_state(prefix, named_tensors(state, "Checkpoint.put_state"));
          },
          "prefix"_a, "state"_a, "Adds the tensors of a state_dict as prefix + name.")
      .def(
          "take_state",
          [](const Checkpoint& c, const std::string& prefix) {
            return dict_of(c.take_state(prefix));
          },
          "prefix"_a, "The tensors whose names begin with `prefix`, without it.")
      .def(
          "put_generator",
          [](Checkpoint& c, const std::string& name, const Generator* generator) {
            c.put_generator(name, generator ? *generator : default_generator());
          },
          "name"_a = "generator", "generator"_a.none() = nb::none(),
          "Adds the state of a generator; of the default one when none is given.")
      .def(
          "take_generator",
          [](const Checkpoint& c, const std::string& name, Generator* generator) {
            c.take_generator(name, generator ? *generator : default_generator());
          },
          "name"_a = "generator", "generator"_a.none() = nb::none(),
          "Sets the generator, or the default one, to the state that was put.")
      .def(
          "save",
          [](const Checkpoint& c, nb::handle path) {
            const std::string file = path_of(path);
            const nb::gil_scoped_release unlocked;
            c.save(file);
          },
          "path"_a, "Writes all of it in one step: the file is whole or the old one.")
      .def_static(
          "load",
          [](nb::handle path) {
            const std::string file = path_of(path);
            const nb::gil_scoped_release unlocked;
            return Checkpoint::load(file);
          },
          "path"_a);
}

void bind_png(nb::module_& m) {
  m.def(
      "encode_png", [](const Tensor& image) { return to_bytes(io::encode_png(image)); }, "image"_a,
      "An image as the bytes of a PNG file: uint8, (h, w) or (1, h, w) in greys, (3, h, w) in red, "
      "green and blue.");
  m.def(
      "save_png", [](const Tensor& image, nb::handle path) { io::save_png(path_of(path), image); },
      "image"_a, "path"_a,
      nb::sig("def save_png(image: lightgrad._core.Tensor, path: str | "
              "os.PathLike[str]) -> None"),
      "Writes an image, as encode_png takes it, in one step.");
}

void bind_text(nb::module_& m) {
  m.def(
      "find_text",
      [](nb::handle path, std::vector<std::string> site_packages, std::string python) {
        data::TextOptions options;
        if (!path.is_none()) options.path = path_of(path);
        options.site_packages = std::move(site_packages);
        options.python = std::move(python);
        data::Text text;
        {
          const nb::gil_scoped_release unlocked;
          text = data::find_text(options);
        }
        return nb::make_tuple(to_bytes(text.bytes), text.source);
      },
      "path"_a = nb::none(), "site_packages"_a = std::vector<std::string>(), "python"_a = "",
      nb::sig("def find_text(path: str | os.PathLike[str] | None = None, site_packages: "
              "collections.abc.Sequence[str] = (), python: str = '') -> tuple[bytes, str]"));
  using data::Vocabulary;
  nb::class_<Vocabulary>(m, "Vocabulary", "The distinct bytes of a text, numbered in rising order.")
      .def(
          "__init__",
          [](Vocabulary* self, const nb::bytes& text) { new (self) Vocabulary(view(text)); },
          "text"_a)
      .def("__len__", &Vocabulary::size)
      .def_prop_ro("characters", [](const Vocabulary& v) { return to_bytes(v.characters()); })
      .def(
          "encode", [](const Vocabulary& v, const nb::bytes& text) { return v.encode(view(text)); },
          "text"_a, "The numbers of the characters: int64, of shape (len(text),).")
      .def(
          "decode", [](const Vocabulary& v, const Tensor& ids) { return to_bytes(v.decode(ids)); },
          "ids"_a, "The bytes with these numbers.");
  m.def("split_text", &data::split_text, "ids"_a,
        "The first 90% of a vector to train on and the rest for validation: views.");
}

}  // namespace

void bind_io(nb::module_& m) {
  nb::module_ io = m.def_submodule("io", "Files: safetensors, checkpoints, pictures, texts.");
  bind_safetensors(io);
  bind_checkpoint(io);
  bind_png(io);
  bind_text(io);
}

}  // namespace lg::python
