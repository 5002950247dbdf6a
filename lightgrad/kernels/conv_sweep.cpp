#include "lightgrad/kernels/conv_sweep.h"

namespace lg::kernels {

void Sweep::find_planes() {
  std::int64_t last_row = 0;
  for (std::size_t i = 0; i < tap.size(); ++i) {
    const std::int64_t q = floor_div(tap[i].row, step[0]);
    first_row = i ? std::min(first_row, q) : q;
    last_row = i ? std::max(last_row, q) : q;
    const std::int64_t phase = tap[i].row - q * step[0], column = tap[i].column;
    const bool known = std::any_of(plane.begin(), plane.end(), [&](const Plane& p) {
      return p.phase == phase && p.column == column;
    });
    if (known) continue;
    const std::int64_t begin = column < 0 ? ceil_div(-column, step[1]) : 0;
    const std::int64_t end = size[1] > column ? ceil_div(size[1] - column, step[1]) : 0;
    plane.push_back({phase, column, std::min(begin, grid[1]), std::min(end, grid[1])});
  }
  planes = static_cast<std::int64_t>(plane.size());
  span = last_row - first_row;
}

void Sweep::set_rows(std::int64_t r, std::int64_t line) {
  rows = r;
  // A line for what is written beyond the last row. An odd number of lines: planes a power of two
  // apart would share their places in L1.
  plane_size = (ceil_div((rows + span) * grid[1] + line, line) | 1) * line;
  offset.clear();
  for (const Tap& t : tap) {
    const std::int64_t q = floor_div(t.row, step[0]);
    std::int64_t k = 0;
    const auto is_of = [&](const Plane& p) {
      return p.phase == t.row - q * step[0] && p.column == t.column;
    };
    while (!is_of(plane[static_cast<std::size_t>(k)])) ++k;
    offset.push_back(k * plane_size + (q - first_row) * grid[1]);
  }
}

Sweep forward_sweep(const Conv& c) {
  Sweep s;
  s.channels = c.group_in();
  s.outs = c.group_out();
  for (int d = 0; d < 2; ++d) {
    s.size[d] = c.in[d];
    s.step[d] = c.stride[d];
    s.grid[d] = c.out[d];
  }
  s.to_row = c.out[1];
  s.to_channel = c.out[0] * c.out[1];
  s.weight_out = c.group_in() * c.taps();
  s.weight_channel = c.taps();
  for (std::int64_t t = 0; t < c.taps(); ++t) {
    s.tap.push_back({t / c.kernel[1] * c.dilation[0] - c.pad[0],
                     t % c.kernel[1] * c.dilation[1] - c.pad[1], t});
  }
  s.find_planes();
  return s;
}

Sweep backward_sweep(const Conv& c, std::int64_t a, std::int64_t b) {
  Sweep s;
  s.channels = c.group_out();
  s.outs = c.group_in();
  const std::int64_t phase[2] = {a, b};
  for (int d = 0; d < 2; ++d) {
    s.size[d] = c.out[d];
    s.grid[d] = c.in[d] > phase[d] ? ceil_div(c.in[d] - phase[d], c.stride[d]) : 0;
  }
  s.to_start = a * c.in[1] + b;
  s.to_row = c.stride[0] * c.in[1];
  s.to_column = c.stride[1];
  s.to_channel = c.in[0] * c.in[1];
  s.weight_out = c.taps();
  s.weight_channel = c.group_in() * c.taps();
  // x[h] takes g[i] weight[p] where i stride = h + pad - p dilation.
  for (std::int64_t t = 0; t < c.taps(); ++t) {
    const std::int64_t row = a + c.pad[0] - t / c.kernel[1] * c.dilation[0];
    const std::int64_t column = b + c.pad[1] - t % c.kernel[1] * c.dilation[1];
    if (row % c.stride[0] == 0 && column % c.stride[1] == 0)
      s.tap.push_back({row / c.stride[0], column / c.stride[1], t});
  }
  s.find_planes();
  return s;
}

}  // namespace lg::kernels
