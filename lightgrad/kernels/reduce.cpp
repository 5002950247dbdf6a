// reduce.cpp: sum, max and min fold whole vectors, along rows or row upon row; the other reductions
// are plain code over runs, which a driver cuts from rows or, for inner > 1, gathers by tiles of
// columns.
#include "lightgrad/kernels/reduce.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "lightgrad/base/parallel.h"
#include "lightgrad/kernels/divide.h"
#include "lightgrad/kernels/reduce_folds.h"
#include "lightgrad/kernels/row_chunks.h"
#include "lightgrad/kernels/softmax.h"

#if defined(__GNUC__) && !defined(__clang__)
// GCC 12 unrolls loops over blocks of a constant size as if they went on for ever, and says so.
#pragma GCC diagnostic ignored "-Waggressive-loop-optimizations"
#endif

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lightgrad/kernels/reduce.cpp"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "lightgrad/kernels/reduce-inl.h"
#include "lightgrad/kernels/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lg::kernels {
namespace HWY_NAMESPACE {
namespace {

// 16 to 512 lanes of partial sums in flight: each adds up at most 512 / 16 values in T before it
// goes to double.
constexpr std::int64_t kBlock = 512;

template <class Fold, class T> HWY_INLINE T Block(const T* x, std::int64_t n) {
  const Tag<T> d;
  if constexpr (kGuarded<Fold, T>) {
    Slots<Tag<T>> best(Fold::template start<T>), sum(T(0));
    EachVector(d, n, [&](int slot, std::int64_t i, std::int64_t lanes) LIGHTGRAD_LANES {
      const auto v = LoadLanes(d, x + i, lanes, Fold::template start<T>);
      best.v[slot] = Extreme<Fold>(best.v[slot], v);
      sum.v[slot] = hn::Add(sum.v[slot], v);
    });
    const auto guard = hn::Add(hn::Add(sum.v[0], sum.v[1]), hn::Add(sum.v[2], sum.v[3]));
    if (HWY_LIKELY(hn::AllFalse(d, hn::IsNaN(guard)))) {
      return JoinLanes<Fold>(d, Extreme<Fold>(Extreme<Fold>(best.v[0], best.v[1]),
                                              Extreme<Fold>(best.v[2], best.v[3])));
    }
  }
  Slots<Tag<T>> s(Fold::template start<T>);
  EachVector(d, n, [&](int slot, std::int64_t i, std::int64_t lanes) LIGHTGRAD_LANES {
    s.v[slot] = Join<Fold>(d, s.v[slot], LoadLanes(d, x + i, lanes, Fold::template start<T>));
  });
  return JoinLanes<Fold>(
      d, Join<Fold>(d, Join<Fold>(d, s.v[0], s.v[1]), Join<Fold>(d, s.v[2], s.v[3])));
}

// Whole blocks have a constant size, which leaves no branch in them: with a loop's end mispredicted
// in each, rows of 1024 that come from memory took twice as long.
template <class Fold, class T, class P = typename Fold::template Partial<T>>
HWY_INLINE P Run(const T* x, std::int64_t n) {
  // An extreme loses nothing on the way: its row is one block.
  if (n < kBlock || kGuarded<Fold, T>) return static_cast<P>(Block<Fold>(x, n));
  const auto whole = [&](std::int64_t at)
                         LIGHTGRAD_LANES { return static_cast<P>(Block<Fold>(x + at, kBlock)); };
  P all = whole(0);
  std::int64_t i = kBlock;
  for (; i + kBlock <= n; i += kBlock) all = Fold::join(all, whole(i));
  if (i < n) all = Fold::join(all, static_cast<P>(Block<Fold>(x + i, n - i)));
  return all;
}

template <class Fold, class T> void Rows(const T* x, T* y, std::int64_t rows, std::int64_t n) {
  // Too short for vectors: the chains of several rows overlap. Comparisons would be branches, taken
  // at random.
  if (std::is_same_v<Fold, SumFold> && n < 16) {
    for (std::int64_t r = 0; r < rows; ++r, x += n) {
      T all = Fold::template start<T>;
      for (std::int64_t i = 0; i < n; ++i) all = Fold::join(all, x[i]);
      y[r] = all;
    }
  } else if (n <= kBlock) {
    for (std::int64_t r = 0; r < rows; ++r) y[r] = Block<Fold>(x + r * n, n);
  } else {
    for (std::int64_t r = 0; r < rows; ++r) y[r] = static_cast<T>(Run<Fold>(x + r * n, n));
  }
}

// Folds kRows rows into y (or writes y, if `first`), as a tree.
template <class Fold, int kRows, class T>
HWY_INLINE void ColumnGroup(const T* x, std::int64_t stride, std::int64_t width, T* y, bool first) {
  const Tag<T> d;
  EachVector(d, width, [&](int, std::int64_t j, std::int64_t lanes) LIGHTGRAD_LANES {
    const T* p = x + j;
    auto v = LoadLanes(d, p, lanes);
    if constexpr (kRows == 8) {
      const auto tree = [&](auto join) LIGHTGRAD_LANES {
        const auto row = [&](int r) LIGHTGRAD_LANES { return LoadLanes(d, p + r * stride, lanes); };
        return join(join(join(v, row(1)), join(row(2), row(3))),
                    join(join(row(4), row(5)), join(row(6), row(7))));
      };
      const auto careful = [&](auto a, auto b) LIGHTGRAD_LANES { return Join<Fold>(d, a, b); };
      if constexpr (kGuarded<Fold, T>) {
        const auto sum = tree([](auto a, auto b) LIGHTGRAD_LANES { return hn::Add(a, b); });
        if (HWY_LIKELY(hn::AllFalse(d, hn::IsNaN(sum))))
          v = tree([](auto a, auto b) LIGHTGRAD_LANES { return Extreme<Fold>(a, b); });
        else
          v = tree(careful);
      } else {
        v = tree(careful);
      }
    }
    if (!first) v = Join<Fold>(d, LoadLanes(d, y + j, lanes), v);
    StoreLanes(v, d, y + j, lanes);
  });
}

template <class Fold, class T>
void Columns(const T* x, std::int64_t rows, std::int64_t stride, std::int64_t width, T* y) {
  std::int64_t r = 0;
  for (; r + 8 <= rows; r += 8) ColumnGroup<Fold, 8>(x + r * stride, stride, width, y, r == 0);
  for (; r < rows; ++r) ColumnGroup<Fold, 1>(x + r * stride, stride, width, y, r == 0);
}

template <class Fold, class T>
constexpr FoldKernel<T, typename Fold::template Partial<T>> kFold{&Run<Fold, T>, &Rows<Fold, T>,
                                                                  &Columns<Fold, T>};
template <class T>
constexpr FoldKernels<T> kFolds{kFold<SumFold, T>, kFold<ExtremeFold<true>, T>,
                                kFold<ExtremeFold<false>, T>};

}  // namespace
const FoldKernels<float>* FoldFloat() { return &kFolds<float>; }
const FoldKernels<double>* FoldDouble() { return &kFolds<double>; }
const FoldKernels<std::int64_t>* FoldInt64() { return &kFolds<std::int64_t>; }
}  // namespace HWY_NAMESPACE
}  // namespace lg::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lg::kernels {
HWY_EXPORT(FoldFloat);
HWY_EXPORT(FoldDouble);
HWY_EXPORT(FoldInt64);

namespace {

template <class T> const FoldKernels<T>& fold_kernels() {
  if constexpr (std::is_same_v<T, float>)
    return *HWY_DYNAMIC_DISPATCH(FoldFloat)();
  else if constexpr (std::is_same_v<T, double>)
    return *HWY_DYNAMIC_DISPATCH(FoldDouble)();
  else
    return *HWY_DYNAMIC_DISPATCH(FoldInt64)();
}

// A longer row is cut into segments of this many elements, for threads to share: some microseconds
// each.
constexpr std::int64_t kSegment = 32768;

template <class Fold, class T>
void fold_rows(const T* x, T* y, std::int64_t outer, std::int64_t n) {
  using P = typename Fold::template Partial<T>;
  const auto& kernel = fold_kernels<T>().template get<Fold>();
  const std::int64_t segments = ceil_div(n, kSegment);
  if (segments == 1) {
    parallel_for(outer, row_grain(n), [&](std::int64_t begin, std::int64_t end) {
      kernel.rows(x + begin * n, y + begin, end - begin, n);
    });
    return;
  }
  const Scratch<P> partial(outer * segments);
  parallel_chunks(outer * segments, [&](std::int64_t unit) {
    const std::int64_t begin = unit % segments * kSegment;
    partial[unit] = kernel.run(x + unit / segments * n + begin, std::min(kSegment, n - begin));
  });
  for (std::int64_t r = 0; r < outer; ++r) {
    P all = partial[r * segments];
    for (std::int64_t s = 1; s < segments; ++s) all = Fold::join(all, partial[r * segments + s]);
    y[r] = static_cast<T>(all);
  }
}

// How [n, inner] is cut. Narrow rows are seen side by side, `group` of them as one row of `width`;
// the up to group - 1 rows that are left over are the tail.
struct ColumnPlan {
  std::int64_t group, width, rows, tail;
  std::int64_t row_block, row_blocks, width_block, width_blocks;

  ColumnPlan(std::int64_t n, std::int64_t inner) {
    group = std::clamp<std::int64_t>(64 / inner, 1, n);
    width = group * inner;  // at most max(64, inner)
    rows = n / group;
    tail = n % group;
    // y stays in L1 while rows stream past it; 512 rows are 64 additions in T, in groups of 8.
    width_block = std::min<std::int64_t>(width, 2048);
    row_block = std::clamp<std::int64_t>(65536 / width_block / 8 * 8, 32, 512);
    row_blocks = ceil_div(rows, row_block);
    width_blocks = ceil_div(width, width_block);
  }
};

// y[j] for j in [begin, end) of one [n, inner]: folds the partial results [blocks, width] and the
// tail.
template <class Fold, class T>
void join_columns(const ColumnPlan& plan, const T* partial, std::int64_t blocks, const T* tail,
                  std::int64_t inner, std::int64_t begin, std::int64_t end, T* y) {
  using P = typename Fold::template Partial<T>;
  P all[256];
  std::fill_n(all, end - begin, static_cast<P>(Fold::template start<T>));
  const auto add_row = [&](const T* row) {
    for (std::int64_t j = begin; j < end; ++j)
      all[j - begin] = Fold::join(all[j - begin], static_cast<P>(row[j]));
  };
  for (std::int64_t b = 0; b < blocks; ++b) {
    for (std::int64_t g = 0; g < plan.group; ++g) add_row(partial + b * plan.width + g * inner);
  }
  for (std::int64_t t = 0; t < plan.tail; ++t) add_row(tail + t * inner);
  for (std::int64_t j = begin; j < end; ++j) y[j] = static_cast<T>(all[j - begin]);
}

template <class Fold, class T>
void fold_columns(const T* x, T* y, std::int64_t outer, std::int64_t n, std::int64_t inner) {
  const auto& kernel = fold_kernels<T>().template get<Fold>();
  const ColumnPlan plan(n, inner);
  const bool split = plan.row_blocks > 1;
  const Scratch<T> partial(split ? outer * plan.row_blocks * plan.width : 0);
  const auto tail_of = [&](std::int64_t o) { return x + o * n * inner + plan.rows * plan.width; };

  const std::int64_t blocks = plan.row_blocks * plan.width_blocks;
  const std::int64_t unit_size = std::min(plan.rows, plan.row_block) * plan.width_block;
  parallel_for(outer * blocks, row_grain(unit_size), [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t unit = first; unit < last; ++unit) {
      const std::int64_t o = unit / blocks, b = unit % blocks / plan.width_blocks;
      const std::int64_t column = unit % plan.width_blocks * plan.width_block,
                         row = b * plan.row_block;
      const std::int64_t width = std::min(plan.width_block, plan.width - column);
      T wide[64];
      const bool narrow = !split && plan.group > 1;
      T* to = split    ? partial.get() + (o * plan.row_blocks + b) * plan.width + column
              : narrow ? wide
                       : y + o * inner + column;
      kernel.columns(x + o * n * inner + row * plan.width + column,
                     std::min(plan.row_block, plan.rows - row), plan.width, width, to);
      if (narrow) join_columns<Fold>(plan, wide, 1, tail_of(o), inner, 0, inner, y + o * inner);
    }
  });
  if (!split) return;
  const std::int64_t strips = ceil_div(inner, 256);
  parallel_for(outer * strips, row_grain(256 * plan.row_blocks * plan.group),
               [&](std::int64_t first, std::int64_t last) {
                 for (std::int64_t unit = first; unit < last; ++unit) {
                   const std::int64_t o = unit / strips, begin = unit % strips * 256;
                   join_columns<Fold>(plan, partial.get() + o * plan.row_blocks * plan.width,
                                      plan.row_blocks, tail_of(o), inner, begin,
                                      std::min(begin + 256, inner), y + o * inner);
                 }
               });
}

template <class Fold, class T>
void fold(const T* x, T* y, std::int64_t outer, std::int64_t n, std::int64_t inner) {
  if (outer == 0 || inner == 0) return;
  if (n == 0)
    std::fill_n(y, outer * inner, Fold::template start<T>);
  else if (inner == 1)
    fold_rows<Fold>(x, y, outer, n);
  else
    fold_columns<Fold>(x, y, outer, n, inner);
}

// Every other reduction. A row i of [outer, inner] is given to part(run, length, begin, i) as
// contiguous runs; what it returns is joined in rising order and handed to done(i, result). An
// empty row is one empty run.
template <class T, class Part, class Join, class Done>
void reduce_runs(const T* x, std::int64_t outer, std::int64_t n, std::int64_t inner, Part part,
                 Join join, Done done) {
  using P = decltype(part(x, n, n, n));
  if (outer == 0 || inner == 0) return;
  constexpr std::int64_t kTileRows = 1024,
                         kTileColumns = 16;  // a tile: a cache line wide, and at home in L2
  const std::int64_t segment = std::min(n, inner == 1 ? kSegment : kTileRows);
  const std::int64_t segments = n == 0 ? 1 : ceil_div(n, segment);
  const std::int64_t columns = std::min(inner, kTileColumns), tiles = ceil_div(inner, columns);
  const std::int64_t pitch =
      segment + 16;  // not a multiple of 4 KiB: all columns would meet in one set of L1
  const Scratch<P> partial(segments > 1 ? outer * inner * segments : 0);

  parallel_for(outer * segments * tiles, row_grain(segment * columns),
               [&](std::int64_t first, std::int64_t last) {
                 const Scratch<T> tile(inner == 1 ? 0 : columns * pitch);
                 for (std::int64_t unit = first; unit < last; ++unit) {
                   const std::int64_t column = unit % tiles * columns, s = unit / tiles % segments,
                                      o = unit / tiles / segments;
                   const std::int64_t begin = s * segment, length = std::min(segment, n - begin);
                   const std::int64_t width = std::min(columns, inner - column);
                   const T* from = x + (o * n + begin) * inner + column;
                   if (inner > 1) {
                     for (std::int64_t i = 0; i < length; ++i) {
                       for (std::int64_t c = 0; c < width; ++c)
                         tile[c * pitch + i] = from[i * inner + c];
                     }
                     from = tile.get();
                   }
                   for (std::int64_t c = 0; c < width; ++c) {
                     const std::int64_t i = o * inner + column + c;
                     const P p = part(from + c * pitch, length, begin, i);
                     if (segments == 1)
                       done(i, p);
                     else
                       partial[i * segments + s] = p;
                   }
                 }
               });
  if (segments == 1) return;
  for (std::int64_t i = 0; i < outer * inner; ++i) {
    P all = partial[i * segments];
    for (std::int64_t s = 1; s < segments; ++s) all = join(all, partial[i * segments + s]);
    done(i, all);
  }
}

// start joined with f(x[0]), f(x[1]), ... in eight chains.
template <class A, class T, class F, class Join>
A fold_run(const T* x, std::int64_t n, A start, F f, Join join) {
  A chain[8];
  std::fill_n(chain, 8, start);
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    for (int k = 0; k < 8; ++k) chain[k] = join(chain[k], f(x[i + k]));
  }
  for (int k = 0; i < n; ++i, ++k) chain[k] = join(chain[k], f(x[i]));
  for (int step = 4; step > 0; step /= 2) {
    for (int k = 0; k < step; ++k) chain[k] = join(chain[k], chain[k + step]);
  }
  return chain[0];
}
constexpr auto plus = [](auto a, auto b) { return a + b; };
constexpr auto times = [](auto a, auto b) { return a * b; };

template <class Fold, class T>
void reduce_arg(const T* x, std::int64_t* y, std::int64_t outer, std::int64_t n,
                std::int64_t inner) {
  struct Best {
    T value;
    std::int64_t index;
  };
  const auto extreme = fold_kernels<T>().template get<Fold>().run;
  reduce_runs(
      x, outer, n, inner,
      [&](const T* run, std::int64_t length, std::int64_t begin, std::int64_t) {
        const T value = extreme(run, length);
        const T* at = is_nan(value) ? std::find_if(run, run + length, is_nan<T>)
                                    : std::find(run, run + length, value);
        return Best{value, begin + (at - run)};
      },
      [](Best a, Best b) { return Fold::better(b.value, a.value) ? b : a; },
      [&](std::int64_t i, Best best) { y[i] = best.index; });
}

// What a variance is made of, and how two of them add up (Chan, Golub, LeVeque 1983).
struct Moments {
  double count, mean, m2;
};
Moments operator+(const Moments& a, const Moments& b) {
  const double count = a.count + b.count, delta = b.mean - a.mean;
  return {count, a.mean + delta * (b.count / count),
          a.m2 + b.m2 + delta * delta * (a.count * b.count / count)};
}

// (sum |x|^p)^(1/p) by powers of |x| / anchor; the anchor, in y on entry, is the largest |x| (p <
// 0: the smallest). One that is 0, infinite or NaN is the norm itself.
template <class T>
void anchored_norm(const T* x, T* y, std::int64_t outer, std::int64_t n, std::int64_t inner,
                   double p) {
  reduce_runs(
      x, outer, n, inner,
      [&](const T* run, std::int64_t length, std::int64_t, std::int64_t i) {
        const double anchor = static_cast<double>(y[i]);
        if (anchor == 0 || !std::isfinite(anchor)) return 0.0;
        const auto power = [=](T v) {
          return std::pow(std::abs(static_cast<double>(v)) / anchor, p);
        };
        return fold_run(run, length, 0.0, power, plus);
      },
      plus,
      [&](std::int64_t i, double sum) {
        if (sum != 0) y[i] = static_cast<T>(static_cast<double>(y[i]) * std::pow(sum, 1 / p));
      });
}

// Max (or min) of |x|.
template <class Fold, class T>
void norm_infinity(const T* x, T* y, std::int64_t outer, std::int64_t n, std::int64_t inner) {
  reduce_runs(
      x, outer, n, inner,
      [](const T* run, std::int64_t length, std::int64_t, std::int64_t) {
        const T start = std::abs(run[0]);
        return fold_run(
            run, length, start, [](T v) { return std::abs(v); }, Fold::template join<T>);
      },
      Fold::template join<T>, [&](std::int64_t i, T v) { y[i] = v; });
}

}  // namespace

template <class T>
void reduce_sum(const T* x, T* y, std::int64_t outer, std::int64_t n, std::int64_t inner) {
  fold<SumFold>(x, y, outer, n, inner);
}
template <class T>
void reduce_max(const T* x, T* y, std::int64_t outer, std::int64_t n, std::int64_t inner) {
  fold<ExtremeFold<true>>(x, y, outer, n, inner);
}
template <class T>
void reduce_min(const T* x, T* y, std::int64_t outer, std::int64_t n, std::int64_t inner) {
  fold<ExtremeFold<false>>(x, y, outer, n, inner);
}
template <class T>
void reduce_argmax(const T* x, std::int64_t* y, std::int64_t outer, std::int64_t n,
                   std::int64_t inner) {
  reduce_arg<ExtremeFold<true>>(x, y, outer, n, inner);
}
template <class T>
void reduce_argmin(const T* x, std::int64_t* y, std::int64_t outer, std::int64_t n,
                   std::int64_t inner) {
  reduce_arg<ExtremeFold<false>>(x, y, outer, n, inner);
}

template <class T>
void reduce_prod(const T* x, T* y, std::int64_t outer, std::int64_t n, std::int64_t inner) {
  using P = Wide<T>;
  reduce_runs(
      x, outer, n, inner,
      [](const T* run, std::int64_t length, std::int64_t, std::int64_t) {
        return fold_run(
            run, length, P(1), [](T v) { return static_cast<P>(v); }, times);
      },
      times, [&](std::int64_t i, P v) { y[i] = static_cast<T>(v); });
}

void reduce_any(const bool* x, bool* y, std::int64_t outer, std::int64_t n, std::int64_t inner) {
  reduce_runs(
      x, outer, n, inner,
      [](const bool* run, std::int64_t length, std::int64_t, std::int64_t) {
        return length > 0 && std::memchr(run, 1, static_cast<std::size_t>(length)) != nullptr;
      },
      [](bool a, bool b) { return a || b; }, [&](std::int64_t i, bool v) { y[i] = v; });
}
void reduce_all(const bool* x, bool* y, std::int64_t outer, std::int64_t n, std::int64_t inner) {
  reduce_runs(
      x, outer, n, inner,
      [](const bool* run, std::int64_t length, std::int64_t, std::int64_t) {
        return length == 0 || std::memchr(run, 0, static_cast<std::size_t>(length)) == nullptr;
      },
      [](bool a, bool b) { return a && b; }, [&](std::int64_t i, bool v) { y[i] = v; });
}

template <class T>
void reduce_var(const T* x, T* y, std::int64_t outer, std::int64_t n, std::int64_t inner,
                double correction) {
  const double divisor = std::max(0.0, static_cast<double>(n) - correction);
  reduce_runs(
      x, outer, n, inner,
      [](const T* run, std::int64_t length, std::int64_t, std::int64_t) {
        if (length == 0) return Moments{0, 0, 0};
        const double count = static_cast<double>(length);
        const double mean =
            fold_run(
                run, length, 0.0, [](T v) { return static_cast<double>(v); }, plus) /
            count;
        const auto square = [=](T v) {
          return (static_cast<double>(v) - mean) * (static_cast<double>(v) - mean);
        };
        return Moments{count, mean, fold_run(run, length, 0.0, square, plus)};
      },
      plus, [&](std::int64_t i, const Moments& m) { y[i] = static_cast<T>(m.m2 / divisor); });
}

template <class T>
void reduce_logsumexp(const T* x, T* y, std::int64_t outer, std::int64_t n, std::int64_t inner) {
  if (inner == 1 && n <= kSegment) {
    logsumexp(x, y, outer, n);
    return;
  }
  reduce_runs(
      x, outer, n, inner,
      [](const T* run, std::int64_t length, std::int64_t, std::int64_t) {
        T v;
        logsumexp(run, &v, 1, length);
        return static_cast<double>(v);
      },
      [](double a, double b) {
        if (std::isinf(a) && a == b) return a;
        return a > b ? a + std::log1p(std::exp(b - a)) : b + std::log1p(std::exp(a - b));
      },
      [&](std::int64_t i, double v) { y[i] = static_cast<T>(v); });
}

template <class T>
void reduce_norm(const T* x, T* y, std::int64_t outer, std::int64_t n, std::int64_t inner,
                 double p) {
  const auto sum_of = [&](auto f, auto done) {
    const auto part = [=](const T* run, std::int64_t length, std::int64_t, std::int64_t) {
      return fold_run(run, length, 0.0, f, plus);
    };
    reduce_runs(x, outer, n, inner, part, plus, done);
  };
  const auto store = [&](std::int64_t i, double v) { y[i] = static_cast<T>(v); };
  if (n == 0) {
    std::fill_n(y, outer * inner, T(0));
  } else if (p == 0) {
    sum_of([](T v) { return v != T(0) ? 1.0 : 0.0; }, store);
  } else if (p == 1) {
    sum_of([](T v) { return std::abs(static_cast<double>(v)); }, store);
  } else if (p == 2) {
    const auto square = [](T v) { return static_cast<double>(v) * static_cast<double>(v); };
    sum_of(square, [&](std::int64_t i, double sum) {
      if constexpr (std::is_same_v<T, double>) {
        // Out of this range squares of doubles lose bits: take |x| / max |x|. Rare, and 0, inf and
        // NaN come by too.
        if (!(sum > 0x1p-900 && sum < 0x1p1000)) {
          const T* row = x + i / inner * n * inner + i % inner;
          double anchor = 0, scaled = 0;
          for (std::int64_t k = 0; k < n; ++k)
            anchor = ExtremeFold<true>::join(anchor, std::abs(row[k * inner]));
          if (anchor == 0 || !std::isfinite(anchor)) return store(i, anchor);
          for (std::int64_t k = 0; k < n; ++k)
            scaled += (row[k * inner] / anchor) * (row[k * inner] / anchor);
          return store(i, anchor * std::sqrt(scaled));
        }
      }
      store(i, std::sqrt(sum));
    });
  } else {
    if (p > 0)
      norm_infinity<ExtremeFold<true>>(x, y, outer, n, inner);
    else
      norm_infinity<ExtremeFold<false>>(x, y, outer, n, inner);
    if (std::isfinite(p)) anchored_norm(x, y, outer, n, inner, p);
  }
}

using i64 = std::int64_t;
#define LIGHTGRAD_INSTANTIATE(T)                              \
  template void reduce_sum(const T*, T*, i64, i64, i64);      \
  template void reduce_prod(const T*, T*, i64, i64, i64);     \
  template void reduce_max(const T*, T*, i64, i64, i64);      \
  template void reduce_min(const T*, T*, i64, i64, i64);      \
  template void reduce_argmax(const T*, i64*, i64, i64, i64); \
  template void reduce_argmin(const T*, i64*, i64, i64, i64);
LIGHTGRAD_INSTANTIATE(float)
LIGHTGRAD_INSTANTIATE(double)
LIGHTGRAD_INSTANTIATE(i64)
#undef LIGHTGRAD_INSTANTIATE
#define LIGHTGRAD_INSTANTIATE(T)                                 \
  template void reduce_var(const T*, T*, i64, i64, i64, double); \
  template void reduce_logsumexp(const T*, T*, i64, i64, i64);   \
  template void reduce_norm(const T*, T*, i64, i64, i64, double);
LIGHTGRAD_INSTANTIATE(float)
LIGHTGRAD_INSTANTIATE(double)
#undef LIGHTGRAD_INSTANTIATE

}  // namespace lg::kernels
#endif  // HWY_ONCE
