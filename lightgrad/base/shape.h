// shape.h: sizes and strides of a tensor, held inline: a Shape never allocates.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "lightgrad/base/error.h"

namespace lg {

inline constexpr int max_rank = 8;

class Shape {
 public:
  constexpr Shape() = default;
  constexpr Shape(std::initializer_list<std::int64_t> v) : Shape(std::span(v.begin(), v.size())) {}
  explicit constexpr Shape(std::span<const std::int64_t> v) {
    for (auto x : v) push_back(x);
  }
  static constexpr Shape filled(int rank, std::int64_t value) {
    Shape s;
    for (int i = 0; i < rank; ++i) s.push_back(value);
    return s;
  }

  constexpr int rank() const { return rank_; }
  constexpr bool empty() const { return rank_ == 0; }
  constexpr std::int64_t& operator[](int i) { return d_[i]; }
  constexpr std::int64_t operator[](int i) const { return d_[i]; }
  constexpr std::int64_t back() const { return d_[rank_ - 1]; }
  constexpr std::int64_t& back() { return d_[rank_ - 1]; }
  constexpr const std::int64_t* begin() const { return d_; }
  constexpr const std::int64_t* end() const { return d_ + rank_; }
  constexpr std::int64_t* begin() { return d_; }
  constexpr std::int64_t* end() { return d_ + rank_; }
  constexpr void push_back(std::int64_t v) {
    if (rank_ == max_rank) fail(ErrorKind::value, "shape", "a tensor has at most 8 dimensions");
    d_[rank_++] = v;
  }
  constexpr void pop_back() { --rank_; }
  constexpr void insert(int at, std::int64_t v) {
    push_back(v);
    for (int i = rank_ - 1; i > at; --i) d_[i] = d_[i - 1];
    d_[at] = v;
  }
  constexpr void erase(int at) {
    for (int i = at; i + 1 < rank_; ++i) d_[i] = d_[i + 1];
    --rank_;
  }
  constexpr bool operator==(const Shape& o) const {
    if (rank_ != o.rank_) return false;
    for (int i = 0; i < rank_; ++i)
      if (d_[i] != o.d_[i]) return false;
    return true;
  }

  // The product of the sizes; the caller has checked it (checked_numel) when the tensor was made.
  constexpr std::int64_t numel() const {
    std::uint64_t n = 1;  // unsigned: beside a 0 the other sizes may be anything
    for (int i = 0; i < rank_; ++i) n *= static_cast<std::uint64_t>(d_[i]);
    return static_cast<std::int64_t>(n);
  }
  std::string to_string() const;  // "[2, 3]"

 private:
  std::int64_t d_[max_rank] = {};
  int rank_ = 0;
};

// Row-major strides in elements.
constexpr Shape contiguous_strides(const Shape& shape) {
  Shape s = shape;
  std::uint64_t step = 1;  // unsigned, as in numel
  for (int i = shape.rank(); i-- > 0;) {
    s[i] = static_cast<std::int64_t>(step);
    step *= static_cast<std::uint64_t>(shape[i] > 1 ? shape[i] : 1);
  }
  return s;
}

constexpr bool is_contiguous(const Shape& shape, const Shape& strides) {
  std::uint64_t step = 1;
  bool contiguous = true;
  for (int i = shape.rank(); i-- > 0;) {
    if (shape[i] == 0) return true;
    contiguous &= shape[i] == 1 || static_cast<std::uint64_t>(strides[i]) == step;
    step *= static_cast<std::uint64_t>(shape[i]);
  }
  return contiguous;
}

// Number of elements, after checking that no size is negative and that elements times item_size fit
// int64. Throws ValueError naming `operation` and the shape.
std::int64_t checked_numel(const Shape& shape, std::size_t item_size, std::string_view operation);

// NumPy's rule; throws ValueError "add: shapes [2, 3] and [4] do not broadcast: ...".
Shape broadcast(const Shape& a, const Shape& b, std::string_view operation);

// Without the last `drop` sizes: of matrices, the stack's.
inline Shape leading(const Shape& shape, int drop) {
  Shape lead = shape;
  for (int i = 0; i < drop; ++i) lead.pop_back();
  return lead;
}

// Strides of an operand seen in the broadcast shape `to` (0 along stretched dimensions).
Shape broadcast_strides(const Shape& shape, const Shape& strides, const Shape& to);

// -rank <= axis < rank made non-negative (a 0-d tensor counts as rank 1); IndexError otherwise.
int normalize_axis(std::int64_t axis, int rank, std::string_view operation);

}  // namespace lg
