// operators.cpp: arithmetic, comparison, truth, length and iteration of tensors, straight in the
// type's slots: the shortest way from Python's `a + b` into the operation.
#include "common.h"

namespace lg::python {
namespace {

// Runs f, turning an exception into Python's error and `failed`.
template <class R, class F> R guarded(R failed, F&& f) noexcept {
  try {
    return f();
  } catch (...) {
    set_python_error();
    return failed;
  }
}

template <auto F> PyObject* unary(PyObject* a) noexcept {
  return guarded<PyObject*>(nullptr, [&] { return wrap(F(tensor_of(a))); });
}

// An operand that is no tensor, as one; undefined when it is no number either: then Python asks
// that operand what to do.
Tensor other_operand(PyObject* o) {
  Tensor number = tensor_from_number(o);
  if (!number.defined() && PyObject_HasAttrString(o, "__array_interface__")) {
    fail(ErrorKind::type, "operator", "a tensor and a ", Py_TYPE(o)->tp_name,
         " do not mix; use lg.tensor(array) or tensor.numpy() first");
  }
  return number;
}

// Either operand may be a number.
template <auto F> PyObject* binary(PyObject* a, PyObject* b) noexcept {
  return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
    const bool left = is_tensor(a);
    if (left && is_tensor(b)) [[likely]]
      return wrap(F(tensor_of(a), tensor_of(b)));
    const Tensor number = other_operand(left ? b : a);
    if (!number.defined()) Py_RETURN_NOTIMPLEMENTED;
    return wrap(left ? F(tensor_of(a), number) : F(number, tensor_of(b)));
  });
}

template <auto F> PyObject* power(PyObject* a, PyObject* b, PyObject* modulus) noexcept {
  if (modulus != Py_None) Py_RETURN_NOTIMPLEMENTED;
  return binary<F>(a, b);
}

template <auto F> PyObject* in_place(PyObject* a, PyObject* b) noexcept {
  return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
    if (is_tensor(b)) {
      F(tensor_of(a), tensor_of(b));
    } else {
      const Tensor number = other_operand(b);
      if (!number.defined()) Py_RETURN_NOTIMPLEMENTED;
      F(tensor_of(a), number);
    }
    return Py_NewRef(a);
  });
}

#define LG_CALL_1(name) [](const Tensor& x) { return name(x); }
#define LG_CALL_2(name) [](const Tensor& x, const Tensor& y) { return name(x, y); }

// & | ^ ~ are logic on bool tensors; there are no bitwise operations on integers.
void check_bool(const char* sign, const Tensor& t) {
  if (t.dtype() != DType::bool_) {
    fail(ErrorKind::type, sign, "expected bool tensors, got ", t.describe(),
         "; compare first, or use logical_and, "
         "logical_or, logical_xor, logical_not");
  }
}
template <auto F> Tensor logic(const char* sign, const Tensor& x, const Tensor& y) {
  check_bool(sign, x);
  check_bool(sign, y);
  return F(x, y);
}

PyObject* compare(PyObject* a, PyObject* b, int operation) noexcept {
  switch (operation) {
    case Py_EQ: return binary<LG_CALL_2(eq)>(a, b);
    case Py_NE: return binary<LG_CALL_2(ne)>(a, b);
    case Py_LT: return binary<LG_CALL_2(lt)>(a, b);
    case Py_LE: return binary<LG_CALL_2(le)>(a, b);
    case Py_GT: return binary<LG_CALL_2(gt)>(a, b);
    default: return binary<LG_CALL_2(ge)>(a, b);
  }
}

int truth(PyObject* self) noexcept {
  return guarded(-1, [&] {
    const Tensor& t = tensor_of(self);
    if (t.numel() != 1) {
      fail(ErrorKind::value, "bool", "the truth of a tensor of shape ", t.shape(),
           " is ambiguous; use any() or all()");
    }
    return t.item<bool>() ? 1 : 0;
  });
}

PyObject* to_int(PyObject* self) noexcept {
  return guarded<PyObject*>(nullptr, [&] {
    const Tensor& t = tensor_of(self);
    return is_floating(t.dtype()) ? PyLong_FromDouble(t.item<double>())
                                  : PyLong_FromLongLong(t.item<std::int64_t>());
  });
}
PyObject* to_float(PyObject* self) noexcept {
  return guarded<PyObject*>(nullptr,
                            [&] { return PyFloat_FromDouble(tensor_of(self).item<double>()); });
}
PyObject* to_index(PyObject* self) noexcept {
  return guarded<PyObject*>(nullptr, [&] {
    const Tensor& t = tensor_of(self);
    if (is_floating(t.dtype()) || t.dtype() == DType::bool_ || t.numel() != 1) {
      fail(ErrorKind::type, "index", "only an integer tensor of one element is an index, got ",
           t.describe());
    }
    return PyLong_FromLongLong(t.item<std::int64_t>());
  });
}

Py_ssize_t length(PyObject* self) noexcept {
  return guarded<Py_ssize_t>(-1, [&] {
    const Tensor& t = tensor_of(self);
    if (t.rank() == 0) fail(ErrorKind::type, "len", "a 0-d tensor has no length");
    return static_cast<Py_ssize_t>(t.shape()[0]);
  });
}
PyObject* iterate(PyObject* self) noexcept {
  return guarded<PyObject*>(nullptr, [&] {
    if (tensor_of(self).rank() == 0)
      fail(ErrorKind::type, "iter", "a 0-d tensor cannot be iterated over");
    nb::object parts = nb::cast(unbind(tensor_of(self)));
    return PyObject_GetIter(parts.ptr());
  });
}
int contains(PyObject* self, PyObject* value) noexcept {
  return guarded(-1, [&] {
    const Tensor v = is_tensor(value) ? tensor_of(value) : tensor_from_number(value);
    if (!v.defined())
      fail(ErrorKind::type, "in", "expected a number or a tensor on the left, got ",
           Py_TYPE(value)->tp_name);
    return any(eq(tensor_of(self), v)).item<bool>() ? 1 : 0;
  });
}

PyObject* represent(PyObject* self) noexcept {
  return guarded<PyObject*>(nullptr, [&] {
    std::string s = tensor_of(self).to_string();
    if (tensor_of(self).is_parameter()) s = "Parameter containing:\n" + s;
    return PyUnicode_FromStringAndSize(s.data(), static_cast<Py_ssize_t>(s.size()));
  });
}
// By identity: equality is elementwise.
Py_hash_t hash(PyObject* self) noexcept {
  return static_cast<Py_hash_t>(reinterpret_cast<std::uintptr_t>(self) >> 4);
}

template <class F> void* slot(F* f) { return reinterpret_cast<void*>(f); }

}  // namespace

PyType_Slot tensor_slots[] = {
    {Py_nb_add, slot(binary<LG_CALL_2(add)>)},
    {Py_nb_subtract, slot(binary<LG_CALL_2(sub)>)},
    {Py_nb_multiply, slot(binary<LG_CALL_2(mul)>)},
    {Py_nb_true_divide, slot(binary<LG_CALL_2(div)>)},
    {Py_nb_floor_divide, slot(binary<LG_CALL_2(floor_divide)>)},
    {Py_nb_remainder, slot(binary<LG_CALL_2(remainder)>)},
    {Py_nb_matrix_multiply, slot(binary<LG_CALL_2(matmul)>)},
    {Py_nb_power, slot(power<LG_CALL_2(pow)>)},
    {Py_nb_negative, slot(unary<LG_CALL_1(neg)>)},
    {Py_nb_positive, slot(unary<[](const Tensor& x) { return x; }>)},
    {Py_nb_absolute, slot(unary<LG_CALL_1(abs)>)},
    {Py_nb_invert, slot(unary<[](const Tensor& x) { return check_bool("~", x), logical_not(x); }>)},
    {Py_nb_and, slot(binary<[](const Tensor& x, const Tensor& y) {
       return logic<LG_CALL_2(logical_and)>("&", x, y);
     }>)},
    {Py_nb_or, slot(binary<[](const Tensor& x, const Tensor& y) {
       return logic<LG_CALL_2(logical_or)>("|", x, y);
     }>)},
    {Py_nb_xor, slot(binary<[](const Tensor& x, const Tensor& y) {
       return logic<LG_CALL_2(logical_xor)>("^", x, y);
     }>)},
    {Py_nb_inplace_add, slot(in_place<LG_CALL_2(add_)>)},
    {Py_nb_inplace_subtract, slot(in_place<LG_CALL_2(sub_)>)},
    {Py_nb_inplace_multiply, slot(in_place<LG_CALL_2(mul_)>)},
    {Py_nb_inplace_true_divide, slot(in_place<LG_CALL_2(div_)>)},
    {Py_nb_bool, slot(truth)},
    {Py_nb_int, slot(to_int)},
    {Py_nb_float, slot(to_float)},
    {Py_nb_index, slot(to_index)},
    {Py_tp_richcompare, slot(compare)},
    {Py_tp_hash, slot(hash)},
    {Py_tp_repr, slot(represent)},
    {Py_tp_iter, slot(iterate)},
    {Py_sq_contains, slot(contains)},
    {Py_mp_length, slot(length)},
    {Py_mp_subscript, slot(subscript)},
    {Py_mp_ass_subscript, slot(assign_subscript)},
    {Py_bf_getbuffer, slot(get_buffer)},
    {Py_bf_releasebuffer, slot(release_buffer)},
    {0, nullptr},
};

}  // namespace lg::python
