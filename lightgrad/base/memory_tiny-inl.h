// memory_tiny-inl.h: part of memory.cpp, included by nobody else: blocks of at most 1 KiB. A thread
// takes from and puts into its own magazines; full ones travel through a depot, so that blocks
// freed by another thread come back.
#pragma once

#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>
#include <utility>

#include "lightgrad/base/memory_system-inl.h"

namespace lg {
namespace {

struct Magazine {
  Block* head = nullptr;
  Counter count;
};

// Bytes that one thread counted: handed out less taken back, below zero for one that frees for
// others.
struct Tally {
  Counter bytes;
  Counter published;  // the part of `bytes` that is in the total
  Counter highest;    // the most that `bytes` was since then

  void add(std::int64_t n) {
    const std::int64_t now = bytes.get() + n;
    bytes.set(now);
    if (now > highest.get()) highest.set(now);
  }
  // Moves the count to the total, together with `extra` bytes of large blocks. In between, this
  // thread's large blocks did not change, so the peak is exact for one thread, and near for
  // several.
  void publish(Total& total, std::int64_t extra) {
    const std::int64_t now = bytes.get(), before = published.get();
    total.add(now - before + extra, highest.get() - before);
    published.set(now);
    highest.set(now);
  }
};

// What one thread holds. Made from memory of our own and used again by later threads, so that a
// forked child may look at those of threads that it does not have.
struct Cache {
  // Two of each, so that a program that goes to and fro over the edge of one does not always meet
  // the depot.
  Magazine current[tiny_classes], spare[tiny_classes];
  Tally all, uses[memory_uses];
  Counter allocations;  // not yet in totals
  Cache* next = nullptr;
  bool in_use = false;
};

struct Slab {  // at the beginning of each 64 KiB; the blocks follow
  Slab* next;
  std::size_t carved;  // bytes, these first 64 included
  std::size_t free;    // used within trim
};
static_assert(sizeof(Slab) <= alignment);

// The depot: what the threads' magazines are filled from. Its mutex is also that of the list of
// caches.
struct Depot {
  std::mutex mutex;
  Block* magazines[tiny_classes] = {};
  Slab* slabs[tiny_classes] = {};  // the first of each may have room
  Slab* empty = nullptr;           // given back by trim, for any class
  char* chunk = nullptr;           // slabs are cut from 2 MiB
  std::size_t chunk_left = 0;
  Cache* caches = nullptr;
  Cache orphan;  // serves threads whose thread-locals are gone, under the mutex
};
constinit Depot depot;

constexpr int class_of_tiny(std::size_t bytes) {
  return static_cast<int>((bytes - (bytes != 0)) / alignment);
}
constexpr std::size_t size_of_tiny(int c) { return static_cast<std::size_t>(c + 1) * alignment; }

// Moves a thread's counts to the totals, together with `extra` bytes of large blocks.
void publish(Cache& c, std::int64_t extra) {
  c.all.publish(totals.all, extra);
  add(totals.allocations, c.allocations.get());
  c.allocations.set(0);
}
void publish_uses(Cache& c) {
  for (std::size_t i = 1; i < memory_uses; ++i) c.uses[i].publish(totals.uses[i], 0);
}

// The functions from here to `spill` that touch the depot are called under its mutex.

LIGHTGRAD_UNCHECKED void give_magazine(int i, Magazine& m) {
  if (!m.head) return;
  m.head->size = static_cast<std::size_t>(m.count.get());
  m.head->newer = depot.magazines[i];
  depot.magazines[i] = m.head;
  m = {};
}

// A slab with room for a block of class i, or null.
Slab* find_slab(int i) {
  const std::size_t size = size_of_tiny(i);
  if (Slab* s = depot.slabs[i]; s && s->carved + size <= slab_size) return s;
  Slab* slab = depot.empty;
  if (slab) {
    depot.empty = slab->next;
  } else {
    if (depot.chunk_left == 0) {
      // The first chunk stays on small pages: a small program should not wait for 2 MiB to be
      // cleared.
      void* chunk = map_aligned(huge_page, depot.chunk != nullptr);
      if (!chunk) return nullptr;
      add(totals.system_allocations, 1);
      depot.chunk = static_cast<char*>(chunk);
      depot.chunk_left = huge_page;
    }
    slab = reinterpret_cast<Slab*>(depot.chunk + (huge_page - depot.chunk_left));
    depot.chunk_left -= slab_size;
  }
  *slab = {depot.slabs[i], alignment, 0};
  return depot.slabs[i] = slab;
}

LIGHTGRAD_UNCHECKED bool take_magazine(int i, Magazine& m) {
  if (Block* head = depot.magazines[i]) {
    depot.magazines[i] = head->newer;
    m.head = head;
    m.count.set(static_cast<std::int64_t>(head->size));
    return true;
  }
  Slab* slab = find_slab(i);
  if (!slab) return false;
  const std::size_t size = size_of_tiny(i), first = slab->carved;
  Block** tail = &m.head;
  int count = 0;
  for (; count < magazine_size && slab->carved + size <= slab_size; ++count, slab->carved += size) {
    *tail = reinterpret_cast<Block*>(reinterpret_cast<char*>(slab) + slab->carved);
    tail = &(*tail)->next;
  }
  *tail = nullptr;
  m.count.set(count);
  ASAN_POISON_MEMORY_REGION(reinterpret_cast<char*>(slab) + first, slab->carved - first);
  return true;
}

bool refill(Cache& c, int i) {  // current is empty
  if (!c.spare[i].head) return take_magazine(i, c.current[i]);
  std::swap(c.current[i], c.spare[i]);
  return true;
}

void spill(Cache& c, int i) {  // current is full
  give_magazine(i, c.spare[i]);
  std::swap(c.current[i], c.spare[i]);
}

LIGHTGRAD_UNCHECKED inline void* take(Cache& c, int i, std::size_t bytes) {
  Magazine& m = c.current[i];
  Block* b = m.head;
  m.head = b->next;
  m.count.set(m.count.get() - 1);
  c.all.add(static_cast<std::int64_t>(bytes));
  c.allocations.set(c.allocations.get() + 1);
  return hand_out(b, bytes);
}

LIGHTGRAD_UNCHECKED inline void put(Cache& c, int i, void* block, std::size_t bytes) {
  Magazine& m = c.current[i];
  auto* b = static_cast<Block*>(block);
  b->next = m.head;
  m.head = b;
  m.count.set(m.count.get() + 1);
  c.all.add(-static_cast<std::int64_t>(bytes));
  ASAN_POISON_MEMORY_REGION(block, size_of_tiny(i));
}

void give_all(Cache& c) {
  for (int i = 0; i < tiny_classes; ++i) {
    give_magazine(i, c.current[i]);
    give_magazine(i, c.spare[i]);
  }
}

thread_local constinit Cache* cache = nullptr;
thread_local constinit bool thread_is_ending = false;

// A pthread key rather than a thread_local object tells of a thread's end: its destructor runs
// after those of all thread_locals, allocates nothing, and is not run by exit(), so that the main
// thread's cache outlives the statics.
struct ThreadEnd {
  ThreadEnd() { pthread_key_create(&key, retire); }
  ~ThreadEnd() { pthread_key_delete(key); }
  static void retire(void*) {
    thread_is_ending = true;
    Cache* c = std::exchange(cache, nullptr);
    const std::lock_guard lock(depot.mutex);
    give_all(*c);
    publish(*c, 0);
    publish_uses(*c);
    c->in_use = false;
  }
  pthread_key_t key;
};

// This thread's cache, made at its first tiny block; null while the thread ends.
Cache* find_cache() {
  if (cache || thread_is_ending) return cache;
  static const ThreadEnd thread_end;
  const std::lock_guard lock(depot.mutex);
  Cache* c = depot.caches;
  while (c && c->in_use) c = c->next;
  if (!c) {
    void* place =
        std::aligned_alloc(alignment, (sizeof(Cache) + alignment - 1) / alignment * alignment);
    if (!place) return nullptr;
    c = new (place) Cache;
    c->next = depot.caches;
    depot.caches = c;
  }
  if (pthread_setspecific(thread_end.key, c) != 0) return nullptr;
  c->in_use = true;
  return cache = c;
}

void* allocate_direct(std::size_t bytes) {
  keep_limit(bytes);
  void* block = or_trim(bytes, [=]() -> void* {
    if (bytes > most_bytes) return nullptr;
    return std::aligned_alloc(alignment,
                              std::max((bytes + alignment - 1) / alignment * alignment, alignment));
  });
  totals.all.add(static_cast<std::int64_t>(bytes), 0);
  add(totals.allocations, 1);
  add(totals.system_allocations, 1);
  return block;
}

void deallocate_direct(void* block, std::size_t bytes) {
  totals.all.add(-static_cast<std::int64_t>(bytes), 0);
  std::free(block);
}

[[gnu::noinline]] void* allocate_tiny(int i, std::size_t bytes) {
  if (direct()) return allocate_direct(bytes);
  keep_limit(bytes);
  Cache* own = find_cache();
  return or_trim(bytes, [=]() -> void* {
    const std::lock_guard lock(depot.mutex);
    Cache& c = own ? *own : depot.orphan;
    if (!c.current[i].head && !refill(c, i)) return nullptr;
    void* block = take(c, i, bytes);
    if (!own) publish(c, 0);
    return block;
  });
}

[[gnu::noinline]] void deallocate_tiny(void* block, int i, std::size_t bytes) {
  if (direct()) return deallocate_direct(block, bytes);
  Cache* own = find_cache();
  const std::lock_guard lock(depot.mutex);
  Cache& c = own ? *own : depot.orphan;
  if (c.current[i].count.get() == magazine_size) spill(c, i);
  put(c, i, block, bytes);
  if (!own) publish(c, 0);
}

// Slabs whose blocks all lie in the depot go back to the system; their addresses stay ours, for any
// class.
LIGHTGRAD_UNCHECKED void trim_tiny() {
  const std::lock_guard lock(depot.mutex);
  if (cache) give_all(*cache);
  give_all(depot.orphan);
  const auto slab_of = [](Block* b) {
    return reinterpret_cast<Slab*>(reinterpret_cast<std::uintptr_t>(b) & ~(slab_size - 1));
  };
  for (int i = 0; i < tiny_classes; ++i) {
    const std::size_t size = size_of_tiny(i);
    for (Block* m = depot.magazines[i]; m; m = m->newer) {
      for (Block* b = m; b; b = b->next) slab_of(b)->free += size;
    }
    const auto is_free = [](const Slab* s) { return s->free + alignment == s->carved; };
    Magazine kept;  // the blocks that stay, collected into full magazines
    for (Block *m = std::exchange(depot.magazines[i], nullptr), *next_magazine; m;
         m = next_magazine) {
      next_magazine = m->newer;
      for (Block *b = m, *next; b; b = next) {
        next = b->next;
        if (is_free(slab_of(b))) continue;
        b->next = kept.head;
        kept.head = b;
        kept.count.set(kept.count.get() + 1);
        if (kept.count.get() == magazine_size) give_magazine(i, kept);
      }
    }
    give_magazine(i, kept);
    for (Slab *s = std::exchange(depot.slabs[i], nullptr), *next; s; s = next) {
      next = s->next;
      const bool gone = is_free(s);
      if (gone) {
        ASAN_UNPOISON_MEMORY_REGION(s, slab_size);
        madvise(s, slab_size, MADV_DONTNEED);
      }
      Slab*& list = gone ? depot.empty : depot.slabs[i];
      s->free = 0;
      s->next = list;
      list = s;
    }
  }
}

}  // namespace
}  // namespace lg
