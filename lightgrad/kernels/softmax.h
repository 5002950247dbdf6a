// softmax.h: softmax, log-softmax and log-sum-exp of contiguous rows [rows, n], with their
// gradients. A row shifts by its maximum, so nothing overflows; NaN spreads over its row, and a row
// whose maximum is infinite is NaN (softmax of all -inf is 0/0), except that logsumexp keeps the
// infinity.
#pragma once

#include <cstdint>

namespace lg::kernels {

// y = exp(x) / sum exp(x); y may be x.
template <class T> void softmax_forward(const T* x, T* y, std::int64_t rows, std::int64_t n);
// dx = y (g - sum g y); dx may be g or y.
template <class T>
void softmax_backward(const T* g, const T* y, T* dx, std::int64_t rows, std::int64_t n);
// y = x - log sum exp(x); y may be x.
template <class T> void log_softmax_forward(const T* x, T* y, std::int64_t rows, std::int64_t n);
// dx = g - exp(y) sum g; dx may be g or y.
template <class T>
void log_softmax_backward(const T* g, const T* y, T* dx, std::int64_t rows, std::int64_t n);
// y[r] = log sum exp(x[r, :]), y [rows]; -inf for an empty row.
template <class T> void logsumexp(const T* x, T* y, std::int64_t rows, std::int64_t n);

// The same by plain loops.
template <class T>
void softmax_forward_reference(const T* x, T* y, std::int64_t rows, std::int64_t n);
template <class T>
void softmax_backward_reference(const T* g, const T* y, T* dx, std::int64_t rows, std::int64_t n);
template <class T>
void log_softmax_forward_reference(const T* x, T* y, std::int64_t rows, std::int64_t n);
template <class T>
void log_softmax_backward_reference(const T* g, const T* y, T* dx, std::int64_t rows,
                                    std::int64_t n);
template <class T> void logsumexp_reference(const T* x, T* y, std::int64_t rows, std::int64_t n);

}  // namespace lg::kernels
