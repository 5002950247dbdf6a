// dataset.h: what a loader reads from: samples by their number, alone or a batch at a time. A
// random transform takes its numbers from the seed, the epoch and the sample's number, so they are
// the same in whatever order and on whatever thread samples are made.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "lightgrad/tensor/tensor.h"

namespace lg::data {

struct Draw {
  std::uint64_t seed = 0, epoch = 0;  // epoch < 2^48
};

// A few tensors: the image and its label, say. In a batch each has a leading dimension.
struct Sample {
  std::vector<Tensor> tensors;
  std::shared_ptr<void> foreign;  // instead of tensors: what another language's data set has made

  Sample() = default;
  Sample(std::vector<Tensor> t) : tensors(std::move(t)) {}
  std::size_t size() const { return tensors.size(); }
  const Tensor& operator[](std::size_t i) const { return tensors.at(i); }
};
using Batch = Sample;

// Called from several threads at once: `get` and `batch` change nothing.
class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual std::int64_t size() const = 0;
  // 0 <= index < size().
  virtual Sample get(std::int64_t index, Draw draw) const = 0;
  // The samples one after the other, unless a data set knows a faster way or another form.
  virtual Batch batch(std::span<const std::int64_t> indices, Draw draw) const;

  Sample get(std::int64_t index) const { return get(index, {}); }
};

// Tensors of the same first size: sample i is row i of each.
class TensorDataset : public Dataset {
 public:
  explicit TensorDataset(std::vector<Tensor> tensors);
  using Dataset::get;
  std::int64_t size() const override { return tensors_[0].shape()[0]; }
  Sample get(std::int64_t index, Draw draw) const override;
  Batch batch(std::span<const std::int64_t> indices, Draw draw) const override;
  const std::vector<Tensor>& tensors() const { return tensors_; }

 private:
  std::vector<Tensor> tensors_;
};

// Some samples of another data set, in this order. Their random transforms are those that the other
// gives to the same samples.
class Subset : public Dataset {
 public:
  Subset(std::shared_ptr<const Dataset> dataset, std::vector<std::int64_t> indices);
  using Dataset::get;
  std::int64_t size() const override { return static_cast<std::int64_t>(indices_.size()); }
  Sample get(std::int64_t index, Draw draw) const override;
  Batch batch(std::span<const std::int64_t> indices, Draw draw) const override;
  const std::shared_ptr<const Dataset>& dataset() const { return dataset_; }
  const std::vector<std::int64_t>& indices() const { return indices_; }

 private:
  std::shared_ptr<const Dataset> dataset_;
  std::vector<std::int64_t> indices_;
};

// Subsets of these lengths, drawn without replacement; ValueError unless they add up to the size.
std::vector<std::shared_ptr<Subset>> random_split(std::shared_ptr<const Dataset> dataset,
                                                  const std::vector<std::int64_t>& lengths,
                                                  Generator* generator = nullptr);
// The lengths that make up these fractions of `size`, which add up to 1: rounded down, and what is
// left over goes one by one to the first, the second, ...
std::vector<std::int64_t> split_lengths(std::int64_t size, const std::vector<double>& fractions);

// From images [n, c, h, w] those of `rows`, transformed (transforms.h).
using ImageTransform =
    std::function<Tensor(const Tensor& images, std::span<const std::int64_t> rows, Draw draw)>;

// Images, uint8 or float32 [n, c, h, w], and their labels, integers [n].
class ImageDataset : public Dataset {
 public:
  ImageDataset(Tensor images, Tensor labels, ImageTransform transform = {},
               std::vector<std::string> classes = {});
  using Dataset::get;
  std::int64_t size() const override { return images_.shape()[0]; }
  Sample get(std::int64_t index, Draw draw) const override;
  Batch batch(std::span<const std::int64_t> indices, Draw draw) const override;

  const Tensor& images() const { return images_; }
  const Tensor& labels() const { return labels_; }
  const std::vector<std::string>& classes() const { return classes_; }  // names by label

 private:
  Tensor images_, labels_;
  ImageTransform transform_;
  std::vector<std::string> classes_;
};

// Rows of a tensor, copied one after the other; the caller has checked them.
Tensor gather_rows(const Tensor& t, std::span<const std::int64_t> rows);

}  // namespace lg::data
