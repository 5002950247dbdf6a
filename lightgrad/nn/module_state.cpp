// module_state.cpp: what a module's tensors go through together (state dicts, dtypes, deep copies),
// and its text.
#include <cxxabi.h>

#include <cstdlib>
#include <unordered_set>

#include "lightgrad/autograd/node.h"
#include "lightgrad/nn/module.h"
#include "lightgrad/ops/cuda.h"
#include "lightgrad/ops/ops.h"

namespace lg::nn {

namespace {

// f(name, tensor) in PyTorch's order: a module's parameters, its buffers, then its children. A
// tensor of two names is met twice.
template <class F> void walk_state(const Module& m, const std::string& prefix, F&& f) {
  for (const Kind kind : {Kind::parameter, Kind::buffer}) {
    for (const auto& e : m.entries()) {
      if (e->kind == kind && e->persistent && e->tensor->defined()) f(prefix + e->name, *e->tensor);
    }
  }
  for (const auto& e : m.entries()) {
    if (*e->child) walk_state(**e->child, prefix + e->name + ".", f);
  }
}

}  // namespace

NamedTensors Module::state_dict() const {
  NamedTensors out;
  walk_state(*this, "", [&](std::string name, const Tensor& t) {
    out.emplace_back(std::move(name), t.detach());
  });
  return out;
}

LoadResult Module::load_state_dict(const NamedTensors& state, bool strict) {
  std::unordered_map<std::string_view, const Tensor*> given;
  for (const auto& [name, t] : state) given[name] = &t;
  LoadResult result;
  std::string bad;
  std::unordered_set<std::string> known;
  std::vector<std::pair<Tensor, Tensor>> copies;  // all is checked before anything is written
  walk_state(*this, "", [&](const std::string& name, const Tensor& t) {
    known.insert(name);
    const auto it = given.find(name);
    if (it == given.end()) {
      result.missing.push_back(name);
    } else if (const Tensor& value = *it->second; !value.defined()) {
      bad += text("\n  undefined: ", name);
    } else if (!(value.shape() == t.shape())) {
      bad +=
          text("\n  shape: ", name, " is ", t.shape(), " here, ", value.shape(), " in the state");
    } else {
      copies.emplace_back(t, value);
    }
  });
  for (const auto& [name, t] : state) {
    if (!known.contains(name)) result.unexpected.push_back(name);
  }
  if (strict) {
    for (const auto& name : result.missing) bad += "\n  missing: " + name;
    for (const auto& name : result.unexpected) bad += "\n  unexpected: " + name;
  }
  if (!bad.empty())
    fail(ErrorKind::value, "load_state_dict", "the state does not fit ", type_name(), ":", bad);
  for (const auto& [to, from] : copies) {
    if (to.raw_data() != from.raw_data()) to.assign(from);
  }
  return result;
}

namespace {

// Gives every parameter, buffer and gradient the memory of what `make` makes of it; an undefined
// result leaves it.
template <class F> void renew(const Module& m, F&& make) {
  std::vector<Tensor> all = m.parameters();
  for (const Tensor& b : m.buffers()) all.push_back(b);
  std::vector<std::pair<TensorImpl*, Tensor>>
      renewed;  // all memory is there before anything changes
  for (const Tensor& t : all) {
    Tensor fresh = make(t);
    if (!fresh.defined()) continue;
    if (const Tensor g = t.grad(); g.defined()) fresh.impl()->grad = make(g);
    // A graph that saved the old values must notice.
    while (fresh.impl()->storage->version() <= t.impl()->storage->version()) {
      fresh.impl()->storage->bump_version();
    }
    renewed.emplace_back(t.impl(), std::move(fresh));
  }
  for (auto& [impl, fresh] : renewed) {
    impl->storage = fresh.impl()->storage;
    impl->offset = 0;
    impl->strides = fresh.strides();
    impl->dtype = fresh.dtype();
    impl->device = fresh.device();
    impl->grad = std::move(fresh.impl()->grad);
  }
}

}  // namespace

void Module::to(DType dtype) {
  if (!is_floating(dtype)) {
    fail(ErrorKind::type, "to", "a module's parameters have a floating-point dtype, got ",
         name_of(dtype));
  }
  renew(*this, [&](const Tensor& t) {
    return is_floating(t.dtype()) && t.dtype() != dtype ? lg::to(t.detach(), dtype) : Tensor();
  });
}

void Module::to(Device device) {
  renew(*this, [&](const Tensor& t) {
    return t.device() == device ? Tensor() : to_device(t.detach(), device);
  });
}

Tensor deep_copy(const Tensor& t, CopyMemo& memo) {
  if (!t.defined()) return t;
  Tensor& copy = memo.tensors[t.impl()];
  if (!copy.defined()) {
    copy = t.detach().copy();
    copy.set_requires_grad(t.requires_grad());
    copy.impl()->is_parameter = t.is_parameter();
    if (t.grad().defined()) copy.impl()->grad = t.grad().detach().copy();
  }
  return copy;
}

Ref<Module> deep_copy(const Module& m, CopyMemo& memo) {
  if (const auto it = memo.modules.find(&m); it != memo.modules.end()) return it->second;
  const Ref<Module> copy = m.cls->copy(m);
  memo.modules[&m] = copy;
  for (const auto& e : copy->entries()) {
    *e->tensor = deep_copy(*e->tensor, memo);
    if (*e->child) *e->child = deep_copy(**e->child, memo);
  }
  return copy;
}

Ref<Module> deep_copy(const Module& m) {
  if (foreign.deep_copy) {
    for (const auto& [path, part] : m.named_modules()) {
      if (part->foreign_object()) return foreign.deep_copy(m);
    }
  }
  CopyMemo memo;
  return deep_copy(m, memo);
}

std::string detail::plain_name(const std::type_info& type) {
  int status = 0;
  char* demangled = abi::__cxa_demangle(type.name(), nullptr, nullptr, &status);
  std::string name = demangled ? demangled : type.name();
  std::free(demangled);
  const auto scope = name.find('<') == name.npos ? name.rfind("::") : name.npos;
  return scope == name.npos ? name : name.substr(scope + 2);
}

std::string Module::type_name() const {
  if (overridden && foreign_object()) return foreign.type_name(foreign_object());
  return cls && cls->name ? cls->name : detail::plain_name(typeid(*this));
}

std::string Module::to_string(int indent) const {
  const std::string margin(static_cast<std::size_t>(indent) + 2, ' ');
  const std::string extra =
      overridden && foreign_object() ? foreign.extra_repr(foreign_object()) : extra_repr();
  std::string lines;
  for (const auto& e : entries_) {
    if (e->kind != Kind::child) continue;
    lines += "\n" + margin + "(" + e->name +
             "): " + (*e->child ? (*e->child)->to_string(indent + 2) : "None");
  }
  if (lines.empty()) return type_name() + "(" + extra + ")";
  if (!extra.empty()) lines.insert(0, "\n" + margin + extra);
  return type_name() + "(" + lines + "\n" + margin.substr(2) + ")";
}

void fail_forward(const Module& m, bool unary) {
  if (unary) {
    fail(ErrorKind::type, m.type_name(),
         "forward does not take one tensor and give one, so it cannot be a link of a Sequential");
  }
  fail(ErrorKind::type, m.type_name(), "forward takes other arguments than its place expects");
}

void fail_no_forward(const Module& m) {
  fail(ErrorKind::type, m.type_name(), "this module has no forward, so it cannot be called");
}

void fail_missing_module() {
  fail(ErrorKind::runtime, "call",
       "the module that is called here is missing (its name was set to None)");
}

}  // namespace lg::nn
