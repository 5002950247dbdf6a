// attention.h: multi-head attention with PyTorch's parameters.
#pragma once

#include "lightgrad/nn/layers.h"

namespace lg::nn {

// What MultiheadAttention::forward takes besides its three inputs. Masks as in PyTorch: a bool mask
// is true where nothing may be looked at; a floating-point one is added to the scores.
struct AttentionOptions {
  Tensor key_padding_mask = {};  // [N, S], or [S] without a batch
  Tensor attn_mask = {};         // [L, S] or [N num_heads, L, S]
  bool need_weights = false;
  bool average_attn_weights = true;
  bool is_causal = false;  // query i looks at keys 0 .. i
};

// query [L, N, E], key and value [S, N, E]; with batch_first [N, L, E] and [N, S, E]; without a
// batch [L, E], [S, E]. Gives the output, shaped as the query, and the weights [N, L, S] (each
// head's: [N, num_heads, L, S]) if wanted.
struct MultiheadAttention : Module {
  std::int64_t embed_dim, num_heads;
  double dropout;
  bool batch_first;
  Param in_proj_weight, in_proj_bias;  // [3 embed_dim, embed_dim], [3 embed_dim]: query, key, value
  Child<Linear> out_proj;

  MultiheadAttention(std::int64_t embed_dim, std::int64_t num_heads, double dropout = 0,
                     bool bias = true, bool batch_first = false, OptionalDType dtype = {});
  void reset_parameters();
  std::pair<Tensor, Tensor> forward(const Tensor& query, const Tensor& key, const Tensor& value,
                                    const AttentionOptions& options) const;

 private:
  Tensor heads(const Tensor& x,
               int part) const;  // projected: [N, S, E] -> [N, num_heads, S, E / num_heads]
};

}  // namespace lg::nn
