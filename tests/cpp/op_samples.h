// op_samples.h: what every operation with a shape rule of its own is tested on. A row of the table
// without an entry here fails the suite (test_ops.cpp); pointwise rows draw their inputs from their
// domain, and stand here only with attributes.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "tests/cpp/tensor_testing.h"

namespace lg::testing {

using Function = std::function<Tensors(const Tensors&)>;

struct Sample {
  Tensors in{};  // floating inputs are float64; each of them gets a gradient
  Function f{};
  Function expected{};  // the same result by other means, or none
  Function
      composite{};  // for an operation with a backward kernel: what it is in smaller operations
  bool large =
      false;  // cut into several chunks: tested for the same bits at any number of threads only
  double tolerance = 1e-5;  // float32 against float64
};

// By the operation's name.
using Samples = std::map<std::string_view, std::vector<Sample>>;
const Samples& samples();

}  // namespace lg::testing
