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

void Storage::destroy() {
  const std::size_t block = block_;
  this->~Storage();
  deallocate(this, block);
}

}  // namespace lg
