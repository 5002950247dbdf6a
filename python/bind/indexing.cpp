// indexing.cpp: what stands in the brackets of x[...], made into the engine's own indices.
#include "common.h"

namespace lg::python {
namespace {

std::optional<std::int64_t> bound(PyObject* o, const char* what) {
  if (o == Py_None) return {};
  if (!PyIndex_Check(o)) {
    fail(ErrorKind::type, "index", "a slice's ", what, " is an integer or None, got ",
         Py_TYPE(o)->tp_name);
  }
  const Py_ssize_t v = PyNumber_AsSsize_t(o, nullptr);  // beyond int64: clipped, as Python does
  if (v == -1 && PyErr_Occurred()) throw nb::python_error();
  return v;
}

Slice slice_of(PyObject* key) {
  const auto* s = reinterpret_cast<PySliceObject*>(key);
  const auto step = bound(s->step, "step").value_or(1);
  if (step == 0) fail(ErrorKind::value, "index", "a slice's step cannot be 0");
  return {bound(s->start, "start"), bound(s->stop, "stop"), step};
}

Index index_of(PyObject* key) {
  if (PyLong_Check(key) && !PyBool_Check(key)) {
    int overflow = 0;
    const long long v = PyLong_AsLongLongAndOverflow(key, &overflow);
    if (overflow)
      fail(ErrorKind::index, "index", "the integer ", nb::str(key).c_str(), " is out of range");
    return v;
  }
  if (PySlice_Check(key)) return slice_of(key);
  if (key == Py_None) return None;
  if (key == Py_Ellipsis) return Ellipsis;
  if (is_tensor(key)) return tensor_of(key);
  if (PyBool_Check(key)) return tensor_from_data(key, DType::bool_);
  if (std::int64_t v = 0; !PySequence_Check(key) && load_integer(key, v)) return v;
  if (PyFloat_Check(key) || PyUnicode_Check(key) ||
      (!PySequence_Check(key) && !PyObject_CheckBuffer(key))) {
    fail(ErrorKind::index, "index",
         "expected integers, slices, None, ..., bool masks or integer tensors, got ",
         Py_TYPE(key)->tp_name);
  }
  Tensor t = tensor_from_data(key, {});
  return t.numel() == 0 && is_floating(t.dtype()) ? to(t, DType::int64) : t;  // x[[]]
}

std::vector<Index> indices_of(PyObject* key) {
  std::vector<Index> all;
  if (!PyTuple_Check(key)) {
    all.push_back(index_of(key));
    return all;
  }
  const Py_ssize_t n = PyTuple_GET_SIZE(key);
  all.reserve(static_cast<std::size_t>(n));
  for (Py_ssize_t i = 0; i < n; ++i) all.push_back(index_of(PyTuple_GET_ITEM(key, i)));
  return all;
}

}  // namespace

PyObject* subscript(PyObject* self, PyObject* key) noexcept {
  try {
    return wrap(tensor_of(self).index(indices_of(key)));
  } catch (...) {
    set_python_error();
    return nullptr;
  }
}

int assign_subscript(PyObject* self, PyObject* key, PyObject* value) noexcept {
  try {
    const Tensor& x = tensor_of(self);
    if (!value) fail(ErrorKind::type, "index", "elements of a tensor cannot be deleted");
    Tensor v = is_tensor(value) ? tensor_of(value) : tensor_from_number(value);
    if (!v.defined()) v = tensor_from_data(value, {}, true);
    x.index_put(indices_of(key), v);
    return 0;
  } catch (...) {
    set_python_error();
    return -1;
  }
}

}  // namespace lg::python
