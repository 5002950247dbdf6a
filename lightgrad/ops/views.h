// views.h: operations that see or move elements without computing on them.
#pragma once

#include "lightgrad/ops/op.h"
#include "lightgrad/tensor/tensor.h"

namespace lg::ops {

struct Cast : Heavy<1> {
  DType dtype = DType::float32;
  static constexpr OpInfo info{.name = "cast", .math = "x as another dtype, always a copy"};
  static constexpr auto attrs = std::tuple(required(&Cast::dtype, "dtype"));
  Tensor forward(const Tensor& x) const;
  Tensor forward_cuda(const Tensor& x) const;
  template <class T> T vjp(T g, T x, T) const { return to(g, x.dtype()); }
};

struct To : Composite<1> {
  DType dtype = DType::float32;
  static constexpr OpInfo info{.name = "to",
                               .math = "x as another dtype; x itself when it has it already"};
  static constexpr auto attrs = std::tuple(required(&To::dtype, "dtype"));
  Tensor forward(const Tensor& x) const;
};

struct Clone : Heavy<1> {
  static constexpr bool any_device = true;
  static constexpr OpInfo info{.name = "clone", .math = "x copied to memory of its own, row-major"};
  Tensor forward(const Tensor& x) const { return x.copy(); }
  template <class T> static T vjp(T g, T, T) { return g; }
};

struct Contiguous : Composite<1> {
  static constexpr OpInfo info{.name = "contiguous",
                               .math = "x, copied only when it is not row-major"};
  Tensor forward(const Tensor& x) const;
};

struct Alias : View {
  static constexpr OpInfo info{.name = "alias", .math = "x under another handle"};
  Tensor forward(const Tensor& x) const { return x.detach(); }
  template <class T> static T vjp(T g, T, T) { return g; }
};

struct Expand : View {
  Shape shape;
  static constexpr OpInfo info{.name = "expand",
                               .math = "x repeated to shape without a copy; -1 keeps a size"};
  static constexpr auto attrs = std::tuple(required(&Expand::shape, "shape"));
  Tensor forward(const Tensor& x) const;
  template <class T> T vjp(T g, T x, T) const { return sum_to(g, x.shape()); }
};

struct SumTo : View {  // x itself where it has the shape
  Shape shape;
  static constexpr OpInfo info{.name = "sum_to",
                               .math = "x summed down to shape, the opposite of expand"};
  static constexpr auto attrs = std::tuple(required(&SumTo::shape, "shape"));
  static Cost cost(Metas in, const Meta& out) { return {in[0].numel(), moved(in, out)}; }
  Tensor forward(const Tensor& x) const;
  Tensor forward_cuda(const Tensor& x) const;
  template <class T> T vjp(T g, T x, T) const { return expand(g, x.shape()); }
};

struct Transpose : View {
  std::int64_t dim0 = 0, dim1 = 1;
  static constexpr OpInfo info{.name = "transpose", .math = "x with two dimensions swapped"};
  static constexpr auto attrs =
      std::tuple(required(&Transpose::dim0, "dim0"), required(&Transpose::dim1, "dim1"));
  Tensor forward(const Tensor& x) const;
  template <class T> T vjp(T g, T, T) const { return transpose(g, dim0, dim1); }
};

struct Permute : View {
  Shape dims;
  static constexpr OpInfo info{.name = "permute", .math = "x with its dimensions in another order"};
  static constexpr auto attrs = std::tuple(required(&Permute::dims, "dims"));
  Tensor forward(const Tensor& x) const;
  template <class T> T vjp(T g, T, T) const { return permute(g, inverse()); }
  Shape inverse() const;
};

struct Reshape : View {
  Shape shape;
  static constexpr OpInfo info{
      .name = "reshape", .math = "the elements of x in another shape, a view where strides allow"};
  static constexpr auto attrs = std::tuple(required(&Reshape::shape, "shape"));
  Tensor forward(const Tensor& x) const;
  template <class T> T vjp(T g, T x, T) const { return reshape(g, x.shape()); }
};

struct ViewAs : Composite<1> {
  Shape shape;
  static constexpr OpInfo info{
      .name = "view", .math = "reshape that never copies, and fails where it would have to"};
  static constexpr auto attrs = std::tuple(required(&ViewAs::shape, "shape"));
  Tensor forward(const Tensor& x) const;
};

struct Squeeze : Composite<1> {
  Axes dim;
  static constexpr OpInfo info{.name = "squeeze", .math = "x without its dimensions of size 1"};
  static constexpr auto attrs = std::tuple(attr(&Squeeze::dim, "dim"));
  Tensor forward(const Tensor& x) const;
};

struct Unsqueeze : Composite<1> {
  std::int64_t dim = 0;
  static constexpr OpInfo info{.name = "unsqueeze",
                               .math = "x with a dimension of size 1 put in at dim"};
  static constexpr auto attrs = std::tuple(required(&Unsqueeze::dim, "dim"));
  Tensor forward(const Tensor& x) const;
};

struct Flatten : Composite<1> {
  std::int64_t start_dim = 0, end_dim = -1;
  static constexpr OpInfo info{.name = "flatten",
                               .math = "dimensions start_dim to end_dim made one"};
  static constexpr auto attrs =
      std::tuple(attr(&Flatten::start_dim, "start_dim"), attr(&Flatten::end_dim, "end_dim"));
  Tensor forward(const Tensor& x) const;
};

// Every step-th element from start up to stop along dim; a negative step walks backwards (stop -1 -
// size: to the end).
struct SliceDim : View {
  std::int64_t dim = 0, start = 0, stop = std::numeric_limits<std::int64_t>::max(), step = 1;
  static constexpr OpInfo info{.name = "slice", .math = "x[start:stop:step] along dim"};
  static constexpr auto attrs =
      std::tuple(attr(&SliceDim::dim, "dim"), attr(&SliceDim::start, "start"),
                 attr(&SliceDim::stop, "stop"), attr(&SliceDim::step, "step"));
  Tensor forward(const Tensor& x) const;
  template <class T> T vjp(T g, T x, T) const {
    return slice_grad(g, x.shape(), dim, start, stop, step);
  }
};

struct SliceGrad : Heavy<1> {
  Shape shape;
  std::int64_t dim = 0, start = 0, stop = std::numeric_limits<std::int64_t>::max(), step = 1;
  static constexpr OpInfo info{.name = "slice_grad",
                               .math = "zeros of shape, with x at [start:stop:step] along dim"};
  static constexpr auto attrs =
      std::tuple(required(&SliceGrad::shape, "shape"), attr(&SliceGrad::dim, "dim"),
                 attr(&SliceGrad::start, "start"), attr(&SliceGrad::stop, "stop"),
                 attr(&SliceGrad::step, "step"));
  Tensor forward(const Tensor& x) const;
  template <class T> T vjp(T g, T, T) const { return slice(g, dim, start, stop, step); }
};

struct Select : Composite<1> {
  std::int64_t dim = 0, index = 0;
  static constexpr OpInfo info{.name = "select", .math = "x[index] along dim"};
  static constexpr auto attrs =
      std::tuple(required(&Select::dim, "dim"), required(&Select::index, "index"));
  Tensor forward(const Tensor& x) const;
};

struct Narrow : Composite<1> {
  std::int64_t dim = 0, start = 0, length = 0;
  static constexpr OpInfo info{.name = "narrow", .math = "x[start : start + length] along dim"};
  static constexpr auto attrs =
      std::tuple(required(&Narrow::dim, "dim"), required(&Narrow::start, "start"),
                 required(&Narrow::length, "length"));
  Tensor forward(const Tensor& x) const;
};

struct Flip : Composite<1> {
  Axes dims;
  static constexpr OpInfo info{.name = "flip", .math = "x backwards along dims"};
  static constexpr auto attrs = std::tuple(required(&Flip::dims, "dims"));
  Tensor forward(const Tensor& x) const;
};

// One size: that of every part (the last may be smaller); several: the size of each.
struct Split : Composite<1> {
  Axes sizes;
  std::int64_t dim = 0;
  static constexpr OpInfo info{
      .name = "split", .math = "views of x of the given sizes along dim (one size: every part's)"};
  static constexpr auto attrs =
      std::tuple(required(&Split::sizes, "split_size"), attr(&Split::dim, "dim"));
  std::vector<Tensor> forward(const Tensor& x) const;
};

struct Chunk : Composite<1> {
  std::int64_t chunks = 1, dim = 0;
  static constexpr OpInfo info{.name = "chunk",
                               .math = "at most `chunks` views of x of equal size along dim"};
  static constexpr auto attrs =
      std::tuple(required(&Chunk::chunks, "chunks"), attr(&Chunk::dim, "dim"));
  std::vector<Tensor> forward(const Tensor& x) const;
};

struct Unbind : Composite<1> {
  std::int64_t dim = 0;
  static constexpr OpInfo info{.name = "unbind", .math = "every x[i] along dim"};
  static constexpr auto attrs = std::tuple(attr(&Unbind::dim, "dim"));
  std::vector<Tensor> forward(const Tensor& x) const;
};

struct Cat : Variadic {
  std::int64_t dim = 0;
  static constexpr OpInfo info{
      .name = "cat", .math = "the tensors one after another along dim", .args = {"tensors"}};
  static constexpr auto attrs = std::tuple(attr(&Cat::dim, "dim"));
  Tensor forward(const std::vector<Tensor>& x) const;
  // The gradient of input i: its part of g.
  Tensor vjp(const Tensor& g, std::size_t i, const PoolVector<Shape>& shapes) const;
};

struct Stack : Composite<-1> {
  std::int64_t dim = 0;
  static constexpr OpInfo info{.name = "stack",
                               .math = "the tensors side by side along a new dimension dim",
                               .args = {"tensors"}};
  static constexpr auto attrs = std::tuple(attr(&Stack::dim, "dim"));
  Tensor forward(const std::vector<Tensor>& x) const;
};

}  // namespace lg::ops
