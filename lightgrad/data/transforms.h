// transforms.h: what is done to images on their way into a batch. Random ones depend on the seed,
// the epoch, the sample's number and the place in the list, and on nothing else. The usual list
// (crop, flip, to float, normalise, cutout, over bytes) runs in one pass; any other step by step,
// to the same bits.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "lightgrad/data/dataset.h"
#include "lightgrad/tensor/tensor.h"

namespace lg::data {

// A random part of height x width, after `padding` zeros were put around the image.
struct RandomCrop {
  std::int64_t height, width, padding;
  RandomCrop(std::int64_t height, std::int64_t width, std::int64_t padding);
  explicit RandomCrop(std::int64_t size, std::int64_t padding = 0)
      : RandomCrop(size, size, padding) {}
  std::string to_string() const;
};

// Mirrored left to right with probability p.
struct RandomHorizontalFlip {
  double p;
  explicit RandomHorizontalFlip(double p = 0.5);
  std::string to_string() const;
};

// A square of zeros around a random pixel, cut at the edges (DeVries and Taylor, 2017).
struct Cutout {
  std::int64_t size;
  explicit Cutout(std::int64_t size);
  std::string to_string() const;
};

// Bytes as float32 from 0 to 1; floats stay what they are.
struct ToFloat {
  std::string to_string() const;
};

// (x - mean) / std, one number for each channel or one for all.
struct Normalize {
  std::vector<float> mean, std;
  Normalize(std::vector<float> mean, std::vector<float> std);
  std::string to_string() const;
};

using Transform = std::variant<RandomCrop, RandomHorizontalFlip, Cutout, ToFloat, Normalize>;

// Transforms in their order; itself an ImageTransform.
class Compose {
 public:
  Compose(std::initializer_list<Transform> steps) : steps_(steps) {}
  explicit Compose(std::vector<Transform> steps) : steps_(std::move(steps)) {}

  // Of images, uint8 or float32 [n, c, h, w], those of `rows`, whose numbers they are too: a
  // new tensor. ValueError for images that a step does not take.
  Tensor operator()(const Tensor& images, std::span<const std::int64_t> rows, Draw draw = {}) const;
  // All of the images, as numbers `first` and on; or a single one [c, h, w].
  Tensor operator()(const Tensor& images, Draw draw = {}, std::int64_t first = 0) const;

  const std::vector<Transform>& steps() const { return steps_; }
  std::string to_string() const;

 private:
  std::vector<Transform> steps_;
};

// Of `images` those of `rows`, whose random numbers are those of `numbers`.
Tensor transform(const std::vector<Transform>& steps, const Tensor& images,
                 std::span<const std::int64_t> rows, std::span<const std::int64_t> numbers,
                 Draw draw);
// The plain version: every step over every image by itself. Tests hold the fused one against it.
Tensor transform_stepwise(const std::vector<Transform>& steps, const Tensor& images,
                          std::span<const std::int64_t> rows, std::span<const std::int64_t> numbers,
                          Draw draw);

}  // namespace lg::data
