// conv.cpp: the loops around the register tiles of conv-inl.h: how the work is cut into tiles that
// fit L2, and the tiles are shared among threads. Forward and the gradient of x are sweeps
// (conv_sweep.h); the gradient of the weight runs over the same planes as forward.
#include "lightgrad/kernels/conv.h"

#include "lightgrad/base/parallel.h"
#include "lightgrad/kernels/conv_target.h"
#include "lightgrad/kernels/row_chunks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lightgrad/kernels/conv.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include "lightgrad/kernels/conv-inl.h"
#include "lightgrad/kernels/conv_depthwise-inl.h"
#include "lightgrad/kernels/conv_winograd-inl.h"
#include "lightgrad/kernels/conv_winograd_grad-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lg::kernels {
namespace HWY_NAMESPACE {
namespace {

template <class T, int kOuts, int kMany>
constexpr typename ConvTarget<T>::Width kWidth{
    kOuts,
    {1, 2, kMany},
    {&ConvTile<kOuts, 1, T>, &ConvTile<kOuts, 2, T>, &ConvTile<kOuts, kMany, T>},
    {&ConvGradTile<kOuts, 1, T>, &ConvGradTile<kOuts, 2, T>, &ConvGradTile<kOuts, 3, T>}};

template <class T>
constexpr typename ConvTarget<T>::Winograd kWinograd
#if HWY_TARGET == HWY_SCALAR
    {};
#else
    {&WinogradInput<T>,
     &WinogradWeight<kConvOuts, T>,
     {&WinogradProduct<kConvOuts, 1, T>, &WinogradProduct<kConvOuts, 2, T>,
      &WinogradProduct<kConvOuts, 3, T>},
     &WinogradOutput<T>,
     &WinogradByChannel<true, T>,
     &WinogradByChannel<false, T>,
     &WinogradGradWeight<T>};
#endif

template <class T>
constexpr typename ConvTarget<T>::Depthwise kDepthwise
#if HWY_TARGET == HWY_SCALAR
    {};
#else
    {{&DepthwiseForward<1, T>, &DepthwiseForward<2, T>},
     &DepthwiseBackwardData<T>,
     {&DepthwiseBackwardWeight<1, T>, &DepthwiseBackwardWeight<2, T>}};
#endif

// One output alone takes many vectors: its chains of multiply-adds must cover their latency.
template <class T>
constexpr ConvTarget<T> kTarget{
    kConvLanes<T>,  {kWidth<T, kConvOuts, kConvVecs>, kWidth<T, 4, kConvVecs>, kWidth<T, 1, 8>},
    &FillPlanes<T>, &Interleave<T>,
    kWinograd<T>,   kDepthwise<T>};

}  // namespace
const ConvTarget<float>* ConvFloat() { return &kTarget<float>; }
const ConvTarget<double>* ConvDouble() { return &kTarget<double>; }
}  // namespace HWY_NAMESPACE
}  // namespace lg::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lg::kernels {
HWY_EXPORT(ConvFloat);
HWY_EXPORT(ConvDouble);

template <class T> const ConvTarget<T>& conv_target() {
  if constexpr (sizeof(T) == sizeof(float))
    return *HWY_DYNAMIC_DISPATCH(ConvFloat)();
  else
    return *HWY_DYNAMIC_DISPATCH(ConvDouble)();
}
template const ConvTarget<float>& conv_target();
template const ConvTarget<double>& conv_target();

namespace {

template <class T> constexpr int64_t kLine = 64 / sizeof(T);
// Elements of a tile's planes: half of L2, beside the weights and what streams through.
template <class T> constexpr int64_t kPlaneBudget = 512 * 1024 / sizeof(T);
// Channels times taps of one pass over the planes: a block of weights of 36 KiB stays in L1.
template <class T> constexpr int64_t kDepth = 4608 / sizeof(T);
constexpr int64_t kUnits = 8;              // at least so many pieces of work, if the shape allows
constexpr int64_t kChunkWork = 1 << 18;    // multiply-adds that outweigh a fork-join
constexpr int64_t kGradPixels = 1024;      // of a tile: longer chains, fewer sums over lanes
constexpr int64_t kMaxParts = 16;          // of the sum over images
constexpr int64_t kPartsBudget = 1 << 22;  // elements of all parts together

// Whether every pixel meets the one tap.
bool is_pointwise(const Conv& c) {
  bool plain = c.taps() == 1;
  for (int d = 0; d < 2; ++d) plain &= c.stride[d] == 1 && c.pad[d] == 0 && c.in[d] == c.out[d];
  return plain;
}

// Weights as the tiles read them: [group][block][channel][tap][output of the block], zeros where
// the last block has no output.
template <class T>
void pack(const Conv& c, const Sweep& s, const ConvTarget<T>& t, const T* weight, T* to) {
  const int64_t wide = t.width[0].outs, blocks = ceil_div(s.outs, wide), depth = s.depth();
  const int64_t group = c.group_out() * c.group_in() * c.taps();
  const int64_t grain = std::max<int64_t>(1, (1 << 14) / std::max<int64_t>(1, depth * wide));
  parallel_for(c.groups * blocks, grain, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      const int64_t first = k % blocks * wide, outs = std::min(wide, s.outs - first);
      const int64_t width = t.width_for(outs).outs;
      const T* from = weight + k / blocks * group + first * s.weight_out;
      T* p = to + (k / blocks * s.outs_padded(wide) + first) * depth;
      for (int64_t i = 0; i < s.channels; ++i) {
        for (const Tap& tap : s.tap) {
          const T* w = from + i * s.weight_channel + tap.weight;
          for (int64_t o = 0; o < width; ++o) *p++ = o < outs ? w[o * s.weight_out] : T(0);
        }
      }
    }
  });
}

// Sweeps over the same rows of an image, one for each phase of its columns.
template <class T> struct Job {
  const Conv& c;
  std::vector<Sweep>& phase;
  const ConvTarget<T>& t = conv_target<T>();
  std::vector<const T*> weight = {};  // packed, per phase
  const T* bias = nullptr;
  int64_t channels = 0;  // of a pass

  const Sweep& first() const { return phase[0]; }
  // Without a step between columns the rows of a tile lie in the destination as they do here.
  bool dense() const { return first().to_column == 1 && first().to_row == first().grid[1]; }
  int64_t pixels() const { return first().rows * first().grid[1]; }  // the first has the most
  int64_t plane_elements() const {
    int64_t most = 0;
    for (const Sweep& s : phase) most = std::max(most, channels * s.planes * s.plane_size);
    return ceil_div(most + t.lanes, kLine<T>) * kLine<T>;
  }
  int64_t row_elements() const {
    return dense() ? 0 : static_cast<int64_t>(phase.size()) * first().outs * pixels() + t.lanes;
  }

  // Rows [row, row + count) of the grid, all outputs of a group.
  void tile(int64_t group, const T* source, bool last, T* to, int64_t row, int64_t count,
            Ahead ahead, T* planes, T* rows) const {
    const int64_t blocks = ceil_div(first().outs, t.width[0].outs),
                  lines = ceil_div(ahead.lines(),
                                   blocks * ceil_div(pixels(), t.lanes * t.width[0].vecs[2]));
    T* const start = to + first().to_start + row * first().to_row;
    for (std::size_t k = 0; k < phase.size(); ++k) {
      const Sweep& s = phase[k];
      T* y = dense() ? start : rows + static_cast<int64_t>(k) * s.outs * pixels();
      int64_t done = 0;
      do {
        const int64_t some = std::min(channels, s.channels - done);
        const int64_t plane = s.size[0] * s.size[1];
        // Planes of a kernel of one tap are the images, but for the last one, where vectors would
        // read beyond its end.
        const int64_t end = row * s.grid[1] + ceil_div(count * s.grid[1], t.lanes) * t.lanes;
        const bool copied = !is_pointwise(c) || (last && end > plane);
        if (copied) t.fill(s, some, source + done * plane, row, count, planes);
        outputs(s, weight[k] + group * s.outs_padded(t.width[0].outs) * s.depth(), group, done,
                some, copied ? planes : source + done * plane + row * s.grid[1],
                copied ? s.planes * s.plane_size : plane, y, dense() ? s.to_channel : pixels(),
                count * s.grid[1], ahead, lines);
        done += some;
      } while (done < s.channels);
    }
    if (!dense()) spread(rows, start, count);
  }

  void outputs(const Sweep& s, const T* w, int64_t group, int64_t done, int64_t some,
               const T* planes, int64_t channel, T* y, int64_t y_channel, int64_t pixels,
               Ahead& ahead, int64_t lines) const {
    const int64_t wide = t.width[0].outs, taps = s.taps();
    for (int64_t o = 0; o < s.outs; o += wide, w += wide * s.depth()) {
      const int64_t outs = std::min(wide, s.outs - o);
      const auto& width = t.width_for(outs);
      T start[16] = {};
      if (bias) std::copy(bias + group * s.outs + o, bias + group * s.outs + o + outs, start);
      for (int64_t vecs = ceil_div(pixels, t.lanes), at = 0; vecs > 0;) {
        int k = 2;
        while (k > 0 && width.vecs[k] > vecs) --k;
        if (width.vecs[k] == 3 && vecs == 4) k = 1;  // two and two, rather than three and one
        const int64_t p = at * t.lanes;
        ahead.fetch(lines);
        width.tile[k](some, taps, s.offset.data(), planes + p, channel,
                      w + done * taps * width.outs, done ? nullptr : start, y + o * y_channel + p,
                      y_channel, outs, pixels - p);
        vecs -= width.vecs[k];
        at += width.vecs[k];
      }
    }
  }

  // From rows of each phase of columns to rows of the destination.
  void spread(const T* rows, T* to, int64_t count) const {
    const Sweep& s = first();
    const int64_t step = s.to_column, next = s.outs * pixels();
    for (int64_t o = 0; o < s.outs; ++o, to += s.to_channel) {
      for (int64_t i = 0; i < count; ++i) {
        T* row = to + i * s.to_row;
        const T* low = rows + o * pixels();
        if (step == 2 && phase.size() == 2) {
          t.interleave(low + i * s.grid[1], low + next + i * phase[1].grid[1],
                       s.grid[1] + phase[1].grid[1], row);
          continue;
        }
        for (std::size_t k = 0; k < phase.size(); ++k, low += next) {
          const int64_t n = phase[k].grid[1];
          for (int64_t j = 0; j < n; ++j) row[static_cast<int64_t>(k) + j * step] = low[i * n + j];
        }
      }
    }
  }

  void run(const T* source, int64_t source_image, const T* unpacked, T* to, int64_t to_image) {
    const int64_t images = c.images * c.groups, wide = t.width[0].outs;
    if (images == 0 || first().outs == 0 || first().grid[0] == 0 || first().grid[1] == 0) return;
    // All phases take the channels and rows that suit the one with the most taps.
    const Sweep& most = *std::max_element(phase.begin(), phase.end(), [](auto& a, auto& b) {
      return a.planes * a.taps() < b.planes * b.taps();
    });
    channels = even(std::max<int64_t>(1, most.channels),
                    std::max<int64_t>(1, kDepth<T> / std::max<int64_t>(1, most.taps())));
    const int64_t row = std::max<int64_t>(1, channels * most.planes * most.grid[1]);
    int64_t rows = std::clamp<int64_t>(kPlaneBudget<T> / row - most.span, 1, most.grid[0]);
    if (images < kUnits) rows = std::min(rows, ceil_div(most.grid[0], ceil_div(kUnits, images)));
    rows = even(most.grid[0], rows);
    int64_t packed_elements = 0, work = 1;
    for (Sweep& s : phase) {
      s.set_rows(rows, kLine<T>);
      packed_elements += c.groups * s.outs_padded(wide) * s.depth();
      work += rows * s.grid[1] * s.depth() * s.outs;
    }
    Scratch<T> packed(packed_elements);
    T* at = packed.get();
    for (const Sweep& s : phase) {
      pack(c, s, t, unpacked, at);
      weight.push_back(at);
      at += c.groups * s.outs_padded(wide) * s.depth();
    }
    const int64_t tiles = first().tiles(), planes = plane_elements();
    parallel_for(
        images * tiles, std::max<int64_t>(1, kChunkWork / work), [&](int64_t begin, int64_t end) {
          Scratch<T> scratch(planes + row_elements());
          for (int64_t k = begin; k < end; ++k) {
            const int64_t image = k / tiles, first_row = k % tiles * rows;
            const int64_t n = image / c.groups, group = image % c.groups;
            const Sweep& s = first();
            const int64_t plane = s.size[0] * s.size[1];
            const auto source_of = [&](int64_t i) {
              return source + i / c.groups * source_image + i % c.groups * s.channels * plane;
            };
            // A thread goes on with the next tile.
            Ahead ahead;
            if (k + 1 < images * tiles) {
              const int64_t next = (k + 1) % tiles * rows * s.step[0],
                            run = std::min(rows * s.step[0], s.size[0] - next) * s.size[1];
              ahead = {reinterpret_cast<const char*>(source_of((k + 1) / tiles) + next * s.size[1]),
                       int64_t{sizeof(T)} * run, int64_t{sizeof(T)} * plane, s.channels};
            }
            tile(group, source_of(image), image + 1 == images,
                 to + n * to_image + group * s.outs * s.to_channel, first_row,
                 std::min(rows, s.grid[0] - first_row), ahead, scratch.get(),
                 scratch.get() + planes);
          }
        });
  }
};

// Zeros for x's rows of phase a, which no tap meets.
template <class T> void fill_rows(const Conv& c, int64_t a, T* dx) {
  const int64_t plane = c.in[0] * c.in[1];
  parallel_for(c.images * c.in_channels, std::max<int64_t>(1, kChunkWork / (plane + 1)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t k = begin; k < end; ++k) {
                   for (int64_t i = a; i < c.in[0]; i += c.stride[0])
                     std::fill_n(dx + k * plane + i * c.in[1], c.in[1], T(0));
                 }
               });
}

}  // namespace

template <class T>
void conv_forward(const Conv& c, const T* x, const T* weight, const T* bias, T* y) {
  if (depthwise_fits<T>(c)) return depthwise_forward(c, x, weight, bias, y);
  if (winograd_pays(c) && winograd_forward(c, x, weight, bias, y)) return;
  std::vector<Sweep> sweep{forward_sweep(c)};
  Job<T> job{c, sweep};
  job.bias = bias;
  job.run(x, c.in_channels * c.in[0] * c.in[1], weight, y, c.out_channels * c.out[0] * c.out[1]);
}

template <class T> void conv_backward_data(const Conv& c, const T* g, const T* weight, T* dx) {
  if (depthwise_fits<T>(c)) return depthwise_backward_data(c, g, weight, dx);
  if (winograd_pays(c) && winograd_backward_data(c, g, weight, dx)) return;
  for (int64_t a = 0; a < std::min(c.stride[0], c.in[0]); ++a) {
    std::vector<Sweep> sweeps;
    for (int64_t b = 0; b < std::min(c.stride[1], c.in[1]); ++b)
      sweeps.push_back(backward_sweep(c, a, b));
    if (std::all_of(sweeps.begin(), sweeps.end(), [](auto& s) { return s.tap.empty(); }))
      fill_rows(c, a, dx);
    else
      Job<T>{c, sweeps}.run(g, c.out_channels * c.out[0] * c.out[1], weight, dx,
                            c.in_channels * c.in[0] * c.in[1]);
  }
}

// Tiles of some kGradPixels, several images or some rows of one; a part sums over some tiles, for a
// block of channels, whose planes fit L2. Sums stand as [part][group][channel][tap][output].
template <class T> void conv_backward_weight(const Conv& c, const T* g, const T* x, T* dweight) {
  if (depthwise_fits<T>(c)) return depthwise_backward_weight(c, g, x, dweight);
  if (winograd_pays(c) && winograd_backward_weight(c, g, x, dweight)) return;
  const ConvTarget<T>& t = conv_target<T>();
  Sweep s = forward_sweep(c);
  const int64_t columns = s.depth(), weights = c.out_channels * columns;
  if (weights == 0) return;
  if (c.images == 0 || s.grid[0] == 0 || s.grid[1] == 0) {
    std::fill(dweight, dweight + weights, T(0));
    return;
  }
  s.set_rows(even(s.grid[0], std::clamp<int64_t>(kGradPixels / s.grid[1], 1, s.grid[0])), kLine<T>);
  const int64_t together =
      s.tiles() > 1
          ? 1
          : std::clamp<int64_t>(kGradPixels / (s.grid[0] * s.grid[1]), 1, ceil_div(c.images, 4));
  const int64_t plane = s.grid[0] * s.grid[1], in_plane = c.in[0] * c.in[1];
  const bool copied = !is_pointwise(c);
  const int64_t channel = copied ? s.planes * s.plane_size : in_plane;
  const int64_t block =
      even(s.channels, std::max<int64_t>(1, kPlaneBudget<T> / (together * channel)));
  const int64_t blocks = ceil_div(s.channels, block),
                x_image = (copied ? block : c.in_channels) * channel;
  const int64_t tiles = s.tiles() * ceil_div(c.images, together);
  const int64_t share =
      ceil_div(tiles, std::clamp<int64_t>(kPartsBudget / weights, 1, std::min(tiles, kMaxParts)));
  const int64_t parts = ceil_div(tiles, share);
  Scratch<T> sums(parts * weights);

  const auto unit = [&](int64_t group, int64_t first, int64_t part, T* planes, int64_t* column) {
    const int64_t channels = std::min(block, s.channels - first), count = channels * c.taps();
    T* to = sums.get() + part * weights + (group * columns + first * c.taps()) * s.outs;
    std::fill(to, to + count * s.outs, T(0));
    for (int64_t k = 0; k < count; ++k) {
      column[k] = k / c.taps() * channel + s.offset[static_cast<std::size_t>(k % c.taps())];
    }
    for (int64_t tile = part * share; tile < std::min(tiles, (part + 1) * share); ++tile) {
      const int64_t n = tile / s.tiles() * together, images = std::min(together, c.images - n);
      const int64_t row = tile % s.tiles() * s.rows, rows = std::min(s.rows, s.grid[0] - row);
      const T* image = x + (n * c.in_channels + group * s.channels + first) * in_plane;
      for (int64_t i = 0; copied && i < images; ++i)
        t.fill(s, channels, image + i * c.in_channels * in_plane, row, rows, planes + i * x_image);
      const T* const pixels = copied ? planes : image + row * s.grid[1];
      const T* from = g + (n * c.out_channels + group * s.outs) * plane + row * s.grid[1];
      for (int64_t o = 0; o < s.outs;) {
        int w = 0;
        while (t.width[w].outs > s.outs - o) ++w;
        for (int64_t k = 0, some = 0; k < count; k += some) {
          some = std::min<int64_t>(3, count - k);
          t.width[w].grad[some - 1](images, rows * s.grid[1], from + o * plane, plane,
                                    c.out_channels * plane, pixels, column + k, x_image,
                                    to + k * s.outs + o, s.outs);
        }
        o += t.width[w].outs;
      }
    }
  };
  const int64_t work =
      std::max<int64_t>(1, share * together * s.rows * s.grid[1] * block * c.taps() * s.outs);
  parallel_for(c.groups * blocks * parts, std::max<int64_t>(1, kChunkWork / work),
               [&](int64_t begin, int64_t end) {
                 Scratch<T> planes(copied ? together * x_image + t.lanes : 0);
                 Scratch<int64_t> column(block * c.taps());
                 for (int64_t k = begin; k < end; ++k) {
                   unit(k / parts / blocks, k / parts % blocks * block, k % parts, planes.get(),
                        column.get());
                 }
               });
  // The parts in order, and each weight to its place.
  parallel_for(c.groups * columns, std::max<int64_t>(1, 16384 / (parts * s.outs)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t k = begin; k < end; ++k) {
                   T* sum = sums.get() + k * s.outs;
                   for (int64_t p = 1; p < parts; ++p) {
                     for (int64_t o = 0; o < s.outs; ++o) sum[o] += sum[p * weights + o];
                   }
                   T* to = dweight + k / columns * s.outs * columns + k % columns;
                   for (int64_t o = 0; o < s.outs; ++o) to[o * columns] = sum[o];
                 }
               });
}

#define LIGHTGRAD_INSTANTIATE(T)                                             \
  template void conv_forward(const Conv&, const T*, const T*, const T*, T*); \
  template void conv_backward_data(const Conv&, const T*, const T*, T*);     \
  template void conv_backward_weight(const Conv&, const T*, const T*, T*);
LIGHTGRAD_INSTANTIATE(float)
LIGHTGRAD_INSTANTIATE(double)
#undef LIGHTGRAD_INSTANTIATE

}  // namespace lg::kernels
#endif  // HWY_ONCE
