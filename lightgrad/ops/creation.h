// creation.h: new tensors. Sizes are checked before memory is asked for; a dtype left out is the
// default one.
#pragma once

#include <optional>

#include "lightgrad/ops/indexing.h"
#include "lightgrad/tensor/tensor.h"

namespace lg {

using OptionalDType = std::optional<DType>;

Tensor empty(const Shape& shape, OptionalDType dtype = {});
Tensor zeros(const Shape& shape, OptionalDType dtype = {});
Tensor ones(const Shape& shape, OptionalDType dtype = {});
// Without a dtype: the value's kind (bool, int64, or the default float dtype).
Tensor full(const Shape& shape, const Tensor& value, OptionalDType dtype = {});
Tensor empty_like(const Tensor& x, OptionalDType dtype = {});
Tensor zeros_like(const Tensor& x, OptionalDType dtype = {});
Tensor ones_like(const Tensor& x, OptionalDType dtype = {});
Tensor full_like(const Tensor& x, const Tensor& value, OptionalDType dtype = {});

// start, start + step, ... below end. int64 when all three are integers.
Tensor arange(const Tensor& start, const Tensor& end, const Tensor& step = 1,
              OptionalDType dtype = {});
inline Tensor arange(const Tensor& end) { return arange(0, end); }
// `steps` numbers from start to end, both included.
Tensor linspace(double start, double end, std::int64_t steps, OptionalDType dtype = {});
Tensor eye(std::int64_t rows, std::int64_t columns = -1, OptionalDType dtype = {});

// From the default generator, unless one is given.
Tensor rand(const Shape& shape, OptionalDType dtype = {},
            Generator* generator = nullptr);  // uniform in [0, 1)
Tensor randn(const Shape& shape, OptionalDType dtype = {},
             Generator* generator = nullptr);  // normal, mean 0, variance 1
Tensor randint(std::int64_t low, std::int64_t high, const Shape& shape,
               OptionalDType dtype = DType::int64,
               Generator* generator = nullptr);  // [low, high)
Tensor randperm(std::int64_t n, Generator* generator = nullptr);
Tensor rand_like(const Tensor& x);
Tensor randn_like(const Tensor& x);
void manual_seed(std::uint64_t seed);

// Elements copied from C++ memory: tensor({1.f, 2.f, 3.f}, {3}).
template <class T> Tensor tensor(std::span<const T> values, const Shape& shape) {
  if (checked_numel(shape, sizeof(T), "tensor") != static_cast<std::int64_t>(values.size())) {
    fail(ErrorKind::value, "tensor", "got ", values.size(), " values for shape ", shape);
  }
  Tensor t = Tensor::empty(shape, dtype_of<T>);
  std::copy(values.begin(), values.end(), t.data<T>());
  return t;
}
template <class T> Tensor tensor(std::initializer_list<T> values, const Shape& shape) {
  return tensor(std::span<const T>(values.begin(), values.size()), shape);
}
template <class T> Tensor tensor(std::initializer_list<T> values) {
  return tensor(values, {static_cast<std::int64_t>(values.size())});
}
template <class T> Tensor tensor(const std::vector<T>& values, const Shape& shape) {
  return tensor(std::span<const T>(values), shape);
}

// --- in place, under the version counter; each returns x ---
const Tensor& add_(const Tensor& x, const Tensor& y);
const Tensor& sub_(const Tensor& x, const Tensor& y);
const Tensor& mul_(const Tensor& x, const Tensor& y);
const Tensor& div_(const Tensor& x, const Tensor& y);
const Tensor& copy_(const Tensor& x, const Tensor& source);  // broadcasts and converts
const Tensor& fill_(const Tensor& x, const Tensor& value);
const Tensor& zero_(const Tensor& x);
inline const Tensor& operator+=(const Tensor& x, const Tensor& y) { return add_(x, y); }
inline const Tensor& operator-=(const Tensor& x, const Tensor& y) { return sub_(x, y); }
inline const Tensor& operator*=(const Tensor& x, const Tensor& y) { return mul_(x, y); }
inline const Tensor& operator/=(const Tensor& x, const Tensor& y) { return div_(x, y); }

}  // namespace lg
