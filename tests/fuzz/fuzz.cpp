// fuzz.cpp: the entry that libFuzzer calls, compiled once for each function of targets.h.
#include <cstdint>

#include "tests/fuzz/targets.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  lg::fuzz::LIGHTGRAD_FUZZ_TARGET(std::as_bytes(std::span(bytes, size)));
  return 0;
}
