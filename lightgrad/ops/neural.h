// neural.h: softmax, normalisation, losses, embedding, dropout and attention. Those with a backward
// kernel of their own (`backward`, `gradients`: a bit per input that has one) also say what they
// are in smaller operations
// (`composite`): tests hold the kernels against it, and gradients of gradients go through it.
#pragma once

#include <span>

#include "lightgrad/ops/op.h"
#include "lightgrad/tensor/tensor.h"

namespace lg::ops {

using Gradients = std::span<Tensor>;  // one per input; filled where the input wants one
using Wanted = unsigned;              // bit i: input i wants a gradient

struct Gelu : Composite<1> {
  std::string approximate = "none";
  static constexpr OpInfo info{
      .name = "gelu", .math = "x times the normal distribution function of x, exact or by tanh"};
  static constexpr auto attrs = std::tuple(attr(&Gelu::approximate, "approximate"));
  Tensor forward(const Tensor& x) const;
};

struct SoftmaxRows : Heavy<1> {
  static constexpr OpInfo info{.name = "softmax_rows", .math = "softmax along the last dimension"};
  static constexpr bool widens_half = true;
  static constexpr unsigned gradients = 1, keeps = 0b11;
  static Cost cost(Metas in, const Meta& out) {  // largest; difference, e^, sum; quotient
    return {5 * in[0].numel(), moved(in, out)};
  }
  static Cost backward_cost(Metas in, const Meta&, double moved) {  // y (g - sum(g y))
    return {4 * in[0].numel(), moved};
  }
  Tensor forward(const Tensor& x) const;
  void backward(const Tensor& g, const Tensor* in, const Tensor& y, Wanted, Gradients out) const;
  static Tensor composite(const Tensor& x);
};

struct LogSoftmaxRows : Heavy<1> {
  static constexpr OpInfo info{.name = "log_softmax_rows",
                               .math = "ln of softmax along the last dimension"};
  static constexpr bool widens_half = true;
  static constexpr unsigned gradients = 1, keeps = 0b11;
  static Cost cost(Metas in, const Meta& out) {  // largest; difference, e^, sum; difference
    return {5 * in[0].numel(), moved(in, out)};
  }
  static Cost backward_cost(Metas in, const Meta&, double moved) {  // g - e^y sum(g)
    return {4 * in[0].numel(), moved};
  }
  Tensor forward(const Tensor& x) const;
  void backward(const Tensor& g, const Tensor* in, const Tensor& y, Wanted, Gradients out) const;
  static Tensor composite(const Tensor& x);
};

struct Softmax : Composite<1> {
  std::int64_t dim = -1;
  static constexpr OpInfo info{.name = "softmax", .math = "e^x / sum(e^x) along dim"};
  static constexpr auto attrs = std::tuple(attr(&Softmax::dim, "dim"));
  Tensor forward(const Tensor& x) const;
};

struct LogSoftmax : Composite<1> {
  std::int64_t dim = -1;
  static constexpr OpInfo info{.name = "log_softmax", .math = "x - ln sum(e^x) along dim"};
  static constexpr auto attrs = std::tuple(attr(&LogSoftmax::dim, "dim"));
  Tensor forward(const Tensor& x) const;
};

// x with elements zeroed by the numbers of one random stream, the rest divided by 1 - p.
struct DropoutMask : Heavy<1> {
  double p = 0.5;
  std::int64_t seed = 0, offset = 0;
  static constexpr OpInfo info{.name = "dropout_stream",
                               .math = "dropout by the random stream (seed, offset)"};
  static constexpr auto attrs =
      std::tuple(required(&DropoutMask::p, "p"), required(&DropoutMask::seed, "seed"),
                 required(&DropoutMask::offset, "offset"));
  static constexpr bool widens_half = true;
  static Cost cost(Metas in, const Meta& out) { return {in[0].numel(), moved(in, out)}; }
  Tensor forward(const Tensor& x) const;
  template <class T> T vjp(T g, T, T) const { return dropout_stream(g, p, seed, offset); }
};

struct Dropout : Composite<1> {
  double p = 0.5;
  bool training = true;
  static constexpr OpInfo info{
      .name = "dropout",
      .math = "x with a share p of it zeroed at random, the rest divided by 1 - p"};
  static constexpr auto attrs =
      std::tuple(attr(&Dropout::p, "p"), attr(&Dropout::training, "training"));
  Tensor forward(const Tensor& x) const;
};

// weight and bias may be absent; both have the shape normalized_shape, the last dimensions of x.
struct LayerNorm : Heavy<3> {
  Shape normalized_shape;
  double eps = 1e-5;
  Tensor mean, rstd;  // kept for backward, one per row
  static constexpr OpInfo info{
      .name = "layer_norm",
      .math = "(x - mean) / sqrt(var + eps) weight + bias over the last dimensions",
      .args = {"x", "weight", "bias"}};
  static constexpr auto attrs = std::tuple(
      required(&LayerNorm::normalized_shape, "normalized_shape"), attr(&LayerNorm::eps, "eps"));
  static constexpr bool widens_half = true;
  static constexpr unsigned optional = 0b110, gradients = 0b111, keeps = 0b0111;
  static constexpr bool adds_to_first = true;  // x is often a residual stream
  // Mean; difference, square, sum; difference, times rstd; times weight, plus bias.
  static Cost cost(Metas in, const Meta& out) {
    const double affine = (in[1].numel() > 0) + (in[2].numel() > 0);
    return {(6 + affine) * in[0].numel(), moved(in, out)};
  }
  // x^ = (x - mean) rstd; w g; sums of w g and w g x^; rstd (w g - sum - x^ sum);
  // sums of g x^ and g.
  static Cost backward_cost(Metas in, const Meta&, double moved) {
    const double affine = 3 * (in[1].numel() > 0) + (in[2].numel() > 0);
    return {(9 + affine) * in[0].numel(), moved};
  }
  Tensor forward(const Tensor& x, const Tensor& weight, const Tensor& bias);
  void backward(const Tensor& g, const Tensor* in, const Tensor& y, Wanted, Gradients out) const;
  Tensor forward_cuda(const Tensor& x, const Tensor& weight, const Tensor& bias);
  void backward_cuda(const Tensor& g, const Tensor* in, const Tensor& y, Wanted,
                     Gradients out) const;
  Tensor composite(const Tensor& x, const Tensor& weight, const Tensor& bias) const;
};

struct Embedding : Heavy<2> {
  std::optional<std::int64_t> padding_idx;
  static constexpr OpInfo info{
      .name = "embedding", .math = "the rows weight[ids]", .args = {"ids", "weight"}};
  static constexpr auto attrs = std::tuple(attr(&Embedding::padding_idx, "padding_idx"));
  static constexpr bool widens_half = true;
  static constexpr unsigned gradients = 0b10, keeps = 0b011;
  static Cost cost(Metas in, const Meta& out) {  // of weight, the rows
    return {0, in[0].bytes() + 2 * out.bytes()};
  }
  static Cost backward_cost(Metas in, const Meta& out, double moved) {  // weight is not read
    return {out.numel(), moved - in[1].bytes()};
  }
  Tensor forward(const Tensor& ids, const Tensor& weight) const;
  void backward(const Tensor& g, const Tensor* in, const Tensor& y, Wanted, Gradients out) const;
  Tensor composite(const Tensor& ids, const Tensor& weight) const;
};

// Loss of each row of logits [rows, classes] against target [rows]; weight [classes] may be absent.
struct CrossEntropyRows : Heavy<3> {
  std::int64_t ignore_index = -100;
  double label_smoothing = 0;
  Tensor logsumexp;  // kept for backward, one per row
  static constexpr OpInfo info{.name = "cross_entropy_rows",
                               .math = "logsumexp(x) - x[target], per row",
                               .args = {"logits", "target", "weight"}};
  static constexpr auto attrs =
      std::tuple(attr(&CrossEntropyRows::ignore_index, "ignore_index"),
                 attr(&CrossEntropyRows::label_smoothing, "label_smoothing"));
  static constexpr bool widens_half = true;
  static constexpr unsigned optional = 0b100, gradients = 0b001, keeps = 0b0111;
  static Cost cost(Metas in, const Meta& out) {  // largest; difference, e^, sum
    return {4 * in[0].numel(), moved(in, out)};
  }
  static Cost backward_cost(Metas in, const Meta&, double moved) {  // e^(x - logsumexp) g
    return {3 * in[0].numel(), moved};
  }
  Tensor forward(const Tensor& logits, const Tensor& target, const Tensor& weight);
  void backward(const Tensor& g, const Tensor* in, const Tensor& y, Wanted, Gradients out) const;
  Tensor composite(const Tensor& logits, const Tensor& target, const Tensor& weight) const;
};

// logits [N, C, ...] or [C]; target: class indices [N, ...], or probabilities of the logits' shape.
struct CrossEntropy : Composite<3> {
  std::int64_t ignore_index = -100;
  std::string reduction = "mean";
  double label_smoothing = 0;
  static constexpr OpInfo info{.name = "cross_entropy",
                               .math = "-ln softmax(logits)[target], averaged",
                               .args = {"logits", "target", "weight"}};
  static constexpr auto attrs = std::tuple(attr(&CrossEntropy::ignore_index, "ignore_index"),
                                           attr(&CrossEntropy::reduction, "reduction"),
                                           attr(&CrossEntropy::label_smoothing, "label_smoothing"));
  static constexpr bool widens_half = true;
  static constexpr unsigned optional = 0b100;
  Tensor forward(const Tensor& logits, const Tensor& target, const Tensor& weight) const;
};

struct NllLoss : Composite<3> {
  std::int64_t ignore_index = -100;
  std::string reduction = "mean";
  static constexpr OpInfo info{.name = "nll_loss",
                               .math = "-x[target], weighted and averaged",
                               .args = {"x", "target", "weight"}};
  static constexpr auto attrs = std::tuple(attr(&NllLoss::ignore_index, "ignore_index"),
                                           attr(&NllLoss::reduction, "reduction"));
  static constexpr unsigned optional = 0b100;
  Tensor forward(const Tensor& x, const Tensor& target, const Tensor& weight) const;
};

struct MseLoss : Composite<2> {
  std::string reduction = "mean";
  static constexpr OpInfo info{
      .name = "mse_loss", .math = "(x - target)^2, averaged", .args = {"x", "target"}};
  static constexpr auto attrs = std::tuple(attr(&MseLoss::reduction, "reduction"));
  Tensor forward(const Tensor& x, const Tensor& target) const;
};

// query [..., L, E], key [..., S, E], value [..., S, Ev]; mask, broadcast to [..., L, S], is bool
// (false: not allowed) or added to the scores. A query that may look at nothing gives 0.
struct Attention : Heavy<4> {
  double dropout_p = 0;
  bool is_causal = false;
  std::optional<double> scale;
  Tensor logsumexp;  // kept for backward
  Stream stream;     // of the dropout
  static constexpr OpInfo info{
      .name = "scaled_dot_product_attention",
      .math = "softmax(query key^T scale + mask) value; scale: 1 / sqrt(E)",
      .args = {"query", "key", "value", "attn_mask"}};
  static constexpr auto attrs =
      std::tuple(attr(&Attention::dropout_p, "dropout_p"), attr(&Attention::is_causal, "is_causal"),
                 attr(&Attention::scale, "scale"));
  static constexpr bool multiplies_bfloat16 = true;
  // Few keys or narrow heads leave the panels of products empty: float32 is as fast there, and does
  // not round the weights.
  static bool products_pay(std::span<const Tensor* const> in) {
    return in[1]->rank() >= 2 && in[1]->size(-2) >= 64 && in[1]->size(-1) >= 32;
  }
  static constexpr bool widens_half = true;
  static constexpr unsigned optional = 0b1000, gradients = 0b1111, keeps = 0b11111;
  Cost cost(Metas in, const Meta& out) const;                         // of the two products
  Cost backward_cost(Metas in, const Meta& out, double moved) const;  // of five
  double pairs(Metas in, const Meta& out) const;
  Tensor forward(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& mask);
  void backward(const Tensor& g, const Tensor* in, const Tensor& y, Wanted, Gradients out) const;
  Tensor composite(const Tensor& query, const Tensor& key, const Tensor& value,
                   const Tensor& mask) const;
};

}  // namespace lg::ops
