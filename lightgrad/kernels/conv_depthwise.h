// conv_depthwise.h: 3x3 convolutions where every channel has its own kernel and nothing is summed
// over channels: planes are read where they lie, each row once for all the rows of y that it meets.
#pragma once

#include <cstdint>

#include "lightgrad/kernels/conv.h"

namespace lg::kernels {

// One channel of an image and what it becomes.
struct ConvPlane {
  std::int64_t in[2], out[2], pad[2];
};

// Whether it is one, and the target has vectors.
template <class T> bool depthwise_fits(const Conv& c);

// conv_forward and its gradients, where it fits.
template <class T>
void depthwise_forward(const Conv& c, const T* x, const T* weight, const T* bias, T* y);
template <class T> void depthwise_backward_data(const Conv& c, const T* g, const T* weight, T* dx);
template <class T>
void depthwise_backward_weight(const Conv& c, const T* g, const T* x, T* dweight);

}  // namespace lg::kernels
