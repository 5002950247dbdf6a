// op_samples_neural.cpp: samples of linear_activation, softmax, normalisation, losses, embedding,
// dropout and attention.
#include "tests/cpp/op_samples.h"

namespace lg::testing {

void add_neural_samples(Samples& s) {
  auto u = [](const Shape& shape, std::uint64_t seed) { return uniform(shape, -2, 2, seed); };
  const Tensor m = u({3, 5}, 110), c = u({2, 3, 4}, 111), big = u({300, 257}, 112);
  s["gelu"] = {{{m}, LG_F(gelu(a[0])), LG_F(a[0] * 0.5 * (erf(a[0] / std::sqrt(2.0)) + 1))},
               {{m}, LG_F(gelu(a[0], "tanh"))}};
  const auto fused = [](Tensors in, const char* f) {
    const auto bias = [](const Tensors& a) { return a.size() > 2 ? a[2] : Tensor(); };
    return Sample{
        std::move(in),
        [=](const Tensors& a) { return Tensors{linear_activation(a[0], a[1], bias(a), f)}; },
        {},
        [=](const Tensors& a) {
          return Tensors{make_op<ops::LinearActivation>(f).composite(a[0], a[1], bias(a))};
        }};
  };
  for (const char* f : {"relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"})
    s["linear_activation"].push_back(fused({u({2, 3, 4}, 160), u({5, 4}, 161), u({5}, 162)}, f));
  for (const char* f : {"relu", "gelu"}) {
    auto& all = s["linear_activation"];
    all.push_back(fused({u({4}, 163), u({7, 4}, 164)}, f));
    all.push_back(fused({u({3, 4}, 165), u({4}, 166), u({1}, 167)}, f));  // a number for each row
    all.push_back(fused({u({2, 1, 2, 3}, 168), u({5, 3}, 169), u({}, 170)}, f));
    all.push_back(fused({u({0, 4}, 171), u({2, 4}, 172), u({2}, 173)}, f));
    all.push_back(fused({u({3, 0}, 174), u({2, 0}, 175), u({2}, 176)}, f));
    all.push_back(fused({u({200, 90}, 177), u({257, 90}, 178), u({257}, 179)}, f));
    all.back().large = true;
    all.back().tolerance = 1e-4;
  }
  const Function by_rows = [](const Tensors& a) {
    return Tensors{by_lines(a[0], -1, softmax_line)};
  };
  const Function log_by_rows = [](const Tensors& a) {
    return Tensors{by_lines(a[0], -1, log_softmax_line)};
  };
  s["softmax_rows"] = {
      {{m}, LG_F(softmax_rows(a[0])), by_rows, LG_F(ops::SoftmaxRows::composite(a[0]))},
      {{big}, LG_F(softmax_rows(a[0])), {}, {}, true}};
  s["log_softmax_rows"] = {
      {{m}, LG_F(log_softmax_rows(a[0])), log_by_rows, LG_F(ops::LogSoftmaxRows::composite(a[0]))},
      {{big}, LG_F(log_softmax_rows(a[0])), {}, {}, true}};
  s["softmax"] = {{{c},
                   LG_F(softmax(a[0], 1)),
                   [](const Tensors& a) { return Tensors{by_lines(a[0], 1, softmax_line)}; }},
                  {{u({}, 113)}, LG_F(softmax(a[0])), LG_F(ones({}, DType::float64))},
                  {{u({0, 3}, 114)}, LG_F(softmax(a[0]))}};
  s["log_softmax"] = {{{c}, LG_F(log_softmax(a[0], 0)), [](const Tensors& a) {
                         return Tensors{by_lines(a[0], 0, log_softmax_line)};
                       }}};
  s["dropout_stream"] = {{{m},
                          LG_F(dropout_stream(a[0], 0.4, 7, 3)),
                          LG_F(a[0] * dropout_stream(ones({3, 5}, DType::float64), 0.4, 7, 3))},
                         {{big}, LG_F(dropout_stream(a[0], 0.4, 7, 3)), {}, {}, true}};
  s["dropout"] = {{{m}, LG_F(dropout(a[0], 0.4, false)), LG_F(a[0])},
                  {{m}, LG_F(dropout(a[0], 0.0) * 1), LG_F(a[0])},
                  {{m}, LG_F(dropout(a[0], 1.0)), LG_F(a[0] * 0)}};
  s["layer_norm"] = {
      {{m, u({5}, 115), u({5}, 116)},
       LG_F(layer_norm(a[0], {5}, a[1], a[2])),
       {},
       LG_F(make_op<ops::LayerNorm>(Shape{5}, 1e-5).composite(a[0], a[1], a[2]))},
      {{c, u({3, 4}, 117), u({3, 4}, 118)},
       LG_F(layer_norm(a[0], {3, 4}, a[1], a[2], 0.1)),
       {},
       LG_F(make_op<ops::LayerNorm>(Shape{3, 4}, 0.1).composite(a[0], a[1], a[2]))},
      {{m},
       LG_F(layer_norm(a[0], {5}, Tensor(), Tensor())),
       {},
       LG_F(make_op<ops::LayerNorm>(Shape{5}, 1e-5).composite(a[0], {}, {}))},
      {{m, u({5}, 119)},
       LG_F(layer_norm(a[0], {5}, Tensor(), a[1])),
       {},
       LG_F(make_op<ops::LayerNorm>(Shape{5}, 1e-5).composite(a[0], {}, a[1]))},
      {{u({0, 5}, 120), u({5}, 121), u({5}, 122)}, LG_F(layer_norm(a[0], {5}, a[1], a[2]))},
      {{big, u({257}, 123), u({257}, 124)},
       LG_F(layer_norm(a[0], {257}, a[1], a[2])),
       {},
       {},
       true,
       1e-3}};
  const Tensor ids = integers({2, 3}, 0, 4, 125), table = u({4, 3}, 126);
  s["embedding"] = {
      {{ids, table},
       LG_F(embedding(a[0], a[1])),
       LG_F(reshape(index_select(a[1], 0, flat(a[0])), {2, 3, 3})),
       LG_F(ops::Embedding{}.composite(a[0], a[1]))},
      {{zeros({0}, DType::int64), table}, LG_F(embedding(a[0], a[1]))},
      {{integers({5000}, 0, 300, 127), big}, LG_F(embedding(a[0], a[1])), {}, {}, true, 1e-3}};
  s["mse_loss"] = {
      {{m, u({3, 5}, 128)}, LG_F(mse_loss(a[0], a[1])), LG_F(mean(square(a[0] - a[1])))},
      {{m, u({3, 5}, 129)}, LG_F(mse_loss(a[0], a[1], "none"), mse_loss(a[0], a[1], "sum"))}};

  Tensor target = integers({3}, 0, 5, 130), skipped = target.copy();
  skipped.data<std::int64_t>()[1] = -100;
  const Tensor weight = to(arange(5) + 1, DType::float64);
  auto rows = [](std::int64_t ignore, double smoothing, const Tensor& w) {
    return Sample{{},
                  [=](const Tensors& a) {
                    return Tensors{cross_entropy_rows(a[0], a[1], w, ignore, smoothing)};
                  },
                  {},
                  [=](const Tensors& a) {
                    return Tensors{
                        make_op<ops::CrossEntropyRows>(ignore, smoothing).composite(a[0], a[1], w)};
                  }};
  };
  s["cross_entropy_rows"] = {rows(-100, 0, {}), rows(-100, 0.2, {}), rows(2, 0.1, {})};
  for (Sample& one : s["cross_entropy_rows"]) one.in = {m, skipped};
  s["cross_entropy_rows"][2].in = {m, target};
  s["cross_entropy_rows"].push_back({{big, integers({300}, 0, 257, 131)},
                                     LG_F(cross_entropy_rows(a[0], a[1], Tensor())),
                                     {},
                                     {},
                                     true});
  const Function chosen = [](const Tensors& a) {
    return Tensors{
        -sum(by_lines(a[0], -1, log_softmax_line) * to(one_hot(a[1], 5), DType::float64)) / 3};
  };
  auto weighted = [=](const Tensors& a) {
    return Tensors{cross_entropy(a[0], a[1], to(weight, a[0].dtype()))};
  };
  s["cross_entropy"] = {
      {{m, target}, LG_F(cross_entropy(a[0], a[1])), chosen},
      {{m, skipped}, LG_F(cross_entropy(a[0], a[1], Tensor(), -100, "none"))},
      {{m, skipped},
       weighted,
       [=](const Tensors& a) {
         const Tensor keep = tensor<std::int64_t>({0, 2});
         const Tensor x = index_select(a[0], 0, keep), t = index_select(a[1], 0, keep),
                      w = index_select(weight, 0, t);
         return Tensors{sum(w * cross_entropy(x, t, Tensor(), -100, "none")) / sum(w)};
       }},
      {{u({2, 5, 3}, 132), integers({2, 3}, 0, 5, 133)},
       LG_F(cross_entropy(a[0], a[1], Tensor(), -100, "mean", 0.1))},
      {{m, softmax(u({3, 5}, 134))},
       LG_F(cross_entropy(a[0], a[1])),
       LG_F(-sum(a[1] * log_softmax(a[0])) / 3)},
      {{u({5}, 135), integers({}, 0, 5, 136)}, LG_F(cross_entropy(a[0], a[1]))}};
  auto fused_mlp = [](Tensors in, double eps) {
    return Sample{
        std::move(in),
        [=](const Tensors& a) { return Tensors{lg::fused_mlp(a[0], a[1], a[2], a[3], a[4], eps)}; },
        [=](const Tensors& a) {
          const Tensor h = relu(matmul(a[0], transpose(a[1], 0, 1)) + a[2]);
          const Tensor d = h - mean(h, -1, true);
          return Tensors{d / sqrt(mean(d * d, -1, true) + eps) * a[3] + a[4]};
        },
        [=](const Tensors& a) {
          return Tensors{make_op<ops::FusedMlp>(eps).composite(a[0], a[1], a[2], a[3], a[4])};
        }};
  };
  s["fused_mlp"] = {
      fused_mlp({u({4, 3}, 160), u({5, 3}, 161), u({5}, 162), u({5}, 163), u({5}, 164)}, 1e-5),
      fused_mlp({u({2, 3, 4}, 165), u({6, 4}, 166), u({6}, 167), u({6}, 168), u({6}, 169)}, 0.1),
      {{u({300, 40}, 170), u({70, 40}, 171), u({70}, 172), u({70}, 173), u({70}, 174)},
       LG_F(lg::fused_mlp(a[0], a[1], a[2], a[3], a[4])),
       {},
       {},
       true,
       1e-4}};
  s["nll_loss"] = {
      {{m, target},
       LG_F(nll_loss(a[0], a[1])),
       LG_F(-sum(a[0] * to(one_hot(a[1], 5), a[0].dtype())) / 3)},
      {{m, skipped},
       [=](const Tensors& a) { return Tensors{nll_loss(a[0], a[1], to(weight, a[0].dtype()))}; }},
      {{u({2, 5, 3}, 137), integers({2, 3}, 0, 5, 138)},
       LG_F(nll_loss(a[0], a[1], Tensor(), -100, "sum"))}};

  const Tensor q = u({2, 2, 5, 4}, 139), k = u({2, 2, 6, 4}, 140), v = u({2, 2, 6, 3}, 141);
  const Tensor seen = to(integers({5, 6}, 0, 3, 142), DType::bool_), added = u({2, 1, 5, 6}, 143);
  Tensor blind = ones({5, 6}, DType::bool_);
  select(blind, 0, 2).assign(0);  // a query that may look at nothing
  auto attention = [](Tensors in, bool causal, std::optional<double> scale,
                      const Tensor& mask = {}) {
    return Sample{std::move(in),
                  [=](const Tensors& a) {
                    return Tensors{scaled_dot_product_attention(
                        a[0], a[1], a[2], a.size() > 3 ? a[3] : mask, 0.0, causal, scale)};
                  },
                  {},
                  [=](const Tensors& a) {
                    return Tensors{make_op<ops::Attention>(0.0, causal, scale)
                                       .composite(a[0], a[1], a[2], a.size() > 3 ? a[3] : mask)};
                  }};
  };
  s["scaled_dot_product_attention"] = {
      attention({q, k, v}, false, {}),
      attention({q, k, v}, true, 0.3),
      attention({q, k, v}, false, {}, seen),
      attention({q, k, v}, false, {}, blind),
      attention({q, k, v, added}, false, {}),
      attention({u({5, 4}, 144), u({6, 4}, 145), u({6, 3}, 146)}, false, {}),
      attention({u({3, 5, 4}, 147), u({1, 6, 4}, 148), u({3, 6, 3}, 149)}, true, {}),
      {{u({2, 4, 100, 16}, 150), u({2, 4, 100, 16}, 151), u({2, 4, 100, 16}, 152)},
       LG_F(scaled_dot_product_attention(a[0], a[1], a[2], Tensor(), 0.0, true)),
       {},
       {},
       true,
       1e-4}};
}

}  // namespace lg::testing
