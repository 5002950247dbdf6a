// conv_winograd_grad.cpp: the gradient of the weight by Winograd's F(3x3, 2x2): how tiles are cut
// into parts and pieces, and channels and outputs into blocks.
#include <algorithm>
#include <atomic>

#include "lightgrad/base/parallel.h"
#include "lightgrad/kernels/conv_target.h"
#include "lightgrad/kernels/row_chunks.h"

namespace lg::kernels {
namespace {

constexpr std::int64_t kFrequencies = 16;
// Channels and outputs of a block: their sums take 256 KiB of L2 in float32, and the transforms of
// a block are a sixteenth of its products.
constexpr std::int64_t kBlock = 64;
// The transformed tiles of a piece, beside the sums in L2.
constexpr std::int64_t kTileBudget = 400 * 1024;
// Tiles in one chain of multiply-adds: short ones round less, and a pass over sums costs little.
constexpr std::int64_t kDepth = 32;
// Units of work, where there are tiles enough for parts that outweigh their own sums.
constexpr std::int64_t kUnits = 8, kTilesOfPart = 128;

std::int64_t odd_lines(std::int64_t elements, std::int64_t line) {
  return (ceil_div(elements, line) | 1) * line;  // a power of two would share places in L1
}

// Channels of x, or of g, in vectors, which stand in blocks. The last vector ends with the last
// channel: what it shares with the one before is computed twice.
struct Vectors {
  std::int64_t channels, lanes, count, block;
  Vectors(std::int64_t all, std::int64_t n) : channels(all), lanes(n), count(ceil_div(all, n)) {
    block = even(count, std::max<std::int64_t>(1, kBlock / n));
  }
  std::int64_t blocks() const { return ceil_div(count, block); }
  std::int64_t width() const { return block * lanes; }
  std::int64_t first(std::int64_t k) const { return std::min(k * lanes, channels - lanes); }
};

template <class T> struct WeightGradient {
  const Conv& c;
  const ConvTarget<T>& t = conv_target<T>();
  Vectors in{c.group_in(), t.lanes}, out{c.group_out(), t.lanes};
  std::int64_t rows = ceil_div(c.out[0], 2), columns = ceil_div(c.out[1], 2);  // of tiles
  std::int64_t piece = 0, pieces = 0, parts = 0, share = 0;  // in rows; pieces of a part
  WinogradGrad s = {};

  explicit WeightGradient(const Conv& conv) : c(conv) {
    const std::int64_t all = c.images * rows, wide = in.width() + out.width();
    const std::int64_t most =
        kTileBudget / (kFrequencies * wide * columns * static_cast<std::int64_t>(sizeof(T)));
    const std::int64_t wanted = std::clamp<std::int64_t>(
        all * columns / kTilesOfPart, 1, ceil_div(kUnits, c.groups * in.blocks() * out.blocks()));
    share = ceil_div(ceil_div(all, wanted), std::max<std::int64_t>(1, most));
    piece = ceil_div(all, wanted * share);
    pieces = ceil_div(all, piece);
    parts = ceil_div(pieces, share);
    const std::int64_t line = 64 / static_cast<std::int64_t>(sizeof(T)), tiles = piece * columns;
    s.columns = columns;
    s.left = -c.pad[1];
    s.x = {{c.in[0], c.in[1]}, in.width(), odd_lines(tiles * in.width(), line)};
    s.g = {{c.out[0], c.out[1]}, out.width(), odd_lines(tiles * out.width(), line)};
  }

  std::int64_t sums() const { return kFrequencies * in.width() * out.width(); }  // of a unit

  // One part of the sums of a block of channels and one of outputs, m[frequency][output][channel].
  // False with infinities.
  bool unit(const T* x, const T* g, std::int64_t part, std::int64_t in_first, std::int64_t in_count,
            std::int64_t out_first, std::int64_t out_count, T* lines, T* v, T* u, T* m) const {
    const std::int64_t x_plane = c.in[0] * c.in[1], g_plane = c.out[0] * c.out[1];
    const std::int64_t all = c.images * rows, wide = t.width[0].outs, outs = out_count * t.lanes;
    bool finite = true;
    for (std::int64_t k = part * share; k < std::min(pieces, (part + 1) * share); ++k) {
      const std::int64_t first = k * piece, last = std::min(all, first + piece);
      for (std::int64_t r = first, some = 0; r < last; r += some) {
        const std::int64_t image = r / rows, row = r % rows, at = (r - first) * columns;
        some = std::min(rows - row, last - r);
        for (std::int64_t i = 0; i < in_count; ++i) {
          finite &=
              t.winograd.grad_x(s, x + (image * c.in_channels + in.first(in_first + i)) * x_plane,
                                2 * row - c.pad[0], some, lines, v + at * s.x.row + i * t.lanes);
        }
        for (std::int64_t i = 0; i < out_count; ++i) {
          finite &= t.winograd.grad_g(
              s, g + (image * c.out_channels + out.first(out_first + i)) * g_plane, 2 * row, some,
              lines, u + at * s.g.row + i * t.lanes);
        }
      }
      if (!finite) return false;
      const std::int64_t tiles = (last - first) * columns, depth = even(tiles, kDepth);
      for (std::int64_t f = 0; f < kFrequencies; ++f) {
        for (std::int64_t o = 0; o < outs; o += wide) {
          for (std::int64_t i = 0, some = 0; i < in_count; i += some) {
            some = std::min<std::int64_t>(3, in_count - i);
            if (in_count - i == 4) some = 2;  // two and two, rather than three and one
            for (std::int64_t done = 0; done < tiles; done += depth) {
              t.winograd.product[some - 1](
                  std::min(depth, tiles - done), u + f * s.g.frequency + done * s.g.row + o,
                  s.g.row, v + f * s.x.frequency + done * s.x.row + i * t.lanes, s.x.row,
                  m + (f * out.width() + o) * in.width() + i * t.lanes,
                  done > 0 || k > part * share);
            }
          }
        }
      }
    }
    return true;
  }

  bool run(const T* g, const T* x, T* dweight) const {
    const std::int64_t blocks = in.blocks() * out.blocks();
    const std::int64_t x_plane = c.in[0] * c.in[1], g_plane = c.out[0] * c.out[1];
    Scratch<T> m(c.groups * blocks * parts * sums());
    std::atomic<bool> finite = true;
    parallel_for(c.groups * blocks * parts, 1, [&](std::int64_t begin, std::int64_t end) {
      Scratch<T> v(kFrequencies * s.x.frequency), u(kFrequencies * s.g.frequency),
          lines(4 * (2 * columns + 2) * t.lanes);
      for (std::int64_t k = begin; k < end && finite; ++k) {
        const std::int64_t group = k / parts / blocks, block = k / parts % blocks;
        const std::int64_t i = block / out.blocks() * in.block,
                           o = block % out.blocks() * out.block;
        if (!unit(x + group * c.group_in() * x_plane, g + group * c.group_out() * g_plane,
                  k % parts, i, std::min(in.block, in.count - i), o,
                  std::min(out.block, out.count - o), lines.get(), v.get(), u.get(),
                  m.get() + k * sums()))
          finite = false;
      }
    });
    if (!finite) return false;
    const std::int64_t grain = std::max<std::int64_t>(1, 4096 / (parts * kFrequencies * t.lanes));
    parallel_for(
        c.groups * out.count * t.lanes * in.count, grain,
        [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t k = begin; k < end; ++k) {
            const std::int64_t i = k % in.count, row = k / in.count, lane = row % t.lanes,
                               o = row / t.lanes % out.count, group = row / t.lanes / out.count;
            const std::int64_t block =
                (group * in.blocks() + i / in.block) * out.blocks() + o / out.block;
            const T* from = m.get() + block * parts * sums() +
                            (o % out.block * t.lanes + lane) * in.width() + i % in.block * t.lanes;
            t.winograd.grad_weight(
                parts, sums(), out.width() * in.width(), from,
                dweight +
                    ((group * c.group_out() + out.first(o) + lane) * c.group_in() + in.first(i)) *
                        9);
          }
        });
    return true;
  }
};

}  // namespace

template <class T>
bool winograd_backward_weight(const Conv& c, const T* g, const T* x, T* dweight) {
  const ConvTarget<T>& t = conv_target<T>();
  if (t.winograd.grad_x == nullptr || t.lanes % t.width[0].outs != 0) return false;
  if (c.group_in() < t.lanes || c.group_out() < t.lanes) return false;
  return WeightGradient<T>(c).run(g, x, dweight);
}

template bool winograd_backward_weight(const Conv&, const float*, const float*, float*);
template bool winograd_backward_weight(const Conv&, const double*, const double*, double*);

}  // namespace lg::kernels
