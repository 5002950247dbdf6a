// counted.h: one life and one identity for a module that C++ and another language may both hold.
// Knows nothing of Python: a binding fills in `foreign`; in a C++ program it stays empty.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "lightgrad/base/ref.h"

namespace lg::nn {

class Module;

// How the other language counts, names and overrides the objects that it shares with C++.
struct Foreign {
  void (*retain)(void* object) = nullptr;
  void (*release)(void* object) = nullptr;
  std::string (*type_name)(void* object) = nullptr;
  std::string (*extra_repr)(void* object) = nullptr;
  bool (*train)(Module&, bool on) = nullptr;          // true: an override did it
  Ref<Module> (*deep_copy)(const Module&) = nullptr;  // keeps classes, attributes and ties
};
inline Foreign foreign{};

// An odd word is C++'s own count (times two, plus one). An even word is the foreign object: from
// then on its count is the only one, so that neither side can free what the other still holds.
class Counted {
 public:
  Counted() = default;
  Counted(const Counted&) {}
  Counted& operator=(const Counted&) = delete;
  virtual ~Counted() = default;

  void* foreign_object() const {
    const std::uintptr_t w = word_.load(std::memory_order_acquire);
    return w & 1 ? nullptr : reinterpret_cast<void*>(w);
  }
  // References that C++ counts itself; 0 once adopted.
  std::size_t count() const {
    const std::uintptr_t w = word_.load(std::memory_order_relaxed);
    return w & 1 ? w >> 1 : 0;
  }
  // The C++ references so far become references to `object`. The binding holds its interpreter's
  // lock.
  void adopt_by(void* object) {
    for (std::size_t n = count(); n > 0; --n) foreign.retain(object);
    word_.store(reinterpret_cast<std::uintptr_t>(object), std::memory_order_release);
  }

  friend void retain(const Counted* c) {
    std::uintptr_t w = c->word_.load(std::memory_order_relaxed);
    while (w & 1) {
      if (c->word_.compare_exchange_weak(w, w + 2, std::memory_order_relaxed)) return;
    }
    foreign.retain(reinterpret_cast<void*>(w));
  }
  friend void release(const Counted* c) {
    std::uintptr_t w = c->word_.load(std::memory_order_relaxed);
    while (w & 1) {
      if (c->word_.compare_exchange_weak(w, w - 2, std::memory_order_acq_rel)) {
        if (w == 3) delete c;
        return;
      }
    }
    foreign.release(reinterpret_cast<void*>(w));
  }

 private:
  mutable std::atomic<std::uintptr_t> word_{1};
};

}  // namespace lg::nn
