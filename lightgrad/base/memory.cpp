// memory.cpp: three ways to a block.
//   tiny (<= 1 KiB, in steps of 64): per-thread magazines, no lock and no atomic read-modify-write
//   on the fast path;
//     full magazines travel through a global depot; blocks are carved from 64 KiB slabs.
//   large: size classes with 8 steps between powers of two (at most 1/8 of waste) in one cache
//   under a mutex;
//     from 2 MiB on blocks are mapped on huge pages.
//   LIGHTGRAD_MEMORY_CACHE=0, the default under AddressSanitizer: straight to the system, so that
//   the sanitizer
//     sees each block.
// All state is plain static data or lives in memory of our own, so blocks may be freed while
// thread-locals and statics are being destroyed.
#include "lightgrad/base/memory.h"

#include <pthread.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <mutex>
#include <type_traits>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "lightgrad/base/memory_system-inl.h"
#include "lightgrad/base/memory_tiny-inl.h"

namespace lg {
namespace {

// Sizes (8 + k) << e, k in 1 .. 8: with n = bytes - 1, its leading one and the next three bits name
// the class.
constexpr int shift_of(std::size_t bytes) {
  return static_cast<int>(std::bit_width(bytes - 1)) - 4;
}
constexpr std::size_t size_of_large(std::size_t bytes) {
  return (((bytes - 1) >> shift_of(bytes)) + 1) << shift_of(bytes);
}
constexpr int class_of_large(std::size_t bytes) {
  return (shift_of(bytes) - shift_of(tiny_limit + 1)) * 8 +
         static_cast<int>((bytes - 1) >> shift_of(bytes)) - 8;
}
constexpr int large_classes = class_of_large(most_bytes) + 1;
static_assert(class_of_large(tiny_limit + 1) == 0 && size_of_large(1025) == 1152 &&
              size_of_large(4096) == 4096);

struct Large {
  std::mutex mutex;
  Block* classes[large_classes] =
      {};  // the last freed first: its bytes may still be in the CPU's cache
  Block *newest = nullptr, *oldest = nullptr;
  std::size_t cached = 0, in_use = 0, highest = 0;  // bytes of the classes

  // By default the program never holds more than a quarter (and 64 MiB) above what it once needed:
  // the steps of a training loop then find all their blocks, and blocks of sizes that are gone do
  // not pile up.
  bool over_limit() const {
    const std::size_t limit = cache_limit();
    return limit != SIZE_MAX ? cached > limit
                             : in_use + cached > highest + highest / 4 + (64 << 20);
  }
  void push(Block* b, std::size_t size) {
    Block*& head = classes[class_of_large(size)];
    *b = {head, nullptr, nullptr, newest, size};
    if (head) head->previous = b;
    (newest ? newest->newer : oldest) = b;
    head = newest = b;
    cached += size;
  }
  void remove(Block* b) {
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
  if (Cache* c = cache)
    publish(*c, bytes);
  else
    totals.all.add(bytes, 0);
}

// What serves nothing in particular: all that is none of the other uses.
std::int64_t other_bytes() {
  std::int64_t bytes = totals.all.current.load(std::memory_order_relaxed);
  for (std::size_t i = 1; i < memory_uses; ++i)
    bytes -= totals.uses[i].current.load(std::memory_order_relaxed);
  return bytes;
}

// Frees the oldest blocks while `unwanted`, each outside the mutex: to unmap is slow.
template <class Unwanted> void release_while(Unwanted unwanted) {
  while (true) {
    std::unique_lock lock(large.mutex);
    Block* b = large.oldest;
    if (!b || !unwanted()) return;
    large.remove(b);
    lock.unlock();
    system_free(b, b->size);
  }
}

void keep_limit(std::size_t bytes) {
  const std::int64_t limit = most.load(std::memory_order_relaxed);
  if (limit == 0) return;
  if (cache) publish(*cache, 0);
  const std::int64_t left = limit - totals.all.current.load(std::memory_order_relaxed);
  const bool fits = left >= 0 && bytes <= static_cast<std::size_t>(left);
  const std::size_t may_stay = fits ? static_cast<std::size_t>(left) - bytes : 0;
  release_while([=] { return large.cached > may_stay; });
  if (fits) return;
  trim_tiny();
  fail_out_of_memory(bytes);
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
  try {
    keep_limit(bytes);
    if (!b) {
      b = static_cast<Block*>(
          or_trim(bytes, [=] { return bytes <= most_bytes ? system_allocate(size) : nullptr; }));
      add(totals.system_allocations, 1);
    }
  } catch (...) {
    const std::lock_guard lock(large.mutex);
    if (bytes <= most_bytes) large.in_use -= size;
    if (b) large.push(b, size);
    throw;
  }
  count_large(static_cast<std::int64_t>(bytes));
  totals.uses[0].raise_peak(other_bytes());
  add(totals.allocations, 1);
  return hand_out(b, bytes);
}

[[gnu::noinline]] void deallocate_large(void* block, std::size_t bytes) {
  if (direct()) return deallocate_direct(block, bytes);
  count_large(-static_cast<std::int64_t>(bytes));
  const std::size_t size = size_of_large(bytes);
  ASAN_POISON_MEMORY_REGION(static_cast<Block*>(block) + 1, size - sizeof(Block));
  bool over;
  {
    const std::lock_guard lock(large.mutex);
    large.in_use -= size;
    large.push(static_cast<Block*>(block), size);
    over = large.over_limit();
  }
  if (over) release_while([] { return large.over_limit(); });
}

// A fork while another thread holds a mutex would leave it locked in the child, so the forking
// thread takes both. The child has none of the other threads: what their magazines hold is lost to
// it, a few hundred blocks each.
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
        publish_uses(*c);
        for (auto& m : c->current) m = {};
        for (auto& m : c->spare) m = {};
        c->in_use = false;
      }
      large.mutex.unlock();
      depot.mutex.unlock();
    });

}  // namespace

void* allocate(std::size_t bytes) {
  if (bytes > tiny_limit) [[unlikely]]
    return allocate_large(bytes);
  const int i = class_of_tiny(bytes);
  if (Cache* c = cache; c && c->current[i].head) [[likely]]
    return take(*c, i, bytes);
  return allocate_tiny(i, bytes);
}

void deallocate(void* block, std::size_t bytes) noexcept {
  if (bytes > tiny_limit) [[unlikely]]
    return deallocate_large(block, bytes);
  const int i = class_of_tiny(bytes);
  if (Cache* c = cache; c && c->current[i].count.get() < magazine_size) [[likely]]
    return put(*c, i, block, bytes);
  deallocate_tiny(block, i, bytes);
}

void count_use(MemoryUse use, std::int64_t bytes) noexcept {
  Total& total = totals.uses[static_cast<std::size_t>(use)];
  Cache* c = cache;
  if (!c) return total.add(bytes, 0);
  Tally& own = c->uses[static_cast<std::size_t>(use)];
  if (std::abs(bytes) <= static_cast<std::int64_t>(tiny_limit)) return own.add(bytes);
  own.publish(total, bytes);
}

LIGHTGRAD_UNCHECKED MemoryStats memory_stats() {
  if (cache) {
    publish(*cache, 0);
    publish_uses(*cache);
  }
  MemoryStats s;
  {
    const std::lock_guard lock(depot.mutex);
    const auto count = [&](const Cache& c) {
      for (int i = 0; i < tiny_classes; ++i) {
        s.cached += (c.current[i].count.get() + c.spare[i].count.get()) *
                    static_cast<std::int64_t>(size_of_tiny(i));
      }
      s.current += c.all.bytes.get() - c.all.published.get();
      for (std::size_t i = 1; i < memory_uses; ++i)
        s.uses[i].current += c.uses[i].bytes.get() - c.uses[i].published.get();
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
  s.current += totals.all.current.load(std::memory_order_relaxed);
  s.peak = std::max(totals.all.peak.load(std::memory_order_relaxed), s.current);
  s.uses[0].current = s.current;
  for (std::size_t i = 1; i < memory_uses; ++i) {
    s.uses[i].current += totals.uses[i].current.load(std::memory_order_relaxed);
    s.uses[0].current -= s.uses[i].current;
  }
  for (std::size_t i = 0; i < memory_uses; ++i) {
    s.uses[i].peak =
        std::max(totals.uses[i].peak.load(std::memory_order_relaxed), s.uses[i].current);
  }
  s.allocations += totals.allocations.load(std::memory_order_relaxed);
  s.system_allocations = totals.system_allocations.load(std::memory_order_relaxed);
  return s;
}

void reset_peak_memory() {
  const MemoryStats now = memory_stats();
  totals.all.peak.store(now.current, std::memory_order_relaxed);
  for (std::size_t i = 0; i < memory_uses; ++i)
    totals.uses[i].peak.store(now.uses[i].current, std::memory_order_relaxed);
}

void reset_total_peak_memory() {
  totals.all.peak.store(memory_stats().current, std::memory_order_relaxed);
}

void raise_peak_memory(std::int64_t at_least) { totals.all.raise_peak(at_least); }

void set_memory_limit(std::int64_t bytes) {
  if (bytes < 0)
    fail(ErrorKind::value, "memory limit", "got ", bytes, " bytes, expected a number from 0 up");
  most.store(bytes, std::memory_order_relaxed);
}

std::int64_t memory_limit() { return most.load(std::memory_order_relaxed); }

void set_memory_holders(std::string (*describe)()) { describe_holders = describe; }

std::string_view name_of(MemoryUse use) {
  constexpr std::string_view names[] = {"other", "parameters", "gradients", "optimizer",
                                        "activations"};
  static_assert(std::size(names) == memory_uses);
  return names[static_cast<std::size_t>(use)];
}

void trim_memory() {
  release_while([] { return true; });
  trim_tiny();
#if defined(__GLIBC__) && !defined(LIGHTGRAD_ASAN)
  malloc_trim(0);
#endif
}

}  // namespace lg
