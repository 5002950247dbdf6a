// modules.h: how modules cross the border: handles, construction inside the Python object, forwards
// that Python may override. `layer<T>` is the only way to bind a layer.
#pragma once

#include <nanobind/stl/pair.h>

#include "common.h"

namespace nanobind::detail {

// A module has one Python object as long as either side holds it, so `m.child is m.child`.
template <class T> struct type_caster<lg::nn::Mod<T>> {
  using Caster = make_caster<T>;
  static constexpr bool IsClass = true;
  NB_TYPE_CASTER(lg::nn::Mod<T>, Caster::Name)
  bool from_python(handle h, std::uint32_t flags, cleanup_list* c) noexcept {
    Caster w;
    if (!w.from_python(h, flags, c)) return false;
    value = lg::nn::Mod<T>(w.operator T*());
    return true;
  }
  static handle from_cpp(const lg::nn::Mod<T>& m, rv_policy, cleanup_list* c) noexcept {
    if (!m) return none().release();
    if (void* o = m->foreign_object()) return handle(static_cast<PyObject*>(o)).inc_ref();
    return make_caster<T>::from_cpp(m.get(), rv_policy::reference, c);  // made by C++, adopted now
  }
};

}  // namespace nanobind::detail

namespace lg::python {

using nn::Mod;
using nn::Module;

extern PyObject* forward_name;  // interned "forward"
extern PyType_Slot
    module_slots[];  // every bound class gets them: nanobind writes its own tp_traverse

inline nb::object object_of(Module& m) { return nb::cast(Mod<>(&m)); }
inline PyObject* self_of(Module& m) { return static_cast<PyObject*>(m.foreign_object()); }
inline Module* module_in(nb::handle h) { return nb::inst_ptr<Module>(h); }

// The override of a method in a Python class or object; invalid when there is none.
nb::object override_of(PyObject* self, PyObject* name, nb::handle bound_type);
// Adds the module path to the current exception, once.
void note_path() noexcept;

// Calls f(), a Python forward, while the module's frame stands.
template <class F> auto with_path(F&& f) {
  try {
    return f();
  } catch (nb::python_error& e) {
    e.restore();
    note_path();
    throw nb::python_error();
  }
}

// What C++ enters when the class may be a Python one.
template <class T, class R, class... A> R overridable_forward(Module& m, A... a) {
  nb::gil_scoped_acquire lock;
  nb::object f = override_of(self_of(m), forward_name, nb::type<T>());
  if (f.is_valid()) return with_path([&] { return nb::cast<R>(f(a...)); });
  if constexpr (std::same_as<T, Module>)
    nn::fail_no_forward(m);
  else
    return static_cast<T&>(m).forward(std::forward<A>(a)...);
}

template <class T, class C, class R, class... A, class... Extra>
void bind_forward(C& c, nn::Signature<R, A...>, const Extra&... extra) {
  nn::class_of<T>.overridable = reinterpret_cast<void (*)()>(&overridable_forward<T, R, A...>);
  c.def(
      "forward", [](T& t, A... a) -> R { return t.forward(std::forward<A>(a)...); }, extra...);
}

// T, made in the memory of its Python object.
template <class T, class... A> T* build(nb::handle self, A&&... a) {
  T* m = nn::detail::construct<T>(nb::inst_ptr<void>(self), std::forward<A>(a)...);
  m->overridden = !self.type().is(nb::type<T>());
  return m;
}

// Copies the values of `from` (parameters, children, Python attributes) into its twin, which holds
// the same.
void finish_deepcopy(nb::handle from, nb::object twin, nb::dict memo);

template <class T> nb::object deepcopy(nb::handle self, nb::dict memo) {
  nb::object twin = nb::inst_alloc(self.type());
  build<T>(twin, static_cast<const T&>(*nb::inst_ptr<T>(self)));
  nb::inst_mark_ready(twin);
  module_in(twin)->adopt_by(twin.ptr());
  finish_deepcopy(self, twin, memo);
  return twin;
}

template <class... A> struct Arguments {};

// A class of modules with a constructor of these arguments, and its forward when it has an ordinary
// one.
template <class T, class Base = Module, class... A, class... Extra>
nb::class_<T, Base> layer(nb::module_& m, const char* name, const char* doc, Arguments<A...>,
                          const Extra&... extra) {
  nb::class_<T, Base> c(m, name, nb::type_slots(module_slots), doc);
  c.def(
      "__init__", [](nb::pointer_and_handle<T> self, A... a) { build<T>(self.h, std::move(a)...); },
      extra...);
  c.def("__deepcopy__", &deepcopy<T>, "memo"_a);
  nn::class_of<T>.name = name;
  return c;
}

// The same for a layer whose forward takes the tensors of these names.
template <class T, class... A, class... Extra>
nb::class_<T, Module> plain_layer(nb::module_& m, const char* name, const char* doc,
                                  Arguments<A...> arguments, const Extra&... extra) {
  auto c = layer<T>(m, name, doc, arguments, extra...);
  using S = nn::signature_t<T>;
  if constexpr (S::arity == 1)
    bind_forward<T>(c, S(), "x"_a);
  else
    bind_forward<T>(c, S(), "x"_a, "target"_a);
  return c;
}

void bind_module_class(nb::module_& m);
void bind_module_tree(nb::class_<Module>& c);
void bind_module_state(nb::class_<Module>& c);
void bind_containers(nb::module_& m);
void bind_image_layers(nb::module_& m);     // nn_images.cpp
void bind_image_functions(nb::module_& m);  // of lightgrad._core itself
std::vector<Tensor> tensors_from(nb::handle one_or_many);

}  // namespace lg::python
