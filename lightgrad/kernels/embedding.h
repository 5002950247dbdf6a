// embedding.h: rows of a table by index, and the sum of gradients back into the table.
#pragma once

#include <cstdint>

namespace lg::kernels {

// out[i, :] = weight[ids[i], :]; weight [vocab, width], ids [n] in [0, vocab) (checked by the
// caller), out [n, width].
template <class T>
void embedding_forward(const T* weight, const std::int64_t* ids, T* out, std::int64_t n,
                       std::int64_t width);

// dweight[ids[i], :] += g[i, :] for i in rising order, so the bits do not depend on the threads;
// ids equal to padding_idx add nothing (-1: none is). g [n, width], dweight [vocab, width].
template <class T>
void embedding_backward(const T* g, const std::int64_t* ids, T* dweight, std::int64_t n,
                        std::int64_t width, std::int64_t padding_idx);

// The same by plain loops.
template <class T>
void embedding_backward_reference(const T* g, const std::int64_t* ids, T* dweight, std::int64_t n,
                                  std::int64_t width, std::int64_t padding_idx);

}  // namespace lg::kernels
