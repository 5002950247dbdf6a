// padding.cpp: elements put around a tensor, or cut off.
#include <algorithm>
#include <limits>

#include "lightgrad/ops/creation.h"
#include "lightgrad/ops/ops.h"
#include "lightgrad/ops/pooling.h"
#include "lightgrad/ops/run.h"
#include "lightgrad/ops/window.h"

namespace lg::ops {

namespace {

Tensor padded(const Tensor& x, const Shape& before, const Shape& after, double value);
Probe padded(const Probe& x, const Shape&, const Shape&, double) { return x; }

Shape negated(const Shape& s) {
  Shape n = s;
  for (std::int64_t& v : n) v = -v;
  return n;
}

// `before` and `after` elements put around each dimension, or cut off where they are negative.
struct PadConstant : Heavy<1> {
  Shape before, after;
  double value = 0;
  static constexpr OpInfo info{.name = "pad", .math = "x with a constant put around it"};
  Tensor forward(const Tensor& x) const {
    Shape shape = x.shape(), size = x.shape();
    std::int64_t from = 0, to = 0;
    for (int d = 0; d < x.rank(); ++d) shape[d] += before[d] + after[d];
    const Tensor y = full(shape, value, x.dtype());
    for (int d = 0; d < x.rank(); ++d) {
      from += std::max<std::int64_t>(-before[d], 0) * x.strides()[d];
      to += std::max<std::int64_t>(before[d], 0) * y.strides()[d];
      size[d] += std::min<std::int64_t>(before[d], 0) + std::min<std::int64_t>(after[d], 0);
      if (size[d] <= 0) return y;
    }
    y.view_as(size, y.strides(), to).assign(x.view_as(size, x.strides(), from));
    return y;
  }
  template <class T> T vjp(T g, T, T) const {
    return padded(g, negated(before), negated(after), 0);
  }
};

Tensor padded(const Tensor& x, const Shape& before, const Shape& after, double value) {
  PadConstant op;
  op.before = before;
  op.after = after;
  op.value = value;
  return run(std::move(op), x);
}

// Which element of n stands at each place of the padded dimension.
Tensor source_indices(std::int64_t n, std::int64_t before, std::int64_t after,
                      const std::string& mode) {
  const Tensor index = Tensor::empty({before + n + after}, DType::int64);
  for (std::int64_t k = 0; k < index.numel(); ++k) {
    std::int64_t i = k - before;
    if (mode == "replicate") {
      i = std::clamp<std::int64_t>(i, 0, n - 1);
    } else if (mode == "circular") {
      i = i < 0 ? i + n : i >= n ? i - n : i;
    } else {
      i = i < 0 ? -i : i >= n ? 2 * (n - 1) - i : i;
    }
    index.data<std::int64_t>()[k] = i;
  }
  return index;
}

}  // namespace

Tensor Pad::forward(const Tensor& x) const {
  constexpr std::string_view name = "pad";
  if (pad.rank() % 2 != 0 || pad.rank() > 2 * x.rank()) {
    fail(ErrorKind::value, name, "pad is ", pad, ", expected two numbers for each of at most ",
         x.rank(), " dimensions (x ", x.shape(), ")");
  }
  const bool constant = mode == "constant";
  if (!constant && mode != "reflect" && mode != "replicate" && mode != "circular") {
    fail(ErrorKind::value, name, "mode is \"", mode,
         "\", expected \"constant\", \"reflect\", \"replicate\" or \"circular\"");
  }
  if (!constant && value.value_or(0) != 0)
    fail(ErrorKind::value, name, "value has no meaning in mode \"", mode, "\"");
  Shape before = Shape::filled(x.rank(), 0), after = before;
  for (int k = 0; k < pad.rank() / 2; ++k) {
    const int d = x.rank() - 1 - k;
    const std::int64_t n = x.shape()[d];
    before[d] = pad[2 * k];
    after[d] = pad[2 * k + 1];
    const std::int64_t most = constant || mode == "replicate"
                                  ? std::numeric_limits<std::int64_t>::max()
                              : mode == "reflect" ? n - 1
                                                  : n;
    const bool too_much = before[d] > most || after[d] > most;
    if (too_much || (!constant && n == 0) ||
        saturating_add(saturating_add(n, before[d]), after[d]) < 0) {
      fail(ErrorKind::value, name, "dimension ", d, " of size ", n, " cannot be padded by ",
           before[d], " and ", after[d], " in mode \"", mode, "\" (x ", x.shape(), ")");
    }
  }
  if (constant) return padded(x, before, after, value.value_or(0));
  // The gradients of an element that stands in several places are rounded once, as their sum.
  if (is_half(x.dtype())) return to(run(*this, to(x, DType::float32)), x.dtype());
  // As in PyTorch: what goes round is what the cut leaves, a reflection is of x itself.
  Tensor y = x;
  if (mode == "circular") {
    Shape cut_before = before, cut_after = after;
    for (int d = 0; d < x.rank(); ++d) {
      cut_before[d] = std::min<std::int64_t>(before[d], 0);
      cut_after[d] = std::min<std::int64_t>(after[d], 0);
      before[d] -= cut_before[d];
      after[d] -= cut_after[d];
    }
    y = padded(x, cut_before, cut_after, 0);
  }
  for (int d = 0; d < x.rank(); ++d) {
    if (before[d] == 0 && after[d] == 0) continue;
    const std::int64_t n = y.shape()[d], low = std::max<std::int64_t>(before[d], 0),
                       high = std::max<std::int64_t>(after[d], 0);
    Tensor index = source_indices(n, low, high, mode);
    index =
        narrow(index, 0, low - before[d], index.numel() - (low - before[d]) - (high - after[d]));
    y = index_select(y, d, index.contiguous_data());
  }
  return y.is_same(x) ? alias(x) : y;
}

}  // namespace lg::ops
