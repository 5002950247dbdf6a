// data.h: the images to learn and those to test with, found, split and transformed.
#pragma once

#include <memory>
#include <string>

#include "examples/common/progress.h"
#include "options.h"

namespace data = lg::data;
using lg::Tensor;

struct Images {
  std::shared_ptr<const data::Dataset> train, test;
  std::vector<std::string> classes;
};

inline std::shared_ptr<data::ImageDataset> open(const Options& o, bool train) {
  const data::FindOptions where{.root = o.data, .train = train, .progress = download_bar()};
  if (o.dataset == "mnist") return std::make_shared<data::MNIST>(where);
  if (o.dataset == "fashion-mnist") return std::make_shared<data::FashionMNIST>(where);
  return std::make_shared<data::CIFAR10>(where);
}

inline Images images_of(const Options& o) {
  const Recipe& recipe = recipe_of(o);
  const data::Transform to_float = data::ToFloat(),
                        normalize = data::Normalize(recipe.mean, recipe.std);
  std::vector<data::Transform> augment{data::RandomCrop(recipe.size, recipe.shift)};
  if (recipe.flip) augment.push_back(data::RandomHorizontalFlip());
  augment.push_back(to_float);
  augment.push_back(normalize);
  const auto images = [](const data::ImageDataset& from, const data::Compose& transform) {
    return std::make_shared<data::ImageDataset>(from.images(), from.labels(), transform,
                                                from.classes());
  };

  const auto test = open(o, false);
  const auto tested = images(*test, {to_float, normalize});
  if (o.split == 0) {
    return {images(*open(o, true), data::Compose(augment)), tested, test->classes()};
  }
  require(o.split < test->size(), "--split is ", o.split, ", but there are ", test->size(),
          " test images");
  lg::Generator generator(static_cast<std::uint64_t>(o.seed));
  const auto parts = data::random_split(test, {o.split, test->size() - o.split}, &generator);
  const auto train = images(*test, data::Compose(augment));
  return {std::make_shared<data::Subset>(train, parts[0]->indices()),
          std::make_shared<data::Subset>(tested, parts[1]->indices()), test->classes()};
}

// The labels of the images, and some of the images as their file has them.
inline Tensor labels_of(const data::Dataset& images) {
  if (const auto* part = dynamic_cast<const data::Subset*>(&images))
    return data::gather_rows(labels_of(*part->dataset()), part->indices());
  return dynamic_cast<const data::ImageDataset&>(images).labels();
}

inline Tensor pixels_of(const data::Dataset& images, std::vector<std::int64_t> rows) {
  if (const auto* part = dynamic_cast<const data::Subset*>(&images)) {
    for (std::int64_t& row : rows) row = part->indices()[row];
    return pixels_of(*part->dataset(), rows);
  }
  return data::gather_rows(dynamic_cast<const data::ImageDataset&>(images).images(), rows);
}
