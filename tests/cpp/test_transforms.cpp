// test_transforms.cpp: the steps one by one against their definition, the fused pass against the
// plain one, and what the random numbers depend on.
#include "lightgrad/data/transforms.h"

#include <gtest/gtest.h>

#include <set>

#include "lightgrad/base/parallel.h"
#include "lightgrad/ops/creation.h"
#include "tests/cpp/io_testing.h"

namespace lg::data {
namespace {

const std::vector<float> mean{0.49f, 0.48f, 0.45f}, deviation{0.25f, 0.24f, 0.26f};

Tensor some_images(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w) {
  Tensor t = Tensor::empty({n, c, h, w}, DType::uint8);
  for (std::int64_t i = 0; i < t.numel(); ++i) {
    t.data<std::uint8_t>()[i] = static_cast<std::uint8_t>(random_word({5, 0}, i) % 255 + 1);
  }
  return t;
}

std::vector<std::int64_t> iota(std::int64_t n) {
  std::vector<std::int64_t> v;
  for (std::int64_t i = 0; i < n; ++i) v.push_back(i);
  return v;
}

TEST(Transforms, FusedIsStepwiseBitForBit) {
  const Tensor images = some_images(40, 3, 32, 32), grey = some_images(40, 1, 9, 7);
  const std::vector<std::int64_t> rows{7, 0, 39, 7, 12, 31, 1, 2, 3, 4, 5, 6, 8, 9, 10};
  const ToFloat to_float;
  const Normalize normalize(mean, deviation), one({0.5f}, {0.25f});
  const RandomHorizontalFlip flip, always(1), never(0);
  const std::vector<std::vector<Transform>> lists{
      {RandomCrop(32, 4), flip, to_float, normalize},
      {RandomCrop(32, 4), flip, to_float, normalize, Cutout(8), Cutout(5)},
      {flip, RandomCrop(28, 4), always, RandomCrop(30, 3), to_float, one},
      {RandomCrop(5, 0), to_float},
      {RandomCrop(64, 90), always, to_float},  // may lie beside the image altogether
      {always, to_float, one, one},
      {never, to_float},
      {to_float, Cutout(0), Cutout(100)}};
  for (const auto& steps : lists) {
    for (const Tensor& t : {images, grey}) {
      const Compose compose(steps);
      if (t.shape()[1] == 1 && compose.to_string().find("0.49") != std::string::npos) continue;
      if (t.shape()[1] == 1 && compose.to_string().find("(32, 32)") != std::string::npos) continue;
      if (t.shape()[1] == 1 && compose.to_string().find("(28, 28)") != std::string::npos) continue;
      for (const Draw draw : {Draw{1, 0}, Draw{1, 1}, Draw{~0ull, (1ull << 48) - 1}}) {
        EXPECT_TRUE(
            same_bits(compose(t, rows, draw), transform_stepwise(steps, t, rows, rows, draw)))
            << compose.to_string();
      }
    }
  }
}

TEST(Transforms, OtherOrdersAreTakenStepByStep) {
  const Tensor images = some_images(6, 3, 8, 8);
  const auto rows = iota(6);
  const Draw draw{3, 4};
  // Over bytes they stay bytes.
  const Tensor cut =
      Compose{RandomCrop(8, 2), Cutout(3), RandomHorizontalFlip()}(images, rows, draw);
  EXPECT_EQ(cut.dtype(), DType::uint8);
  // Over floats: the same as ToFloat first, since zeros stay zeros.
  const std::vector<Transform> geometry{RandomCrop(8, 2), RandomHorizontalFlip()};
  const Tensor floats = Compose{ToFloat()}(images, rows, draw);
  EXPECT_TRUE(
      same_bits(Compose(geometry)(floats, rows, draw),
                Compose{RandomCrop(8, 2), RandomHorizontalFlip(), ToFloat()}(images, rows, draw)));
  // What comes in after Normalize is zero, before it the value that zero has.
  const Normalize normalize({0.5f}, {0.5f});
  const Tensor after = Compose{ToFloat(), normalize, RandomCrop(9, 1)}(images, rows, draw),
               before = Compose{RandomCrop(9, 1), ToFloat(), normalize}(images, rows, draw);
  EXPECT_EQ(after.shape(), (Shape{6, 3, 9, 9}));
  int zeros = 0, ones = 0;
  for (const float v : after.to_vector<float>()) zeros += v == 0;
  for (const float v : before.to_vector<float>()) ones += v == -1;
  EXPECT_EQ(zeros, 6 * 3 * (81 - 64));
  EXPECT_EQ(ones, 6 * 3 * (81 - 64));
}

TEST(Transforms, CropsAreAllPartsOfThePaddedImage) {
  Tensor image = Tensor::empty({1, 1, 2, 2}, DType::uint8);
  for (int i = 0; i < 4; ++i) image.data<std::uint8_t>()[i] = static_cast<std::uint8_t>(i + 1);
  const int padded[4][4] = {{0, 0, 0, 0}, {0, 1, 2, 0}, {0, 3, 4, 0}, {0, 0, 0, 0}};
  std::set<std::vector<int>> seen, expected;
  for (int y = 0; y < 3; ++y) {
    for (int x = 0; x < 3; ++x) {
      expected.insert({padded[y][x], padded[y][x + 1], padded[y + 1][x], padded[y + 1][x + 1]});
    }
  }
  for (std::uint64_t epoch = 0; epoch < 200; ++epoch) {
    seen.insert(Compose{RandomCrop(2, 1)}(image, Draw{7, epoch}).to_vector<int>());
  }
  EXPECT_EQ(seen, expected);
}

TEST(Transforms, FlipsHaveTheirProbability) {
  Tensor image = Tensor::empty({1, 1, 1, 2}, DType::uint8);
  image.data<std::uint8_t>()[0] = 1;
  image.data<std::uint8_t>()[1] = 2;
  const std::vector<std::int64_t> rows(1, 0);
  int flipped = 0;
  for (std::uint64_t epoch = 0; epoch < 4000; ++epoch) {
    const auto v = Compose{RandomHorizontalFlip(0.25)}(image, rows, {7, epoch}).to_vector<int>();
    flipped += v == std::vector<int>{2, 1};
  }
  EXPECT_NEAR(flipped, 1000, 4 * 27.4);  // four standard deviations
}

TEST(Transforms, CutoutIsASquareAroundEachPixel) {
  const Tensor image = Compose{ToFloat()}(some_images(1, 2, 5, 6));
  std::set<std::vector<bool>> seen, expected;
  for (int cy = 0; cy < 5; ++cy) {
    for (int cx = 0; cx < 6; ++cx) {
      std::vector<bool> zero;
      for (int i = 0; i < 60; ++i) {
        const int y = i / 6 % 5, x = i % 6;
        zero.push_back(y >= cy - 1 && y < cy + 2 && x >= cx - 1 && x < cx + 2);
      }
      expected.insert(zero);
    }
  }
  for (std::uint64_t epoch = 0; epoch < 600; ++epoch) {
    std::vector<bool> zero;
    for (const float v : Compose{Cutout(3)}(image, Draw{1, epoch}).to_vector<float>()) {
      zero.push_back(v == 0);
    }
    seen.insert(zero);
  }
  EXPECT_EQ(seen, expected);
}

TEST(Transforms, DependOnSeedEpochSampleAndPlace) {
  const Tensor images = some_images(64, 1, 16, 16);
  const Compose crop{RandomCrop(8), ToFloat()},
      second{RandomHorizontalFlip(0), RandomCrop(8), ToFloat()};
  const auto rows = iota(64);
  const Tensor base = crop(images, rows, {1, 1});
  EXPECT_TRUE(same_bits(crop(images, rows, {1, 1}), base));
  EXPECT_FALSE(same_bits(crop(images, rows, {2, 1}), base));
  EXPECT_FALSE(same_bits(crop(images, rows, {1, 2}), base));
  EXPECT_FALSE(same_bits(second(images, rows, {1, 1}), base));
  for (std::int64_t i = 0; i < 64; ++i) {  // each by itself
    const std::vector<std::int64_t> row{i};
    const Tensor alone = crop(images, row, {1, 1});
    ASSERT_EQ(std::memcmp(alone.raw_data(), base.data<float>() + i * 64, 256), 0) << i;
  }
  const int threads = num_threads();
  for (const int n : {1, 2, 4, 8}) {
    set_num_threads(n);
    EXPECT_TRUE(same_bits(crop(images, rows, {1, 1}), base)) << n;
  }
  set_num_threads(threads);
}

TEST(Transforms, OneImage) {
  const Tensor images = some_images(3, 3, 8, 8);
  const Compose compose{RandomCrop(8, 2), RandomHorizontalFlip(), ToFloat()};
  const Tensor all = compose(images, Draw{1, 2});
  const Tensor first = compose(images.view_as({3, 8, 8}, {64, 8, 1}), Draw{1, 2});
  EXPECT_EQ(first.shape(), (Shape{3, 8, 8}));
  EXPECT_EQ(std::memcmp(first.raw_data(), all.raw_data(), 3 * 64 * 4), 0);
  const std::vector<std::int64_t> last{2};  // another image under the number of the last
  EXPECT_TRUE(same_bits(compose(images.view_as({1, 3, 8, 8}, {0, 64, 8, 1}, 384), {1, 2}, 2),
                        compose(images, last, {1, 2})));
  // A view that is not contiguous, here with its columns for rows.
  const Tensor turned = images.view_as({3, 3, 8, 8}, {192, 64, 1, 8});
  EXPECT_TRUE(same_bits(compose(turned, Draw{1, 2}), compose(turned.copy(), Draw{1, 2})));
}

TEST(Transforms, Names) {
  EXPECT_EQ((Compose{RandomCrop(32, 4), RandomHorizontalFlip(), ToFloat(), Normalize({0.5f}, {2}),
                     Cutout(16)}
                 .to_string()),
            "Compose([RandomCrop((32, 32), padding=4), RandomHorizontalFlip(p=0.5), ToFloat(), "
            "Normalize([0.5], [2]), Cutout(16)])");
}

TEST(Transforms, Errors) {
  const Tensor images = some_images(2, 3, 8, 8);
  const auto refuses = [&](const Compose& c, const std::string& part) {
    expect_error([&] { c(images); }, ErrorKind::value, part);
  };
  refuses(Compose{RandomCrop(11, 1)},
          "RandomCrop: a part of 11 x 11 is larger than the image of 8 x 8 with padding 1");
  refuses(Compose{RandomCrop(4), RandomCrop(5)}, "larger than the image of 4 x 4 with padding 0");
  refuses(Compose{Normalize({0}, {1})},
          "Normalize: expected float32 images, got uint8; put ToFloat() before it");
  refuses(Compose{ToFloat(), Normalize({0, 0}, {1, 1})},
          "Normalize: mean and std have 2 numbers, the images have 3 channels");
  expect_error(
      [] {
        Compose{ToFloat()}(Tensor::empty({2, 2}, DType::uint8));
      },
      ErrorKind::value,
      "transforms: expected images as uint8 or float32 [n, c, h, w], got uint8 [2, 2]");
  expect_error(
      [] {
        Compose{ToFloat()}(Tensor::empty({1, 1, 2, 2}, DType::int64));
      },
      ErrorKind::value, "got int64 [1, 1, 2, 2]");
  for (const std::int64_t row : {2, -1}) {
    const std::vector<std::int64_t> rows{0, row};
    expect_error([&] { Compose{ToFloat()}(images, rows); }, ErrorKind::index,
                 "transforms: row " + std::to_string(row) + " is out of range for images [2, 3,");
  }
  expect_error([] { RandomCrop(0); }, ErrorKind::value,
               "RandomCrop: expected a size of at least 1");
  expect_error([] { RandomCrop(1, -1); }, ErrorKind::value, "got 1 x 1 and padding -1");
  expect_error([] { RandomCrop(1, INT64_MAX); }, ErrorKind::value, "both at most 2^31");
  expect_error([] { RandomHorizontalFlip(1.5); }, ErrorKind::value,
               "RandomHorizontalFlip: p is 1.5, expected 0 to 1");
  expect_error([] { Cutout(-1); }, ErrorKind::value, "Cutout: the size is -1");
  expect_error(
      [] {
        Normalize({1, 2}, {1});
      },
      ErrorKind::value, "Normalize: expected as many means as deviations, got 2 and 1");
  expect_error([] { Normalize({1}, {0}); }, ErrorKind::value, "Normalize: a deviation is 0");
}

}  // namespace
}  // namespace lg::data
