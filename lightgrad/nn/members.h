// members.h: how a C++ module is written and called.
//   struct Block : Module {
//     Child<Linear> up{this, "up", 64, 256}, down{this, "down", 256, 64};   // declared, named,
//     built Tensor forward(const Tensor& x) { return down(gelu(up(x))); }         // any signature
//   };
//   auto block = make<Block>();  Tensor y = block(x);
// A call goes through one door that makes the path scope, runs hooks and enters the most derived
// forward.
#pragma once

#include <tuple>
#include <type_traits>

#include "lightgrad/nn/module.h"

namespace lg::nn {

template <class R, class... A> struct Signature {
  using Call = R (*)(Module&, A...);
  using Decayed = std::tuple<std::decay_t<A>...>;
  static constexpr std::size_t arity = sizeof...(A);
  static constexpr bool unary = std::same_as<R(A...), Tensor(const Tensor&)>;
  static const std::type_info& type() { return typeid(R(A...)); }
  template <class T> static R direct(Module& m, A... a) {
    return static_cast<T&>(m).forward(std::forward<A>(a)...);
  }
};
template <class R, class C, class... A> Signature<R, A...> signature_of(R (C::*)(A...));
template <class R, class C, class... A> Signature<R, A...> signature_of(R (C::*)(A...) const);

template <class T> struct SignatureOf { using type = decltype(signature_of(&T::forward)); };
template <>
struct SignatureOf<Module> {  // a module of unknown class is called as a link of a chain
  using type = Signature<Tensor, const Tensor&>;
};
template <class T> using signature_t = typename SignatureOf<T>::type;
template <class T>
concept HasForward = requires {
  &T::forward;
};

template <class T> inline Class class_of{};

template <class T = Module> class Mod;
template <class T, class... A> Mod<T> make(A&&... a);

namespace detail {

template <class T> const Class* describe() {
  static const Class* const described = [] {
    Class& c = class_of<T>;
    c.signature = &typeid(void);
    if constexpr (std::same_as<T, Module> || HasForward<T>) {
      c.signature = &signature_t<T>::type();
      c.unary = signature_t<T>::unary;
    }
    if constexpr (HasForward<T>) {
      c.direct = reinterpret_cast<void (*)()>(&signature_t<T>::template direct<T>);
    }
    c.copy = [](const Module& m) -> Ref<Module> {
      if constexpr (std::copy_constructible<T>)
        return make<T>(static_cast<const T&>(m)).ref();
      else
        fail(ErrorKind::type, "clone", m.type_name(), " has a member that cannot be copied");
    };
    c.type = &typeid(T);
    return &c;
  }();
  return described;
}

// The one way to make a module, so that none ever lies on the stack or inside another object.
template <class T, class... A> T* construct(void* at, A&&... a) {
  static_assert(std::derived_from<T, Module>);
  const Construction here(static_cast<T*>(at));
  T* m = new (at) T(std::forward<A>(a)...);
  m->cls = describe<T>();
  return m;
}

// The one way into any forward.
template <class S, class... A> auto enter(Module& m, const A&... a) {
  const auto call = m.overridden && m.cls->overridable ? m.cls->overridable : m.cls->direct;
  if (m.cls->signature != &S::type() && *m.cls->signature != S::type()) [[unlikely]] {
    fail_forward(m, S::unary);
  }
  if (!call) [[unlikely]]
    fail_no_forward(m);
  return reinterpret_cast<typename S::Call>(call)(m, a...);
}

// Arguments that the caller left out are default-constructed: optional ones belong into a struct.
template <class S, class... A> auto enter_padded(Module& m, const A&... a) {
  if constexpr (sizeof...(A) < S::arity) {
    return enter_padded<S>(m, a..., std::tuple_element_t<sizeof...(A), typename S::Decayed>{});
  } else {
    static_assert(std::is_invocable_v<typename S::Call, Module&, const A&...>,
                  "these arguments do not fit this module's forward");
    return enter<S>(m, a...);
  }
}

template <class S, class... A> auto enter_with_hooks(Module& m, const A&... a) {
  std::tuple<A...> args(a...);
  std::vector<Tensor> in;
  const auto each_tensor = [&](auto&& f) {
    const auto one = [&](auto& x) {
      if constexpr (std::derived_from<std::remove_cvref_t<decltype(x)>, Tensor>) f(x);
    };
    std::apply([&](auto&... x) { (one(x), ...); }, args);
  };
  each_tensor([&](auto& x) { in.push_back(x); });
  m.run_hooks(true, in, nullptr);
  std::size_t i = 0;
  each_tensor([&](auto& x) { static_cast<Tensor&>(x) = in[i++]; });
  auto y = std::apply([&](const auto&... x) { return enter_padded<S>(m, x...); }, args);
  if constexpr (std::same_as<decltype(y), Tensor>)
    m.run_hooks(false, in, &y);
  else
    m.run_hooks(false, in, nullptr);
  return y;
}

template <class A>
using argument_t =
    std::conditional_t<std::derived_from<std::decay_t<A>, Tensor>, Tensor, std::decay_t<A>>;

}  // namespace detail

// Scope, hooks and forward of one module.
template <class T = Module, class... A> auto call(Module& m, const A&... a) {
  Scope scope(m);
  if (!m.hooks()) [[likely]]
    return detail::enter_padded<signature_t<T>>(m, a...);
  return detail::enter_with_hooks<signature_t<T>, detail::argument_t<A>...>(m, a...);
}

// A handle to a module: copying it shares the module, as with Tensor. model(x) runs T's forward.
template <class T> class Mod {
 public:
  using element = T;
  Mod() = default;
  explicit Mod(T* p) : ref_(p) {}
  template <std::derived_from<T> U> Mod(const Mod<U>& other) : ref_(other.ref()) {}

  const Ref<Module>& ref() const { return ref_; }
  T* get() const { return static_cast<T*>(ref_.get()); }
  T* operator->() const { return get(); }
  T& operator*() const { return *get(); }
  explicit operator bool() const { return static_cast<bool>(ref_); }

  template <class... A> auto operator()(const A&... a) const {
    if (!ref_) [[unlikely]]
      fail_missing_module();
    return call<T>(*ref_, a...);
  }

 protected:
  Ref<Module> ref_;
};

template <class T, class... A> Mod<T> make(A&&... a) {
  static_assert(alignof(T) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__);
  void* at = ::operator new(sizeof(T));
  try {
    return Mod<T>(detail::construct<T>(at, std::forward<A>(a)...));
  } catch (...) {
    ::operator delete(at, sizeof(T));
    throw;
  }
}

// A child, made from its constructor's arguments or given as a handle.
template <class T = Module> class Child : public Mod<T> {
 public:
  template <class... A>
  Child(Module* owner, const char* name, A&&... a) : Mod<T>(built(std::forward<A>(a)...)) {
    owner->declare(name, &this->ref_, &fits, typeid(T));
  }
  Child(const Child& other) : Mod<T>(other) { Module::redeclare(&other.ref_, &this->ref_); }
  Child& operator=(const Mod<T>& m) {
    this->ref_ = m.ref();
    return *this;
  }
  Child& operator=(const Child& m) { return *this = static_cast<const Mod<T>&>(m); }

 private:
  static bool fits(const Module& m) { return dynamic_cast<const T*>(&m) != nullptr; }
  template <class... A> static Mod<T> built(A&&... a) {
    if constexpr (sizeof...(A) == 1 && (std::convertible_to<A, Mod<T>> && ...)) {
      return Mod<T>(std::forward<A>(a)...);
    } else {
      return make<T>(std::forward<A>(a)...);
    }
  }
};

// A tensor that is a parameter or a buffer of its owner; undefined when the layer has none.
template <Kind kind> class Member : public Tensor {
 public:
  Member(Module* owner, const char* name, Tensor init) : Tensor(std::move(init)) {
    mark();
    owner->declare(name, kind, this);
  }
  Member(const Member& other) : Tensor(other) {
    Module::redeclare(static_cast<const Tensor*>(&other), static_cast<Tensor*>(this));
  }
  Member& operator=(const Tensor& t) {
    Tensor::operator=(t);
    mark();
    return *this;
  }
  Member& operator=(const Member& t) { return *this = static_cast<const Tensor&>(t); }

 private:
  void mark() {
    if (kind != Kind::parameter || !defined() || is_parameter()) return;
    set_requires_grad(true);
    impl_->is_parameter = true;
  }
};
using Param = Member<Kind::parameter>;
using Buffer = Member<Kind::buffer>;

// A deep copy: parameters, buffers and children; what was shared stays shared.
template <class T> Mod<T> clone(const Mod<T>& m) {
  return Mod<T>(static_cast<T*>(deep_copy(*m).get()));
}

}  // namespace lg::nn
