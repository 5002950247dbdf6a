#include "lightgrad/tensor/storage.h"

#include <pthread.h>

#include <algorithm>
#include <mutex>
#include <new>
#include <vector>

#include "lightgrad/base/table.h"

namespace lg {

struct Storage::Holder {
  Holder *next, *previous;
  Storage* storage;
  Shape shape;
  DType dtype;

  void unlist() const;
};

namespace {

constinit std::mutex holders_mutex;
[[maybe_unused]] const int fork_handlers = pthread_atfork(
    [] { holders_mutex.lock(); }, [] { holders_mutex.unlock(); }, [] { holders_mutex.unlock(); });

}  // namespace

constinit Storage::Holder* Storage::newest_holder = nullptr;

Storage::Holder* Storage::holder() {
  return reinterpret_cast<Holder*>(reinterpret_cast<std::byte*>(this) + header);
}

inline Ref<Storage> Storage::make(std::size_t bytes, std::size_t before) {
  const std::size_t block = before + bytes;
  void* memory = allocate(block);
  auto* s = new (memory) Storage;
  s->data_ = static_cast<std::byte*>(memory) + before;
  s->bytes_ = bytes;
  s->block_ = block;
  return Ref<Storage>::adopt(s);
}

Ref<Storage> Storage::make(std::size_t bytes) {
  static_assert(sizeof(Storage) <= header);
  return make(bytes, header);
}

Ref<Storage> Storage::make_large(std::size_t bytes, const Shape& shape, DType dtype) {
  static_assert(sizeof(Holder) <= 2 * header);
  Ref<Storage> s = make(bytes, 3 * header);
  const std::lock_guard lock(holders_mutex);
  auto* h = new (s->holder()) Holder{newest_holder, nullptr, s.get(), shape, dtype};
  if (h->next) h->next->previous = h;
  newest_holder = h;
  return s;
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

[[gnu::noinline]] void Storage::Holder::unlist() const {
  const std::lock_guard lock(holders_mutex);
  if (next) next->previous = previous;
  (previous ? previous->next : newest_holder) = next;
}

void Storage::destroy() {
  const std::size_t block = block_;
  if (block >= large + 3 * header) [[unlikely]]
    holder()->unlist();
  const MemoryUse use = use_.load(std::memory_order_relaxed);
  if (use != MemoryUse::other) count_use(use, -static_cast<std::int64_t>(block));
  this->~Storage();
  deallocate(this, block);
}

// Those of the same use, dtype and shape stand together.
std::string Storage::describe_holders() {
  struct Group {
    const Holder* of;
    MemoryUse use;
    std::int64_t count = 0, bytes = 0;
  };
  constexpr std::size_t shown = 5;
  std::vector<Group> groups;
  const std::lock_guard lock(holders_mutex);
  for (const Holder* h = newest_holder; h; h = h->next) {
    const MemoryUse use = h->storage->use_.load(std::memory_order_relaxed);
    auto group = std::find_if(groups.begin(), groups.end(), [&](const Group& g) {
      return g.use == use && g.of->dtype == h->dtype && g.of->shape == h->shape;
    });
    if (group == groups.end()) group = groups.insert(group, {h, use});
    ++group->count;
    group->bytes += static_cast<std::int64_t>(h->storage->bytes_);
  }
  std::sort(groups.begin(), groups.end(),
            [](const Group& a, const Group& b) { return a.bytes > b.bytes; });
  std::string out;
  for (std::size_t i = 0; i < std::min(shown, groups.size()); ++i) {
    const Group& g = groups[i];
    out += text(i == 0 ? ". The largest: " : ", ", with_unit(static_cast<double>(g.bytes), "B"),
                " of ", name_of(g.use), " in ", g.count, " x ", name_of(g.of->dtype), " ",
                g.of->shape);
  }
  return out;
}

[[maybe_unused]] const bool Storage::described =
    (set_memory_holders(&Storage::describe_holders), true);

}  // namespace lg
