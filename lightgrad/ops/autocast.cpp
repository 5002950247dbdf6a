#include "lightgrad/ops/autocast.h"

#include <unordered_map>

#include "lightgrad/backend/backend.h"

namespace lg::autocast {

namespace {

// A weight and its copy, at a version of the weight. `source` keeps the weight's address its own.
struct Cast {
  Tensor source, copy;
  std::uint32_t version = 0;
};
using Casts =
    std::unordered_map<const TensorImpl*, Cast, std::hash<const TensorImpl*>, std::equal_to<>,
                       PoolAllocator<std::pair<const TensorImpl* const, Cast>>>;
thread_local Casts casts;
thread_local int depth = 0;  // of scopes

DType wanted(Precision precision, const Tensor& t) {
  const bool number = t.defined() && !t.is_weak() && is_floating(t.dtype());
  if (!number || t.dtype() == DType::float64) return t.defined() ? t.dtype() : DType::float32;
  return precision == Precision::low ? autograd::autocast_dtype : DType::float32;
}

}  // namespace

bool has_bf16_products() { return backend(Device()).has_bf16_products(); }

DType arriving(Precision precision, const Tensor& t) {
  return autograd::autocast_dtype == DType::float32 ? t.dtype() : wanted(precision, t);
}

bool changes(Precision precision, std::span<const Tensor* const> in) {
  for (const Tensor* t : in)
    if (t->defined() && t->dtype() != wanted(precision, *t)) return true;
  return false;
}

Tensor input(Precision precision, const Tensor& t) {
  if (!t.defined()) return t;
  const DType dtype = wanted(precision, t);
  if (t.dtype() == dtype) return t;
  if (!t.is_leaf() || !t.requires_grad() || precision != Precision::low) return to(t, dtype);
  Cast& cast = casts[t.impl()];
  const std::uint32_t version = t.impl()->storage->version();
  // A copy made under no_grad has no graph, and one with a graph keeps that alive for nothing.
  if (!cast.copy.defined() || cast.version != version || cast.copy.dtype() != dtype ||
      cast.copy.requires_grad() != autograd::grad_enabled) {
    cast = {t, to(t, dtype), version};
  }
  return cast.copy;
}

DType enter(DType dtype) {
  ++depth;
  return std::exchange(autograd::autocast_dtype, dtype);
}

void leave(DType before) {
  autograd::autocast_dtype = before;
  if (--depth == 0) casts.clear();
}

}  // namespace lg::autocast
