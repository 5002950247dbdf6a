// functions.cpp: the bodies of the functions that ops.h declares: each makes its operation and runs
// it.
#include "lightgrad/ops/run.h"
#include "lightgrad/ops/run_variadic.h"

namespace lg {

#define A(Op, I) const attr_t<ops::Op, I>& a##I
#define ALL(Op) A(Op, 0), A(Op, 1), A(Op, 2), A(Op, 3), A(Op, 4), A(Op, 5)
#define MAKE(Op) make_op<ops::Op>(a0, a1, a2, a3, a4, a5)
#define T(Op, I) const attr_t<ops::Op, I>&
#define TYPES(Op) T(Op, 0), T(Op, 1), T(Op, 2), T(Op, 3), T(Op, 4), T(Op, 5)

#define ROW(Op, name)                                                                            \
  template <int Z> result_t<ops::Op> name(const Tensor& x, ALL(Op)) { return run(MAKE(Op), x); } \
  template result_t<ops::Op> name<0>(const Tensor&, TYPES(Op));
LG_POINTWISE_1(ROW)
LG_STRUCTURAL_1(ROW)
#undef ROW
#define ROW(Op, name)                                                                  \
  template <int Z> result_t<ops::Op> name(const Tensor& x, const Tensor& y, ALL(Op)) { \
    return run(MAKE(Op), x, y);                                                        \
  }                                                                                    \
  template result_t<ops::Op> name<0>(const Tensor&, const Tensor&, TYPES(Op));
LG_POINTWISE_2(ROW)
LG_STRUCTURAL_2(ROW)
#undef ROW
#define ROW(Op, name)                                                                  \
  template <int Z>                                                                     \
  result_t<ops::Op> name(const Tensor& x, const Tensor& y, const Tensor& z, ALL(Op)) { \
    return run(MAKE(Op), x, y, z);                                                     \
  }                                                                                    \
  template result_t<ops::Op> name<0>(const Tensor&, const Tensor&, const Tensor&, TYPES(Op));
LG_POINTWISE_3(ROW)
LG_STRUCTURAL_3(ROW)
#undef ROW
#define ROW(Op, name)                                                                            \
  template <int Z>                                                                               \
  result_t<ops::Op> name(const Tensor& x, const Tensor& y, const Tensor& z, const Tensor& w,     \
                         ALL(Op)) {                                                              \
    return run(MAKE(Op), x, y, z, w);                                                            \
  }                                                                                              \
  template result_t<ops::Op> name<0>(const Tensor&, const Tensor&, const Tensor&, const Tensor&, \
                                     TYPES(Op));
LG_STRUCTURAL_4(ROW)
#undef ROW
#define ROW(Op, name)                                                                            \
  template <int Z>                                                                               \
  result_t<ops::Op> name(const Tensor& x, const Tensor& y, const Tensor& z, const Tensor& w,     \
                         const Tensor& v, ALL(Op)) {                                             \
    return run(MAKE(Op), x, y, z, w, v);                                                         \
  }                                                                                              \
  template result_t<ops::Op> name<0>(const Tensor&, const Tensor&, const Tensor&, const Tensor&, \
                                     const Tensor&, TYPES(Op));
LG_STRUCTURAL_5(ROW)
#undef ROW
#define ROW(Op, name)                                                                      \
  template <int Z>                                                                         \
  result_t<ops::Op> name(const Tensor& x, A(Op, 0), const Tensor& y, A(Op, 1), A(Op, 2)) { \
    return run(make_op<ops::Op>(a0, a1, a2), x, y);                                        \
  }                                                                                        \
  template result_t<ops::Op> name<0>(const Tensor&, T(Op, 0), const Tensor&, T(Op, 1), T(Op, 2));
LG_ALONG_2(ROW)
#undef ROW
#define ROW(Op, name)                                                                           \
  template <int Z>                                                                              \
  result_t<ops::Op> name(const Tensor& x, A(Op, 0), const Tensor& y, const Tensor& z, A(Op, 1), \
                         A(Op, 2)) {                                                            \
    return run(make_op<ops::Op>(a0, a1, a2), x, y, z);                                          \
  }                                                                                             \
  template result_t<ops::Op> name<0>(const Tensor&, T(Op, 0), const Tensor&, const Tensor&,     \
                                     T(Op, 1), T(Op, 2));
LG_ALONG_3(ROW)
#undef ROW
#define ROW(Op, name)                                                              \
  template <int Z> result_t<ops::Op> name(const std::vector<Tensor>& x, ALL(Op)) { \
    return run_variadic(MAKE(Op), x);                                              \
  }                                                                                \
  template result_t<ops::Op> name<0>(const std::vector<Tensor>&, TYPES(Op));
LG_STRUCTURAL_N(ROW)
#undef ROW

}  // namespace lg
