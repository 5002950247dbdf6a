// memory.h: the caching allocator. Blocks are 64-byte aligned; freed blocks are kept and handed out
// again, because fresh pages cost more than many kernels.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lg {

// At least `bytes` bytes (0 is allowed), aligned to 64. Throws Error(ErrorKind::memory) after
// having given the cache back to the system; the library stays usable.
void* allocate(std::size_t bytes);
// `bytes` as given to allocate. Safe from any thread, and while thread-locals are being destroyed.
void deallocate(void* block, std::size_t bytes) noexcept;

struct MemoryStats {
  std::int64_t current = 0;             // bytes handed out now
  std::int64_t peak = 0;                // the most since start or reset_peak
  std::int64_t cached = 0;              // bytes kept for reuse
  std::int64_t allocations = 0;         // calls of allocate
  std::int64_t system_allocations = 0;  // those that asked the operating system
};
MemoryStats memory_stats();
void reset_peak_memory();
// As if `current` had been this high once: what a measurement with reset_peak_memory puts back.
void raise_peak_memory(std::int64_t at_least);
// Gives every cached block back to the operating system.
void trim_memory();

}  // namespace lg
