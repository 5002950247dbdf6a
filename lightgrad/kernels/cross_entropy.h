// cross_entropy.h: negative log-likelihood of class indices under softmax(logits), forward and
// backward each in one pass over the logits; no log-probability is ever stored.
#pragma once

#include <cstdint>

namespace lg::kernels {

// What both passes read. Row r of logits [rows, n] has class target[r]; a row whose target is
// ignore_index has loss and gradient 0. Other targets are in [0, n): the caller has checked them.
template <class T> struct CrossEntropy {
  const T* logits;             // [rows, n]
  const std::int64_t* target;  // [rows]
  std::int64_t rows, n;
  const T* weight = nullptr;  // [n], or none
  std::int64_t ignore_index = -100;
  double label_smoothing = 0;
};

// With e = label_smoothing, w = weight (1 without) and t = target[r], as PyTorch before its
// reduction:
//   loss[r] = (1-e) w[t] (logsumexp - x[t]) + e/n sum_c w[c] (logsumexp - x[c])
// loss [rows], logsumexp [rows] (NaN where the row's maximum is infinite, as softmax is).
template <class T> void cross_entropy_forward(const CrossEntropy<T>& c, T* loss, T* logsumexp);

// dx[c] = g[r] (p[c] ((1-e) w[t] + e/n sum w) - (1-e) w[t] [c == t] - e/n w[c]), with p = exp(x -
// logsumexp). g [rows], the reduction's factor already in it; dlogits [rows, n] may be logits.
template <class T>
void cross_entropy_backward(const CrossEntropy<T>& c, const T* g, const T* logsumexp, T* dlogits);

// The same by plain loops.
template <class T>
void cross_entropy_forward_reference(const CrossEntropy<T>& c, T* loss, T* logsumexp);
template <class T>
void cross_entropy_backward_reference(const CrossEntropy<T>& c, const T* g, const T* logsumexp,
                                      T* dlogits);

}  // namespace lg::kernels
