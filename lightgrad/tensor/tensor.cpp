#include "lightgrad/tensor/tensor.h"

#include <algorithm>
#include <atomic>

namespace lg {
namespace {

std::atomic<DType> default_float{DType::float32};

TensorImpl* new_impl(const Shape& shape, const Shape& strides, DType dtype) {
  auto* p = new TensorImpl;
  p->shape = shape;
  p->strides = strides;
  p->dtype = dtype;
  return p;
}

template <class T> Tensor weak_scalar(T v) {
  Tensor t = Tensor::empty({}, dtype_of<T>);
  *static_cast<T*>(t.raw_data()) = v;
  t.impl()->weak = true;
  return t;
}

}  // namespace

DType default_dtype() { return default_float.load(std::memory_order_relaxed); }

void set_default_dtype(DType t) {
  if (!is_floating(t)) {
    fail(ErrorKind::type, "set_default_dtype", "expected a floating-point dtype, got ", name_of(t));
  }
  default_float = t;
}

Tensor Tensor::empty(const Shape& shape, DType dtype) {
  const std::int64_t n = checked_numel(shape, size_of(dtype), "empty");
  auto* p = new_impl(shape, contiguous_strides(shape), dtype);
  Tensor t(Ref<TensorImpl>::adopt(p));
  const std::size_t bytes = static_cast<std::size_t>(n) * size_of(dtype);
  p->storage =
      bytes < Storage::large ? Storage::make(bytes) : Storage::make_large(bytes, shape, dtype);
  return t;
}

Tensor Tensor::on(Ref<Storage> storage, const Shape& shape, const Shape& strides,
                  std::int64_t offset, DType dtype) {
  const auto n = checked_numel(shape, size_of(dtype), "tensor");
  std::int64_t low = offset, high = offset;
  for (int i = 0; i < shape.rank(); ++i)
    (strides[i] < 0 ? low : high) += (shape[i] - 1) * strides[i];
  const auto items = static_cast<std::int64_t>(storage->bytes() / size_of(dtype));
  if (n > 0 && (low < 0 || high >= items)) {
    fail(ErrorKind::value, "tensor", "shape ", shape, " with strides ", strides, " and offset ",
         offset, " reaches outside its storage of ", items, " elements");
  }
  auto* p = new_impl(shape, strides, dtype);
  p->storage = std::move(storage);
  p->offset = offset;
  return Tensor(Ref<TensorImpl>::adopt(p));
}

Tensor Tensor::shape_only(const Shape& shape, DType dtype) {
  return Tensor(Ref<TensorImpl>::adopt(new_impl(shape, contiguous_strides(shape), dtype)));
}

Tensor Tensor::scalar(bool v) { return weak_scalar(v); }
Tensor Tensor::scalar(std::int64_t v) { return weak_scalar(v); }
Tensor Tensor::scalar(double v) { return weak_scalar(v); }

std::int64_t Tensor::size_from_end(std::int64_t axis) const {
  const int i = normalize_axis(axis, rank(), "size");
  if (rank() == 0) fail(ErrorKind::index, "size", "a 0-d tensor has no dimensions");
  return shape()[i];
}

void Tensor::check_dtype(DType wanted) const {
  if (device().type != DeviceType::cpu) {
    fail(ErrorKind::runtime, "data", "the tensor (", describe(), ") lies on ", device(),
         ", its elements are read on the CPU; use to(\"cpu\")");
  }
  if (dtype() != wanted) {
    fail(ErrorKind::type, "data", "the tensor is ", name_of(dtype()), ", read as ",
         name_of(wanted));
  }
}

void Tensor::check_one_element() const {
  if (numel() != 1) {
    fail(ErrorKind::value, "item", "expected a tensor with one element, got shape ", shape());
  }
}

std::string Tensor::describe() const {
  if (!defined()) return "undefined";
  return text(name_of(dtype()), " ", shape());
}

Tensor Tensor::view_as(const Shape& shape, const Shape& strides, std::int64_t shift) const {
  auto* p = new_impl(shape, strides, dtype());
  p->device = device();
  p->storage = impl_->storage;
  p->offset = impl_->offset + shift;
  return Tensor(Ref<TensorImpl>::adopt(p));
}

Tensor Tensor::detach() const { return view_as(shape(), strides()); }

namespace detail {
Tensor copy_elsewhere(const Tensor& x);  // ops/cuda.cpp
}

Tensor Tensor::copy() const {
  if (device().type != DeviceType::cpu) return detail::copy_elsewhere(*this);
  Tensor t = empty(shape(), dtype());
  copy_out(t.raw_data(), dtype());
  return t;
}

Tensor Tensor::contiguous_data() const { return is_contiguous() ? *this : copy(); }

void Tensor::set_grad(Tensor g) const {
  if (g.defined() && !(g.device() == device())) {
    fail(ErrorKind::value, "grad", "the tensor lies on ", device(), ", the gradient on ",
         g.device());
  }
  if (g.defined() && !(g.shape() == shape() && g.dtype() == dtype())) {
    fail(ErrorKind::value, "grad", "the tensor is ", describe(), ", the gradient ", g.describe());
  }
  impl_->grad = std::move(g);
  if (impl_->grad && impl_->grad.impl()->storage)
    impl_->grad.impl()->storage->serve(MemoryUse::gradient);
}

}  // namespace lg
