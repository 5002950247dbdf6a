// conv_winograd.h: 3x3 convolutions of step 1 with 16 multiplications for 4 outputs in place of 36
// (Winograd's F(2x2, 3x3), Lavin and Gray 2015). Tiles d of 4x4 pixels, two apart, give 2x2 outputs
//   y = A^T ((G w G^T) * (B^T d B)) A
//   B^T = [1 0 -1 0; 0 1 1 0; 0 -1 1 0; 0 1 0 -1],  G = [1 0 0; 1/2 1/2 1/2; 1/2 -1/2 1/2; 0 0 1],
//   A^T = [1 1 1 0; 0 1 -1 -1],
// and the elementwise product, summed over channels, is a matrix product for each of its 16 numbers
// (frequencies here). The transforms only add and halve, and a sum over channels has a ninth of the
// length, so the rounding errors are no larger than those of the plain sum.
//
// The gradient of the weight is the transpose of that, F(3x3, 2x2), with sums over tiles:
//   dw = G^T (sum of (A g A^T) * (B^T d B)) G
#pragma once

#include <cstdint>

#include "lightgrad/kernels/conv.h"

namespace lg::kernels {

// Tiles in memory: [frequency][channel][tile], rows of tiles one after the other.
struct WinogradTiles {
  std::int64_t size[2], out[2], left;        // the image, the outputs, the first tile's column
  std::int64_t columns, rows;                // tiles of an image
  std::int64_t row;                          // from a channel to the next
  std::int64_t in_frequency, out_frequency;  // from a frequency to the next
};

// Weights of a block of outputs; strides of the plain weight, and of the transformed one.
struct WinogradWeights {
  std::int64_t channels, channel, out, frequency;
  bool flipped;  // the taps from the last to the first
};

// For the gradient of the weight: [frequency][tile][channel] of x and of g.
struct WinogradGrad {
  struct Side {
    std::int64_t size[2], row, frequency;  // the image; from a tile to the next, and a frequency
  };
  std::int64_t columns, left;  // tiles of a row; the first tile's column in x
  Side x, g;
};

// Whether it is less work than the plain sum.
bool winograd_pays(const Conv& c);

// conv_forward, or with `transposed` the gradient of x, whose c is that of conv_forward. False, and
// y is anything, when numbers are too large (from about 1e18 in float32), infinite or NaN: then
// sums and differences of pixels would carry them to outputs that they do not belong to.
template <class T>
bool winograd_forward(const Conv& c, const T* x, const T* weight, const T* bias, T* y);
template <class T> bool winograd_backward_data(const Conv& c, const T* g, const T* weight, T* dx);
// False also where channels or outputs do not fill a vector.
template <class T> bool winograd_backward_weight(const Conv& c, const T* g, const T* x, T* dweight);

}  // namespace lg::kernels
