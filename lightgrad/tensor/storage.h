// storage.h: the memory that tensors share. Counted; its version rises with every in-place change,
// so that autograd can tell when a saved tensor is no longer what it was.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "lightgrad/base/dtype.h"
#include "lightgrad/base/memory.h"
#include "lightgrad/base/ref.h"
#include "lightgrad/base/shape.h"

namespace lg {

class Storage {
 public:
  // `bytes` of fresh memory, aligned to 64. The header and the data are one block.
  static Ref<Storage> make(std::size_t bytes);
  // The same for a large tensor, which errors about memory will name. Its work takes so long that
  // to list it costs nothing.
  static constexpr std::size_t large = 1 << 20;
  static Ref<Storage> make_large(std::size_t bytes, const Shape& shape, DType dtype);
  // Memory that somebody else owns; `owner` is let go with the last tensor.
  static Ref<Storage> borrow(void* data, std::size_t bytes, std::shared_ptr<void> owner);

  std::byte* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  std::uint32_t version() const { return version_.load(std::memory_order_relaxed); }
  void bump_version() { version_.fetch_add(1, std::memory_order_relaxed); }
  // Counts the in-place changes that a graph recorded: views made before them no longer know their
  // history.
  std::uint32_t recorded_changes() const { return recorded_changes_; }
  void note_recorded_change() { ++recorded_changes_; }
  bool unique() const { return refs_.load(std::memory_order_acquire) == 1; }
  bool borrowed() const { return owner_ != nullptr; }
  // Statistics: the memory serves `use` from now on. A gradient or an activation is only what
  // serves nothing else.
  void serve(MemoryUse use) {
    const MemoryUse before = use_.load(std::memory_order_relaxed);
    if (before != use &&
        (before == MemoryUse::other || use < MemoryUse::gradient || use == MemoryUse::optimizer)) {
      change_use(use);
    }
  }

  friend void retain(Storage* s) { s->refs_.fetch_add(1, std::memory_order_relaxed); }
  friend void release(Storage* s) {
    // The last owner need not count down.
    if (s->unique() || s->refs_.fetch_sub(1, std::memory_order_acq_rel) == 1) s->destroy();
  }

 private:
  static constexpr std::size_t header = 64;
  struct Holder;  // follows the header of a large one

  Storage() = default;
  static Ref<Storage> make(std::size_t bytes, std::size_t header);
  Holder* holder();
  static std::string describe_holders();
  static Holder* newest_holder;
  static const bool described;
  void destroy();
  void change_use(MemoryUse use);

  std::atomic<int> refs_{1};
  std::atomic<std::uint32_t> version_{0};
  std::uint32_t recorded_changes_ = 0;
  std::atomic<MemoryUse> use_{MemoryUse::other};
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0, block_ = 0;
  std::shared_ptr<void> owner_;
};

}  // namespace lg
