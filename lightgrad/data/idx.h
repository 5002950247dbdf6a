// idx.h: the IDX format of MNIST: two zero bytes, a code for the element type, the number of
// dimensions, their sizes as big-endian 32-bit words, the elements. Plain, or as a gzip stream.
// http://yann.lecun.com/exdb/mnist
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "lightgrad/tensor/tensor.h"

namespace lg::data {

// uint8, int32, float32 and float64 come as they are, int8 and int16 as int32. All of the file or
// an IOError that names it: nothing the header says is believed before it is held against the
// length, and memory is asked for only when the file can hold (a gzip stream: can expand to) as
// much. More than 8 dimensions are a ValueError.
Tensor read_idx(const std::string& path);

// The same from memory; `name` stands for the path in errors.
Tensor parse_idx(std::span<const std::byte> bytes, std::string_view name = "memory");

}  // namespace lg::data
