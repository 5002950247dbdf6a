// tensor.h: a handle to a strided array of numbers. Copying a Tensor copies the handle; views share
// storage. Knows nothing of operations: those are free functions (ops/ops.h), found by argument.
#pragma once

#include <concepts>
#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

#include "lightgrad/base/device.h"
#include "lightgrad/base/dtype.h"
#include "lightgrad/base/random.h"
#include "lightgrad/base/ref.h"
#include "lightgrad/base/shape.h"
#include "lightgrad/tensor/storage.h"

namespace lg {

struct Node;  // autograd/node.h: how a tensor was made
void retain(Node*);
void release(Node*);
struct TensorImpl;
void retain(TensorImpl*);
void release(TensorImpl*);
class Index;
class Tensor;

}  // namespace lg

// Lists of tensors come and go with operations (split, gradients, hooks): every
// std::vector<Tensor> takes its memory from the caching allocator.
template <> struct std::allocator<lg::Tensor> : lg::PoolAllocator<lg::Tensor> {
  allocator() = default;
  template <class U> constexpr allocator(const std::allocator<U>&) noexcept {}
};

namespace lg {

class Tensor {
 public:
  Tensor() = default;
  explicit Tensor(Ref<TensorImpl> impl) : impl_(std::move(impl)) {}
  // A C++ number as an operand: 0-d, and weak in dtype promotion (x + 2.0 keeps the dtype of a
  // float x).
  template <class T>
  requires std::is_arithmetic_v<T> Tensor(T value) : Tensor(scalar(value)) {}

  static Tensor empty(const Shape& shape, DType dtype = DType::float32);
  // Shares `storage`; checks that the view lies inside it.
  static Tensor on(Ref<Storage> storage, const Shape& shape, const Shape& strides,
                   std::int64_t offset, DType dtype);
  // Sizes and dtype without data: what a gradient formula gets for an input that nobody saved.
  static Tensor shape_only(const Shape& shape, DType dtype);

  explicit operator bool() const { return static_cast<bool>(impl_); }
  bool defined() const { return static_cast<bool>(impl_); }
  TensorImpl* impl() const { return impl_.get(); }
  bool is_same(const Tensor& other) const { return impl() == other.impl(); }

  const Shape& shape() const;
  const Shape& strides() const;
  std::int64_t size(std::int64_t axis) const {  // negative: from the last; IndexError
    return axis >= 0 && axis < rank() ? shape()[static_cast<int>(axis)] : size_from_end(axis);
  }
  int rank() const { return shape().rank(); }
  std::int64_t numel() const { return shape().numel(); }
  DType dtype() const;
  Device device() const;
  bool is_contiguous() const;
  bool is_weak() const;

  void* raw_data() const;  // of the first element; null without data
  // Throws TypeError when T is not the element type.
  template <class T> T* data() const {
    check_dtype(dtype_of<T>);
    return static_cast<T*>(raw_data());
  }
  // The only element as a C++ number; ValueError unless there is exactly one.
  template <class T = double> T item() const {
    T v{};
    visit_item([&](auto x) { v = convert<T>(x); });
    return v;
  }
  // All elements in row-major order.
  template <class T> std::vector<T> to_vector() const;
  std::string to_string() const;  // as NumPy prints
  std::string describe() const;   // "float32 [2, 3]", for error messages

  // This tensor when it lies in the CPU's memory, else a copy there; no gradient is recorded.
  Tensor to_cpu() const;
  // Writes the elements, row-major and converted to `dtype`, to memory of the caller's.
  void copy_out(void* to, DType dtype) const;

  // The same storage seen with other sizes; no gradient is recorded.
  Tensor view_as(const Shape& shape, const Shape& strides, std::int64_t shift = 0) const;
  // The same storage, cut off from the graph.
  Tensor detach() const;
  // Elements copied into fresh contiguous memory; no gradient is recorded.
  Tensor copy() const;
  // This tensor when it is contiguous, else copy().
  Tensor contiguous_data() const;
  // Overwrites the elements in place (broadcasting, converting); rises the version; no gradient is
  // recorded.
  void assign(const Tensor& source) const;

  // --- autograd (autograd/) ---
  bool requires_grad() const;
  // Leaves only; TypeError for an integer tensor.
  const Tensor& set_requires_grad(bool on = true) const;
  bool is_leaf() const;
  bool is_parameter() const;
  Tensor grad() const;
  void set_grad(Tensor g) const;  // checks shape and dtype
  void zero_grad() const { set_grad({}); }
  void retain_grad() const;
  // Where the gradient of this tensor goes: its node, or a leaf's accumulator. Null if it needs
  // none.
  Ref<Node> edge() const;
  const Ref<Node>& node() const;
  struct BackwardOptions {
    bool retain_graph = false, create_graph = false;
  };
  // Adds d(this)/d(leaf) . gradient to every leaf's grad. Without `gradient` the tensor has one
  // element.
  void backward(const Tensor& gradient, BackwardOptions options) const;
  void backward(const Tensor& gradient = {}) const { backward(gradient, BackwardOptions()); }
  // f sees the gradient of this tensor when it is complete, and may return another one. Returns a
  // handle.
  int register_hook(std::function<Tensor(const Tensor&)> f) const;
  void remove_hook(int handle) const;

  // --- indexing (ops/indexing.h): integers, Slice, None, Ellipsis, bool masks, integer tensors ---
  Tensor index(std::initializer_list<Index> indices) const;
  Tensor index(const std::vector<Index>& indices) const;
  void index_put(std::initializer_list<Index> indices, const Tensor& value) const;
  void index_put(const std::vector<Index>& indices, const Tensor& value) const;

 protected:
  Ref<TensorImpl> impl_;

 private:
  std::int64_t size_from_end(std::int64_t axis) const;
  static Tensor scalar(bool v);
  static Tensor scalar(std::int64_t v);
  static Tensor scalar(double v);
  template <class T> static Tensor scalar(T v) {
    if constexpr (std::is_floating_point_v<T>)
      return scalar(static_cast<double>(v));
    else
      return scalar(static_cast<std::int64_t>(v));
  }
  void check_dtype(DType wanted) const;
  void check_one_element() const;
  template <class F> void visit_item(F&& f) const {
    check_one_element();
    if (device().type != DeviceType::cpu) return to_cpu().visit_item(f);
    visit(dtype(), [&]<class T>(T) { f(*static_cast<const T*>(raw_data())); });
  }
};

struct TensorImpl {
  std::atomic<int> refs{1};
  DType dtype = DType::float32;
  Device device;
  bool requires_grad = false;
  bool is_parameter = false;
  bool weak = false;     // made from a C++ or Python number: yields in dtype promotion
  bool is_view = false;  // made by a view operation from a tensor that was part of a graph
  std::uint32_t view_version = 0;  // the storage's recorded_changes when the view was made
  std::int64_t offset = 0;         // in elements
  Ref<Storage> storage;            // null: a shape without data
  Shape shape, strides;
  Ref<Node> node;  // made by; for a leaf, its accumulator
  Tensor grad;
  void* python = nullptr;  // weak: the one Python object of a parameter

  TensorImpl() = default;
  TensorImpl(const TensorImpl&) = delete;
  ~TensorImpl();
  static void* operator new(std::size_t bytes) { return allocate(bytes); }
  static void operator delete(void* p, std::size_t bytes) { deallocate(p, bytes); }
};

inline void retain(TensorImpl* p) { p->refs.fetch_add(1, std::memory_order_relaxed); }
inline void release(TensorImpl* p) {
  // The last owner need not count down.
  if (p->refs.load(std::memory_order_acquire) == 1 ||
      p->refs.fetch_sub(1, std::memory_order_acq_rel) == 1)
    delete p;
}

inline const Shape& Tensor::shape() const { return impl_->shape; }
inline const Shape& Tensor::strides() const { return impl_->strides; }
inline DType Tensor::dtype() const { return impl_->dtype; }
inline Device Tensor::device() const { return impl_->device; }
inline bool Tensor::is_contiguous() const {
  return lg::is_contiguous(impl_->shape, impl_->strides);
}
inline bool Tensor::is_weak() const { return impl_->weak; }
inline bool Tensor::requires_grad() const { return impl_->requires_grad; }
inline bool Tensor::is_parameter() const { return impl_->is_parameter; }
inline const Ref<Node>& Tensor::node() const { return impl_->node; }
inline Tensor Tensor::grad() const { return impl_->grad; }
inline void* Tensor::raw_data() const {
  return impl_->storage ? impl_->storage->data() +
                              impl_->offset * static_cast<std::int64_t>(size_of(impl_->dtype))
                        : nullptr;
}

// The dtype that floating-point results and literals get: float32 unless set_default_dtype changed
// it.
DType default_dtype();
void set_default_dtype(DType t);  // floating types only, TypeError otherwise

template <class T> std::vector<T> Tensor::to_vector() const {
  std::vector<T> out(static_cast<std::size_t>(numel()));
  if constexpr (std::same_as<T, bool>) {
    const std::vector<std::uint8_t> bytes = to_vector<std::uint8_t>();
    out.assign(bytes.begin(), bytes.end());
  } else {
    copy_out(out.data(), dtype_of<T>);
  }
  return out;
}

}  // namespace lg
