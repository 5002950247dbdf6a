#include "lightgrad/kernels/conv_depthwise.h"

#include <algorithm>

#include "lightgrad/base/parallel.h"
#include "lightgrad/kernels/conv_target.h"

namespace lg::kernels {
namespace {

constexpr std::int64_t kTaps = 9;
constexpr std::int64_t kChunkWork = 1 << 18;  // multiply-adds that outweigh a fork-join

ConvPlane plane_of(const Conv& c) {
  return {{c.in[0], c.in[1]}, {c.out[0], c.out[1]}, {c.pad[0], c.pad[1]}};
}

// f(plane, channel) for the planes of all images.
template <class F> void each_plane(const Conv& c, F&& f) {
  const std::int64_t work = std::max<std::int64_t>(1, c.out[0] * c.out[1] * kTaps);
  parallel_for(c.images * c.groups, std::max<std::int64_t>(1, kChunkWork / work),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t k = begin; k < end; ++k) f(k, k % c.groups);
               });
}

}  // namespace

template <class T> bool depthwise_fits(const Conv& c) {
  return conv_target<T>().depthwise.backward_data != nullptr && c.groups == c.in_channels &&
         c.groups == c.out_channels && c.groups > 1 && c.kernel[0] == 3 && c.kernel[1] == 3 &&
         c.dilation[0] == 1 && c.dilation[1] == 1 && c.stride[0] == c.stride[1] && c.stride[0] <= 2;
}

template <class T>
void depthwise_forward(const Conv& c, const T* x, const T* weight, const T* bias, T* y) {
  const auto forward = conv_target<T>().depthwise.forward[c.stride[0] - 1];
  const ConvPlane p = plane_of(c);
  each_plane(c, [&](std::int64_t k, std::int64_t channel) {
    forward(p, x + k * p.in[0] * p.in[1], weight + channel * kTaps, bias ? bias[channel] : T(0),
            y + k * p.out[0] * p.out[1]);
  });
}

template <class T> void depthwise_backward_data(const Conv& c, const T* g, const T* weight, T* dx) {
  const auto& t = conv_target<T>().depthwise;
  const ConvPlane p = plane_of(c);
  // A step of one: the forward pass over g, with the taps from the last to the first.
  const ConvPlane turned{{p.out[0], p.out[1]}, {p.in[0], p.in[1]}, {2 - p.pad[0], 2 - p.pad[1]}};
  each_plane(c, [&](std::int64_t k, std::int64_t channel) {
    const T *from = g + k * p.out[0] * p.out[1], *w = weight + channel * kTaps;
    T* const to = dx + k * p.in[0] * p.in[1];
    if (c.stride[0] == 2) {
      t.backward_data(p, from, w, to);
      return;
    }
    T flipped[kTaps];
    std::reverse_copy(w, w + kTaps, flipped);
    t.forward[0](turned, from, flipped, T(0), to);
  });
}

template <class T>
void depthwise_backward_weight(const Conv& c, const T* g, const T* x, T* dweight) {
  const auto backward = conv_target<T>().depthwise.backward_weight[c.stride[0] - 1];
  const ConvPlane p = plane_of(c);
  const std::int64_t in = p.in[0] * p.in[1], out = p.out[0] * p.out[1];
  const std::int64_t work = std::max<std::int64_t>(1, c.images * out * kTaps);
  parallel_for(c.groups, std::max<std::int64_t>(1, kChunkWork / work),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t k = begin; k < end; ++k) {
                   T sums[kTaps] = {};
                   for (std::int64_t n = 0; n < c.images; ++n) {
                     const std::int64_t plane = n * c.groups + k;
                     backward(p, x + plane * in, g + plane * out, sums);
                   }
                   std::copy(sums, sums + kTaps, dweight + k * kTaps);
                 }
               });
}

#define LIGHTGRAD_INSTANTIATE(T)                                                  \
  template bool depthwise_fits<T>(const Conv&);                                   \
  template void depthwise_forward(const Conv&, const T*, const T*, const T*, T*); \
  template void depthwise_backward_data(const Conv&, const T*, const T*, T*);     \
  template void depthwise_backward_weight(const Conv&, const T*, const T*, T*);
LIGHTGRAD_INSTANTIATE(float)
LIGHTGRAD_INSTANTIATE(double)
#undef LIGHTGRAD_INSTANTIATE

}  // namespace lg::kernels
