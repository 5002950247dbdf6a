// Layers: against their formulas, PyTorch's defaults and shapes, masks of attention, losses.
#include <gtest/gtest.h>

#include <cmath>

#include "lightgrad/lightgrad.h"

namespace lg::nn {
namespace {

double largest_difference(const Tensor& a, const Tensor& b) {
  EXPECT_EQ(a.shape().to_string(), b.shape().to_string());
  return amax(abs(a - b)).item();
}

TEST(Layers, LinearIsItsFormulaAndStartsAsPyTorch) {
  auto m = make<Linear>(64, 300);
  Tensor x = randn({2, 5, 64});
  EXPECT_LT(largest_difference(m(x), matmul(x, transpose(m->weight, 0, 1)) + m->bias), 1e-5);
  for (const Tensor& p : {Tensor(m->weight), Tensor(m->bias)}) {
    EXPECT_LE(amax(abs(p)).item(), 1 / 8.0);
    EXPECT_GT(amax(abs(p)).item(), 0.95 / 8.0);
  }
  auto plain = make<Linear>(3, 4, false);
  EXPECT_EQ(plain->parameters().size(), 1u);
  EXPECT_EQ(make<Linear>(3, 4, true, DType::float64)->weight.dtype(), DType::float64);
  EXPECT_THROW(plain(randn({2, 4})), Error);
  EXPECT_THROW(make<Linear>(-1, 4), Error);
  EXPECT_EQ(make<Linear>(0, 4)(zeros({2, 0})).numel(), 8);
}

TEST(Layers, LayerNormIsItsFormula) {
  auto m = make<LayerNorm>(Shape{3, 4});
  init::uniform_(m->weight);
  init::uniform_(m->bias);
  Tensor x = randn({5, 3, 4});
  Tensor rows = reshape(x, {5, 12});
  Tensor centred = rows - mean(rows, 1, true);
  Tensor y = centred / sqrt(mean(square(centred), 1, true) + 1e-5);
  EXPECT_LT(largest_difference(m(x), reshape(y, {5, 3, 4}) * m->weight + m->bias), 1e-5);
  EXPECT_EQ(make<LayerNorm>(4, 1e-5, false)->parameters().size(), 0u);
  EXPECT_EQ(make<LayerNorm>(4, 1e-5, true, false)->parameters().size(), 1u);
  EXPECT_EQ(make<LayerNorm>(4)->to_string(), "LayerNorm((4,), eps=1e-05, elementwise_affine=True)");
  EXPECT_THROW(make<LayerNorm>(Shape{}), Error);
}

TEST(Layers, EmbeddingLeavesThePaddingRowAlone) {
  auto m = make<Embedding>(10, 3, -1);
  EXPECT_EQ(m->padding_idx, 9);
  Tensor y = m(tensor<std::int64_t>({9, 2, 2, 0}, {2, 2}));
  EXPECT_EQ(y.shape().to_string(), "[2, 2, 3]");
  EXPECT_EQ(y.to_vector<float>()[0], 0);
  sum(y).backward();
  const auto g = m->weight.grad().to_vector<float>();
  EXPECT_EQ(g[9 * 3], 0);
  EXPECT_EQ(g[2 * 3], 2);
  EXPECT_EQ(g[0], 1);
  EXPECT_THROW(make<Embedding>(10, 3, 10), Error);
  EXPECT_EQ(m->to_string(), "Embedding(10, 3, padding_idx=9)");
}

TEST(Layers, DropoutWorksOnlyInTraining) {
  auto m = make<Dropout>(0.25);
  Tensor x = ones({100, 100});
  const auto v = m(x).to_vector<float>();
  double kept = 0;
  for (float e : v) {
    EXPECT_TRUE(e == 0 || std::abs(e - 4.0f / 3) < 1e-6f);
    kept += e != 0;
  }
  EXPECT_NEAR(kept / 10000, 0.75, 0.02);
  m->eval();
  EXPECT_EQ(m(x).to_vector<float>(), x.to_vector<float>());
  EXPECT_THROW(make<Dropout>(1.5), Error);
}

TEST(Layers, ActivationsAreTheirOperations) {
  Tensor x = randn({4, 6});
  const auto same = [&](const auto& m, const Tensor& y) {
    EXPECT_EQ(m(x).template to_vector<float>(), y.to_vector<float>()) << m->type_name();
  };
  same(make<ReLU>(), relu(x));
  same(make<GELU>(), gelu(x));
  same(make<GELU>("tanh"), gelu(x, "tanh"));
  same(make<SiLU>(), silu(x));
  same(make<Tanh>(), tanh(x));
  same(make<Sigmoid>(), sigmoid(x));
  same(make<Softmax>(0), softmax(x, 0));
  same(make<LogSoftmax>(1), log_softmax(x, 1));
  same(make<LeakyReLU>(0.2), leaky_relu(x, 0.2));
  same(make<ELU>(0.5), elu(x, 0.5));
  same(make<Softplus>(2, 20), softplus(x, 2, 20));
  same(make<Flatten>(0), flatten(x, 0));
  same(make<Identity>(), x);
  EXPECT_THROW(make<GELU>("erf"), Error);
}

TEST(Layers, LossesAreTheirOperations) {
  Tensor logits = randn({6, 4}), target = tensor<std::int64_t>({0, 3, 1, 2, -100, 1}),
         weight = rand({4});
  EXPECT_EQ(make<CrossEntropyLoss>(weight, -100, "sum", 0.1)(logits, target).item(),
            cross_entropy(logits, target, weight, -100, "sum", 0.1).item());
  EXPECT_NEAR(make<NLLLoss>()(log_softmax(logits, 1), target).item(),
              make<CrossEntropyLoss>()(logits, target).item(), 1e-6);
  EXPECT_NEAR(make<MSELoss>("sum")(logits, logits + 2).item(), 4 * 24, 1e-3);
  EXPECT_EQ(make<CrossEntropyLoss>(weight)->state_dict().size(), 1u);
  EXPECT_THROW(make<MSELoss>("average"), Error);
}

// Attention from its definition, one query and head at a time, in double.
std::vector<double> attention_reference(const MultiheadAttention& m, const Tensor& q_in,
                                        const Tensor& k_in, const Tensor& v_in,
                                        const std::vector<bool>& hidden) {
  const auto n = q_in.size(0), length = q_in.size(1), keys = k_in.size(1), e = m.embed_dim,
             d = e / m.num_heads;
  const auto project = [&](const Tensor& x, std::int64_t part) {
    Tensor w = narrow(to(m.in_proj_weight, DType::float64), 0, part * e, e);
    return (matmul(to(x, DType::float64), transpose(w, 0, 1)) +
            narrow(to(m.in_proj_bias, DType::float64), 0, part * e, e))
        .to_vector<double>();
  };
  const auto q = project(q_in, 0), k = project(k_in, 1), v = project(v_in, 2);
  std::vector<double> y(static_cast<std::size_t>(n * length * e));
  for (std::int64_t b = 0; b < n; ++b)
    for (std::int64_t h = 0; h < m.num_heads; ++h)
      for (std::int64_t i = 0; i < length; ++i) {
        std::vector<double> p(static_cast<std::size_t>(keys));
        double total = 0;
        for (std::int64_t j = 0; j < keys; ++j) {
          double s = 0;
          for (std::int64_t c = 0; c < d; ++c)
            s += q[(b * length + i) * e + h * d + c] * k[(b * keys + j) * e + h * d + c];
          total += p[j] =
              hidden[(b * length + i) * keys + j] ? 0 : std::exp(s / std::sqrt(double(d)));
        }
        for (std::int64_t j = 0; j < keys; ++j)
          for (std::int64_t c = 0; c < d; ++c)
            y[(b * length + i) * e + h * d + c] += p[j] / total * v[(b * keys + j) * e + h * d + c];
      }
  Tensor heads = tensor(y, {n, length, e});
  return (matmul(heads, transpose(to(m.out_proj->weight, DType::float64), 0, 1)) +
          to(m.out_proj->bias, DType::float64))
      .to_vector<double>();
}

TEST(Layers, MultiheadAttentionIsItsDefinition) {
  auto m = make<MultiheadAttention>(8, 2, 0.0, true, true);
  init::uniform_(m->in_proj_bias);
  init::uniform_(m->out_proj->bias);
  Tensor x = randn({2, 5, 8}), other = randn({2, 7, 8}), value = randn({2, 7, 8});
  const auto check = [&](const Tensor& q, const Tensor& k, const Tensor& v, AttentionOptions o,
                         const std::vector<bool>& hidden) {
    const auto want = attention_reference(*m, q, k, v, hidden);
    for (bool weights : {false, true}) {
      o.need_weights = weights;
      auto [y, w] = m(q, k, v, o);
      const auto got = y.template to_vector<double>();
      for (std::size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-5) << weights;
      ASSERT_EQ(w.defined(), weights);
      if (weights) {
        ASSERT_NEAR(sum(w).item(), static_cast<double>(q.size(0) * q.size(1)), 1e-4);
      }
    }
  };
  check(x, x, x, {}, std::vector<bool>(50));
  check(x, other, value, {}, std::vector<bool>(70));

  std::vector<bool> causal(50), masked(70), padded(70), both(50);
  for (int b = 0; b < 2; ++b)
    for (int i = 0; i < 5; ++i) {
      for (int j = 0; j < 5; ++j) causal[(b * 5 + i) * 5 + j] = j > i;
      for (int j = 0; j < 5; ++j) both[(b * 5 + i) * 5 + j] = j > i || (b == 1 && j == 4);
      for (int j = 0; j < 7; ++j) masked[(b * 5 + i) * 7 + j] = (i + j) % 3 == 1;
      for (int j = 0; j < 7; ++j) padded[(b * 5 + i) * 7 + j] = b == 1 && j >= 5;
    }
  check(x, x, x, {.is_causal = true}, causal);
  Tensor mask = eq(remainder(reshape(arange(5), {5, 1}) + arange(7), 3), 1);
  check(x, other, value, {.attn_mask = mask}, masked);
  check(x, other, value, {.attn_mask = to(mask, DType::float32) * -1e9}, masked);
  Tensor padding = logical_and(ge(arange(7), 5), eq(reshape(arange(2), {2, 1}), 1));
  check(x, other, value, {.key_padding_mask = padding}, padded);
  Tensor last = logical_and(eq(arange(5), 4), eq(reshape(arange(2), {2, 1}), 1));
  check(x, x, x, {.key_padding_mask = last, .is_causal = true}, both);
}

TEST(Layers, MultiheadAttentionShapes) {
  auto m = make<MultiheadAttention>(8, 2);  // sequence first, as in PyTorch
  Tensor q = randn({5, 2, 8}), k = randn({7, 2, 8});
  auto [y, none] = m(q, k, k);
  EXPECT_EQ(y.shape().to_string(), "[5, 2, 8]");
  EXPECT_FALSE(none.defined());
  auto [z, weights] =
      m(q, k, k, AttentionOptions{.need_weights = true, .average_attn_weights = false});
  EXPECT_EQ(weights.shape().to_string(), "[2, 2, 5, 7]");
  auto [single, single_weights] =
      m(randn({5, 8}), randn({7, 8}), randn({7, 8}), AttentionOptions{.need_weights = true});
  EXPECT_EQ(single.shape().to_string(), "[5, 8]");
  EXPECT_EQ(single_weights.shape().to_string(), "[5, 7]");
  EXPECT_THROW(make<MultiheadAttention>(8, 3), Error);
  EXPECT_THROW(m(q, k, randn({7, 2, 9})), Error);
  EXPECT_THROW(m(q, k, k, AttentionOptions{.attn_mask = zeros({4, 7})}), Error);
  std::vector<std::string> names;
  for (auto& [name, p] : m->named_parameters()) names.push_back(name);
  EXPECT_EQ(names, (std::vector<std::string>{"in_proj_weight", "in_proj_bias", "out_proj.weight",
                                             "out_proj.bias"}));
  EXPECT_EQ(sum(abs(m->out_proj->bias)).item(), 0);
  sum(m(q, q, q).first).backward();
  for (auto& [name, p] : m->named_parameters()) EXPECT_TRUE(p.grad().defined()) << name;
}

TEST(Layers, BatchNormGoesIntoItsConvolution) {
  manual_seed(7);
  ConvOptions options;
  options.padding = 1;
  options.bias = false;
  const auto conv = make<Conv2d>(3, 4, 3, options);
  const auto bn = make<BatchNorm2d>(4);
  bn(conv(randn({8, 3, 6, 6}) * 3 + 1));  // statistics other than those at the start
  bn->weight.assign(rand({4}) + 0.5);
  bn->bias.assign(randn({4}));
  conv->eval();
  bn->eval();
  const auto fused = utils::fuse_conv_bn_eval(*conv, *bn);
  const Tensor x = randn({2, 3, 5, 7});
  EXPECT_LT(largest_difference(fused(x), bn(conv(x))), 1e-5);
  EXPECT_FALSE(conv->bias.defined());
  EXPECT_EQ(fused->parameters().size(), 2u);
  bn->train();
  EXPECT_THROW(utils::fuse_conv_bn_eval(*conv, *bn), Error);
}

}  // namespace
}  // namespace lg::nn
