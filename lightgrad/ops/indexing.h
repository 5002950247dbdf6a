// indexing.h: x.index({...}) and x.index_put({...}, value), what brackets mean in Python: integers,
// slices, None, ellipsis, boolean masks and integer tensors, with NumPy's rules for their
// combination.
#pragma once

#include <optional>
#include <variant>
#include <vector>

#include "lightgrad/tensor/tensor.h"

namespace lg {

struct Slice {
  std::optional<std::int64_t> start{}, stop{};
  std::int64_t step = 1;

  Slice() = default;
  Slice(std::optional<std::int64_t> start, std::optional<std::int64_t> stop, std::int64_t step = 1)
      : start(start), stop(stop), step(step) {}
};
struct NoneIndex {};      // a new dimension of size 1
struct EllipsisIndex {};  // as many full slices as there is room for
inline constexpr NoneIndex None{};
inline constexpr EllipsisIndex Ellipsis{};

class Index {
 public:
  using Value = std::variant<std::int64_t, Slice, NoneIndex, EllipsisIndex, Tensor>;

  Index(std::integral auto i) : value_(static_cast<std::int64_t>(i)) {}
  Index(Slice s) : value_(s) {}
  Index(NoneIndex n) : value_(n) {}
  Index(EllipsisIndex e) : value_(e) {}
  Index(Tensor t) : value_(std::move(t)) {}

  const Value& value() const { return value_; }

 private:
  Value value_;
};

}  // namespace lg
