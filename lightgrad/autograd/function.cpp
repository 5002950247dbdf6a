#include "lightgrad/autograd/function.h"

#include "lightgrad/base/where.h"

namespace lg::autograd {

void FunctionContext::save_for_backward(std::vector<Tensor> tensors) {
  saved_.clear();
  for (Tensor& t : tensors) saved_.emplace_back(std::move(t));
}

std::vector<Tensor> FunctionContext::saved_tensors() {
  std::vector<Tensor> tensors;
  for (std::size_t i = 0; i < saved_.size(); ++i) {
    saved_[i].check("a Function", text("saved tensor ", i));
    tensors.push_back(saved_[i].take(false));
  }
  return tensors;
}

namespace {

struct FunctionNode final : Node {
  std::string title;
  std::shared_ptr<FunctionContext> context;
  FunctionBackward run;
  PoolVector<Ref<Node>> edge;
  PoolVector<Shape> in_shapes, out_shapes;
  PoolVector<DType> in_dtypes, out_dtypes;
  std::vector<Tensor>
      slots;  // gradients of several outputs, as they arrive in the pass numbered slots_pass
  std::uint64_t slots_pass = 0;

  std::string_view name() const override { return title; }
  Shape output_shape() const override { return out_shapes[0]; }
  DType output_dtype() const override { return out_dtypes[0]; }
  bool release_saved() override { return context && context->release(); }
  bool has_gradient() const override {
    for (const Tensor& t : slots)
      if (t.defined()) return true;
    return g.defined();
  }
  void backward(Tensor gradient, std::span<Tensor> out) override {
    std::vector<Tensor> gradients{std::move(gradient)};
    if (!slots.empty()) gradients = std::exchange(slots, std::vector<Tensor>(slots.size()));
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      if (!gradients[i].defined()) gradients[i] = zeros_for(out_shapes[i], out_dtypes[i]);
    }
    FunctionContext none;
    std::vector<Tensor> result = run(context ? *context : none, gradients);
    if (result.size() != edge.size()) {
      fail(ErrorKind::runtime, title, "backward gave ", result.size(), " gradients for ",
           edge.size(), " inputs");
    }
    for (std::size_t i = 0; i < edge.size(); ++i) {
      if (!edge[i] || !result[i].defined()) continue;
      if (!(result[i].shape() == in_shapes[i])) {
        fail(ErrorKind::runtime, title, "backward gave a gradient of shape ", result[i].shape(),
             " for input ", i, " of shape ", in_shapes[i]);
      }
      out[i] = result[i].dtype() == in_dtypes[i] ? result[i] : cast(result[i], in_dtypes[i]);
    }
  }
};

// One of several outputs: hands its gradient to the function's node.
struct OutputNode final : Node {
  Ref<Node> edge[1];
  std::size_t index;

  OutputNode(Ref<FunctionNode> function, std::size_t i) : index(i) {
    edge[0] = std::move(function);
    n_edges = 1;
    edges = edge;
  }
  FunctionNode& function() const { return static_cast<FunctionNode&>(*edge[0]); }
  std::string_view name() const override { return function().name(); }
  Shape output_shape() const override { return function().out_shapes[index]; }
  DType output_dtype() const override { return function().out_dtypes[index]; }
  void backward(Tensor g, std::span<Tensor>) override {
    FunctionNode& f = function();
    if (std::exchange(f.slots_pass, f.pass) != f.pass)
      f.slots.assign(f.slots.size(), {});  // left by a pass that failed
    f.slots[index] = std::move(g);
  }
};

}  // namespace

std::vector<Tensor> record_function(std::string name, const std::vector<Tensor>& inputs,
                                    std::vector<Tensor> outputs,
                                    std::shared_ptr<FunctionContext> context,
                                    FunctionBackward backward) {
  bool wanted = false;
  for (const Tensor& t : inputs) wanted |= t.defined() && t.requires_grad();
  if (!wanted || !grad_enabled) return outputs;
  auto node = Ref<FunctionNode>::adopt(new FunctionNode);
  node->title = std::move(name);
  node->context = std::move(context);
  node->run = std::move(backward);
  for (const Tensor& t : inputs) {
    node->edge.push_back(t.defined() ? t.edge() : Ref<Node>());
    node->in_shapes.push_back(t.defined() ? t.shape() : Shape());
    node->in_dtypes.push_back(t.defined() ? t.dtype() : DType::float32);
  }
  node->n_edges = static_cast<int>(node->edge.size());
  node->edges = node->edge.data();
  if (keeps_module_paths() && current_frame)
    node->module_path = std::make_unique<std::string>(where());
  for (Tensor& y : outputs) {
    node->out_shapes.push_back(y.shape());
    node->out_dtypes.push_back(y.dtype());
    // An input returned as it came must not be given a history of its own.
    for (const Tensor& t : inputs)
      if (t.defined() && t.is_same(y)) y = y.detach();
  }
  if (outputs.size() > 1) node->slots.resize(outputs.size());
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (!is_floating(outputs[i].dtype())) continue;
    set_history(outputs[i],
                outputs.size() == 1 ? Ref<Node>(node) : Ref<Node>::adopt(new OutputNode(node, i)));
  }
  return outputs;
}

}  // namespace lg::autograd
