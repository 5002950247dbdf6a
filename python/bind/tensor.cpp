// tensor.cpp: the classes Tensor and Parameter, and those of their members that are not rows of the
// table.
#include "common.h"
#include "overloads.h"

namespace lg::python {
namespace {

nb::object number_of(const void* p, DType t) {
  return visit(t, [&]<class T>(T) -> nb::object {
    const T v = *static_cast<const T*>(p);
    if constexpr (std::same_as<T, bool>)
      return nb::bool_(v);
    else if constexpr (std::is_integral_v<T>)
      return nb::int_(v);
    else
      return nb::float_(convert<double>(v));
  });
}

nb::object nested_list(const Tensor& t, const char* p, int axis) {
  const auto item = static_cast<std::int64_t>(size_of(t.dtype()));
  if (axis == t.rank()) return number_of(p, t.dtype());
  nb::list l;
  for (std::int64_t i = 0; i < t.shape()[axis]; ++i)
    l.append(nested_list(t, p + i * t.strides()[axis] * item, axis + 1));
  return l;
}

// max(x), max(x, dim, keepdim), max(x, y), as a function and as a method.
template <class Scope, class... Self> void bind_extrema(Scope& s, const Self&... self) {
  constexpr auto doc =
      "Of all of x; of x along dim, with where it was found; or of x and y, elementwise.";
  s.def(
      "max", [](const Tensor& x) { return max(x); }, self...);
  s.def(
      "max", [](const Tensor& x, std::int64_t dim, bool keepdim) { return max(x, dim, keepdim); },
      self..., "dim"_a, "keepdim"_a = false);
  s.def(
      "max", [](const Tensor& x, const Tensor& y) { return maximum(x, y); }, self..., "y"_a, doc);
  s.def(
      "min", [](const Tensor& x) { return min(x); }, self...);
  s.def(
      "min", [](const Tensor& x, std::int64_t dim, bool keepdim) { return min(x, dim, keepdim); },
      self..., "dim"_a, "keepdim"_a = false);
  s.def(
      "min", [](const Tensor& x, const Tensor& y) { return minimum(x, y); }, self..., "y"_a, doc);
}

Tensor converted(const Tensor& x, std::optional<DType> dtype,
                 const std::optional<std::string>& device, bool copy) {
  Tensor y = placed(to(x, dtype.value_or(x.dtype())), device);
  return copy && y.is_same(x) ? clone(x) : y;
}

Tensor transposed(const Tensor& x, const char* name, bool any_rank) {
  if (x.rank() < 2 && any_rank) return x;
  if (!any_rank && x.rank() > 2) {
    fail(ErrorKind::value, name, "expected at most 2 dimensions, got ", x.describe(),
         "; use mT or permute");
  }
  return transpose(x, -2, -1);
}

void bind_facts(nb::class_<PyTensor>& t) {
  t.def_prop_ro(
       "shape", [](const Tensor& x) { return x.shape(); }, "The sizes, a tuple.")
      .def_prop_ro("dtype", [](const Tensor& x) { return x.dtype(); })
      .def_prop_ro("device", [](const Tensor& x) { return x.device().to_string(); })
      .def_prop_ro("ndim", [](const Tensor& x) { return x.rank(); })
      .def_prop_ro("itemsize", [](const Tensor& x) { return size_of(x.dtype()); })
      .def_prop_ro(
          "nbytes",
          [](const Tensor& x) { return x.numel() * static_cast<std::int64_t>(size_of(x.dtype())); })
      .def("size", [](const Tensor& x) { return x.shape(); })
      .def(
          "size", [](const Tensor& x, std::int64_t dim) { return x.size(dim); }, "dim"_a)
      .def("dim", [](const Tensor& x) { return x.rank(); })
      .def(
          "numel", [](const Tensor& x) { return x.numel(); }, "The number of elements.")
      .def(
          "stride", [](const Tensor& x) { return x.strides(); }, "In elements, per dimension.")
      .def(
          "stride",
          [](const Tensor& x, std::int64_t dim) {
            return x.strides()[normalize_axis(dim, x.rank(), "stride")];
          },
          "dim"_a)
      .def("storage_offset", [](const Tensor& x) { return x.impl()->offset; })
      .def(
          "data_ptr",
          [](const Tensor& x) { return reinterpret_cast<std::uintptr_t>(x.raw_data()); },
          "The address of the first element.")
      .def("element_size", [](const Tensor& x) { return size_of(x.dtype()); })
      .def("is_contiguous", [](const Tensor& x) { return x.is_contiguous(); })
      .def("is_floating_point", [](const Tensor& x) { return is_floating(x.dtype()); })
      .def_prop_ro(
          "_version", [](const Tensor& x) { return x.impl()->storage->version(); },
          "Rises with every in-place change of the memory.")
      .def(
          "item",
          [](const Tensor& x) {
            if (x.numel() != 1)
              fail(ErrorKind::value, "item", "expected one element, got shape ", x.shape());
            return number_of(x.to_cpu().raw_data(), x.dtype());
          },
          "The only element as a Python number.")
      .def(
          "tolist",
          [](const Tensor& x) {
            const Tensor here = x.to_cpu();
            return nested_list(here, static_cast<const char*>(here.raw_data()), 0);
          },
          "Nested lists of Python numbers.")
      .def("__format__", [](nb::handle self, nb::str spec) -> nb::object {
        const Tensor& x = tensor_of(self.ptr());
        nb::object value = nb::repr(self);
        if (x.rank() == 0) value = number_of(x.to_cpu().raw_data(), x.dtype());
        return nb::steal(PyObject_Format(value.ptr(), spec.ptr()));
      });
}

void bind_gradient(nb::class_<PyTensor>& t) {
  t.def_prop_rw(
       "requires_grad", [](const Tensor& x) { return x.requires_grad(); },
       [](const Tensor& x, bool on) { x.set_requires_grad(on); })
      .def(
          "requires_grad_",
          [](const Tensor& x, bool on) {
            x.set_requires_grad(on);
            return x;
          },
          "requires_grad"_a = true)
      .def_prop_rw(
          "grad", [](const Tensor& x) { return x.grad(); },
          [](const Tensor& x, const MaybeTensor& g) { x.set_grad(g.t); },
          nb::for_setter(nb::arg("value").none()),
          "The gradient that backward has summed up, or None.")
      .def_prop_ro(
          "is_leaf", [](const Tensor& x) { return x.is_leaf(); },
          "Whether it was made by nobody's operation.")
      .def_prop_ro(
          "grad_fn",
          [](const Tensor& x) -> std::optional<std::string> {
            if (x.is_leaf()) return {};
            return std::string(x.node()->name());
          },
          "The name of the operation that made it; None for a leaf.")
      .def(
          "retain_grad", [](const Tensor& x) { x.retain_grad(); },
          "Keeps .grad of a tensor that is not a leaf, too.")
      .def(
          "detach", [](const Tensor& x) { return x.detach(); },
          "The same memory, outside of any graph.")
      .def_prop_rw(
          "data", [](const Tensor& x) { return x.detach(); },
          [](const Tensor& x, const Tensor& source) { x.assign(source); },
          "detach(); assigned to, the elements are overwritten.")
      .def("detach_", [](const Tensor& x) {
        x.impl()->node = {};
        x.impl()->requires_grad = false;
        return x;
      });
}

void bind_conversions(nb::class_<PyTensor>& t) {
  t.def(
       "to", [](const Tensor& x, DType dtype, bool copy) { return converted(x, dtype, {}, copy); },
       "dtype"_a, "copy"_a = false, "As another dtype; x itself when nothing changes.")
      .def(
          "to",
          [](const Tensor& x, const std::string& device, std::optional<DType> dtype, bool copy) {
            return converted(x, dtype, device, copy);
          },
          "device"_a, "dtype"_a = nb::none(), "copy"_a = false)
      .def(
          "to",
          [](const Tensor& x, const Tensor& other, bool copy) {
            return converted(x, other.dtype(), {}, copy);
          },
          "other"_a, "copy"_a = false)
      .def(
          "cuda", [](const Tensor& x, int index) { return placed(x, text("cuda:", index)); },
          "index"_a = 0, "On a CUDA device; x itself when it lies there.")
      .def(
          "type", [](const Tensor& x, DType dtype) { return to(x, dtype); }, "dtype"_a)
      .def("type", [](const Tensor& x) { return text("lightgrad.", name_of(x.dtype())); })
      .def(
          "type_as", [](const Tensor& x, const Tensor& other) { return to(x, other.dtype()); },
          "other"_a)
      .def("cpu", [](const Tensor& x) { return x; });
  for (auto [name, dtype] : {std::pair{"float", DType::float32},
                             {"double", DType::float64},
                             {"half", DType::float16},
                             {"bfloat16", DType::bfloat16},
                             {"long", DType::int64},
                             {"int", DType::int32},
                             {"bool", DType::bool_}}) {
    t.def(name, [dtype](const Tensor& x) { return to(x, dtype); });
  }
  t.def(
       "view_as", [](const Tensor& x, const Tensor& other) { return view(x, other.shape()); },
       "other"_a)
      .def(
          "reshape_as",
          [](const Tensor& x, const Tensor& other) { return reshape(x, other.shape()); }, "other"_a)
      .def(
          "expand_as",
          [](const Tensor& x, const Tensor& other) { return expand(x, other.shape()); }, "other"_a)
      .def("t", [](const Tensor& x) { return x.rank() < 2 ? x : transposed(x, "t", false); })
      .def_prop_ro(
          "T", [](const Tensor& x) { return x.rank() < 2 ? x : transposed(x, "T", false); },
          "The transposed matrix.")
      .def_prop_ro(
          "mT",
          [](const Tensor& x) {
            if (x.rank() < 2)
              fail(ErrorKind::value, "mT", "expected at least 2 dimensions, got ", x.describe());
            return transposed(x, "mT", true);
          },
          "The last two dimensions swapped.")
      .def(
          "where",
          [](const Tensor& x, const Tensor& condition, const Tensor& y) {
            return where(condition, x, y);
          },
          "condition"_a, "y"_a, "x where condition holds, else y.");
}

void bind_copies(nb::class_<PyTensor>& t) {
  t.def(
       "copy_", [](const Tensor& x, const Tensor& source) { return copy_(x, source); }, "source"_a,
       "Overwrites the elements, broadcasting and converting.")
      .def(
          "fill_", [](const Tensor& x, const Tensor& value) { return fill_(x, value); }, "value"_a)
      .def("zero_", [](const Tensor& x) { return zero_(x); })
      .def("__copy__",
           [](const Tensor& x) {
             return x.is_leaf() ? x.detach().set_requires_grad(x.requires_grad()) : alias(x);
           })
      .def(
          "__deepcopy__",
          [](nb::handle self, nb::dict memo) -> nb::object {
            nb::int_ key(reinterpret_cast<std::uintptr_t>(self.ptr()));
            if (memo.contains(key)) return memo[key];
            const Tensor& x = tensor_of(self.ptr());
            if (!x.is_leaf()) {
              fail(ErrorKind::runtime, "deepcopy", "only leaves are deep-copied, this ",
                   x.describe(), " was computed by ", x.node()->name(),
                   "; use detach() or clone()");
            }
            Tensor y = x.detach().copy();
            y.impl()->is_parameter = x.is_parameter();
            y.set_requires_grad(x.requires_grad());
            if (x.grad().defined()) y.set_grad(x.grad().detach().copy());
            nb::object made = nb::cast(y);
            memo[key] = made;
            return made;
          },
          "memo"_a)
      .def("__reduce_ex__", [](const Tensor& x, nb::handle) -> nb::object {
        fail(ErrorKind::type, "pickle", "a ", x.describe(),
             " tensor is not pickled, because loading a pickle runs code; "
             "use lg.save and lg.load");
      });
}

}  // namespace

void bind_tensor(nb::module_& m) {
  nb::class_<PyTensor> t(
      m, "Tensor", nb::type_slots(tensor_slots), nb::is_weak_referenceable(), nb::pooled(),
      "An N-dimensional array of numbers of one dtype, with a gradient if asked for.\n\n"
      "Made by lightgrad.tensor, zeros, randn, ... and by operations.");
  tensor_type = reinterpret_cast<PyTypeObject*>(t.ptr());
  nb::class_<PyParameter, PyTensor> parameter(
      m, "Parameter", nb::is_weak_referenceable(),
      "A tensor that a module trains: assigned to a module's attribute, it is registered.");
  parameter_type = reinterpret_cast<PyTypeObject*>(parameter.ptr());
  t.def(nb::new_([](const nb::args&, const nb::kwargs&) -> Tensor {
    fail(ErrorKind::type, "Tensor", "is not called; use lg.tensor(data), or lg.empty(sizes)");
  }));
  parameter.def(nb::new_([](const Tensor& data, bool requires_grad) {
                  Tensor p = data.detach();
                  p.impl()->is_parameter = true;
                  p.set_requires_grad(requires_grad);
                  return p;
                }),
                "data"_a, "requires_grad"_a = true);
  bind_facts(t);
  bind_gradient(t);
  bind_conversions(t);
  bind_copies(t);
  bind_operations(m, t);
  bind_in_place(t);
  bind_interop(m, t);
  bind_autograd(m, t);
  bind_extrema(t);
  bind_extrema(m, "x"_a);
  bind_overloads(m, t);
  m.def(
      "where", [](const Tensor& condition) { return tuple_of(unbind(nonzero(condition), 1)); },
      "condition"_a, "With a condition alone: the indices where it holds, a tensor per dimension.");
  m.def(
      "einsum",
      [](const std::string& equation, const nb::args& operands) {
        std::vector<Tensor> all;
        for (nb::handle h : operands) {
          if (nb::isinstance<nb::list>(h) || nb::isinstance<nb::tuple>(h)) {
            for (nb::handle inner : h) all.push_back(nb::cast<Tensor>(inner));
          } else {
            all.push_back(nb::cast<Tensor>(h));
          }
        }
        return einsum(equation, all);
      },
      "equation"_a, "operands"_a,
      "Sums of products in Einstein's notation: einsum('ij,jk->ik', x, y).");
  m.def(
      "is_tensor", [](nb::handle x) { return is_tensor(x.ptr()); }, "x"_a);
  m.def(
      "allclose",
      [](const Tensor& x, const Tensor& y, double rtol, double atol, bool equal_nan) {
        Tensor close = lg::abs(x - y) <= lg::abs(y) * rtol + atol;
        close = close || x == y;
        if (equal_nan) close = close || (isnan(x) && isnan(y));
        return all(close).item<bool>();
      },
      "x"_a, "y"_a, "rtol"_a = 1e-5, "atol"_a = 1e-8, "equal_nan"_a = false,
      "Whether |x - y| <= atol + rtol |y| everywhere.");
  m.def(
      "equal",
      [](const Tensor& x, const Tensor& y) {
        return x.shape() == y.shape() && all(x == y).item<bool>();
      },
      "x"_a, "y"_a, "Whether both have the same shape and elements.");
}

}  // namespace lg::python
