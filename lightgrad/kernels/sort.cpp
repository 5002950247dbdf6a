// sort.cpp: rows become (key, position) pairs whose keys are unsigned and rise in the wanted order;
// no two pairs are equal, so every algorithm below is stable. Short rows are sorted by comparison,
// long ones by radix.
#include "lightgrad/kernels/sort.h"

#include <algorithm>
#include <array>
#include <bit>
#include <type_traits>
#include <utility>

#include "lightgrad/base/parallel.h"
#include "lightgrad/kernels/row_chunks.h"

namespace lg::kernels {
namespace {

// Histograms and passes of the radix sort pay from about so many elements on.
constexpr std::int64_t kShort = 128;

template <class T> using Key = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;

// Unsigned numbers in the order of T: floats with their sign bit set count backwards; NaN is the
// largest.
template <class T> Key<T> key_of(T v) {
  constexpr Key<T> sign = Key<T>(1) << (8 * sizeof(T) - 1);
  if constexpr (std::is_floating_point_v<T>) {
    if (v != v) return ~Key<T>(0);
    const auto bits = std::bit_cast<Key<T>>(v == T(0) ? T(0) : v);  // -0 is 0
    return bits & sign ? ~bits : bits | sign;
  } else {
    return static_cast<Key<T>>(v) ^ sign;
  }
}

template <class K, class P> struct Item {
  K key;
  P position;
  bool operator<(const Item& o) const {
    if constexpr (sizeof(Item) == 8)
      return joined() < o.joined();  // one comparison, one branch
    else
      return key != o.key ? key < o.key : position < o.position;
  }
  std::uint64_t joined() const { return std::uint64_t{key} << 32 | position; }
};

// Least significant byte first; a byte that is the same in all keys costs no pass. Returns where
// the result lies.
template <class Item> Item* radix_sort(Item* items, Item* other, std::int64_t n) {
  constexpr int passes = sizeof(items->key);
  std::array<std::array<std::int64_t, 256>, passes> count{};
  for (std::int64_t i = 0; i < n; ++i) {
    for (int p = 0; p < passes; ++p) ++count[p][items[i].key >> (8 * p) & 255];
  }
  for (int p = 0; p < passes; ++p) {
    if (count[p][items[0].key >> (8 * p) & 255] == n) continue;
    std::int64_t at = 0;
    for (auto& c : count[p]) at += std::exchange(c, at);
    for (std::int64_t i = 0; i < n; ++i)
      other[count[p][items[i].key >> (8 * p) & 255]++] = items[i];
    std::swap(items, other);
  }
  return items;
}

// order(items, other) puts the first k of n items in place and returns where they lie.
template <class Item, class T, class Order>
void select_items(const T* x, T* values, std::int64_t* indices, std::int64_t outer, std::int64_t n,
                  std::int64_t inner, std::int64_t k, bool descending, Order order) {
  using Position = decltype(Item::position);
  const Key<T> flip = descending ? ~Key<T>(0) : Key<T>(0);
  parallel_for(outer * inner, row_grain(n), [&](std::int64_t first, std::int64_t last) {
    const Scratch<Item> items(n), other(n);
    for (std::int64_t row = first; row < last; ++row) {
      const T* from = x + row / inner * n * inner + row % inner;
      const std::int64_t to = row / inner * k * inner + row % inner;
      for (std::int64_t i = 0; i < n; ++i)
        items[i] = {key_of(from[i * inner]) ^ flip, static_cast<Position>(i)};
      const Item* sorted = order(items.get(), other.get());
      for (std::int64_t i = 0; i < k; ++i) {
        const auto position = static_cast<std::int64_t>(sorted[i].position);
        values[to + i * inner] = from[position * inner];
        indices[to + i * inner] = position;
      }
    }
  });
}

template <class T, class Order>
void select(const T* x, T* values, std::int64_t* indices, std::int64_t outer, std::int64_t n,
            std::int64_t inner, std::int64_t k, bool descending, Order order) {
  if (n == 0 || k == 0) return;
  if (n <= std::int64_t{UINT32_MAX}) {  // pairs of a float then take 8 bytes
    select_items<Item<Key<T>, std::uint32_t>>(x, values, indices, outer, n, inner, k, descending,
                                              order);
  } else {
    select_items<Item<Key<T>, std::uint64_t>>(x, values, indices, outer, n, inner, k, descending,
                                              order);
  }
}

}  // namespace

template <class T>
void sort(const T* x, T* values, std::int64_t* indices, std::int64_t outer, std::int64_t n,
          std::int64_t inner, bool descending) {
  select(x, values, indices, outer, n, inner, n, descending, [n](auto* items, auto* other) {
    if (n > kShort) return radix_sort(items, other, n);
    std::sort(items, items + n);
    return items;
  });
}

template <class T>
void topk(const T* x, T* values, std::int64_t* indices, std::int64_t outer, std::int64_t n,
          std::int64_t inner, std::int64_t k, bool largest) {
  select(x, values, indices, outer, n, inner, k, largest, [n, k](auto* items, auto* other) {
    if (k > n / 4 && n > kShort) return radix_sort(items, other, n);
    if (k <= 64) {  // a heap of k, which most elements do not enter
      std::partial_sort(items, items + k, items + n);
    } else {
      std::nth_element(items, items + k - 1, items + n);
      std::sort(items, items + k);
    }
    return items;
  });
}

#define LIGHTGRAD_INSTANTIATE(T)                                                                   \
  template void sort(const T*, T*, std::int64_t*, std::int64_t, std::int64_t, std::int64_t, bool); \
  template void topk(const T*, T*, std::int64_t*, std::int64_t, std::int64_t, std::int64_t,        \
                     std::int64_t, bool);
LIGHTGRAD_INSTANTIATE(float)
LIGHTGRAD_INSTANTIATE(double)
LIGHTGRAD_INSTANTIATE(std::int64_t)
#undef LIGHTGRAD_INSTANTIATE

}  // namespace lg::kernels
