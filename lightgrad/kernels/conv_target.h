// conv_target.h: the loops of convolution that a SIMD target offers; conv.cpp compiles them, for
// each target, and the drivers (conv.cpp, conv_winograd.cpp) call them.
#pragma once

#include "lightgrad/kernels/conv_depthwise.h"
#include "lightgrad/kernels/conv_sweep.h"
#include "lightgrad/kernels/conv_winograd.h"

namespace lg::kernels {

// Memory that is needed soon, brought to L2 while something else computes: `rows` runs of `run`
// bytes, `step` apart.
struct Ahead {
  const char* from = nullptr;
  int64_t run = 0, step = 0, rows = 0, at = 0;

  void fetch(int64_t lines) {
    for (; lines > 0 && rows > 0; --lines) {
      __builtin_prefetch(from + at, 0, 2);
      at += 64;
      if (at >= run) {
        at = 0;
        from += step;
        --rows;
      }
    }
  }
  int64_t lines() const { return ceil_div(run, 64) * rows; }
};

template <class T> struct ConvTarget {
  using Tile = void (*)(int64_t channels, int64_t taps, const int64_t* offset, const T* x,
                        int64_t channel, const T* w, const T* bias, T* y, int64_t y_channel,
                        int64_t outs, int64_t pixels);
  using GradTile = void (*)(int64_t images, int64_t pixels, const T* g, int64_t g_channel,
                            int64_t g_image, const T* x, const int64_t* column, int64_t x_image,
                            T* sums, int64_t sums_row);
  struct Width {  // a block of this many outputs
    int64_t outs;
    int64_t vecs[3];  // rising
    Tile tile[3];
    GradTile grad[3];  // of 1, 2 and 3 columns
  };
  struct Winograd {
    bool (*input)(const WinogradTiles& s, int64_t channels, const T* image, int64_t top,
                  int64_t rows, T* v);
    bool (*weight)(const WinogradWeights& s, const T* w, int64_t outs, T* u);
    // Of 1, 2 and 3 vectors of tiles, and as many outputs as the widest Width.
    void (*product[3])(int64_t depth, const T* u, int64_t u_row, const T* v, int64_t row, T* m,
                       bool add);
    void (*output)(const WinogradTiles& s, int64_t outs, const T* m, const T* bias, int64_t rows,
                   int64_t height, T* y);
    // For the gradient of the weight, of a vector of channels.
    bool (*grad_x)(const WinogradGrad& s, const T* image, int64_t top, int64_t rows, T* lines,
                   T* v);
    bool (*grad_g)(const WinogradGrad& s, const T* image, int64_t top, int64_t rows, T* lines,
                   T* u);
    void (*grad_weight)(int64_t parts, int64_t part, int64_t frequency, const T* m, T* dw);
  };
  struct Depthwise {  // of steps 1 and 2
    void (*forward[2])(const ConvPlane& p, const T* x, const T* w, T bias, T* y);
    void (*backward_data)(const ConvPlane& p, const T* g, const T* w, T* dx);  // of step 2
    void (*backward_weight[2])(const ConvPlane& p, const T* x, const T* g, T* dw);
  };
  int64_t lanes;
  Width width[3];  // falling; the last is 1
  void (*fill)(const Sweep& s, int64_t channels, const T* image, int64_t row, int64_t rows, T* to);
  void (*interleave)(const T* low, const T* high, int64_t n, T* to);
  Winograd winograd;
  Depthwise depthwise;

  // The narrowest block for `outs`; the widest when they are more.
  const Width& width_for(int64_t outs) const {
    int i = 2;
    while (i > 0 && width[i].outs < outs) --i;
    return width[i];
  }
};

template <class T> const ConvTarget<T>& conv_target();
extern template const ConvTarget<float>& conv_target();
extern template const ConvTarget<double>& conv_target();

}  // namespace lg::kernels
