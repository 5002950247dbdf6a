// memory.cpp: three ways to a block.
//   tiny (<= 1 KiB, in steps of 64): per-thread magazines, no lock and no atomic read-modify-write on the fast path;
//     full magazines travel through a global depot; blocks are carved from 64 KiB slabs.
//   large: size classes with 8 steps between powers of two (at most 1/8 of waste) in one cache under a mutex;
//     from 2 MiB on blocks are mapped on huge pages.
//   LIGHTGRAD_MEMORY_CACHE=0, the default under AddressSanitizer: straight to the system, so that the sanitizer
//     sees each block.
// All state is plain static data or lives in memory of our own, so blocks may be freed while thread-locals and
// statics are being destroyed.
#include "lightgrad/base/memory.h"

#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <charconv>
#include <cstdlib>
#include <mutex>
#include <new>
#include <string_view>
#include <type_traits>
#include <utility>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define LIGHTGRAD_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LIGHTGRAD_ASAN 1
#endif
#endif
#ifdef LIGHTGRAD_ASAN
#include <sanitizer/asan_interface.h>
#define LIGHTGRAD_UNCHECKED [[gnu::no_sanitize_address]]
#else
#define LIGHTGRAD_UNCHECKED
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

#include "lightgrad/base/error.h"

namespace lg {
namespace {

constexpr std::size_t alignment = 64, tiny_limit = 1024, slab_size = 64 << 10, huge_page = 2 << 20;
#ifdef LIGHTGRAD_ASAN
constexpr std::size_t most_bytes = std::size_t{1} << 39;  // AddressSanitizer aborts from 2^40 on
#else
constexpr std::size_t most_bytes = std::size_t{1} << 47;  // no address space holds more
#endif
constexpr int tiny_classes = tiny_limit / alignment;
constexpr int magazine_size = 64;

// A free block links itself through its first bytes. It is poisoned as a whole, so that AddressSanitizer catches its
// former users; only the functions marked LIGHTGRAD_UNCHECKED touch it.
struct Block {
  Block* next;       // within a magazine or a large class
  Block* previous;   // large: within its class
  Block* newer;      // large: by time of freeing; tiny: the next magazine of the depot
  Block* older;      // large: likewise
  std::size_t size;  // large: bytes; tiny: blocks of the depot's magazine that begins here
};
static_assert(sizeof(Block) <= alignment);

void* hand_out(Block* b, std::size_t bytes) {
  ASAN_UNPOISON_MEMORY_REGION(b, bytes);
  return b;
}

// ---- statistics: bytes are those asked for, not those of the class ----

struct Totals {
  std::atomic<std::int64_t> current{0}, peak{0}, allocations{0}, system_allocations{0};
};
constinit Totals totals;

void add(std::atomic<std::int64_t>& counter, std::int64_t n) { counter.fetch_add(n, std::memory_order_relaxed); }

// A counter written by its owner alone and read by anybody: plain moves on the fast path.
class Counter {
 public:
  constexpr Counter() = default;
  Counter(const Counter& other) : value_(other.get()) {}
  Counter& operator=(const Counter& other) {
    set(other.get());
    return *this;
  }
  std::int64_t get() const { return value_.load(std::memory_order_relaxed); }
  void set(std::int64_t v) { value_.store(v, std::memory_order_relaxed); }

 private:
  std::atomic<std::int64_t> value_{0};
};

// `rise`: how far above the old total this thread has been since it last spoke.
void add_current(std::int64_t delta, std::int64_t rise) {
  const std::int64_t before = totals.current.fetch_add(delta, std::memory_order_relaxed);
  const std::int64_t top = before + std::max(delta, rise);
  auto peak = totals.peak.load(std::memory_order_relaxed);
  while (peak < top && !totals.peak.compare_exchange_weak(peak, top, std::memory_order_relaxed)) {
  }
}

// ---- the system ----

std::size_t cache_limit() {  // SIZE_MAX: not given
  static const std::size_t limit = [] {
    std::size_t bytes = SIZE_MAX;
#ifdef LIGHTGRAD_ASAN
    bytes = 0;
#endif
    if (const char* variable = std::getenv("LIGHTGRAD_MEMORY_CACHE"); variable && *variable) {
      const std::string_view value = variable;
      const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), bytes);
      if (error != std::errc() || end != value.data() + value.size()) {
        fail(ErrorKind::value, "LIGHTGRAD_MEMORY_CACHE", "got \"", value, "\", expected a number of bytes");
      }
    }
    return bytes;
  }();
  return limit;
}
bool direct() { return cache_limit() == 0; }

// A mapping whose address is a multiple of a huge page, or null.
void* map_aligned(std::size_t size, bool huge) {
  void* raw = mmap(nullptr, size + huge_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) return nullptr;
  const auto start = reinterpret_cast<std::uintptr_t>(raw);
  const auto aligned = (start + huge_page - 1) & ~(huge_page - 1);
  if (aligned > start) munmap(raw, aligned - start);
  if (aligned < start + huge_page) munmap(reinterpret_cast<void*>(aligned + size), start + huge_page - aligned);
  void* block = reinterpret_cast<void*>(aligned);
#ifdef MADV_HUGEPAGE
  if (huge) madvise(block, size, MADV_HUGEPAGE);
#endif
  return block;
}

void* system_allocate(std::size_t size) {
  if (size < huge_page || direct()) return std::aligned_alloc(alignment, size);
  return map_aligned(size, true);
}
void system_free(void* block, std::size_t size) {
  ASAN_UNPOISON_MEMORY_REGION(block, size);
  if (size < huge_page || direct()) std::free(block);
  else munmap(block, size);
}

// Tries, trims, tries again, gives up.
template <class Get>
void* or_trim(std::size_t bytes, Get get) {
  void* block = get();
  if (!block) {
    trim_memory();
    block = get();
  }
  if (!block) {
    fail(ErrorKind::memory, "out of memory", "asked for ", bytes, " bytes, ", memory_stats().current,
         " in use, and the cache has been given back");
  }
  return block;
}

// ---- tiny blocks ----

struct Magazine {
  Block* head = nullptr;
  Counter count;
};

// What one thread holds. Made from memory of our own and used again by later threads, so that a forked child may
// look at those of threads that it does not have.
struct Cache {
  // Two of each, so that a program that goes to and fro over the edge of one does not always meet the depot.
  Magazine current[tiny_classes], spare[tiny_classes];
  Counter bytes;        // handed out less taken back, by this thread; below zero for one that frees for others
  Counter published;    // the part of `bytes` that is in totals.current
  Counter highest;      // the most that `bytes` was since then
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

// The depot: what the threads' magazines are filled from. Its mutex is also that of the list of caches.
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

constexpr int class_of_tiny(std::size_t bytes) { return static_cast<int>((bytes - (bytes != 0)) / alignment); }
constexpr std::size_t size_of_tiny(int c) { return static_cast<std::size_t>(c + 1) * alignment; }

// Moves a thread's counts to the totals, together with `extra` bytes of large blocks. In between, this thread's large
// blocks did not change, so the peak is exact for one thread, and near for several.
void publish(Cache& c, std::int64_t extra) {
  const std::int64_t bytes = c.bytes.get(), published = c.published.get();
  add_current(bytes - published + extra, c.highest.get() - published);
  add(totals.allocations, c.allocations.get());
  c.allocations.set(0);
  c.published.set(bytes);
  c.highest.set(bytes);
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
      // The first chunk stays on small pages: a small program should not wait for 2 MiB to be cleared.
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
  const std::int64_t now = c.bytes.get() + static_cast<std::int64_t>(bytes);
  c.bytes.set(now);
  if (now > c.highest.get()) c.highest.set(now);
  c.allocations.set(c.allocations.get() + 1);
  return hand_out(b, bytes);
}

LIGHTGRAD_UNCHECKED inline void put(Cache& c, int i, void* block, std::size_t bytes) {
  Magazine& m = c.current[i];
  auto* b = static_cast<Block*>(block);
  b->next = m.head;
  m.head = b;
  m.count.set(m.count.get() + 1);
  c.bytes.set(c.bytes.get() - static_cast<std::int64_t>(bytes));
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

// A pthread key rather than a thread_local object tells of a thread's end: its destructor runs after those of all
// thread_locals, allocates nothing, and is not run by exit(), so that the main thread's cache outlives the statics.
struct ThreadEnd {
  ThreadEnd() { pthread_key_create(&key, retire); }
  ~ThreadEnd() { pthread_key_delete(key); }
  static void retire(void*) {
    thread_is_ending = true;
    Cache* c = std::exchange(cache, nullptr);
    const std::lock_guard lock(depot.mutex);
    give_all(*c);
    publish(*c, 0);
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
    void* place = std::aligned_alloc(alignment, (sizeof(Cache) + alignment - 1) / alignment * alignment);
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
  void* block = or_trim(bytes, [=]() -> void* {
    if (bytes > most_bytes) return nullptr;
    return std::aligned_alloc(alignment, std::max((bytes + alignment - 1) / alignment * alignment, alignment));
  });
  add_current(static_cast<std::int64_t>(bytes), 0);
  add(totals.allocations, 1);
  add(totals.system_allocations, 1);
  return block;
}

void deallocate_direct(void* block, std::size_t bytes) {
  add_current(-static_cast<std::int64_t>(bytes), 0);
  std::free(block);
}

[[gnu::noinline]] void* allocate_tiny(int i, std::size_t bytes) {
  if (direct()) return allocate_direct(bytes);
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

// Slabs whose blocks all lie in the depot go back to the system; their addresses stay ours, for any class.
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
    for (Block *m = std::exchange(depot.magazines[i], nullptr), *next_magazine; m; m = next_magazine) {
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

// ---- large blocks ----

// Sizes (8 + k) << e, k in 1 .. 8: with n = bytes - 1, its leading one and the next three bits name the class.
constexpr int shift_of(std::size_t bytes) { return static_cast<int>(std::bit_width(bytes - 1)) - 4; }
constexpr std::size_t size_of_large(std::size_t bytes) {
  return (((bytes - 1) >> shift_of(bytes)) + 1) << shift_of(bytes);
}
constexpr int class_of_large(std::size_t bytes) {
  return (shift_of(bytes) - shift_of(tiny_limit + 1)) * 8 + static_cast<int>((bytes - 1) >> shift_of(bytes)) - 8;
}
constexpr int large_classes = class_of_large(most_bytes) + 1;
static_assert(class_of_large(tiny_limit + 1) == 0 && size_of_large(1025) == 1152 && size_of_large(4096) == 4096);

struct Large {
  std::mutex mutex;
  Block* classes[large_classes] = {};  // the last freed first: its bytes may still be in the CPU's cache
  Block *newest = nullptr, *oldest = nullptr;
  std::size_t cached = 0, in_use = 0, highest = 0;  // bytes of the classes

  // By default the program never holds more than a quarter (and 64 MiB) above what it once needed: the steps of
  // a training loop then find all their blocks, and blocks of sizes that are gone do not pile up.
  bool over_limit() const {
    const std::size_t limit = cache_limit();
    return limit != SIZE_MAX ? cached > limit : in_use + cached > highest + highest / 4 + (64 << 20);
  }
  LIGHTGRAD_UNCHECKED void push(Block* b, std::size_t size) {
    Block*& head = classes[class_of_large(size)];
    *b = {head, nullptr, nullptr, newest, size};
    if (head) head->previous = b;
    (newest ? newest->newer : oldest) = b;
    head = newest = b;
    cached += size;
  }
  LIGHTGRAD_UNCHECKED void remove(Block* b) {
    if (b->next) b->next->previous = b->previous;
    (b->previous ? b->previous->next : classes[class_of_large(b->size)]) = b->next;
    (b->newer ? b->newer->older : newest) = b->older;
    (b->older ? b->older->newer : oldest) = b->newer;
    cached -= b->size;
  }
};
constinit Large large;
static_assert(std::is_trivially_destructible_v<Depot> && std::is_trivially_destructible_v<Large>);

void count_large(std::int64_t bytes) {
  if (Cache* c = cache) publish(*c, bytes);
  else add_current(bytes, 0);
}

// Frees the oldest blocks while `unwanted`, each outside the mutex: to unmap is slow.
template <class Unwanted>
LIGHTGRAD_UNCHECKED void release_while(Unwanted unwanted) {
  while (true) {
    std::unique_lock lock(large.mutex);
    Block* b = large.oldest;
    if (!b || !unwanted()) return;
    large.remove(b);
    lock.unlock();
    system_free(b, b->size);
  }
}

[[gnu::noinline]] void* allocate_large(std::size_t bytes) {
  if (direct()) return allocate_direct(bytes);
  const std::size_t size = bytes <= most_bytes ? size_of_large(bytes) : bytes;
  Block* b = nullptr;
  if (bytes <= most_bytes) {
    const std::lock_guard lock(large.mutex);
    b = large.classes[class_of_large(bytes)];
    if (b) large.remove(b);
    large.in_use += size;
    large.highest = std::max(large.highest, large.in_use);
  }
  if (!b) {
    try {
      b = static_cast<Block*>(or_trim(bytes, [=] { return bytes <= most_bytes ? system_allocate(size) : nullptr; }));
    } catch (...) {
      const std::lock_guard lock(large.mutex);
      if (bytes <= most_bytes) large.in_use -= size;
      throw;
    }
    add(totals.system_allocations, 1);
  }
  count_large(static_cast<std::int64_t>(bytes));
  add(totals.allocations, 1);
  return hand_out(b, bytes);
}

[[gnu::noinline]] void deallocate_large(void* block, std::size_t bytes) {
  if (direct()) return deallocate_direct(block, bytes);
  count_large(-static_cast<std::int64_t>(bytes));
  const std::size_t size = size_of_large(bytes);
  ASAN_POISON_MEMORY_REGION(block, size);
  bool over;
  {
    const std::lock_guard lock(large.mutex);
    large.in_use -= size;
    large.push(static_cast<Block*>(block), size);
    over = large.over_limit();
  }
  if (over) release_while([] { return large.over_limit(); });
}

// A fork while another thread holds a mutex would leave it locked in the child, so the forking thread takes both.
// The child has none of the other threads: what their magazines hold is lost to it, a few hundred blocks each.
[[maybe_unused]] const int fork_handlers = pthread_atfork(
    [] {
      depot.mutex.lock();
      large.mutex.lock();
    },
    [] {
      large.mutex.unlock();
      depot.mutex.unlock();
    },
    [] {
      for (Cache* c = depot.caches; c; c = c->next) {
        if (!c->in_use || c == cache) continue;
        publish(*c, 0);
        for (auto& m : c->current) m = {};
        for (auto& m : c->spare) m = {};
        c->in_use = false;
      }
      large.mutex.unlock();
      depot.mutex.unlock();
    });

}  // namespace

void* allocate(std::size_t bytes) {
  if (bytes > tiny_limit) [[unlikely]] return allocate_large(bytes);
  const int i = class_of_tiny(bytes);
  if (Cache* c = cache; c && c->current[i].head) [[likely]] return take(*c, i, bytes);
  return allocate_tiny(i, bytes);
}

void deallocate(void* block, std::size_t bytes) noexcept {
  if (bytes > tiny_limit) [[unlikely]] return deallocate_large(block, bytes);
  const int i = class_of_tiny(bytes);
  if (Cache* c = cache; c && c->current[i].count.get() < magazine_size) [[likely]] return put(*c, i, block, bytes);
  deallocate_tiny(block, i, bytes);
}

LIGHTGRAD_UNCHECKED MemoryStats memory_stats() {
  if (cache) publish(*cache, 0);
  MemoryStats s;
  {
    const std::lock_guard lock(depot.mutex);
    const auto count = [&](const Cache& c) {
      for (int i = 0; i < tiny_classes; ++i) {
        s.cached += (c.current[i].count.get() + c.spare[i].count.get()) * static_cast<std::int64_t>(size_of_tiny(i));
      }
      s.current += c.bytes.get() - c.published.get();
      s.allocations += c.allocations.get();
    };
    for (const Cache* c = depot.caches; c; c = c->next) count(*c);
    count(depot.orphan);
    for (int i = 0; i < tiny_classes; ++i) {
      for (const Block* m = depot.magazines[i]; m; m = m->newer) {
        s.cached += static_cast<std::int64_t>(m->size * size_of_tiny(i));
      }
    }
  }
  {
    const std::lock_guard lock(large.mutex);
    s.cached += static_cast<std::int64_t>(large.cached);
  }
  s.current += totals.current.load(std::memory_order_relaxed);
  s.peak = std::max(totals.peak.load(std::memory_order_relaxed), s.current);
  s.allocations += totals.allocations.load(std::memory_order_relaxed);
  s.system_allocations = totals.system_allocations.load(std::memory_order_relaxed);
  return s;
}

void reset_peak_memory() {
  totals.peak.store(memory_stats().current, std::memory_order_relaxed);
}

void trim_memory() {
  release_while([] { return true; });
  trim_tiny();
#if defined(__GLIBC__) && !defined(LIGHTGRAD_ASAN)
  malloc_trim(0);
#endif
}

}  // namespace lg
