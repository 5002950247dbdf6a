// run.h: run<Op>, the single choke point. Every operation of the library passes here: the device's
// kernels are chosen, the result is computed, and, when anyone will want a gradient, the step is
// remembered.
#pragma once

#include <algorithm>
#include <span>
#include <utility>

#include "lightgrad/autograd/saved_tensor.h"
#include "lightgrad/backend/backend.h"
#include "lightgrad/ops/autocast.h"
#include "lightgrad/ops/elsewhere.h"
#include "lightgrad/ops/ops.h"
#include "lightgrad/ops/run_watched.h"

namespace lg {

namespace detail {

// --- what every operation shares; run.cpp ---
[[noreturn]] void fail_undefined(std::string_view operation, const char* argument);
void check_device(std::string_view operation, std::span<const Tensor* const> in);
void check_stale_view(std::string_view operation, const Tensor& x);
// Refuses what cannot be written in place: a leaf that wants a gradient, memory that elements
// share, a view of a graph.
void check_in_place(std::string_view operation, const Tensor& x, bool recorded);
void note_in_place(const Tensor& x);
// y was made by a view operation: whether it shares memory with what others hold is noted.
void note_view(const Tensor& y);
// Anomaly mode: an infinity made of finite inputs, or a NaN of inputs without one, is an error.
void watch_forward(std::string_view operation, const Tensor& out,
                   std::span<const Tensor* const> in);
bool any_requires_grad(std::span<const Tensor* const> in);
void note_path(Node& n);  // the module path, when a picture is wanted

// --- pointwise ---
struct PointwiseTraits {
  int index, arity;
  Rule rule;
  bool is_where;  // the first input is a condition and has no say in the dtype
  std::string_view name;
  std::size_t attributes;
};
Tensor pointwise_forward(const PointwiseTraits& op, const double* attributes,
                         const Tensor* const* in, const Tensor* out = nullptr);
// One fused pass: gradient formula `which` over g, the inputs and the output, summed down to the
// input's shape. With g_is_free it may be written into g, where nobody else holds that.
Tensor pointwise_gradient(const PointwiseTraits& op, int which, const double* attributes,
                          const Tensor& g, bool g_is_free, const Tensor* in, const Tensor& out,
                          const Meta& target);
// Both where the tensors lie on another device; `operands`: the dtype that they are computed from.
Tensor pointwise_elsewhere(const PointwiseTraits& op, const double* attributes,
                           const Tensor* const* in, const Shape& shape, DType operands,
                           DType result, const Tensor* out);
Tensor pointwise_gradient_elsewhere(const PointwiseTraits& op, int which, const double* attributes,
                                    const Tensor& g, const Tensor* in, const Tensor& out);
Tensor reduce_to(Tensor g, const Meta& target);  // sum_to and cast, where they change anything
// pointwise_forward while somebody watches (base/watch.h).
Tensor pointwise_watched(const PointwiseTraits& op, const double* attributes,
                         const Tensor* const* in, const Tensor* out = nullptr);

template <class Op> constexpr PointwiseTraits traits() {
  return {
      PointwiseOps::index<Op>(),    Op::arity,     Op::rule,
      std::same_as<Op, ops::Where>, Op::info.name, static_cast<std::size_t>(attribute_count<Op>)};
}
// The same for an operation with these attributes, which may have a say in its rule.
template <class Op> constexpr PointwiseTraits traits(const double* attributes) {
  PointwiseTraits t = traits<Op>();
  if constexpr (requires { Op::rule_of(attributes); }) t.rule = Op::rule_of(attributes);
  return t;
}
template <class Op> std::array<double, 4> numbers_of(const Op& op) {
  std::array<double, 4> out{};
  std::size_t i = 0;
  std::apply([&](const auto&... a) { ((out[i++] = to_number(op.*(a.member))), ...); },
             attributes_of<Op>());
  return out;
}

// --- gradients of heavy operations in second order ---
// Builds composite(inputs) again as a graph and differentiates that.
void composite_gradients(std::span<const Tensor> in, unsigned wanted, const Tensor& g,
                         const std::function<Tensor(std::span<const Tensor>)>& composite,
                         std::span<Tensor> out);

inline bool any_half(std::span<const Tensor* const> in) {
  bool any = false;
  for (const Tensor* t : in) any |= t->defined() && is_half(t->dtype());
  return any;
}
// Whether all floats are bfloat16, on a device that multiplies those.
bool bfloat16_products(std::span<const Tensor* const> in);
// Whether t, contiguous, is the only handle to its memory: it may be written to.
bool is_unshared(const Tensor& t);

}  // namespace detail

// What the gradient of each input mentions (bits as in Probe).
template <class Op>
inline const auto wanted_values = []<int... I>(std::integer_sequence<int, I...>) {
  return std::array<unsigned, sizeof...(I)>{mentioned<I, Op>()...};
}
(std::make_integer_sequence<int, Op::arity>());

// Whether the gradient of each input is g itself.
template <class Op> inline const auto passes_on = []<int... I>(std::integer_sequence<int, I...>) {
  return std::array<bool, sizeof...(I)>{passes_gradient<I, Op>()...};
}
(std::make_integer_sequence<int, Op::arity>());

template <class Op> struct OpNode final : Node {
  static constexpr int arity = Op::arity;

  Op op;
  Ref<Node> edge[arity];
  SavedTensor in[arity], out;
  Meta meta[arity], out_meta;
  bool keeps_output = false;

  explicit OpNode(Op o) : op(std::move(o)) {
    n_edges = arity;
    edges = edge;
  }
  std::string_view name() const override { return Op::info.name; }
  Shape output_shape() const override { return out_meta.shape; }
  DType output_dtype() const override { return out_meta.dtype; }
  bool adds_to_first() const override {
    if constexpr (requires { Op::adds_to_first; })
      return Op::adds_to_first;
    else
      return false;
  }
  bool release_saved() override {
    const bool any = released || keeps_anything();
    for (auto& s : in) s.reset();
    out.reset();
    if constexpr (HasJointBackward<Op>) op = Op();
    return any;
  }

  void backward(Tensor g, std::span<Tensor> gradients) override {
    for (int i = 0; i < arity; ++i) {
      if (in[i].kept()) in[i].check(Op::info.name, Op::info.args[static_cast<std::size_t>(i)]);
    }
    if (out.kept()) out.check(Op::info.name, "output");
    Tensor x[arity], y;
    released = last_pass && keeps_anything();
    for (int i = 0; i < arity; ++i) x[i] = in[i].take(last_pass);
    if (out.kept()) {
      y = out.take(last_pass);
      if (autograd::grad_enabled) {  // the output as part of the graph, without the node pointing
                                     // to itself for good
        y = y.detach();
        y.impl()->node = Ref<Node>(this);
        y.impl()->requires_grad = true;
      }
    }
    if constexpr (HasJointBackward<Op>) {
      if (!HasVjp<0, Op> || !autograd::grad_enabled) return joint(g, x, y, gradients);
    }
    // The first input's gradient comes last: that of a product's second factor needs the first, an
    // activation, which may then go before the first's gradient is made.
    [&]<int... I>(std::integer_sequence<int, I...>) {
      (one<arity - 1 - I>(g, x, y, gradients), ...);
    }
    (std::make_integer_sequence<int, arity>());
  }

 private:
  bool keeps_anything() const {
    if (HasJointBackward<Op> || out.kept()) return true;
    return std::any_of(std::begin(in), std::end(in), [](const auto& s) { return s.kept(); });
  }
  template <int I>
  void one(const Tensor& g, Tensor* x, const Tensor& y, std::span<Tensor> gradients) {
    if constexpr (HasVjp<I, Op>) {
      if (!edge[I]) return;
      bool last = true;  // of the gradients
      unsigned needed = 0;
      for (int i = 0; i < I; ++i) {
        if (!edge[i]) continue;
        last = false;
        needed |= wanted_values<Op>[static_cast<std::size_t>(i)];
      }
      Tensor& result = gradients[I];
      if (passes_on<Op>[I] && g.shape() == meta[I].shape && g.dtype() == meta[I].dtype) {
        result = g;  // shared: whoever writes in place asks is_unshared first
      } else if (Op::pointwise && !autograd::grad_enabled) {
        if constexpr (Op::pointwise) {
          const auto numbers = detail::numbers_of(op);
          result = detail::pointwise_gradient(detail::traits<Op>(), I, numbers.data(), g, last, x,
                                              y, meta[I]);
        }
      } else {
        for (int i = 0; i < arity; ++i) {
          if (!x[i].defined()) x[i] = Tensor::shape_only(meta[i].shape, meta[i].dtype);
        }
        result = detail::reduce_to(call_vjp<I>(op, g, x, y), meta[I]);
      }
      if (!last_pass || last) return;
      for (int i = 0; i < arity; ++i)
        if (!(needed >> i & 1)) x[i] = {};
    }
  }
  void joint(const Tensor& g, Tensor* x, const Tensor& y, std::span<Tensor> gradients) {
    if constexpr (HasJointBackward<Op>) {
      unsigned wanted = 0;
      for (int i = 0; i < arity; ++i) wanted |= (edge[i] ? 1u : 0u) << i;
      wanted &= Op::gradients;
      // With formulas, what those mention is kept, and of the rest the sizes; the block counts its
      // kernel's cost itself, because operations that it calls count theirs.
      if constexpr (HasVjp<0, Op>) {
        for (int i = 0; i < arity; ++i) {
          if (wanted >> i & 1 && !x[i].defined())
            x[i] = Tensor::shape_only(meta[i].shape, meta[i].dtype);
        }
        if (detail::elsewhere(g)) [[unlikely]]
          return detail::backward_elsewhere(op, g, x, y, wanted, gradients);
        // As above: what the first input's gradient does not mention may go before that is made.
        if (last_pass && wanted & 1 && wanted != 1 && !(wanted_values<Op>[0] & 1)) {
          op.backward(g, x, y, wanted & ~1u, gradients);
          x[0] = Tensor::shape_only(meta[0].shape, meta[0].dtype);
          wanted = 1;
        }
        op.backward(g, x, y, wanted, gradients);
      } else if (!autograd::grad_enabled) {
        if (detail::elsewhere(g)) [[unlikely]]
          return detail::backward_elsewhere(op, g, x, y, wanted, gradients);
        op.backward(g, x, y, wanted, gradients);
        if (watch::on(watch::profile)) [[unlikely]]
          detail::add_backward_cost(op, meta, out_meta, wanted);
      } else {
        detail::composite_gradients(
            {x, static_cast<std::size_t>(arity)}, wanted, g,
            [&](std::span<const Tensor> a) {
              return [&]<std::size_t... I>(std::index_sequence<I...>) {
                return op.composite(a[I]...);
              }
              (std::make_index_sequence<static_cast<std::size_t>(arity)>());
            },
            gradients);
      }
    }
  }
};

// The node of an operation on `in`, keeping what the gradients mention.
template <class Op> Ref<OpNode<Op>> make_node(Op op, const Tensor* const* in) {
  constexpr int n = Op::arity;
  auto node = Ref<OpNode<Op>>::adopt(new OpNode<Op>(std::move(op)));
  unsigned keep = 0;
  for (int i = 0; i < n; ++i) {
    if (!in[i]->defined()) continue;
    node->meta[i] = {in[i]->shape(), in[i]->dtype()};
    if (in[i]->impl()->is_view) detail::check_stale_view(Op::info.name, *in[i]);
    if (in[i]->requires_grad()) {
      node->edge[i] = in[i]->edge();
      keep |= wanted_values<Op>[static_cast<std::size_t>(i)];
    }
  }
  for (int i = 0; i < n; ++i) {
    if (keep >> i & 1 && in[i]->defined()) node->in[i] = SavedTensor(*in[i]);
  }
  node->keeps_output = keep >> n & 1;
  if constexpr (requires { node->op.keeps_output(); })  // its attributes decide
    node->keeps_output = keep && node->op.keeps_output();
  detail::note_path(*node);
  return node;
}

// y was made by this node.
template <class Op> void attach(Ref<OpNode<Op>> node, const Tensor& y) {
  if (node->keeps_output) node->out = SavedTensor(y.detach());
  node->out_meta = {y.shape(), y.dtype()};
  autograd::set_history(y, std::move(node));
}

template <class Op> inline constexpr bool records = differentiable<Op> && !IsComposite<Op>;
// A row that has no gradient must say so.
template <class Op>
concept CompleteOp = IsComposite<Op> || !differentiable<Op> || HasJointBackward<Op> ||
                     Op::arity < 0 || HasVjp<0, Op> || HasVjp<1, Op> || HasVjp<2, Op>;

// Whether halves stay as they are: on another device, where the operation says that it takes them,
// or as factors on a device that multiplies them.
template <class Op> bool takes_half(std::span<const Tensor* const> in) {
  if (detail::elsewhere(in)) return true;
  if constexpr (requires { Op::takes_half(in); }) return Op::takes_half(in);
  if constexpr (requires { Op::multiplies_bfloat16; }) {
    if constexpr (requires { Op::products_pay(in); })
      if (!Op::products_pay(in)) return false;
    return detail::bfloat16_products(in);
  }
  return false;
}

template <class Op, class... T> result_t<Op> run(Op op, const T&... tensors) {
  static_assert(CompleteOp<Op>, "an operation without a gradient says `differentiable = false`");
  constexpr int n = sizeof...(T);
  const Tensor* const in[n] = {&tensors...};
  for (int i = 0; i < n; ++i) {
    bool may_be_absent = false;
    if constexpr (requires { Op::optional; }) may_be_absent = Op::optional >> i & 1;
    if (!in[i]->defined() && !may_be_absent) [[unlikely]] {
      detail::fail_undefined(Op::info.name, Op::info.args[static_cast<std::size_t>(i)]);
    }
  }
  if constexpr (precision_of<Op> != Precision::follow) {
    if (autograd::autocast_dtype != DType::float32 && autocast::changes(precision_of<Op>, in))
        [[unlikely]]
      return run(std::move(op), autocast::input(precision_of<Op>, tensors)...);
  }
  if constexpr (requires { Op::widens_half; }) {
    if (detail::any_half(in) && !takes_half<Op>(in)) {  // computed in float32, rounded once
      const DType half = [&] {
        for (auto* t : in)
          if (t->defined() && is_half(t->dtype())) return t->dtype();
        return DType::float32;
      }();
      const autograd::AutocastMode off(DType::float32);  // or it would be rounded again
      auto wide = [](const Tensor& t) {
        return t.defined() && is_half(t.dtype()) ? to(t, DType::float32) : t;
      };
      return to(run(std::move(op), wide(tensors)...), half);
    }
  }
  if constexpr (IsComposite<Op>) {
    return op.forward(tensors...);
  } else {
    const bool watched = watch::flags.load(std::memory_order_relaxed) != 0;
    Tensor y;
    if constexpr (Op::pointwise) {
      const auto numbers = detail::numbers_of(op);
      const auto traits = detail::traits<Op>(numbers.data());
      if (watched) [[unlikely]]
        y = detail::pointwise_watched(traits, numbers.data(), in);
      else
        y = detail::pointwise_forward(traits, numbers.data(), in);
    } else {
      detail::check_device(Op::info.name, in);
      if (detail::elsewhere(in)) [[unlikely]]
        y = detail::forward_elsewhere(op, in, tensors...);
      else if (watched) [[unlikely]]
        y = detail::forward_watched(op, in, tensors...);
      else
        y = op.forward(tensors...);
    }
    if constexpr (requires { Op::view; }) detail::note_view(y);
    if constexpr (records<Op>) {
      if (autograd::grad_enabled && is_floating(y.dtype()) && detail::any_requires_grad(in)) {
        attach(make_node(std::move(op), in), y);
      }
    }
    return y;
  }
}

// x = op(x, others...) written into x's own memory, under the version counter. Returns x.
template <class Op, class... T>
const Tensor& run_in_place(Op op, const Tensor& x, const T&... others) {
  static_assert(Op::pointwise);
  constexpr int n = 1 + sizeof...(T);
  const Tensor* const in[n] = {&x, &others...};
  const bool recorded = autograd::grad_enabled && detail::any_requires_grad(in);
  detail::check_in_place(Op::info.name, x, recorded);
  // Saved first, so that a gradient which needs the old value finds a newer version and says so.
  Tensor before = recorded ? x.detach() : Tensor();
  if (recorded && x.requires_grad()) {
    before.impl()->node = x.edge();
    before.impl()->requires_grad = true;
  }
  Ref<OpNode<Op>> node;
  const Tensor* saved[n] = {&x, &others...};
  if (recorded) saved[0] = &before;
  if constexpr (records<Op>) {
    if (recorded) node = make_node(op, saved);
  }
  const auto numbers = detail::numbers_of(op);
  const auto traits = detail::traits<Op>(numbers.data());
  if (watch::on(watch::profile)) [[unlikely]]
    detail::pointwise_watched(traits, numbers.data(), in, &x);
  else
    detail::pointwise_forward(traits, numbers.data(), in, &x);
  x.impl()->storage->bump_version();
  if (node) attach(std::move(node), x);
  if (recorded) detail::note_in_place(x);
  return x;
}

}  // namespace lg
