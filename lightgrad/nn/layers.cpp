// layers.cpp: sizes are checked when a layer is made; what is given to forward is checked by the
// operations.
#include "lightgrad/nn/layers.h"

#include <cmath>

#include "lightgrad/autograd/node.h"
#include "lightgrad/nn/init.h"
#include "lightgrad/ops/ops.h"

namespace lg::nn {

namespace {
std::int64_t checked_size(std::int64_t n, std::string_view layer, std::string_view name) {
  if (n < 0) fail(ErrorKind::value, layer, name, " is ", n, ", expected a size from 0 up");
  return n;
}
}  // namespace

Linear::Linear(std::int64_t in, std::int64_t out, bool with_bias, std::string_view f,
               OptionalDType dtype)
    : in_features(checked_size(in, "Linear", "in_features")),
      out_features(checked_size(out, "Linear", "out_features")),
      weight(this, "weight", empty({out, in}, dtype)),
      bias(this, "bias", with_bias ? empty({out}, dtype) : Tensor()),
      activation(f) {
  if (!activation.empty()) ops::check_activation("Linear", activation);
  reset_parameters();
}

namespace {
void reset_linear(const Tensor& weight, const Tensor& bias) {
  init::kaiming_uniform_(weight, std::sqrt(5.0));  // that is, uniform within 1 / sqrt(in_features)
  if (!bias.defined()) return;
  const std::int64_t in = weight.size(1);
  const double bound = in > 0 ? 1 / std::sqrt(static_cast<double>(in)) : 0;
  init::uniform_(bias, -bound, bound);
}
}  // namespace

void Linear::reset_parameters() { reset_linear(weight, bias); }

Tensor Linear::forward(const Tensor& x) const {
  if (activation.empty()) return lg::linear(x, weight, bias);
  return lg::linear_activation(x, weight, bias, activation);
}

std::string Linear::extra_repr() const {
  return text("in_features=", in_features, ", out_features=", out_features,
              ", bias=", bias ? "True" : "False",
              activation.empty() ? "" : ", activation='" + activation + "'");
}

FusedMlp::FusedMlp(std::int64_t in, std::int64_t out, double eps_, OptionalDType dtype)
    : in_features(checked_size(in, "FusedMLP", "in_features")),
      out_features(checked_size(out, "FusedMLP", "out_features")),
      eps(eps_),
      weight(this, "weight", empty({out, in}, dtype)),
      bias(this, "bias", empty({out}, dtype)),
      gamma(this, "gamma", empty({out}, dtype)),
      beta(this, "beta", empty({out}, dtype)) {
  reset_parameters();
}

void FusedMlp::reset_parameters() {
  reset_linear(weight, bias);
  init::ones_(gamma);
  init::zeros_(beta);
}

Tensor FusedMlp::forward(const Tensor& x) const {
  return lg::fused_mlp(x, weight, bias, gamma, beta, eps);
}

std::string FusedMlp::extra_repr() const {
  return text("in_features=", in_features, ", out_features=", out_features, ", eps=", eps);
}

LayerNorm::LayerNorm(const Shape& shape, double eps_, bool elementwise_affine, bool with_bias,
                     OptionalDType dtype)
    : normalized_shape(shape),
      eps(eps_),
      weight(this, "weight", elementwise_affine ? empty(shape, dtype) : Tensor()),
      bias(this, "bias", elementwise_affine && with_bias ? empty(shape, dtype) : Tensor()) {
  if (shape.rank() == 0) fail(ErrorKind::value, "LayerNorm", "normalized_shape has no dimensions");
  reset_parameters();
}

void LayerNorm::reset_parameters() {
  if (weight) init::ones_(weight);
  if (bias) init::zeros_(bias);
}

Tensor LayerNorm::forward(const Tensor& x) const {
  return lg::layer_norm(x, normalized_shape, weight, bias, eps);
}

std::string LayerNorm::extra_repr() const {
  std::string sizes;
  for (const std::int64_t n : normalized_shape) sizes += text(sizes.empty() ? "" : ", ", n);
  if (normalized_shape.rank() == 1) sizes += ",";
  return text("(", sizes, "), eps=", eps, ", elementwise_affine=", weight ? "True" : "False");
}

Embedding::Embedding(std::int64_t count, std::int64_t width, std::optional<std::int64_t> padding,
                     OptionalDType dtype)
    : num_embeddings(checked_size(count, "Embedding", "num_embeddings")),
      embedding_dim(checked_size(width, "Embedding", "embedding_dim")),
      padding_idx(padding),
      weight(this, "weight", empty({count, width}, dtype)) {
  if (padding_idx) {
    if (*padding_idx < -count || *padding_idx >= count) {
      fail(ErrorKind::value, "Embedding", "padding_idx ", *padding_idx,
           " is not a row of a table of ", count);
    }
    if (*padding_idx < 0) *padding_idx += count;
  }
  reset_parameters();
}

void Embedding::reset_parameters() {
  init::normal_(weight);
  if (padding_idx) init::zeros_(weight.view_as({embedding_dim}, {1}, *padding_idx * embedding_dim));
}

Tensor Embedding::forward(const Tensor& ids) const {
  return lg::embedding(ids, weight, padding_idx);
}

std::string Embedding::extra_repr() const {
  return text(num_embeddings, ", ", embedding_dim,
              padding_idx ? text(", padding_idx=", *padding_idx) : "");
}

Dropout::Dropout(double share) : p(share) {
  if (!(p >= 0 && p <= 1))
    fail(ErrorKind::value, "Dropout", "p is ", p, ", expected a probability in [0, 1]");
}

Tensor Dropout::forward(const Tensor& x) const { return lg::dropout(x, p, training); }

std::string Dropout::extra_repr() const { return text("p=", p); }

}  // namespace lg::nn
