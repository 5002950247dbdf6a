// pool.h: windows over planes: the place of each window's maximum, and linear maps that are the
// product of one for rows and one for columns: averages over windows, interpolation. float32 and
// float64, planes row-major and one after the other.
#pragma once

#include <cstdint>

namespace lg::kernels {

struct MaxPool {
  std::int64_t planes;
  std::int64_t in[2], out[2], kernel[2], stride[2], pad[2], dilation[2];
};

// index[plane, i, j]: where in its plane, in elements, the window's first maximum lies; or its last
// NaN. Every window meets the plane.
template <class T> void max_pool_indices(const MaxPool& p, const T* x, std::int64_t* index);

// A linear map of `in` to `out` numbers, sparse: output o is the sum of weight[o, k] times input
// start[o] + k, for k < count[o] <= most.
template <class T> struct AxisMap {
  std::int64_t in, out, most;
  const std::int64_t *start, *count;  // [out]
  const T* weight;                    // [out, most]
};

// y [planes, rows.out, columns.out] = both maps of x [planes, rows.in, columns.in].
template <class T>
void resample(std::int64_t planes, const AxisMap<T>& rows, const AxisMap<T>& columns, const T* x,
              T* y);
// dx given g, the gradient of y: the transposed maps.
template <class T>
void resample_transposed(std::int64_t planes, const AxisMap<T>& rows, const AxisMap<T>& columns,
                         const T* g, T* dx);

}  // namespace lg::kernels
