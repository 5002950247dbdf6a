// test_checkpoint.cpp: a run's state comes back to the bit; what is missing is named.
#include "lightgrad/io/checkpoint.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "lightgrad/io/safetensors.h"
#include "tests/cpp/io_testing.h"

namespace lg::io {
namespace {

Tensor numbers(const Shape& shape) {
  Tensor t = Tensor::empty(shape, DType::float32);
  for (std::int64_t i = 0; i < t.numel(); ++i) t.data<float>()[i] = 0.1f * static_cast<float>(i);
  return t;
}

class CheckpointTest : public FolderTest {};

TEST_F(CheckpointTest, TensorsNumbersAndStringsComeBack) {
  const std::map<std::string, Tensor> model{{"a.weight", numbers({2, 3})}, {"b", numbers({})}};
  Checkpoint saved;
  saved.put_state("model.", model);
  saved.put("step", 17);
  saved.put("least", std::numeric_limits<std::int64_t>::min());
  saved.put("most", std::numeric_limits<std::int64_t>::max());
  saved.put("rate", 1e-3);
  saved.put("note", "not \"JSON\"\n\xc3\xa9");
  saved.put("number", "12");
  saved.save(at("a"));

  const Checkpoint c = Checkpoint::load(at("a"));
  EXPECT_EQ(c.names(), (std::vector<std::string>{"model.a.weight", "model.b", "least", "most",
                                                 "note", "number", "rate", "step"}));
  EXPECT_EQ(c.names("m"), (std::vector<std::string>{"model.a.weight", "model.b", "most"}));
  EXPECT_EQ(c.get<std::int64_t>("step"), 17);
  EXPECT_EQ(c.get<std::int64_t>("least"), std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(c.get<std::int64_t>("most"), std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(c.get<std::string>("note"), "not \"JSON\"\n\xc3\xa9");
  EXPECT_EQ(c.get<std::string>("number"), "12");
  EXPECT_TRUE(c.has("rate") && c.has("model.b") && !c.has("model"));
  const auto state = c.take_state("model.");
  ASSERT_EQ(state.size(), 2u);
  for (const auto& [name, tensor] : model) EXPECT_TRUE(same_bits(state.at(name), tensor)) << name;
  EXPECT_TRUE(same_bits(c.tensor("model.b"), model.at("b")));
}

TEST_F(CheckpointTest, DoublesAreExact) {
  using Limits = std::numeric_limits<double>;
  const std::vector<double> values{0.0,
                                   -0.0,
                                   1.0,
                                   1e22,
                                   -3e300,
                                   0.1,
                                   1.0 / 3,
                                   Limits::min(),
                                   Limits::denorm_min(),
                                   Limits::max(),
                                   Limits::infinity(),
                                   -Limits::infinity(),
                                   std::nextafter(1.0, 2.0),
                                   9007199254740993.0};
  Checkpoint saved;
  for (std::size_t i = 0; i < values.size(); ++i) saved.put(std::to_string(i), values[i]);
  saved.put("nan", Limits::quiet_NaN());
  saved.put("float", 0.1f);
  saved.save(at("a"));
  const Checkpoint c = Checkpoint::load(at("a"));
  for (std::size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(std::bit_cast<std::uint64_t>(c.get<double>(std::to_string(i))),
              std::bit_cast<std::uint64_t>(values[i]));
  }
  EXPECT_TRUE(std::isnan(c.get<double>("nan")));
  EXPECT_EQ(c.get<double>("float"), static_cast<double>(0.1f));
}

TEST_F(CheckpointTest, TheGeneratorGoesOn) {
  Generator before(0xfedcba9876543210u);
  for (int i = 0; i < 5; ++i) before.next();
  Checkpoint saved;
  saved.put_generator("generator", before);
  saved.save(at("a"));
  Generator after(1);
  Checkpoint::load(at("a")).take_generator("generator", after);
  EXPECT_EQ(after.seed(), before.seed());
  EXPECT_EQ(after.offset(), before.offset());
  EXPECT_EQ(after.next().offset, 5u);
}

TEST_F(CheckpointTest, ANameHoldsOneThing) {
  Checkpoint c;
  c.put("x", 1);
  c.put("x", numbers({2}));
  EXPECT_EQ(c.names(), std::vector<std::string>{"x"});
  EXPECT_EQ(c.tensor("x").numel(), 2);
  c.put("x", "text");
  EXPECT_EQ(c.get<std::string>("x"), "text");
  c.save(at("a"));
  EXPECT_EQ(Checkpoint::load(at("a")).names(), std::vector<std::string>{"x"});
}

TEST_F(CheckpointTest, TensorsAreThoseAtSaving) {
  const Tensor w = numbers({2});
  Checkpoint c;
  c.put("w", w);
  w.data<float>()[0] = 5;
  c.save(at("a"));
  EXPECT_EQ(Checkpoint::load(at("a")).tensor("w").to_vector<float>(),
            (std::vector<float>{5, 0.1f}));
}

TEST_F(CheckpointTest, WhatIsMissingIsNamed) {
  Checkpoint saved;
  saved.put("step", 3);
  saved.put("rate", 0.5);
  saved.put("model.w", numbers({1}));
  saved.save(at("a"));
  const Checkpoint c = Checkpoint::load(at("a"));
  expect_error([&] { c.tensor("model.v"); }, ErrorKind::index,
               "Checkpoint: " + at("a") +
                   " has no \"model.v\" (a tensor); it has \"model.w\", \"rate\", \"step\"");
  expect_error([&] { c.get<double>("loss"); }, ErrorKind::index,
               at("a") + " has no \"loss\" (a float)");
  expect_error([&] { c.take_state("optimizer."); }, ErrorKind::index,
               at("a") + " has no \"optimizer.*\" (tensors)");
  expect_error([&] { c.get<double>("step"); }, ErrorKind::type,
               at("a") + ": \"step\" is an integer, expected a float");
  expect_error([&] { c.get<std::string>("rate"); }, ErrorKind::type,
               at("a") + ": \"rate\" is a float, expected a string");
  expect_error([&] { c.get<std::int64_t>("model.w"); }, ErrorKind::type,
               at("a") + ": \"model.w\" is a tensor, expected an integer");
  expect_error([&] { c.tensor("step"); }, ErrorKind::type,
               at("a") + ": \"step\" is an integer, expected a tensor");
  Generator generator(7);
  expect_error([&] { c.take_generator("generator", generator); }, ErrorKind::index,
               at("a") + " has no \"generator.seed\" (an integer)");
  EXPECT_EQ(generator.seed(), 7u);
  expect_error([] { Checkpoint().value("x"); }, ErrorKind::index,
               "the checkpoint has no \"x\" (a number or a string); it has nothing");
  Checkpoint many;
  for (int i = 0; i < 20; ++i) many.put("k" + std::to_string(10 + i), i);
  expect_error([&] { many.value("x"); }, ErrorKind::index, "\"k16\", \"k17\" and 12 more");
}

TEST_F(CheckpointTest, WhatMayNotBePut) {
  Checkpoint c;
  expect_error([&] { c.put("w", Tensor()); }, ErrorKind::value, "tensor \"w\" is undefined");
  expect_error([&] { c.put("n", ~std::uint64_t{0}); }, ErrorKind::value,
               "\"n\": 18446744073709551615 does not fit int64");
  expect_error([&] { c.put("lightgrad.format", 1); }, ErrorKind::value,
               "the name \"lightgrad.format\" is taken by the format");
  c.put("s", "\xff");
  write_text(at("a"), "old");
  expect_error([&] { c.save(at("a")); }, ErrorKind::value,
               at("a") + ": \"s\" is not valid UTF-8; bytes go into a uint8 tensor");
  EXPECT_EQ(read_text(at("a")), "old");
}

TEST_F(CheckpointTest, FilesThatAreNoCheckpoints) {
  const auto refuses = [&](const NamedTensors& tensors, const Metadata& metadata,
                           const std::string& part) {
    save_safetensors(at("a"), tensors, metadata);
    expect_error([&] { Checkpoint::load(at("a")); }, ErrorKind::io,
                 "Checkpoint: " + at("a") + ": " + part);
  };
  const std::pair<const std::string, std::string> format{"lightgrad.format", "checkpoint 1"};
  refuses({}, {}, "it is a safetensors file, but not a checkpoint");
  refuses({}, {{"lightgrad.format", "tree 1"}}, "it is a safetensors file, but not a checkpoint");
  refuses({}, {{"lightgrad.format", "checkpoint 2"}},
          "it is of format \"checkpoint 2\", and this version reads \"checkpoint 1\"");
  for (const char* value : {"", "x", "1x", "1.5x", "99999999999999999999", "\"open", "\"a\"b",
                            "[1]", "e", "null", "1e999"}) {
    refuses({}, {format, {"k", value}},
            "\"k\" is \"" + std::string(value) + "\", neither a number nor a string");
  }
  refuses({{"k", numbers({1})}}, {format, {"k", "1"}}, "\"k\" is a tensor and a value");
  write_text(at("a"), "torn");
  expect_error([&] { Checkpoint::load(at("a")); }, ErrorKind::io, at("a") + ": it has 4 bytes");
}

}  // namespace
}  // namespace lg::io
