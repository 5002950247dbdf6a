#include "lightgrad/kernels/conv_winograd.h"

#include <algorithm>
#include <atomic>

#include "lightgrad/base/parallel.h"
#include "lightgrad/kernels/conv_target.h"
#include "lightgrad/kernels/row_chunks.h"

namespace lg::kernels {
namespace {

constexpr std::int64_t kFrequencies = 16;
// Channels in one chain of multiply-adds: short ones round less, and a pass over sums costs little.
constexpr std::int64_t kDepth = 64;

// Transformed pixels of a piece of work should stay in L2, beside weights and what streams through:
// then a block of outputs at a time passes over them, whose sums go from L1 to pixels. Where three
// vectors of tiles do not fit, each frequency meets all outputs while it lies in L1, and more tiles
// in a piece read the weights less often.
constexpr std::int64_t kTileBudget = 512 * 1024;
constexpr std::int64_t kMostVectors = 8, kMostStreamed = 8;

template <class T> struct Transformed {
  const Conv& c;
  bool transposed;
  const ConvTarget<T>& t = conv_target<T>();
  WinogradTiles tiles = {};
  std::int64_t channels = 0, outs = 0, padded = 0;  // of a group; outs in whole blocks
  std::int64_t piece = 0;                           // rows of tiles
  std::int64_t top = 0;                             // row of the first tile
  std::int64_t pass = 0;                            // outputs of a pass over a piece
  std::int64_t frequency = 0;                       // of the weights

  Transformed(const Conv& conv, bool data) : c(conv), transposed(data) {
    channels = data ? c.group_out() : c.group_in();
    outs = data ? c.group_in() : c.group_out();
    const std::int64_t wide = t.width[0].outs;
    padded = ceil_div(outs, wide) * wide;
    for (int d = 0; d < 2; ++d) {
      tiles.size[d] = data ? c.out[d] : c.in[d];
      tiles.out[d] = data ? c.in[d] : c.out[d];
    }
    top = data ? c.pad[0] - 2 : -c.pad[0];
    tiles.left = data ? c.pad[1] - 2 : -c.pad[1];
    tiles.rows = ceil_div(tiles.out[0], 2);
    tiles.columns = ceil_div(tiles.out[1], 2);
    choose_piece();
  }

  // Rows of tiles for a piece of work: those that fill vectors best and give a multiple of four
  // pieces, among those that fit.
  void choose_piece() {
    const std::int64_t lanes = t.lanes, all = c.images * tiles.rows;
    const std::int64_t bytes = kFrequencies * channels * lanes * int64_t{sizeof(T)};
    const std::int64_t fit = kTileBudget / bytes;
    const std::int64_t most = (fit < 3 ? kMostStreamed : std::min(fit, kMostVectors)) * lanes;
    pass = fit < 3 ? padded : t.width[0].outs;
    double best = 0;
    for (std::int64_t rows = 1; rows <= std::max<std::int64_t>(1, most / tiles.columns); ++rows) {
      const std::int64_t count = ceil_div(all, rows),
                         vectors = ceil_div(rows * tiles.columns, lanes);
      const double full = static_cast<double>(rows * tiles.columns) /
                          static_cast<double>(lanes * (vectors == 1 ? 2 : vectors));
      const double even = static_cast<double>(count * c.groups) /
                          static_cast<double>(ceil_div(count * c.groups, 4) * 4);
      if (full * even < best) continue;
      best = full * even;
      piece = rows;
    }
    const std::int64_t last = (piece - 1) * tiles.columns + ceil_div(tiles.columns, lanes) * lanes;
    tiles.row = ceil_div(std::max(last, piece * tiles.columns), lanes) * lanes;
    // An odd number of lines beyond: frequencies a power of two apart would share places in L1.
    const std::int64_t line = 64 / int64_t{sizeof(T)};
    tiles.in_frequency = (ceil_div(channels * tiles.row, line) | 1) * line;
    tiles.out_frequency = (ceil_div(pass * tiles.row, line) | 1) * line;
    frequency = (ceil_div(padded * channels, line) | 1) * line;
  }

  // [group][frequency][block of outputs][channel][output of the block]; false with infinities.
  bool pack(const T* weight, T* u) const {
    const std::int64_t wide = t.width[0].outs, blocks = padded / wide, inner = c.group_in() * 9;
    const WinogradWeights w{channels, transposed ? inner : 9, transposed ? 9 : inner, frequency,
                            transposed};
    std::atomic<bool> finite = true;
    const std::int64_t grain = std::max<std::int64_t>(1, (1 << 12) / (channels * wide));
    parallel_for(c.groups * blocks, grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t k = begin; k < end; ++k) {
        const std::int64_t group = k / blocks, first = k % blocks * wide;
        if (!t.winograd.weight(w, weight + group * c.group_out() * inner + first * w.out,
                               std::min(wide, outs - first),
                               u + group * kFrequencies * frequency + first * channels))
          finite = false;
      }
    });
    return finite;
  }

  // Of `pass` outputs.
  void products(const T* u, const T* v, T* m, Ahead& x, Ahead y) const {
    const std::int64_t wide = t.width[0].outs, vectors = tiles.row / t.lanes;
    const std::int64_t calls = kFrequencies * (pass / wide) * ceil_div(vectors, 3);
    const std::int64_t x_lines = ceil_div(x.lines(), calls * (padded / pass)),
                       y_lines = ceil_div(y.lines(), calls);
    for (std::int64_t f = 0; f < kFrequencies; ++f) {
      for (std::int64_t o = 0; o < pass; o += wide) {
        for (std::int64_t at = 0, some = 0; at < vectors; at += some) {
          some = std::min<std::int64_t>(3, vectors - at);
          if (vectors - at == 4) some = 2;  // two and two, rather than three and one
          x.fetch(x_lines);
          y.fetch(y_lines);
          for (std::int64_t done = 0; done < channels; done += kDepth) {
            t.winograd.product[some - 1](
                std::min(kDepth, channels - done), u + f * frequency + o * channels + done * wide,
                wide, v + f * tiles.in_frequency + done * tiles.row + at * t.lanes, tiles.row,
                m + f * tiles.out_frequency + o * tiles.row + at * t.lanes, done > 0);
          }
        }
      }
    }
  }

  // Where piece k lies in images of `size`: two rows to a row of tiles, of `count` channels of its
  // group's `all`, from `first` on.
  Ahead place(const T* from, std::int64_t k, std::int64_t all, std::int64_t first,
              std::int64_t count, const std::int64_t (&size)[2]) const {
    const std::int64_t pieces = ceil_div(c.images * tiles.rows, piece), plane = size[0] * size[1];
    const std::int64_t row = k % pieces * piece, image = row / tiles.rows, bytes = sizeof(T);
    const std::int64_t images = std::min(piece / tiles.rows, c.images - image);
    from += ((image * c.groups + k / pieces) * all + first) * plane;
    if (images > 0) {
      return {reinterpret_cast<const char*>(from), count * plane * bytes,
              all * c.groups * plane * bytes, images};
    }
    return {reinterpret_cast<const char*>(from + row % tiles.rows * 2 * size[1]),
            piece * 2 * size[1] * bytes, plane * bytes, count};
  }
  Ahead pixels(const T* x, std::int64_t k) const {
    return place(x, k, channels, 0, channels, tiles.size);
  }
  Ahead results(const T* y, std::int64_t k, std::int64_t o) const {
    return place(y, k, outs, o, std::min(pass, outs - o), tiles.out);
  }

  bool run(const T* x, const T* weight, const T* bias, T* y) const {
    if (t.winograd.input == nullptr) return false;  // a target without vectors
    Scratch<T> u(c.groups * kFrequencies * frequency);
    if (!pack(weight, u.get())) return false;
    const std::int64_t all = c.images * tiles.rows, pieces = ceil_div(all, piece);
    const std::int64_t plane = tiles.size[0] * tiles.size[1], out = tiles.out[0] * tiles.out[1];
    std::atomic<bool> finite = true;
    // A thread knows its next piece, whose pixels come from memory during the products of this one.
    const std::int64_t grain = std::max<std::int64_t>(1, c.groups * pieces / 16);
    parallel_for(c.groups * pieces, grain, [&](std::int64_t begin, std::int64_t end) {
      Scratch<T> v(kFrequencies * tiles.in_frequency + t.lanes),
          m(kFrequencies * tiles.out_frequency + t.lanes);
      for (std::int64_t k = begin; k < end && finite; ++k) {
        const std::int64_t group = k / pieces, first = k % pieces * piece,
                           last = std::min(all, first + piece);
        // f(image, its row of tiles, how many rows, their place in the piece).
        const auto each_image = [&](auto&& f) {
          for (std::int64_t r = first, rows = 0; r < last; r += rows) {
            rows = std::min(tiles.rows - r % tiles.rows, last - r);
            f(r / tiles.rows, r % tiles.rows, rows, (r - first) * tiles.columns);
          }
        };
        bool good = true;
        each_image([&](auto n, auto row, auto rows, auto at) {
          good &= t.winograd.input(tiles, channels, x + (n * c.groups + group) * channels * plane,
                                   top + 2 * row, rows, v.get() + at);
        });
        if (!good) finite = false;
        Ahead ahead = k + 1 < end ? pixels(x, k + 1) : Ahead();
        for (std::int64_t o = 0; o < padded; o += pass) {
          products(u.get() + group * kFrequencies * frequency + o * channels, v.get(), m.get(),
                   ahead, results(y, k, o));
          const T* const start = bias ? bias + group * outs + o : nullptr;
          each_image([&](auto n, auto row, auto rows, auto at) {
            t.winograd.output(
                tiles, std::min(pass, outs - o), m.get() + at, start, rows, tiles.out[0] - 2 * row,
                y + ((n * c.groups + group) * outs + o) * out + 2 * row * tiles.out[1]);
          });
        }
      }
    });
    return finite;
  }
};

}  // namespace

bool winograd_pays(const Conv& c) {
  bool fits = true;
  for (int d = 0; d < 2; ++d) {
    fits &=
        c.kernel[d] == 3 && c.stride[d] == 1 && c.dilation[d] == 1 && c.out[d] >= 4 && c.in[d] >= 4;
  }
  return fits && c.images > 0 && c.group_in() >= 8 && c.group_out() >= 8;
}

template <class T>
bool winograd_forward(const Conv& c, const T* x, const T* weight, const T* bias, T* y) {
  return Transformed<T>(c, false).run(x, weight, bias, y);
}

template <class T> bool winograd_backward_data(const Conv& c, const T* g, const T* weight, T* dx) {
  return Transformed<T>(c, true).run(g, weight, nullptr, dx);
}

#define LIGHTGRAD_INSTANTIATE(T)                                                 \
  template bool winograd_forward(const Conv&, const T*, const T*, const T*, T*); \
  template bool winograd_backward_data(const Conv&, const T*, const T*, T*);
LIGHTGRAD_INSTANTIATE(float)
LIGHTGRAD_INSTANTIATE(double)
#undef LIGHTGRAD_INSTANTIATE

}  // namespace lg::kernels
