// cuda_kernels.h: Triton's kernels called with tensors: what `forward_cuda` of the operations is
// made of. All operands lie on one device; results are new, row-major tensors there.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "lightgrad/backend/cuda/gpu.h"
#include "lightgrad/tensor/tensor.h"

namespace lg::cuda {

inline Gpu& gpu(const Tensor& t) { return Gpu::at(t.device().index); }
Tensor empty(const Shape& shape, DType dtype, Device device);
// "fp32", "fp16", "bf16", "u8" (bool and uint8); TypeError for what no kernel computes with.
std::string_view type_name(const Tensor& t, std::string_view operation);
Argument pointer(std::string_view name, const Tensor& t, std::string_view operation);
// For an absent one: a null pointer to what `like` points to.
Argument pointer_or_null(std::string_view name, const Tensor& t, const Tensor& like,
                         std::string_view operation);

// x row-major and of that dtype; x itself when it is so already.
Tensor contiguous(const Tensor& x, DType dtype, std::string_view operation);
Tensor contiguous(const Tensor& x, std::string_view operation);

// One operand of a pointwise kernel, by its name there, broadcast to the result's shape.
struct Operand {
  const char* name;
  Tensor tensor;
};
void pointwise(const std::string& kernel, std::span<const Operand> operands,
               std::span<const double> attributes, const Tensor& out, std::string_view operation);

// c [m, n] = epilogue(op(a) op(b) + bias), matrices with rows ld apart; transposed ones lie as
// [k, m] and [n, k].
struct Matrix {
  Tensor t;
  std::int64_t ld;
  bool transposed;
};
// By the numbers that the kernel knows.
enum class Epilogue : std::uint8_t { none, relu, gelu, gelu_tanh };
Matrix matrix(const Tensor& t, std::string_view operation);  // any strides, copied where it must be
Tensor matmul(const Matrix& a, const Matrix& b, std::int64_t m, std::int64_t n, std::int64_t k,
              const Tensor& bias, Epilogue epilogue, std::string_view operation);

// The sums of the columns of x [m, n].
Tensor column_sums(const Tensor& x, std::int64_t m, std::int64_t n, DType dtype);

struct Normalized {
  Tensor y, mean, rstd;
};
Normalized layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, std::int64_t m,
                      std::int64_t n, double eps, std::string_view operation);
// sums [3, programs, n]: of g h, of g and of dx (see lightgrad/triton/layer_norm.py).
struct NormalizedBackward {
  Tensor dx, sums;
  std::int64_t programs;
  Tensor total(int which, DType dtype) const;  // 0: weight's gradient, 1: bias's, 2: sum of dx
};
NormalizedBackward layer_norm_backward(const Tensor& g, const Tensor& x, const Tensor& weight,
                                       const Tensor& mean, const Tensor& rstd, bool relu,
                                       std::int64_t m, std::int64_t n, std::string_view operation);

}  // namespace lg::cuda
