// attention.cpp: tasks for the threads: batch and head, and where those are few, ranges of queries
// as well. Such ranges have sums of dk and dv of their own, added in rising order.
#include "lightgrad/kernels/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "lightgrad/base/parallel.h"
#include "lightgrad/kernels/attention_task.h"
#include "lightgrad/kernels/per_target.h"
#include "lightgrad/kernels/row_chunks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lightgrad/kernels/attention.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "lightgrad/kernels/attention-inl.h"

#ifndef LIGHTGRAD_KERNELS_ATTENTION_TABLE
#define LIGHTGRAD_KERNELS_ATTENTION_TABLE
namespace lg::kernels {
template <class T> struct AttentionKernels {
  std::int64_t panel;  // rows of the sums dk and dv are padded to a multiple of it
  using Number = AttentionNumber<T>;
  void (*forward)(const Attention<T>&, const AttentionTask&, T* out, Number* lse);
  void (*backward)(const Attention<T>&, const AttentionGradient<T>&, const AttentionTask&,
                   Number* dk, Number* dv);
};
}  // namespace lg::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace lg::kernels {
namespace HWY_NAMESPACE {
namespace {
template <class T>
constexpr AttentionKernels<T> kKernels{Products<T>::kWidth, &Forward<T>, &Backward<T>};
}  // namespace
const AttentionKernels<bfloat16>* AttentionBf16() {
#if HWY_TARGET == HWY_AVX3
  return &kKernels<bfloat16>;
#else
  return nullptr;  // no has_bf16_products()
#endif
}
LIGHTGRAD_EXPORT_TABLE(Attention, AttentionKernels, kKernels)
}  // namespace HWY_NAMESPACE
}  // namespace lg::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lg::kernels {
LIGHTGRAD_CHOOSE_TABLE(Attention, AttentionKernels, kernels_for)
HWY_EXPORT(AttentionBf16);
namespace {
template <> const AttentionKernels<bfloat16>& kernels_for<bfloat16>() {
  return *HWY_DYNAMIC_DISPATCH(AttentionBf16)();
}

// Tasks in the order batch, head, part of the queries.
struct Tasks {
  std::int64_t heads, query_len, blocks, parts, count;

  template <class T>
  explicit Tasks(const Attention<T>& a) : heads(a.heads), query_len(a.query_len) {
    const std::int64_t all = a.batch * a.heads, enough = 16;
    blocks = (a.query_len + kQueryBlock - 1) / kQueryBlock;
    parts = std::max<std::int64_t>(
        1, std::min(blocks, (enough + all - 1) / std::max<std::int64_t>(1, all)));
    count = all * parts;
  }
  AttentionTask operator[](std::int64_t i) const {
    const std::int64_t part = i % parts, head = i / parts;
    return {head / heads, head % heads, blocks * part / parts * kQueryBlock,
            std::min(query_len, blocks * (part + 1) / parts * kQueryBlock)};
  }
};

// to[r, :] = sum over parts p of sums[p][r, :], added up in the first part's place, for rows
// [begin, end) of padded width `row`.
template <class N, class T>
void combine(N* sums, std::int64_t parts, std::int64_t part_size, std::int64_t row,
             std::int64_t begin, std::int64_t end, std::int64_t width, T* to, std::int64_t to_row) {
  for (std::int64_t r = begin; r < end; ++r) {
    N* const sum = sums + r * row;
    for (std::int64_t p = 1; p < parts; ++p) {
      const N* from = sum + p * part_size;
      for (std::int64_t c = 0; c < width; ++c) sum[c] += from[c];
    }
    T* const out = to + r * to_row;
    for (std::int64_t c = 0; c < width; ++c) out[c] = static_cast<T>(sum[c]);
  }
}
}  // namespace

template <class T> void attention_forward(const Attention<T>& a, T* out, AttentionNumber<T>* lse) {
  const auto& kernels = kernels_for<T>();
  const Tasks tasks(a);
  parallel_chunks(tasks.count, [&](std::int64_t i) { kernels.forward(a, tasks[i], out, lse); });
}

template <class T>
void attention_backward(const Attention<T>& a, const AttentionGradient<T>& gradient) {
  const auto& kernels = kernels_for<T>();
  const Tasks tasks(a);
  const auto padded = [&](std::int64_t n) {
    return (n + kernels.panel - 1) / kernels.panel * kernels.panel;
  };
  const std::int64_t k_row = padded(a.head_dim), v_row = padded(a.value_dim),
                     size = a.key_len * (k_row + v_row);
  // Puts the sums of one head's parts, `sums` [parts][key_len * (k_row + v_row)], where they
  // belong.
  using Number = AttentionNumber<T>;
  const auto finish = [&](const AttentionTask& t, Number* sums, std::int64_t begin,
                          std::int64_t end) {
    if (gradient.dk) {
      combine(sums, tasks.parts, size, k_row, begin, end, a.head_dim,
              At(gradient.dk, gradient.dk_stride, t), gradient.dk_stride[2]);
    }
    if (gradient.dv) {
      combine(sums + a.key_len * k_row, tasks.parts, size, v_row, begin, end, a.value_dim,
              At(gradient.dv, gradient.dv_stride, t), gradient.dv_stride[2]);
    }
  };
  if (tasks.parts == 1) {
    parallel_chunks(tasks.count, [&](std::int64_t i) {
      Scratch<Number> sums(size);
      kernels.backward(a, gradient, tasks[i], sums.get(), sums.get() + a.key_len * k_row);
      finish(tasks[i], sums.get(), 0, a.key_len);
    });
    return;
  }
  Scratch<Number> sums(tasks.count * size);
  parallel_chunks(tasks.count, [&](std::int64_t i) {
    Number* own = sums.get() + i * size;
    kernels.backward(a, gradient, tasks[i], own, own + a.key_len * k_row);
  });
  const std::int64_t grain = 64, pieces = (a.key_len + grain - 1) / grain;
  parallel_chunks(a.batch * a.heads * pieces, [&](std::int64_t i) {
    const std::int64_t first = i / pieces * tasks.parts, begin = i % pieces * grain;
    finish(tasks[first], sums.get() + first * size, begin, std::min(begin + grain, a.key_len));
  });
}

namespace {
// f(task, query, scores): scores of one row after scale, mask and causality.
template <class T, class F> void each_row_of_scores(const Attention<T>& a, F f) {
  std::vector<T> scores(static_cast<std::size_t>(a.key_len));
  for (std::int64_t b = 0; b < a.batch; ++b) {
    for (std::int64_t h = 0; h < a.heads; ++h) {
      const AttentionTask t{b, h, 0, a.query_len};
      for (std::int64_t i = 0; i < a.query_len; ++i) {
        for (std::int64_t j = 0; j < a.key_len; ++j) {
          const T *q = At(a.q, a.q_stride, t) + i * a.q_stride[2],
                  *k = At(a.k, a.k_stride, t) + j * a.k_stride[2];
          T dot = 0;
          for (std::int64_t c = 0; c < a.head_dim; ++c) dot += q[c] * k[c];
          dot *= a.scale;
          const std::int64_t* m = a.mask_stride;
          if (a.mask) dot += a.mask[b * m[0] + h * m[1] + i * m[2] + j * m[3]];
          scores[static_cast<std::size_t>(j)] =
              a.causal && j > i ? -std::numeric_limits<T>::infinity() : dot;
        }
        f(t, i, scores.data());
      }
    }
  }
}

template <class T>
T dropout_factor(const Attention<T>& a, const AttentionTask& t, std::int64_t i, std::int64_t j) {
  if (a.dropout_p <= 0) return T(1);
  const auto index = static_cast<std::uint64_t>((t.Row(a) + i) * a.key_len + j);
  const bool kept =
      a.dropout_p < 1 && random_word(a.dropout, index) >= static_cast<double>(a.dropout_p) * 0x1p32;
  return kept ? static_cast<T>(1 / (1 - static_cast<double>(a.dropout_p))) : T(0);
}
}  // namespace

template <class T> void attention_forward_reference(const Attention<T>& a, T* out, T* lse) {
  each_row_of_scores(a, [&](const AttentionTask& t, std::int64_t i, const T* scores) {
    T max = -std::numeric_limits<T>::infinity(), sum = 0;
    for (std::int64_t j = 0; j < a.key_len; ++j) max = scores[j] > max ? scores[j] : max;
    const bool nothing =
        std::all_of(scores, scores + a.key_len, [&](T s) { return s == -INFINITY; });
    for (std::int64_t j = 0; j < a.key_len && !nothing; ++j) sum += std::exp(scores[j] - max);
    lse[t.Row(a) + i] = nothing ? max : max + std::log(sum);
    T* o = At(out, a.out_stride, t) + i * a.out_stride[2];
    for (std::int64_t c = 0; c < a.value_dim; ++c) {
      T y = 0;
      for (std::int64_t j = 0; j < a.key_len && !nothing; ++j) {
        const T p = std::exp(scores[j] - max) / sum * dropout_factor(a, t, i, j);
        y += p * (At(a.v, a.v_stride, t) + j * a.v_stride[2])[c];
      }
      o[c] = y;
    }
  });
}

template <class T>
void attention_backward_reference(const Attention<T>& a, const AttentionGradient<T>& gradient) {
  const auto zero = [&](T* to, const std::int64_t(&stride)[3], std::int64_t rows,
                        std::int64_t width) {
    for (std::int64_t i = 0; to && i < a.batch * a.heads * rows; ++i) {
      const AttentionTask t{i / rows / a.heads, i / rows % a.heads, 0, 0};
      std::fill_n(At(to, stride, t) + i % rows * stride[2], width, T(0));
    }
  };
  zero(gradient.dq, gradient.dq_stride, a.query_len, a.head_dim);
  zero(gradient.dk, gradient.dk_stride, a.key_len, a.head_dim);
  zero(gradient.dv, gradient.dv_stride, a.key_len, a.value_dim);
  each_row_of_scores(a, [&](const AttentionTask& t, std::int64_t i, const T* scores) {
    const T lse = gradient.lse[t.Row(a) + i];
    const T* g = At(gradient.g, gradient.g_stride, t) + i * gradient.g_stride[2];
    const T* o = At(gradient.out, a.out_stride, t) + i * a.out_stride[2];
    const T* q = At(a.q, a.q_stride, t) + i * a.q_stride[2];
    T dot = 0;
    for (std::int64_t c = 0; c < a.value_dim; ++c) dot += g[c] * o[c];
    for (std::int64_t j = 0; j < a.key_len; ++j) {
      const T p = lse == -INFINITY ? T(0) : std::exp(scores[j] - lse),
              factor = dropout_factor(a, t, i, j);
      const T *k = At(a.k, a.k_stride, t) + j * a.k_stride[2],
              *v = At(a.v, a.v_stride, t) + j * a.v_stride[2];
      T dp = 0;
      for (std::int64_t c = 0; c < a.value_dim; ++c) dp += g[c] * v[c];
      const T ds = p * (dp * factor - dot) * a.scale;
      for (std::int64_t c = 0; gradient.dv && c < a.value_dim; ++c) {
        (At(gradient.dv, gradient.dv_stride, t) + j * gradient.dv_stride[2])[c] +=
            p * factor * g[c];
      }
      for (std::int64_t c = 0; c < a.head_dim; ++c) {
        if (gradient.dq)
          (At(gradient.dq, gradient.dq_stride, t) + i * gradient.dq_stride[2])[c] += ds * k[c];
        if (gradient.dk)
          (At(gradient.dk, gradient.dk_stride, t) + j * gradient.dk_stride[2])[c] += ds * q[c];
      }
    }
  });
}

#define LIGHTGRAD_INSTANTIATE(T)                                                      \
  template void attention_forward(const Attention<T>&, T*, T*);                       \
  template void attention_backward(const Attention<T>&, const AttentionGradient<T>&); \
  template void attention_forward_reference(const Attention<T>&, T*, T*);             \
  template void attention_backward_reference(const Attention<T>&, const AttentionGradient<T>&);
LIGHTGRAD_INSTANTIATE(float)
LIGHTGRAD_INSTANTIATE(double)
#undef LIGHTGRAD_INSTANTIATE
template void attention_forward(const Attention<bfloat16>&, bfloat16*, float*);
template void attention_backward(const Attention<bfloat16>&, const AttentionGradient<bfloat16>&);

}  // namespace lg::kernels
#endif  // HWY_ONCE
