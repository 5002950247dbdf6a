// pool.cpp: plain loops, which the compiler vectorises along rows: a pass over memory each, beside
// the convolutions around them. Planes are independent, so the threads share those.
#include "lightgrad/kernels/pool.h"

#include <algorithm>
#include <cmath>

#include "lightgrad/base/parallel.h"
#include "lightgrad/kernels/row_chunks.h"

namespace lg::kernels {

template <class T> void max_pool_indices(const MaxPool& p, const T* x, std::int64_t* index) {
  const std::int64_t in_plane = p.in[0] * p.in[1], out_plane = p.out[0] * p.out[1];
  const std::int64_t work = std::max(in_plane, out_plane * p.kernel[0] * p.kernel[1]);
  parallel_for(p.planes, row_grain(work), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t plane = begin; plane < end; ++plane) {
      const T* from = x + plane * in_plane;
      std::int64_t* to = index + plane * out_plane;
      // The first tap of a window that lies inside, and the end of those that do.
      const auto range = [&](std::int64_t o, int d, std::int64_t& first, std::int64_t& last) {
        const std::int64_t start = o * p.stride[d] - p.pad[d], step = p.dilation[d];
        const std::int64_t skip = start < 0 ? (-start + step - 1) / step : 0;
        first = start + skip * step;
        last = std::min(start + (p.kernel[d] - 1) * step, p.in[d] - 1);
      };
      for (std::int64_t i = 0; i < p.out[0]; ++i) {
        std::int64_t top = 0, bottom = 0, left = 0, right = 0;
        range(i, 0, top, bottom);
        for (std::int64_t j = 0; j < p.out[1]; ++j) {
          range(j, 1, left, right);
          std::int64_t best = top * p.in[1] + left;
          for (std::int64_t r = top; r <= bottom; r += p.dilation[0]) {
            for (std::int64_t c = left; c <= right; c += p.dilation[1]) {
              const std::int64_t at = r * p.in[1] + c;
              if (from[at] > from[best] || std::isnan(from[at])) best = at;
            }
          }
          *to++ = best;
        }
      }
    }
  });
}

template <class T>
void resample(std::int64_t planes, const AxisMap<T>& rows, const AxisMap<T>& columns, const T* x,
              T* y) {
  const std::int64_t W = columns.in, work = std::max(rows.in * W, rows.out * columns.out);
  parallel_for(planes, row_grain(work), [&](std::int64_t begin, std::int64_t end) {
    Scratch<T> sum(W);
    for (std::int64_t plane = begin; plane < end; ++plane) {
      const T* from = x + plane * rows.in * W;
      T* to = y + plane * rows.out * columns.out;
      for (std::int64_t i = 0; i < rows.out; ++i) {
        std::fill(sum.get(), sum.get() + W, T(0));
        for (std::int64_t k = 0; k < rows.count[i]; ++k) {
          const T a = rows.weight[i * rows.most + k], *row = from + (rows.start[i] + k) * W;
          for (std::int64_t j = 0; j < W; ++j) sum[j] += a * row[j];
        }
        for (std::int64_t j = 0; j < columns.out; ++j) {
          const T *b = columns.weight + j * columns.most, *s = sum.get() + columns.start[j];
          T v = 0;
          for (std::int64_t k = 0; k < columns.count[j]; ++k) v += b[k] * s[k];
          *to++ = v;
        }
      }
    }
  });
}

template <class T>
void resample_transposed(std::int64_t planes, const AxisMap<T>& rows, const AxisMap<T>& columns,
                         const T* g, T* dx) {
  const std::int64_t W = columns.in, work = std::max(rows.in * W, rows.out * columns.out);
  parallel_for(planes, row_grain(work), [&](std::int64_t begin, std::int64_t end) {
    Scratch<T> sum(W);
    for (std::int64_t plane = begin; plane < end; ++plane) {
      const T* from = g + plane * rows.out * columns.out;
      T* to = dx + plane * rows.in * W;
      std::fill(to, to + rows.in * W, T(0));
      for (std::int64_t i = 0; i < rows.out; ++i) {
        std::fill(sum.get(), sum.get() + W, T(0));
        for (std::int64_t j = 0; j < columns.out; ++j, ++from) {
          const T* b = columns.weight + j * columns.most;
          T* s = sum.get() + columns.start[j];
          for (std::int64_t k = 0; k < columns.count[j]; ++k) s[k] += b[k] * *from;
        }
        for (std::int64_t k = 0; k < rows.count[i]; ++k) {
          const T a = rows.weight[i * rows.most + k];
          T* row = to + (rows.start[i] + k) * W;
          for (std::int64_t j = 0; j < W; ++j) row[j] += a * sum[j];
        }
      }
    }
  });
}

#define LIGHTGRAD_INSTANTIATE(T)                                                                  \
  template void max_pool_indices(const MaxPool&, const T*, std::int64_t*);                        \
  template void resample(std::int64_t, const AxisMap<T>&, const AxisMap<T>&, const T*, T*);       \
  template void resample_transposed(std::int64_t, const AxisMap<T>&, const AxisMap<T>&, const T*, \
                                    T*);
LIGHTGRAD_INSTANTIATE(float)
LIGHTGRAD_INSTANTIATE(double)
#undef LIGHTGRAD_INSTANTIATE

}  // namespace lg::kernels
