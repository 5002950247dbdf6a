// interop.cpp: tensors as others see them: NumPy arrays, buffers (PEP 3118), DLPack capsules. All
// share the memory.
#include <cstring>

#include "common.h"

namespace lg::python {
namespace {

// --- the C structures of DLPack (github.com/dmlc/dlpack, version 1.0) ---
struct DLDevice {
  std::int32_t type, id;
};
struct DLDataType {
  std::uint8_t code, bits;
  std::uint16_t lanes;
};
struct DLTensor {
  void* data;
  DLDevice device;
  std::int32_t ndim;
  DLDataType dtype;
  std::int64_t *shape, *strides;
  std::uint64_t byte_offset;
};
struct DLManagedTensor {
  DLTensor tensor;
  void* context;
  void (*deleter)(DLManagedTensor*);
};
struct DLManagedTensorVersioned {
  std::uint32_t major, minor;
  void* context;
  void (*deleter)(DLManagedTensorVersioned*);
  std::uint64_t flags;
  DLTensor tensor;
};
constexpr std::int32_t dl_cpu = 1, dl_cuda = 2;
DLDevice dl_device(Device d) { return {d.type == DeviceType::cpu ? dl_cpu : dl_cuda, d.index}; }
constexpr std::uint64_t dl_read_only = 1;
constexpr const char *plain_name = "dltensor", *versioned_name = "dltensor_versioned";
enum DLCode : std::uint8_t { dl_int = 0, dl_uint = 1, dl_float = 2, dl_bfloat = 4, dl_bool = 6 };

DLDataType dl_dtype(DType t) {
  const auto bits = static_cast<std::uint8_t>(8 * size_of(t));
  switch (t) {
    case DType::bool_: return {dl_bool, 8, 1};
    case DType::uint8: return {dl_uint, 8, 1};
    case DType::int32:
    case DType::int64: return {dl_int, bits, 1};
    case DType::bfloat16: return {dl_bfloat, bits, 1};
    default: return {dl_float, bits, 1};
  }
}

DType dtype_of_dl(DLDataType t) {
  for (int i = 0; i < dtype_count; ++i) {
    const DLDataType d = dl_dtype(static_cast<DType>(i));
    if (d.code == t.code && d.bits == t.bits && t.lanes == 1) return static_cast<DType>(i);
  }
  fail(ErrorKind::type, "from_dlpack", "elements of DLPack type (code ", int{t.code}, ", ",
       int{t.bits}, " bits, ", int{t.lanes},
       " lanes) have no counterpart among LightGrad's dtypes");
}

void check_shareable(const Tensor& t, const char* operation) {
  if (t.requires_grad()) {
    fail(ErrorKind::runtime, operation,
         "the tensor requires a gradient, which others would not see; use detach() first");
  }
}

// What stays alive while somebody uses the memory: the sizes, and the storage (not the handle: an
// in-place change of dtype gives the handle another one).
struct Export {
  Shape shape, strides;
  Ref<Storage> storage;

  explicit Export(const Tensor& t)
      : shape(t.shape()), strides(t.strides()), storage(t.impl()->storage) {}
};

template <class Managed> struct DLExport : Export {
  Managed managed{};

  explicit DLExport(const Tensor& t) : Export(t) {
    managed.tensor = {t.raw_data(),  dl_device(t.device()), t.rank(), dl_dtype(t.dtype()),
                      shape.begin(), strides.begin(),       0};
    managed.context = this;
    managed.deleter = [](Managed* m) { delete static_cast<DLExport*>(m->context); };
    if constexpr (requires { managed.major; }) managed.major = 1;
  }
};

template <class Managed> nb::object capsule_of(const Tensor& t, const char* name) {
  auto* e = new DLExport<Managed>(t);
  // A consumer renames the capsule and calls the deleter itself.
  nb::object c = nb::steal(PyCapsule_New(&e->managed, name, [](PyObject* o) {
    for (const char* n : {plain_name, versioned_name}) {
      if (!PyCapsule_IsValid(o, n)) continue;
      auto* m = static_cast<Managed*>(PyCapsule_GetPointer(o, n));
      m->deleter(m);
    }
  }));
  if (!c.is_valid()) {
    delete e;
    throw nb::python_error();
  }
  return c;
}

template <class Managed>
Tensor from_capsule(PyObject* capsule, const char* name, const char* used_name) {
  auto* m = static_cast<Managed*>(PyCapsule_GetPointer(capsule, name));
  const DLTensor& d = m->tensor;
  if (d.device.type != dl_cpu && d.device.type != dl_cuda) {
    fail(ErrorKind::value, "from_dlpack", "the array lies on a device of DLPack type ",
         d.device.type, ", expected the CPU or a CUDA device");
  }
  if constexpr (requires { m->flags; }) {
    if (m->major != 1)
      fail(ErrorKind::value, "from_dlpack", "DLPack version ", m->major, " is not known here");
    if (m->flags & dl_read_only)
      fail(ErrorKind::value, "from_dlpack", "the array is read-only; pass a copy");
  }
  if (d.ndim < 0 || d.ndim > max_rank) {
    fail(ErrorKind::value, "from_dlpack", "a tensor has at most 8 dimensions, the array has ",
         d.ndim);
  }
  const DType dtype = dtype_of_dl(d.dtype);
  const auto item = static_cast<std::int64_t>(size_of(dtype));
  Shape shape(std::span<const std::int64_t>(d.shape, static_cast<std::size_t>(d.ndim)));
  Shape strides = contiguous_strides(shape);
  if (d.strides)
    strides = Shape(std::span<const std::int64_t>(d.strides, static_cast<std::size_t>(d.ndim)));
  const std::int64_t n = checked_numel(shape, size_of(dtype), "from_dlpack");
  std::int64_t low = 0, high = 0;
  for (int i = 0; i < shape.rank() && n > 0; ++i)
    (strides[i] < 0 ? low : high) += (shape[i] - 1) * strides[i];
  char* first = static_cast<char*>(d.data) + d.byte_offset;
  if (reinterpret_cast<std::uintptr_t>(first) % static_cast<std::size_t>(item) != 0) {
    fail(ErrorKind::value, "from_dlpack", "the array's elements are not aligned; pass a copy");
  }
  PyCapsule_SetName(capsule, used_name);  // from here on it is ours to delete
  std::shared_ptr<void> owner(m, [](Managed* p) {
    if (!p->deleter || !Py_IsInitialized()) return;
    nb::gil_scoped_acquire lock;
    p->deleter(p);
  });
  const std::int64_t bytes = n > 0 ? (high - low + 1) * item : 0;
  Tensor t = Tensor::on(
      Storage::borrow(first + low * item, static_cast<std::size_t>(bytes), std::move(owner)), shape,
      strides, -low, dtype);
  if (d.device.type == dl_cuda) {
    cuda::synchronize(d.device.id);  // whoever made it may have a queue of its own
    t.impl()->device = {DeviceType::cuda, static_cast<std::int8_t>(d.device.id)};
  }
  return t;
}

const char* format_of(DType t) {
  switch (t) {
    case DType::bool_: return "?";
    case DType::uint8: return "B";
    case DType::int32: return "i";
    case DType::int64: return "q";
    case DType::float16: return "e";
    case DType::float32: return "f";
    case DType::float64: return "d";
    default: return nullptr;
  }
}

struct BufferExport : Export {
  Py_ssize_t sizes[max_rank], steps[max_rank];  // steps in bytes

  explicit BufferExport(const Tensor& t) : Export(t) {
    for (int i = 0; i < t.rank(); ++i) {
      sizes[i] = shape[i];
      steps[i] = strides[i] * static_cast<Py_ssize_t>(size_of(t.dtype()));
    }
  }
};

PyObject* numpy_asarray() {
  static PyObject* f = nb::module_::import_("numpy").attr("asarray").inc_ref().ptr();
  return f;
}

}  // namespace

bool is_dlpack(nb::handle x) {
  return PyCapsule_CheckExact(x.ptr()) || nb::hasattr(x, "__dlpack__");
}

Tensor from_dlpack(nb::handle x) {
  nb::object capsule = nb::borrow(x);
  if (!PyCapsule_CheckExact(x.ptr())) {
    if (!nb::hasattr(x, "__dlpack__")) {
      fail(ErrorKind::type, "from_dlpack", "expected an object with __dlpack__, got ",
           Py_TYPE(x.ptr())->tp_name);
    }
    try {
      capsule = x.attr("__dlpack__")("max_version"_a = nb::make_tuple(1, 0));
    } catch (nb::python_error& e) {  // a producer from before version 1
      if (!e.matches(PyExc_TypeError)) throw;
      capsule = x.attr("__dlpack__")();
    }
  }
  if (PyCapsule_IsValid(capsule.ptr(), versioned_name)) {
    return from_capsule<DLManagedTensorVersioned>(capsule.ptr(), versioned_name,
                                                  "used_dltensor_versioned");
  }
  if (PyCapsule_IsValid(capsule.ptr(), plain_name)) {
    return from_capsule<DLManagedTensor>(capsule.ptr(), plain_name, "used_dltensor");
  }
  fail(ErrorKind::value, "from_dlpack",
       "the capsule holds no DLPack tensor, or one that was taken already");
}

int get_buffer(PyObject* self, Py_buffer* view, int flags) noexcept {
  const Tensor& t = tensor_of(self);
  view->obj = nullptr;
  auto refuse = [&](const char* why) { return PyErr_SetString(PyExc_BufferError, why), -1; };
  if (t.device().type != DeviceType::cpu)
    return refuse("buffer: the tensor does not lie in the CPU's memory; use to(\"cpu\") first");
  if (t.requires_grad())
    return refuse("buffer: the tensor requires a gradient; use detach() first");
  const char* format = format_of(t.dtype());
  if (!format) return refuse("buffer: bfloat16 has no buffer format; use float() first");
  const bool strided = (flags & PyBUF_STRIDES) == PyBUF_STRIDES;
  const bool wants_c = (flags & PyBUF_C_CONTIGUOUS) == PyBUF_C_CONTIGUOUS || !strided;
  const bool wants_f = (flags & PyBUF_F_CONTIGUOUS) == PyBUF_F_CONTIGUOUS;
  const bool wants_any = (flags & PyBUF_ANY_CONTIGUOUS) == PyBUF_ANY_CONTIGUOUS;
  if ((wants_c || wants_any) && !t.is_contiguous())
    return refuse("buffer: the tensor is not contiguous");
  if (wants_f && !(t.is_contiguous() && t.rank() < 2))
    return refuse("buffer: the tensor is not in Fortran order");
  auto* e = new (std::nothrow) BufferExport(t);
  if (!e) return PyErr_NoMemory(), -1;
  static char nothing[8];  // an empty tensor has an address too
  *view = {};
  view->buf = t.raw_data() ? t.raw_data() : nothing;
  view->itemsize = static_cast<Py_ssize_t>(size_of(t.dtype()));
  view->len = t.numel() * view->itemsize;
  view->ndim = t.rank();
  view->format = (flags & PyBUF_FORMAT) ? const_cast<char*>(format) : nullptr;
  view->shape = (flags & PyBUF_ND) ? e->sizes : nullptr;
  view->strides = strided ? e->steps : nullptr;
  view->internal = e;
  view->obj = Py_NewRef(self);
  return 0;
}

void release_buffer(PyObject*, Py_buffer* view) noexcept {
  delete static_cast<BufferExport*>(view->internal);
}

nb::object to_numpy(nb::handle tensor) {
  const Tensor& t = tensor_of(tensor.ptr());
  check_shareable(t, "numpy");
  if (t.device().type != DeviceType::cpu) {
    fail(ErrorKind::type, "numpy", "the tensor lies on ", t.device(),
         "; use to(\"cpu\") first, or numpy(force=True)");
  }
  if (t.dtype() == DType::bfloat16)
    fail(ErrorKind::type, "numpy", "NumPy has no bfloat16; use float() first");
  nb::object view = nb::steal(PyMemoryView_FromObject(tensor.ptr()));
  if (!view.is_valid()) throw nb::python_error();
  return nb::handle(numpy_asarray())(view);
}

void bind_interop(nb::module_&, nb::class_<PyTensor>& tensor) {
  tensor.attr("__array_priority__") = 1000;  // NumPy's operators leave mixed operands to ours
  tensor
      .def(
          "numpy",
          [](nb::handle self, bool force) {
            if (!force) return to_numpy(self);
            const Tensor t = tensor_of(self.ptr()).detach().to_cpu();
            return to_numpy(nb::cast(t.dtype() == DType::bfloat16 ? to(t, DType::float32) : t));
          },
          nb::kw_only(), "force"_a = false,
          "A NumPy array on the same memory; force: detached, bfloat16 as float32.")
      .def(
          "__array__",
          [](nb::handle self, nb::object dtype, nb::object copy) {
            nb::object a = to_numpy(self);
            const bool wants_copy = !copy.is_none() && nb::cast<bool>(copy);
            if (!dtype.is_none()) return nb::object(a.attr("astype")(dtype, "copy"_a = wants_copy));
            return wants_copy ? nb::object(a.attr("copy")()) : a;
          },
          "dtype"_a = nb::none(), "copy"_a = nb::none())
      .def(
          "__dlpack__",
          [](const Tensor& t, nb::handle, nb::object max_version, nb::object wanted_device,
             nb::object copy) {
            check_shareable(t, "dlpack");
            const DLDevice here = lg::python::dl_device(t.device());
            if (!wanted_device.is_none() &&
                !wanted_device.equal(nb::make_tuple(here.type, here.id))) {
              fail(ErrorKind::value, "dlpack", "the tensor lies on ",
                   here.type == dl_cpu ? "the CPU" : t.device().to_string(), ", ",
                   nb::repr(wanted_device).c_str(), " was asked for");
            }
            // What is queued is done before another stream reads.
            if (here.type == dl_cuda) cuda::synchronize(here.id);
            const Tensor out = !copy.is_none() && nb::cast<bool>(copy) ? t.copy() : t;
            const bool versioned = !max_version.is_none() && nb::cast<int>(max_version[0]) >= 1;
            return versioned ? capsule_of<DLManagedTensorVersioned>(out, versioned_name)
                             : capsule_of<DLManagedTensor>(out, plain_name);
          },
          nb::kw_only(), "stream"_a = nb::none(), "max_version"_a = nb::none(),
          "dl_device"_a = nb::none(), "copy"_a = nb::none())
      .def("__dlpack_device__", [](const Tensor& t) {
        const DLDevice d = dl_device(t.device());
        return nb::make_tuple(d.type, d.id);
      });
}

}  // namespace lg::python
