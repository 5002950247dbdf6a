// optimizer.cpp: elementwise updates; memory bandwidth is the limit, so nothing is visited twice.
#include "lightgrad/kernels/optimizer.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <type_traits>

#include "lightgrad/base/parallel.h"
#include "lightgrad/kernels/per_target.h"
#include "lightgrad/kernels/row_chunks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lightgrad/kernels/optimizer.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "lightgrad/kernels/philox-inl.h"
#include "lightgrad/kernels/rows-inl.h"

#ifndef LIGHTGRAD_KERNELS_OPTIMIZER_TABLE
#define LIGHTGRAD_KERNELS_OPTIMIZER_TABLE
namespace lg::kernels {
// Kernels of one chunk of one tensor.
template <class T> struct OptimizerChunk {
  void (*sgd)(const SgdOptions&, const SgdTensor<T>&);
  void (*adam)(const AdamOptions&, const AdamTensor<T>&);
  void (*sgd_bfloat16)(const SgdOptions&, const SgdTensor<float, bfloat16>&);
  void (*adam_bfloat16)(const AdamOptions&, const AdamTensor<float, bfloat16>&);
  double (*sum_of_squares)(const T* x, std::int64_t n);
  bool (*scale)(T* x, std::int64_t n, T factor);
};
}  // namespace lg::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace lg::kernels {
namespace HWY_NAMESPACE {
namespace {

// f(begin, n, words) for pieces of a tensor; the words are null where the state is not rounded.
template <class Row, class F> HWY_INLINE void EachPiece(const Row& t, bool rounds, F f) {
  if (!rounds) return f(0, t.n, static_cast<const std::uint32_t*>(nullptr));
  constexpr std::int64_t piece = 1024;
  HWY_ALIGN std::uint32_t buffer[piece + kRandomSlack] = {};
  for (std::int64_t at = 0; at < t.n; at += piece) {
    const std::int64_t length = std::min(piece, t.n - at);
    f(at, length,
      RandomWords(t.rounding, static_cast<std::uint64_t>(t.first + at), length, buffer));
  }
}

// v as a state; round_by_chance with the low, or the high, halves of the words from k on.
template <int shift, class D, class S>
HWY_INLINE void StoreState(D d, hn::Vec<D> v, S* p, std::int64_t lanes, const std::uint32_t* words,
                           std::int64_t k) {
  if constexpr (std::is_same_v<S, hn::TFromD<D>>) {
    StoreLanes(v, d, p, lanes);
  } else {
    const hn::RebindToUnsigned<D> du;
    const auto chance =
        hn::And(hn::ShiftRight<shift>(hn::LoadU(du, words + k)), hn::Set(du, 0xffffu));
    const auto rounded = hn::Add(hn::BitCast(du, v), chance), quiet = hn::Set(du, 0x7fc00000u);
    StoreUpper(hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(v)), quiet, rounded), du, p, lanes);
  }
}

template <bool momentum, class T, class S>
HWY_INLINE void SgdLoop(const SgdOptions& o, const SgdTensor<T, S>& t) {
  const Tag<T> d;
  const auto set = [&](double x) LIGHTGRAD_LANES { return hn::Set(d, static_cast<T>(x)); };
  const auto scale = set(o.maximize ? -o.grad_scale : o.grad_scale), decay = set(o.weight_decay),
             rate = set(o.lr);
  const auto keep = set(o.momentum), take = set(1 - o.dampening);
  EachPiece(t, momentum && !std::is_same_v<T, S>,
            [&](std::int64_t begin, std::int64_t n, const std::uint32_t* words) LIGHTGRAD_LANES {
              EachVector(d, n, [&](int, std::int64_t k, std::int64_t lanes) LIGHTGRAD_LANES {
                const std::int64_t i = begin + k;
                const auto p = LoadLanes(d, t.p + i, lanes);
                auto g = hn::Mul(LoadLanes(d, t.g + i, lanes), scale);
                if (o.weight_decay != 0) g = hn::MulAdd(decay, p, g);
                if constexpr (momentum) {
                  auto buffer = g;
                  if (!o.first_step)
                    buffer = hn::MulAdd(keep, LoadLanes(d, t.momentum_buffer + i, lanes),
                                        hn::Mul(take, g));
                  StoreState<0>(d, buffer, t.momentum_buffer + i, lanes, words, k);
                  g = o.nesterov ? hn::MulAdd(keep, buffer, g) : buffer;
                }
                StoreLanes(hn::NegMulAdd(rate, g, p), d, t.p + i, lanes);
              });
            });
}

template <class T, class S> void Sgd(const SgdOptions& o, const SgdTensor<T, S>& t) {
  if (o.momentum != 0) {
    SgdLoop<true>(o, t);
  } else {
    SgdLoop<false>(o, t);
  }
}

template <bool amsgrad, class T, class S>
HWY_INLINE void AdamLoop(const AdamOptions& o, const AdamTensor<T, S>& t) {
  const Tag<T> d;
  const auto set = [&](double x) LIGHTGRAD_LANES { return hn::Set(d, static_cast<T>(x)); };
  const auto scale = set(o.maximize ? -o.grad_scale : o.grad_scale);
  const auto shrink = set(o.decoupled ? 1 - o.lr * o.weight_decay : 1);
  const auto decay = set(o.decoupled ? 0 : o.weight_decay);
  const auto take1 = set(1 - o.beta1), keep2 = set(o.beta2), take2 = set(1 - o.beta2);
  const auto root2 = set(1 / std::sqrt(o.bias_correction2)), eps = set(o.eps),
             rate = set(o.lr / o.bias_correction1);
  const bool coupled = !o.decoupled && o.weight_decay != 0;
  EachPiece(t, !std::is_same_v<T, S>,
            [&](std::int64_t begin, std::int64_t n, const std::uint32_t* words) LIGHTGRAD_LANES {
              EachVector(d, n, [&](int, std::int64_t k, std::int64_t lanes) LIGHTGRAD_LANES {
                const std::int64_t i = begin + k;
                auto p = LoadLanes(d, t.p + i, lanes),
                     g = hn::Mul(LoadLanes(d, t.g + i, lanes), scale);
                if (coupled) g = hn::MulAdd(decay, p, g);
                p = hn::Mul(p, shrink);
                auto m = LoadLanes(d, t.m + i, lanes), v = LoadLanes(d, t.v + i, lanes);
                m = hn::MulAdd(take1, hn::Sub(g, m), m);
                v = hn::MulAdd(keep2, v, hn::Mul(hn::Mul(take2, g), g));
                StoreState<0>(d, m, t.m + i, lanes, words, k);
                StoreState<16>(d, v, t.v + i, lanes, words, k);
                if constexpr (amsgrad) {
                  const auto most = LoadLanes(d, t.vmax + i, lanes);
                  v = hn::IfThenElse(hn::Ge(most, v), most, v);  // a NaN in v goes through
                  StoreState<16>(d, v, t.vmax + i, lanes, words, k);
                }
                const auto denominator = hn::MulAdd(hn::Sqrt(v), root2, eps);
                StoreLanes(hn::NegMulAdd(rate, hn::Div(m, denominator), p), d, t.p + i, lanes);
              });
            });
}

template <class T, class S> void Adam(const AdamOptions& o, const AdamTensor<T, S>& t) {
  if (o.amsgrad) {
    AdamLoop<true>(o, t);
  } else {
    AdamLoop<false>(o, t);
  }
}

template <class T> double SumOfSquares(const T* x, std::int64_t n) {
  const Tag<double> d;
  Slots<Tag<double>> sum(0.0);
  EachVector(d, n, [&](int s, std::int64_t i, std::int64_t lanes) LIGHTGRAD_LANES {
    if constexpr (sizeof(T) == sizeof(double)) {
      const auto v = LoadLanes(d, x + i, lanes);
      sum.v[s] = hn::MulAdd(v, v, sum.v[s]);
    } else {
      const hn::Rebind<T, Tag<double>> narrow;
      const auto v = hn::PromoteTo(d, LoadLanes(narrow, x + i, lanes));
      sum.v[s] = hn::MulAdd(v, v, sum.v[s]);
    }
  });
  return sum.sum();
}

// 0 times a product is 0, or NaN where that is not finite: their sum tells, at no cost beside the
// memory's.
template <class T> bool Scale(T* x, std::int64_t n, T factor) {
  const Tag<T> d;
  const auto f = hn::Set(d, factor), zero = hn::Zero(d);
  Slots<Tag<T>> zeros(T(0));
  EachVector(d, n, [&](int s, std::int64_t i, std::int64_t lanes) LIGHTGRAD_LANES {
    const auto y = hn::Mul(LoadLanes(d, x + i, lanes), f);
    zeros.v[s] = hn::MulAdd(y, zero, zeros.v[s]);
    StoreLanes(y, d, x + i, lanes);
  });
  return zeros.sum() == 0;
}

template <class T>
constexpr OptimizerChunk<T> kChunk{
    &Sgd<T, T>,       &Adam<T, T>, &Sgd<float, bfloat16>, &Adam<float, bfloat16>,
    &SumOfSquares<T>, &Scale<T>};

}  // namespace
LIGHTGRAD_EXPORT_TABLE(Optimizer, OptimizerChunk, kChunk)
}  // namespace HWY_NAMESPACE
}  // namespace lg::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lg::kernels {
LIGHTGRAD_CHOOSE_TABLE(Optimizer, OptimizerChunk, chunk_kernels)

namespace {
constexpr std::int64_t kChunkSize = 16384;

// f(tensor, begin, end, c) for pieces of at most kChunkSize elements. Chunk c is elements [c, c +
// 1) * kChunkSize of all tensors laid end to end, so that many small tensors cost no more than one
// large one.
template <class Tensor, class F> void each_chunk(std::span<const Tensor> tensors, F f) {
  const auto size = [](const Tensor& t) {
    if constexpr (requires { t.n; })
      return t.n;
    else
      return static_cast<std::int64_t>(t.size());
  };
  const auto count = static_cast<std::int64_t>(tensors.size());
  Scratch<std::int64_t> ends(count);
  std::int64_t total = 0;
  for (std::int64_t k = 0; k < count; ++k)
    ends[k] = total += size(tensors[static_cast<std::size_t>(k)]);
  parallel_for(total, kChunkSize, [&](std::int64_t begin, std::int64_t end) {
    std::int64_t k = std::upper_bound(ends.get(), ends.get() + count, begin) - ends.get();
    for (std::int64_t at = begin; at < end; ++k) {
      const Tensor& tensor = tensors[static_cast<std::size_t>(k)];
      const std::int64_t start = ends[k] - size(tensor), stop = std::min(end, ends[k]);
      if (at < stop) f(tensor, at - start, stop - start, begin / kChunkSize);
      at = stop;
    }
  });
}

template <class T, class S, class Chunk>
void each_sgd(Chunk chunk, const SgdOptions& options, std::span<const SgdTensor<T, S>> tensors) {
  each_chunk(
      tensors, [&](const SgdTensor<T, S>& t, std::int64_t begin, std::int64_t end, std::int64_t) {
        chunk(options,
              {t.p + begin, t.g + begin, t.momentum_buffer ? t.momentum_buffer + begin : nullptr,
               end - begin, t.rounding, t.first + begin});
      });
}

template <class T, class S, class Chunk>
void each_adam(Chunk chunk, const AdamOptions& options, std::span<const AdamTensor<T, S>> tensors) {
  each_chunk(tensors, [&](const AdamTensor<T, S>& t, std::int64_t begin, std::int64_t end,
                          std::int64_t) {
    chunk(options, {t.p + begin, t.g + begin, t.m + begin, t.v + begin,
                    t.vmax ? t.vmax + begin : nullptr, end - begin, t.rounding, t.first + begin});
  });
}
}  // namespace

template <class T>
void sgd_steps(const SgdOptions& options, std::span<const SgdTensor<T>> tensors) {
  each_sgd(chunk_kernels<T>().sgd, options, tensors);
}
template <class T>
void adam_steps(const AdamOptions& options, std::span<const AdamTensor<T>> tensors) {
  each_adam(chunk_kernels<T>().adam, options, tensors);
}
void sgd_steps_bfloat16(const SgdOptions& options,
                        std::span<const SgdTensor<float, bfloat16>> tensors) {
  each_sgd(chunk_kernels<float>().sgd_bfloat16, options, tensors);
}
void adam_steps_bfloat16(const AdamOptions& options,
                         std::span<const AdamTensor<float, bfloat16>> tensors) {
  each_adam(chunk_kernels<float>().adam_bfloat16, options, tensors);
}

template <class T> double sum_of_squares(std::span<const std::span<const T>> tensors) {
  const auto chunk = chunk_kernels<T>().sum_of_squares;
  std::int64_t total = 0;
  for (const auto& t : tensors) total += static_cast<std::int64_t>(t.size());
  const std::int64_t chunks = (total + kChunkSize - 1) / kChunkSize;
  Scratch<double> partial(chunks);
  std::fill_n(partial.get(), chunks, 0.0);
  each_chunk(tensors, [&](std::span<const T> x, std::int64_t begin, std::int64_t end,
                          std::int64_t c) { partial[c] += chunk(x.data() + begin, end - begin); });
  double sum = 0;
  for (std::int64_t c = 0; c < chunks; ++c) sum += partial[c];
  return sum;
}

template <class T> bool scale_inplace(std::span<const std::span<T>> tensors, T factor) {
  const auto chunk = chunk_kernels<T>().scale;
  std::atomic<bool> finite{true};
  each_chunk(tensors, [&](std::span<T> x, std::int64_t begin, std::int64_t end, std::int64_t) {
    if (!chunk(x.data() + begin, end - begin, factor))
      finite.store(false, std::memory_order_relaxed);
  });
  return finite;
}

namespace {
template <class T, class S>
void keep_state(S& state, T value, Stream rounding, std::int64_t i, int shift) {
  if constexpr (std::is_same_v<T, S>) {
    state = value;
  } else {
    const std::uint32_t word = random_word(rounding, static_cast<std::uint64_t>(i));
    state = round_by_chance(value, static_cast<std::uint16_t>(word >> shift));
  }
}
}  // namespace

template <class T, class S>
void sgd_step_reference(const SgdOptions& o, T* p, const T* g, S* momentum_buffer, std::int64_t n,
                        Stream rounding) {
  for (std::int64_t i = 0; i < n; ++i) {
    T d = g[i] * static_cast<T>(o.maximize ? -o.grad_scale : o.grad_scale) +
          static_cast<T>(o.weight_decay) * p[i];
    if (o.momentum != 0) {
      const T buffer = o.first_step
                           ? d
                           : static_cast<T>(o.momentum) * static_cast<T>(momentum_buffer[i]) +
                                 static_cast<T>(1 - o.dampening) * d;
      keep_state(momentum_buffer[i], buffer, rounding, i, 0);
      d = o.nesterov ? d + static_cast<T>(o.momentum) * buffer : buffer;
    }
    p[i] -= static_cast<T>(o.lr) * d;
  }
}

template <class T, class S>
void adam_step_reference(const AdamOptions& o, T* p, const T* g, S* m, S* v, S* vmax,
                         std::int64_t n, Stream rounding) {
  for (std::int64_t i = 0; i < n; ++i) {
    T d = g[i] * static_cast<T>(o.maximize ? -o.grad_scale : o.grad_scale);
    if (o.decoupled) {
      p[i] *= static_cast<T>(1 - o.lr * o.weight_decay);
    } else {
      d += static_cast<T>(o.weight_decay) * p[i];
    }
    T first = static_cast<T>(m[i]);
    first += static_cast<T>(1 - o.beta1) * (d - first);
    T second = static_cast<T>(o.beta2) * static_cast<T>(v[i]) + static_cast<T>(1 - o.beta2) * d * d;
    keep_state(m[i], first, rounding, i, 0);
    keep_state(v[i], second, rounding, i, 16);
    if (o.amsgrad) {
      second = std::max(static_cast<T>(vmax[i]), second);
      keep_state(vmax[i], second, rounding, i, 16);
    }
    const T denominator =
        std::sqrt(second) / static_cast<T>(std::sqrt(o.bias_correction2)) + static_cast<T>(o.eps);
    p[i] -= static_cast<T>(o.lr / o.bias_correction1) * first / denominator;
  }
}

#define LIGHTGRAD_INSTANTIATE_REFERENCE(T, S)                                                   \
  template void sgd_step_reference(const SgdOptions&, T*, const T*, S*, std::int64_t, Stream);  \
  template void adam_step_reference(const AdamOptions&, T*, const T*, S*, S*, S*, std::int64_t, \
                                    Stream);
LIGHTGRAD_INSTANTIATE_REFERENCE(float, bfloat16)
#define LIGHTGRAD_INSTANTIATE(T)                                                \
  template void sgd_steps(const SgdOptions&, std::span<const SgdTensor<T>>);    \
  template void adam_steps(const AdamOptions&, std::span<const AdamTensor<T>>); \
  template double sum_of_squares(std::span<const std::span<const T>>);          \
  template bool scale_inplace(std::span<const std::span<T>>, T);                \
  LIGHTGRAD_INSTANTIATE_REFERENCE(T, T)
LIGHTGRAD_INSTANTIATE(float)
LIGHTGRAD_INSTANTIATE(double)
#undef LIGHTGRAD_INSTANTIATE
#undef LIGHTGRAD_INSTANTIATE_REFERENCE

}  // namespace lg::kernels
#endif  // HWY_ONCE
