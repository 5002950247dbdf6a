#include "lightgrad/ops/run.h"

#include <cmath>

#include "lightgrad/base/where.h"
#include "lightgrad/ops/creation.h"
#include "lightgrad/ops/cuda.h"

namespace lg {

namespace detail {

void fail_undefined(std::string_view operation, const char* argument) {
  fail(ErrorKind::type, operation, argument, " is undefined (None), expected a tensor");
}

void check_device(std::string_view operation, std::span<const Tensor* const> in) {
  const Tensor* first = nullptr;
  for (const Tensor* t : in) {
    if (!t->defined() || t->is_weak()) continue;
    if (!first) first = t;
    if (!(t->device() == first->device())) {
      fail(ErrorKind::value, operation, "the inputs lie on ", first->device(), " and ", t->device(),
           ", expected one device");
    }
  }
}

void check_stale_view(std::string_view operation, const Tensor& x) {
  if (x.impl()->view_version != x.impl()->storage->recorded_changes()) {
    fail(ErrorKind::runtime, operation, "the input ", x.describe(),
         " is a view whose base was changed in place after the "
         "view was made, so its gradient is not known; make the view again");
  }
}

void check_in_place(std::string_view operation, const Tensor& x, bool recorded) {
  if (x.requires_grad() && x.is_leaf() && autograd::grad_enabled) {
    fail(ErrorKind::runtime, operation, "in place on a leaf that requires a gradient (",
         x.describe(), "); do it under no_grad, or on a clone()");
  }
  if (recorded && x.impl()->is_view && !x.impl()->storage->unique()) {
    fail(
        ErrorKind::runtime, operation, "in place on a view that is part of a graph (", x.describe(),
        "): the base would not know; assign through the base (base[...] = value), or on a clone()");
  }
  for (int i = 0; i < x.rank(); ++i) {
    if (x.strides()[i] == 0 && x.shape()[i] > 1) {
      fail(ErrorKind::runtime, operation, "in place on a tensor whose elements share memory (",
           x.describe(), ", strides ", x.strides(), "); use contiguous() first");
    }
  }
}

void note_in_place(const Tensor& x) {
  x.impl()->storage->note_recorded_change();
  x.impl()->view_version = x.impl()->storage->recorded_changes();
}

void note_view(const Tensor& y) {
  TensorImpl& p = *y.impl();
  if (!p.storage || p.storage->unique()) return;  // it had to be copied
  p.is_view = true;
  p.view_version = p.storage->recorded_changes();
}

void watch_forward(std::string_view operation, const Tensor& out,
                   std::span<const Tensor* const> in) {
  bool nan_came_in = false, infinity_came_in = false;
  for (const Tensor* t : in) {
    if (!t->defined() || !is_floating(t->dtype())) continue;
    for (double v : t->to_vector<double>()) {
      nan_came_in |= std::isnan(v);
      infinity_came_in |= std::isinf(v);
    }
  }
  if (nan_came_in) return;
  autograd::check_finite(out, operation, "forward made", infinity_came_in);
}

void finish_watched(watch::Work& work, std::string_view operation, Cost cost, bool view,
                    const Tensor& y, std::span<const Tensor* const> in) {
  if (work) {
    const bool shares = view && y.impl()->storage.get() == in[0]->impl()->storage.get();
    work.set(shares ? Cost{} : cost);
    work.set_shape(y.shape());
  }
  if (watch::on(watch::anomaly)) watch_forward(operation, y, in);
}

bool any_requires_grad(std::span<const Tensor* const> in) {
  for (const Tensor* t : in)
    if (t->defined() && t->requires_grad()) return true;
  return false;
}

void note_path(Node& n) {
  if (current_frame && autograd::keeps_module_paths())
    n.module_path = std::make_unique<std::string>(where());
}

bool is_unshared(const Tensor& t) {
  const TensorImpl& p = *t.impl();
  return p.refs.load(std::memory_order_acquire) == 1 && p.storage && p.storage->unique() &&
         !p.storage->borrowed() && !p.is_parameter && t.is_contiguous();
}

bool bfloat16_products(std::span<const Tensor* const> in) {
  for (const Tensor* t : in)
    if (t->defined() && is_floating(t->dtype()) && t->dtype() != DType::bfloat16) return false;
  return backend(in[0]->device()).has_bf16_products();
}

void composite_gradients(std::span<const Tensor> in, unsigned wanted, const Tensor& g,
                         const std::function<Tensor(std::span<const Tensor>)>& composite,
                         std::span<Tensor> out) {
  // Through an alias of each input, so that the inner pass ends there and never enters the outer
  // graph.
  const bool create_graph = autograd::grad_enabled;
  EnableGrad on;
  std::vector<Tensor> alias(in.begin(), in.end()), ends;
  for (std::size_t i = 0; i < in.size(); ++i) {
    if (wanted >> i & 1) {
      alias[i] = lg::alias(in[i]);
      ends.push_back(alias[i]);
    }
  }
  Tensor y = composite(alias);
  if (!y.requires_grad()) return;
  auto gradients = autograd::grad({y}, ends, {g},
                                  {.retain_graph = true,
                                   .create_graph = create_graph,
                                   .allow_unused = true,
                                   .stop_at_inputs = true});
  for (std::size_t i = 0, k = 0; i < in.size(); ++i)
    if (wanted >> i & 1) out[i] = gradients[k++];
}

}  // namespace detail

namespace autograd {

using detail::is_unshared;

Tensor accumulate(Tensor a, Tensor b) {
  if (!grad_enabled && a.shape() == b.shape() && a.dtype() == b.dtype()) {
    if (is_unshared(a)) return run_in_place(ops::Add{}, a, b);
    if (is_unshared(b)) return run_in_place(ops::Add{}, b, a);
  }
  return a + b;
}

bool may_add_to(const Tensor& g) { return g.defined() && is_unshared(g); }

Tensor own(Tensor g) {
  if (g.requires_grad() && grad_enabled) return g;  // create_graph: the gradient is part of a graph
  return is_unshared(g) ? g : g.copy();
}

Tensor zeros_for(const Shape& shape, DType dtype) { return zeros(shape, dtype); }
Tensor cast(const Tensor& g, DType dtype) { return to(g, dtype); }
Tensor on_device(const Tensor& g, Device device) { return to_device(g, device); }

}  // namespace autograd
}  // namespace lg
