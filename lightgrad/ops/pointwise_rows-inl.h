// pointwise_rows-inl.h: pointwise operation blocks made into row kernels, once per SIMD target.
// Brings the value types that blocks are written for: Vec<float>, Vec<double> (a SIMD vector) and
// Int (one int64). Included by the pointwise_rows_*.cpp units inside their per-target region; each
// makes the rows of some operations.
#if defined(LIGHTGRAD_OPS_POINTWISE_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LIGHTGRAD_OPS_POINTWISE_ROWS_INL_H_
#undef LIGHTGRAD_OPS_POINTWISE_ROWS_INL_H_
#else
#define LIGHTGRAD_OPS_POINTWISE_ROWS_INL_H_
#endif

#include "hwy/highway.h"
#include "lightgrad/kernels/math-inl.h"
#include "lightgrad/kernels/pointwise.h"
#include "lightgrad/kernels/rows-inl.h"
#include "lightgrad/ops/op.h"
#include "lightgrad/ops/table.h"

HWY_BEFORE_NAMESPACE();
namespace lg {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// A comparison of vectors.
template <class T> struct Truth {
  using D = hn::ScalableTag<T>;
  hn::Mask<D> m;

  friend HWY_INLINE Truth operator&&(Truth a, Truth b) { return {hn::And(a.m, b.m)}; }
  friend HWY_INLINE Truth operator||(Truth a, Truth b) { return {hn::Or(a.m, b.m)}; }
  friend HWY_INLINE Truth operator!=(Truth a, Truth b) { return {hn::Xor(a.m, b.m)}; }
};

// A SIMD vector in the notation of operation blocks.
template <class T> struct Vec {
  using D = hn::ScalableTag<T>;
  hn::Vec<D> v;

  HWY_INLINE Vec(hn::Vec<D> r) : v(r) {}
  template <class N>
  requires std::is_arithmetic_v<N> HWY_INLINE explicit(false) Vec(N x)
      : v(hn::Set(D(), static_cast<T>(x))) {}

  friend HWY_INLINE Vec operator+(Vec a, Vec b) { return hn::Add(a.v, b.v); }
  friend HWY_INLINE Vec operator-(Vec a, Vec b) { return hn::Sub(a.v, b.v); }
  friend HWY_INLINE Vec operator*(Vec a, Vec b) { return hn::Mul(a.v, b.v); }
  friend HWY_INLINE Vec operator/(Vec a, Vec b) { return hn::Div(a.v, b.v); }
  friend HWY_INLINE Vec operator-(Vec a) { return hn::Neg(a.v); }
  friend HWY_INLINE Truth<T> operator<(Vec a, Vec b) { return {hn::Lt(a.v, b.v)}; }
  friend HWY_INLINE Truth<T> operator<=(Vec a, Vec b) { return {hn::Le(a.v, b.v)}; }
  friend HWY_INLINE Truth<T> operator>(Vec a, Vec b) { return {hn::Gt(a.v, b.v)}; }
  friend HWY_INLINE Truth<T> operator>=(Vec a, Vec b) { return {hn::Ge(a.v, b.v)}; }
  friend HWY_INLINE Truth<T> operator==(Vec a, Vec b) { return {hn::Eq(a.v, b.v)}; }
  // Not hn::Ne, which is an ordered comparison on some targets: NaN differs from everything.
  friend HWY_INLINE Truth<T> operator!=(Vec a, Vec b) { return {hn::Not(hn::Eq(a.v, b.v))}; }
  friend HWY_INLINE Vec where(Truth<T> c, Vec a, Vec b) { return hn::IfThenElse(c.m, a.v, b.v); }
  friend HWY_INLINE Vec where(Vec c, Vec a, Vec b) { return where(c != Vec(0), a, b); }

  // NaN in either operand stays NaN, whatever the instruction does with it.
  friend HWY_INLINE Vec max(Vec a, Vec b) {
    return hn::IfThenElse(hn::IsNaN(a.v), a.v,
                          hn::IfThenElse(hn::IsNaN(b.v), b.v, hn::Max(a.v, b.v)));
  }
  friend HWY_INLINE Vec min(Vec a, Vec b) {
    return hn::IfThenElse(hn::IsNaN(a.v), a.v,
                          hn::IfThenElse(hn::IsNaN(b.v), b.v, hn::Min(a.v, b.v)));
  }
  friend HWY_INLINE Vec abs(Vec a) { return hn::Abs(a.v); }
  friend HWY_INLINE Vec sign(Vec a) {
    return where(a > Vec(0), Vec(1), where(a < Vec(0), Vec(-1), a * Vec(0)));
  }
  friend HWY_INLINE Vec sqrt(Vec a) { return hn::Sqrt(a.v); }
  friend HWY_INLINE Vec floor(Vec a) { return hn::Floor(a.v); }
  friend HWY_INLINE Vec ceil(Vec a) { return hn::Ceil(a.v); }
  friend HWY_INLINE Vec round(Vec a) { return hn::Round(a.v); }
  friend HWY_INLINE Vec trunc(Vec a) { return hn::Trunc(a.v); }
  friend HWY_INLINE Vec exp(Vec a) { return Exp(D(), a.v); }
  friend HWY_INLINE Vec expm1(Vec a) { return Expm1(D(), a.v); }
  friend HWY_INLINE Vec log(Vec a) { return Log(D(), a.v); }
  friend HWY_INLINE Vec log1p(Vec a) { return Log1p(D(), a.v); }
  friend HWY_INLINE Vec sin(Vec a) { return Sin(D(), a.v); }
  friend HWY_INLINE Vec cos(Vec a) { return Cos(D(), a.v); }
  friend HWY_INLINE Vec tanh(Vec a) { return Tanh(D(), a.v); }
  friend HWY_INLINE Vec sigmoid(Vec a) { return Sigmoid(D(), a.v); }
  friend HWY_INLINE Vec erf(Vec a) { return Erf(D(), a.v); }
  friend HWY_INLINE Vec normal_cdf(Vec a) { return NormalCdf(D(), a.v); }
  friend HWY_INLINE Vec gelu_cdf(Vec a) { return GeluCdf(D(), a.v); }
  friend HWY_INLINE Vec gelu_slope(Vec a) { return GeluSlope(D(), a.v); }
  friend HWY_INLINE Vec pow(Vec a, Vec b) { return Pow(D(), a.v, b.v); }
  // Python's: x = y floor_divide(x, y) + remainder(x, y), and the remainder has y's sign. Lane by
  // lane through fmod, which is exact where x - y floor(x / y) is not.
  friend HWY_INLINE Vec remainder(Vec a, Vec b) {
    return math::EachLane(D(), a.v, b.v, [](T x, T y) {
      const T r = std::fmod(x, y);
      return r != 0 && (r < 0) != (y < 0) ? r + y : r;
    });
  }
  friend HWY_INLINE Vec floor_divide(Vec a, Vec b) {
    return math::EachLane(D(), a.v, b.v, [](T x, T y) {
      if (y == 0) return x / y;
      T r = std::fmod(x, y), q = (x - r) / y;
      if (r != 0 && (r < 0) != (y < 0)) q -= 1;
      if (q == 0) return std::copysign(T(0), x / y);
      const T whole = std::floor(q);
      return q - whole > T(0.5) ? whole + 1 : whole;
    });
  }
};

// One int64, wrapping as the hardware does; narrower integers are computed in it.
struct Int {
  std::int64_t v;

  template <class N>
  requires std::is_arithmetic_v<N> HWY_INLINE explicit(false) Int(N x)
      : v(static_cast<std::int64_t>(x)) {}

  static HWY_INLINE std::uint64_t u(Int a) { return static_cast<std::uint64_t>(a.v); }
  friend HWY_INLINE Int operator+(Int a, Int b) { return static_cast<std::int64_t>(u(a) + u(b)); }
  friend HWY_INLINE Int operator-(Int a, Int b) { return static_cast<std::int64_t>(u(a) - u(b)); }
  friend HWY_INLINE Int operator*(Int a, Int b) { return static_cast<std::int64_t>(u(a) * u(b)); }
  friend HWY_INLINE Int operator-(Int a) { return static_cast<std::int64_t>(0 - u(a)); }
  friend HWY_INLINE bool operator<(Int a, Int b) { return a.v < b.v; }
  friend HWY_INLINE bool operator<=(Int a, Int b) { return a.v <= b.v; }
  friend HWY_INLINE bool operator>(Int a, Int b) { return a.v > b.v; }
  friend HWY_INLINE bool operator>=(Int a, Int b) { return a.v >= b.v; }
  friend HWY_INLINE bool operator==(Int a, Int b) { return a.v == b.v; }
  friend HWY_INLINE bool operator!=(Int a, Int b) { return a.v != b.v; }
  friend HWY_INLINE Int where(bool c, Int a, Int b) { return c ? a : b; }
  friend HWY_INLINE Int max(Int a, Int b) { return a.v > b.v ? a : b; }
  friend HWY_INLINE Int min(Int a, Int b) { return a.v < b.v ? a : b; }
  friend HWY_INLINE Int abs(Int a) { return a.v < 0 ? -a : a; }
  friend HWY_INLINE Int sign(Int a) { return (a.v > 0) - (a.v < 0); }
  friend HWY_INLINE Int floor(Int a) { return a; }
  friend HWY_INLINE Int ceil(Int a) { return a; }
  friend HWY_INLINE Int round(Int a) { return a; }
  friend HWY_INLINE Int trunc(Int a) { return a; }
  // Division by zero has no integer answer: 0, where the hardware would trap.
  friend HWY_INLINE Int floor_divide(Int a, Int b) {
    if (b.v == 0) return 0;
    if (b.v == -1) return -a;  // the smallest int64 has no positive twin: wraps
    const std::int64_t q = a.v / b.v;
    return q - ((a.v % b.v != 0) && ((a.v < 0) != (b.v < 0)));
  }
  friend HWY_INLINE Int remainder(Int a, Int b) { return a - floor_divide(a, b) * b; }
  friend HWY_INLINE Int pow(Int a, Int b) {
    if (b.v < 0) return a.v == 1 ? 1 : a.v == -1 ? (b.v % 2 ? -1 : 1) : 0;
    Int r = 1;
    for (std::int64_t n = b.v; n > 0; n >>= 1) {
      if (n & 1) r = r * a;
      a = a * a;
    }
    return r;
  }
};

namespace ops {
#include "lightgrad/ops/pointwise.inl"
}  // namespace ops

template <class Op> HWY_INLINE Op op_from(const double* numbers) {
  Op op{};
  if constexpr (attribute_count < Op >> 0) {
    [&]<std::size_t... I>(std::index_sequence<I...>) HWY_ATTR {
      ((op.*(std::get<I>(Op::attrs).member) =
            from_number<attr_t<Op, static_cast<int>(I)>>(numbers[I])),
       ...);
    }
    (std::make_index_sequence<static_cast<std::size_t>(attribute_count<Op>)>());
  }
  return op;
}

// The two things computed per element: the operation, and the gradient of input I.
template <class Op> struct Forward {
  static constexpr int inputs = Op::arity;
  template <class V> static HWY_INLINE V at(const Op& op, const V* x) {
    if constexpr (Op::arity == 1)
      return op.eval(x[0]);
    else if constexpr (Op::arity == 2)
      return op.eval(x[0], x[1]);
    else
      return op.eval(x[0], x[1], x[2]);
  }
};
template <class Op, int I> struct Gradient {  // over (g, inputs..., output)
  static constexpr int inputs = Op::arity + 2;
  template <class V> static HWY_INLINE V at(const Op& op, const V* x) {
    return call_vjp<I>(op, x[0], x + 1, x[Op::arity + 1]);
  }
};

// Which operands a row reads is known when it runs: one that the gradient does not mention has no
// memory.
template <class Op, class Formula, class T> void FloatRow(const kernels::RowBlock& b) {
  using D = hn::ScalableTag<T>;
  using V = Vec<T>;
  const D d;
  constexpr int inputs = Formula::inputs;
  const Op op = op_from<Op>(b.attributes);
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  T* y = static_cast<T*>(b.out);
  const T *row[inputs], *x[inputs];
  std::int64_t walks[inputs];  // all ones: the operand moves with i; 0: it stays
  HWY_ALIGN T one[inputs][HWY_MAX_BYTES / sizeof(T)];
  for (int o = 0; o < inputs; ++o) {
    row[o] = static_cast<const T*>(b.in[o]);
    walks[o] = row[o] && !(b.scalars >> o & 1) ? -1 : 0;
    if (!row[o]) hn::Store(hn::Zero(d), d, one[o]);
  }
  for (std::int64_t r = 0; r < b.rows; ++r, y += b.out_row) {
    for (int o = 0; o < inputs; ++o) {
      x[o] = walks[o] ? row[o] : one[o];
      if (!row[o]) continue;
      if (!walks[o]) hn::Store(hn::Set(d, *row[o]), d, one[o]);  // the same vector again and again
      row[o] += b.in_row[o];
    }
    [&]<std::size_t... O>(std::index_sequence<O...>) HWY_ATTR {
      std::int64_t i = 0;
      for (; i + lanes <= b.n; i += lanes) {
        const V v[] = {V(hn::LoadU(d, x[O] + (i & walks[O])))...};
        hn::StoreU(Formula::at(op, v).v, d, y + i);
      }
      if (i < b.n) {  // the tail: through a full vector, so that no lane beyond it is touched
        const V v[] = {V(walks[O] ? kernels::HWY_NAMESPACE::LoadLanes(d, x[O] + i, b.n - i)
                                  : hn::Load(d, one[O]))...};
        kernels::HWY_NAMESPACE::StoreLanes(Formula::at(op, v).v, d, y + i, b.n - i);
      }
    }
    (std::make_index_sequence<static_cast<std::size_t>(inputs)>());
  }
}

template <class Op> void IntRow(const kernels::RowBlock& b) {
  constexpr int inputs = Op::arity;
  const Op op = op_from<Op>(b.attributes);
  auto* y = static_cast<std::int64_t*>(b.out);
  const std::int64_t* x[inputs];
  for (int o = 0; o < inputs; ++o) x[o] = static_cast<const std::int64_t*>(b.in[o]);
  [&]<std::size_t... O>(std::index_sequence<O...>) HWY_ATTR {
    for (std::int64_t r = 0; r < b.rows; ++r, y += b.out_row, ((x[O] += b.in_row[O]), ...)) {
      if (b.scalars == 0) {  // apart, so that the compiler makes vectors of it
        for (std::int64_t i = 0; i < b.n; ++i) {
          const Int v[] = {Int(x[O][i])...};
          y[i] = Forward<Op>::at(op, v).v;
        }
      } else {
        for (std::int64_t i = 0; i < b.n; ++i) {
          const Int v[] = {Int(x[O][b.scalars >> O & 1 ? 0 : i])...};
          y[i] = Forward<Op>::at(op, v).v;
        }
      }
    }
  }
  (std::make_index_sequence<static_cast<std::size_t>(inputs)>());
}

template <class Op> constexpr kernels::PointwiseRows rows_of() {
  kernels::PointwiseRows rows{};
  rows.forward[0] = &FloatRow<Op, Forward<Op>, float>;
  rows.forward[1] = &FloatRow<Op, Forward<Op>, double>;
  if constexpr (Op::rule != Rule::floating) rows.forward[2] = &IntRow<Op>;
  if constexpr (HasVjp<0, Op>)
    rows.vjp[0] = {&FloatRow<Op, Gradient<Op, 0>, float>, &FloatRow<Op, Gradient<Op, 0>, double>};
  if constexpr (HasVjp<1, Op>)
    rows.vjp[1] = {&FloatRow<Op, Gradient<Op, 1>, float>, &FloatRow<Op, Gradient<Op, 1>, double>};
  if constexpr (HasVjp<2, Op>)
    rows.vjp[2] = {&FloatRow<Op, Gradient<Op, 2>, float>, &FloatRow<Op, Gradient<Op, 2>, double>};
  return rows;
}

}  // namespace HWY_NAMESPACE
}  // namespace lg
HWY_AFTER_NAMESPACE();
#endif  // LIGHTGRAD_OPS_POINTWISE_ROWS_INL_H_
