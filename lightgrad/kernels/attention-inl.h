// attention-inl.h: one task of attention, per SIMD target: the queries [begin, end) of one batch
// and head. Keys and values are packed once per task into panels for the tile of gemm-inl.h; then
// each block of queries meets each block of keys: scores by tiles, softmax by rows in L2, products
// by tiles again. Knows nothing of threads.
#if defined(LIGHTGRAD_KERNELS_ATTENTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LIGHTGRAD_KERNELS_ATTENTION_INL_H_
#undef LIGHTGRAD_KERNELS_ATTENTION_INL_H_
#else
#define LIGHTGRAD_KERNELS_ATTENTION_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "hwy/highway.h"
#include "lightgrad/kernels/attention.h"
#include "lightgrad/kernels/attention_task.h"
#include "lightgrad/kernels/gemm-inl.h"
#include "lightgrad/kernels/philox-inl.h"
#include "lightgrad/kernels/row_chunks.h"
#include "lightgrad/kernels/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lg::kernels {
namespace HWY_NAMESPACE {
namespace {

template <class T> HWY_INLINE std::int64_t RoundToPanel(std::int64_t n) {
  return (n + kPanel<T> - 1) / kPanel<T> * kPanel<T>;
}
template <class T> HWY_INLINE std::int64_t RoundToLanes(std::int64_t n) {
  return (n + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
}

// All of a matrix with `columns` columns in panels: panel c / kPanel holds its k rows.
template <class T>
HWY_INLINE void PackMatrix(const T* b, std::int64_t b_row, std::int64_t b_col, std::int64_t k,
                           std::int64_t columns, T* to) {
  for (std::int64_t c = 0; c < columns; c += kPanel<T>) {
    PackPanel(b + c * b_col, b_row, b_col, k, std::min(kPanel<T>, columns - c), to + c * k);
  }
}

// C[rows, columns] (+)= A B, B a packed matrix of b_rows rows of which those from `b_begin` on are
// meant. Writes whole vectors. span(r, rows) gives the range of k that tile row r needs: where a
// mask made the rest zero. A tile is told to prefetch its own panel, which is near: the default, a
// null address, would cost a page walk each time.
template <class T, class Span>
HWY_INLINE void Product(std::int64_t rows, std::int64_t columns, const T* a, std::int64_t a_row,
                        std::int64_t a_col, const T* b, std::int64_t b_rows, std::int64_t b_begin,
                        T* c, std::int64_t c_row, bool add, Span span) {
  for (std::int64_t j = 0; j < columns; j += kPanel<T>) {
    const std::int64_t width = RoundToLanes<T>(std::min(kPanel<T>, columns - j));
    const T* panel = b + j * b_rows + b_begin * kPanel<T>;
    for (std::int64_t r = 0; r < rows; r += kTileRows) {
      const std::int64_t height = std::min<std::int64_t>(kTileRows, rows - r);
      const Range k = span(r, height);
      PickTile<T>(height, width)(k.end - k.begin, a + r * a_row + k.begin * a_col, a_row, a_col,
                                 panel + k.begin * kPanel<T>, kPanel<T>, c + r * c_row + j, c_row,
                                 width, add, {panel, 0});
    }
  }
}

// One block: queries [i, i + rows) against keys [j, j + keys) of batch b, head h.
struct Block {
  std::int64_t b, h, i, rows, j, keys;
};

// How many of the block's keys query i + r sees.
template <class T>
HWY_INLINE std::int64_t Seen(const Attention<T>& a, const Block& at, std::int64_t r) {
  return a.causal ? std::clamp<std::int64_t>(at.i + r + 1 - at.j, 0, at.keys) : at.keys;
}

// s[r, c] = left[r, :] . right[j + c, :], right packed transposed; tiles wholly above the diagonal
// are left out.
template <class T>
HWY_INLINE void Scores(const Attention<T>& a, const Block& at, const T* left, std::int64_t left_row,
                       std::int64_t depth, const T* right, T* s, std::int64_t s_row) {
  for (std::int64_t c = 0; c < at.keys; c += kPanel<T>) {
    const std::int64_t width = RoundToLanes<T>(std::min(kPanel<T>, at.keys - c));
    const T* panel = right + (at.j + c) * depth;
    for (std::int64_t r = 0; r < at.rows; r += kTileRows) {
      const std::int64_t height = std::min<std::int64_t>(kTileRows, at.rows - r);
      if (Seen(a, at, r + height - 1) <= c) continue;
      PickTile<T>(height, width)(depth, left + r * left_row, left_row, 1, panel, kPanel<T>,
                                 s + r * s_row + c, s_row, width, false, {panel, 0});
    }
  }
}

// s[c] += mask for the keys that query i + r sees.
template <class T>
HWY_INLINE void AddMask(const Attention<T>& a, const Block& at, std::int64_t r, std::int64_t seen,
                        T* s) {
  const std::int64_t* stride = a.mask_stride;
  const T* mask =
      a.mask + at.b * stride[0] + at.h * stride[1] + (at.i + r) * stride[2] + at.j * stride[3];
  if (stride[3] == 1) {
    const Tag<T> d;
    EachVector(d, seen, [&](int, std::int64_t c, std::int64_t lanes) LIGHTGRAD_LANES {
      StoreLanes(hn::Add(LoadLanes(d, s + c, lanes), LoadLanes(d, mask + c, lanes)), d, s + c,
                 lanes);
    });
  } else {
    for (std::int64_t c = 0; c < seen; ++c) s[c] += mask[c * stride[3]];
  }
}

// The words of the block's row r, one per key.
template <class T>
HWY_INLINE const std::uint32_t* DropoutWords(const Attention<T>& a, const Block& at, std::int64_t r,
                                             std::int64_t seen, std::uint32_t* buffer) {
  const std::int64_t row = (at.b * a.heads + at.h) * a.query_len + at.i + r;
  return RandomWords(a.dropout, static_cast<std::uint64_t>(row * a.key_len + at.j), seen, buffer);
}

// Zeroes from the end of the vector that holds the last seen key to where tiles over this row may
// read.
template <class T> HWY_INLINE void ZeroBeyond(T* s, std::int64_t seen, std::int64_t keys) {
  const Tag<T> d;
  const std::int64_t end = std::min(keys, seen + kTileRows);
  for (std::int64_t c = RoundToLanes<T>(seen); c < end; c += kLanes<T>)
    hn::StoreU(hn::Zero(d), d, s + c);
}

// v in its first `lanes` lanes, `rest` in the others. Score buffers are padded, so their rows are
// read in whole vectors.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V FirstLanes(D d, V v, std::int64_t lanes, V rest) {
  if (static_cast<std::size_t>(lanes) == hn::Lanes(d)) return v;
  return hn::IfThenElse(hn::FirstN(d, static_cast<std::size_t>(lanes)), v, rest);
}

// Turns scores into exp(score - running maximum) and carries maximum, sum and the factor for what
// was summed before.
template <class T> HWY_INLINE T OnlineSoftmax(T* s, std::int64_t seen, MaxSum<T>& row) {
  const Tag<T> d;
  const auto low = hn::Set(d, -std::numeric_limits<T>::infinity());
  Slots<Tag<T>> most(-std::numeric_limits<T>::infinity()), sum(T(0));
  EachVector(d, seen, [&](int slot, std::int64_t c, std::int64_t lanes) LIGHTGRAD_LANES {
    most.v[slot] = hn::Max(most.v[slot], FirstLanes(d, hn::LoadU(d, s + c), lanes, low));
  });
  const T before = row.max, block_max = most.max();
  if (block_max > row.max) row.max = block_max;
  // While everything is -inf the shift is 0, so that nothing becomes NaN; +inf stays and does.
  const T shift = row.max == -std::numeric_limits<T>::infinity() ? T(0) : row.max;
  const auto shift_v = hn::Set(d, shift);
  EachVector(d, seen, [&](int slot, std::int64_t c, std::int64_t lanes) LIGHTGRAD_LANES {
    const auto x = FirstLanes(d, hn::LoadU(d, s + c), lanes, low);
    const auto e = ShiftedExp(d, hn::Sub(x, shift_v));
    sum.v[slot] = hn::Add(sum.v[slot], e);
    hn::StoreU(e, d, s + c);
  });
  // Before the first score above -inf there is nothing to rescale.
  const T factor = row.max == before || std::isinf(before) ? T(1) : std::exp(before - shift);
  row.sum = row.sum * factor + sum.sum();
  return factor;
}

template <class T>
HWY_INLINE void DropScores(const Keep<T>& keep, const std::uint32_t* words, std::int64_t seen,
                           T* s) {
  const Tag<T> d;
  for (std::int64_t c = 0; c < seen; c += kLanes<T>) {
    hn::StoreU(hn::Mul(hn::LoadU(d, s + c), keep(words + c)), d,
               s + c);  // beyond `seen` the score is 0
  }
}

template <class T> HWY_INLINE void ScaleRow(const T* from, T factor, T* to, std::int64_t n) {
  const Tag<T> d;
  const auto f = hn::Set(d, factor);
  EachVector(d, n, [&](int, std::int64_t i, std::int64_t lanes) LIGHTGRAD_LANES {
    StoreLanes(hn::Mul(LoadLanes(d, from + i, lanes), f), d, to + i, lanes);
  });
}

template <class T> void Forward(const Attention<T>& a, const AttentionTask& t, T* out, T* lse) {
  const std::int64_t D = a.head_dim, E = a.value_dim, key_end = t.KeyEnd(a);
  const std::int64_t acc_row = RoundToPanel<T>(E), s_row = ScoreStride<T>(key_end);
  Scratch<T> kt(RoundToPanel<T>(key_end) * D), vp(acc_row * key_end), scaled_q(kQueryBlock * D),
      acc(kQueryBlock * acc_row), s(kQueryBlock * s_row);
  PackMatrix(At(a.k, a.k_stride, t), 1, a.k_stride[2], D, key_end, kt.get());
  PackMatrix(At(a.v, a.v_stride, t), a.v_stride[2], 1, key_end, E, vp.get());
  const T* q = At(a.q, a.q_stride, t);
  T* o = At(out, a.out_stride, t);
  const Keep<T> keep(static_cast<double>(a.dropout_p));
  HWY_ALIGN std::uint32_t words[kKeyBlock + kRandomSlack] = {};

  for (std::int64_t i = t.begin; i < t.end; i += kQueryBlock) {
    Block at{t.b, t.h, i, std::min(kQueryBlock, t.end - i), 0, 0};
    for (std::int64_t r = 0; r < at.rows; ++r) {
      ScaleRow(q + (i + r) * a.q_stride[2], a.scale, scaled_q.get() + r * D, D);
    }
    MaxSum<T> row[kQueryBlock];
    std::fill_n(row, at.rows, MaxSum<T>{-std::numeric_limits<T>::infinity(), T(0)});
    std::fill_n(acc.get(), at.rows * acc_row, T(0));
    const std::int64_t last = a.causal ? std::min(key_end, i + at.rows) : key_end;
    for (at.j = 0; at.j < last; at.j += kKeyBlock) {
      at.keys = std::min(kKeyBlock, last - at.j);
      Scores(a, at, scaled_q.get(), D, D, kt.get(), s.get(), s_row);
      for (std::int64_t r = 0; r < at.rows; ++r) {
        T* scores = s.get() + r * s_row;
        const std::int64_t seen = Seen(a, at, r);
        if (a.mask) AddMask(a, at, r, seen, scores);
        const T factor = OnlineSoftmax(scores, seen, row[r]);
        if (at.j > 0 && factor != T(1))
          ScaleRow(acc.get() + r * acc_row, factor, acc.get() + r * acc_row, acc_row);
        if (a.dropout_p > 0) DropScores(keep, DropoutWords(a, at, r, seen, words), seen, scores);
        ZeroBeyond(scores, seen, at.keys);
      }
      Product(at.rows, E, s.get(), s_row, 1, vp.get(), key_end, at.j, acc.get(), acc_row, true,
              [&](std::int64_t r, std::int64_t height) {
                return Range{0, Seen(a, at, r + height - 1)};
              });
    }
    for (std::int64_t r = 0; r < at.rows; ++r) {
      const T sum = row[r].sum;
      ScaleRow(acc.get() + r * acc_row, sum == T(0) ? T(0) : T(1) / sum,
               o + (i + r) * a.out_stride[2], E);
      lse[t.Row(a) + i + r] = row[r].max + (sum == T(0) ? T(0) : std::log(sum));
    }
  }
}

// From scores s and products u = g v^T of a row: s = p times the dropout factor, u = ds / scale.
template <class T>
HWY_INLINE void ScoreGradient(T* s, T* u, std::int64_t seen, T lse, T dot, const Keep<T>* keep,
                              const std::uint32_t* words) {
  const Tag<T> d;
  // A row that saw nothing has lse -inf: +inf makes its probabilities 0.
  const T inf = std::numeric_limits<T>::infinity();
  const auto shift = hn::Set(d, lse == -inf ? inf : lse), mean = hn::Set(d, dot);
  const auto zero = hn::Zero(d);
  EachVector(d, seen, [&](int, std::int64_t c, std::int64_t lanes) LIGHTGRAD_LANES {
    auto p = FirstLanes(d, ShiftedExp(d, hn::Sub(hn::LoadU(d, s + c), shift)), lanes, zero);
    auto v = hn::LoadU(d, u + c);
    const auto undropped = p;
    if (keep) {
      const auto factor = (*keep)(words + c);
      p = hn::Mul(p, factor);
      v = hn::Mul(v, factor);
    }
    hn::StoreU(p, d, s + c);
    hn::StoreU(FirstLanes(d, hn::Mul(undropped, hn::Sub(v, mean)), lanes, zero), d, u + c);
  });
}

// dk and dv are sums over the task's queries, [key_len, panels of head_dim or value_dim], zeroed
// here.
template <class T>
void Backward(const Attention<T>& a, const AttentionGradient<T>& gradient, const AttentionTask& t,
              T* dk, T* dv) {
  const std::int64_t D = a.head_dim, E = a.value_dim, key_end = t.KeyEnd(a);
  const std::int64_t k_row = RoundToPanel<T>(D), v_row = RoundToPanel<T>(E),
                     s_row = ScoreStride<T>(key_end);
  const std::int64_t keys_padded = RoundToPanel<T>(key_end);
  Scratch<T> kt(keys_padded * D), vt(keys_padded * E), kp(key_end * k_row),
      scaled_q(kQueryBlock * D), qp(kQueryBlock * k_row), gp(kQueryBlock * v_row),
      dq(kQueryBlock * k_row), s(kQueryBlock * s_row), u(kQueryBlock * s_row);
  const T *q = At(a.q, a.q_stride, t), *k = At(a.k, a.k_stride, t), *v = At(a.v, a.v_stride, t);
  const T *g = At(gradient.g, gradient.g_stride, t), *out = At(gradient.out, a.out_stride, t);
  PackMatrix(k, 1, a.k_stride[2], D, key_end, kt.get());
  PackMatrix(v, 1, a.v_stride[2], E, key_end, vt.get());
  if (gradient.dq) PackMatrix(k, a.k_stride[2], 1, key_end, D, kp.get());
  std::fill_n(dk, a.key_len * k_row, T(0));
  std::fill_n(dv, a.key_len * v_row, T(0));
  const Keep<T> keep(static_cast<double>(a.dropout_p));
  const bool dropping = a.dropout_p > 0;
  HWY_ALIGN std::uint32_t words[kKeyBlock + kRandomSlack] = {};
  const Tag<T> d;

  for (std::int64_t i = t.begin; i < t.end; i += kQueryBlock) {
    Block at{t.b, t.h, i, std::min(kQueryBlock, t.end - i), 0, 0};
    const T* g_rows = g + i * gradient.g_stride[2];
    T dot[kQueryBlock];
    for (std::int64_t r = 0; r < at.rows; ++r) {
      ScaleRow(q + (i + r) * a.q_stride[2], a.scale, scaled_q.get() + r * D, D);
      const T *gr = g_rows + r * gradient.g_stride[2], *o = out + (i + r) * a.out_stride[2];
      Slots<Tag<T>> sum(T(0));
      EachVector(d, E, [&](int slot, std::int64_t c, std::int64_t lanes) LIGHTGRAD_LANES {
        sum.v[slot] =
            hn::MulAdd(LoadLanes(d, gr + c, lanes), LoadLanes(d, o + c, lanes), sum.v[slot]);
      });
      dot[r] = sum.sum();
    }
    PackMatrix(scaled_q.get(), D, 1, at.rows, D, qp.get());
    PackMatrix(g_rows, gradient.g_stride[2], 1, at.rows, E, gp.get());
    const std::int64_t last = a.causal ? std::min(key_end, i + at.rows) : key_end;
    for (at.j = 0; at.j < last; at.j += kKeyBlock) {
      at.keys = std::min(kKeyBlock, last - at.j);
      Scores(a, at, scaled_q.get(), D, D, kt.get(), s.get(), s_row);
      Scores(a, at, g_rows, gradient.g_stride[2], E, vt.get(), u.get(), s_row);
      for (std::int64_t r = 0; r < at.rows; ++r) {
        T *scores = s.get() + r * s_row, *products = u.get() + r * s_row;
        const std::int64_t seen = Seen(a, at, r);
        if (a.mask) AddMask(a, at, r, seen, scores);
        const std::uint32_t* row_words = dropping ? DropoutWords(a, at, r, seen, words) : nullptr;
        ScoreGradient(scores, products, seen, gradient.lse[t.Row(a) + i + r], dot[r],
                      dropping ? &keep : nullptr, row_words);
        ZeroBeyond(scores, seen, at.keys);
        ZeroBeyond(products, seen, at.keys);
      }
      if (gradient.dq) {
        Product(at.rows, D, u.get(), s_row, 1, kp.get(), key_end, at.j, dq.get(), k_row, at.j > 0,
                [&](std::int64_t r, std::int64_t height) {
                  return Range{0, Seen(a, at, r + height - 1)};
                });
      }
      // Key j + c is seen from query j + c on: earlier rows of its tile add nothing.
      const auto queries = [&](std::int64_t c, std::int64_t) {
        return Range{a.causal ? std::clamp<std::int64_t>(at.j + c - i, 0, at.rows) : 0, at.rows};
      };
      if (gradient.dv) {
        Product(at.keys, E, s.get(), 1, s_row, gp.get(), at.rows, 0, dv + at.j * v_row, v_row, true,
                queries);
      }
      if (gradient.dk) {
        Product(at.keys, D, u.get(), 1, s_row, qp.get(), at.rows, 0, dk + at.j * k_row, k_row, true,
                queries);
      }
    }
    if (!gradient.dq) continue;
    if (last == 0) std::fill_n(dq.get(), at.rows * k_row, T(0));
    T* to = At(gradient.dq, gradient.dq_stride, t) + i * gradient.dq_stride[2];
    for (std::int64_t r = 0; r < at.rows; ++r) {
      ScaleRow(dq.get() + r * k_row, a.scale, to + r * gradient.dq_stride[2], D);
    }
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace lg::kernels
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
