// memory.cpp: the allocator behind memory.h.
#include "lightgrad/base/memory.h"

#include <atomic>
#include <cstdlib>

#include "lightgrad/base/error.h"

namespace lg {
namespace {
std::atomic<std::int64_t> current{0}, peak{0}, allocations{0};
}  // namespace

void* allocate(std::size_t bytes) {
  const std::size_t size = (bytes + 63) / 64 * 64;
  void* block = size < bytes ? nullptr : std::aligned_alloc(64, size ? size : 64);
  if (!block) fail(ErrorKind::memory, "out of memory", "asked for ", bytes, " bytes");
  const auto now = current.fetch_add(static_cast<std::int64_t>(bytes)) + static_cast<std::int64_t>(bytes);
  auto top = peak.load();
  while (now > top && !peak.compare_exchange_weak(top, now)) {
  }
  ++allocations;
  return block;
}

void deallocate(void* block, std::size_t bytes) noexcept {
  current -= static_cast<std::int64_t>(bytes);
  std::free(block);
}

MemoryStats memory_stats() { return {current, peak, 0, allocations, allocations}; }
void reset_peak_memory() { peak = current.load(); }
void trim_memory() {}

}  // namespace lg
