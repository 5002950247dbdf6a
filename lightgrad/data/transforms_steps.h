// transforms_steps.h: what the plain and the fused version of transforms.h share: random numbers,
// the arithmetic of one pixel, and what each step takes and gives. Not for users.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "lightgrad/base/random.h"
#include "lightgrad/data/transforms.h"

namespace lg::data::detail {

// --- random numbers ---

using Words = std::array<std::uint32_t, 4>;

// Step t of sample `index` has four words of its own. The high word of the counter is the epoch
// below bit 48 and t + 1 above, so that no step meets another, or the loader's shuffle, which is
// where that is 0.
inline Words words_for(Draw draw, std::size_t t, std::int64_t index) {
  return philox(draw.seed, static_cast<std::uint64_t>(index),
                draw.epoch | static_cast<std::uint64_t>(t + 1) << 48);
}

inline std::int64_t below(std::uint32_t word, std::int64_t range) {
  return static_cast<std::int64_t>(std::uint64_t{word} * static_cast<std::uint64_t>(range) >> 32);
}

struct Offset {
  std::int64_t y, x;
};
// Where the part begins, in the image without its padding.
inline Offset draw_crop(const RandomCrop& crop, std::int64_t h, std::int64_t w,
                        const Words& words) {
  return {below(words[0], h + 2 * crop.padding - crop.height + 1) - crop.padding,
          below(words[1], w + 2 * crop.padding - crop.width + 1) - crop.padding};
}

inline bool draw_flip(const RandomHorizontalFlip& flip, const Words& words) {
  return words[0] < flip.p * 0x1p32;
}

struct Box {
  std::int64_t top, bottom, left, right;
};
inline Box draw_cutout(const Cutout& cut, std::int64_t h, std::int64_t w, const Words& words) {
  const std::int64_t top = below(words[0], h) - cut.size / 2,
                     left = below(words[1], w) - cut.size / 2;
  return {std::max<std::int64_t>(top, 0), std::min(top + cut.size, h),
          std::max<std::int64_t>(left, 0), std::min(left + cut.size, w)};
}

// --- what a step takes and gives ---

struct Layout {
  std::int64_t c, h, w;
  DType dtype;
};

inline float of_channel(const std::vector<float>& values, std::int64_t channel) {
  return values[values.size() == 1 ? 0 : static_cast<std::size_t>(channel)];
}

inline float normalized(float v, const Normalize& n, std::int64_t channel) {
  return (v - of_channel(n.mean, channel)) / of_channel(n.std, channel);
}

inline float as_unit(float byte) { return byte / 255.0f; }

// The layout of uint8 or float32 images [n, c, h, w], and what the steps make of it; ValueError for
// images that a step does not take, IndexError for rows that there are not.
Layout layout_of(const Tensor& images);
Layout layout_after(const std::vector<Transform>& steps, const Tensor& images);
void check_rows(std::span<const std::int64_t> rows, const Tensor& images);

// Images per chunk of a parallel call: some 100 us of work.
inline constexpr std::int64_t images_per_chunk = 32;

}  // namespace lg::data::detail
