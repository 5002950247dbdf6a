// float_kernels.h: what the .cpp files of operations with float kernels share.
#pragma once

#include "lightgrad/backend/backend.h"
#include "lightgrad/tensor/tensor.h"

namespace lg::ops {

// Calls f(kernels, T{}) for float32 or float64; TypeError for anything else.
template <class F> void with_floats(const Tensor& x, std::string_view name, F&& f) {
  const Backend& b = backend(x.device());
  if (x.dtype() == DType::float32)
    f(b.float32, float{});
  else if (x.dtype() == DType::float64)
    f(b.float64, double{});
  else
    fail(ErrorKind::type, name, "x is ", x.describe(), ", expected a floating-point dtype");
}

// The same for what has kernels for bfloat16, too: products, on some machines, and batch_norm.
template <class F> void with_products(const Tensor& x, std::string_view name, F&& f) {
  if (x.dtype() == DType::bfloat16)
    f(backend(x.device()).bfloat16, bfloat16{});
  else
    with_floats(x, name, f);
}

template <class T> const T* data_or_null(const Tensor& t) {
  return t.defined() ? t.data<T>() : nullptr;
}

}  // namespace lg::ops
