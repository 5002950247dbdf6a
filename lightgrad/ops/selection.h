// selection.h: operations that pick elements by index, mask or rank.
#pragma once

#include "lightgrad/ops/op.h"
#include "lightgrad/ops/reductions.h"
#include "lightgrad/tensor/tensor.h"

namespace lg::ops {

struct Gather : Heavy<2> {
  std::int64_t dim = 0;
  static constexpr OpInfo info{
      .name = "gather", .math = "y[i][j] = x[index[i][j]][j] (for dim 0)", .args = {"x", "index"}};
  static constexpr auto attrs = std::tuple(required(&Gather::dim, "dim"));
  static Cost cost(Metas in, const Meta& out) {  // of x, what is picked
    return {0, in[1].bytes() + 2 * out.bytes()};
  }
  Tensor forward(const Tensor& x, const Tensor& index) const;
  template <class T> T vjp_x(T g, T x, T index, T) const {
    return scatter_add(zeros_of(x, g), dim, index, g);
  }
};

struct ScatterAdd : Heavy<3> {
  std::int64_t dim = 0;
  static constexpr OpInfo info{.name = "scatter_add",
                               .math = "x with source[i][j] added at [index[i][j]][j] (for dim 0)",
                               .args = {"x", "index", "source"}};
  static constexpr auto attrs = std::tuple(required(&ScatterAdd::dim, "dim"));
  Tensor forward(const Tensor& x, const Tensor& index, const Tensor& source) const;
  template <class T> T vjp_x(T g, T, T, T, T) const { return g; }
  template <class T> T vjp_z(T g, T, T index, T source, T) const {
    return slice_to(gather(g, dim, index), source);
  }
};

struct Scatter : Heavy<3> {
  std::int64_t dim = 0;
  static constexpr OpInfo info{.name = "scatter",
                               .math = "x with source[i][j] put at [index[i][j]][j] (for dim 0)",
                               .args = {"x", "index", "source"}};
  static constexpr auto attrs = std::tuple(required(&Scatter::dim, "dim"));
  Tensor forward(const Tensor& x, const Tensor& index, const Tensor& source) const;
  template <class T> T vjp_x(T g, T, T index, T source, T) const {
    return scatter(g, dim, index, zeros_of(source, g));
  }
  template <class T> T vjp_z(T g, T, T index, T source, T) const {
    return slice_to(gather(g, dim, index), source);
  }
};

struct IndexSelect : Heavy<2> {
  std::int64_t dim = 0;
  static constexpr OpInfo info{.name = "index_select",
                               .math = "x[index[0]], x[index[1]], ... along dim",
                               .args = {"x", "index"}};
  static constexpr auto attrs = std::tuple(required(&IndexSelect::dim, "dim"));
  static Cost cost(Metas in, const Meta& out) {  // of x, what is picked
    return {0, in[1].bytes() + 2 * out.bytes()};
  }
  Tensor forward(const Tensor& x, const Tensor& index) const;
  template <class T> T vjp_x(T g, T x, T index, T) const {
    return index_add(zeros_of(x, g), dim, index, g);
  }
};

struct IndexAdd : Heavy<3> {
  std::int64_t dim = 0;
  static constexpr OpInfo info{.name = "index_add",
                               .math = "x with source[i] added at x[index[i]] along dim",
                               .args = {"x", "index", "source"}};
  static constexpr auto attrs = std::tuple(required(&IndexAdd::dim, "dim"));
  Tensor forward(const Tensor& x, const Tensor& index, const Tensor& source) const;
  template <class T> T vjp_x(T g, T, T, T, T) const { return g; }
  template <class T> T vjp_z(T g, T, T index, T, T) const { return index_select(g, dim, index); }
};

struct MaskedFill : Composite<3> {
  static constexpr OpInfo info{.name = "masked_fill",
                               .math = "value where mask, x elsewhere",
                               .args = {"x", "mask", "value"}};
  Tensor forward(const Tensor& x, const Tensor& mask, const Tensor& value) const;
};

struct Tril : Composite<1> {
  std::int64_t diagonal = 0;
  static constexpr OpInfo info{.name = "tril",
                               .math = "the last two dimensions of x, 0 above the diagonal"};
  static constexpr auto attrs = std::tuple(attr(&Tril::diagonal, "diagonal"));
  Tensor forward(const Tensor& x) const;
};

struct Triu : Composite<1> {
  std::int64_t diagonal = 0;
  static constexpr OpInfo info{.name = "triu",
                               .math = "the last two dimensions of x, 0 below the diagonal"};
  static constexpr auto attrs = std::tuple(attr(&Triu::diagonal, "diagonal"));
  Tensor forward(const Tensor& x) const;
};

struct OneHot : Composite<1> {
  std::int64_t num_classes = -1;
  static constexpr OpInfo info{
      .name = "one_hot", .math = "int64 zeros [..., num_classes] with a 1 at x (-1: largest + 1)"};
  static constexpr auto attrs = std::tuple(attr(&OneHot::num_classes, "num_classes"));
  Tensor forward(const Tensor& x) const;
};

struct Argsort : Reduce {
  std::int64_t dim = -1;
  bool descending = false;
  static constexpr OpInfo info{.name = "argsort",
                               .math = "the indices that sort x along dim; stable, NaN last"};
  static constexpr auto attrs =
      std::tuple(attr(&Argsort::dim, "dim"), attr(&Argsort::descending, "descending"));
  static constexpr bool differentiable = false;
  Tensor forward(const Tensor& x) const;
};

struct Sort : Composite<1> {
  std::int64_t dim = -1;
  bool descending = false;
  static constexpr OpInfo info{
      .name = "sort", .math = "x in order along dim, and where each came from; stable, NaN last"};
  static constexpr auto attrs =
      std::tuple(attr(&Sort::dim, "dim"), attr(&Sort::descending, "descending"));
  ValuesIndices forward(const Tensor& x) const;
};

struct TopKIndices : Reduce {
  std::int64_t k = 1, dim = -1;
  bool largest = true;
  static constexpr OpInfo info{.name = "topk_indices",
                               .math = "where the k largest (smallest) of x are along dim"};
  static constexpr auto attrs =
      std::tuple(required(&TopKIndices::k, "k"), attr(&TopKIndices::dim, "dim"),
                 attr(&TopKIndices::largest, "largest"));
  static constexpr bool differentiable = false;
  Tensor forward(const Tensor& x) const;
};

struct TopK : Composite<1> {
  std::int64_t k = 1, dim = -1;
  bool largest = true;
  static constexpr OpInfo info{
      .name = "topk",
      .math = "the k largest (smallest) of x along dim in order, and where they are"};
  static constexpr auto attrs =
      std::tuple(required(&TopK::k, "k"), attr(&TopK::dim, "dim"), attr(&TopK::largest, "largest"));
  ValuesIndices forward(const Tensor& x) const;
};

struct Nonzero : Reduce {
  static constexpr OpInfo info{.name = "nonzero",
                               .math = "int64 [count, rank]: where x is not 0, row-major"};
  static constexpr bool differentiable = false;
  Tensor forward(const Tensor& x) const;
};

}  // namespace lg::ops

namespace lg {
// Zeros of x's sizes in g's dtype, and x cut to the leading sizes of `like`; what the formulas
// above speak of.
Tensor zeros_of(const Tensor& x, const Tensor& g);
inline Probe zeros_of(const Probe&, const Probe&) { return {}; }
Tensor slice_to(const Tensor& x, const Tensor& like);
inline Probe slice_to(const Probe& x, const Probe&) { return x; }
}  // namespace lg
