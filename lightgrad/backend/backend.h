// backend.h: a device is a table of kernels. Operations ask the table of their inputs' device and
// never name a kernel themselves, so another device is another table.
#pragma once

#include <type_traits>

#include "lightgrad/base/device.h"
#include "lightgrad/kernels/attention.h"
#include "lightgrad/kernels/batch_norm.h"
#include "lightgrad/kernels/conv.h"
#include "lightgrad/kernels/copy.h"
#include "lightgrad/kernels/cross_entropy.h"
#include "lightgrad/kernels/dropout.h"
#include "lightgrad/kernels/embedding.h"
#include "lightgrad/kernels/gemm.h"
#include "lightgrad/kernels/index.h"
#include "lightgrad/kernels/layer_norm.h"
#include "lightgrad/kernels/optimizer.h"
#include "lightgrad/kernels/peak.h"
#include "lightgrad/kernels/pointwise.h"
#include "lightgrad/kernels/pool.h"
#include "lightgrad/kernels/reduce.h"
#include "lightgrad/kernels/scan.h"
#include "lightgrad/kernels/softmax.h"
#include "lightgrad/kernels/sort.h"

namespace lg {

// clang-format off
// Kernels for float32 and float64; each entry has the signature of the kernel that it is named
// after.
#define LG_FLOAT_KERNELS(ENTRY) \
  ENTRY(gemm) ENTRY(gemm_batched) ENTRY(softmax_forward) ENTRY(softmax_backward) \
  ENTRY(log_softmax_forward) ENTRY(log_softmax_backward) ENTRY(layer_norm_forward) \
  ENTRY(layer_norm_backward) ENTRY(cross_entropy_forward) ENTRY(cross_entropy_backward) \
  ENTRY(attention_forward) ENTRY(attention_backward) ENTRY(embedding_forward) \
  ENTRY(embedding_backward) ENTRY(dropout) ENTRY(reduce_var) ENTRY(reduce_logsumexp) \
  ENTRY(reduce_norm) ENTRY(sgd_steps) ENTRY(adam_steps) ENTRY(sum_of_squares) \
  ENTRY(scale_inplace) ENTRY(conv_forward) ENTRY(conv_backward_data) \
  ENTRY(conv_backward_weight) ENTRY(batch_norm_forward) ENTRY(batch_norm_backward) \
  ENTRY(max_pool_indices) ENTRY(resample) ENTRY(resample_transposed)
// For bfloat16; all but batch normalisation where has_bf16_products().
#define LG_BFLOAT16_KERNELS(ENTRY) \
  ENTRY(gemm) ENTRY(gemm_batched) ENTRY(attention_forward) ENTRY(attention_backward) \
  ENTRY(conv_forward) ENTRY(conv_backward_data) ENTRY(conv_backward_weight) \
  ENTRY(batch_norm_forward) ENTRY(batch_norm_backward)
// For float32, float64 and int64.
#define LG_NUMBER_KERNELS(ENTRY) \
  ENTRY(reduce_sum) ENTRY(reduce_prod) ENTRY(reduce_max) ENTRY(reduce_min) \
  ENTRY(reduce_argmax) ENTRY(reduce_argmin) ENTRY(cumsum) ENTRY(cumsum_reverse) ENTRY(sort) \
  ENTRY(topk) ENTRY(scatter_add) ENTRY(index_add)
// Blind to the element type.
#define LG_PLAIN_KERNELS(ENTRY) \
  ENTRY(copy) ENTRY(fill) ENTRY(pointwise) ENTRY(pointwise_plain) ENTRY(pointwise_rows) \
  ENTRY(reduce_any) ENTRY(reduce_all) ENTRY(gather) ENTRY(scatter) ENTRY(index_select) \
  ENTRY(check_indices) ENTRY(wrap_negative) ENTRY(count_nonzero) ENTRY(nonzero) \
  ENTRY(sgd_steps_bfloat16) ENTRY(adam_steps_bfloat16) ENTRY(has_bf16_products) \
  ENTRY(peak_fma) ENTRY(peak_read) ENTRY(peak_update) ENTRY(simd_target)
// clang-format on

#define ENTRY(kernel) std::add_pointer_t<decltype(kernels::kernel<T>)> kernel;
template <class T> struct NumberKernels { LG_NUMBER_KERNELS(ENTRY) };
template <class T> struct FloatKernels : NumberKernels<T> { LG_FLOAT_KERNELS(ENTRY) };
template <class T> struct Bfloat16Kernels { LG_BFLOAT16_KERNELS(ENTRY) };
#undef ENTRY

#define ENTRY(kernel) std::add_pointer_t<decltype(kernels::kernel)> kernel;
struct Backend {
  LG_PLAIN_KERNELS(ENTRY)
  FloatKernels<float> float32;
  FloatKernels<double> float64;
  NumberKernels<std::int64_t> int64;
  Bfloat16Kernels<lg::bfloat16> bfloat16;

  template <class T> const auto& of() const {
    if constexpr (std::is_same_v<T, float>)
      return float32;
    else if constexpr (std::is_same_v<T, double>)
      return float64;
    else if constexpr (std::is_same_v<T, lg::bfloat16>)
      return bfloat16;
    else
      return int64;
  }
};
#undef ENTRY

extern const Backend cpu_backend;
[[noreturn]] void fail_no_backend(Device device);

// The table of a device; RuntimeError when this build has none for it.
inline const Backend& backend(Device device) {
  if (device.type != DeviceType::cpu) [[unlikely]]
    fail_no_backend(device);
  return cpu_backend;
}

}  // namespace lg
