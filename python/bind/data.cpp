// data.cpp: what lg.tensor accepts. Numbers and nested sequences are walked twice: once for the
// shape and the kind of number, once to write them. Buffers (NumPy arrays, bytes, array.array,
// memoryview) are copied, or shared.
#include "common.h"

namespace lg::python {
namespace {

// --- nested sequences ---

enum class Kind : std::uint8_t {
  none,
  boolean,
  integer,
  real
};  // in rising order: the highest found decides

bool is_nested(PyObject* o) {
  if (PyList_Check(o) || PyTuple_Check(o)) return true;
  if (is_tensor(o)) return tensor_of(o).rank() > 0;
  return PySequence_Check(o) && !PyUnicode_Check(o) && !PyBytes_Check(o);
}

nb::object items_of(PyObject* o) {
  nb::object items = nb::steal(PySequence_Fast(o, "lightgrad.tensor: expected a sequence"));
  if (!items.is_valid()) throw nb::python_error();
  return items;
}

struct Survey {
  Shape shape;
  bool depth_known = false;
  Kind kind = Kind::none;

  void visit(PyObject* o, int depth) {
    if (!is_nested(o)) {
      if (depth_known && depth != shape.rank()) fail_ragged(depth);
      depth_known = true;
      kind = std::max(kind, kind_of(o));
      return;
    }
    const nb::object items = items_of(o);
    const Py_ssize_t n = PySequence_Fast_GET_SIZE(items.ptr());
    if (depth == shape.rank()) {
      if (depth_known) fail_ragged(depth);
      shape.push_back(n);
    } else if (shape[depth] != n) {
      fail(ErrorKind::value, "tensor", "sequences at depth ", depth, " have lengths ", shape[depth],
           " and ", n, ", expected the same");
    }
    if (n == 0) {
      if (depth_known && depth + 1 != shape.rank()) fail_ragged(depth + 1);
      depth_known = true;
    }
    for (Py_ssize_t i = 0; i < n; ++i) visit(PySequence_Fast_GET_ITEM(items.ptr(), i), depth + 1);
  }

 private:
  [[noreturn]] static void fail_ragged(int depth) {
    fail(ErrorKind::value, "tensor", "numbers and sequences are mixed at depth ", depth,
         ", expected a regular nesting");
  }
  static Kind kind_of(PyObject* o) {
    if (PyFloat_CheckExact(o)) return Kind::real;
    if (PyBool_Check(o)) return Kind::boolean;
    if (PyLong_CheckExact(o)) return Kind::integer;
    const Tensor t = is_tensor(o) ? tensor_of(o) : tensor_from_number(o);
    if (!t.defined()) {
      fail(ErrorKind::type, "tensor",
           "expected numbers, nested sequences, a buffer or a tensor, got ", Py_TYPE(o)->tp_name);
    }
    if (is_floating(t.dtype())) return Kind::real;
    return t.dtype() == DType::bool_ ? Kind::boolean : Kind::integer;
  }
};

template <class T> T number_as(PyObject* o) {
  if constexpr (std::same_as<T, double>) {
    if (PyFloat_CheckExact(o)) return PyFloat_AS_DOUBLE(o);
  }
  return (is_tensor(o) ? tensor_of(o) : tensor_from_number(o)).item<T>();
}

template <class T> void write(PyObject* o, int rank, T*& out) {
  if (rank == 0) {
    *out++ = number_as<T>(o);
    return;
  }
  const nb::object items = items_of(o);
  for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(items.ptr()); ++i) {
    write(PySequence_Fast_GET_ITEM(items.ptr(), i), rank - 1, out);
  }
}

Tensor from_nested(PyObject* o, std::optional<DType> dtype) {
  Survey found;
  found.visit(o, 0);
  const Kind kind = found.kind == Kind::none ? Kind::real : found.kind;
  const DType read = kind == Kind::real      ? DType::float64
                     : kind == Kind::integer ? DType::int64
                                             : DType::bool_;
  Tensor t = empty(found.shape, read);
  if (t.numel() > 0) {
    visit(read, [&]<class T>(T) {
      if constexpr (std::same_as<T, double> || std::same_as<T, std::int64_t> ||
                    std::same_as<T, bool>) {
        T* out = t.data<T>();
        write(o, found.shape.rank(), out);
      }
    });
  }
  return to(t, dtype.value_or(kind == Kind::real ? default_dtype() : read));
}

// --- buffers ---

struct Buffer {
  Py_buffer view{};
  explicit Buffer(PyObject* o) {
    if (PyObject_GetBuffer(o, &view, PyBUF_STRIDES | PyBUF_FORMAT) != 0) throw nb::python_error();
  }
  Buffer(const Buffer&) = delete;
  ~Buffer() {
    if (!Py_IsInitialized()) return;
    nb::gil_scoped_acquire lock;
    PyBuffer_Release(&view);
  }
};

// A format of the struct module as (kind, bytes): 'i' and 'u' integers, 'f' floats, '?' bool, 0
// unknown.
char format_kind(const Py_buffer& v) {
  std::string_view f = v.format ? v.format : "B";
  if (!f.empty() && (f[0] == '@' || f[0] == '=' || f[0] == '<' || f[0] == '|')) f.remove_prefix(1);
  if (f.size() != 1) return 0;
  if (f[0] == '?') return '?';
  if (std::string_view("bhilqn").find(f[0]) != f.npos) return 'i';
  if (std::string_view("BHILQNc").find(f[0]) != f.npos) return 'u';
  return std::string_view("efd").find(f[0]) != f.npos ? 'f' : 0;
}

// The dtype with the same bits, if there is one.
std::optional<DType> same_dtype(const Py_buffer& v) {
  const char kind = format_kind(v);
  if (kind == '?') return DType::bool_;
  if (kind == 'u' && v.itemsize == 1) return DType::uint8;
  if (kind == 'i' && v.itemsize == 4) return DType::int32;
  if (kind == 'i' && v.itemsize == 8) return DType::int64;
  if (kind == 'f')
    return v.itemsize == 2 ? DType::float16 : v.itemsize == 4 ? DType::float32 : DType::float64;
  return {};
}

struct Extent {  // of the elements around view.buf, in bytes
  std::int64_t low = 0, high = 0;
  bool aligned = true;

  explicit Extent(const Py_buffer& v) {
    for (int i = 0; i < v.ndim; ++i) {
      if (v.shape[i] == 0) {
        low = high = 0;
        return;
      }
      if (v.shape[i] > 1) aligned &= v.strides[i] % v.itemsize == 0;
      (v.strides[i] < 0 ? low : high) += (v.shape[i] - 1) * v.strides[i];
    }
    high += v.itemsize;
    aligned &= reinterpret_cast<std::uintptr_t>(v.buf) % static_cast<std::size_t>(v.itemsize) == 0;
  }
};

Tensor shared(std::shared_ptr<Buffer> b, DType dtype) {
  const Py_buffer& v = b->view;
  const Extent extent(v);
  Shape shape, strides;
  for (int i = 0; i < v.ndim; ++i) {
    shape.push_back(v.shape[i]);
    strides.push_back(v.shape[i] > 1 ? v.strides[i] / v.itemsize : 1);
  }
  return Tensor::on(
      Storage::borrow(static_cast<char*>(v.buf) + extent.low,
                      static_cast<std::size_t>(extent.high - extent.low), std::move(b)),
      shape, strides, -extent.low / v.itemsize, dtype);
}

// Element by element, for layouts and integer types that tensors do not have: widened to int32 or
// int64.
template <class From> Tensor widened(const Py_buffer& v, DType dtype) {
  Shape shape;
  for (int i = 0; i < v.ndim; ++i) shape.push_back(v.shape[i]);
  Tensor t = empty(shape, dtype);
  const std::int64_t n = t.numel();
  visit(dtype, [&]<class To>(To) {
    To* out = t.data<To>();
    for (std::int64_t k = 0; k < n; ++k) {
      const char* p = static_cast<const char*>(v.buf);
      std::int64_t rest = k;
      for (int i = v.ndim; i-- > 0; rest /= shape[i]) p += (rest % shape[i]) * v.strides[i];
      From x;
      std::memcpy(&x, p, sizeof x);
      out[k] = convert<To>(x);
    }
  });
  return t;
}

[[noreturn]] void fail_format(PyObject* o, const Py_buffer& v) {
  fail(ErrorKind::type, "tensor", "elements of format '", v.format ? v.format : "B", "' in a ",
       Py_TYPE(o)->tp_name, " have no counterpart among LightGrad's dtypes; convert them first");
}

Tensor from_buffer(PyObject* o, std::optional<DType> dtype, bool share) {
  auto b = std::make_shared<Buffer>(o);
  const Py_buffer& v = b->view;
  if (v.ndim > max_rank)
    fail(ErrorKind::value, "tensor", "a tensor has at most 8 dimensions, the array has ", v.ndim);
  const bool usable = v.itemsize > 0 && Extent(v).aligned;
  if (auto same = same_dtype(v); same && usable) {
    if (share && !v.readonly && dtype.value_or(*same) == *same) return shared(std::move(b), *same);
    return to(shared(std::move(b), *same).copy(), dtype.value_or(*same));
  }
  switch (format_kind(v)) {
    case '?': return to(widened<bool>(v, DType::bool_), dtype.value_or(DType::bool_));
    case 'f':
      if (v.itemsize == 2) return widened<float16>(v, dtype.value_or(DType::float16));
      if (v.itemsize == 4) return widened<float>(v, dtype.value_or(DType::float32));
      return widened<double>(v, dtype.value_or(DType::float64));
    case 'i':
      if (v.itemsize == 1) return widened<std::int8_t>(v, dtype.value_or(DType::int32));
      if (v.itemsize == 2) return widened<std::int16_t>(v, dtype.value_or(DType::int32));
      if (v.itemsize == 4) return widened<std::int32_t>(v, dtype.value_or(DType::int32));
      return widened<std::int64_t>(v, dtype.value_or(DType::int64));
    case 'u':
      if (v.itemsize == 1) return widened<std::uint8_t>(v, dtype.value_or(DType::uint8));
      if (v.itemsize == 2) return widened<std::uint16_t>(v, dtype.value_or(DType::int32));
      if (v.itemsize == 4) return widened<std::uint32_t>(v, dtype.value_or(DType::int64));
      if (dtype) return widened<std::uint64_t>(v, *dtype);
      fail_format(o, v);
    default: fail_format(o, v);
  }
}

}  // namespace

Tensor tensor_from_data(nb::handle data, std::optional<DType> dtype, bool share) {
  PyObject* o = data.ptr();
  if (is_tensor(o)) {
    const Tensor& t = tensor_of(o);
    if (share) return to(t, dtype.value_or(t.dtype()));
    return to(t.detach().copy(), dtype.value_or(t.dtype()));
  }
  if (PyBool_Check(o) || PyLong_CheckExact(o) || PyFloat_CheckExact(o) || PyList_CheckExact(o) ||
      PyTuple_CheckExact(o)) {
    return from_nested(o, dtype);
  }
  if (PyObject_CheckBuffer(o)) return from_buffer(o, dtype, share);
  if (is_dlpack(data)) {
    const Tensor t = from_dlpack(data);
    return to(share ? t : t.copy(), dtype.value_or(t.dtype()));
  }
  return from_nested(o, dtype);
}

// The memory itself, or an error that says why not.
static Tensor from_numpy(nb::object array) {
  if (!PyObject_CheckBuffer(array.ptr())) {
    fail(ErrorKind::type, "from_numpy", "expected a NumPy array, got ",
         Py_TYPE(array.ptr())->tp_name);
  }
  auto b = std::make_shared<Buffer>(array.ptr());
  const Py_buffer& v = b->view;
  const auto dtype = same_dtype(v);
  if (!dtype) fail_format(array.ptr(), v);
  if (v.readonly)
    fail(ErrorKind::value, "from_numpy",
         "the array is read-only; pass a copy, or use lg.tensor(array)");
  if (v.ndim > max_rank)
    fail(ErrorKind::value, "from_numpy", "a tensor has at most 8 dimensions, the array has ",
         v.ndim);
  if (!Extent(v).aligned) {
    fail(ErrorKind::value, "from_numpy",
         "the array's elements are not aligned; use lg.tensor(array)");
  }
  return shared(std::move(b), *dtype);
}

void check_device(const std::optional<std::string>& device) {
  if (device && *device != "cpu") {
    parse_device(*device);
    fail(ErrorKind::runtime, "device", "layers are made on the CPU, not on '", *device,
         "'; move them with to('", *device, "')");
  }
}

Tensor placed(Tensor t, const std::optional<std::string>& device) {
  return device ? to_device(t, parse_device(*device)) : t;
}

void bind_data(nb::module_& m) {
  m.def(
      "tensor",
      [](nb::handle data, std::optional<DType> dtype, std::optional<std::string> device,
         bool requires_grad) {
        Tensor t = placed(tensor_from_data(data, dtype), device);
        if (requires_grad) t.set_requires_grad();
        return t;
      },
      "data"_a.none(), "dtype"_a = nb::none(), "device"_a = nb::none(), "requires_grad"_a = false,
      "A new tensor from a number, nested sequences of numbers, a buffer (NumPy array, bytes, ...) "
      "or a tensor.\n\n"
      "Without dtype, Python's floats take the default dtype, ints int64, bools bool; arrays keep "
      "theirs.");
  m.def(
      "as_tensor",
      [](nb::handle data, std::optional<DType> dtype) {
        return tensor_from_data(data, dtype, true);
      },
      "data"_a.none(), "dtype"_a = nb::none(),
      "As tensor(), sharing the memory of tensors and writable arrays where it can.");
  m.def("from_numpy", &from_numpy, "array"_a,
        "A tensor on the memory of a NumPy array (or another writable buffer).");
  m.def(
      "from_dlpack", [](nb::object x) { return from_dlpack(x); }, "x"_a,
      "A tensor on the memory of any CPU array that speaks DLPack.");
}

}  // namespace lg::python
