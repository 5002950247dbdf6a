#include "lightgrad/tensor/storage.h"

#include <new>

namespace lg {

Ref<Storage> Storage::make(std::size_t bytes) {
  static_assert(sizeof(Storage) <= header);
  const std::size_t block = header + bytes;
  void* memory = allocate(block);
  auto* s = new (memory) Storage;
  s->data_ = static_cast<std::byte*>(memory) + header;
  s->bytes_ = bytes;
  s->block_ = block;
  return Ref<Storage>::adopt(s);
}

Ref<Storage> Storage::borrow(void* data, std::size_t bytes, std::shared_ptr<void> owner) {
  auto* s = new (allocate(header)) Storage;
  s->data_ = static_cast<std::byte*>(data);
  s->bytes_ = bytes;
  s->block_ = header;
  s->owner_ = std::move(owner);
  return Ref<Storage>::adopt(s);
}

void Storage::change_use(MemoryUse use) {
  const auto bytes = static_cast<std::int64_t>(block_);
  const MemoryUse before = use_.exchange(use, std::memory_order_relaxed);
  if (before != MemoryUse::other) count_use(before, -bytes);
  if (use != MemoryUse::other) count_use(use, bytes);
}

void Storage::destroy() {
  const std::size_t block = block_;
  const MemoryUse use = use_.load(std::memory_order_relaxed);
  if (use != MemoryUse::other) count_use(use, -static_cast<std::int64_t>(block));
  this->~Storage();
  deallocate(this, block);
}

}  // namespace lg
