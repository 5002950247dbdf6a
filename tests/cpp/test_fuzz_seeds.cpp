// test_fuzz_seeds.cpp: the seeds of the fuzzers, among them every input that once broke a reader.
#include <gtest/gtest.h>

#include "tests/cpp/io_testing.h"
#include "tests/fuzz/targets.h"

namespace lg {
namespace {

void run_all(const char* name, void (*target)(fuzz::Input)) {
  int seeds = 0;
  const auto folder = std::filesystem::path(LIGHTGRAD_SOURCE_DIR) / "tests/fuzz/corpus" / name;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    SCOPED_TRACE(entry.path().string());
    const std::string bytes = read_text(entry.path().string());
    target(std::as_bytes(std::span(bytes)));
    ++seeds;
  }
  EXPECT_GT(seeds, 3) << folder;
}

TEST(FuzzSeeds, Idx) { run_all("idx", fuzz::idx); }
TEST(FuzzSeeds, Cifar10) { run_all("cifar10", fuzz::cifar10); }
TEST(FuzzSeeds, Safetensors) { run_all("safetensors", fuzz::safetensors); }

}  // namespace
}  // namespace lg
