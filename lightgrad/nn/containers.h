// containers.h: modules made of modules: chains, lists, dictionaries.
#pragma once

#include <functional>

#include "lightgrad/nn/members.h"

namespace lg::nn {

// Any function of one tensor as a layer.
struct Lambda : Module {
  std::function<Tensor(const Tensor&)> f;
  explicit Lambda(std::function<Tensor(const Tensor&)> f) : f(std::move(f)) {}
  Tensor forward(const Tensor& x) const { return f(x); }
};

// What Sequential and ModuleList share: children named "0", "1", ...
struct List : Module {
  std::int64_t size() const { return static_cast<std::int64_t>(entries().size()); }
  Module& operator[](std::int64_t i) const {
    return *at(i);
  }  // from the end when negative; IndexError
  const Ref<Module>& at(std::int64_t i) const;
  template <class T> T& get(std::int64_t i) const {  // TypeError when the module is another class
    Module& m = *at(i);
    if (auto* typed = dynamic_cast<T*>(&m)) return *typed;
    fail(ErrorKind::type, type_name(), "module ", i, " is a ", m.type_name(), ", not a ",
         detail::plain_name(typeid(T)));
  }
  void append(Ref<Module> m);
  template <class T> void append(const Mod<T>& m) { append(m.ref()); }
  void set(std::int64_t i, Ref<Module> m);
  void insert(std::int64_t i, Ref<Module> m);
  void erase(std::int64_t i);
};

struct ModuleList : List {
  ModuleList() = default;
  template <class T> explicit ModuleList(const std::vector<Mod<T>>& modules) {
    for (const auto& m : modules) append(m);
  }
};

// Children by name, in the order they came.
struct ModuleDict : Module {
  std::int64_t size() const { return static_cast<std::int64_t>(entries().size()); }
  bool contains(std::string_view key) const { return find(key) != nullptr; }
  Module& operator[](std::string_view key) const;  // IndexError when there is none
  void set(std::string_view key, Ref<Module> m) { register_module(key, std::move(m)); }
  template <class T> void set(std::string_view key, const Mod<T>& m) { set(key, m.ref()); }
};

namespace detail {
template <class L>
concept LayerHandle = requires {
  typename std::remove_cvref_t<L>::element;
};
}  // namespace detail

// Layers and functions of one tensor, one after the other:
//   make<Sequential>(make<Linear>(8, 32), [](const Tensor& x) { return relu(x); }, make<Linear>(32,
//   2))
struct Sequential : List {
  Sequential() = default;
  template <class... L>
  requires(sizeof...(L) > 0 && !(std::derived_from<std::remove_cvref_t<L>, Module> ||
                                 ...)) explicit Sequential(L&&... layers) {
    (link(std::forward<L>(layers)), ...);
  }
  Tensor forward(const Tensor& x) const;

 private:
  template <detail::LayerHandle L> void link(const L& m) {
    static_assert(signature_t<typename L::element>::unary,
                  "a link of a Sequential takes one Tensor and gives one Tensor");
    append(m);
  }
  template <class F>
  requires(!detail::LayerHandle<F>) void link(F&& f) { append(make<Lambda>(std::forward<F>(f))); }
};

}  // namespace lg::nn
