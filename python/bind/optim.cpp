// optim.cpp: lightgrad._core.optim: optimizers whose groups are edited like dictionaries.
#include <nanobind/stl/map.h>
#include <nanobind/stl/shared_ptr.h>

#include "modules.h"

namespace lg::python {
namespace {

using namespace optim;
using Group = ParameterGroup;

// --- options: numbers in C++, flags and betas as PyTorch writes them in Python ---

bool is_flag(std::string_view name) {
  return name == "nesterov" || name == "amsgrad" || name == "maximize";
}

nb::object option_value(std::string_view name, double v) {
  return is_flag(name) ? nb::object(nb::bool_(v != 0)) : nb::object(nb::float_(v));
}
bool has_betas(const Options& o) { return o.contains("beta1") && o.contains("beta2"); }

void set_option(Options& options, const std::string& name, nb::handle value) {
  if (name == "betas") {
    options["beta1"] = nb::cast<double>(value[nb::int_(0)]);
    options["beta2"] = nb::cast<double>(value[nb::int_(1)]);
    return;
  }
  const double number = PyFloat_AsDouble(value.ptr());
  if (number == -1 && PyErr_Occurred()) throw nb::python_error();
  options[name] = number;
}

nb::list option_names(const Options& options) {
  nb::list names;
  if (has_betas(options)) names.append("betas");
  for (const auto& [name, v] : options)
    if (name != "beta1" && name != "beta2") names.append(name);
  return names;
}
nb::object option_of(const Options& options, const std::string& name) {
  if (name == "betas" && has_betas(options)) {
    return nb::make_tuple(options.find("beta1")->second, options.find("beta2")->second);
  }
  const auto it = options.find(name);
  return it == options.end() ? nb::object() : option_value(name, it->second);
}
nb::dict dict_of(const Options& options) {
  nb::dict out;
  for (nb::handle name : option_names(options))
    out[name] = option_of(options, nb::cast<std::string>(name));
  return out;
}

nb::list list_of(const std::vector<Tensor>& tensors) {
  nb::list out;
  for (const Tensor& t : tensors) out.append(nb::cast(t));
  return out;
}

// --- what constructors take: tensors, (name, tensor) pairs, or dictionaries with "params" ---

void add_tensor(Group& group, nb::handle h) {
  if (nb::isinstance<nb::tuple>(h) && nb::len(h) == 2)
    h = nb::object(h[nb::int_(1)]);  // named_parameters()
  if (!is_tensor(h.ptr())) {
    fail(ErrorKind::type, "optimizer", "expected tensors, got ",
         nb::cast<std::string>(nb::str(h.type().attr("__name__"))));
  }
  group.params.push_back(tensor_of(h.ptr()));
}

Group group_from(nb::dict d) {
  Group group;
  if (!d.contains("params"))
    fail(ErrorKind::value, "optimizer", "a parameter group has no \"params\"");
  nb::object params = d["params"];
  if (is_tensor(params.ptr()))
    add_tensor(group, params);
  else
    for (nb::handle h : params) add_tensor(group, h);
  for (auto [name, value] : d) {
    if (const auto key = nb::cast<std::string>(name); key != "params")
      set_option(group.options, key, value);
  }
  return group;
}

std::vector<Group> groups_from(nb::handle params) {
  if (is_tensor(params.ptr())) {
    fail(ErrorKind::type, "optimizer",
         "expected a list of tensors or of dictionaries, got one tensor");
  }
  std::vector<Group> groups;
  Group plain;
  for (nb::handle h : params) {
    if (nb::isinstance<nb::dict>(h))
      groups.push_back(group_from(nb::borrow<nb::dict>(h)));
    else
      add_tensor(plain, h);
  }
  if (groups.empty() || !plain.params.empty()) groups.push_back(std::move(plain));
  return groups;
}

// --- state dictionaries, laid out as PyTorch's ---

nb::dict save_state(const Optimizer& o) {
  const OptimizerState s = o.state_dict();
  nb::dict parameters;
  for (const auto& [number, p] : s.parameters) {
    nb::dict entry;
    entry["step"] = p.step;
    for (const auto& [name, t] : p.tensors) entry[name.c_str()] = nb::cast(t);
    parameters[nb::int_(number)] = entry;
  }
  nb::list groups;
  for (const auto& g : s.groups) {
    nb::dict group = dict_of(g.options);
    group["params"] = nb::cast(g.params);
    groups.append(group);
  }
  nb::dict out;
  out["state"] = parameters;
  out["param_groups"] = groups;
  return out;
}

void load_state(Optimizer& o, nb::dict state) {
  OptimizerState s;
  for (nb::handle h : state["param_groups"]) {
    OptimizerState::Group& group = s.groups.emplace_back();
    for (auto [name, value] : nb::cast<nb::dict>(h)) {
      const auto key = nb::cast<std::string>(name);
      if (key == "params")
        group.params = nb::cast<std::vector<std::int64_t>>(value);
      else if (!value.is_none())
        set_option(group.options, key, value);
    }
  }
  for (auto [number, h] : nb::cast<nb::dict>(state["state"])) {
    OptimizerState::Parameter& p =
        s.parameters[nb::cast<std::int64_t>(nb::int_(nb::borrow(number)))];
    for (auto [name, value] : nb::cast<nb::dict>(h)) {
      const auto key = nb::cast<std::string>(name);
      if (key == "step")
        p.step = nb::cast<std::int64_t>(nb::int_(nb::borrow(value)));
      else if (!value.is_none())
        p.tensors[key] = nb::cast<Tensor>(value);
    }
  }
  o.load_state_dict(s);
}

nb::object step(Optimizer& o, nb::handle closure, std::optional<double> max_norm) {
  nb::object loss = nb::none();
  if (!closure.is_none()) {
    const EnableGrad on;
    loss = closure();
  }
  if (max_norm)
    o.step(*max_norm);
  else
    o.step();
  return loss;
}

void bind_group(nb::module_& m) {
  nb::class_<Group> c(m, "ParameterGroup", "Parameters with the same options: group['lr'] = 1e-4.");
  const auto get = [](Group& g, const std::string& name) -> nb::object {
    if (name == "params") return list_of(g.params);
    return option_of(g.options, name);
  };
  c.def("__getitem__", [get](Group& g, const std::string& name) {
    nb::object v = get(g, name);
    if (!v.is_valid()) throw nb::key_error(name.c_str());
    return v;
  });
  c.def(
      "get",
      [get](Group& g, const std::string& name, nb::object otherwise) {
        nb::object v = get(g, name);
        return v.is_valid() ? v : otherwise;
      },
      "name"_a, "default"_a.none() = nb::none());
  c.def("__setitem__", [](Group& g, const std::string& name, nb::handle value) {
    if (name == "params")
      fail(ErrorKind::value, "parameter group", "params are set by add_param_group");
    set_option(g.options, name, value);
  });
  c.def("__contains__",
        [get](Group& g, const std::string& name) { return get(g, name).is_valid(); });
  const auto keys = [](Group& g) {
    nb::list names;
    names.append("params");
    names.extend(option_names(g.options));
    return names;
  };
  const auto as_dict = [](Group& g) {
    nb::dict out;
    out["params"] = list_of(g.params);
    out.update(dict_of(g.options));
    return out;
  };
  c.def("keys", keys).def("__iter__", [keys](Group& g) { return nb::iter(keys(g)); });
  c.def("items", [as_dict](Group& g) { return as_dict(g).items(); });
  c.def("__len__", [keys](Group& g) { return nb::len(keys(g)); });
  c.def("__repr__", [](Group& g) {
    return text("ParameterGroup(", g.params.size(), " parameters, ",
                nb::repr(dict_of(g.options)).c_str(), ")");
  });
}

void bind_optimizers(nb::module_& m) {
  nb::class_<Optimizer> base(
      m, "Optimizer", nb::is_weak_referenceable(), nb::dynamic_attr(),
      "What all optimizers share. `param_groups` can be edited: group['lr'] = 1e-4.");
  base.def("step", &step, "closure"_a.none() = nb::none(), nb::kw_only(),
           "max_norm"_a.none() = nb::none(),
           "Updates every parameter that has a gradient. With max_norm the update is the one after "
           "clip_grad_norm_, without its pass over memory: the gradients keep their values.");
  base.def_prop_ro("grad_norm", &Optimizer::grad_norm,
                   "The norm of the gradients that the last step(max_norm=...) found; nan before.");
  base.def("zero_grad", &Optimizer::zero_grad, "set_to_none"_a = true);
  base.def(
      "add_param_group", [](Optimizer& o, nb::dict d) { o.add_param_group(group_from(d)); },
      "param_group"_a);
  base.def_prop_ro("param_groups", [](Optimizer& o) {
    nb::list out;
    for (const auto& g : o.groups()) out.append(nb::cast(g));
    return out;
  });
  base.def_prop_ro("state_dtype", &Optimizer::state_dtype,
                   "The dtype of the states: float32, or bfloat16, rounded by chance so that no "
                   "small change is lost. Those of float64 parameters are float64.");
  base.def_prop_ro("defaults", [](Optimizer& o) { return dict_of(o.defaults()); });
  base.def("state_dict", &save_state);
  base.def("load_state_dict", &load_state, "state_dict"_a);
  base.def("__repr__", [](Optimizer& o) {
    std::string s = text(o.name(), "(");
    for (const auto& g : o.groups()) s += text("\n  ", nb::repr(nb::cast(g)).c_str());
    return s + "\n)";
  });

  nb::class_<SGD, Optimizer>(m, "SGD", "Gradient descent with momentum.")
      .def(
          "__init__",
          [](SGD* at, nb::handle params, double lr, double momentum, double dampening, double decay,
             bool nesterov, bool maximize, DType state_dtype) {
            new (at) SGD(groups_from(params),
                         {lr, momentum, dampening, decay, nesterov, maximize, state_dtype});
          },
          "params"_a, "lr"_a = 1e-3, "momentum"_a = 0.0, "dampening"_a = 0.0,
          "weight_decay"_a = 0.0, "nesterov"_a = false, nb::kw_only(), "maximize"_a = false,
          "state_dtype"_a = DType::float32);
  const auto adam = [&]<class T, class O>(const char* name, const char* doc, O defaults,
                                          std::type_identity<T>) {
    nb::class_<T, Optimizer>(m, name, doc)
        .def(
            "__init__",
            [](T* at, nb::handle params, double lr, std::pair<double, double> betas, double eps,
               double decay, bool amsgrad, bool maximize, DType state_dtype) {
              new (at) T(groups_from(params), O{lr, betas.first, betas.second, eps, decay, amsgrad,
                                                maximize, state_dtype});
            },
            "params"_a, "lr"_a = defaults.lr, "betas"_a = std::pair(defaults.beta1, defaults.beta2),
            "eps"_a = defaults.eps, "weight_decay"_a = defaults.weight_decay, "amsgrad"_a = false,
            nb::kw_only(), "maximize"_a = false, "state_dtype"_a = DType::float32);
  };
  adam("Adam", "Adam (Kingma and Ba 2015).", AdamOptions(), std::type_identity<Adam>());
  adam("AdamW", "Adam with weight decay apart from the gradient.", AdamWOptions(),
       std::type_identity<AdamW>());
}

}  // namespace

void bind_optim(nb::module_& m) {
  nb::module_ optim = m.def_submodule("optim", "Optimizers.");
  bind_group(optim);
  bind_optimizers(optim);
  bind_schedules(optim);
}

}  // namespace lg::python
