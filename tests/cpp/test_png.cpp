// test_png.cpp: the pixels that an inflated file holds are those that were written; checksums hold.
#include "lightgrad/io/png.h"

#include <gtest/gtest.h>

#include "lightgrad/ops/creation.h"
#include "lightgrad/ops/ops.h"
#include "tests/cpp/io_testing.h"

namespace lg::io {
namespace {

class PngTest : public FolderTest {};

// Without zlib here: what a reader would see is tested in Python (tests/python/test_io.py).
TEST_F(PngTest, TheHeaderSaysSizeAndColours) {
  const Tensor grey = to(arange(6), DType::uint8);
  const std::string one = encode_png(reshape(grey, {2, 3}));
  EXPECT_EQ(one.substr(0, 8), "\x89PNG\r\n\x1a\n");
  EXPECT_EQ(one.substr(8, 8), std::string("\0\0\0\x0dIHDR", 8));
  EXPECT_EQ(one.substr(16, 13), std::string("\0\0\0\3\0\0\0\2\x08\0\0\0\0", 13));
  // The end is the same in every file, its checksum with it.
  EXPECT_EQ(one.substr(one.size() - 12), std::string("\0\0\0\0IEND\xae\x42\x60\x82", 12));
  EXPECT_EQ(one, encode_png(reshape(grey, {1, 2, 3})));
  const std::string three = encode_png(reshape(grey, {3, 1, 2}));
  EXPECT_EQ(three.substr(16, 13), std::string("\0\0\0\2\0\0\0\1\x08\2\0\0\0", 13));
}

TEST_F(PngTest, SavedInOneStep) {
  const Tensor image = to(reshape(arange(12), {3, 2, 2}), DType::uint8);
  save_png(at("a.png"), image);
  EXPECT_EQ(read_text(at("a.png")), encode_png(image));
  EXPECT_EQ(listing(), std::vector<std::string>{"a.png"});
  expect_error([&] { save_png(at("none/a.png"), image); }, ErrorKind::io, "save_png: cannot write");
}

TEST_F(PngTest, WhatIsNoImageIsNamed) {
  const char* expected = ", expected uint8 [h, w], [1, h, w] or [3, h, w]";
  for (const Shape& shape : {Shape{4}, Shape{2, 3, 4}, Shape{1, 1, 2, 2}, Shape{3, 0, 4}}) {
    expect_error([&] { encode_png(zeros(shape, DType::uint8)); }, ErrorKind::value,
                 text("encode_png: image is uint8 ", shape, expected));
  }
  expect_error(
      [] {
        encode_png(zeros({2, 2}));
      },
      ErrorKind::type, text("encode_png: image is float32 [2, 2]", expected));
}

}  // namespace
}  // namespace lg::io
