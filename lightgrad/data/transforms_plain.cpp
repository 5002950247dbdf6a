// transforms_plain.cpp: the steps by themselves, one image and one step after the other.
#include <algorithm>
#include <utility>

#include "lightgrad/base/error.h"
#include "lightgrad/base/parallel.h"
#include "lightgrad/data/transforms_steps.h"

namespace lg::data {
namespace detail {
namespace {

struct Advance {  // checks a step, and makes of its input's layout its output's
  Layout& l;

  void operator()(const RandomCrop& crop) const {
    // The sums stay far below 2^63: crops and paddings are at most 2^31, the image is in memory.
    if (l.h + 2 * crop.padding < crop.height || l.w + 2 * crop.padding < crop.width) {
      fail(ErrorKind::value, "RandomCrop", "a part of ", crop.height, " x ", crop.width,
           " is larger than the image of ", l.h, " x ", l.w, " with padding ", crop.padding);
    }
    l.h = crop.height;
    l.w = crop.width;
  }
  void operator()(const RandomHorizontalFlip&) const {}
  void operator()(const Cutout&) const {
    if (l.h == 0 || l.w == 0) fail(ErrorKind::value, "Cutout", "the image has no pixels");
  }
  void operator()(const ToFloat&) const { l.dtype = DType::float32; }
  void operator()(const Normalize& n) const {
    if (l.dtype != DType::float32) {
      fail(ErrorKind::value, "Normalize",
           "expected float32 images, got uint8; put ToFloat() before it");
    }
    const auto channels = static_cast<std::int64_t>(n.mean.size());
    if (channels != 1 && channels != l.c) {
      fail(ErrorKind::value, "Normalize", "mean and std have ", channels,
           " numbers, the images have ", l.c, " channels");
    }
  }
};

}  // namespace

Layout layout_of(const Tensor& images) {
  if (images.rank() != 4 || (images.dtype() != DType::uint8 && images.dtype() != DType::float32)) {
    fail(ErrorKind::value, "transforms", "expected images as uint8 or float32 [n, c, h, w], got ",
         images.describe());
  }
  const Shape& s = images.shape();
  return {s[1], s[2], s[3], images.dtype()};
}

Layout layout_after(const std::vector<Transform>& steps, const Tensor& images) {
  Layout l = layout_of(images);
  for (const Transform& t : steps) std::visit(Advance{l}, t);
  return l;
}

void check_rows(std::span<const std::int64_t> rows, const Tensor& images) {
  for (const std::int64_t r : rows) {
    if (r < 0 || r >= images.shape()[0]) {
      fail(ErrorKind::index, "transforms", "row ", r, " is out of range for images ",
           images.shape());
    }
  }
}

}  // namespace detail

namespace {
using namespace detail;

struct Image {  // floats, or bytes as floats
  Layout l;
  std::vector<float> v;

  float& at(std::int64_t c, std::int64_t y, std::int64_t x) {
    return v[static_cast<std::size_t>((c * l.h + y) * l.w + x)];
  }
};

struct Step {
  Image& image;
  Words words;

  void operator()(const RandomCrop& crop) const {
    Image from = std::move(image);
    const auto [top, left] = draw_crop(crop, from.l.h, from.l.w, words);
    image.l = {from.l.c, crop.height, crop.width, from.l.dtype};
    image.v.assign(static_cast<std::size_t>(from.l.c * crop.height * crop.width), 0);
    for (std::int64_t c = 0; c < from.l.c; ++c) {
      for (std::int64_t y = 0; y < crop.height; ++y) {
        for (std::int64_t x = 0; x < crop.width; ++x) {
          const std::int64_t i = y + top, j = x + left;
          if (i >= 0 && i < from.l.h && j >= 0 && j < from.l.w) {
            image.at(c, y, x) = from.at(c, i, j);
          }
        }
      }
    }
  }
  void operator()(const RandomHorizontalFlip& flip) const {
    if (!draw_flip(flip, words) || image.l.w == 0) return;
    for (auto row = image.v.begin(); row != image.v.end(); row += image.l.w) {
      std::reverse(row, row + image.l.w);
    }
  }
  void operator()(const Cutout& cut) const {
    const Box b = draw_cutout(cut, image.l.h, image.l.w, words);
    for (std::int64_t c = 0; c < image.l.c; ++c) {
      for (std::int64_t y = b.top; y < b.bottom; ++y) {
        for (std::int64_t x = b.left; x < b.right; ++x) image.at(c, y, x) = 0;
      }
    }
  }
  void operator()(const ToFloat&) const {
    if (image.l.dtype != DType::uint8) return;
    image.l.dtype = DType::float32;
    for (float& v : image.v) v = as_unit(v);
  }
  void operator()(const Normalize& n) const {
    const std::int64_t plane = image.l.h * image.l.w;
    for (std::int64_t c = 0; c < image.l.c; ++c) {
      for (std::int64_t i = c * plane; i < (c + 1) * plane; ++i) {
        image.v[static_cast<std::size_t>(i)] =
            normalized(image.v[static_cast<std::size_t>(i)], n, c);
      }
    }
  }
};

}  // namespace

Tensor transform_stepwise(const std::vector<Transform>& steps, const Tensor& images,
                          std::span<const std::int64_t> rows, std::span<const std::int64_t> numbers,
                          Draw draw) {
  const Layout in = layout_of(images), out = layout_after(steps, images);
  check_rows(rows, images);
  const auto n = static_cast<std::int64_t>(rows.size());
  const Tensor source = images.contiguous_data();
  Tensor result = Tensor::empty({n, out.c, out.h, out.w}, out.dtype);
  const std::int64_t from_size = in.c * in.h * in.w, to_size = out.c * out.h * out.w;
  parallel_for(n, images_per_chunk, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t row = rows[static_cast<std::size_t>(i)],
                         number = numbers[static_cast<std::size_t>(i)];
      Image image{in, std::vector<float>(static_cast<std::size_t>(from_size))};
      if (in.dtype == DType::uint8) {
        std::copy_n(source.data<std::uint8_t>() + row * from_size, from_size, image.v.begin());
      } else {
        std::copy_n(source.data<float>() + row * from_size, from_size, image.v.begin());
      }
      for (std::size_t t = 0; t < steps.size(); ++t) {
        std::visit(Step{image, words_for(draw, t, number)}, steps[t]);
      }
      if (out.dtype == DType::uint8) {
        std::transform(image.v.begin(), image.v.end(), result.data<std::uint8_t>() + i * to_size,
                       [](float v) { return static_cast<std::uint8_t>(v); });
      } else {
        std::copy(image.v.begin(), image.v.end(), result.data<float>() + i * to_size);
      }
    }
  });
  return result;
}

}  // namespace lg::data
