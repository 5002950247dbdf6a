// targets.h: what a fuzzer and the test of its seeds do with an input: the reader takes it or
// throws an lg::Error, and what it took is as large as the input can have been, to the last
// element.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <span>

#include "lightgrad/base/error.h"
#include "lightgrad/data/cifar.h"
#include "lightgrad/data/gzip.h"
#include "lightgrad/data/idx.h"
#include "lightgrad/io/safetensors.h"

namespace lg::fuzz {

using Input = std::span<const std::byte>;

// Reads every byte, where a sanitizer watches. Returns how many.
inline std::size_t touch(const Tensor& t) {
  const auto bytes = static_cast<std::size_t>(t.numel()) * size_of(t.dtype());
  const auto* p = static_cast<const volatile std::byte*>(t.raw_data());
  for (std::size_t i = 0; i < bytes; ++i) (void)p[i];
  return bytes;
}

inline void check(bool good) {
  if (!good) std::abort();
}

inline void idx(Input input) {
  try {
    const std::size_t most = input.size() * (data::is_gzip(input) ? data::most_expansion : 1);
    check(touch(data::parse_idx(input)) <= 4 * most);  // int8 is widened to int32
  } catch (const Error&) {}
}

inline void cifar10(Input input) {
  try {
    const data::Cifar c = data::parse_cifar10(input);
    check(touch(c.images) + static_cast<std::size_t>(c.labels.numel()) == input.size());
    for (const auto label : c.labels.to_vector<std::int64_t>()) check(label >= 0 && label < 10);
  } catch (const Error&) {}
}

inline void safetensors(Input input) {
  try {
    std::size_t bytes = 0;
    for (const auto& [name, tensor] : io::parse_safetensors(input).tensors) bytes += touch(tensor);
    check(bytes <= input.size());
  } catch (const Error&) {}
}

}  // namespace lg::fuzz
