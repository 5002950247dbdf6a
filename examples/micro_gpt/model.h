// model.h: nanoGPT's model (https://github.com/karpathy/nanoGPT, model.py) without biases: token
// and position embeddings, blocks of attention and MLP with the norm first, a head tied to the
// token embedding. Names and layouts of the state dict are nanoGPT's, so its weights load here.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "examples/common/program.h"

using lg::Tensor;
namespace nn = lg::nn;

struct GPTConfig {
  std::int64_t vocabulary = 65, context = 64, layers = 3, heads = 4, width = 128;
  double dropout = 0;
  bool checkpoint_activations = false;
};

struct Attention : nn::Module {
  std::int64_t heads;
  double dropout;
  nn::Child<nn::Linear> c_attn, c_proj;  // query, key and value in one product; and back
  nn::Child<nn::Dropout> resid_dropout;

  explicit Attention(const GPTConfig& s)
      : heads(s.heads),
        dropout(s.dropout),
        c_attn(this, "c_attn", s.width, 3 * s.width, false),
        c_proj(this, "c_proj", s.width, s.width, false),
        resid_dropout(this, "resid_dropout", s.dropout) {}

  Tensor forward(const Tensor& x) const {  // x (B, T, C)
    const std::int64_t B = x.size(0), T = x.size(1), C = x.size(2);
    std::vector<Tensor> qkv = lg::split(c_attn(x), C, 2);
    for (Tensor& part : qkv) part = lg::transpose(lg::view(part, {B, T, heads, C / heads}), 1, 2);
    const Tensor y = lg::scaled_dot_product_attention(  // (B, heads, T, C / heads)
        qkv[0], qkv[1], qkv[2], {}, training ? dropout : 0, true);
    return resid_dropout(c_proj(lg::reshape(lg::transpose(y, 1, 2), {B, T, C})));
  }
};

struct MLP : nn::Module {
  nn::Child<nn::Linear> c_fc, c_proj;
  nn::Child<nn::Dropout> dropout;

  explicit MLP(const GPTConfig& s)
      : c_fc(this, "c_fc", s.width, 4 * s.width, false),
        c_proj(this, "c_proj", 4 * s.width, s.width, false),
        dropout(this, "dropout", s.dropout) {}

  Tensor forward(const Tensor& x) const { return dropout(c_proj(lg::gelu(c_fc(x)))); }
};

struct Norm : nn::LayerNorm {
  explicit Norm(std::int64_t width) : nn::LayerNorm(width, 1e-5, true, false) {}
};

struct Block : nn::Module {
  nn::Child<Norm> ln_1;
  nn::Child<Attention> attn;
  nn::Child<Norm> ln_2;
  nn::Child<MLP> mlp;

  explicit Block(const GPTConfig& s)
      : ln_1(this, "ln_1", s.width),
        attn(this, "attn", s),
        ln_2(this, "ln_2", s.width),
        mlp(this, "mlp", s) {}

  Tensor forward(const Tensor& x) const {
    const Tensor y = x + attn(ln_1(x));
    return y + mlp(ln_2(y));
  }
};

struct Transformer : nn::Module {
  bool checkpoint_activations;
  nn::Child<nn::Embedding> wte, wpe;
  nn::Child<nn::Dropout> drop;
  nn::Child<nn::ModuleList> h;
  nn::Child<Norm> ln_f;

  explicit Transformer(const GPTConfig& s)
      : checkpoint_activations(s.checkpoint_activations),
        wte(this, "wte", s.vocabulary, s.width),
        wpe(this, "wpe", s.context, s.width),
        drop(this, "drop", s.dropout),
        h(this, "h"),
        ln_f(this, "ln_f", s.width) {
    for (std::int64_t i = 0; i < s.layers; ++i) h->append(nn::make<Block>(s));
  }

  Tensor forward(const Tensor& ids) const {
    Tensor x = drop(wte(ids) + wpe(lg::arange(ids.size(1))));
    for (nn::Module* block : h->children()) x = call_block(*block, x, checkpoint_activations);
    return ln_f(x);
  }
};

struct GPT : nn::Module {
  nn::Child<Transformer> transformer;
  nn::Child<nn::Linear> lm_head;

  explicit GPT(const GPTConfig& s)
      : transformer(this, "transformer", s),
        lm_head(this, "lm_head", s.width, s.vocabulary, false) {
    lm_head->weight = transformer->wte->weight;
    // Each block adds twice to the residual stream; the factor keeps its variance at any depth.
    const double residual = 0.02 / std::sqrt(2.0 * static_cast<double>(s.layers));
    for (const auto& [name, p] : named_parameters()) {
      if (p.rank() < 2) continue;  // norms stay at one
      nn::init::normal_(p, 0, name.ends_with("c_proj.weight") ? residual : 0.02);
    }
  }

  // Token ids (B, T) -> logits (B, T, vocabulary) of the token that follows each.
  Tensor forward(const Tensor& ids) const { return lm_head(transformer(ids)); }
};

inline Tensor loss_of(const nn::Mod<GPT>& model, const Tensor& ids, const Tensor& targets) {
  const Tensor logits = model(ids);
  return lg::cross_entropy(lg::view(logits, {-1, logits.size(-1)}), lg::reshape(targets, {-1}));
}
