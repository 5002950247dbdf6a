// attention.h: scaled dot-product attention, softmax(scale q k^T + mask) v per batch and head.
// Scores exist one block of queries by keys at a time, never as a whole matrix; backward makes them
// again from q, k and the row's logsumexp.
#pragma once

#include <cstdint>
#include <type_traits>

#include "lightgrad/base/half.h"
#include "lightgrad/base/random.h"

namespace lg::kernels {

// bfloat16 is computed in float32 and rounded once; so are the weights on their way to the second
// product. Only where has_bf16_products(): elsewhere callers widen. Subnormal numbers count as
// zeros.
template <class T>
using AttentionNumber = std::conditional_t<std::is_same_v<T, bfloat16>, float, T>;

// Strides are in elements; the last dimension of q, k, v, out and their gradients is contiguous, so
// that the parts of a [B, T, 3C] projection are read where they lie.
template <class T> struct Attention {
  std::int64_t batch, heads, query_len, key_len;
  std::int64_t head_dim;   // of q and k
  std::int64_t value_dim;  // of v and out
  const T *q, *k, *v;
  std::int64_t q_stride[3], k_stride[3], v_stride[3];  // batch, head, row
  std::int64_t out_stride[3];
  const T* mask = nullptr;                     // added to the scores
  std::int64_t mask_stride[4] = {0, 0, 0, 0};  // batch, head, query, key; 0 broadcasts
  bool causal = false;  // key j is seen by query i when j <= i (aligned at the top left)
  AttentionNumber<T> scale = 1;
  // Probability ((b heads + h) query_len + i) key_len + j is kept when its random word is at least
  // dropout_p 2^32, and divided by 1 - dropout_p.
  float dropout_p = 0;
  Stream dropout{};
};

// out, and lse [batch, heads, query_len]: the logsumexp of each row of scores.
// A row that sees no key at all (every score -inf) gives output 0, lse -inf and gradients 0, as
// PyTorch's fused kernels do; NaN in a row of scores makes its output NaN.
template <class T> void attention_forward(const Attention<T>& a, T* out, AttentionNumber<T>* lse);

// g = d loss / d out. Writes dq, dk, dv; each may be null where it is not wanted.
template <class T> struct AttentionGradient {
  const T* g;
  const T* out;  // with out_stride
  const AttentionNumber<T>* lse;
  T *dq, *dk, *dv;
  std::int64_t g_stride[3], dq_stride[3], dk_stride[3], dv_stride[3];
};
// With p = exp(scores - lse) and D = sum g out per row:
//   dv = p^T g,  ds = scale p (g v^T - D),  dq = ds k,  dk = ds^T q
// (p and g v^T each times the dropout factor).
template <class T>
void attention_backward(const Attention<T>& a, const AttentionGradient<T>& gradient);

// The same by plain loops, one row of scores at a time.
template <class T> void attention_forward_reference(const Attention<T>& a, T* out, T* lse);
template <class T>
void attention_backward_reference(const Attention<T>& a, const AttentionGradient<T>& gradient);

}  // namespace lg::kernels
