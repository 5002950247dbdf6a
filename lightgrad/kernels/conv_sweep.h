// conv_sweep.h: a convolution as sweeps. In a sweep every point (i, j) of a dense grid sums, over
// channels and taps, weight * source(i step + tap.row, j step + tap.column). The forward pass is
// one sweep whose step is the stride; the gradient of x is stride x stride sweeps of step 1, one
// for each phase of x's rows and columns, each with the taps that reach it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "lightgrad/kernels/conv.h"
#include "lightgrad/kernels/divide.h"

namespace lg::kernels {

constexpr std::int64_t floor_div(std::int64_t a, std::int64_t b) {
  return a >= 0 ? a / b : -ceil_div(-a, b);
}

struct Tap {
  std::int64_t row, column, weight;  // weight: its place in the kernel
};

// The source shifted by a tap's column and cut to the grid's columns, so that taps of one column
// are offsets of whole rows. Grid column j shows source column j step + column, inside the source
// for begin <= j < end.
struct Plane {
  std::int64_t phase, column;  // phase: source row modulo step
  std::int64_t begin, end;
};

struct Sweep {
  std::int64_t channels = 0, outs = 0;  // of a group
  std::int64_t size[2] = {}, step[2] = {1, 1}, grid[2] = {};
  // Where the grid lies in an image of the destination.
  std::int64_t to_start = 0, to_row = 0, to_column = 1, to_channel = 0;
  std::int64_t weight_out = 0, weight_channel = 0;  // strides of the weight
  std::vector<Tap> tap;

  // --- made by plan() ---
  std::vector<Plane> plane;
  std::vector<std::int64_t> offset;  // of each tap, from the first pixel of a tile
  std::int64_t planes = 0, first_row = 0, span = 0;
  std::int64_t rows = 0, plane_size = 0;  // of a tile

  std::int64_t tiles() const { return ceil_div(grid[0], rows); }
  std::int64_t taps() const { return static_cast<std::int64_t>(tap.size()); }
  std::int64_t depth() const { return channels * taps(); }
  // Outputs of a group, whole blocks of `wide`.
  std::int64_t outs_padded(std::int64_t wide) const { return ceil_div(outs, wide) * wide; }

  // Finds the planes; a tile gets `rows` rows.
  void find_planes();
  void set_rows(std::int64_t rows, std::int64_t line);  // line: elements of 64 bytes
};

Sweep forward_sweep(const Conv& c);
// The sweep for x's rows of phase `a` and columns of phase `b`; it may have no taps.
Sweep backward_sweep(const Conv& c, std::int64_t a, std::int64_t b);

}  // namespace lg::kernels
