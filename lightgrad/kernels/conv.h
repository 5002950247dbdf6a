// conv.h: 2-D convolution in float32 or float64, forward and both gradients, over row-major
// [images, channels, height, width]. Images are copied, tile by tile, to planes of zero-padded rows
// in L2, one per column of the kernel, so that every tap is an aligned offset; blocks of output
// channels times vectors of pixels stay in registers. 3x3 kernels of step 1 over enough channels go
// by Winograd's sums instead (conv_winograd.h), and depthwise ones straight over the images
// (conv_depthwise.h). Every result is one chain of multiply-adds, or a sum of parts that the shape
// alone cuts and that are added in order: the same bits at any number of threads. Callers check
// shapes; nothing here does.
#pragma once

#include <cstdint>

#include "lightgrad/base/half.h"

namespace lg::kernels {

// The convolution y = x * weight, whichever of its three directions is computed:
//   y[n, o, i, j] = sum over c, p, q of weight[o, c, p, q]
//                   x[n, c', i stride - pad + p dilation, j stride - pad + q dilation]
// where c' counts from the first channel of o's group, and x is 0 outside. `pad` stands before the
// first row and column; what stands behind the last follows from `out`.
struct Conv {
  std::int64_t images, groups, in_channels, out_channels;
  std::int64_t in[2], out[2], kernel[2], stride[2], pad[2], dilation[2];

  std::int64_t group_in() const { return in_channels / groups; }
  std::int64_t group_out() const { return out_channels / groups; }
  std::int64_t taps() const { return kernel[0] * kernel[1]; }
};

// bias: [out_channels] or null.
template <class T>
void conv_forward(const Conv& c, const T* x, const T* weight, const T* bias, T* y);
// The gradient of x given that of y: the transposed convolution.
template <class T> void conv_backward_data(const Conv& c, const T* g, const T* weight, T* dx);
template <class T> void conv_backward_weight(const Conv& c, const T* g, const T* x, T* dweight);

// bfloat16, by the CPU's dot products, where has_bf16_products(): elsewhere callers widen. Sums are
// float32 and rounded once; subnormal numbers count as zeros.
template <>
void conv_forward(const Conv& c, const bfloat16* x, const bfloat16* weight, const bfloat16* bias,
                  bfloat16* y);
template <>
void conv_backward_data(const Conv& c, const bfloat16* g, const bfloat16* weight, bfloat16* dx);
template <>
void conv_backward_weight(const Conv& c, const bfloat16* g, const bfloat16* x, bfloat16* dweight);

// The same by plain loops.
template <class T>
void conv_forward_reference(const Conv& c, const T* x, const T* weight, const T* bias, T* y);
template <class T>
void conv_backward_data_reference(const Conv& c, const T* g, const T* weight, T* dx);
template <class T>
void conv_backward_weight_reference(const Conv& c, const T* g, const T* x, T* dweight);

}  // namespace lg::kernels
