#include "lightgrad/ops/creation.h"

#include <cmath>

#include "lightgrad/backend/backend.h"
#include "lightgrad/ops/ops.h"
#include "lightgrad/ops/run.h"

namespace lg {

namespace {

Tensor filled(const Shape& shape, DType dtype, const Tensor& value, std::string_view name) {
  checked_numel(shape, size_of(dtype), name);
  if (value.numel() != 1)
    fail(ErrorKind::value, name, "the value has shape ", value.shape(), ", expected one number");
  Tensor t = Tensor::empty(shape, dtype);
  double one[1];
  kernels::convert_run(dtype, one, 1, value.dtype(), value.raw_data(), 1, 1);
  backend(t.device()).fill(dtype, t.raw_data(), t.numel(), one);
  return t;
}

template <class F>
Tensor random(const Shape& shape, OptionalDType dtype, std::string_view name, F&& fill) {
  const DType wanted = dtype.value_or(default_dtype());
  if (!is_floating(wanted))
    fail(ErrorKind::type, name, "expected a floating-point dtype, got ", name_of(wanted));
  checked_numel(shape, size_of(wanted), name);
  Tensor t = Tensor::empty(shape, wanted == DType::float64 ? wanted : DType::float32);
  if (wanted == DType::float64)
    fill(t.data<double>(), t.numel());
  else
    fill(t.data<float>(), t.numel());
  return to(t, wanted);
}

Generator& use(Generator* g) { return g ? *g : default_generator(); }

}  // namespace

Tensor empty(const Shape& shape, OptionalDType dtype) {
  return Tensor::empty(shape, dtype.value_or(default_dtype()));
}
Tensor zeros(const Shape& shape, OptionalDType dtype) {
  return filled(shape, dtype.value_or(default_dtype()), 0, "zeros");
}
Tensor ones(const Shape& shape, OptionalDType dtype) {
  return filled(shape, dtype.value_or(default_dtype()), 1, "ones");
}
Tensor full(const Shape& shape, const Tensor& value, OptionalDType dtype) {
  const DType own = value.is_weak() && is_floating(value.dtype()) ? default_dtype() : value.dtype();
  return filled(shape, dtype.value_or(own), value, "full");
}
Tensor empty_like(const Tensor& x, OptionalDType dtype) {
  return empty(x.shape(), dtype.value_or(x.dtype()));
}
Tensor zeros_like(const Tensor& x, OptionalDType dtype) {
  return zeros(x.shape(), dtype.value_or(x.dtype()));
}
Tensor ones_like(const Tensor& x, OptionalDType dtype) {
  return ones(x.shape(), dtype.value_or(x.dtype()));
}
Tensor full_like(const Tensor& x, const Tensor& value, OptionalDType dtype) {
  return full(x.shape(), value, dtype.value_or(x.dtype()));
}

Tensor arange(const Tensor& start, const Tensor& end, const Tensor& step, OptionalDType dtype) {
  // A whole dtype counts in whole numbers, as in PyTorch: 2.5 starts at 2.
  const bool whole =
      (is_integral(start.dtype()) && is_integral(end.dtype()) && is_integral(step.dtype())) ||
      (dtype && is_integral(*dtype));
  const DType wanted = dtype.value_or(whole ? DType::int64 : default_dtype());
  if (step.item<double>() == 0) fail(ErrorKind::value, "arange", "step is 0");
  if (whole) {
    if (step.item<std::int64_t>() == 0) {
      fail(ErrorKind::value, "arange", "step ", step.item<double>(), " is 0 in ", name_of(wanted));
    }
    const auto a = start.item<std::int64_t>(), b = end.item<std::int64_t>(),
               s = step.item<std::int64_t>();
    // Unsigned: the distance of two int64 need not be one.
    using U = std::uint64_t;
    const U span = s > 0 ? (b > a ? U(b) - U(a) : 0) : (a > b ? U(a) - U(b) : 0),
            stride = s > 0 ? U(s) : 0 - U(s);
    const auto n =
        static_cast<std::int64_t>(std::min<U>(span ? (span - 1) / stride + 1 : 0, INT64_MAX));
    Tensor t = empty({n}, DType::int64);
    auto* p = t.data<std::int64_t>();
    for (std::int64_t i = 0, v = a; i < n; ++i, v = static_cast<std::int64_t>(U(v) + U(s)))
      p[i] = v;
    return to(t, wanted);
  }
  const double a = start.item(), b = end.item(), s = step.item();
  if (!std::isfinite(a) || !std::isfinite(b) || !std::isfinite(s)) {
    fail(ErrorKind::value, "arange", "from ", a, " to ", b, " by ", s, ": expected finite numbers");
  }
  const double count = std::ceil((b - a) / s);
  if (count > 0x1p62)
    fail(ErrorKind::value, "arange", "from ", a, " to ", b, " by ", s, " has too many elements");
  Tensor t = empty({count > 0 ? static_cast<std::int64_t>(count) : 0}, DType::float64);
  auto* p = t.data<double>();
  for (std::int64_t i = 0; i < t.numel(); ++i) p[i] = a + static_cast<double>(i) * s;
  return to(t, wanted);
}

Tensor linspace(double start, double end, std::int64_t steps, OptionalDType dtype) {
  if (steps < 0) fail(ErrorKind::value, "linspace", "steps is ", steps, ", expected at least 0");
  Tensor t = empty({steps}, DType::float64);
  auto* p = t.data<double>();
  if (dtype && is_integral(*dtype)) start = std::trunc(start), end = std::trunc(end);  // as PyTorch
  const double step = steps > 1 ? (end - start) / static_cast<double>(steps - 1) : 0;
  for (std::int64_t i = 0; i < steps; ++i) {  // from both ends, so that the last one is exact
    p[i] = i < steps / 2 ? start + step * static_cast<double>(i)
                         : end - step * static_cast<double>(steps - 1 - i);
  }
  if (steps == 1) p[0] = start;
  return to(t, dtype.value_or(default_dtype()));
}

Tensor eye(std::int64_t rows, std::int64_t columns, OptionalDType dtype) {
  Tensor t = zeros({rows, columns < 0 ? rows : columns}, dtype);
  const std::int64_t n = std::min(t.shape()[0], t.shape()[1]);
  t.view_as({n}, {t.shape()[1] + 1}).assign(1);
  return t;
}

Tensor rand(const Shape& shape, OptionalDType dtype, Generator* generator) {
  return random(shape, dtype, "rand", [&]<class T>(T* p, std::int64_t n) {
    fill_uniform<T>(p, n, 0, 1, use(generator).next());
  });
}

Tensor randn(const Shape& shape, OptionalDType dtype, Generator* generator) {
  return random(shape, dtype, "randn", [&]<class T>(T* p, std::int64_t n) {
    fill_normal<T>(p, n, 0, 1, use(generator).next());
  });
}

Tensor randint(std::int64_t low, std::int64_t high, const Shape& shape, OptionalDType dtype,
               Generator* generator) {
  if (low >= high) fail(ErrorKind::value, "randint", "low ", low, " is not below high ", high);
  checked_numel(shape, 8, "randint");
  Tensor t = Tensor::empty(shape, DType::int64);
  fill_randint(t.data<std::int64_t>(), t.numel(), low, high, use(generator).next());
  return to(t, dtype.value_or(DType::int64));
}

Tensor randperm(std::int64_t n, Generator* generator) {
  if (n < 0) fail(ErrorKind::value, "randperm", "n is ", n, ", expected at least 0");
  Tensor t = Tensor::empty({n}, DType::int64);
  fill_permutation(t.data<std::int64_t>(), n, use(generator).next());
  return t;
}

Tensor rand_like(const Tensor& x) { return rand(x.shape(), x.dtype()); }
Tensor randn_like(const Tensor& x) { return randn(x.shape(), x.dtype()); }
void manual_seed(std::uint64_t seed) { default_generator().manual_seed(seed); }

const Tensor& add_(const Tensor& x, const Tensor& y) { return run_in_place(ops::Add{}, x, y); }
const Tensor& sub_(const Tensor& x, const Tensor& y) { return run_in_place(ops::Sub{}, x, y); }
const Tensor& mul_(const Tensor& x, const Tensor& y) { return run_in_place(ops::Mul{}, x, y); }
const Tensor& div_(const Tensor& x, const Tensor& y) { return run_in_place(ops::Div{}, x, y); }
// x becomes where(true, source, x): the gradient goes to the source, and none to what was there.
const Tensor& copy_(const Tensor& x, const Tensor& source) {
  return x.index_put({Ellipsis}, source), x;
}
const Tensor& fill_(const Tensor& x, const Tensor& value) { return copy_(x, value); }
const Tensor& zero_(const Tensor& x) { return copy_(x, 0); }

}  // namespace lg
