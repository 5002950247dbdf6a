// attention_products-inl.h: how attention multiplies blocks, per SIMD target and by what its
// tensors store: float32 and float64 by the tile of gemm-inl.h, bfloat16 by the CPU's own dot
// products of pairs. A right operand is packed in panels; a left one is rows of contiguous k, or a
// block of scores.
#if defined(LIGHTGRAD_KERNELS_ATTENTION_PRODUCTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LIGHTGRAD_KERNELS_ATTENTION_PRODUCTS_INL_H_
#undef LIGHTGRAD_KERNELS_ATTENTION_PRODUCTS_INL_H_
#else
#define LIGHTGRAD_KERNELS_ATTENTION_PRODUCTS_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "hwy/highway.h"
#include "lightgrad/kernels/attention_task.h"
#include "lightgrad/kernels/gemm-inl.h"
#include "lightgrad/kernels/gemm_bf16.h"
#include "lightgrad/kernels/row_chunks.h"

HWY_BEFORE_NAMESPACE();
namespace lg::kernels {
namespace HWY_NAMESPACE {
namespace {

// Element k of row r (of a pair the first) at `at + r * row + k * step`.
template <class S> struct Left {
  const S* at;
  std::int64_t row, step;
};

template <class S> struct Products {
  using Sum = S;
  using Right = S;
  static constexpr std::int64_t kWidth = kPanel<S>;

  // What a row of the left operand takes, and how many rows a panel has, for this many k.
  static HWY_INLINE std::int64_t RowSize(std::int64_t k) { return k; }
  static HWY_INLINE std::int64_t PanelRows(std::int64_t k) { return k; }
  static HWY_INLINE void Pack(const S* b, std::int64_t b_row, std::int64_t b_col, std::int64_t k,
                              std::int64_t columns, S* to) {
    PackPanel(b, b_row, b_col, k, columns, to);
  }
  // C[height, width] (+)= rows [r, r + height) times a panel, over these k. A tile is told to
  // prefetch its own panel, which is near: the default, a null address, would cost a page walk each
  // time.
  static HWY_INLINE void Multiply(std::int64_t height, std::int64_t width, Left<S> a,
                                  std::int64_t r, Range k, const S* panel, S* c, std::int64_t c_row,
                                  bool add) {
    PickTile<S>(height, width)(k.end - k.begin, a.at + r * a.row + k.begin * a.step, a.row, a.step,
                               panel + k.begin * kWidth, kWidth, c, c_row, width, add, {panel, 0});
  }
  // n numbers to compute with, in the buffer where they are not that already; and back.
  static HWY_INLINE const S* Widened(const S* from, std::int64_t, S*) { return from; }
  static HWY_INLINE void Narrow(const S* from, std::int64_t n, S* to) { std::copy_n(from, n, to); }

  // A block of scores as a left operand, by rows and by columns, each row up to end(row).
  struct Scores {
    explicit Scores(std::int64_t) {}
    template <class F> Left<S> ByRows(const S* s, std::int64_t s_row, std::int64_t, F) const {
      return {s, s_row, 1};
    }
    template <class F> Left<S> ByColumns(const S* s, std::int64_t s_row, std::int64_t, F) const {
      return {s, 1, s_row};
    }
  };
};

#if HWY_TARGET == HWY_AVX3
template <> struct Products<bfloat16> {
  using Sum = float;
  using Right = bf16::Word;
  static constexpr std::int64_t kWidth = bf16::kPanel;

  static std::int64_t RowSize(std::int64_t k) { return (k + 1) / 2 * 2; }
  static std::int64_t PanelRows(std::int64_t k) { return (k + 1) / 2; }
  static void Pack(const bfloat16* b, std::int64_t b_row, std::int64_t b_col, std::int64_t k,
                   std::int64_t columns, Right* to) {
    bf16::pack(b, b_col, b_row, k, columns, kWidth, to);
  }
  // In whole pairs: what a range of k cuts off one is zero on the left.
  static void Multiply(std::int64_t height, std::int64_t width, Left<bfloat16> a, std::int64_t r,
                       Range k, const Right* panel, float* c, std::int64_t c_row, bool add) {
    const std::int64_t begin = k.begin / 2 * 2;
    const auto* at = reinterpret_cast<const char*>(a.at + r * a.row + begin * a.step);
    bf16::tile(height, width)((k.end - begin + 1) / 2, {at, 2 * a.row, 4 * a.step},
                              panel + begin / 2 * kWidth, c, c_row, add, nullptr);
  }
  static const float* Widened(const bfloat16* from, std::int64_t n, float* buffer) {
    bf16::widen(from, n, buffer);
    return buffer;
  }
  static void Narrow(const float* from, std::int64_t n, bfloat16* to) { bf16::narrow(from, n, to); }

  struct Scores {
    Scratch<bfloat16> rounded;
    explicit Scores(std::int64_t size) : rounded(size) {}
    template <class F>
    Left<bfloat16> ByRows(const float* s, std::int64_t s_row, std::int64_t rows, F end) const {
      for (std::int64_t r = 0; r < rows; ++r)
        bf16::narrow(s + r * s_row, RowSize(end(r)), rounded.get() + r * s_row);
      return {rounded.get(), s_row, 1};
    }
    template <class F>
    Left<bfloat16> ByColumns(const float* s, std::int64_t s_row, std::int64_t rows, F end) const {
      alignas(64) static constexpr float zeros[kKeyBlock] = {};
      for (std::int64_t r = 0; r < rows; r += 2) {
        const bool pair = r + 1 < rows;
        bf16::narrow_pairs(s + r * s_row, pair ? s + (r + 1) * s_row : zeros, end(pair ? r + 1 : r),
                           reinterpret_cast<bf16::Word*>(rounded.get() + r * s_row));
      }
      return {rounded.get(), 2, s_row};
    }
  };
};
#endif

template <class S> using SumOf = typename Products<S>::Sum;

template <class S> HWY_INLINE std::int64_t RoundToWidth(std::int64_t n) {
  constexpr std::int64_t w = Products<S>::kWidth;
  return (n + w - 1) / w * w;
}
template <class T> HWY_INLINE std::int64_t RoundToLanes(std::int64_t n) {
  return (n + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
}

// A right operand [k, columns]: panel c / kWidth holds its columns from c on.
template <class S> struct RightOperand {
  using P = Products<S>;
  std::int64_t panel_rows;
  Scratch<typename P::Right> packed;

  RightOperand(std::int64_t k, std::int64_t columns)
      : panel_rows(P::PanelRows(k)), packed(RoundToWidth<S>(columns) * panel_rows) {}
  HWY_INLINE void Pack(const S* b, std::int64_t b_row, std::int64_t b_col, std::int64_t k,
                       std::int64_t columns) const {
    for (std::int64_t c = 0; c < columns; c += P::kWidth) {
      P::Pack(b + c * b_col, b_row, b_col, k, std::min(P::kWidth, columns - c),
              packed.get() + c * panel_rows);
    }
  }
  // The panel of column c, from row k on.
  HWY_INLINE const typename P::Right* Panel(std::int64_t c, std::int64_t k = 0) const {
    return packed.get() + c * panel_rows + P::PanelRows(k) * P::kWidth;
  }
};

// C[rows, columns] (+)= A B, of B the rows from `b_begin` on. Writes whole vectors. span(r, rows)
// gives the range of k that tile row r needs: where a mask made the rest zero.
template <class S, class Span>
HWY_INLINE void Product(std::int64_t rows, std::int64_t columns, Left<S> a,
                        const RightOperand<S>& b, std::int64_t b_begin, SumOf<S>* c,
                        std::int64_t c_row, bool add, Span span) {
  using P = Products<S>;
  for (std::int64_t j = 0; j < columns; j += P::kWidth) {
    const std::int64_t width = RoundToLanes<SumOf<S>>(std::min(P::kWidth, columns - j));
    const auto* panel = b.Panel(j, b_begin);
    for (std::int64_t r = 0; r < rows; r += kTileRows) {
      const std::int64_t height = std::min<std::int64_t>(kTileRows, rows - r);
      P::Multiply(height, width, a, r, span(r, height), panel, c + r * c_row + j, c_row, add);
    }
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace lg::kernels
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
