// conv_reference.cpp: convolution by plain loops: what tests hold the kernels against.
#include <algorithm>

#include "lightgrad/kernels/conv.h"

namespace lg::kernels {
namespace {

// f(index in x, index in weight, index in y) for every product of the convolution.
template <class F> void each_product(const Conv& c, F&& f) {
  const std::int64_t group_in = c.group_in(), group_out = c.group_out();
  for (std::int64_t n = 0; n < c.images; ++n) {
    for (std::int64_t o = 0; o < c.out_channels; ++o) {
      for (std::int64_t i = 0; i < c.out[0]; ++i) {
        for (std::int64_t j = 0; j < c.out[1]; ++j) {
          const std::int64_t y = ((n * c.out_channels + o) * c.out[0] + i) * c.out[1] + j;
          for (std::int64_t k = 0; k < group_in; ++k) {
            const std::int64_t channel = o / group_out * group_in + k;
            for (std::int64_t t = 0; t < c.taps(); ++t) {
              const std::int64_t p = t / c.kernel[1], q = t % c.kernel[1];
              const std::int64_t row = i * c.stride[0] - c.pad[0] + p * c.dilation[0];
              const std::int64_t column = j * c.stride[1] - c.pad[1] + q * c.dilation[1];
              if (row < 0 || row >= c.in[0] || column < 0 || column >= c.in[1]) continue;
              f(((n * c.in_channels + channel) * c.in[0] + row) * c.in[1] + column,
                (o * group_in + k) * c.taps() + t, y);
            }
          }
        }
      }
    }
  }
}

std::int64_t weights(const Conv& c) { return c.out_channels * c.group_in() * c.taps(); }

}  // namespace

template <class T>
void conv_forward_reference(const Conv& c, const T* x, const T* weight, const T* bias, T* y) {
  const std::int64_t plane = c.out[0] * c.out[1], n = c.images * c.out_channels * plane;
  for (std::int64_t i = 0; i < n; ++i) y[i] = bias ? bias[i / plane % c.out_channels] : T(0);
  each_product(c,
               [&](std::int64_t i, std::int64_t w, std::int64_t o) { y[o] += x[i] * weight[w]; });
}

template <class T>
void conv_backward_data_reference(const Conv& c, const T* g, const T* weight, T* dx) {
  std::fill(dx, dx + c.images * c.in_channels * c.in[0] * c.in[1], T(0));
  each_product(c,
               [&](std::int64_t i, std::int64_t w, std::int64_t o) { dx[i] += g[o] * weight[w]; });
}

template <class T>
void conv_backward_weight_reference(const Conv& c, const T* g, const T* x, T* dweight) {
  std::fill(dweight, dweight + weights(c), T(0));
  each_product(c,
               [&](std::int64_t i, std::int64_t w, std::int64_t o) { dweight[w] += g[o] * x[i]; });
}

#define LIGHTGRAD_INSTANTIATE(T)                                                       \
  template void conv_forward_reference(const Conv&, const T*, const T*, const T*, T*); \
  template void conv_backward_data_reference(const Conv&, const T*, const T*, T*);     \
  template void conv_backward_weight_reference(const Conv&, const T*, const T*, T*);
LIGHTGRAD_INSTANTIATE(float)
LIGHTGRAD_INSTANTIATE(double)
#undef LIGHTGRAD_INSTANTIATE

}  // namespace lg::kernels
