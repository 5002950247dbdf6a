// memory_system-inl.h: part of memory.cpp, included by nobody else: what the allocator asks of the
// system, its counters and its settings.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "lightgrad/base/error.h"
#include "lightgrad/base/memory.h"
#include "lightgrad/base/table.h"

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

// A free block links itself through its first bytes. It is poisoned, so that AddressSanitizer
// catches its former users: a tiny one as a whole (only functions marked LIGHTGRAD_UNCHECKED touch
// it), a large one after the links, which the leak check has to see.
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

// Statistics: bytes are those asked for, not those of the class.

struct Total {
  std::atomic<std::int64_t> current{0}, peak{0};

  void raise_peak(std::int64_t top) {
    auto before = peak.load(std::memory_order_relaxed);
    while (before < top && !peak.compare_exchange_weak(before, top, std::memory_order_relaxed)) {}
  }
  // `rise`: how far above the old total this thread has been since it last spoke.
  void add(std::int64_t delta, std::int64_t rise) {
    const std::int64_t before = current.fetch_add(delta, std::memory_order_relaxed);
    raise_peak(before + std::max(delta, rise));
  }
};
struct Totals {
  Total all, uses[memory_uses];  // uses[0], other, has a peak only: the rest follows
  std::atomic<std::int64_t> allocations{0}, system_allocations{0};
};
constinit Totals totals;

void add(std::atomic<std::int64_t>& counter, std::int64_t n) {
  counter.fetch_add(n, std::memory_order_relaxed);
}

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
        fail(ErrorKind::value, "LIGHTGRAD_MEMORY_CACHE", "got \"", value,
             "\", expected a number of bytes");
      }
    }
    return bytes;
  }();
  return limit;
}
bool direct() { return cache_limit() == 0; }

// A mapping whose address is a multiple of a huge page, or null.
void* map_aligned(std::size_t size, bool huge) {
  void* raw =
      mmap(nullptr, size + huge_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) return nullptr;
  const auto start = reinterpret_cast<std::uintptr_t>(raw);
  const auto aligned = (start + huge_page - 1) & ~(huge_page - 1);
  if (aligned > start) munmap(raw, aligned - start);
  if (aligned < start + huge_page)
    munmap(reinterpret_cast<void*>(aligned + size), start + huge_page - aligned);
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
  if (size < huge_page || direct())
    std::free(block);
  else
    munmap(block, size);
}

constinit std::atomic<std::int64_t> most{0};  // of the limit; 0: none
constinit std::atomic<std::string (*)()> describe_holders{nullptr};

// Gives the cache back as far as the limit asks for, before `bytes` more are handed out.
void keep_limit(std::size_t bytes);

[[noreturn]] void fail_out_of_memory(std::size_t bytes) {
  const MemoryStats s = memory_stats();
  std::string what = text("asked for ", bytes, " bytes, ", s.current, " in use");
  if (const std::int64_t limit = memory_limit()) what += text(" of a limit of ", limit);
  what += ", and the cache has been given back";
  const char* before = ". In use: ";
  for (std::size_t i = memory_uses; i-- > 0; before = ", ") {
    const auto use = static_cast<double>(s.uses[i].current);
    what += text(before, name_of(static_cast<MemoryUse>(i)), " ", with_unit(use, "B"));
  }
  if (const auto describe = describe_holders.load(std::memory_order_relaxed)) what += describe();
  fail(ErrorKind::memory, "out of memory", what);
}

// Tries, trims, tries again, gives up.
template <class Get> void* or_trim(std::size_t bytes, Get get) {
  void* block = get();
  if (!block) {
    trim_memory();
    block = get();
  }
  if (!block) fail_out_of_memory(bytes);
  return block;
}

}  // namespace
}  // namespace lg
