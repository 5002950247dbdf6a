// node.h: one step of the recorded graph. Knows nodes, not operations: an operation's node is made
// in ops/run.h. A node has one incoming gradient g (the output's) and gives one gradient per input.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lightgrad/base/watch.h"
#include "lightgrad/tensor/tensor.h"

namespace lg {

struct GradientHook {
  int handle;
  std::function<Tensor(const Tensor&)> run;
};

struct Node {
  std::atomic<int> refs{1};
  int n_edges = 0;
  Ref<Node>* edges = nullptr;  // where the gradients go; null where nobody wants one
  std::uint64_t sequence;  // rises with every node of a thread: backward takes the highest first
  bool released = false;   // its saved tensors are gone, and it cannot run without
  TensorImpl* tensor = nullptr;  // weak: the leaf, or the tensor whose grad is to be kept
  std::unique_ptr<std::vector<GradientHook>> hooks;
  std::unique_ptr<std::string> module_path;  // kept only while it will be drawn or profiled

  // Scratch of the backward pass that is visiting it.
  std::uint64_t pass = 0;
  int waiting = 0;
  bool needed = false;
  bool last_pass = false;  // nobody asks again: backward may let saved tensors go on the way
  Tensor g;
  Node* next_dead = nullptr;  // see release

  Node();
  Node(const Node&) = delete;
  virtual ~Node() = default;
  // Fills gradients[i] for every edge that is not null. May leave one undefined, which counts as
  // zero. gradients[0] is undefined before, or where adds_to_first says so, what others gave that
  // edge so far, to add to in place.
  virtual void backward(Tensor g, std::span<Tensor> gradients) = 0;
  virtual bool adds_to_first() const { return false; }
  virtual std::string_view name() const = 0;
  // Lets go of what was kept for backward. Returns whether that was anything: a node that needs
  // nothing but the gradient can run again.
  virtual bool release_saved() { return false; }
  // Whether g holds everything (a node of several outputs collects their gradients itself).
  virtual bool has_gradient() const { return g.defined(); }
  // The sizes of the tensor that it made.
  virtual Shape output_shape() const { return {}; }
  virtual DType output_dtype() const { return DType::float32; }

  static void* operator new(std::size_t bytes) { return allocate(bytes); }
  static void operator delete(void* p, std::size_t bytes) { deallocate(p, bytes); }
};

inline void retain(Node* n) { n->refs.fetch_add(1, std::memory_order_relaxed); }
void release(Node* n);  // frees long chains in a loop, not by recursion

// A leaf's accumulator: adds what arrives to the leaf's grad. The only node without edges.
struct LeafNode final : Node {
  explicit LeafNode(TensorImpl* leaf) { tensor = leaf; }
  void backward(Tensor g, std::span<Tensor>) override;
  std::string_view name() const override { return "leaf"; }
  Shape output_shape() const override { return tensor ? tensor->shape : Shape(); }
  DType output_dtype() const override { return tensor ? tensor->dtype : DType::float32; }
};

// --- grad mode: is a graph recorded on this thread? ---
namespace autograd {

inline thread_local bool grad_enabled = true;

// The dtype that autocast rounds to on this thread; float32: autocast is off (ops/autocast.h).
inline thread_local DType autocast_dtype = DType::float32;

class AutocastMode {
 public:
  explicit AutocastMode(DType dtype) : before_(std::exchange(autocast_dtype, dtype)) {}
  ~AutocastMode() { autocast_dtype = before_; }
  AutocastMode(const AutocastMode&) = delete;

 private:
  DType before_;
};

class GradMode {
 public:
  explicit GradMode(bool on) : before_(std::exchange(grad_enabled, on)) {}
  ~GradMode() { grad_enabled = before_; }
  GradMode(const GradMode&) = delete;

 private:
  bool before_;
};

// Whether nodes note the module path they were made under (pictures and profiles ask for it).
inline std::atomic<bool> keep_module_paths{false};
inline bool keeps_module_paths() { return keep_module_paths || watch::on(watch::profile); }

// Anomaly mode: the first operation, forward or backward, that makes a non-finite number is named
// by an error.
inline void set_detect_anomaly(bool on) { watch::set(watch::anomaly, on); }
inline bool detects_anomaly() { return watch::on(watch::anomaly); }
// Throws RuntimeError "<operation>: <what> nan at index [1, 2] ..." when t has a NaN or (unless
// allowed) an infinity.
void check_finite(const Tensor& t, std::string_view operation, std::string_view what,
                  bool infinity_allowed = false);

// y, fresh or changed in place, is now what this node made.
void set_history(const Tensor& y, Ref<Node> node);

struct GradOptions {
  bool retain_graph = false, create_graph = false, allow_unused = false;
  bool stop_at_inputs = false;  // do not look for paths that go on behind an input
};
// The gradients of sum(outputs . gradients) for `inputs`; an undefined gradient means ones (one
// element). An input that is not reached: RuntimeError, or undefined with allow_unused.
std::vector<Tensor> grad(const std::vector<Tensor>& outputs, const std::vector<Tensor>& inputs,
                         std::vector<Tensor> gradients = {}, GradOptions options = {});

// --- what this room needs from the operations above it; defined in ops/ ---
// a + b; may write into one that nobody else holds when no graph is being recorded.
Tensor accumulate(Tensor a, Tensor b);
// Whether g is defined and nobody else holds it.
bool may_add_to(const Tensor& g);
// g as a tensor of its own that may be written to later.
Tensor own(Tensor g);
Tensor zeros_for(const Shape& shape, DType dtype);
// g's elements as another dtype, recorded when a graph is.
Tensor cast(const Tensor& g, DType dtype);
Tensor on_device(const Tensor& g, Device device);

}  // namespace autograd

// `no_grad` for a scope: NoGrad off;
struct NoGrad : autograd::GradMode {
  NoGrad() : GradMode(false) {}
};
struct EnableGrad : autograd::GradMode {
  EnableGrad() : GradMode(true) {}
};

}  // namespace lg
