// attention.cpp: projections around lg::scaled_dot_product_attention; spelled out only when the
// weights are wanted.
#include "lightgrad/nn/attention.h"

#include <cmath>
#include <limits>

#include "lightgrad/nn/init.h"
#include "lightgrad/ops/ops.h"

namespace lg::nn {

MultiheadAttention::MultiheadAttention(std::int64_t width, std::int64_t count, double p,
                                       bool with_bias, bool batch_is_first, OptionalDType dtype)
    : embed_dim(width),
      num_heads(count),
      dropout(p),
      batch_first(batch_is_first),
      in_proj_weight(this, "in_proj_weight", empty({3 * width, width}, dtype)),
      in_proj_bias(this, "in_proj_bias", with_bias ? empty({3 * width}, dtype) : Tensor()),
      out_proj(this, "out_proj", width, width, with_bias, dtype) {
  if (count <= 0 || width <= 0 || width % count != 0) {
    fail(ErrorKind::value, "MultiheadAttention", "embed_dim ", width,
         " is not a multiple of num_heads ", count);
  }
  if (!(p >= 0 && p <= 1)) {
    fail(ErrorKind::value, "MultiheadAttention", "dropout is ", p,
         ", expected a probability in [0, 1]");
  }
  reset_parameters();
}

void MultiheadAttention::reset_parameters() {
  init::xavier_uniform_(in_proj_weight);
  if (!in_proj_bias.defined()) return;
  init::zeros_(in_proj_bias);
  init::zeros_(out_proj->bias);
}

Tensor MultiheadAttention::heads(const Tensor& x, int part) const {
  const Tensor weight = lg::narrow(in_proj_weight, 0, part * embed_dim, embed_dim);
  const Tensor bias =
      in_proj_bias ? lg::narrow(in_proj_bias, 0, part * embed_dim, embed_dim) : Tensor();
  const Tensor y = lg::linear(x, weight, bias);
  return lg::transpose(lg::reshape(y, {x.size(0), x.size(1), num_heads, embed_dim / num_heads}), 1,
                       2);
}

namespace {

// Added to the scores: a bool mask becomes minus infinity where it is true.
Tensor additive(const Tensor& mask, DType dtype) {
  if (mask.dtype() != DType::bool_) return lg::to(mask, dtype);
  const Tensor zero = zeros(mask.shape(), dtype);
  return lg::masked_fill(zero, mask, Tensor(-std::numeric_limits<double>::infinity()));
}

}  // namespace

std::pair<Tensor, Tensor> MultiheadAttention::forward(const Tensor& query, const Tensor& key,
                                                      const Tensor& value,
                                                      const AttentionOptions& options) const {
  for (const Tensor* t : {&query, &key, &value}) {
    if (t->rank() != query.rank() || (t->rank() != 2 && t->rank() != 3) ||
        t->size(-1) != embed_dim) {
      fail(ErrorKind::value, "MultiheadAttention", "query ", query.shape(), ", key ", key.shape(),
           " and value ", value.shape(),
           " have two or three dimensions, the last of size embed_dim ", embed_dim);
    }
  }
  const bool batched = query.rank() == 3;
  const auto batch_major = [&](const Tensor& x) {
    return !batched ? lg::unsqueeze(x, 0) : batch_first ? x : lg::transpose(x, 0, 1);
  };
  const Tensor q_in = batch_major(query), k_in = batch_major(key), v_in = batch_major(value);
  const std::int64_t n = q_in.size(0), length = q_in.size(1), keys = k_in.size(1);
  Tensor q, k, v;                                  // [n, num_heads, length or keys, width]
  if (query.is_same(key) && key.is_same(value)) {  // one product instead of three
    const Tensor all = lg::reshape(lg::linear(q_in, in_proj_weight, in_proj_bias),
                                   {n, length, 3, num_heads, embed_dim / num_heads});
    const auto part = [&](std::int64_t i) { return lg::transpose(lg::select(all, 2, i), 1, 2); };
    q = part(0), k = part(1), v = part(2);
  } else {
    q = heads(q_in, 0), k = heads(k_in, 1), v = heads(v_in, 2);
  }

  Tensor mask;  // added to the scores [n, num_heads, length, keys]
  const auto add_mask = [&](const Tensor& m) { mask = mask ? mask + m : m; };
  if (const Tensor& m = options.attn_mask; m.defined()) {
    if (m.shape() == Shape{length, keys}) {
      add_mask(additive(m, q.dtype()));
    } else if (m.shape() == Shape{n * num_heads, length, keys}) {
      add_mask(lg::reshape(additive(m, q.dtype()), {n, num_heads, length, keys}));
    } else {
      fail(ErrorKind::value, "MultiheadAttention", "attn_mask is ", m.shape(), ", expected ",
           Shape{length, keys}, " or ", Shape{n * num_heads, length, keys});
    }
  }
  if (const Tensor& m = options.key_padding_mask; m.defined()) {
    if (!(m.shape() == (batched ? Shape{n, keys} : Shape{keys}))) {
      fail(ErrorKind::value, "MultiheadAttention", "key_padding_mask is ", m.shape(), ", expected ",
           batched ? Shape{n, keys} : Shape{keys});
    }
    add_mask(lg::reshape(additive(m, q.dtype()), {n, 1, 1, keys}));
  }

  const double p = training ? dropout : 0;
  Tensor y, weights;
  if (!options.need_weights && !(options.is_causal && mask.defined())) {
    y = lg::scaled_dot_product_attention(q, k, v, mask, p, options.is_causal);
  } else {
    if (options.is_causal) {
      add_mask(additive(lg::triu(ones({length, keys}, DType::bool_), 1), q.dtype()));
    }
    if (!options.need_weights) {
      y = lg::scaled_dot_product_attention(q, k, v, mask, p);
    } else {
      const double scale = 1 / std::sqrt(static_cast<double>(embed_dim / num_heads));
      const Tensor scores = lg::matmul(q * scale, lg::transpose(k, -2, -1));
      weights = lg::dropout(lg::softmax(mask ? scores + mask : scores, -1), p, training);
      y = lg::matmul(weights, v);
      if (options.average_attn_weights) weights = lg::mean(weights, 1);
      if (!batched) weights = lg::squeeze(weights, 0);
    }
  }
  y = out_proj(lg::reshape(lg::transpose(y, 1, 2), {n, length, embed_dim}));
  return {!batched ? lg::squeeze(y, 0) : batch_first ? y : lg::transpose(y, 0, 1), weights};
}

}  // namespace lg::nn
