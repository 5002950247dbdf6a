// test_safetensors.cpp: what is written is read back bit by bit; what is damaged is refused by
// name.
#include "lightgrad/io/safetensors.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <limits>
#include <random>

#include "lightgrad/base/file.h"
#include "lightgrad/base/memory.h"
#include "tests/cpp/io_testing.h"

namespace lg::io {
namespace {

// Bytes 0, 7, 14, ... (0 and 1 for bool): every bit pattern of a half occurs, NaNs among them.
Tensor pattern(const Shape& shape, DType dtype) {
  Tensor t = Tensor::empty(shape, dtype);
  auto* bytes = static_cast<std::uint8_t*>(t.raw_data());
  for (std::int64_t i = 0; i < t.numel() * static_cast<std::int64_t>(size_of(dtype)); ++i) {
    bytes[i] = static_cast<std::uint8_t>(dtype == DType::bool_ ? i % 2 : i * 7);
  }
  return t;
}

// A file of this header and so many zero bytes.
std::string file_of(const std::string& header, std::size_t data) {
  const std::uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), 8) + header + std::string(data, '\0');
}
Safetensors parse(const std::string& bytes) {
  return parse_safetensors(std::as_bytes(std::span(bytes)), "x.safetensors");
}
void refuses(const std::string& header, std::size_t data, const std::string& part,
             ErrorKind kind = ErrorKind::io) {
  SCOPED_TRACE(header.substr(0, 200));
  expect_error([&] { parse(file_of(header, data)); }, kind, "safetensors: x.safetensors: " + part);
}
// A header with the tensor "w" alone.
std::string only(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"w":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets +
         "}}";
}

class SafetensorsTest : public FolderTest {};

TEST_F(SafetensorsTest, EveryDtypeAndShapeComesBack) {
  NamedTensors tensors;
  for (int i = 0; i < dtype_count; ++i) {
    const auto t = static_cast<DType>(i);
    const std::string name(name_of(t));
    tensors.emplace_back(name, pattern({5, 3}, t));
    tensors.emplace_back(name + ".scalar", pattern({}, t));
    tensors.emplace_back(name + ".empty", pattern({0, 4}, t));
    tensors.emplace_back(name + ".long", pattern({1, 2, 1, 3, 1, 2, 1, 2}, t));
    tensors.emplace_back(name + ".all", pattern({65537}, t));
  }
  save_safetensors(at("a"), tensors);
  const Safetensors file = load_safetensors(at("a"));
  ASSERT_EQ(file.tensors.size(), tensors.size());
  const std::map<std::string, Tensor> found(file.tensors.begin(), file.tensors.end());
  for (const auto& [name, tensor] : tensors) {
    SCOPED_TRACE(name);
    ASSERT_TRUE(found.contains(name));
    EXPECT_TRUE(same_bits(found.at(name), tensor));
    EXPECT_TRUE(found.at(name).is_contiguous());
  }
  EXPECT_EQ(listing(), std::vector<std::string>{"a"});
}

TEST_F(SafetensorsTest, ViewsAreWrittenAsTheyAreSeen) {
  const Tensor x = pattern({4, 6}, DType::int32);
  const Tensor transposed = x.view_as({6, 4}, {1, 6});
  const Tensor stretched = x.view_as({3, 6}, {0, 1}, 6);
  save_safetensors(at("a"), {{"transposed", transposed}, {"stretched", stretched}});
  const Safetensors file = load_safetensors(at("a"));
  EXPECT_TRUE(same_bits(file.tensors[0].second, transposed));
  EXPECT_TRUE(same_bits(file.tensors[1].second, stretched));
}

TEST_F(SafetensorsTest, WideElementsComeFirstAndAreAligned) {
  save_safetensors(at("a"), {{"b1", pattern({3}, DType::bool_)},
                             {"f1", pattern({1}, DType::float32)},
                             {"d", pattern({2}, DType::float64)},
                             {"f2", pattern({1}, DType::int32)},
                             {"b2", pattern({1}, DType::uint8)}});
  std::vector<std::string> order;
  for (const auto& [name, tensor] : load_safetensors(at("a")).tensors) order.push_back(name);
  EXPECT_EQ(order, (std::vector<std::string>{"d", "f1", "f2", "b1", "b2"}));
  std::uint64_t length = 0;
  const std::string bytes = read_text(at("a"));
  std::memcpy(&length, bytes.data(), 8);
  EXPECT_EQ(length % 8, 0u);
  EXPECT_EQ(bytes.size(), 8 + length + 16 + 8 + 4);
}

TEST_F(SafetensorsTest, TheBytesAreThoseOfTheFormat) {
  Tensor t = Tensor::empty({2}, DType::int32);
  t.data<std::int32_t>()[0] = 1;
  t.data<std::int32_t>()[1] = -2;
  save_safetensors(at("a"), {{"w", t}}, {{"note", "1"}});
  const std::string header =
      R"({"__metadata__":{"note":"1"},"w":{"dtype":"I32","shape":[2],"data_offsets":[0,8]}})";
  std::string expected = file_of(header + std::string(8 - header.size() % 8, ' '), 8);
  expected.replace(expected.size() - 8, 8, std::string("\1\0\0\0\xfe\xff\xff\xff", 8));
  EXPECT_EQ(read_text(at("a")), expected);
}

TEST_F(SafetensorsTest, NamesAndMetadataAreAnyText) {
  const std::string odd = "\xc3\xa9 \"quoted\" \\ \n\t \x01 \xf0\x9f\x98\x80";
  save_safetensors(at("a"), {{odd, pattern({1}, DType::uint8)}, {"", pattern({1}, DType::uint8)}},
                   {{odd, odd}, {"", ""}});
  const Safetensors file = load_safetensors(at("a"));
  EXPECT_EQ(file.tensors[0].first, odd);
  EXPECT_EQ(file.tensors[1].first, "");
  EXPECT_EQ(file.metadata, (Metadata{{odd, odd}, {"", ""}}));
}

TEST_F(SafetensorsTest, NothingAtAll) {
  save_safetensors(at("a"), {});
  const Safetensors file = load_safetensors(at("a"));
  EXPECT_TRUE(file.tensors.empty() && file.metadata.empty());
}

TEST_F(SafetensorsTest, WhatMayNotBeSaved) {
  const Tensor t = pattern({1}, DType::uint8);
  write_text(at("a"), "old");
  const auto refuses_to_save = [&](const NamedTensors& tensors, const Metadata& metadata,
                                   const std::string& part) {
    expect_error([&] { save_safetensors(at("a"), tensors, metadata); }, ErrorKind::value,
                 at("a") + ": " + part);
    EXPECT_EQ(read_text(at("a")), "old");
    EXPECT_EQ(listing(), std::vector<std::string>{"a"});
  };
  refuses_to_save({{"w", t}, {"v", t}, {"w", t}}, {}, "two tensors are called \"w\"");
  refuses_to_save({{"__metadata__", t}}, {}, "no tensor may be called \"__metadata__\"");
  refuses_to_save({{"w", Tensor()}}, {}, "tensor \"w\" is undefined");
  refuses_to_save({{"\xff", t}}, {}, "the name of a tensor is not valid UTF-8");
  refuses_to_save({}, {{"k", "\xc3"}}, "metadata \"k\" is not valid UTF-8");
  refuses_to_save({}, {{"\x80", "v"}}, "a key of the metadata is not valid UTF-8");
}

TEST_F(SafetensorsTest, LengthOfTheHeader) {
  expect_error([] { parse("1234567"); }, ErrorKind::io, "it has 7 bytes, not even the 8");
  expect_error([] { parse(""); }, ErrorKind::io, "it has 0 bytes");
  const auto claims = [](std::uint64_t length, const std::string& part) {
    std::string bytes = file_of("{}", 0);
    std::memcpy(bytes.data(), &length, 8);
    expect_error([&] { parse(bytes); }, ErrorKind::io, part);
  };
  claims(3, "its header claims 3 bytes, but only 2 follow");
  claims(100'000'001, "claims 100000001 bytes, at most 100000000 are allowed");
  claims(~std::uint64_t{0}, "claims 18446744073709551615 bytes, at most");
  claims(0, "the header does not begin with '{'");
}

TEST_F(SafetensorsTest, HeadersThatAreNoHeaders) {
  refuses("", 0, "the header does not begin with '{'");
  refuses(" {}", 0, "the header does not begin with '{'");
  refuses("[]", 0, "the header does not begin with '{'");
  refuses("{", 0, "the header is not valid JSON at byte 2");
  refuses("{}}", 0, "the header is not valid JSON at byte 3");
  refuses("{}{}", 0, "the header is not valid JSON at byte 3");
  refuses(std::string("{}\0", 3), 0, "the header holds a zero byte");
  refuses("{\"\xff\":1}", 0, "the header is not valid JSON at byte 3");
  refuses(R"({"w":)" + std::string(1'000'000, '['), 0,
          "tensor \"w\" is an array, expected an object");
  refuses(R"({"w":{"shape":)" + std::string(1'000'000, '['), 0,
          "tensor \"w\" has an array as a dimension, expected a number");
  std::string nested;
  for (int i = 0; i < 100'000; ++i) nested += R"({"a":)";
  refuses(nested, 0, "tensor \"a\" has an unknown field \"a\"");
}

TEST_F(SafetensorsTest, EntriesThatAreNoEntries) {
  refuses(R"({"w":1})", 0, "tensor \"w\" is a number, expected an object");
  refuses(R"({"w":null})", 0, "tensor \"w\" is null, expected an object");
  refuses(R"({"w":true})", 0, "tensor \"w\" is a boolean, expected an object");
  refuses(R"({"w":"F32"})", 0, "tensor \"w\" is a string, expected an object");
  refuses(R"({"w":{}})", 0, "tensor \"w\" has no dtype");
  refuses(R"({"w":{"dtype":"F32","data_offsets":[0,0]}})", 0, "tensor \"w\" has no shape");
  refuses(R"({"w":{"dtype":"F32","shape":[]}})", 0, "tensor \"w\" has no data_offsets");
  refuses(R"({"w":{"dtype":"F32","dtype":"F32"}})", 0, "tensor \"w\" has two fields \"dtype\"");
  refuses(R"({"w":{"shape":[],"shape":[]}})", 0, "tensor \"w\" has two fields \"shape\"");
  refuses(R"({"w":{"data_offsets":[0,1],"data_offsets":[0,1]}})", 0,
          "tensor \"w\" has two fields \"data_offsets\"");
  refuses(R"({"w":{"color":"red"}})", 0, "tensor \"w\" has an unknown field \"color\"");
  refuses(R"({"w":{"dtype":3}})", 0, "tensor \"w\" has a number as its dtype, expected a string");
  refuses(R"({"w":{"shape":3}})", 0, "tensor \"w\" has a number as its shape, expected an array");
  refuses(R"({"w":{"data_offsets":{}}})", 0,
          "tensor \"w\" has an object as its data_offsets, expected an array");
  const std::string u8 = only("U8", "[1]", "[0,1]");
  refuses(u8.substr(0, u8.size() - 1) + "," + u8.substr(1), 1, "tensor \"w\" comes twice");
}

TEST_F(SafetensorsTest, Dtypes) {
  const auto value = ErrorKind::value;
  refuses(only("I16", "[1]", "[0,2]"), 2,
          "tensor \"w\" has the unsupported dtype \"I16\", expected one of", value);
  refuses(only("F8_E4M3", "[1]", "[0,1]"), 1, "tensor \"w\" has the unsupported dtype \"F8_E4M3\"",
          value);
  refuses(only("f32", "[1]", "[0,4]"), 4, "tensor \"w\" has the unknown dtype \"f32\"", value);
  refuses(only("", "[1]", "[0,4]"), 4, "tensor \"w\" has the unknown dtype \"\"", value);
}

TEST_F(SafetensorsTest, Shapes) {
  refuses(only("U8", "[-1]", "[0,1]"), 1, "tensor \"w\" has a negative dimension, -1");
  refuses(only("U8", "[1.0]", "[0,1]"), 1, "tensor \"w\" has \"1.0\" as a dimension");
  refuses(only("U8", "[\"1\"]", "[0,1]"), 1, "tensor \"w\" has a string as a dimension");
  refuses(only("U8", "[[1]]", "[0,1]"), 1, "tensor \"w\" has an array as a dimension");
  refuses(only("U8", "[9223372036854775808]", "[0,1]"), 1,
          "tensor \"w\" has a dimension of 9223372036854775808, more than fits");
  refuses(only("U8", "[99999999999999999999]", "[0,1]"), 1,
          "tensor \"w\" has \"99999999999999999999\" as a dimension");
  refuses(only("U8", "[4294967296,4294967296]", "[0,0]"), 0,
          "tensor \"w\" has shape [4294967296, 4294967296], more bytes than fit in 64 bits");
  refuses(only("F64", "[1152921504606846976]", "[0,0]"), 0,
          "tensor \"w\" has shape [1152921504606846976]");
  refuses(only("U8", "[0,4294967296,4294967296]", "[0,0]"), 0,
          "tensor \"w\" has shape [0, 4294967296, 4294967296], more bytes than fit in 64 bits");
  refuses(only("U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1, "tensor \"w\" has more than 8 dimensions",
          ErrorKind::value);
  EXPECT_EQ(parse(file_of(only("U8", "[0,4294967296]", "[0,0]"), 0)).tensors[0].second.shape(),
            (Shape{0, 4294967296}));
}

TEST_F(SafetensorsTest, Offsets) {
  refuses(only("U8", "[1]", "[]"), 1, "tensor \"w\" has 0 data offsets, expected 2");
  refuses(only("U8", "[1]", "[0]"), 1, "tensor \"w\" has 1 data offsets, expected 2");
  refuses(only("U8", "[1]", "[0,1,2]"), 1, "tensor \"w\" has more than two data offsets");
  refuses(only("U8", "[1]", "[-1,0]"), 1, "tensor \"w\" has a negative data offset, -1");
  refuses(only("U8", "[1]", "[0,1.5]"), 1, "tensor \"w\" has \"1.5\" as a data offset");
  refuses(only("U8", "[1]", "[1,0]"), 1, "tensor \"w\" begins at byte 1 and ends before, at 0");
  refuses(only("U8", "[2]", "[0,2]"), 1,
          "tensor \"w\" ends at byte 2 of the data, but the file has only 1");
  refuses(only("U8", "[1]", "[0,18446744073709551615]"), 1,
          "tensor \"w\" ends at byte 18446744073709551615");
  refuses(only("U8", "[1]", "[1,2]"), 2, "tensor \"w\" begins at byte 1, after a hole from byte 0");
  refuses(only("U8", "[1]", "[0,1]"), 2, "1 bytes follow the data of the last tensor");
  refuses("{}", 5, "5 bytes follow the data of the last tensor");
  refuses(only("U8", "[3]", "[0,2]"), 2,
          "tensor \"w\" has 2 bytes of data, but shape [3] of U8 takes 3");
  refuses(only("F32", "[]", "[0,2]"), 2,
          "tensor \"w\" has 2 bytes of data, but shape [] of F32 takes 4");
  refuses(only("F32", "[0]", "[0,4]"), 4,
          "tensor \"w\" has 4 bytes of data, but shape [0] of F32 takes 0");

  const auto two = [](const std::string& a, const std::string& b) {
    return R"({"v":{"dtype":"U8","shape":[2],"data_offsets":)" + a +
           R"(},"w":{"dtype":"U8","shape":[2],"data_offsets":)" + b + "}}";
  };
  refuses(two("[0,2]", "[1,3]"), 3, "tensor \"w\" begins at byte 1, inside of \"v\"");
  refuses(two("[0,2]", "[0,2]"), 2, "tensor \"w\" begins at byte 0, inside of \"v\"");
  refuses(two("[0,2]", "[3,5]"), 5, "tensor \"w\" begins at byte 3, after a hole from byte 2");
  const Safetensors swapped = parse(file_of(two("[2,4]", "[0,2]"), 4));
  EXPECT_EQ(swapped.tensors[0].first, "w");
}

TEST_F(SafetensorsTest, MetadataIsText) {
  refuses(R"({"__metadata__":1})", 0,
          "\"__metadata__\" is a number, expected an object of strings");
  refuses(R"({"__metadata__":[]})", 0,
          "\"__metadata__\" is an array, expected an object of strings");
  refuses(R"({"__metadata__":{"a":1}})", 0, "metadata \"a\" is a number, expected a string");
  refuses(R"({"__metadata__":{"a":{}}})", 0, "metadata \"a\" is an object, expected a string");
  refuses(R"({"__metadata__":{"a":null}})", 0, "metadata \"a\" is null, expected a string");
  refuses(R"({"__metadata__":{"a":"1","a":"2"}})", 0, "metadata \"a\" comes twice");
  refuses(R"({"__metadata__":{},"__metadata__":{}})", 0, "\"__metadata__\" comes twice");
}

TEST_F(SafetensorsTest, BoolsAreBools) {
  std::string bytes = file_of(only("BOOL", "[3]", "[0,3]"), 3);
  bytes[bytes.size() - 2] = '\7';
  expect_error([&] { parse(bytes); }, ErrorKind::io,
               "tensor \"w\" is BOOL, but its element 1 is 7, neither 0 nor 1");
}

TEST_F(SafetensorsTest, LongNamesAreCutInErrors) {
  const std::string name = std::string(79, 'n') + "\xc3\xa9" + std::string(100'000, 'n');
  refuses("{\"" + name + "\":1}", 0, "tensor \"" + std::string(79, 'n') + "...\" is a number");
  refuses(R"({"a\u001b[2J":1})", 0, "tensor \"a?[2J\" is a number");
}

TEST_F(SafetensorsTest, EveryPrefixIsRefused) {
  save_safetensors(at("a"), {{"w", pattern({3, 2}, DType::float32)}}, {{"k", "v"}});
  const std::string bytes = read_text(at("a"));
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    expect_error([&] { parse(bytes.substr(0, n)); }, ErrorKind::io, "x.safetensors");
  }
  parse(bytes);
}

// Every bit flipped alone, then random bytes in several places: a named error or a sound result,
// and no memory beyond a few times the file.
TEST_F(SafetensorsTest, DamagedBytesNeverHurt) {
  save_safetensors(at("a"),
                   {{"w", pattern({3, 2}, DType::float32)},
                    {"b", pattern({5}, DType::bool_)},
                    {"e", pattern({0}, DType::int64)}},
                   {{"key", "value"}});
  const std::string good = read_text(at("a"));
  int refused = 0, accepted = 0;
  const auto tries = [&](const std::string& bytes) {
    try {
      for (const auto& [name, tensor] : parse(bytes).tensors) {
        ASSERT_LE(tensor.numel(), static_cast<std::int64_t>(good.size()));
      }
      ++accepted;
    } catch (const Error& e) {
      ASSERT_NE(std::string(e.what()).find("x.safetensors"), std::string::npos);
      ++refused;
    }
  };
  reset_peak_memory();
  const auto before = memory_stats().peak;
  for (std::size_t i = 0; i < good.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string bytes = good;
      bytes[i] = static_cast<char>(bytes[i] ^ (1 << bit));
      tries(bytes);
    }
  }
  std::mt19937 random(0);
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes = good;
    for (auto n = 1 + random() % 4; n > 0; --n) {
      bytes[random() % bytes.size()] =
          static_cast<char>(R"({}[],":0123456789-e.FU)"[random() % 22]);
    }
    tries(bytes);
  }
  EXPECT_GT(refused, 1000);
  EXPECT_GT(accepted, 100);
  EXPECT_LT(memory_stats().peak - before, 1 << 20);
}

TEST_F(SafetensorsTest, PathsThatCannotBeRead) {
  const auto refuses_path = [](const std::string& path, const std::string& part) {
    expect_error([&] { load_safetensors(path); }, ErrorKind::io, "safetensors: " + part);
  };
  refuses_path(at("none"), "cannot read " + at("none") + ": No such file or directory");
  refuses_path(folder.string(), "cannot read " + folder.string() + ": it is a folder");
  refuses_path("", "the path is empty");
  refuses_path(std::string("a\0b", 3), "the path holds a zero byte");
  ASSERT_EQ(mkfifo(at("pipe").c_str(), 0600), 0);
  refuses_path(at("pipe"), "cannot read " + at("pipe") + ": it is not a regular file");
  write_text(at("short"), file_of(only("U8", "[4]", "[0,4]"), 3));
  refuses_path(at("short"), at("short") + ": tensor \"w\" ends at byte 4 of the data");
}

TEST_F(SafetensorsTest, PathsThatCannotBeWritten) {
  const auto refuses_path = [](const std::string& path, const std::string& part) {
    expect_error([&] { save_safetensors(path, {}); }, ErrorKind::io,
                 "safetensors: cannot write " + part);
  };
  refuses_path(at("none/a"), at("none/a") + ": No such file or directory");
  refuses_path(folder.string(), folder.string() + ": it is a folder");
  refuses_path("/dev/null", "/dev/null: it is not a regular file");
}

// A full disk, in a child: files of at most 4 KiB.
TEST_F(SafetensorsTest, AFailedWriteLeavesTheOldFile) {
  const NamedTensors old{{"w", pattern({8}, DType::float32)}};
  save_safetensors(at("a"), old);
  const std::string before = read_text(at("a"));
  const NamedTensors big{{"w", pattern({100'000}, DType::float32)}};
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{4096, 4096};
    setrlimit(RLIMIT_FSIZE, &limit);
    try {
      save_safetensors(at("a"), big);
    } catch (const Error& e) {
      _exit(e.what() == "safetensors: cannot write " + at("a") + ": File too large" ? 0 : 2);
    }
    _exit(1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(read_text(at("a")), before);
  EXPECT_EQ(listing(), std::vector<std::string>{"a"});
}

TEST_F(SafetensorsTest, ReplacingKeepsLinksAndPermissions) {
  save_safetensors(at("a"), {});
  chmod(at("a").c_str(), 0640);
  std::filesystem::create_symlink("a", at("link"));
  save_safetensors(at("link"), {{"w", pattern({1}, DType::uint8)}});
  EXPECT_TRUE(std::filesystem::is_symlink(at("link")));
  EXPECT_EQ(load_safetensors(at("a")).tensors.size(), 1u);
  EXPECT_EQ(static_cast<int>(std::filesystem::status(at("a")).permissions()), 0640);
}

TEST_F(SafetensorsTest, TemporaryFiles) {
  write_text(at("a.tmp0"), std::string(100, 'x'));  // left behind by a killed process
  {
    AtomicFile one(at("a"), "test"), two(at("a"), "test");  // two writers at a time
    one.write("one");
    two.write("two");
    EXPECT_EQ(read_text(at("a.tmp0")), "one");
    EXPECT_EQ(read_text(at("a.tmp1")), "two");
    one.commit();
  }
  EXPECT_EQ(read_text(at("a")), "one");
  EXPECT_EQ(listing(), std::vector<std::string>{"a"});
}

}  // namespace
}  // namespace lg::io
