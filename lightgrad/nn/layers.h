// layers.h: the layers with parameters of their own, and dropout. Constructor arguments, default
// initialisation, names and layouts of parameters are PyTorch's.
#pragma once

#include "lightgrad/nn/members.h"
#include "lightgrad/ops/creation.h"

namespace lg::nn {

// y = x weight^T + bias; x [..., in_features] -> y [..., out_features]. With an activation ("relu",
// "gelu", "gelu_tanh", "silu", "sigmoid", "tanh") that of it, in the same pass over memory.
struct Linear : Module {
  std::int64_t in_features, out_features;
  Param weight, bias;      // [out_features, in_features], [out_features]
  std::string activation;  // empty: none

  Linear(std::int64_t in_features, std::int64_t out_features, bool with_bias = true,
         OptionalDType dtype = {})
      : Linear(in_features, out_features, with_bias, "", dtype) {}
  Linear(std::int64_t in_features, std::int64_t out_features, bool with_bias,
         std::string_view activation, OptionalDType dtype = {});
  void reset_parameters();
  Tensor forward(const Tensor& x) const;
  std::string extra_repr() const override;
};

// y = LayerNorm(ReLU(x weight^T + bias)) gamma + beta as one operation; weight and bias begin as
// Linear's.
struct FusedMlp : Module {
  std::int64_t in_features, out_features;
  double eps;
  Param weight, bias, gamma, beta;  // [out_features, in_features], the rest [out_features]

  FusedMlp(std::int64_t in_features, std::int64_t out_features, double eps = 1e-5,
           OptionalDType dtype = {});
  void reset_parameters();
  Tensor forward(const Tensor& x) const;
  std::string extra_repr() const override;
};

// Normalised over the last dimensions, which are normalized_shape.
struct LayerNorm : Module {
  Shape normalized_shape;
  double eps;
  Param weight, bias;  // [normalized_shape]; undefined without elementwise_affine

  explicit LayerNorm(const Shape& normalized_shape, double eps = 1e-5,
                     bool elementwise_affine = true, bool with_bias = true,
                     OptionalDType dtype = {});
  explicit LayerNorm(std::int64_t width, double eps = 1e-5, bool elementwise_affine = true,
                     bool with_bias = true, OptionalDType dtype = {})
      : LayerNorm(Shape{width}, eps, elementwise_affine, with_bias, dtype) {}
  void reset_parameters();
  Tensor forward(const Tensor& x) const;
  std::string extra_repr() const override;
};

// Rows of a table: ids [...] -> [..., embedding_dim]. The row padding_idx starts at zero and gets
// no gradient.
struct Embedding : Module {
  std::int64_t num_embeddings, embedding_dim;
  std::optional<std::int64_t> padding_idx;  // counted from the front
  Param weight;                             // [num_embeddings, embedding_dim]

  Embedding(std::int64_t num_embeddings, std::int64_t embedding_dim,
            std::optional<std::int64_t> padding_idx = {}, OptionalDType dtype = {});
  void reset_parameters();
  Tensor forward(const Tensor& ids) const;
  std::string extra_repr() const override;
};

// While training, zeroes a share p of the elements and divides the rest by 1 - p.
struct Dropout : Module {
  double p;

  explicit Dropout(double p = 0.5);
  Tensor forward(const Tensor& x) const;
  std::string extra_repr() const override;
};

}  // namespace lg::nn
