#include "lightgrad/ops/views.h"

#include <algorithm>
#include <cstring>

#include "lightgrad/autograd/function.h"
#include "lightgrad/backend/backend.h"
#include "lightgrad/ops/creation.h"
#include "lightgrad/ops/ops.h"
#include "lightgrad/ops/run.h"

namespace lg {

void Tensor::copy_out(void* to, DType dtype) const {
  if (numel() == 0) return;
  if (device().type != DeviceType::cpu) return to_cpu().copy_out(to, dtype);
  backend(device()).copy(
      {shape(), contiguous_strides(shape()), strides(), dtype, this->dtype(), to, raw_data()});
}

void Tensor::assign(const Tensor& source) const {
  if (!(broadcast(shape(), source.shape(), "assign") == shape())) {
    fail(ErrorKind::value, "assign", "a value of shape ", source.shape(),
         " does not fit into shape ", shape());
  }
  if (detail::elsewhere(*this) || detail::elsewhere(source)) {
    detail::assign_elsewhere(*this, source);
  } else if (numel() > 0) {
    // The same memory in another order must be read before it is written.
    const bool shared = source.impl()->storage.get() == impl()->storage.get();
    const Tensor from = shared ? source.copy() : source;
    backend(device()).copy({shape(), strides(),
                            broadcast_strides(from.shape(), from.strides(), shape()), dtype(),
                            from.dtype(), raw_data(), from.raw_data()});
  }
  impl()->storage->bump_version();
}

namespace {

// Sizes that a -1 has been worked out in.
Shape resolve(const Tensor& x, const Shape& wanted, std::string_view name) {
  Shape shape = wanted;
  std::int64_t known = 1;
  int open = -1;
  for (int i = 0; i < shape.rank(); ++i) {
    if (shape[i] == -1) {
      if (open >= 0) fail(ErrorKind::value, name, "only one size can be -1, got ", wanted);
      open = i;
    } else if (shape[i] < 0) {
      fail(ErrorKind::value, name, "negative dimension ", shape[i], " in shape ", wanted);
    } else if (__builtin_mul_overflow(known, shape[i], &known)) {
      fail(ErrorKind::value, name, "shape ", wanted, " has more elements than fit in 64 bits");
    }
  }
  if (open >= 0) {
    if (known == 0 || x.numel() % known != 0) {
      fail(ErrorKind::value, name, "shape ", wanted, " does not fit ", x.numel(), " elements (x ",
           x.shape(), ")");
    }
    shape[open] = x.numel() / known;
  } else if (known != x.numel()) {
    fail(ErrorKind::value, name, "shape ", wanted, " has ", known, " elements, x has ", x.numel(),
         " (x ", x.shape(), ")");
  }
  return shape;
}

// Strides that show x's elements in `shape` without moving them, if there are any: x's dimensions
// are merged into runs, and each run is cut up by the new sizes.
std::optional<Shape> view_strides(const Tensor& x, const Shape& shape) {
  if (x.is_contiguous()) return contiguous_strides(shape);
  if (x.numel() == 0) return contiguous_strides(shape);
  Shape strides = Shape::filled(shape.rank(), 0);
  int d = shape.rank() - 1;
  std::int64_t chunk_stride = x.rank() > 0 ? x.strides().back() : 1, in_chunk = 1, made = 1;
  for (int i = x.rank(); i-- > 0;) {
    in_chunk *= x.shape()[i];
    const bool ends =
        i == 0 || (x.shape()[i - 1] != 1 && x.strides()[i - 1] != in_chunk * chunk_stride);
    if (!ends) continue;
    while (d >= 0 && (made < in_chunk || shape[d] == 1)) {
      strides[d] = made * chunk_stride;
      made *= shape[d--];
    }
    if (made != in_chunk) return {};
    if (i > 0) {
      chunk_stride = x.strides()[i - 1];
      in_chunk = made = 1;
    }
  }
  return d < 0 ? std::optional(strides) : std::nullopt;
}

struct Range {
  std::int64_t start, step, length;
};
// Python's rules for start:stop:step on a dimension of `size`.
Range slice_range(std::int64_t start, std::int64_t stop, std::int64_t step, std::int64_t size) {
  if (step == 0) fail(ErrorKind::value, "slice", "step is 0");
  const std::int64_t low = step > 0 ? 0 : -1, high = step > 0 ? size : size - 1;
  auto wrap = [&](std::int64_t i) { return std::clamp(i < 0 ? i + size : i, low, high); };
  start = wrap(start);
  stop = wrap(stop);
  const std::int64_t span = step > 0 ? stop - start : start - stop;
  if (span <= 0) return {start, step, 0};
  const auto stride =
      step > 0 ? static_cast<std::uint64_t>(step) : 0 - static_cast<std::uint64_t>(step);
  return {start, step,
          1 + static_cast<std::int64_t>(static_cast<std::uint64_t>(span - 1) / stride)};
}

}  // namespace

namespace ops {

Tensor Cast::forward(const Tensor& x) const {
  Tensor y = Tensor::empty(x.shape(), dtype);
  x.copy_out(y.raw_data(), dtype);
  return y;
}

Tensor To::forward(const Tensor& x) const {
  return x.dtype() == dtype && !x.is_weak() ? x : cast(x, dtype);
}

Tensor Contiguous::forward(const Tensor& x) const { return x.is_contiguous() ? x : clone(x); }

Tensor Expand::forward(const Tensor& x) const {
  Shape to = shape;
  const int lead = to.rank() - x.rank();
  if (lead < 0)
    fail(ErrorKind::value, "expand", "shape ", shape, " has fewer dimensions than x ", x.shape());
  for (int i = 0; i < to.rank(); ++i) {
    const std::int64_t size = i < lead ? 1 : x.shape()[i - lead];
    if (to[i] == -1 && i >= lead) to[i] = size;
    if (to[i] < 0 || (size != 1 && size != to[i])) {
      fail(ErrorKind::value, "expand", "x ", x.shape(), " cannot be expanded to ", shape,
           ": dimension ", i, " is ", size, ", expected 1 or ", to[i]);
    }
  }
  checked_numel(to, size_of(x.dtype()), "expand");
  return x.view_as(to, broadcast_strides(x.shape(), x.strides(), to));
}

Tensor SumTo::forward(const Tensor& x) const {
  if (x.shape() == shape) return x.detach();
  Axes dims{Shape()};
  const int lead = x.rank() - shape.rank();
  for (int i = 0; i < x.rank(); ++i) {
    if (i < lead || (shape[i - lead] == 1 && x.shape()[i] != 1)) dims.list.push_back(i);
  }
  Tensor y = Sum{{}, dims, true, {}}.forward(x);
  return y.view_as(shape, contiguous_strides(shape));
}

Tensor Transpose::forward(const Tensor& x) const {
  const int a = normalize_axis(dim0, x.rank(), "transpose"),
            b = normalize_axis(dim1, x.rank(), "transpose");
  Shape shape = x.shape(), strides = x.strides();
  if (x.rank() > 0) {
    std::swap(shape[a], shape[b]);
    std::swap(strides[a], strides[b]);
  }
  return x.view_as(shape, strides);
}

Tensor Permute::forward(const Tensor& x) const {
  if (dims.rank() != x.rank()) {
    fail(ErrorKind::value, "permute", "dims ", dims, " name ", dims.rank(), " dimensions, x ",
         x.shape(), " has ", x.rank());
  }
  Shape shape = x.shape(), strides = x.strides();
  unsigned seen = 0;
  for (int i = 0; i < x.rank(); ++i) {
    const int d = normalize_axis(dims[i], x.rank(), "permute");
    if (seen >> d & 1)
      fail(ErrorKind::value, "permute", "dims ", dims, " name dimension ", d, " twice");
    seen |= 1u << d;
    shape[i] = x.shape()[d];
    strides[i] = x.strides()[d];
  }
  return x.view_as(shape, strides);
}

Shape Permute::inverse() const {
  Shape inverse = dims;
  for (int i = 0; i < dims.rank(); ++i) {
    inverse[static_cast<int>(dims[i] < 0 ? dims[i] + dims.rank() : dims[i])] = i;
  }
  return inverse;
}

Tensor Reshape::forward(const Tensor& x) const {
  const Shape to = resolve(x, shape, "reshape");
  if (auto strides = view_strides(x, to)) return x.view_as(to, *strides);
  return x.copy().view_as(to, contiguous_strides(to));
}

Tensor ViewAs::forward(const Tensor& x) const {
  if (!view_strides(x, resolve(x, shape, "view"))) {
    fail(ErrorKind::value, "view", "x ", x.shape(), " with strides ", x.strides(),
         " cannot be seen as ", shape, " without a copy; use reshape");
  }
  return reshape(x, shape);
}

Tensor Squeeze::forward(const Tensor& x) const {
  unsigned named = dim.all ? ~0u : 0u;
  for (auto d : dim.list) named |= 1u << normalize_axis(d, x.rank(), "squeeze");
  Shape to;
  for (int i = 0; i < x.rank(); ++i) {
    if (x.shape()[i] != 1 || !(named >> i & 1)) to.push_back(x.shape()[i]);
  }
  return reshape(x, to);
}

Tensor Unsqueeze::forward(const Tensor& x) const {
  Shape to = x.shape();
  to.insert(normalize_axis(dim, x.rank() + 1, "unsqueeze"), 1);
  return reshape(x, to);
}

Tensor Flatten::forward(const Tensor& x) const {
  const int a = normalize_axis(start_dim, x.rank(), "flatten"),
            b = normalize_axis(end_dim, x.rank(), "flatten");
  if (a > b)
    fail(ErrorKind::value, "flatten", "start_dim ", start_dim, " comes after end_dim ", end_dim,
         " (x ", x.shape(), ")");
  if (x.rank() == 0) return reshape(x, {1});
  Shape to;
  std::int64_t size = 1;
  for (int i = 0; i < x.rank(); ++i) {
    if (i >= a && i <= b) size *= x.shape()[i];
    if (i < a || i > b)
      to.push_back(x.shape()[i]);
    else if (i == b)
      to.push_back(size);
  }
  return reshape(x, to);
}

Tensor SliceDim::forward(const Tensor& x) const {
  if (x.rank() == 0) fail(ErrorKind::index, "slice", "a 0-d tensor cannot be sliced");
  const int d = normalize_axis(dim, x.rank(), "slice");
  const Range r = slice_range(start, stop, step, x.shape()[d]);
  Shape shape = x.shape(), strides = x.strides();
  shape[d] = r.length;
  const std::int64_t shift = r.length > 0 ? r.start * strides[d] : 0;
  if (r.length > 1)
    strides[d] *= r.step;  // a step beyond the end is never taken, and might overflow
  return x.view_as(shape, strides, shift);
}

Tensor SliceGrad::forward(const Tensor& x) const {
  Tensor y = zeros(shape, x.dtype());
  SliceDim part{};
  part.dim = dim;
  part.start = start;
  part.stop = stop;
  part.step = step;
  part.forward(y).assign(x);
  return y;
}

Tensor Select::forward(const Tensor& x) const {
  if (x.rank() == 0)
    fail(ErrorKind::index, "select", "a 0-d tensor has no elements to choose from");
  const int d = normalize_axis(dim, x.rank(), "select");
  const std::int64_t size = x.shape()[d], i = index < 0 ? index + size : index;
  if (i < 0 || i >= size) {
    fail(ErrorKind::index, "select", "index ", index, " is out of range for dimension ", d,
         " of size ", size, " (x ", x.shape(), ")");
  }
  Shape to = x.shape();
  to.erase(d);
  return reshape(slice(x, d, i, i + 1), to);
}

Tensor Narrow::forward(const Tensor& x) const {
  const int d = normalize_axis(dim, x.rank(), "narrow");
  const std::int64_t size = x.rank() ? x.shape()[d] : 0, from = start < 0 ? start + size : start;
  if (length < 0 || from < 0 || from > size || length > size - from) {
    fail(ErrorKind::index, "narrow", "start ", start, " with length ", length,
         " reaches outside dimension ", d, " of size ", size, " (x ", x.shape(), ")");
  }
  return slice(x, d, from, from + length);
}

Tensor Flip::forward(const Tensor& x) const {
  Tensor y = x;
  for (auto d : dims.list) {
    const int axis = normalize_axis(d, x.rank(), "flip");
    y = slice(y, axis, -1, -1 - x.shape()[axis], -1);
  }
  return y;
}

}  // namespace ops
}  // namespace lg
