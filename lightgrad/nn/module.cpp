// module.cpp: names and the tree. State, copies and text stand in module_state.cpp.
#include "lightgrad/nn/module.h"

#include <algorithm>
#include <atomic>
#include <unordered_set>

namespace lg::nn {

Module::Module() {
  if (std::exchange(detail::construction_site, nullptr) != this) {
    fail(ErrorKind::type, "Module",
         "a module is made with make<T>(...) or as a Child<T> member, not as a plain variable or a "
         "member by value");
  }
}

Module::Module(const Module& other) : Counted(other), training(other.training) {
  if (std::exchange(detail::construction_site, nullptr) != this) {
    fail(ErrorKind::type, "Module", "a module is copied with clone(m)");
  }
  for (const auto& e : other.entries_) {
    auto copy = std::make_unique<Entry>(*e);
    if (!e->declared) {  // a declared one is moved to the new member by redeclare()
      copy->tensor = &copy->own_tensor;
      copy->child = &copy->own_child;
    }
    entries_.push_back(std::move(copy));
  }
  detail::copy_under_way = this;
}

Module::~Module() = default;

void Module::redeclare(const void* old_at, void* at) {
  if (!detail::copy_under_way) return;
  for (auto& e : detail::copy_under_way->entries_) {
    if (!e->declared) continue;
    if (e->kind == Kind::child && e->child == old_at) e->child = static_cast<Ref<Module>*>(at);
    if (e->kind != Kind::child && e->tensor == old_at) e->tensor = static_cast<Tensor*>(at);
  }
}

Entry& Module::add(std::string_view name, Kind kind) {
  if (name.empty() || name.find('.') != name.npos) {
    fail(ErrorKind::value, type_name(), "a name in a module is not empty and has no dot, got \"",
         name, "\"");
  }
  if (find(name)) fail(ErrorKind::value, type_name(), "the name \"", name, "\" is declared twice");
  auto e = std::make_unique<Entry>();
  e->name = name;
  e->kind = kind;
  e->tensor = &e->own_tensor;
  e->child = &e->own_child;
  return *entries_.emplace_back(std::move(e));
}

void Module::declare(const char* name, Kind kind, Tensor* at) {
  Entry& e = add(name, kind);
  e.tensor = at;
  e.declared = true;
}

void Module::declare(const char* name, Ref<Module>* at, bool (*fits)(const Module&),
                     const std::type_info& wants) {
  Entry& e = add(name, Kind::child);
  e.child = at;
  e.declared = true;
  e.fits = fits;
  e.wants = &wants;
}

void Module::set_tensor(std::string_view name, Kind kind, Tensor value, bool persistent) {
  Entry* e = find(name);
  if (e && e->kind != kind) {
    remove(name);
    e = nullptr;
  }
  if (!e) e = &add(name, kind);
  *e->tensor = std::move(value);
  e->persistent = persistent;
}

void Module::register_parameter(std::string_view name, Tensor value) {
  if (value.defined() && !value.is_leaf()) {
    fail(ErrorKind::value, type_name(), "parameter \"", name,
         "\" was computed from other tensors (", value.describe(), "); register value.detach()");
  }
  if (value.defined() && !value.is_parameter()) {
    value.set_requires_grad(true);
    value.impl()->is_parameter = true;
  }
  set_tensor(name, Kind::parameter, std::move(value), true);
}

void Module::register_buffer(std::string_view name, Tensor value, bool persistent) {
  set_tensor(name, Kind::buffer, std::move(value), persistent);
}

void Module::register_module(std::string_view name, Ref<Module> value) {
  Entry* e = find(name);
  if (value) {  // sharing is fine, but nothing contains itself
    if (value->path_to(*this)) {
      fail(ErrorKind::value, type_name(), "\"", name,
           "\" would make the module contain itself; "
           "keep a parent by a weak reference");
    }
    if (e && e->fits && !e->fits(*value)) {
      fail(ErrorKind::type, type_name(), "\"", name, "\" holds a ", detail::plain_name(*e->wants),
           ", got ", value->type_name(), "; derive from it, or declare the member as Child<>");
    }
  }
  if (e && e->kind != Kind::child) {
    remove(name);
    e = nullptr;
  }
  if (!e) e = &add(name, Kind::child);
  std::swap(*e->child, value);  // the old one dies last
}

void Module::clear_entry(std::string_view name) {
  if (Entry* e = find(name)) {
    Ref<Module> old_child;
    std::swap(*e->child, old_child);
    *e->tensor = {};
  }
}

bool Module::remove(std::string_view name) {
  const auto it =
      std::find_if(entries_.begin(), entries_.end(), [&](auto& e) { return e->name == name; });
  if (it == entries_.end()) return false;
  if ((*it)->declared) {
    fail(ErrorKind::value, type_name(), "\"", name,
         "\" is a member of the C++ class: set it to None instead of "
         "deleting it");
  }
  const auto dead = std::move(*it);
  entries_.erase(it);
  return true;
}

void Module::drop_references() {
  const auto dead_hooks = std::move(hooks_);
  std::vector<Ref<Module>> dead;
  for (auto& e : entries_) {
    if (e->kind == Kind::child) dead.push_back(std::exchange(*e->child, {}));
  }
}

namespace {

std::string joined(const std::string& path, const std::string& name) {
  return path.empty() ? name : path + "." + name;
}

// f(path, module) for each module once, parents first; stops when f gives false.
template <class F>
bool walk(const Module& m, const std::string& path, std::unordered_set<const Module*>& seen,
          F&& f) {
  if (!seen.insert(&m).second) return true;
  if (!f(path, m)) return false;
  for (const auto& e : m.entries()) {
    if (e->kind != Kind::child || !*e->child) continue;
    if (!walk(**e->child, joined(path, e->name), seen, f)) return false;
  }
  return true;
}

NamedTensors named_tensors(const Module& root, Kind kind) {
  NamedTensors out;
  std::unordered_set<const Module*> seen;
  std::unordered_set<const TensorImpl*> tensors;
  walk(root, "", seen, [&](const std::string& path, const Module& m) {
    for (const auto& e : m.entries()) {
      if (e->kind == kind && e->tensor->defined() && tensors.insert(e->tensor->impl()).second) {
        out.emplace_back(joined(path, e->name), *e->tensor);
      }
    }
    return true;
  });
  return out;
}

std::vector<Tensor> values_of(NamedTensors named) {
  std::vector<Tensor> out;
  out.reserve(named.size());
  for (auto& [name, t] : named) out.push_back(std::move(t));
  return out;
}

}  // namespace

NamedModules Module::named_modules() const {
  NamedModules out;
  std::unordered_set<const Module*> seen;
  walk(*this, "", seen, [&](const std::string& path, const Module& m) {
    out.emplace_back(path, const_cast<Module*>(&m));
    return true;
  });
  return out;
}

NamedModules Module::named_children() const {
  NamedModules out;
  std::unordered_set<const Module*> seen;
  for (const auto& e : entries_) {
    if (*e->child && seen.insert(e->child->get()).second)
      out.emplace_back(e->name, e->child->get());
  }
  return out;
}

PoolVector<Module*> Module::children() const {
  PoolVector<Module*> out;
  out.reserve(entries_.size());
  for (const auto& e : entries_) {
    Module* m = e->child->get();
    if (m && std::find(out.begin(), out.end(), m) == out.end()) out.push_back(m);
  }
  return out;
}

NamedTensors Module::named_parameters() const { return named_tensors(*this, Kind::parameter); }
NamedTensors Module::named_buffers() const { return named_tensors(*this, Kind::buffer); }
std::vector<Tensor> Module::parameters() const { return values_of(named_parameters()); }
std::vector<Tensor> Module::buffers() const { return values_of(named_buffers()); }

std::optional<std::string> Module::path_to(const Module& wanted) const {
  std::optional<std::string> found;
  std::unordered_set<const Module*> seen;
  walk(*this, "", seen, [&](const std::string& path, const Module& m) {
    if (&m == &wanted) found = path;
    return !found;
  });
  return found;
}

// By index: f or an overridden train() may add or remove children.
void Module::apply(const std::function<void(Module&)>& f) {
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    if (const Ref<Module> child = *entries_[i]->child) child->apply(f);
  }
  f(*this);
}

void Module::train(bool on) {
  if (!(overridden && foreign.train && foreign.train(*this, on))) set_training(on);
}

void Module::set_training(bool on) {
  training = on;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    if (const Ref<Module> child = *entries_[i]->child) child->train(on);
  }
}

void Module::zero_grad() const {
  for (const Tensor& p : parameters()) p.zero_grad();
}

void Module::requires_grad_(bool on) const {
  for (const Tensor& p : parameters()) p.set_requires_grad(on);
}

int Module::add_hook(bool before, HookFunction f) {
  static std::atomic<int> last_id{0};
  if (!hooks_) hooks_ = std::make_unique<std::vector<Hook>>();
  return hooks_->emplace_back(Hook{++last_id, before, std::move(f)}).id;
}

void Module::remove_hook(int id) {
  if (!hooks_) return;
  std::erase_if(*hooks_, [&](const Hook& h) { return h.id == id; });
  if (hooks_->empty()) hooks_.reset();
}

void Module::run_hooks(bool before, std::span<Tensor> in, Tensor* out) {
  if (!hooks_) return;
  const std::vector<Hook> hooks = *hooks_;  // a hook may remove itself
  for (const Hook& h : hooks) {
    if (h.before == before) h.run(*this, in, out);
  }
}

std::string Scope::path_of(const Frame* frame) {
  std::vector<const Module*> chain;  // innermost first
  for (; frame && frame->path == &path_of; frame = frame->outer) {
    chain.push_back(static_cast<const Module*>(frame->object));
  }
  std::string path = frame ? frame->path(frame) : std::string();
  for (std::size_t i = chain.size() - 1; i-- > 0;) {
    if (chain[i] == chain[i + 1]) continue;
    const auto step = chain[i + 1]->path_to(*chain[i]);
    path = joined(path, step ? *step : chain[i]->type_name());
  }
  return path.empty() ? chain.back()->type_name() : path;
}

}  // namespace lg::nn
