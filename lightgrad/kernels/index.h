// index.h: reading and writing through integer indices. Moves know the size of an element (1, 2, 4
// or 8 bytes), not its type; sums are for float, double and int64_t (which wraps) and add in index
// order, so their bits never change. Indices are in [0, size): callers use check_indices and
// wrap_negative first.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lightgrad/base/shape.h"

namespace lg::kernels {

// Position of the first index outside [-size, size), or -1.
std::int64_t check_indices(const std::int64_t* index, std::int64_t count, std::int64_t size);
// out[i] = index[i] < 0 ? index[i] + size : index[i]; out may be index.
void wrap_negative(const std::int64_t* index, std::int64_t count, std::int64_t size,
                   std::int64_t* out);

// out[.., i, ..] = x[.., index[.., i, ..], ..] with i at dimension dim. index and out are
// contiguous and have `shape` (rank >= 1); x has the same rank and at least the same sizes except
// along dim.
struct Gather {
  Shape shape;
  int dim;
  Shape x_strides;  // in elements
};
void gather(const Gather& g, std::size_t item_size, const void* x, const std::int64_t* index,
            void* out);

// dst[.., index[.., i, ..], ..] = or += src[.., i, ..]. index is contiguous and has `shape` (rank
// >= 1); src and dst have at least its sizes, dst except along dim. A stride of 0 in src repeats a
// value.
struct Scatter {
  Shape shape;
  int dim;
  Shape dst_strides, src_strides;  // in elements
};
// Of several writes to one place the last in index order wins.
void scatter(const Scatter& s, std::size_t item_size, void* dst, const std::int64_t* index,
             const void* src);
template <class T>
void scatter_add(const Scatter& s, T* dst, const std::int64_t* index, const T* src);

// out[o, i, :] = x[o, index[i], :]; x [outer, n, inner], index [m], out [outer, m, inner].
void index_select(std::size_t item_size, const void* x, const std::int64_t* index, void* out,
                  std::int64_t outer, std::int64_t n, std::int64_t m, std::int64_t inner);
// dst[o, index[i], :] += src[o, i, :]; dst [outer, n, inner], index [m], src [outer, m, inner].
template <class T>
void index_add(T* dst, const std::int64_t* index, const T* src, std::int64_t outer, std::int64_t n,
               std::int64_t m, std::int64_t inner);

std::int64_t count_nonzero(const bool* x, std::int64_t count);
// Coordinates of what is true in contiguous x, in row-major order: out [count_nonzero, rank]. With
// shape {numel}: flat positions.
void nonzero(const bool* x, const Shape& shape, std::int64_t* out);

}  // namespace lg::kernels
