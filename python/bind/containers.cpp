// containers.cpp: Sequential, ModuleList and ModuleDict as Python's sequences and dictionaries.
#include "modules.h"

namespace lg::python {
namespace {

// A module, or what a slice selects as a new container of the class that C++ knows.
template <class T> nb::object item(T& list, nb::handle key) {
  std::int64_t i = 0;
  if (load_integer(key.ptr(), i)) return nb::cast(Mod<>(list.at(i).get()));
  Py_ssize_t start = 0, stop = 0, step = 0;
  if (PySlice_Unpack(key.ptr(), &start, &stop, &step)) throw nb::python_error();
  const Py_ssize_t n =
      PySlice_AdjustIndices(static_cast<Py_ssize_t>(list.size()), &start, &stop, step);
  auto out = nn::make<T>();
  for (Py_ssize_t k = 0; k < n; ++k) out->append(list.at(start + k * step));
  return nb::cast(out);
}

Mod<> module_from(nb::handle h, const char* container) {
  if (h.is_none() || !nb::isinstance<Module>(h)) {
    fail(ErrorKind::type, container, "expected a Module, got ",
         nb::cast<std::string>(nb::str(h.type().attr("__name__"))));
  }
  return nb::cast<Mod<>>(h);
}

template <class T> void bind_list(nb::class_<T, nn::List>& c, const char* name) {
  c.def("__getitem__", &item<T>, "index"_a);
  c.def(
      "append", [name](T& s, nb::handle m) { return s.append(module_from(m, name)), Mod<T>(&s); },
      "module"_a);
  c.def(
      "extend",
      [name](T& s, nb::iterable modules) {
        for (nb::handle h : modules) s.append(module_from(h, name));
        return Mod<T>(&s);
      },
      "modules"_a);
}

void append_all(nn::List& list, nb::handle modules, const char* name) {
  for (nb::handle h : modules) list.append(module_from(h, name));
}

nb::list names_of(const nn::ModuleDict& d) {
  nb::list out;
  for (const auto& e : d.entries()) out.append(e->name);
  return out;
}

void update(nn::ModuleDict& d, nb::handle modules) {
  nb::object pairs =
      nb::hasattr(modules, "items") ? nb::object(modules.attr("items")()) : nb::borrow(modules);
  for (nb::handle pair : pairs) {
    d.set(nb::cast<std::string>(pair[nb::int_(0)]),
          module_from(nb::object(pair[nb::int_(1)]), "ModuleDict"));
  }
}

void bind_dict(nb::module_& m) {
  auto c = layer<nn::ModuleDict>(m, "ModuleDict", "Modules by name, in the order they came.",
                                 Arguments<>());
  c.def(
      "__init__",
      [](nb::pointer_and_handle<nn::ModuleDict> self, nb::handle modules) {
        auto* d = build<nn::ModuleDict>(self.h);
        if (!modules.is_none()) update(*d, modules);
      },
      "modules"_a.none());
  c.def("__len__", &nn::ModuleDict::size)
      .def("__contains__",
           [](nn::ModuleDict& d, const std::string& key) { return d.contains(key); });
  const auto get = [](nn::ModuleDict& d, const std::string& key) {
    if (!d.contains(key)) throw nb::key_error(key.c_str());
    return Mod<>(&d[key]);
  };
  c.def("__getitem__", get, "key"_a);
  c.def("__setitem__", [](nn::ModuleDict& d, const std::string& key, nb::handle m) {
    d.set(key, module_from(m, "ModuleDict"));
  });
  c.def("__delitem__", [](nn::ModuleDict& d, const std::string& key) {
    if (!d.remove(key)) throw nb::key_error(key.c_str());
  });
  c.def(
      "pop",
      [get](nn::ModuleDict& d, const std::string& key) {
        Mod<> m = get(d, key);
        d.remove(key);
        return m;
      },
      "key"_a);
  c.def("keys", &names_of);
  c.def("__iter__", [](nn::ModuleDict& d) { return nb::iter(names_of(d)); });
  c.def("values", [](nn::ModuleDict& d) {
    nb::list out;
    for (const auto& e : d.entries()) out.append(Mod<>(e->child->get()));
    return out;
  });
  c.def("items", [](nn::ModuleDict& d) {
    nb::list out;
    for (const auto& e : d.entries()) out.append(nb::make_tuple(e->name, Mod<>(e->child->get())));
    return out;
  });
  c.def(
      "update", [](nn::ModuleDict& d, nb::handle modules) { update(d, modules); }, "modules"_a);
}

}  // namespace

void bind_containers(nb::module_& m) {
  nb::class_<nn::Lambda, Module>(m, "Lambda", nb::type_slots(module_slots),
                                 "A C++ function as a layer.");
  nn::class_of<nn::Lambda>.name = "Lambda";
  nb::class_<nn::List, Module> list(m, "List", nb::type_slots(module_slots),
                                    "What Sequential and ModuleList share.");
  list.def("__len__", &nn::List::size);
  list.def("__setitem__", [](nn::List& s, std::int64_t i, nb::handle m) {
    s.set(i, module_from(m, "list").ref());
  });
  list.def("__delitem__", &nn::List::erase);
  list.def(
      "insert",
      [](nn::List& s, std::int64_t i, nb::handle m) { s.insert(i, module_from(m, "list").ref()); },
      "index"_a, "module"_a);
  list.def(
      "pop",
      [](nn::List& s, std::int64_t i) {
        Mod<> m(s.at(i).get());
        s.erase(i);
        return m;
      },
      "index"_a = -1);
  list.def("__iter__", [](nn::List& s) {
    nb::list out;
    for (std::int64_t i = 0; i < s.size(); ++i) out.append(Mod<>(s.at(i).get()));
    return nb::iter(out);
  });

  auto modules = layer<nn::ModuleList, nn::List>(
      m, "ModuleList", "A list of modules that are found.", Arguments<>());
  modules.def(
      "__init__",
      [](nb::pointer_and_handle<nn::ModuleList> self, nb::handle given) {
        auto* made = build<nn::ModuleList>(self.h);
        if (!given.is_none()) append_all(*made, given, "ModuleList");
      },
      "modules"_a.none());
  bind_list(modules, "ModuleList");

  auto chain = layer<nn::Sequential, nn::List>(m, "Sequential", "Modules one after the other.",
                                               Arguments<>());
  chain.def(
      "__init__",
      [](nb::pointer_and_handle<nn::Sequential> self, const nb::args& given) {
        auto* made = build<nn::Sequential>(self.h);
        if (given.size() == 1 &&
            nb::isinstance<nb::dict>(given[0])) {  // an ordered dict names them
          for (auto [name, part] : nb::cast<nb::dict>(given[0]))
            made->register_module(nb::cast<std::string>(name),
                                  module_from(part, "Sequential").ref());
        } else {
          append_all(*made, given, "Sequential");
        }
      },
      "modules"_a);
  bind_list(chain, "Sequential");
  bind_forward<nn::Sequential>(chain, nn::signature_t<nn::Sequential>(), "x"_a);
  bind_dict(m);
}

}  // namespace lg::python
