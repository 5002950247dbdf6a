#include "lightgrad/autograd/saved_tensor.h"

namespace lg {

SavedTensor::SavedTensor(Tensor t) {
  // A weight is there anyway; to keep it costs nothing and tells when it changes.
  if (autograd::Recompute* r = autograd::recompute_of_thread;
      r && t.defined() && t.impl()->storage && !(t.is_leaf() && t.requires_grad())) [[unlikely]] {
    version_ = r->promise(t);
    if (r->runs_again()) return;  // by a graph that nobody will go through
    later_ = Ref(r);
    tensor_ = Tensor::shape_only(t.shape(), t.dtype());
    tensor_.impl()->node = t.node();
    tensor_.impl()->requires_grad = t.requires_grad();
    return;
  }
  tensor_ = std::move(t);
  Storage* s = tensor_.defined() ? tensor_.impl()->storage.get() : nullptr;
  if (!s) return;
  version_ = s->version();
  s->serve(MemoryUse::activation);
}

void SavedTensor::check(std::string_view operation, std::string_view which) const {
  if (later_ || !tensor_.defined()) return;
  const auto now = tensor_.impl()->storage ? tensor_.impl()->storage->version() : 0;
  if (now != version_) {
    fail(ErrorKind::runtime, "backward", operation, " needs its ", which, " (", tensor_.describe(),
         ") as it was in the forward pass, but an in-place operation changed it since (version ",
         now, ", expected ", version_, "); use the out-of-place form, or clone() first");
  }
}

Tensor SavedTensor::get() const {
  if (!later_) return tensor_;
  Tensor t = later_->keep(version_).detach();
  t.impl()->node = tensor_.node();
  t.impl()->requires_grad = tensor_.requires_grad();
  return t;
}

Tensor SavedTensor::take(bool last) {
  if (!last) return get();
  if (!later_) return std::exchange(tensor_, {});
  Tensor t = get();
  reset();
  return t;
}

void SavedTensor::reset() {
  if (later_) later_->drop(version_);
  later_ = {};
  tensor_ = {};
}

namespace autograd {

namespace {
// Makes an input of the second run no leaf, as it was none in the first. Its gradient goes nowhere.
struct InputNode final : Node {
  Ref<Node> nowhere[1];
  InputNode() {
    n_edges = 1;
    edges = nowhere;
  }
  std::string_view name() const override { return "checkpoint"; }
  void backward(Tensor, std::span<Tensor>) override {}
};
}  // namespace

Recompute::Recompute(Again again, const std::vector<Tensor>& inputs) : again_(std::move(again)) {
  for (const Tensor& t : inputs) {
    const bool there = t.defined();
    inputs_.push_back({SavedTensor(t), there && t.requires_grad(), there && t.is_leaf()});
  }
}

Recompute::Scope::Scope(Recompute& r) : before_(std::exchange(recompute_of_thread, &r)) {}
Recompute::Scope::~Scope() { recompute_of_thread = before_; }

std::uint32_t Recompute::promise(const Tensor& t) {
  if (!runs_again_) {
    promises_.push_back({t.shape(), t.dtype(), false, {}});
    return static_cast<std::uint32_t>(promises_.size() - 1);
  }
  const std::uint32_t number = made_++;
  if (number < promises_.size()) {
    Promise& p = promises_[number];
    if (!(p.shape == t.shape()) || p.dtype != t.dtype()) {
      fail(ErrorKind::runtime, "checkpoint", "the second run of the function kept ", t.describe(),
           " where the first kept ", name_of(p.dtype), " ", p.shape,
           "; it must do the same both times");
    }
    if (!p.dropped) p.tensor = t;
  }
  return number;
}

void Recompute::run() {
  std::vector<Tensor> inputs;
  for (Input& in : inputs_) {
    in.tensor.check("checkpoint", "input");
    Tensor t = in.tensor.take(false);
    if (t.defined() && !(in.is_leaf && in.wants_gradient)) {
      t = t.detach();
      if (in.wants_gradient) {
        t.impl()->node = Ref<Node>::adopt(new InputNode);
        t.impl()->requires_grad = true;
      }
    }
    inputs.push_back(std::move(t));
  }
  made_ = 0;
  runs_again_ = true;
  struct Done {
    bool& flag;
    ~Done() { flag = false; }
  } const done{runs_again_};
  {
    const Scope scope(*this);
    const GradMode on(true);
    again_(inputs);
  }
  if (made_ != promises_.size()) {
    fail(ErrorKind::runtime, "checkpoint", "the second run of the function kept ", made_,
         " tensors, the first ", promises_.size(), "; it must do the same both times");
  }
  ran_ = true;
  for (Input& in : inputs_) in.tensor.reset();
}

Tensor Recompute::keep(std::uint32_t number) {
  if (!ran_) run();
  return promises_[number].tensor;
}

void Recompute::drop(std::uint32_t number) {
  promises_[number].dropped = true;
  promises_[number].tensor = {};
}

}  // namespace autograd
}  // namespace lg
