// attention_task.h: how attention cuts its work, by shape alone: tasks for threads, blocks for
// caches.
#pragma once

#include <algorithm>
#include <cstdint>

#include "lightgrad/kernels/attention.h"

namespace lg::kernels {

// Queries of a block: whole tiles of 6 (or 3) rows, enough for the products over queries in
// backward.
inline constexpr std::int64_t kQueryBlock = 66;
// Keys of a block: two score buffers of 66 x 256 floats fit L2 beside the panels. A multiple of
// every panel width.
inline constexpr std::int64_t kKeyBlock = 256;

// Queries [begin, end) of batch b, head h; end is a block's end.
struct AttentionTask {
  std::int64_t b, h, begin, end;

  // Keys that any of the queries sees.
  template <class T> std::int64_t KeyEnd(const Attention<T>& a) const {
    return a.causal ? std::min(a.key_len, end) : a.key_len;
  }
  // Index of the head's first query in [batch, heads, query_len].
  template <class T> std::int64_t Row(const Attention<T>& a) const {
    return (b * a.heads + h) * a.query_len;
  }
};

struct Range {
  std::int64_t begin, end;
};

// The task's head in a strided [batch, heads, rows, :].
template <class T> T* At(T* data, const std::int64_t (&stride)[3], const AttentionTask& t) {
  return data + t.b * stride[0] + t.h * stride[1];
}

// Row stride of a score buffer: whole panels, and off the powers of two, whose rows would share a
// few cache sets.
template <class T> std::int64_t ScoreStride(std::int64_t keys) {
  return std::min(kKeyBlock, (keys + 63) / 64 * 64) + 64 / static_cast<std::int64_t>(sizeof(T));
}

}  // namespace lg::kernels
