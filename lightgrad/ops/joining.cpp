// joining.cpp: taking a tensor apart along a dimension, and putting tensors together.
#include <algorithm>

#include "lightgrad/autograd/function.h"
#include "lightgrad/ops/creation.h"
#include "lightgrad/ops/run.h"

namespace lg::ops {

std::vector<Tensor> Split::forward(const Tensor& x) const {
  const int d = normalize_axis(dim, x.rank(), "split");
  const std::int64_t size = x.rank() ? x.shape()[d] : 0;
  PoolVector<std::int64_t> parts(sizes.list.begin(), sizes.list.end());
  if (parts.size() == 1) {
    const std::int64_t each = parts[0];
    if (each < 0 || (each == 0 && size != 0)) {
      fail(ErrorKind::value, "split", "split_size ", each, " for dimension ", d, " of size ", size,
           ", expected at least 1");
    }
    parts.assign(static_cast<std::size_t>(size == 0 ? 1 : (size - 1) / each + 1), each);
    parts.back() = size - each * static_cast<std::int64_t>(parts.size() - 1);
  }
  std::int64_t total = 0;
  for (auto n : parts) {
    if (n < 0 || __builtin_add_overflow(total, n, &total)) {
      fail(ErrorKind::value, "split", "the sizes ", sizes.list, " hold ", n,
           ", expected sizes from 0 to ", size);
    }
  }
  if (total != size) {
    fail(ErrorKind::value, "split", "the sizes ", sizes.list, " add up to ", total, ", expected ",
         size, ", the size of dimension ", d, " (x ", x.shape(), ")");
  }
  // Views without a graph of their own: one node for them all joins their gradients in one pass.
  std::vector<Tensor> out;
  out.reserve(parts.size());
  {
    NoGrad off;
    std::int64_t at = 0;
    for (auto n : parts) {
      out.push_back(slice(x, d, at, at + n));
      at += n;
    }
  }
  if (!x.requires_grad() || !autograd::grad_enabled) return out;
  if (x.impl()->is_view) detail::check_stale_view("split", x);
  out = autograd::record_function("split", {x}, std::move(out), nullptr,
                                  [d](autograd::FunctionContext&, const std::vector<Tensor>& g) {
                                    return std::vector<Tensor>{cat(g, d)};
                                  });
  for (Tensor& y : out) {
    y.impl()->is_view = true;
    y.impl()->view_version = y.impl()->storage->recorded_changes();
  }
  return out;
}

std::vector<Tensor> Chunk::forward(const Tensor& x) const {
  if (chunks < 1) fail(ErrorKind::value, "chunk", "chunks is ", chunks, ", expected at least 1");
  const int d = normalize_axis(dim, x.rank(), "chunk");
  const std::int64_t size = x.rank() ? x.shape()[d] : 0;
  if (size == 0) return std::vector<Tensor>(static_cast<std::size_t>(chunks), x);
  return split(x, (size - 1) / chunks + 1, d);
}

std::vector<Tensor> Unbind::forward(const Tensor& x) const {
  if (x.rank() == 0) fail(ErrorKind::index, "unbind", "a 0-d tensor cannot be taken apart");
  const int d = normalize_axis(dim, x.rank(), "unbind");
  std::vector<Tensor> out;
  for (std::int64_t i = 0; i < x.shape()[d]; ++i) out.push_back(select(x, d, i));
  return out;
}

namespace {
// PyTorch lets a tensor of shape [0] stand among tensors of any rank.
bool is_legacy_empty(const Shape& s) { return s.rank() == 1 && s[0] == 0; }
}  // namespace

Tensor Cat::forward(const std::vector<Tensor>& x) const {
  if (x.empty()) fail(ErrorKind::value, "cat", "got no tensors");
  const Tensor* like = nullptr;
  DType dtype = x[0].dtype();
  for (const Tensor& t : x) {
    if (t.rank() == 0) fail(ErrorKind::value, "cat", "0-d tensors cannot be joined; use stack");
    if (!like && !is_legacy_empty(t.shape())) like = &t;
    dtype = promote(dtype, t.dtype());
  }
  if (!like) like = &x[0];
  const int d = normalize_axis(dim, like->rank(), "cat");
  Shape shape = like->shape();
  shape[d] = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (is_legacy_empty(x[i].shape())) continue;
    Shape rest = x[i].shape();
    if (rest.rank() == shape.rank()) rest[d] = shape[d];
    if (!(rest == shape)) {
      fail(ErrorKind::value, "cat", "tensor ", static_cast<std::int64_t>(i), " has shape ",
           x[i].shape(), ", tensor 0 ", like->shape(),
           ": expected equal sizes except in dimension ", d);
    }
    if (__builtin_add_overflow(shape[d], x[i].shape()[d], &shape[d])) {
      fail(ErrorKind::value, "cat", "dimension ", d, " of the result does not fit in 64 bits");
    }
  }
  Tensor y = Tensor::empty(shape, dtype);
  std::int64_t at = 0;
  for (const Tensor& t : x) {
    if (t.numel() == 0) {
      at += is_legacy_empty(t.shape()) ? 0 : t.shape()[d];
      continue;
    }
    y.view_as(t.shape(), y.strides(), at * y.strides()[d]).assign(t);
    at += t.shape()[d];
  }
  return y;
}

Tensor Cat::vjp(const Tensor& g, std::size_t i, const PoolVector<Shape>& shapes) const {
  if (is_legacy_empty(shapes[i])) return zeros(shapes[i], g.dtype());
  const int d = normalize_axis(dim, g.rank(), "cat");
  std::int64_t at = 0;
  for (std::size_t k = 0; k < i; ++k) at += is_legacy_empty(shapes[k]) ? 0 : shapes[k][d];
  return slice(g, d, at, at + shapes[i][d]);
}

Tensor Stack::forward(const std::vector<Tensor>& x) const {
  if (x.empty()) fail(ErrorKind::value, "stack", "got no tensors");
  const int d = normalize_axis(dim, x[0].rank() + 1, "stack");
  std::vector<Tensor> parts;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (!(x[i].shape() == x[0].shape())) {
      fail(ErrorKind::value, "stack", "tensor ", static_cast<std::int64_t>(i), " has shape ",
           x[i].shape(), ", tensor 0 ", x[0].shape(), ": expected equal shapes");
    }
    parts.push_back(unsqueeze(x[i], d));
  }
  return cat(parts, d);
}

}  // namespace lg::ops
