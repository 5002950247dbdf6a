// module_class.cpp: nn.Module in Python: attribute assignment registers, calls take any arguments,
// the garbage collector sees through the C++ tree.
#include <nanobind/stl/function.h>

#include "modules.h"

namespace lg::python {

PyObject* forward_name = nullptr;

namespace {

using nn::Entry;
using nn::Kind;

PyObject* train_name = nullptr;
PyTypeObject* module_type = nullptr;

bool is_module(PyObject* o) { return PyObject_TypeCheck(o, module_type); }

// A hook written in Python; C++ calls it through operator(), a call from Python hands it the real
// arguments.
struct PyHook {
  PyRef f;
  void operator()(Module& m, std::span<Tensor> in, Tensor* out) const {
    nb::gil_scoped_acquire lock;
    nb::list list;
    for (const Tensor& t : in) list.append(nb::cast(t));
    const nb::tuple arguments(list);
    nb::object r = out ? f.get()(object_of(m), arguments, *out) : f.get()(object_of(m), arguments);
    if (r.is_none()) return;
    if (out) {
      *out = nb::cast<Tensor>(r);
    } else if (nb::isinstance<nb::tuple>(r)) {
      std::size_t i = 0;
      for (nb::handle h : nb::borrow<nb::tuple>(r))
        if (i < in.size()) in[i++] = nb::cast<Tensor>(h);
    } else if (!in.empty()) {
      in[0] = nb::cast<Tensor>(r);
    }
  }
};

std::string_view text_of(PyObject* name) {
  Py_ssize_t n = 0;
  const char* s = PyUnicode_AsUTF8AndSize(name, &n);
  return s ? std::string_view(s, static_cast<std::size_t>(n)) : std::string_view();
}

// Null, with an error set, before super().__init__() has run.
Module* ready_module(PyObject* self, const char* doing) {
  if (nb::inst_ready(self)) [[likely]]
    return module_in(self);
  PyErr_Format(PyExc_RuntimeError, "%s.__init__ must call super().__init__() before it %s",
               Py_TYPE(self)->tp_name, doing);
  return nullptr;
}

// --- attributes ---

PyObject* entry_value(Entry& e) {
  if (e.kind == Kind::child) return nb::cast(Mod<>(e.child->get())).release().ptr();
  return wrap(*e.tensor);
}

PyObject* get_attribute(PyObject* self, PyObject* name) noexcept {
  if (nb::inst_ready(self)) {
    if (Entry* e = module_in(self)->find(text_of(name))) return entry_value(*e);
  }
  return PyObject_GenericGetAttr(self, name);
}

void forget_plain_attribute(PyObject* self, PyObject* name) {
  PyObject** dict = _PyObject_GetDictPtr(self);
  if (dict && *dict && PyDict_Contains(*dict, name) == 1) PyDict_DelItem(*dict, name);
}

const char* noun(Kind kind) {
  return kind == Kind::child ? "module" : kind == Kind::parameter ? "parameter" : "buffer";
}
const char* wanted_value(Kind kind) {
  return kind == Kind::child ? "Module" : kind == Kind::parameter ? "nn.Parameter" : "Tensor";
}

int assign_entry(PyObject* self, Module& m, Entry& e, PyObject* name, PyObject* value) {
  if (!value) {
    m.remove(text_of(name));
  } else if (value == Py_None) {
    m.clear_entry(text_of(name));
  } else if (e.kind == Kind::buffer && is_tensor(value)) {
    *e.tensor = tensor_of(value);
  } else {
    PyErr_Format(
        PyExc_TypeError,
        "%s.%U is a %s; assign a %s or None (del it first to make it a plain attribute), not a %s",
        Py_TYPE(self)->tp_name, name, noun(e.kind), wanted_value(e.kind), Py_TYPE(value)->tp_name);
    return -1;
  }
  return 0;
}

bool is_list_of_modules(PyObject* value) {
  return PyList_CheckExact(value) && PyList_GET_SIZE(value) > 0 &&
         is_module(PyList_GET_ITEM(value, 0));
}

int set_attribute(PyObject* self, PyObject* name, PyObject* value) noexcept try {
  const bool module = value && is_module(value);
  const bool parameter = value && !module && PyObject_TypeCheck(value, parameter_type);
  if (!nb::inst_ready(self)) {
    if (!module && !parameter) return PyObject_GenericSetAttr(self, name, value);
    ready_module(self, text("assigns ", text_of(name)).c_str());
    return -1;
  }
  Module& m = *module_in(self);
  if (module || parameter) {
    PyObject* descriptor = _PyType_Lookup(Py_TYPE(self), name);
    if (descriptor && Py_TYPE(descriptor)->tp_descr_set)
      return PyObject_GenericSetAttr(self, name, value);
    if (module) {
      if (!ready_module(value, "is used")) return -1;
      m.register_module(text_of(name), Ref<Module>(module_in(value)));
    } else {
      m.register_parameter(text_of(name), tensor_of(value));
    }
    forget_plain_attribute(self, name);
    return 0;
  }
  if (Entry* e = m.find(text_of(name))) return assign_entry(self, m, *e, name, value);
  if (value && is_list_of_modules(value) &&
      PyErr_WarnFormat(
          PyExc_UserWarning, 1,
          "%s.%U is a plain list of modules: its parameters are not found; use nn.ModuleList",
          Py_TYPE(self)->tp_name, name)) {
    return -1;
  }
  if (name == forward_name) m.overridden = true;  // m.forward = f: C++ callers see it too
  return PyObject_GenericSetAttr(self, name, value);
} catch (...) {
  set_python_error();
  return -1;
}

// --- calls ---

PyObject* call_forward(PyObject* self, Module& m, PyObject* args, PyObject* kwargs) noexcept {
  const Py_ssize_t n = PyTuple_GET_SIZE(args);
  if (m.cls->unary && m.cls->direct && !m.overridden && n == 1 && !kwargs &&
      is_tensor(PyTuple_GET_ITEM(args, 0))) {
    try {  // a C++ layer: straight in
      return wrap(
          nn::detail::enter<nn::signature_t<Module>>(m, tensor_of(PyTuple_GET_ITEM(args, 0))));
    } catch (...) {
      set_python_error();
      return nullptr;
    }
  }
  constexpr Py_ssize_t few = 7;
  if (n < few && !kwargs) {
    PyObject* all[few + 1];
    all[0] = self;
    for (Py_ssize_t i = 0; i < n; ++i) all[i + 1] = PyTuple_GET_ITEM(args, i);
    return PyObject_VectorcallMethod(
        forward_name, all, static_cast<std::size_t>(n + 1) | PY_VECTORCALL_ARGUMENTS_OFFSET,
        nullptr);
  }
  PyObject* f = PyObject_GetAttr(self, forward_name);
  PyObject* y = f ? PyObject_Call(f, args, kwargs) : nullptr;
  Py_XDECREF(f);
  return y;
}

PyObject* call_with_hooks(PyObject* self, Module& m, PyObject* args, PyObject* kwargs) noexcept
    try {
  nb::object in = nb::borrow(args);
  std::vector<Tensor> tensors;
  const auto collect = [&] {
    tensors.clear();
    for (nb::handle h : nb::borrow<nb::tuple>(in))
      if (is_tensor(h.ptr())) tensors.push_back(tensor_of(h.ptr()));
  };
  const std::vector<nn::Hook> hooks = *m.hooks();  // a hook may remove itself
  for (const auto& h : hooks) {
    if (!h.before) continue;
    if (const auto* hook = h.run.target<PyHook>()) {
      nb::object r = hook->f.get()(nb::handle(self), in);
      if (!r.is_none()) in = nb::isinstance<nb::tuple>(r) ? r : nb::object(nb::make_tuple(r));
    } else {
      collect();
      h.run(m, tensors, nullptr);
    }
  }
  nb::object y = nb::steal(call_forward(self, m, in.ptr(), kwargs));
  if (!y.is_valid()) return nullptr;
  collect();
  for (const auto& h : hooks) {
    if (h.before) continue;
    if (const auto* hook = h.run.target<PyHook>()) {
      nb::object r = hook->f.get()(nb::handle(self), in, y);
      if (!r.is_none()) y = r;
    } else if (is_tensor(y.ptr())) {
      Tensor t = tensor_of(y.ptr());
      h.run(m, tensors, &t);
      y = nb::steal(wrap(t));
    } else {
      h.run(m, tensors, nullptr);
    }
  }
  return y.release().ptr();
} catch (...) {
  set_python_error();
  return nullptr;
}

PyObject* call_module(PyObject* self, PyObject* args, PyObject* kwargs) noexcept {
  Module* m = ready_module(self, "is called");
  if (!m) return nullptr;
  const nn::Scope scope(*m);
  PyObject* y =
      m->hooks() ? call_with_hooks(self, *m, args, kwargs) : call_forward(self, *m, args, kwargs);
  if (!y) [[unlikely]]
    note_path();
  return y;
}

// --- garbage collection ---

// Every reference that C++ holds on a Python object is visited once. A module that only C++ knows
// is looked through when this tree alone owns it.
int visit_module(const Module& m, visitproc visit, void* arg) {
  for (const auto& e : m.entries()) {
    if (e->kind != Kind::child || !*e->child) continue;
    const Module& child = **e->child;
    if (void* o = child.foreign_object()) {
      Py_VISIT(static_cast<PyObject*>(o));
    } else if (child.count() == 1) {
      if (int r = visit_module(child, visit, arg)) return r;
    }
  }
  if (const auto* hooks = m.hooks()) {
    for (const auto& h : *hooks)
      if (const auto* hook = h.run.target<PyHook>()) Py_VISIT(hook->f.get().ptr());
  }
  return 0;
}

int traverse(PyObject* self, visitproc visit, void* arg) noexcept {
  if (PyObject** dict = _PyObject_GetDictPtr(self)) Py_VISIT(*dict);
  Py_VISIT(Py_TYPE(self));
  return nb::inst_ready(self) ? visit_module(*module_in(self), visit, arg) : 0;
}

int clear(PyObject* self) noexcept {
  if (nb::inst_ready(self)) module_in(self)->drop_references();
  if (PyObject** dict = _PyObject_GetDictPtr(self)) Py_CLEAR(*dict);
  return 0;
}

template <class F> void* slot(F* f) { return reinterpret_cast<void*>(f); }

}  // namespace

PyType_Slot module_slots[] = {{Py_tp_getattro, slot(get_attribute)},
                              {Py_tp_setattro, slot(set_attribute)},
                              {Py_tp_call, slot(call_module)},
                              {Py_tp_traverse, slot(traverse)},
                              {Py_tp_clear, slot(clear)},
                              {0, nullptr}};

nb::object override_of(PyObject* self, PyObject* name, nb::handle bound_type) {
  if (PyObject** dict = _PyObject_GetDictPtr(self); dict && *dict) {
    if (PyObject* f = PyDict_GetItemWithError(*dict, name)) return nb::borrow(f);  // m.forward = f
  }
  auto* bound = reinterpret_cast<PyTypeObject*>(bound_type.ptr());
  if (_PyType_Lookup(Py_TYPE(self), name) == _PyType_Lookup(bound, name)) return {};
  return nb::steal(PyObject_GetAttr(self, name));
}

void note_path() noexcept {
  if (!current_frame) return;
  PyObject *type = nullptr, *value = nullptr, *trace = nullptr;
  PyErr_Fetch(&type, &value, &trace);
  PyErr_NormalizeException(&type, &value, &trace);
  if (value && !PyObject_HasAttrString(value, "__notes__")) {
    PyObject* words = PyObject_Str(value);
    const char* s = words ? PyUnicode_AsUTF8(words) : nullptr;
    if (!s || !std::strstr(s, "(in ")) {  // the library's own errors say it already
      const std::string note = "in module " + where();
      Py_XDECREF(PyObject_CallMethod(value, "add_note", "s", note.c_str()));
    }
    Py_XDECREF(words);
    PyErr_Clear();
  }
  PyErr_Restore(type, value, trace);
}

void finish_deepcopy(nb::handle from, nb::object twin, nb::dict memo) {
  memo[nb::int_(reinterpret_cast<std::uintptr_t>(from.ptr()))] = twin;
  nb::object copy = nb::module_::import_("copy").attr("deepcopy");
  for (const auto& e : module_in(twin)->entries()) {
    if (e->tensor->defined()) *e->tensor = nb::cast<Tensor>(copy(nb::cast(*e->tensor), memo));
    if (*e->child) *e->child = nb::cast<Mod<>>(copy(nb::cast(Mod<>(e->child->get())), memo)).ref();
  }
  nb::cast<nb::dict>(twin.attr("__dict__"))
      .update(nb::borrow<nb::dict>(copy(from.attr("__dict__"), memo)));
}

namespace {

void connect_foreign() {
  nn::foreign.retain = [](void* o) {
    nb::gil_scoped_acquire lock;
    Py_INCREF(static_cast<PyObject*>(o));
  };
  nn::foreign.release = [](void* o) {
    nb::gil_scoped_acquire
        lock;  // Py_IsInitialized() is false too early: modules go while Python ends
    if (lock.is_valid()) Py_DECREF(static_cast<PyObject*>(o));
  };
  nn::foreign.type_name = [](void* o) {
    nb::gil_scoped_acquire lock;
    return nb::cast<std::string>(nb::handle(static_cast<PyObject*>(o)).type().attr("__name__"));
  };
  nn::foreign.extra_repr = [](void* o) {
    nb::gil_scoped_acquire lock;
    return nb::cast<std::string>(nb::handle(static_cast<PyObject*>(o)).attr("extra_repr")());
  };
  nn::foreign.train = [](Module& m, bool on) {
    nb::gil_scoped_acquire lock;
    nb::object f = override_of(self_of(m), train_name, reinterpret_cast<PyObject*>(module_type));
    if (f.is_valid()) f(on);
    return f.is_valid();
  };
  nn::foreign.deep_copy = [](const Module& m) {
    nb::gil_scoped_acquire lock;
    nb::object copy = nb::module_::import_("copy").attr("deepcopy");
    return nb::cast<Mod<>>(copy(object_of(const_cast<Module&>(m)))).ref();
  };
}

// Lets a hook go; holds the module weakly, since it often lies in the module's own attributes.
struct ForwardHookHandle {
  nb::object module;
  int id;
};

ForwardHookHandle add_hook(Module& m, nb::object f, bool before) {
  const PyHook hook{PyRef(std::move(f))};
  nb::object weak = nb::weakref(object_of(m));
  return {weak, before ? m.register_forward_pre_hook(hook) : m.register_forward_hook(hook)};
}

}  // namespace

void bind_module_class(nb::module_& m) {
  connect_foreign();
  forward_name = PyUnicode_InternFromString("forward");
  train_name = PyUnicode_InternFromString("train");
  nb::class_<Module> c(
      m, "Module", nb::dynamic_attr(), nb::is_weak_referenceable(), nb::type_slots(module_slots),
      nb::intrusive_ptr<Module>([](Module* o, PyObject* self) noexcept { o->adopt_by(self); }),
      "A layer or a model: parameters, buffers and child modules by name. Derive from it, call "
      "super().__init__(), "
      "assign children, and write `forward`.");
  module_type = reinterpret_cast<PyTypeObject*>(c.ptr());
  nn::class_of<Module>.overridable =
      reinterpret_cast<void (*)()>(&overridable_forward<Module, Tensor, const Tensor&>);
  nn::class_of<Module>.name = "Module";
  c.def("__init__", [](nb::pointer_and_handle<Module> self) { build<Module>(self.h); });
  c.def("__deepcopy__", &deepcopy<Module>, "memo"_a);
  c.def("forward", [](Module& self, const nb::args&, const nb::kwargs&) {
    PyErr_Format(PyExc_NotImplementedError, "%s has no forward", self.type_name().c_str());
    throw nb::python_error();
  });
  bind_module_tree(c);
  bind_module_state(c);
  nb::class_<ForwardHookHandle>(m, "ForwardHookHandle").def("remove", [](ForwardHookHandle& h) {
    nb::object module = h.module();
    if (!module.is_none()) module_in(module)->remove_hook(h.id);
  });
  c.def(
      "register_forward_hook", [](Module& self, nb::object f) { return add_hook(self, f, false); },
      "hook"_a,
      "hook(module, args, output) may return another output. Returns a handle to remove it.");
  c.def(
      "register_forward_pre_hook",
      [](Module& self, nb::object f) { return add_hook(self, f, true); }, "hook"_a,
      "hook(module, args) may return other arguments. Returns a handle to remove it.");
}

}  // namespace lg::python
