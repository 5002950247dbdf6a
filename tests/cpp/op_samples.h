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

using OnLine = std::function<Line(const Line&)>;

// x along `dim` line by line through a function on plain numbers; a line of one number becomes a
// dimension of size 1.
inline Tensor by_lines(const Tensor& x, std::int64_t dim, const OnLine& f,
                       DType dtype = DType::float64) {
  const std::int64_t d = dim < 0 ? dim + x.rank() : dim;
  const Tensor last = transpose(x, d, -1);
  const auto all = last.to_vector<double>();
  const auto n = static_cast<std::size_t>(last.shape().back());
  Line out;
  std::size_t width = 0;
  for (std::size_t at = 0; at < all.size(); at += n) {
    const Line y = f(Line(all.begin() + static_cast<std::ptrdiff_t>(at),
                          all.begin() + static_cast<std::ptrdiff_t>(at + n)));
    width = y.size();
    out.insert(out.end(), y.begin(), y.end());
  }
  Shape shape = last.shape();
  shape.back() = static_cast<std::int64_t>(width);
  return to(transpose(tensor(out, shape), d, -1), dtype);
}

inline Tensor flat(const Tensor& x) { return reshape(x, {-1}); }

inline double log_sum_exp(const Line& x) {
  double s = 0;
  for (double v : x) s += std::exp(v);
  return std::log(s);
}
inline Line softmax_line(const Line& x) {
  Line y = x;
  for (double& v : y) v = std::exp(v - log_sum_exp(x));
  return y;
}
inline Line log_softmax_line(const Line& x) {
  Line y = x;
  for (double& v : y) v -= log_sum_exp(x);
  return y;
}

// One expression in a[0], a[1], ... as a function.
#define LG_F(...) [](const Tensors& a [[maybe_unused]]) { return Tensors{__VA_ARGS__}; }
#define LG_LIST(...) [](const Tensors& a [[maybe_unused]]) -> Tensors { return __VA_ARGS__; }

// By the operation's name.
using Samples = std::map<std::string_view, std::vector<Sample>>;
const Samples& samples();
void add_neural_samples(Samples& s);  // op_samples_neural.cpp
void add_image_samples(Samples& s);   // op_samples_images.cpp

}  // namespace lg::testing
