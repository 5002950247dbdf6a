// saved_tensor.h: what a node keeps for its backward: a tensor as it was; or, inside of a
// checkpoint (ops/checkpoint.h), a promise of it, which running the forward again will keep.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "lightgrad/autograd/node.h"

namespace lg {

namespace autograd {
class Recompute;
void retain(Recompute*);
void release(Recompute*);
}  // namespace autograd

class SavedTensor {
 public:
  SavedTensor() = default;
  explicit SavedTensor(Tensor t);

  bool kept() const { return tensor_.defined(); }
  // RuntimeError if the tensor was changed since. A promised one is made anew.
  void check(std::string_view operation, std::string_view which) const;
  Tensor get() const;
  // get, after which it is gone if nobody asks again.
  Tensor take(bool last);
  void reset();

 private:
  Tensor tensor_;  // of a promise: its place in the graph, without data
  Ref<autograd::Recompute> later_;
  std::uint32_t version_ = 0;  // of the storage; of a promise: its number
};

namespace autograd {

// A forward pass that keeps nothing but its inputs, and runs again when the first of the tensors
// that it should have kept is asked for. Knows the order in which they are kept: the function must
// do the same both times.
class Recompute {
 public:
  // again(inputs) runs the forward with the modes and random numbers that it had.
  using Again = std::function<void(const std::vector<Tensor>&)>;
  Recompute(Again again, const std::vector<Tensor>& inputs);
  Recompute(const Recompute&) = delete;

  // Everything that this thread's nodes would keep is promised by r, for a scope.
  class Scope {
   public:
    explicit Scope(Recompute& r);
    ~Scope();
    Scope(const Scope&) = delete;

   private:
    Recompute* before_;
  };

  std::uint32_t promise(const Tensor& t);  // or, in the second run, the promise is kept
  Tensor keep(std::uint32_t number);       // runs the forward again, the first time
  void drop(std::uint32_t number);         // nobody asks for it again
  bool runs_again() const { return runs_again_; }

  std::atomic<int> refs{1};

 private:
  void run();

  struct Input {
    SavedTensor tensor;
    bool wants_gradient, is_leaf;
  };
  struct Promise {
    Shape shape;
    DType dtype;
    bool dropped = false;
    Tensor tensor;
  };
  Again again_;
  std::vector<Input> inputs_;
  std::vector<Promise> promises_;
  std::uint32_t made_ = 0;  // of the promises, in the second run
  bool runs_again_ = false, ran_ = false;
};

inline thread_local Recompute* recompute_of_thread = nullptr;

inline void retain(Recompute* r) { r->refs.fetch_add(1, std::memory_order_relaxed); }
inline void release(Recompute* r) {
  if (r->refs.fetch_sub(1, std::memory_order_acq_rel) == 1) delete r;
}

}  // namespace autograd
}  // namespace lg
