#include "lightgrad/base/shape.h"

#include <algorithm>

namespace lg {

std::string Shape::to_string() const {
  std::string s = "[";
  for (int i = 0; i < rank_; ++i) s += (i ? ", " : "") + std::to_string(d_[i]);
  return s + "]";
}

std::int64_t checked_numel(const Shape& shape, std::size_t item_size, std::string_view operation) {
  std::int64_t n = 1;
  bool empty = false, overflow = false;
  for (auto size : shape) {
    if (size < 0)
      fail(ErrorKind::value, operation, "negative dimension ", size, " in shape ", shape);
    if (size == 0)
      empty = true;
    else
      overflow |= __builtin_mul_overflow(n, size, &n);
  }
  if (empty) return 0;
  std::int64_t bytes = 0;
  overflow |= __builtin_mul_overflow(n, static_cast<std::int64_t>(item_size), &bytes);
  if (overflow)
    fail(ErrorKind::value, operation, "shape ", shape, " has more bytes than fit in 64 bits");
  return n;
}

Shape broadcast(const Shape& a, const Shape& b, std::string_view operation) {
  const int rank = std::max(a.rank(), b.rank());
  Shape out = Shape::filled(rank, 1);
  for (int i = 1; i <= rank; ++i) {
    const auto p = i <= a.rank() ? a[a.rank() - i] : 1, q = i <= b.rank() ? b[b.rank() - i] : 1;
    if (p != q && p != 1 && q != 1) {
      fail(ErrorKind::value, operation, "shapes ", a, " and ", b, " do not broadcast: dimension -",
           i, " is ", p, " and ", q, ", expected equal sizes or a 1");
    }
    out[rank - i] = p == 1 ? q : p;
  }
  return out;
}

Shape broadcast_strides(const Shape& shape, const Shape& strides, const Shape& to) {
  Shape s = Shape::filled(to.rank(), 0);
  for (int i = 1; i <= shape.rank(); ++i) {
    const auto size = shape[shape.rank() - i];
    s[to.rank() - i] = size == 1 ? 0 : strides[shape.rank() - i];
  }
  return s;
}

int normalize_axis(std::int64_t axis, int rank, std::string_view operation) {
  const int n = std::max(rank, 1);
  if (axis < -n || axis >= n) {
    fail(ErrorKind::index, operation, "axis ", axis, " is out of range for ", rank,
         " dimensions, expected ", -n, " to ", n - 1);
  }
  return static_cast<int>(axis < 0 ? axis + n : axis);
}

}  // namespace lg
