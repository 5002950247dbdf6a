// embedding.cpp: forward copies rows. Backward gives each chunk a part of the table for its own
// (some columns of some rows) and lets it walk all ids: no two chunks write the same place, and
// each sum is taken in the order of the ids.
#include "lightgrad/kernels/embedding.h"

#include <algorithm>
#include <cstring>

#include "lightgrad/base/parallel.h"
#include "lightgrad/kernels/row_chunks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lightgrad/kernels/embedding.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "lightgrad/kernels/rows-inl.h"

#ifndef LIGHTGRAD_KERNELS_EMBEDDING_TABLE
#define LIGHTGRAD_KERNELS_EMBEDDING_TABLE
namespace lg::kernels {
// Columns [begin, end) of the table's rows whose index is `part` modulo `parts`, a power of two.
template <class T> struct EmbeddingPart {
  const T* g;
  const std::int64_t* ids;
  T* dweight;
  std::int64_t n, width, padding_idx, begin, end, part, parts;
};
}  // namespace lg::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace lg::kernels {
namespace HWY_NAMESPACE {
namespace {

template <class T> HWY_INLINE void AddRows(const EmbeddingPart<T>& e) {
  const Tag<T> d;
  const std::int64_t columns = e.end - e.begin;
  for (std::int64_t i = 0; i < e.n; ++i) {
    const std::int64_t id = e.ids[i];
    if (id == e.padding_idx || (id & (e.parts - 1)) != e.part) continue;
    const T* from = e.g + i * e.width + e.begin;
    T* to = e.dweight + id * e.width + e.begin;
    EachVector(d, columns, [&](int, std::int64_t c, std::int64_t lanes) LIGHTGRAD_LANES {
      StoreLanes(hn::Add(LoadLanes(d, to + c, lanes), LoadLanes(d, from + c, lanes)), d, to + c,
                 lanes);
    });
  }
}

}  // namespace
void EmbeddingAddFloat(const EmbeddingPart<float>& e) { AddRows(e); }
void EmbeddingAddDouble(const EmbeddingPart<double>& e) { AddRows(e); }
}  // namespace HWY_NAMESPACE
}  // namespace lg::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lg::kernels {
HWY_EXPORT(EmbeddingAddFloat);
HWY_EXPORT(EmbeddingAddDouble);

template <class T>
void embedding_forward(const T* weight, const std::int64_t* ids, T* out, std::int64_t n,
                       std::int64_t width) {
  const auto bytes = static_cast<std::size_t>(width) * sizeof(T);
  if (bytes == 0) return;
  parallel_for(n, row_grain(width), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      std::memcpy(out + i * width, weight + ids[i] * width, bytes);
  });
}

template <class T>
void embedding_backward(const T* g, const std::int64_t* ids, T* dweight, std::int64_t n,
                        std::int64_t width, std::int64_t padding_idx) {
  // Stripes of 64 columns (whole cache lines), and where those are few, the rows by their last bits
  // too: up to 8 chunks, if there is work for them. Each chunk reads all ids, so more would cost
  // more than they bring.
  const std::int64_t stripe = n * width <= 16384 ? std::max<std::int64_t>(1, width) : 64;
  const std::int64_t stripes = (width + stripe - 1) / stripe;
  std::int64_t parts = 1;
  while (stripe == 64 && parts * stripes < 8) parts *= 2;
  parallel_chunks(stripes * parts, [&](std::int64_t chunk) {
    const std::int64_t begin = chunk / parts * stripe, end = std::min(begin + stripe, width);
    const EmbeddingPart<T> part{g,     ids, dweight,       n,    width, padding_idx,
                                begin, end, chunk % parts, parts};
    if constexpr (sizeof(T) == sizeof(float)) {
      HWY_DYNAMIC_DISPATCH(EmbeddingAddFloat)(part);
    } else {
      HWY_DYNAMIC_DISPATCH(EmbeddingAddDouble)(part);
    }
  });
}

template <class T>
void embedding_backward_reference(const T* g, const std::int64_t* ids, T* dweight, std::int64_t n,
                                  std::int64_t width, std::int64_t padding_idx) {
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t c = 0; c < width && ids[i] != padding_idx; ++c)
      dweight[ids[i] * width + c] += g[i * width + c];
  }
}

#define LIGHTGRAD_INSTANTIATE(T)                                                                  \
  template void embedding_forward(const T*, const std::int64_t*, T*, std::int64_t, std::int64_t); \
  template void embedding_backward(const T*, const std::int64_t*, T*, std::int64_t, std::int64_t, \
                                   std::int64_t);                                                 \
  template void embedding_backward_reference(const T*, const std::int64_t*, T*, std::int64_t,     \
                                             std::int64_t, std::int64_t);
LIGHTGRAD_INSTANTIATE(float)
LIGHTGRAD_INSTANTIATE(double)
#undef LIGHTGRAD_INSTANTIATE

}  // namespace lg::kernels
#endif  // HWY_ONCE
