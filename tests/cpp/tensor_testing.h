// tensor_testing.h: what tests of tensors and operations share: inputs from a fixed stream, the
// same numbers laid out with other strides, comparison by tolerance, and errors by kind and text.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "lightgrad/autograd/function.h"
#include "lightgrad/autograd/gradcheck.h"
#include "lightgrad/base/parallel.h"
#include "lightgrad/ops/creation.h"
#include "lightgrad/ops/ops.h"

namespace lg::testing {

using Tensors = std::vector<Tensor>;
using Line = std::vector<double>;

inline Tensor uniform(const Shape& shape, double low, double high, std::uint64_t seed) {
  Tensor t = Tensor::empty(shape, DType::float64);
  fill_uniform<double>(t.data<double>(), t.numel(), low, high, {seed, 0});
  return t;
}
inline Tensor integers(const Shape& shape, std::int64_t low, std::int64_t high,
                       std::uint64_t seed) {
  Tensor t = Tensor::empty(shape, DType::int64);
  fill_randint(t.data<std::int64_t>(), t.numel(), low, high, {seed, 0});
  return t;
}

// The same elements in memory of other strides, by kind: 0 contiguous, 1 column-major, 2 every
// second element, 3 backwards.
inline Tensor strided(const Tensor& x, int kind) {
  if (kind == 0 || x.rank() == 0) return x.copy();
  Shape order = Shape::filled(x.rank(), 0), shape = x.shape();
  if (kind == 1) {
    for (int i = 0; i < x.rank(); ++i) order[i] = x.rank() - 1 - i;
    return permute(permute(x, order).copy(), order).detach();
  }
  const int last = x.rank() - 1;
  if (kind == 2) {
    shape[last] *= 2;
    Tensor wide = zeros(shape, x.dtype());
    Tensor y = slice(wide, last, 0, shape[last], 2);
    y.assign(x);
    return y.detach();
  }
  return flip(flip(x, last).copy(), last).detach();
}

inline Tensors cast_floats(const Tensors& in, DType t) {
  Tensors out;
  for (const Tensor& x : in) {
    out.push_back(x.defined() && is_floating(x.dtype()) ? to(x.detach(), t) : x);
  }
  return out;
}

// |a - e| <= tolerance (1 + |e|); NaN and infinities must agree, and so must the shapes.
inline void expect_close(const Tensor& actual, const Tensor& expected, double tolerance,
                         const std::string& what) {
  ASSERT_TRUE(actual.defined() && expected.defined()) << what;
  ASSERT_TRUE(actual.shape() == expected.shape())
      << what << ": shape " << actual.shape().to_string() << ", expected "
      << expected.shape().to_string();
  const auto a = actual.to_vector<double>(), e = expected.to_vector<double>();
  for (std::size_t i = 0; i < a.size(); ++i) {
    const bool ok = std::isnan(e[i])   ? std::isnan(a[i])
                    : std::isinf(e[i]) ? a[i] == e[i]
                                       : std::abs(a[i] - e[i]) <= tolerance * (1 + std::abs(e[i]));
    ASSERT_TRUE(ok) << what << " element " << i << " of " << actual.describe() << ": " << a[i]
                    << ", expected " << e[i];
  }
}

// The very numbers, and the same dtype.
inline void expect_equal(const Tensor& actual, const Tensor& expected, const std::string& what) {
  ASSERT_EQ(name_of(actual.dtype()), name_of(expected.dtype())) << what;
  expect_close(actual, expected, 0, what);
}

inline bool same_bits(const Tensor& a, const Tensor& b) {
  if (a.defined() != b.defined()) return false;
  if (!a.defined()) return true;
  const Tensor p = a.contiguous_data(), q = b.contiguous_data();
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         (a.numel() == 0 ||
          std::memcmp(p.raw_data(), q.raw_data(),
                      static_cast<std::size_t>(a.numel()) * size_of(a.dtype())) == 0);
}

// f() fails with an error of this kind, whose text has every one of `parts`.
template <class F>
void expect_error(ErrorKind kind, std::initializer_list<const char*> parts, F&& f) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(static_cast<int>(e.kind()), static_cast<int>(kind)) << e.what();
    for (const char* part : parts) {
      EXPECT_NE(std::string(e.what()).find(part), std::string::npos)
          << "\"" << e.what() << "\" lacks \"" << part << '"';
    }
    return;
  }
  ADD_FAILURE() << "no error, expected one with \"" << (parts.size() ? *parts.begin() : "") << '"';
}

// A function of the user's, with its own gradient.
struct Cube : autograd::Function<Cube> {
  static Tensor forward(autograd::FunctionContext& c, const Tensor& x) {
    c.save_for_backward({x});
    return x * x * x;
  }
  static Tensors backward(autograd::FunctionContext& c, const Tensors& g) {
    const Tensor x = c.saved_tensors()[0];
    return {g[0] * 3 * x * x};
  }
};

// Puts the number of threads back.
struct KeepThreads {
  int before = num_threads();
  ~KeepThreads() { set_num_threads(before); }
};

}  // namespace lg::testing
