// test_idx.cpp: IDX and CIFAR-10 files, sound ones of every kind and damaged ones of every kind.
#include "lightgrad/data/idx.h"

#include <gtest/gtest.h>

#include <bit>

#include "lightgrad/base/memory.h"
#include "lightgrad/data/cifar.h"
#include "tests/cpp/data_testing.h"
#include "tests/cpp/io_testing.h"

namespace lg::data {
namespace {

Tensor parse(const std::string& s) { return parse_idx(bytes_of(s), "a.idx"); }

// Refused with this text, plain and gzipped alike.
void refuses(const std::string& s, const std::string& part, ErrorKind kind = ErrorKind::io) {
  expect_error([&] { parse(s); }, kind, "read_idx: a.idx: " + part);
  expect_error([&] { parse(gzipped(s)); }, kind, "read_idx: a.idx: ");
}

TEST(Idx, EveryElementType) {
  const std::vector<double> values{-2, 3, 0, 1, 127, -128};
  struct Case {
    int code, bytes;
    DType dtype;
  };
  for (const Case c : {Case{9, 1, DType::int32}, {11, 2, DType::int32}, {12, 4, DType::int32}}) {
    std::string s = idx_header(c.code, {2, 3});
    for (const double v : values) s += big_endian(static_cast<std::uint64_t>(v), c.bytes);
    for (const std::string& file : {s, gzipped(s)}) {
      const Tensor t = parse(file);
      EXPECT_EQ(t.dtype(), c.dtype);
      EXPECT_EQ(t.shape(), (Shape{2, 3}));
      EXPECT_EQ(t.to_vector<double>(), values) << c.code;
    }
  }
  std::string f32 = idx_header(13, {6}), f64 = idx_header(14, {1, 6, 1});
  for (const double v : values) {
    f32 += big_endian(std::bit_cast<std::uint32_t>(static_cast<float>(v)), 4);
    f64 += big_endian(std::bit_cast<std::uint64_t>(v), 8);
  }
  EXPECT_EQ(parse(f32).to_vector<double>(), values);
  EXPECT_EQ(parse(f32).dtype(), DType::float32);
  EXPECT_EQ(parse(f64).to_vector<double>(), values);
  EXPECT_EQ(parse(f64).shape(), (Shape{1, 6, 1}));
  const Tensor bytes = parse(idx_header(8, {3}) + "\x01\xff\x80");
  EXPECT_EQ(bytes.dtype(), DType::uint8);
  EXPECT_EQ(bytes.to_vector<int>(), (std::vector<int>{1, 255, 128}));
}

TEST(Idx, NothingInside) {
  EXPECT_EQ(parse(idx_header(8, {0, 28, 28})).shape(), (Shape{0, 28, 28}));
  EXPECT_EQ(parse(idx_header(14, {0xffffffff, 0xffffffff, 0})).numel(), 0);
  refuses(idx_header(8, {0}) + "x", "1 bytes follow the last element");
}

TEST(Idx, DamagedHeaders) {
  refuses("", "it is too short for an IDX file");
  refuses(std::string("\0\0\x08", 3), "it is too short for an IDX file");
  refuses("\x89PNG\r\n\x1a\n", "it does not begin with two zero bytes, as IDX files do");
  refuses(std::string("\0\1\x08\1\0\0\0\1a", 9), "it does not begin with two zero bytes");
  refuses(idx_header(10, {1}) + "a", "the type code is 10, expected 8 (uint8), 9 (int8)");
  refuses(idx_header(0, {1}) + "a", "the type code is 0, expected");
  refuses(idx_header(8, {}), "it has no dimensions");
  refuses(idx_header(8, std::vector<std::uint32_t>(9, 1)) + "a",
          "a tensor has at most 8 dimensions, the file has 9", ErrorKind::value);
  refuses(std::string("\0\0\x08\3\0\0\0\1\0\0", 10), "it ends in its header of 3 dimensions");
}

TEST(Idx, CountsBeyondTheFile) {
  refuses(idx_header(8, {2, 3}) + "12345",
          "it claims [2, 3] elements of 1 bytes, more than the 5 bytes that can follow its header");
  refuses(idx_header(14, {2}) + std::string(15, 'x'), "it claims [2] elements of 8 bytes, more");
  const std::int64_t before = memory_stats().current;
  const std::uint32_t most = 0xffffffff;
  refuses(idx_header(8, {most}), "it claims [4294967295] elements");
  refuses(idx_header(14, {most, most, most, most, most, most, most, most}) + "x", "it claims [");
  refuses(idx_header(12, {1u << 31, 1u << 31, 4}), "it claims [");  // 2^66 bytes: 0 in 64 bits
  EXPECT_EQ(memory_stats().current, before);
}

TEST(Idx, TrailingBytes) { refuses(idx_header(8, {2}) + "123", "1 bytes follow the last element"); }

TEST(Idx, DamagedGzipStreams) {
  const std::string plain = idx_header(8, {300}) + std::string(300, 'a') + "",
                    good = gzipped(plain);
  EXPECT_EQ(parse(good).numel(), 300);
  for (std::size_t n = 2; n < good.size(); ++n) {  // cut anywhere
    expect_error([&] { parse(good.substr(0, n)); }, ErrorKind::io, "a.idx: ");
  }
  expect_error([&] { parse(good.substr(0, good.size() - 9)); }, ErrorKind::io,
               "a.idx: it ends in the middle of the gzip stream");
  std::string wrong_sum = good;
  wrong_sum[good.size() - 6] ^= 1;
  expect_error([&] { parse(wrong_sum); }, ErrorKind::io, "a.idx: incorrect data check");
  expect_error([&] { parse(good + "xyz"); }, ErrorKind::io,
               "a.idx: 3 bytes follow the gzip stream");
  expect_error([&] { parse(gzipped(plain + "b")); }, ErrorKind::io,
               "a.idx: the gzip stream goes on behind the data");
  expect_error([&] { parse(gzipped(idx_header(8, {301}) + std::string(300, 'a'))); }, ErrorKind::io,
               "a.idx: it claims [301] elements of 1 bytes, but ends 1 bytes before");
  expect_error([&] { parse(std::string("\x1f\x8b", 2) + "not deflate"); }, ErrorKind::io,
               "a.idx: unknown compression method");
}

TEST(Idx, AGzipBombTakesNoMemory) {
  // 64 MiB of zeros in 64 KiB. As a claim of little, and of more than 64 KiB can ever expand to.
  const std::string zeros(64 << 20, '\0');
  const std::string bomb = gzipped(idx_header(8, {10}) + zeros);
  const std::string liar = gzipped(idx_header(8, {1u << 31}) + zeros);
  const std::int64_t before = memory_stats().current;
  reset_peak_memory();
  expect_error([&] { parse(bomb); }, ErrorKind::io, "the gzip stream goes on behind the data");
  expect_error([&] { parse(liar); }, ErrorKind::io,
               "a.idx: it claims [2147483648] elements of 1 bytes, more than the ");
  EXPECT_LT(memory_stats().peak - before, 1 << 20);
}

class IdxFile : public FolderTest {};

TEST_F(IdxFile, PlainAndGzipped) {
  std::string s = idx_header(11, {100, 50});
  for (int i = 0; i < 5000; ++i) s += big_endian(static_cast<std::uint64_t>(i - 2500), 2);
  write_text(at("plain"), s);
  write_text(at("packed"), gzipped(s));
  const Tensor t = read_idx(at("plain"));
  EXPECT_EQ(t.shape(), (Shape{100, 50}));
  for (int i = 0; i < 5000; ++i) ASSERT_EQ(t.data<std::int32_t>()[i], i - 2500);
  EXPECT_TRUE(same_bits(read_idx(at("packed")), t));
  write_text(at("plain"), s + "x");
  expect_error([&] { read_idx(at("plain")); }, ErrorKind::io,
               "read_idx: " + at("plain") + ": 1 bytes follow the last element");
  write_text(at("plain"), s.substr(0, s.size() - 1));
  expect_error([&] { read_idx(at("plain")); }, ErrorKind::io, "more than the 9999 bytes that can");
  write_text(at("plain"), "");
  expect_error([&] { read_idx(at("plain")); }, ErrorKind::io, "it is too short for an IDX file");
  expect_error([&] { read_idx(at("none")); }, ErrorKind::io,
               "read_idx: cannot read " + at("none") + ": No such file or directory");
  expect_error([&] { read_idx(folder.string()); }, ErrorKind::io, "it is a folder");
}

// --- CIFAR-10 ---

std::string cifar_record(int label, int seed) {
  std::string s(1, static_cast<char>(label));
  for (int i = 0; i < 3072; ++i) s += static_cast<char>(i * 7 + seed);
  return s;
}

TEST(Cifar10, Records) {
  const Cifar c = parse_cifar10(bytes_of(cifar_record(3, 0) + cifar_record(9, 1)));
  EXPECT_EQ(c.images.shape(), (Shape{2, 3, 32, 32}));
  EXPECT_EQ(c.images.dtype(), DType::uint8);
  EXPECT_EQ(c.labels.to_vector<int>(), (std::vector<int>{3, 9}));
  for (int i = 0; i < 2 * 3072; ++i) {
    ASSERT_EQ(c.images.data<std::uint8_t>()[i], static_cast<std::uint8_t>(i % 3072 * 7 + i / 3072));
  }
}

TEST(Cifar10, Damaged) {
  const auto refuses = [](const std::string& s, const std::string& part) {
    expect_error([&] { parse_cifar10(bytes_of(s), "b.bin"); }, ErrorKind::io,
                 "read_cifar10: b.bin: " + part);
  };
  refuses("", "its 0 bytes are not a number of records of 3073");
  refuses(cifar_record(1, 0) + "x", "its 3074 bytes are not a number of records of 3073");
  refuses(cifar_record(1, 0).substr(1), "its 3072 bytes are not");
  refuses(cifar_record(1, 0) + cifar_record(10, 0), "the label of record 1 is 10, expected 0 to 9");
  refuses(cifar_record(255, 0), "the label of record 0 is 255, expected 0 to 9");
}

class CifarFiles : public FolderTest {};

TEST_F(CifarFiles, InTheirOrder) {
  std::string a, b;
  for (int i = 0; i < 250; ++i) a += cifar_record(i % 10, i);  // more than one piece of 100
  b = cifar_record(7, 77);
  write_text(at("a"), a);
  write_text(at("b"), b);
  const Cifar c = read_cifar10({at("a"), at("b")});
  const Cifar whole = parse_cifar10(bytes_of(a + b));
  EXPECT_TRUE(same_bits(c.images, whole.images));
  EXPECT_TRUE(same_bits(c.labels, whole.labels));
  write_text(at("b"), b + "x");
  expect_error(
      [&] {
        read_cifar10({at("a"), at("b")});
      },
      ErrorKind::io, "read_cifar10: " + at("b") + ": its 3074 bytes");
  a[3073 * 200] = 11;
  write_text(at("a"), a);
  expect_error([&] { read_cifar10({at("a")}); }, ErrorKind::io, "the label of record 200 is 11");
  expect_error([&] { read_cifar10({at("none")}); }, ErrorKind::io, "cannot read ");
}

}  // namespace
}  // namespace lg::data
