#include "lightgrad/data/dataset.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "lightgrad/base/error.h"
#include "lightgrad/base/parallel.h"

namespace lg::data {
namespace {

std::int64_t checked_index(std::int64_t index, std::int64_t size, std::string_view who) {
  if (index >= 0 && index < size) return index;
  fail(ErrorKind::index, who, "index ", index, " is out of range for ", size, " samples");
}

void check_indices(std::span<const std::int64_t> indices, std::int64_t size, std::string_view who) {
  for (const std::int64_t i : indices) checked_index(i, size, who);
}

std::size_t bytes_of_row(const Tensor& t) {
  const Shape& s = t.shape();
  std::size_t bytes = size_of(t.dtype());
  for (int i = 1; i < s.rank(); ++i) bytes *= static_cast<std::size_t>(s[i]);
  return bytes;
}

// Rows per chunk: about 64 KiB.
std::int64_t grain_for(std::size_t row) {
  return std::max<std::int64_t>(1, (std::int64_t{1} << 16) / static_cast<std::int64_t>(row + 1));
}

Tensor row_of(const Tensor& t, std::int64_t index) {
  Shape shape = t.shape();
  shape.erase(0);
  const std::int64_t rows[] = {index};
  const Tensor row = gather_rows(t, rows);
  return row.view_as(shape, contiguous_strides(shape));
}

}  // namespace

Tensor gather_rows(const Tensor& t, std::span<const std::int64_t> rows) {
  Shape shape = t.shape();
  shape[0] = static_cast<std::int64_t>(rows.size());
  Tensor out = Tensor::empty(shape, t.dtype());
  const std::size_t row = bytes_of_row(t);
  if (out.numel() == 0) return out;
  const auto* from = static_cast<const std::byte*>(t.raw_data());
  auto* to = static_cast<std::byte*>(out.raw_data());
  parallel_for(shape[0], grain_for(row), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const auto source = static_cast<std::size_t>(rows[static_cast<std::size_t>(i)]);
      std::memcpy(to + static_cast<std::size_t>(i) * row, from + source * row, row);
    }
  });
  return out;
}

// --- Dataset ---

Batch Dataset::batch(std::span<const std::int64_t> indices, Draw draw) const {
  std::vector<Sample> samples;
  for (const std::int64_t index : indices) {
    samples.push_back(get(index, draw));
    if (samples.back().foreign) {
      fail(ErrorKind::type, "Dataset.batch", "sample ", index,
           " is none of C++; its data set must make batches too");
    }
    if (samples.back().size() != samples[0].size()) {
      fail(ErrorKind::value, "Dataset.batch", "sample ", index, " has ", samples.back().size(),
           " tensors, sample ", indices[0], " has ", samples[0].size());
    }
  }
  Batch out;
  if (samples.empty()) return out;
  for (std::size_t k = 0; k < samples[0].size(); ++k) {
    const Tensor& first = samples[0][k];
    Shape shape = first.shape();
    shape.insert(0, static_cast<std::int64_t>(samples.size()));
    Tensor stacked = Tensor::empty(shape, first.dtype());
    const std::size_t bytes = bytes_of_row(stacked);
    auto* to = static_cast<std::byte*>(stacked.raw_data());
    for (std::size_t i = 0; i < samples.size(); ++i) {
      const Tensor one = samples[i][k].contiguous_data();
      if (one.shape() != first.shape() || one.dtype() != first.dtype()) {
        fail(ErrorKind::value, "Dataset.batch", "samples of a batch must be alike: tensor ", k,
             " of sample ", indices[i], " is ", one.describe(), ", of sample ", indices[0], " ",
             first.describe());
      }
      if (bytes && stacked.numel()) std::memcpy(to + i * bytes, one.raw_data(), bytes);
    }
    out.tensors.push_back(std::move(stacked));
  }
  return out;
}

// --- TensorDataset ---

TensorDataset::TensorDataset(std::vector<Tensor> tensors) : tensors_(std::move(tensors)) {
  if (tensors_.empty()) fail(ErrorKind::value, "TensorDataset", "expected at least one tensor");
  for (Tensor& t : tensors_) {
    if (t.rank() == 0 || tensors_[0].rank() == 0 || t.shape()[0] != tensors_[0].shape()[0]) {
      fail(ErrorKind::value, "TensorDataset", "the tensors must have the same first size, got ",
           tensors_[0].shape(), " and ", t.shape());
    }
    t = t.detach().contiguous_data();
  }
}

Sample TensorDataset::get(std::int64_t index, Draw) const {
  checked_index(index, size(), "TensorDataset");
  Sample s;
  for (const Tensor& t : tensors_) s.tensors.push_back(row_of(t, index));
  return s;
}

Batch TensorDataset::batch(std::span<const std::int64_t> indices, Draw) const {
  check_indices(indices, size(), "TensorDataset");
  Batch b;
  for (const Tensor& t : tensors_) b.tensors.push_back(gather_rows(t, indices));
  return b;
}

// --- Subset ---

Subset::Subset(std::shared_ptr<const Dataset> dataset, std::vector<std::int64_t> indices)
    : dataset_(std::move(dataset)), indices_(std::move(indices)) {
  if (!dataset_) fail(ErrorKind::value, "Subset", "expected a data set");
  check_indices(indices_, dataset_->size(), "Subset");
}

Sample Subset::get(std::int64_t index, Draw draw) const {
  checked_index(index, size(), "Subset");
  return dataset_->get(indices_[static_cast<std::size_t>(index)], draw);
}

Batch Subset::batch(std::span<const std::int64_t> indices, Draw draw) const {
  std::vector<std::int64_t> inner;
  inner.reserve(indices.size());
  for (const std::int64_t i : indices) {
    inner.push_back(indices_[static_cast<std::size_t>(checked_index(i, size(), "Subset"))]);
  }
  return dataset_->batch(inner, draw);
}

std::vector<std::shared_ptr<Subset>> random_split(std::shared_ptr<const Dataset> dataset,
                                                  const std::vector<std::int64_t>& lengths,
                                                  Generator* generator) {
  if (!dataset) fail(ErrorKind::value, "random_split", "expected a data set");
  const std::int64_t size = dataset->size();
  std::int64_t left = size;
  for (const std::int64_t length : lengths) {
    if (length < 0 || length > left) left = -1;
    if (left >= 0) left -= length;
  }
  if (left != 0) {
    std::string list;
    for (const std::int64_t length : lengths) list += text(list.empty() ? "" : ", ", length);
    fail(ErrorKind::value, "random_split", "the lengths [", list, "] do not add up to the ", size,
         " samples");
  }
  std::vector<std::int64_t> order(static_cast<std::size_t>(size));
  fill_permutation(order.data(), size, (generator ? *generator : default_generator()).next());
  std::vector<std::shared_ptr<Subset>> parts;
  auto at = order.begin();
  for (const std::int64_t length : lengths) {
    parts.push_back(std::make_shared<Subset>(dataset, std::vector(at, at + length)));
    at += length;
  }
  return parts;
}

std::vector<std::int64_t> split_lengths(std::int64_t size, const std::vector<double>& fractions) {
  std::vector<std::int64_t> lengths;
  double sum = 0;
  std::int64_t left = size;
  for (const double f : fractions) {
    if (!(f >= 0 && f <= 1)) {
      fail(ErrorKind::value, "random_split", "the fraction ", f, " is not between 0 and 1");
    }
    sum += f;
    lengths.push_back(static_cast<std::int64_t>(std::floor(static_cast<double>(size) * f)));
    left -= lengths.back();
  }
  if (!(std::abs(sum - 1) < 1e-6)) {
    fail(ErrorKind::value, "random_split", "the fractions add up to ", sum, ", expected 1");
  }
  for (std::size_t i = 0; left > 0; --left, i = (i + 1) % lengths.size()) ++lengths[i];
  return lengths;
}

// --- ImageDataset ---

ImageDataset::ImageDataset(Tensor images, Tensor labels, ImageTransform transform,
                           std::vector<std::string> classes)
    : images_(images.detach().contiguous_data()),
      labels_(labels.detach().contiguous_data()),
      transform_(std::move(transform)),
      classes_(std::move(classes)) {
  if (images_.rank() != 4 ||
      (images_.dtype() != DType::uint8 && images_.dtype() != DType::float32)) {
    fail(ErrorKind::value, "ImageDataset", "expected images as uint8 or float32 [n, c, h, w], got ",
         images_.describe());
  }
  if (labels_.rank() != 1 || !is_integral(labels_.dtype()) ||
      labels_.shape()[0] != images_.shape()[0]) {
    fail(ErrorKind::value, "ImageDataset", "expected an integer label for each of the ",
         images_.shape()[0], " images, got ", labels_.describe());
  }
}

Sample ImageDataset::get(std::int64_t index, Draw draw) const {
  const std::int64_t indices[] = {index};
  Sample s = batch(indices, draw);
  for (Tensor& t : s.tensors) {
    Shape shape = t.shape(), strides = t.strides();
    shape.erase(0);
    strides.erase(0);
    t = t.view_as(shape, strides);
  }
  return s;
}

Batch ImageDataset::batch(std::span<const std::int64_t> indices, Draw draw) const {
  check_indices(indices, size(), "ImageDataset");
  Tensor images = transform_ ? transform_(images_, indices, draw) : gather_rows(images_, indices);
  if (images.rank() == 0 || images.shape()[0] != static_cast<std::int64_t>(indices.size())) {
    fail(ErrorKind::value, "ImageDataset", "the transform of ", indices.size(), " images gave ",
         images.describe());
  }
  return Batch({std::move(images), gather_rows(labels_, indices)});
}

}  // namespace lg::data
