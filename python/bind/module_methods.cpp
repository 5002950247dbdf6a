// module_methods.cpp: what nn.Module offers in Python: the tree by name, modes, dtypes, state
// dicts.
#include "modules.h"

namespace lg::python {
namespace {

using nn::Kind;

Tensor maybe_tensor(nb::handle h) { return h.is_none() ? Tensor() : nb::cast<Tensor>(h); }

template <class T>
nb::object pairs(const std::vector<std::pair<std::string, T>>& named, const std::string& prefix) {
  nb::list out;
  for (const auto& [name, value] : named) {
    const std::string full = prefix.empty() ? name : name.empty() ? prefix : prefix + "." + name;
    if constexpr (std::is_pointer_v<T>)
      out.append(nb::make_tuple(full, Mod<>(value)));
    else
      out.append(nb::make_tuple(full, nb::cast(value)));
  }
  return nb::iter(out);
}

// The module's own tensors, or those of the whole tree.
nn::NamedTensors named(Module& m, Kind kind, bool recurse) {
  if (recurse) return kind == Kind::parameter ? m.named_parameters() : m.named_buffers();
  nn::NamedTensors own;
  for (const auto& e : m.entries())
    if (e->kind == kind && e->tensor->defined()) own.emplace_back(e->name, *e->tensor);
  return own;
}
nb::object values(const nn::NamedTensors& named) {
  nb::list out;
  for (const auto& [name, t] : named) out.append(nb::cast(t));
  return nb::iter(out);
}

nb::object load_state(Module& m, nb::handle state, bool strict) {
  nn::NamedTensors given;
  for (nb::handle pair : state.attr("items")()) {
    nb::handle value = pair[nb::int_(1)];
    nb::object kept = nb::borrow(value);
    given.emplace_back(nb::cast<std::string>(pair[nb::int_(0)]),
                       kept.is_none()          ? Tensor()
                       : is_tensor(kept.ptr()) ? tensor_of(kept.ptr())
                                               : tensor_from_data(kept, std::nullopt, true));
  }
  const nn::LoadResult r = m.load_state_dict(given, strict);
  nb::object type = nb::module_::import_("lightgrad.nn").attr("IncompatibleKeys");
  return type(r.missing, r.unexpected);
}

Mod<> convert(Module& m, const nb::args& args, const nb::kwargs& kwargs) {
  std::optional<DType> dtype;
  std::optional<Device> device;
  const auto take = [&](nb::handle h) {
    DType t;
    if (h.is_none()) return;
    if (load_dtype(h.ptr(), t))
      dtype = t;
    else
      device = parse_device(nb::cast<std::string>(nb::str(h)));
  };
  for (nb::handle h : args) take(h);
  for (auto [name, h] : kwargs) {
    const auto key = nb::cast<std::string>(name);
    if (key == "dtype" || key == "device")
      take(h);
    else
      fail(ErrorKind::type, "to", "unexpected keyword argument \"", key, "\"");
  }
  if (dtype) m.to(*dtype);
  if (device) m.to(*device);
  return Mod<>(&m);
}

Mod<> submodule(Module& m, const std::string& path) {
  for (const auto& [name, part] : m.named_modules())
    if (name == path) return Mod<>(part);
  fail(ErrorKind::index, m.type_name(), "no module \"", path, "\"");
}

}  // namespace

void bind_module_tree(nb::class_<Module>& c) {
  c.def(
      "register_parameter",
      [](Module& m, const std::string& name, nb::handle value) {
        m.register_parameter(name, maybe_tensor(value));
      },
      "name"_a, "param"_a.none(), "Registers a parameter, or with None the name alone.");
  c.def(
      "register_buffer",
      [](Module& m, const std::string& name, nb::handle value, bool persistent) {
        m.register_buffer(name, maybe_tensor(value), persistent);
      },
      "name"_a, "tensor"_a.none(), "persistent"_a = true,
      "Registers a tensor that is not trained; a persistent one is part of the state dict.");
  for (const char* name : {"register_module", "add_module"}) {
    c.def(
        name,
        [](Module& m, const std::string& n, const Mod<>& child) {
          m.register_module(n, child.ref());
        },
        "name"_a, "module"_a.none());
  }
  c.def(
      "parameters",
      [](Module& m, bool recurse) { return values(named(m, Kind::parameter, recurse)); },
      "recurse"_a = true, "Every parameter once.");
  c.def(
      "named_parameters",
      [](Module& m, const std::string& prefix, bool recurse) {
        return pairs(named(m, Kind::parameter, recurse), prefix);
      },
      "prefix"_a = "", "recurse"_a = true);
  c.def(
      "buffers", [](Module& m, bool recurse) { return values(named(m, Kind::buffer, recurse)); },
      "recurse"_a = true);
  c.def(
      "named_buffers",
      [](Module& m, const std::string& prefix, bool recurse) {
        return pairs(named(m, Kind::buffer, recurse), prefix);
      },
      "prefix"_a = "", "recurse"_a = true);
  c.def(
      "modules",
      [](Module& m) {
        nb::list out;
        for (auto& [name, part] : m.named_modules()) out.append(Mod<>(part));
        return nb::iter(out);
      },
      "Every module once, this one first.");
  c.def(
      "named_modules",
      [](Module& m, const std::string& prefix) { return pairs(m.named_modules(), prefix); },
      "prefix"_a = "");
  c.def("children", [](Module& m) {
    nb::list out;
    for (Module* child : m.children()) out.append(Mod<>(child));
    return nb::iter(out);
  });
  c.def("named_children", [](Module& m) { return pairs(m.named_children(), ""); });
  c.def("get_submodule", &submodule, "target"_a, "The module of a dotted path.");
  c.def("__dir__", [](nb::handle self) {
    nb::list names(nb::module_::import_("builtins").attr("object").attr("__dir__")(self));
    for (const auto& e : module_in(self)->entries()) names.append(e->name);
    return names;
  });
}

void bind_module_state(nb::class_<Module>& c) {
  const auto self = [](Module& m) { return Mod<>(&m); };
  c.def(
      "train", [self](Module& m, bool mode) { return m.set_training(mode), self(m); },
      "mode"_a = true);
  c.def("eval", [self](Module& m) { return m.train(false), self(m); });
  c.def_rw("training", &Module::training);
  c.def(
      "apply",
      [self](Module& m, nb::callable f) {
        m.apply([&](Module& part) { f(Mod<>(&part)); });
        return self(m);
      },
      "fn"_a, "Calls fn on every module, children first.");
  c.def(
      "zero_grad",
      [](Module& m, bool set_to_none) {
        for (const Tensor& p : m.parameters()) {
          if (set_to_none)
            p.zero_grad();
          else if (p.grad().defined())
            p.set_grad(zeros_like(p.grad().detach()));
        }
      },
      "set_to_none"_a = true);
  c.def(
      "requires_grad_", [self](Module& m, bool on) { return m.requires_grad_(on), self(m); },
      "requires_grad"_a = true);
  c.def("to", &convert, "args"_a, "kwargs"_a,
        "Converts floating-point parameters and buffers to a dtype, in place: every Parameter "
        "stays the same object.");
  for (auto [name, t] : {std::pair{"float", DType::float32},
                         {"double", DType::float64},
                         {"half", DType::float16},
                         {"bfloat16", DType::bfloat16}}) {
    c.def(name, [self, t = t](Module& m) { return m.to(t), self(m); });
  }
  c.def("cpu", self);
  c.def(
      "state_dict",
      [](Module& m) {
        nb::dict out;
        for (const auto& [name, t] : m.state_dict()) out[name.c_str()] = nb::cast(t);
        return out;
      },
      "Parameters and persistent buffers by name; they share the module's memory.");
  c.def("load_state_dict", &load_state, "state_dict"_a, "strict"_a = true,
        "Copies values by name. ValueError lists everything that is missing, unexpected or of "
        "another shape, and "
        "then nothing has changed.");
  c.def("extra_repr", [](Module& m) { return m.extra_repr(); });
  c.def("__repr__", [](Module& m) { return m.to_string(); });
  c.def("__reduce_ex__", [](Module& m, int) -> nb::object {
    fail(ErrorKind::type, m.type_name(),
         "is not pickled: save model.state_dict() with lg.save, or use "
         "copy.deepcopy(model)");
  });
}

}  // namespace lg::python
