// common.h: how Tensors, shapes, axes and dtypes cross the border, shared by every file of the
// binding. A tensor has at most one Python object at a time (a weak pointer in its TensorImpl), so
// `m.weight is m.weight` and `x.grad is x.grad`. The object holds the handle; the numbers belong to
// C++.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "lightgrad/lightgrad.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace lg::python {

struct PyTensor {
  Tensor t;
  PyObject* self = nullptr;

  PyTensor() = default;
  PyTensor(Tensor tensor, PyObject* object) : t(std::move(tensor)), self(object) {}
  PyTensor(const PyTensor&) = delete;
  ~PyTensor() {
    if (t.defined() && t.impl()->python == self) t.impl()->python = nullptr;
  }
};
struct PyParameter : PyTensor {
  using PyTensor::PyTensor;
};
struct PyDType {
  DType t;
};
// An argument that may be None, which becomes an undefined tensor.
struct MaybeTensor {
  Tensor t;
};

// Set once, when the classes are made.
inline PyTypeObject *tensor_type = nullptr, *parameter_type = nullptr;
inline PyObject* dtype_objects[dtype_count] = {};

inline bool is_tensor(PyObject* o) {
  return Py_TYPE(o) == tensor_type || Py_TYPE(o) == parameter_type ||
         PyObject_TypeCheck(o, tensor_type);
}
inline const Tensor& tensor_of(PyObject* o) { return nb::inst_ptr<PyTensor>(o)->t; }
// The Python object of a tensor, a new reference; None for an undefined one.
PyObject* wrap(Tensor t) noexcept;
// A Python, NumPy or other plain number as a weak 0-d tensor; undefined when it is none. Throws
// ValueError when it is an integer beyond int64.
Tensor tensor_from_number(PyObject* o);
bool is_number(PyObject* o);

bool load_integer(PyObject* o,
                  std::int64_t& out);  // ints and what has __index__, but bool; no error is set
bool load_shape(PyObject* o,
                Shape& out);  // an int or a sequence of ints; throws beyond 8 dimensions
bool load_dtype(PyObject* o, DType& out);  // lg.float32, or Python's float, int, bool
PyObject* shape_tuple(const Shape& s) noexcept;
std::string path_of(nb::handle path);  // of a string or an os.PathLike, as the system has it

// Sizes written one by one or as one sequence: zeros(2, 3), zeros((2, 3)), zeros([2, 3]), zeros().
Shape shape_from_args(const nb::args& args, const char* operation);
// Whatever lg.tensor accepts: numbers, nested sequences, tensors, buffers. Always a new tensor,
// unless `share`, which lets a buffer's or tensor's memory be used as it is where the dtype fits.
Tensor tensor_from_data(nb::handle data, std::optional<DType> dtype, bool share = false);
void check_device(const std::optional<std::string>& device);  // None or "cpu"
// t on the named device; where it is without a name.
Tensor placed(Tensor t, const std::optional<std::string>& device);

// What an allocator says of itself (lg::memory_stats, cuda::memory_stats).
template <class Stats> nb::dict memory_dict(const Stats& s) {
  nb::dict d;
  d["current"] = s.current;
  d["peak"] = s.peak;
  d["cached"] = s.cached;
  d["allocations"] = s.allocations;
  d["system_allocations"] = s.system_allocations;
  return d;
}

// A tensor's memory as a NumPy array, and the slots of the class that files share (operators.cpp,
// interop.cpp).
nb::object to_numpy(nb::handle tensor);
Tensor from_dlpack(nb::handle x);
bool is_dlpack(nb::handle x);
PyObject* subscript(PyObject* self, PyObject* key) noexcept;
int assign_subscript(PyObject* self, PyObject* key, PyObject* value) noexcept;
int get_buffer(PyObject* self, Py_buffer* view, int flags) noexcept;
void release_buffer(PyObject* self, Py_buffer* view) noexcept;
extern PyType_Slot tensor_slots[];

// In a catch (...): the exception as Python's current error.
void set_python_error() noexcept;

// A Python object kept by C++: let go under the interpreter lock, and not at all once Python is
// gone.
class PyRef {
 public:
  explicit PyRef(nb::object o) : p_(o.release().ptr()) {}
  PyRef(const PyRef& other) : p_(other.p_) {
    nb::gil_scoped_acquire lock;
    Py_XINCREF(p_);
  }
  PyRef(PyRef&& other) noexcept : p_(std::exchange(other.p_, nullptr)) {}
  PyRef& operator=(const PyRef&) = delete;
  ~PyRef() {
    if (!p_ || !Py_IsInitialized()) return;
    nb::gil_scoped_acquire lock;
    Py_DECREF(p_);
  }
  nb::handle get() const { return p_; }

 private:
  PyObject* p_;
};

// The parts of the module.
void bind_dtype(nb::module_& m);
void bind_tensor(nb::module_& m);  // the class, and what of it is not a row of the table
void bind_operations(nb::module_& m, nb::class_<PyTensor>& tensor);
void bind_in_place(nb::class_<PyTensor>& tensor);
void bind_creation(nb::module_& m);
void bind_data(nb::module_& m);
void bind_interop(nb::module_& m, nb::class_<PyTensor>& tensor);
void bind_autograd(nb::module_& m, nb::class_<PyTensor>& tensor);
void bind_nn(nb::module_& m);
void bind_optim(nb::module_& m);
void bind_schedules(nb::module_& optim);
void bind_amp(nb::module_& m);
void bind_io(nb::module_& m);
void bind_graph(nb::module_& m);
void bind_cuda(nb::module_& m);
void bind_profile(nb::module_& m);
void bind_plan(nb::module_& m);

}  // namespace lg::python

namespace nanobind::detail {

// Accepts tensors and numbers. An argument by reference is the caller's own tensor, without a copy.
template <> struct type_caster<lg::Tensor> {
  using Value = lg::Tensor;
  static constexpr auto Name = io_name("lightgrad._core.Tensor | float", "lightgrad._core.Tensor");
  template <class T>
  using Cast = std::conditional_t<
      is_pointer_v<T>, lg::Tensor*,
      std::conditional_t<std::is_lvalue_reference_v<T>, lg::Tensor&, lg::Tensor>>;
  template <class T> static constexpr bool can_cast() { return true; }

  bool from_python(handle h, std::uint32_t, cleanup_list*) noexcept {
    if (lg::python::is_tensor(h.ptr())) [[likely]] {
      given = &lg::python::tensor_of(h.ptr());
      return true;
    }
    try {
      made = lg::python::tensor_from_number(h.ptr());
    } catch (const lg::Error&) {  // an integer beyond int64: no tensor
    }
    given = &made;
    return made.defined();
  }
  static handle from_cpp(const lg::Tensor& t, rv_policy, cleanup_list*) noexcept {
    return lg::python::wrap(t);
  }
  static handle from_cpp(lg::Tensor&& t, rv_policy, cleanup_list*) noexcept {
    return lg::python::wrap(std::move(t));
  }
  static handle from_cpp(const lg::Tensor* t, rv_policy, cleanup_list*) noexcept {
    return t ? lg::python::wrap(*t) : none().release().ptr();
  }

  explicit operator lg::Tensor*() { return const_cast<lg::Tensor*>(given); }
  explicit operator lg::Tensor&() { return const_cast<lg::Tensor&>(*given); }
  explicit operator lg::Tensor() { return *given; }

  const lg::Tensor* given = nullptr;
  lg::Tensor made;
};

template <> struct type_caster<lg::python::MaybeTensor> {
  NB_TYPE_CASTER(lg::python::MaybeTensor, const_name("lightgrad._core.Tensor | float"))
  bool from_python(handle h, std::uint32_t flags, cleanup_list* c) noexcept {
    if (h.is_none()) return value.t = {}, true;
    type_caster<lg::Tensor> t;
    if (!t.from_python(h, flags, c)) return false;
    value.t = *t.given;
    return true;
  }
  static handle from_cpp(const lg::python::MaybeTensor& v, rv_policy, cleanup_list*) noexcept {
    return lg::python::wrap(v.t);
  }
};

template <> struct type_caster<lg::Shape> {
  NB_TYPE_CASTER(lg::Shape, io_name("int | collections.abc.Sequence[int]", "tuple[int, ...]"))
  bool from_python(handle h, std::uint32_t, cleanup_list*) {
    return lg::python::load_shape(h.ptr(), value);
  }
  static handle from_cpp(const lg::Shape& s, rv_policy, cleanup_list*) noexcept {
    return lg::python::shape_tuple(s);
  }
};

template <> struct type_caster<lg::Axes> {
  NB_TYPE_CASTER(lg::Axes, const_name("int | collections.abc.Sequence[int]"))
  bool from_python(handle h, std::uint32_t, cleanup_list*) {
    value.all = h.is_none();
    return value.all || lg::python::load_shape(h.ptr(), value.list);
  }
  static handle from_cpp(const lg::Axes& a, rv_policy, cleanup_list*) noexcept {
    return a.all ? none().release().ptr() : lg::python::shape_tuple(a.list);
  }
};

template <> struct type_caster<lg::Padding> {
  NB_TYPE_CASTER(lg::Padding, const_name("int | collections.abc.Sequence[int] | str"))
  bool from_python(handle h, std::uint32_t, cleanup_list*) {
    if (nb::isinstance<nb::str>(h))
      return value = lg::Padding(nb::borrow<nb::str>(h).c_str()), true;
    value = {};
    return lg::python::load_shape(h.ptr(), value.sizes);
  }
  static handle from_cpp(const lg::Padding& p, rv_policy, cleanup_list*) noexcept {
    if (p.same) return PyUnicode_FromString("same");
    return p.sizes.rank() == 1 ? PyLong_FromLongLong(p.sizes[0]) : lg::python::shape_tuple(p.sizes);
  }
};

template <> struct type_caster<lg::Scale> {
  NB_TYPE_CASTER(lg::Scale, const_name("float | collections.abc.Sequence[float]"))
  bool from_python(handle h, std::uint32_t flags, cleanup_list* c) noexcept {
    make_caster<double> one;
    if (one.from_python(h, flags, c)) return value = lg::Scale(one.value), true;
    make_caster<std::vector<double>> many;
    if (!many.from_python(h, flags, c)) return false;
    value.list = many.value;
    return true;
  }
  static handle from_cpp(const lg::Scale& s, rv_policy policy, cleanup_list* c) noexcept {
    return make_caster<std::vector<double>>::from_cpp(s.list, policy, c);
  }
};

template <> struct type_caster<lg::DType> {
  NB_TYPE_CASTER(lg::DType, const_name("lightgrad._core.dtype"))
  bool from_python(handle h, std::uint32_t, cleanup_list*) noexcept {
    return lg::python::load_dtype(h.ptr(), value);
  }
  static handle from_cpp(lg::DType t, rv_policy, cleanup_list*) noexcept {
    return handle(lg::python::dtype_objects[static_cast<int>(t)]).inc_ref();
  }
};

template <> struct type_caster<lg::ValuesIndices> {
  using Value = lg::ValuesIndices;
  static constexpr auto Name = const_name("tuple[lightgrad._core.Tensor, lightgrad._core.Tensor]");
  template <class T> using Cast = Value;
  static handle from_cpp(const Value& v, rv_policy, cleanup_list*) noexcept;
};

}  // namespace nanobind::detail

namespace lg::python {
using TensorTuple = nb::typed<nb::tuple, Tensor, nb::ellipsis>;
inline TensorTuple tuple_of(const std::vector<Tensor>& v) {
  return TensorTuple(nb::tuple(nb::cast(v)));
}
}  // namespace lg::python
