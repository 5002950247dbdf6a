// reduce.h: reductions of contiguous x, seen as [outer, n, inner], over n; results are [outer,
// inner]. T is float, double or int64_t unless said otherwise. Work is cut by shape alone and
// partial results are joined in order: the same bits at any number of threads. Callers have checked
// that max, min and arg* get n > 0.
#pragma once

#include <cstdint>

namespace lg::kernels {

// Blocks of some hundred elements are summed in T, these sums in double: 2^24 floats come out
// within about 1e-7 of their sum of magnitudes. int64 wraps. n = 0 gives 0.
template <class T>
void reduce_sum(const T* x, T* y, std::int64_t outer, std::int64_t n, std::int64_t inner);
// Multiplied in double (float, double), or wrapping (int64). n = 0 gives 1.
template <class T>
void reduce_prod(const T* x, T* y, std::int64_t outer, std::int64_t n, std::int64_t inner);

// A NaN in x is the result.
template <class T>
void reduce_max(const T* x, T* y, std::int64_t outer, std::int64_t n, std::int64_t inner);
template <class T>
void reduce_min(const T* x, T* y, std::int64_t outer, std::int64_t n, std::int64_t inner);
// Where along n the first extreme is; a NaN counts as the extreme.
template <class T>
void reduce_argmax(const T* x, std::int64_t* y, std::int64_t outer, std::int64_t n,
                   std::int64_t inner);
template <class T>
void reduce_argmin(const T* x, std::int64_t* y, std::int64_t outer, std::int64_t n,
                   std::int64_t inner);

// n = 0 gives false, and true.
void reduce_any(const bool* x, bool* y, std::int64_t outer, std::int64_t n, std::int64_t inner);
void reduce_all(const bool* x, bool* y, std::int64_t outer, std::int64_t n, std::int64_t inner);

// float, double: sum (x - mean)^2 / max(0, n - correction), by two passes over each block; 0/0 is
// NaN.
template <class T>
void reduce_var(const T* x, T* y, std::int64_t outer, std::int64_t n, std::int64_t inner,
                double correction);
// float, double: log sum exp(x). All -inf (or n = 0) gives -inf, a +inf gives inf.
template <class T>
void reduce_logsumexp(const T* x, T* y, std::int64_t outer, std::int64_t n, std::int64_t inner);
// float, double: (sum |x|^p)^(1/p); p = 0 counts what is not zero, inf and -inf take max and min of
// |x|. Neither overflows nor underflows on the way. n = 0 gives 0.
template <class T>
void reduce_norm(const T* x, T* y, std::int64_t outer, std::int64_t n, std::int64_t inner,
                 double p);

// The same by plain loops, in double or int64 throughout.
enum class Reduction : std::uint8_t { sum, prod, max, min };
template <class T>
void reduce_reference(Reduction reduction, const T* x, T* y, std::int64_t outer, std::int64_t n,
                      std::int64_t inner);
template <class T>
void reduce_arg_reference(bool largest, const T* x, std::int64_t* y, std::int64_t outer,
                          std::int64_t n, std::int64_t inner);

}  // namespace lg::kernels
