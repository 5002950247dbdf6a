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
#include "lightgrad/kernels/attention_products-inl.h"
#include "lightgrad/kernels/attention_task.h"
#include "lightgrad/kernels/philox-inl.h"
#include "lightgrad/kernels/row_chunks.h"
#include "lightgrad/kernels/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lg::kernels {
namespace HWY_NAMESPACE {
namespace {

// One block: queries [i, i + rows) against keys [j, j + keys) of batch b, head h.
struct Block {
  std::int64_t b, h, i, rows, j, keys;
};

// How many of the block's keys query i + r sees.
template <class S>
HWY_INLINE std::int64_t Seen(const Attention<S>& a, const Block& at, std::int64_t r) {
  return a.causal ? std::clamp<std::int64_t>(at.i + r + 1 - at.j, 0, at.keys) : at.keys;
}

// s[r, c] = left[r, :] . right[:, j + c]; tiles wholly above the diagonal are left out.
template <class S>
HWY_INLINE void Scores(const Attention<S>& a, const Block& at, Left<S> left, std::int64_t depth,
                       const RightOperand<S>& right, SumOf<S>* s, std::int64_t s_row) {
  using P = Products<S>;
  for (std::int64_t c = 0; c < at.keys; c += P::kWidth) {
    const std::int64_t width = RoundToLanes<SumOf<S>>(std::min(P::kWidth, at.keys - c));
    const auto* panel = right.Panel(at.j + c);
    for (std::int64_t r = 0; r < at.rows; r += kTileRows) {
      const std::int64_t height = std::min<std::int64_t>(kTileRows, at.rows - r);
      if (Seen(a, at, r + height - 1) <= c) continue;
      P::Multiply(height, width, left, r, {0, depth}, panel, s + r * s_row + c, s_row, false);
    }
  }
}

// s[c] = s[c] scale + mask, for the keys that query i + r sees.
template <class S, class T>
HWY_INLINE void AddMask(const Attention<S>& a, const Block& at, std::int64_t r, std::int64_t seen,
                        T* s) {
  const std::int64_t* stride = a.mask_stride;
  const S* mask =
      a.mask + at.b * stride[0] + at.h * stride[1] + (at.i + r) * stride[2] + at.j * stride[3];
  HWY_ALIGN T buffer[kKeyBlock];
  const T* row = buffer;
  if (stride[3] == 1)
    row = Products<S>::Widened(mask, seen, buffer);
  else
    for (std::int64_t c = 0; c < seen; ++c) buffer[c] = static_cast<T>(mask[c * stride[3]]);
  const Tag<T> d;
  const auto scale = hn::Set(d, a.scale);
  EachVector(d, seen, [&](int, std::int64_t c, std::int64_t lanes) LIGHTGRAD_LANES {
    StoreLanes(hn::MulAdd(LoadLanes(d, s + c, lanes), scale, LoadLanes(d, row + c, lanes)), d,
               s + c, lanes);
  });
}

// The words of the block's row r, one per key.
template <class S>
HWY_INLINE const std::uint32_t* DropoutWords(const Attention<S>& a, const Block& at, std::int64_t r,
                                             std::int64_t seen, std::uint32_t* buffer) {
  const std::int64_t row = (at.b * a.heads + at.h) * a.query_len + at.i + r;
  return RandomWords(a.dropout, static_cast<std::uint64_t>(row * a.key_len + at.j), seen, buffer);
}

// Up to where tiles may read a row of scores of which this many are seen.
HWY_INLINE std::int64_t ReadEnd(std::int64_t seen, std::int64_t keys) {
  return std::min(keys, seen + kTileRows);
}

// Zeroes from the end of the vector that holds the last seen key to there.
template <class T> HWY_INLINE void ZeroBeyond(T* s, std::int64_t seen, std::int64_t keys) {
  const Tag<T> d;
  for (std::int64_t c = RoundToLanes<T>(seen); c < ReadEnd(seen, keys); c += kLanes<T>)
    hn::StoreU(hn::Zero(d), d, s + c);
}

// v in its first `lanes` lanes, `rest` in the others. Score buffers are padded, so their rows are
// read in whole vectors.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V FirstLanes(D d, V v, std::int64_t lanes, V rest) {
  if (static_cast<std::size_t>(lanes) == hn::Lanes(d)) return v;
  return hn::IfThenElse(hn::FirstN(d, static_cast<std::size_t>(lanes)), v, rest);
}

// Turns scores into exp(score scale - running maximum) and carries maximum, sum and the factor for
// what was summed before.
template <class T> HWY_INLINE T OnlineSoftmax(T* s, std::int64_t seen, T scale, MaxSum<T>& row) {
  const Tag<T> d;
  const auto factor_v = hn::Set(d, scale);
  const auto low = hn::Set(d, -std::numeric_limits<T>::infinity());
  Slots<Tag<T>> most(-std::numeric_limits<T>::infinity()), sum(T(0));
  EachVector(d, seen, [&](int slot, std::int64_t c, std::int64_t lanes) LIGHTGRAD_LANES {
    const auto x = hn::Mul(hn::LoadU(d, s + c), factor_v);
    most.v[slot] = hn::Max(most.v[slot], FirstLanes(d, x, lanes, low));
  });
  const T before = row.max, block_max = most.max();
  if (block_max > row.max) row.max = block_max;
  // While everything is -inf the shift is 0, so that nothing becomes NaN; +inf stays and does.
  const T shift = row.max == -std::numeric_limits<T>::infinity() ? T(0) : row.max;
  const auto shift_v = hn::Set(d, shift);
  EachVector(d, seen, [&](int slot, std::int64_t c, std::int64_t lanes) LIGHTGRAD_LANES {
    const auto x = FirstLanes(d, hn::Mul(hn::LoadU(d, s + c), factor_v), lanes, low);
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

// to[i] = from[i] factor, computed in place where that is not what is stored.
template <class S, class T> HWY_INLINE void StoreScaled(T* from, T factor, S* to, std::int64_t n) {
  if constexpr (std::is_same_v<S, T>) {
    ScaleRow(from, factor, to, n);
  } else {
    ScaleRow(from, factor, from, n);
    Products<S>::Narrow(from, n, to);
  }
}

// Rows of q or g, one behind the other, as a left operand. A last pair's missing half is zero.
template <class S> struct LeftRows {
  std::int64_t size, n;
  Scratch<S> rows;
  explicit LeftRows(std::int64_t width)
      : size(Products<S>::RowSize(width)), n(width), rows(kQueryBlock * size) {
    if (size > n) std::fill_n(rows.get(), kQueryBlock * size, S());
  }
  HWY_INLINE Left<S> Copy(const S* from, std::int64_t from_row, std::int64_t count) const {
    for (std::int64_t r = 0; r < count; ++r)
      std::copy_n(from + r * from_row, n, rows.get() + r * size);
    return {rows.get(), size, 1};
  }
};

template <class S>
void Forward(const Attention<S>& a, const AttentionTask& t, S* out, SumOf<S>* lse) {
  using T = SumOf<S>;
  const std::int64_t D = a.head_dim, E = a.value_dim, key_end = t.KeyEnd(a);
  const std::int64_t acc_row = RoundToWidth<S>(E), s_row = ScoreStride<T>(key_end);
  const RightOperand<S> kt(D, key_end), vp(key_end, E);
  const LeftRows<S> q_rows(D);
  const typename Products<S>::Scores weights(kQueryBlock * s_row);
  Scratch<T> acc(kQueryBlock * acc_row), s(kQueryBlock * s_row);
  kt.Pack(At(a.k, a.k_stride, t), 1, a.k_stride[2], D, key_end);
  vp.Pack(At(a.v, a.v_stride, t), a.v_stride[2], 1, key_end, E);
  const S* q = At(a.q, a.q_stride, t);
  S* o = At(out, a.out_stride, t);
  const Keep<T> keep(static_cast<double>(a.dropout_p));
  HWY_ALIGN std::uint32_t words[kKeyBlock + kRandomSlack] = {};

  for (std::int64_t i = t.begin; i < t.end; i += kQueryBlock) {
    Block at{t.b, t.h, i, std::min(kQueryBlock, t.end - i), 0, 0};
    const Left<S> queries = q_rows.Copy(q + i * a.q_stride[2], a.q_stride[2], at.rows);
    MaxSum<T> row[kQueryBlock];
    std::fill_n(row, at.rows, MaxSum<T>{-std::numeric_limits<T>::infinity(), T(0)});
    std::fill_n(acc.get(), at.rows * acc_row, T(0));
    const std::int64_t last = a.causal ? std::min(key_end, i + at.rows) : key_end;
    for (at.j = 0; at.j < last; at.j += kKeyBlock) {
      at.keys = std::min(kKeyBlock, last - at.j);
      Scores(a, at, queries, D, kt, s.get(), s_row);
      for (std::int64_t r = 0; r < at.rows; ++r) {
        T* scores = s.get() + r * s_row;
        const std::int64_t seen = Seen(a, at, r);
        if (a.mask) AddMask(a, at, r, seen, scores);
        const T factor = OnlineSoftmax(scores, seen, a.mask ? T(1) : a.scale, row[r]);
        if (at.j > 0 && factor != T(1))
          ScaleRow(acc.get() + r * acc_row, factor, acc.get() + r * acc_row, acc_row);
        if (a.dropout_p > 0) DropScores(keep, DropoutWords(a, at, r, seen, words), seen, scores);
        ZeroBeyond(scores, seen, at.keys);
      }
      const auto end = [&](std::int64_t r) { return ReadEnd(Seen(a, at, r), at.keys); };
      Product(at.rows, E, weights.ByRows(s.get(), s_row, at.rows, end), vp, at.j, acc.get(),
              acc_row, true, [&](std::int64_t r, std::int64_t height) {
                return Range{0, Seen(a, at, r + height - 1)};
              });
    }
    for (std::int64_t r = 0; r < at.rows; ++r) {
      const T sum = row[r].sum;
      StoreScaled(acc.get() + r * acc_row, sum == T(0) ? T(0) : T(1) / sum,
                  o + (i + r) * a.out_stride[2], E);
      lse[t.Row(a) + i + r] = row[r].max + (sum == T(0) ? T(0) : std::log(sum));
    }
  }
}

// From scores s, still to be scaled by s_scale, and products u = g v^T of a row: s = p times the
// dropout factor, u = ds, the gradient for q k^T.
template <class T>
HWY_INLINE void ScoreGradient(T* s, T s_scale, T* u, T scale, std::int64_t seen, T lse, T dot,
                              const Keep<T>* keep, const std::uint32_t* words) {
  const Tag<T> d;
  // A row that saw nothing has lse -inf: +inf makes its probabilities 0.
  const T inf = std::numeric_limits<T>::infinity();
  const auto shift = hn::Set(d, lse == -inf ? inf : lse), mean = hn::Set(d, dot);
  const auto zero = hn::Zero(d), s_factor = hn::Set(d, s_scale), factor = hn::Set(d, scale);
  EachVector(d, seen, [&](int, std::int64_t c, std::int64_t lanes) LIGHTGRAD_LANES {
    const auto x = hn::Mul(hn::LoadU(d, s + c), s_factor);
    auto p = FirstLanes(d, ShiftedExp(d, hn::Sub(x, shift)), lanes, zero);
    auto v = hn::LoadU(d, u + c);
    const auto undropped = p;
    if (keep) {
      const auto kept = (*keep)(words + c);
      p = hn::Mul(p, kept);
      v = hn::Mul(v, kept);
    }
    hn::StoreU(p, d, s + c);
    const auto ds = hn::Mul(hn::Mul(undropped, hn::Sub(v, mean)), factor);
    hn::StoreU(FirstLanes(d, ds, lanes, zero), d, u + c);
  });
}

// dk and dv are sums over the task's queries, [key_len, panels of head_dim or value_dim], zeroed
// here.
template <class S>
void Backward(const Attention<S>& a, const AttentionGradient<S>& gradient, const AttentionTask& t,
              SumOf<S>* dk, SumOf<S>* dv) {
  using P = Products<S>;
  using T = SumOf<S>;
  const std::int64_t D = a.head_dim, E = a.value_dim, key_end = t.KeyEnd(a);
  const std::int64_t k_row = RoundToWidth<S>(D), v_row = RoundToWidth<S>(E),
                     s_row = ScoreStride<T>(key_end);
  const RightOperand<S> kt(D, key_end), vt(E, key_end), kp(key_end, D), qp(kQueryBlock, D),
      gp(kQueryBlock, E);
  const LeftRows<S> q_rows(D), g_rows(E);
  const std::int64_t score_size = kQueryBlock * s_row;
  const typename P::Scores p_left(score_size), u_left(score_size);
  Scratch<T> dq(kQueryBlock * k_row), s(score_size), u(score_size), wide(2 * E);
  const S *q = At(a.q, a.q_stride, t), *k = At(a.k, a.k_stride, t), *v = At(a.v, a.v_stride, t);
  const S *g = At(gradient.g, gradient.g_stride, t), *out = At(gradient.out, a.out_stride, t);
  kt.Pack(k, 1, a.k_stride[2], D, key_end);
  vt.Pack(v, 1, a.v_stride[2], E, key_end);
  if (gradient.dq) kp.Pack(k, a.k_stride[2], 1, key_end, D);
  std::fill_n(dk, a.key_len * k_row, T(0));
  std::fill_n(dv, a.key_len * v_row, T(0));
  const Keep<T> keep(static_cast<double>(a.dropout_p));
  const bool dropping = a.dropout_p > 0;
  HWY_ALIGN std::uint32_t words[kKeyBlock + kRandomSlack] = {};
  const Tag<T> d;

  for (std::int64_t i = t.begin; i < t.end; i += kQueryBlock) {
    Block at{t.b, t.h, i, std::min(kQueryBlock, t.end - i), 0, 0};
    const S *q_at = q + i * a.q_stride[2], *g_at = g + i * gradient.g_stride[2];
    const Left<S> queries = q_rows.Copy(q_at, a.q_stride[2], at.rows),
                  gradients = g_rows.Copy(g_at, gradient.g_stride[2], at.rows);
    T dot[kQueryBlock];
    for (std::int64_t r = 0; r < at.rows; ++r) {
      const T* gr = P::Widened(g_at + r * gradient.g_stride[2], E, wide.get());
      const T* o = P::Widened(out + (i + r) * a.out_stride[2], E, wide.get() + E);
      Slots<Tag<T>> sum(T(0));
      EachVector(d, E, [&](int slot, std::int64_t c, std::int64_t lanes) LIGHTGRAD_LANES {
        sum.v[slot] =
            hn::MulAdd(LoadLanes(d, gr + c, lanes), LoadLanes(d, o + c, lanes), sum.v[slot]);
      });
      dot[r] = sum.sum();
    }
    qp.Pack(q_at, a.q_stride[2], 1, at.rows, D);
    gp.Pack(g_at, gradient.g_stride[2], 1, at.rows, E);
    const std::int64_t last = a.causal ? std::min(key_end, i + at.rows) : key_end;
    for (at.j = 0; at.j < last; at.j += kKeyBlock) {
      at.keys = std::min(kKeyBlock, last - at.j);
      Scores(a, at, queries, D, kt, s.get(), s_row);
      Scores(a, at, gradients, E, vt, u.get(), s_row);
      for (std::int64_t r = 0; r < at.rows; ++r) {
        T *scores = s.get() + r * s_row, *products = u.get() + r * s_row;
        const std::int64_t seen = Seen(a, at, r);
        if (a.mask) AddMask(a, at, r, seen, scores);
        const std::uint32_t* row_words = dropping ? DropoutWords(a, at, r, seen, words) : nullptr;
        ScoreGradient(scores, a.mask ? T(1) : a.scale, products, a.scale, seen,
                      gradient.lse[t.Row(a) + i + r], dot[r], dropping ? &keep : nullptr,
                      row_words);
        ZeroBeyond(scores, seen, at.keys);
        ZeroBeyond(products, seen, at.keys);
      }
      const auto end = [&](std::int64_t r) { return ReadEnd(Seen(a, at, r), at.keys); };
      if (gradient.dq) {
        Product(at.rows, D, u_left.ByRows(u.get(), s_row, at.rows, end), kp, at.j, dq.get(), k_row,
                at.j > 0, [&](std::int64_t r, std::int64_t height) {
                  return Range{0, Seen(a, at, r + height - 1)};
                });
      }
      // Key j + c is seen from query j + c on: earlier rows of its tile add nothing.
      const auto since = [&](std::int64_t c, std::int64_t) {
        return Range{a.causal ? std::clamp<std::int64_t>(at.j + c - i, 0, at.rows) : 0, at.rows};
      };
      if (gradient.dv) {
        Product(at.keys, E, p_left.ByColumns(s.get(), s_row, at.rows, end), gp, 0,
                dv + at.j * v_row, v_row, true, since);
      }
      if (gradient.dk) {
        Product(at.keys, D, u_left.ByColumns(u.get(), s_row, at.rows, end), qp, 0,
                dk + at.j * k_row, k_row, true, since);
      }
    }
    if (!gradient.dq) continue;
    if (last == 0) std::fill_n(dq.get(), at.rows * k_row, T(0));
    S* to = At(gradient.dq, gradient.dq_stride, t) + i * gradient.dq_stride[2];
    for (std::int64_t r = 0; r < at.rows; ++r)
      P::Narrow(dq.get() + r * k_row, D, to + r * gradient.dq_stride[2]);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace lg::kernels
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
