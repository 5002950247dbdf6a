// memory.h: the caching allocator. Blocks are 64-byte aligned; freed blocks are kept and handed out
// again, because fresh pages cost more than many kernels.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lg {

// At least `bytes` bytes (0 is allowed), aligned to 64. Throws Error(ErrorKind::memory) after
// having given the cache back to the system, with what memory serves and who holds most of it; the
// library stays usable.
void* allocate(std::size_t bytes);
// `bytes` as given to allocate. Safe from any thread, and while thread-locals are being destroyed.
void deallocate(void* block, std::size_t bytes) noexcept;

// What a tensor's memory serves. All of it begins as `other`; what is learnt later is counted from
// then until the memory is freed.
enum class MemoryUse : std::uint8_t {
  other,       // what is none of those below: inputs, intermediate results, scratch
  parameter,   // a leaf that wants a gradient
  gradient,    // a leaf's grad
  optimizer,   // an optimizer's state
  activation,  // a graph keeps, or kept, it for its backward pass
};
inline constexpr std::size_t memory_uses = 5;
std::string_view name_of(MemoryUse use);  // "other", "parameters", "gradients", ...

struct MemoryStats {
  struct Use {
    std::int64_t current = 0, peak = 0;
  };
  std::int64_t current = 0;             // bytes handed out now
  std::int64_t peak = 0;                // the most since start or reset_peak
  std::int64_t cached = 0;              // bytes kept for reuse
  std::int64_t allocations = 0;         // calls of allocate
  std::int64_t system_allocations = 0;  // those that asked the operating system
  // By MemoryUse; `current` adds up to the one above, the peaks are those of different moments.
  std::array<Use, memory_uses> uses;
};
MemoryStats memory_stats();
void reset_peak_memory();
// Only the peak of all memory, for a measurement that puts it back: it begins again, and is then as
// if `current` had been this high once.
void reset_total_peak_memory();
void raise_peak_memory(std::int64_t at_least);
// Gives every cached block back to the operating system.
void trim_memory();

// The most that `current` may be, 0 for no limit. An allocation that would bring `current` and
// `cached` above it gives blocks of the cache back; one that would bring `current` alone above it
// throws like any that finds no memory. Blocks of at most 1 KiB are counted, but refused only when
// their thread needs a new lot of them; and threads that allocate at the same moment may pass the
// limit by a block each. ValueError below 0.
void set_memory_limit(std::int64_t bytes);
std::int64_t memory_limit();

// `bytes` of what is allocated now serve `use` (less than 0: no longer). For Storage.
void count_use(MemoryUse use, std::int64_t bytes) noexcept;
// What errors say of those who hold most memory. For Storage.
void set_memory_holders(std::string (*describe)());

// For containers that come and go with every operation: a std::vector with this takes its memory
// from here, not from the system.
template <class T> struct PoolAllocator {
  using value_type = T;
  PoolAllocator() = default;
  template <class U> constexpr PoolAllocator(const PoolAllocator<U>&) noexcept {}
  T* allocate(std::size_t n) { return static_cast<T*>(lg::allocate(n * sizeof(T))); }
  void deallocate(T* p, std::size_t n) noexcept { lg::deallocate(p, n * sizeof(T)); }
  template <class U> bool operator==(const PoolAllocator<U>&) const noexcept { return true; }
};
template <class T> using PoolVector = std::vector<T, PoolAllocator<T>>;

}  // namespace lg
