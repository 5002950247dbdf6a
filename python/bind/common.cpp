// common.cpp: numbers, shapes, dtypes and errors on their way between Python and C++.
#include "common.h"

namespace lg::python {

PyObject* wrap(Tensor t) noexcept {
  if (!t.defined()) return nb::none().release().ptr();
  TensorImpl* p = t.impl();
  if (auto* known = static_cast<PyObject*>(p->python)) {
    // A tensor that became a parameter gets an object of that class from now on.
    if (!p->is_parameter || PyObject_TypeCheck(known, parameter_type)) return Py_NewRef(known);
  }
  nb::object o =
      nb::inst_alloc(reinterpret_cast<PyObject*>(p->is_parameter ? parameter_type : tensor_type));
  if (!o.is_valid()) return nullptr;
  new (nb::inst_ptr<void>(o)) PyTensor(std::move(t), o.ptr());
  p->python = o.ptr();
  nb::inst_mark_ready(o);
  return o.release().ptr();
}

namespace {

bool is_numpy_bool(PyObject* o) {
  const char* name = Py_TYPE(o)->tp_name;
  return std::string_view(name) == "numpy.bool" || std::string_view(name) == "numpy.bool_";
}
// What converts to float and is not an array: Fraction, numpy.float32, ...
bool converts_to_float(PyObject* o) {
  const PyNumberMethods* n = Py_TYPE(o)->tp_as_number;
  return n && n->nb_float && !PySequence_Check(o) && !is_tensor(o);
}
bool is_index(PyObject* o) {
  return PyLong_Check(o) || (PyIndex_Check(o) && !PySequence_Check(o) && !is_tensor(o));
}

std::int64_t int64_of(PyObject* o) {
  nb::object number = nb::steal(PyNumber_Index(o));
  if (!number.is_valid()) throw nb::python_error();
  int overflow = 0;
  const long long v = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
  if (overflow)
    fail(ErrorKind::value, "number", "the integer ", nb::str(number).c_str(),
         " does not fit int64");
  return v;
}

}  // namespace

bool is_number(PyObject* o) {
  return PyFloat_Check(o) || is_index(o) || is_numpy_bool(o) || converts_to_float(o);
}

Tensor tensor_from_number(PyObject* o) {
  if (PyFloat_CheckExact(o)) return PyFloat_AS_DOUBLE(o);
  if (PyBool_Check(o)) return o == Py_True;
  if (is_index(o)) return int64_of(o);
  if (is_numpy_bool(o)) return PyObject_IsTrue(o) == 1;
  if (converts_to_float(o)) {
    const double v = PyFloat_AsDouble(o);
    if (v == -1 && PyErr_Occurred()) throw nb::python_error();
    return v;
  }
  return {};
}

bool load_integer(PyObject* o, std::int64_t& out) {
  if (PyBool_Check(o) || !PyIndex_Check(o)) return false;
  nb::object number = nb::steal(PyNumber_Index(o));
  int overflow = 0;
  if (number.is_valid()) out = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
  if (PyErr_Occurred()) return PyErr_Clear(), false;
  if (overflow)
    fail(ErrorKind::value, "shape", "the size ", nb::str(number).c_str(), " does not fit int64");
  return true;
}

bool load_shape(PyObject* o, Shape& out) {
  out = {};
  std::int64_t v = 0;
  if (load_integer(o, v)) return out.push_back(v), true;
  if (!PySequence_Check(o) || PyUnicode_Check(o) || PyBytes_Check(o)) return false;
  nb::object items = nb::steal(PySequence_Fast(o, ""));
  if (!items.is_valid()) return PyErr_Clear(), false;
  PyObject** item = PySequence_Fast_ITEMS(items.ptr());
  for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(items.ptr()); ++i) {
    if (!load_integer(item[i], v)) return false;
    out.push_back(v);
  }
  return true;
}

Shape shape_from_args(const nb::args& args, const char* operation) {
  Shape s;
  const bool one = args.size() == 1;
  if (!load_shape(one ? nb::handle(args[0]).ptr() : args.ptr(), s)) {
    fail(ErrorKind::type, operation, "expected sizes as integers or one sequence of integers, got ",
         nb::repr(one ? nb::object(args[0]) : nb::object(args)).c_str());
  }
  return s;
}

bool load_dtype(PyObject* o, DType& out) {
  for (int i = 0; i < dtype_count; ++i) {
    if (o == dtype_objects[i]) return out = static_cast<DType>(i), true;
  }
  if (o == reinterpret_cast<PyObject*>(&PyFloat_Type)) return out = default_dtype(), true;
  if (o == reinterpret_cast<PyObject*>(&PyLong_Type)) return out = DType::int64, true;
  if (o == reinterpret_cast<PyObject*>(&PyBool_Type)) return out = DType::bool_, true;
  return false;
}

PyObject* shape_tuple(const Shape& s) noexcept {
  PyObject* t = PyTuple_New(s.rank());
  for (int i = 0; t && i < s.rank(); ++i) PyTuple_SET_ITEM(t, i, PyLong_FromLongLong(s[i]));
  return t;
}

static PyObject* type_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::value: return PyExc_ValueError;
    case ErrorKind::type: return PyExc_TypeError;
    case ErrorKind::index: return PyExc_IndexError;
    case ErrorKind::memory: return PyExc_MemoryError;
    case ErrorKind::io: return PyExc_OSError;
    default: return PyExc_RuntimeError;
  }
}

void set_python_error() noexcept {
  try {
    throw;
  } catch (nb::python_error& e) {
    e.restore();
  } catch (const Error& e) {
    PyErr_SetString(type_of(e.kind()), e.what());
  } catch (const std::bad_alloc& e) {
    PyErr_SetString(PyExc_MemoryError, e.what());
  } catch (const std::exception& e) {
    PyErr_SetString(PyExc_RuntimeError, e.what());
  }
}

std::string path_of(nb::handle path) {
  PyObject* encoded = nullptr;
  if (!PyUnicode_FSConverter(path.ptr(), &encoded)) throw nb::python_error();
  const nb::object owner = nb::steal(encoded);
  return {PyBytes_AS_STRING(encoded), static_cast<std::size_t>(PyBytes_GET_SIZE(encoded))};
}

void bind_dtype(nb::module_& m) {
  nb::register_exception_translator([](const std::exception_ptr& p, void*) {
    try {
      std::rethrow_exception(p);
    } catch (const Error& e) {
      PyErr_SetString(type_of(e.kind()), e.what());
    }
  });
  auto name = [](const PyDType& d) {
    return std::string(d.t == DType::bool_ ? "bool" : name_of(d.t));
  };
  nb::class_<PyDType>(m, "dtype",
                      "The type of a tensor's elements: lightgrad.float32 and the like.")
      .def_prop_ro("name", name)
      .def_prop_ro(
          "itemsize", [](const PyDType& d) { return size_of(d.t); }, "Bytes per element.")
      .def_prop_ro("is_floating_point", [](const PyDType& d) { return is_floating(d.t); })
      .def("__repr__", [name](const PyDType& d) { return "lightgrad." + name(d); })
      .def("__copy__", [](nb::object self) { return self; })
      .def("__deepcopy__", [](nb::object self, nb::handle) { return self; })
      .def("__reduce__", name);  // pickled and found again by its name
  for (int i = 0; i < dtype_count; ++i) {
    const auto t = static_cast<DType>(i);
    nb::object o = nb::cast(PyDType{t});
    dtype_objects[i] = o.ptr();  // kept alive by the module
    m.attr(std::string(name_of(t)).c_str()) = o;
  }
  for (auto [alias, t] : {std::pair{"float", DType::float32},
                          {"double", DType::float64},
                          {"half", DType::float16},
                          {"int", DType::int32},
                          {"long", DType::int64}}) {
    m.attr(alias) = nb::handle(dtype_objects[static_cast<int>(t)]);
  }
  m.def("promote_types", &promote, "x"_a, "y"_a, "The dtype that holds both: PyTorch's table.");
  m.def("set_default_dtype", &set_default_dtype, "dtype"_a,
        "The dtype of floating-point tensors made without one.");
  m.def("get_default_dtype", &default_dtype);
}

}  // namespace lg::python

namespace nanobind::detail {

// A named tuple (values, indices).
handle type_caster<lg::ValuesIndices>::from_cpp(const lg::ValuesIndices& v, rv_policy,
                                                cleanup_list*) noexcept {
  static PyStructSequence_Field fields[] = {
      {"values", nullptr}, {"indices", nullptr}, {nullptr, nullptr}};
  static PyStructSequence_Desc description = {"lightgrad.ValuesIndices",
                                              "Values, and where they were found.", fields, 2};
  static PyTypeObject* type = PyStructSequence_NewType(&description);
  PyObject* t = type ? PyStructSequence_New(type) : nullptr;
  if (!t) return nullptr;
  PyStructSequence_SetItem(t, 0, lg::python::wrap(v.values));
  PyStructSequence_SetItem(t, 1, lg::python::wrap(v.indices));
  return t;
}

}  // namespace nanobind::detail
