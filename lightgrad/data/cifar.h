// cifar.h: the binary layout of CIFAR-10: records of a label byte and 3 x 32 x 32 pixels, channel
// by channel. https://www.cs.toronto.edu/~kriz/cifar.html
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lightgrad/tensor/tensor.h"

namespace lg::data {

struct Cifar {
  Tensor images;  // uint8 [n, 3, 32, 32]
  Tensor labels;  // int64 [n], 0 to 9
};

// The records of all files, in this order. An IOError that names the file when one does not hold a
// whole number of records (at least one), or a label is none.
Cifar read_cifar10(const std::vector<std::string>& paths);

// The same from memory; `name` stands for the path in errors.
Cifar parse_cifar10(std::span<const std::byte> bytes, std::string_view name = "memory");

}  // namespace lg::data
