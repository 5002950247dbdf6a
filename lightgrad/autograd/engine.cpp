// engine.cpp: backward. Every node runs once, when all its users' gradients have arrived, highest
// sequence number first; nothing recurses, so a chain of a million operations fits a small stack.
#include <algorithm>
#include <cmath>
#include <span>
#include <unordered_map>

#include "lightgrad/autograd/node.h"
#include "lightgrad/autograd/poll.h"

namespace lg {
namespace {

thread_local std::uint64_t next_sequence = 0;
std::atomic<std::uint64_t> next_pass{0};
std::atomic<int> next_hook{0};

// Scratch of a pass, kept by the thread so that a steady training step allocates nothing.
struct Workspace {
  std::vector<Node*> stack, ready;
  std::vector<Tensor> gradients;
  bool busy = false;
};
thread_local Workspace thread_workspace;

struct BySequence {
  bool operator()(const Node* a, const Node* b) const { return a->sequence < b->sequence; }
};

struct Run {
  std::uint64_t pass = ++next_pass;
  bool retain = false, create = false, stop_at_inputs = false;
  const std::unordered_map<Node*, std::size_t>* captures = nullptr;  // null: every leaf is wanted
  std::vector<Tensor>* captured = nullptr;
};

void count_users(const Run& run, std::span<Node* const> roots, Workspace& w) {
  for (Node* root : roots) {
    if (root->pass != run.pass) {
      root->pass = run.pass;
      root->waiting = 0;
      root->g = {};  // an earlier pass may have ended in an error
      w.stack.push_back(root);
    }
  }
  while (!w.stack.empty()) {
    Node* n = w.stack.back();
    w.stack.pop_back();
    if (run.stop_at_inputs && run.captures->contains(n)) continue;
    for (int i = 0; i < n->n_edges; ++i) {
      Node* m = n->edges[i].get();
      if (!m) continue;
      if (m->pass != run.pass) {
        m->pass = run.pass;
        m->waiting = 0;
        m->g = {};
        w.stack.push_back(m);
      }
      ++m->waiting;
    }
  }
}

// For grad(): a node is needed when an input lies behind it. Post-order with an explicit stack.
void mark_needed(const Run& run, std::span<Node* const> roots) {
  const std::uint64_t open = ++next_pass;
  std::vector<std::pair<Node*, int>> stack;
  auto enter = [&](Node* n) {
    n->pass = open;
    n->needed = run.captures->contains(n);
    stack.emplace_back(n, 0);
  };
  for (Node* root : roots) {
    if (root->pass != open) enter(root);
    while (!stack.empty()) {
      auto& [n, i] = stack.back();
      if (i > 0 && n->edges[i - 1] && n->edges[i - 1]->needed) n->needed = true;
      const bool stop = run.stop_at_inputs && run.captures->contains(n);
      if (stop || i == n->n_edges) {
        stack.pop_back();
        continue;
      }
      Node* m = n->edges[i++].get();
      if (m && m->pass != open) enter(m);
    }
  }
}

void run_hooks(Node& n) {
  if (!n.hooks || !n.g.defined()) return;
  for (std::size_t i = 0; i < n.hooks->size(); ++i) {
    auto run = (*n.hooks)[i].run;  // a copy: a hook may remove itself
    if (Tensor changed = run(n.g); changed.defined()) n.g = std::move(changed);
  }
}

void run_backward(Node& n, Tensor g, std::span<Tensor> out) {
  if (!watch::on(watch::profile)) [[likely]]
    return n.backward(std::move(g), out);
  static const std::string nowhere;
  watch::Work work(n.name(), watch::Phase::backward,
                   n.module_path ? n.module_path.get() : &nowhere);
  work.set_shape(n.output_shape());
  n.backward(std::move(g), out);
}

void visit_node(Node* n, const Run& run, Workspace& w) {
  bool execute = true;
  run_hooks(*n);
  if (run.captures) {
    execute = n->needed;
    if (auto it = run.captures->find(n); it != run.captures->end()) {
      Tensor& slot = (*run.captured)[it->second];
      slot = n->g;
      bool behind = false;
      if (!run.stop_at_inputs) {
        for (int i = 0; i < n->n_edges; ++i) behind |= n->edges[i] && n->edges[i]->needed;
      }
      if (!behind) {
        n->g = {};
        return;
      }
    }
  }

  if (!execute) {
    n->g = {};
    return;
  }
  const auto edges = static_cast<std::size_t>(n->n_edges);
  if (w.gradients.size() < edges) w.gradients.resize(edges);
  const std::span<Tensor> out(w.gradients.data(), edges);
  {
    Tensor g = std::move(n->g);
    n->g = {};
    if (n->released) {
      fail(ErrorKind::runtime, "backward", "the graph behind ", n->name(),
           " was freed by an earlier backward; keep it with "
           "retain_graph=true, or compute the forward pass again");
    }
    n->last_pass = !run.retain && !run.create && n->n_edges > 0;
    if (n->has_gradient() || g.defined()) {
      if (n->adds_to_first() && n->edges[0] && !run.create && !autograd::detects_anomaly() &&
          autograd::may_add_to(n->edges[0]->g))
        out[0] = std::exchange(n->edges[0]->g, {});
      run_backward(*n, std::move(g), out);
    }
  }
  if (n->last_pass && n->release_saved()) n->released = true;
  for (std::size_t i = 0; i < edges; ++i) {
    Node* m = n->edges[i].get();
    if (!m) {
      out[i] = {};
      continue;
    }
    if (autograd::detects_anomaly() && out[i].defined())
      autograd::check_finite(out[i], n->name(), "backward made a gradient with");
    if (out[i].defined()) {
      m->g = m->g.defined() ? autograd::accumulate(std::move(m->g), std::exchange(out[i], {}))
                            : std::exchange(out[i], {});
    }
    if (--m->waiting == 0) {
      w.ready.push_back(m);
      std::push_heap(w.ready.begin(), w.ready.end(), BySequence{});
    }
  }
}

void execute(const Run& run, std::span<Node* const> roots, std::span<Tensor> gradients) {
  Workspace local;  // a pass inside a pass (a hook, a composite gradient) brings its own
  Workspace& w = thread_workspace.busy ? local : thread_workspace;
  w.busy = true;
  struct Done {
    Workspace& w;
    ~Done() {
      for (Node* n : w.ready) n->g = {};
      w.stack.clear();
      w.ready.clear();
      for (auto& g : w.gradients) g = {};
      w.busy = false;
    }
  } done{w};

  const autograd::GradMode mode(run.create);
  const autograd::AutocastMode off(DType::float32);  // the forward pass chose the dtypes
  count_users(run, roots, w);
  for (std::size_t i = 0; i < roots.size(); ++i) {
    Node* n = roots[i];
    n->g = n->g.defined() ? autograd::accumulate(std::move(n->g), std::move(gradients[i]))
                          : std::move(gradients[i]);
  }
  for (Node* n : roots) {
    if (n->waiting == 0 && n->pass == run.pass) {
      n->waiting = -1;  // a root may be named twice
      w.ready.push_back(n);
    }
  }
  std::make_heap(w.ready.begin(), w.ready.end(), BySequence{});
  while (!w.ready.empty()) {
    if (auto* stop_or_go_on = autograd::poll.load(std::memory_order_relaxed)) stop_or_go_on();
    std::pop_heap(w.ready.begin(), w.ready.end(), BySequence{});
    Node* n = w.ready.back();
    w.ready.pop_back();
    visit_node(n, run, w);
  }
}

// The gradient to start from: ones for a single element, else the caller's, checked.
Tensor starting_gradient(const Tensor& output, const Tensor& gradient, std::string_view who) {
  if (!output.requires_grad()) {
    fail(ErrorKind::runtime, who, "the tensor ", output.describe(),
         " does not require a gradient: nothing that requires one "
         "was part of its computation, or it was made under no_grad");
  }
  if (!gradient.defined()) {
    if (output.numel() != 1) {
      fail(ErrorKind::runtime, who, "the tensor has shape ", output.shape(),
           "; only a tensor of one element can do without a gradient, pass one of the same shape");
    }
    Tensor one = Tensor::empty(output.shape(), output.dtype());
    visit(output.dtype(), [&]<class T>(T) { *static_cast<T*>(one.raw_data()) = convert<T>(1.0f); });
    return autograd::on_device(one, output.device());
  }
  if (!(gradient.shape() == output.shape())) {
    fail(ErrorKind::value, who, "the gradient has shape ", gradient.shape(), ", the tensor ",
         output.shape());
  }
  return gradient.dtype() == output.dtype() ? gradient : autograd::cast(gradient, output.dtype());
}

}  // namespace

Node::Node() : sequence(next_sequence++) {}

void release(Node* n) {
  if (n->refs.load(std::memory_order_acquire) != 1 &&
      n->refs.fetch_sub(1, std::memory_order_acq_rel) != 1)
    return;
  // Deleting a node lets go of its edges, which comes back here: collect instead of recursing.
  static thread_local constinit Node* pending = nullptr;
  static thread_local constinit bool draining = false;
  n->next_dead = std::exchange(pending, n);
  if (draining) return;
  draining = true;
  while (pending) delete std::exchange(pending, pending->next_dead);
  draining = false;
}

TensorImpl::~TensorImpl() {
  if (node && node->tensor == this) node->tensor = nullptr;
}

void LeafNode::backward(Tensor g, std::span<Tensor>) {
  if (!tensor || !tensor->requires_grad) return;
  Tensor& grad = tensor->grad;
  grad = grad.defined() ? autograd::accumulate(std::move(grad), std::move(g))
                        : autograd::own(std::move(g));
  if (grad.impl()->storage) grad.impl()->storage->serve(MemoryUse::gradient);
}

Ref<Node> Tensor::edge() const {
  if (!impl_->requires_grad) return {};
  if (!impl_->node) impl_->node = Ref<Node>::adopt(new LeafNode(impl()));
  return impl_->node;
}

bool Tensor::is_leaf() const { return !impl_->node || impl_->node->n_edges == 0; }

const Tensor& Tensor::set_requires_grad(bool on) const {
  if (on && !is_floating(dtype())) {
    fail(ErrorKind::type, "requires_grad",
         "only floating-point tensors have gradients, this one is ", describe());
  }
  if (!is_leaf()) {
    if (on) return *this;
    fail(ErrorKind::runtime, "requires_grad",
         "this tensor was computed; cut it off with detach() instead");
  }
  impl_->requires_grad =
      on;  // the accumulator stays: graphs that lead to it must learn of this tensor's end
  if (on && impl_->storage) impl_->storage->serve(MemoryUse::parameter);
  return *this;
}

int Tensor::register_hook(std::function<Tensor(const Tensor&)> f) const {
  Ref<Node> n = edge();
  if (!n)
    fail(ErrorKind::runtime, "register_hook", "the tensor ", describe(),
         " does not require a gradient");
  if (!n->hooks) n->hooks = std::make_unique<std::vector<GradientHook>>();
  const int handle = ++next_hook;
  n->hooks->push_back({handle, std::move(f)});
  return handle;
}

void Tensor::remove_hook(int handle) const {
  if (!impl_->node || !impl_->node->hooks) return;
  std::erase_if(*impl_->node->hooks, [&](const GradientHook& h) { return h.handle == handle; });
}

void Tensor::retain_grad() const {
  if (is_leaf()) return;
  Node* n = impl_->node.get();
  n->tensor = impl();
  register_hook([n](const Tensor& g) -> Tensor {
    if (n->tensor) n->tensor->grad = g.detach();
    return {};
  });
}

void Tensor::backward(const Tensor& gradient, BackwardOptions options) const {
  Tensor start = starting_gradient(*this, gradient, "backward");
  const Ref<Node> hold = edge();
  Node* const root = hold.get();
  Run run;
  run.retain = options.retain_graph;
  run.create = options.create_graph;
  execute(run, {&root, 1}, {&start, 1});
}

namespace autograd {

void set_history(const Tensor& y, Ref<Node> node) {
  TensorImpl& p = *y.impl();
  const Ref<Node> old = std::exchange(p.node, std::move(node));
  p.requires_grad = true;
  if (!old || old->tensor != &p) return;
  old->tensor =
      nullptr;  // it no longer speaks of this tensor, whose retained gradient is now the new node's
  if (old->n_edges > 0) y.retain_grad();
}

void check_finite(const Tensor& t, std::string_view operation, std::string_view what,
                  bool infinity_allowed) {
  if (!is_floating(t.dtype())) return;
  const std::vector<double> values = t.to_vector<double>();
  const auto bad = std::find_if(values.begin(), values.end(), [&](double v) {
    return infinity_allowed ? std::isnan(v) : !std::isfinite(v);
  });
  if (bad == values.end()) return;
  std::int64_t at = bad - values.begin();
  Shape index = t.shape();
  for (int i = t.rank(); i-- > 0; at /= t.shape()[i]) index[i] = at % t.shape()[i];
  fail(ErrorKind::runtime, operation, what, " ", *bad, " at index ", index, " of a ", t.describe(),
       " tensor");
}

std::vector<Tensor> grad(const std::vector<Tensor>& outputs, const std::vector<Tensor>& inputs,
                         std::vector<Tensor> gradients, GradOptions options) {
  if (!gradients.empty() && gradients.size() != outputs.size()) {
    fail(ErrorKind::value, "grad", "got ", outputs.size(), " outputs but ", gradients.size(),
         " gradients");
  }
  gradients.resize(outputs.size());
  std::vector<Ref<Node>> hold;
  std::vector<Node*> roots;
  std::vector<Tensor> start;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    start.push_back(starting_gradient(outputs[i], gradients[i], "grad"));
    hold.push_back(outputs[i].edge());
    roots.push_back(hold.back().get());
  }
  std::unordered_map<Node*, std::size_t> captures;
  std::vector<std::size_t> slot(inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    Ref<Node> n = inputs[i].edge();
    if (!n) {
      fail(ErrorKind::runtime, "grad", "input ", i, " (", inputs[i].describe(),
           ") does not require a gradient");
    }
    slot[i] = captures.emplace(n.get(), captures.size()).first->second;
    hold.push_back(std::move(n));
  }
  std::vector<Tensor> captured(captures.size());
  Run run;
  run.retain = options.retain_graph;
  run.create = options.create_graph;
  run.stop_at_inputs = options.stop_at_inputs;
  run.captures = &captures;
  run.captured = &captured;
  mark_needed(run, roots);
  execute(run, roots, start);
  std::vector<Tensor> result;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    result.push_back(captured[slot[i]]);
    if (!result.back().defined() && !options.allow_unused) {
      fail(ErrorKind::runtime, "grad", "input ", i, " (", inputs[i].describe(),
           ") was not used to compute the outputs; pass allow_unused=true to get None for it");
    }
  }
  return result;
}

}  // namespace autograd
}  // namespace lg
