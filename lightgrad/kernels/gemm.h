// gemm.h: matrix product of float32 or float64 with any strides, fused with bias, activation and
// accumulation. Every element of C is one chain of multiply-adds over k, cut only by constants: the
// same bits at any number of threads. Callers check shapes; nothing here does. Infinities and NaN
// propagate as IEEE has them.
#pragma once

#include <cstdint>

#include "lightgrad/base/half.h"
#include "lightgrad/kernels/pointwise.h"

namespace lg::kernels {

// C[m, n] = A[m, k] B[k, n] (+ C) (+ bias), and f(C). C overlaps neither A nor B.
template <class T> struct Gemm {
  std::int64_t m, n, k;
  const T* a;
  std::int64_t a_row,
      a_col;  // strides in elements, any values: (lda, 1) is plain, (1, lda) is transposed
  const T* b;
  std::int64_t b_row, b_col;
  T* c;
  std::int64_t c_row;  // columns of C are contiguous
  bool accumulate = false;
  const T* bias = nullptr;  // [n], added to every row
  // f, if any: the row kernel of a pointwise operation without attributes, called on parts of C as
  // they are finished. There is no formula of an activation here.
  Row activation = nullptr;
  T* activated = nullptr;  // f(C), with stride c_row; null: written over C
  T* row_sums =
      nullptr;  // [m]; if given: (+)= the sums of A's rows, as a column of ones in B would
};

// k = 0 gives zeros (or C), plus bias; m or n = 0 does nothing. With A = g^T, B = x the product is
// the gradient of a layer's weight, and row_sums that of its bias.
template <class T> void gemm(const Gemm<T>& g);

// gemm for i in [0, batch), with a, b, c (and activated, as c) moved on by the i-th offset in
// elements. The C of different i do not overlap; operands may be shared (equal offsets).
template <class T>
void gemm_batched(const Gemm<T>& one, std::int64_t batch, const std::int64_t* a_offset,
                  const std::int64_t* b_offset, const std::int64_t* c_offset);

// Products of bfloat16 by the CPU's own dot products of pairs (AVX512_BF16): twice the
// multiply-adds of float32 in an instruction, summed in float32 and rounded once. The activation is
// float32's, of the sums before they are rounded. Subnormal numbers count as zeros, as the
// instruction has it. Only for where has_bf16_products(): elsewhere callers widen. `accumulate` is
// not looked at.
bool has_bf16_products();
template <> void gemm(const Gemm<bfloat16>& g);
template <>
void gemm_batched(const Gemm<bfloat16>& one, std::int64_t batch, const std::int64_t* a_offset,
                  const std::int64_t* b_offset, const std::int64_t* c_offset);

// The plain triple loop, summed in the next wider type: what tests hold gemm against.
template <class T> void gemm_reference(const Gemm<T>& g);

}  // namespace lg::kernels
