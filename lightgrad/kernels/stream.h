// stream.h: stores that pass the caches by. A result larger than the last-level cache is not there
// any more when it is read; stored in the plain way, each of its lines would first be read from
// memory, half as much traffic again for x + 1.
#pragma once

#include <cstdint>

namespace lg::kernels {

// Results of this size are streamed: the L3 that a core of today's servers and desktops sees holds
// 16 to 36 MiB.
inline constexpr std::int64_t kStreamBytes = std::int64_t{32} << 20;

// Copies what was computed in L1 to where it belongs. After the last piece of a chunk stream_fence,
// before another thread reads it.
void stream_copy(void* to, const void* from, std::int64_t bytes);
void stream_fence();

}  // namespace lg::kernels
