// op_samples_images.cpp: samples of convolution, normalisation of channels, and pooling.
#include <algorithm>
#include <numeric>

#include "tests/cpp/op_samples.h"

namespace lg::testing {

namespace {

// Convolution by plain loops over x [N, C, H, W], weight [O, C / groups, P, Q], y [N, O, I, J].
struct PlainConv {
  Shape stride{1, 1}, padding{0, 0, 0, 0}, dilation{1, 1};
  std::int64_t groups = 1;

  // f(index in x, in weight, in y) of each product.
  template <class F> void each(const Shape& x, const Shape& w, const Shape& y, F&& f) const {
    for (std::int64_t n = 0; n < x[0]; ++n)
      for (std::int64_t o = 0; o < w[0]; ++o)
        for (std::int64_t c = 0; c < w[1]; ++c)
          for (std::int64_t i = 0; i < y[2]; ++i)
            for (std::int64_t j = 0; j < y[3]; ++j)
              for (std::int64_t p = 0; p < w[2]; ++p)
                for (std::int64_t q = 0; q < w[3]; ++q) {
                  const std::int64_t row = i * stride[0] - padding[0] + p * dilation[0];
                  const std::int64_t column = j * stride[1] - padding[1] + q * dilation[1];
                  if (row < 0 || row >= x[2] || column < 0 || column >= x[3]) continue;
                  const std::int64_t channel = o / (w[0] / groups) * w[1] + c;
                  f(static_cast<std::size_t>(((n * x[1] + channel) * x[2] + row) * x[3] + column),
                    static_cast<std::size_t>(((o * w[1] + c) * w[2] + p) * w[3] + q),
                    static_cast<std::size_t>(((n * w[0] + o) * y[2] + i) * y[3] + j));
                }
  }
  Shape out(const Shape& x, const Shape& w) const {
    Shape y{x[0], w[0]};
    for (int d = 0; d < 2; ++d) {
      y.push_back((x[2 + d] + padding[d] + padding[2 + d] - dilation[d] * (w[2 + d] - 1) - 1) /
                      stride[d] +
                  1);
    }
    return y;
  }
  Tensor forward(const Tensor& x, const Tensor& w, const Tensor& bias = {}) const {
    const Shape shape = out(x.shape(), w.shape());
    Tensor y = zeros(shape, DType::float64);
    const auto a = x.to_vector<double>(), b = w.to_vector<double>();
    double* to = y.data<double>();
    each(x.shape(), w.shape(), shape,
         [&](std::size_t i, std::size_t k, std::size_t o) { to[o] += a[i] * b[k]; });
    return bias.defined() ? y + reshape(bias, {-1, 1, 1}) : y;
  }
  Tensor input_grad(const Tensor& g, const Tensor& w, const Shape& shape) const {
    Tensor x = zeros(shape, DType::float64);
    const auto a = g.to_vector<double>(), b = w.to_vector<double>();
    double* to = x.data<double>();
    each(shape, w.shape(), g.shape(),
         [&](std::size_t i, std::size_t k, std::size_t o) { to[i] += a[o] * b[k]; });
    return x;
  }
  Tensor weight_grad(const Tensor& g, const Tensor& x, const Shape& shape) const {
    Tensor w = zeros(shape, DType::float64);
    const auto a = g.to_vector<double>(), b = x.to_vector<double>();
    double* to = w.data<double>();
    each(x.shape(), shape, g.shape(),
         [&](std::size_t i, std::size_t k, std::size_t o) { to[k] += a[o] * b[i]; });
    return w;
  }
};

Tensor u(const Shape& shape, std::uint64_t seed) { return uniform(shape, -2, 2, seed); }

void add_convolutions(Samples& s) {
  struct Case {
    Shape x, w;
    PlainConv conv;
  };
  const std::vector<Case> cases = {
      {{2, 3, 5, 4}, {4, 3, 3, 3}, {.padding = {1, 1, 1, 1}}},
      {{1, 2, 6, 5}, {3, 2, 3, 2}, {.stride = {2, 1}, .padding = {1, 0, 1, 0}}},
      {{1, 2, 7, 6}, {2, 2, 2, 3}, {.padding = {2, 1, 0, 2}, .dilation = {2, 1}}},
      {{1, 4, 5, 5}, {6, 2, 3, 3}, {.stride = {2, 2}, .padding = {1, 1, 1, 1}, .groups = 2}},
      {{2, 3, 4, 4}, {3, 1, 3, 3}, {.padding = {1, 1, 1, 1}, .groups = 3}},
      {{1, 2, 5, 5}, {3, 2, 1, 1}, {.stride = {3, 3}}},
      {{1, 1, 4, 4}, {1, 1, 2, 2}, {.padding = {-1, 0, 0, -1}}},
      {{0, 2, 4, 4}, {3, 2, 3, 3}, {.padding = {1, 1, 1, 1}}},
      {{6, 16, 20, 20}, {24, 16, 3, 3}, {.padding = {1, 1, 1, 1}}},
  };
  std::uint64_t seed = 200;
  for (const auto& [x, w, c] : cases) {
    const bool large = x[1] == 16;
    const Shape y = c.out(x, w), xs = x, ws = w;
    const PlainConv conv = c;
    const double tolerance = large ? 1e-3 : 1e-5;
    s["convolution"].push_back(
        {{u(x, ++seed), u(w, ++seed), u({w[0]}, ++seed)},
         [=](const Tensors& a) {
           return Tensors{convolution(a[0], a[1], a[2], conv.stride, conv.padding, conv.dilation,
                                      conv.groups)};
         },
         [=](const Tensors& a) { return Tensors{conv.forward(a[0], a[1], a[2])}; },
         {},
         large,
         tolerance});
    s["convolution_input_grad"].push_back(
        {{u(y, ++seed), u(w, ++seed)},
         [=](const Tensors& a) {
           return Tensors{convolution_input_grad(a[0], a[1], xs, conv.stride, conv.padding,
                                                 conv.dilation, conv.groups)};
         },
         [=](const Tensors& a) { return Tensors{conv.input_grad(a[0], a[1], xs)}; },
         {},
         large,
         tolerance});
    s["convolution_weight_grad"].push_back(
        {{u(y, ++seed), u(x, ++seed)},
         [=](const Tensors& a) {
           return Tensors{convolution_weight_grad(a[0], a[1], ws, conv.stride, conv.padding,
                                                  conv.dilation, conv.groups)};
         },
         [=](const Tensors& a) { return Tensors{conv.weight_grad(a[0], a[1], ws)}; },
         {},
         large,
         10 * tolerance});
  }
  s["conv2d"] = {
      {{u({2, 3, 5, 4}, 260), u({4, 3, 3, 3}, 261), u({4}, 262)},
       LG_F(conv2d(a[0], a[1], a[2], {2}, 1)),
       LG_F(PlainConv{.stride = {2, 2}, .padding = {1, 1, 1, 1}}.forward(a[0], a[1], a[2]))},
      {{u({2, 3, 5, 4}, 263), u({4, 3, 2, 3}, 264)},
       LG_F(conv2d(a[0], a[1], Tensor(), {1}, "same")),
       LG_F(PlainConv{.padding = {0, 1, 1, 1}}.forward(a[0], a[1]))},
      {{u({4, 5, 4}, 265), u({2, 2, 3, 3}, 266)},  // no batch
       LG_F(conv2d(a[0], a[1], Tensor(), {1}, {1, 0}, {1}, 2)),
       LG_F(squeeze(
           PlainConv{.padding = {1, 0, 1, 0}, .groups = 2}.forward(unsqueeze(a[0], 0), a[1]), 0))}};
  s["conv1d"] = {
      {{u({2, 3, 7}, 267), u({4, 3, 3}, 268), u({4}, 269)},
       LG_F(conv1d(a[0], a[1], a[2], {2}, 1, {2})),
       LG_F(
           squeeze(PlainConv{.stride = {1, 2}, .padding = {0, 1, 0, 1}, .dilation = {1, 2}}.forward(
                       unsqueeze(a[0], 2), unsqueeze(a[1], 2), a[2]),
                   2))},
      {{u({2, 5}, 270), u({3, 2, 2}, 271)}, LG_F(conv1d(a[0], a[1], Tensor(), {1}, "same"))}};
  s["conv_transpose2d"] = {
      {{u({2, 3, 3, 4}, 272), u({3, 2, 3, 3}, 273), u({2}, 274)},
       LG_F(conv_transpose2d(a[0], a[1], a[2], {2}, {1}, {1})),
       LG_F(PlainConv{.stride = {2, 2}, .padding = {1, 1, 0, 0}}.input_grad(a[0], a[1],
                                                                            {2, 2, 6, 8}) +
            reshape(a[2], {2, 1, 1}))},
      {{u({1, 4, 3, 3}, 275), u({4, 1, 2, 2}, 276)},
       LG_F(conv_transpose2d(a[0], a[1], Tensor(), {1}, {0}, {0, 1}, 2, {2})),
       LG_F(PlainConv{.padding = {0, 0, 0, -1}, .dilation = {2, 2}, .groups = 2}.input_grad(
           a[0], a[1], {1, 2, 5, 6}))},
      {{u({2, 3, 3}, 277), u({2, 2, 2, 2}, 278)},
       LG_F(conv_transpose2d(a[0], a[1], Tensor(), {3}))}};
}

void add_normalizations(Samples& s) {
  const auto norm = [](Tensors in, double eps, bool relu, bool residual = false) {
    return Sample{std::move(in),
                  [=](const Tensors& a) {
                    const Tensor none, &r = residual ? a.back() : none;
                    return Tensors{a.size() > 2 ? batch_norm_rows(a[0], a[1], a[2], r, eps, relu)
                                                : batch_norm_rows(a[0], none, none, r, eps, relu)};
                  },
                  {},
                  [=](const Tensors& a) {
                    const Tensor none, &r = residual ? a.back() : none;
                    const auto op = make_op<ops::BatchNorm>(eps, relu);
                    return Tensors{a.size() > 2 ? op.composite(a[0], a[1], a[2], r)
                                                : op.composite(a[0], none, none, r)};
                  }};
  };
  const Tensor x = u({3, 2, 2, 3}, 280), w = u({2}, 281), b = u({2}, 282);
  s["batch_norm_rows"] = {norm({x, w, b}, 1e-5, false),
                          norm({x, w, b}, 0.1, true),
                          norm({x, w, b, u({3, 2, 2, 3}, 283)}, 1e-5, true, true),
                          norm({x}, 1e-3, false),
                          norm({x, u({3, 2, 2, 3}, 284)}, 1e-3, false, true),
                          norm({u({5, 3}, 285), u({3}, 286), u({3}, 287)}, 1e-5, false),
                          norm({u({8, 12, 30, 30}, 288), u({12}, 289), u({12}, 290)}, 1e-5, true)};
  s["batch_norm_rows"].back().large = true;
  s["batch_norm_rows"].back().tolerance = 1e-3;
  s["group_norm"] = {
      {{u({2, 4, 3}, 291), u({4}, 292), u({4}, 293)},
       LG_F(group_norm(a[0], 2, a[1], a[2])),
       LG_F(
           reshape(make_op<ops::LayerNorm>(Shape{6}, 1e-5).composite(reshape(a[0], {4, 6}), {}, {}),
                   {2, 4, 3}) *
               reshape(a[1], {4, 1}) +
           reshape(a[2], {4, 1}))},
      {{u({2, 4, 2, 2}, 294)}, LG_F(group_norm(a[0], 4, Tensor(), Tensor(), 0.1))}};
}

// Window by window of the last two dimensions, on plain numbers.
using OnWindow = std::function<double(const Line&)>;
Tensor by_windows(const Tensor& x, std::int64_t kernel, std::int64_t stride, std::int64_t padding,
                  const Shape& out, const OnWindow& f) {
  const auto all = x.to_vector<double>();
  const std::int64_t H = x.size(-2), W = x.size(-1), planes = x.numel() / (H * W);
  Line values;
  for (std::int64_t p = 0; p < planes; ++p) {
    for (std::int64_t i = 0; i < out[0]; ++i) {
      for (std::int64_t j = 0; j < out[1]; ++j) {
        Line window;
        for (std::int64_t k = 0; k < kernel * kernel; ++k) {
          const std::int64_t r = i * stride - padding + k / kernel,
                             c = j * stride - padding + k % kernel;
          if (r < 0 || r >= H || c < 0 || c >= W) continue;
          window.push_back(all[static_cast<std::size_t>((p * H + r) * W + c)]);
        }
        values.push_back(f(window));
      }
    }
  }
  Shape shape = x.shape();
  shape[x.rank() - 2] = out[0];
  shape[x.rank() - 1] = out[1];
  return tensor(values, shape);
}

double largest(const Line& x) { return *std::max_element(x.begin(), x.end()); }
double total(const Line& x) { return std::accumulate(x.begin(), x.end(), 0.0); }
double average(const Line& x) { return total(x) / static_cast<double>(x.size()); }

void add_poolings(Samples& s) {
  const Tensor x = u({2, 3, 5, 6}, 300), one = u({2, 4, 4}, 301), big = u({16, 8, 40, 40}, 302);
  s["max_pool2d_indices"] = {
      {{u({1, 4, 4}, 303)},
       LG_F(max_pool2d_indices(a[0], {2})),
       [](const Tensors& a) {  // as the places where the largest elements stand
         const Tensor at = max_pool2d(to(a[0], DType::float64), {2});
         Line found;
         for (const double v : at.to_vector<double>()) {
           const auto all = to(a[0], DType::float64).to_vector<double>();
           found.push_back(static_cast<double>(std::find(all.begin(), all.end(), v) - all.begin()));
         }
         return Tensors{to(tensor(found, {1, 2, 2}), DType::int64)};
       }},
      {{big}, LG_F(max_pool2d_indices(a[0], {3}, Shape{2}, {1})), {}, {}, true}};
  s["max_pool2d"] = {
      {{x}, LG_F(max_pool2d(a[0], {2})), LG_F(by_windows(a[0], 2, 2, 0, {2, 3}, largest))},
      {{x},
       LG_F(max_pool2d(a[0], {3}, Shape{2}, {1})),
       LG_F(by_windows(a[0], 3, 2, 1, {3, 3}, largest))},
      {{x},
       LG_F(max_pool2d(a[0], {2}, Shape{2}, {0}, {1}, true)),
       LG_F(by_windows(a[0], 2, 2, 0, {3, 3}, largest))},
      {{one}, LG_F(max_pool2d(a[0], {2}, Shape{1}, {0}, {2}))},
      {{big}, LG_F(max_pool2d(a[0], {2})), {}, {}, true}};
  s["avg_pool2d"] = {
      {{x}, LG_F(avg_pool2d(a[0], {2})), LG_F(by_windows(a[0], 2, 2, 0, {2, 3}, average))},
      {{x},
       LG_F(avg_pool2d(a[0], {3}, Shape{2}, {1}, false, false)),
       LG_F(by_windows(a[0], 3, 2, 1, {3, 3}, average))},
      {{x},
       LG_F(avg_pool2d(a[0], {3}, Shape{2}, {1})),
       LG_F(by_windows(a[0], 3, 2, 1, {3, 3}, total) / 9)},
      {{one},
       LG_F(avg_pool2d(a[0], {3}, Shape{1}, {0}, false, true, 5)),
       LG_F(by_windows(a[0], 3, 1, 0, {2, 2}, total) / 5)},
      {{one}, LG_F(avg_pool2d(a[0], {3}, Shape{2}, {1}, true))},
      {{big}, LG_F(avg_pool2d(a[0], {2})), {}, {}, true}};
  s["adaptive_avg_pool2d"] = {
      {{x}, LG_F(adaptive_avg_pool2d(a[0], {1})), LG_F(mean(a[0], {2, 3}, true))},
      {{one},
       LG_F(adaptive_avg_pool2d(a[0], {2})),
       LG_F(by_windows(a[0], 2, 2, 0, {2, 2}, average))},
      {{x}, LG_F(adaptive_avg_pool2d(a[0], {3, 7}))}};
  s["interpolate"] = {
      {{one},
       [](const Tensors& a) {
         return Tensors{interpolate(unsqueeze(a[0], 0), Shape{8, 8})};
       },
       [](const Tensors& a) {
         return Tensors{unsqueeze(
             reshape(expand(reshape(a[0], {2, 4, 1, 4, 1}), {2, 4, 2, 4, 2}), {2, 8, 8}), 0)};
       }},
      {{x}, LG_F(interpolate(a[0], std::nullopt, Scale{0.6, 1.7}))},
      {{x},
       LG_F(interpolate(a[0], Shape{9, 11}, std::nullopt, "bilinear", true),
            interpolate(a[0], Shape{3, 4}, std::nullopt, "bilinear"))},
      {{u({1, 1, 1, 2}, 304)},
       LG_F(interpolate(a[0], Shape{1, 3}, std::nullopt, "bilinear", true)),
       LG_F(matmul(a[0], to(tensor(Line{1, 0.5, 0, 0, 0.5, 1}, {2, 3}), a[0].dtype())))},
      {{u({1, 2, 4}, 305)}, LG_F(interpolate(a[0], std::nullopt, Scale(2.5), "linear"))},
      {{x},
       LG_F(interpolate(a[0], Shape{4}, std::nullopt, "area")),
       LG_F(adaptive_avg_pool2d(a[0], {4}))}};
  s["pad"] = {
      {{u({2, 3}, 306)},
       LG_F(pad(a[0], {1, 2, 0, 1}, "constant", 5.0)),
       LG_F(cat({cat({full({2, 1}, 5.0, a[0].dtype()), a[0], full({2, 2}, 5.0, a[0].dtype())}, 1),
                 full({1, 6}, 5.0, a[0].dtype())},
                0))},
      {{u({2, 5}, 307)},
       LG_F(pad(a[0], {-1, 2})),
       LG_F(cat({slice(a[0], 1, 1), zeros({2, 2}, a[0].dtype())}, 1))},
      {{u({1, 4}, 308)},
       LG_F(pad(a[0], {2, 1}, "reflect")),
       LG_F(index_select(a[0], 1, tensor<std::int64_t>({2, 1, 0, 1, 2, 3, 2})))},
      {{u({3, 2}, 309)},
       LG_F(pad(a[0], {0, 0, 2, 1}, "replicate")),
       LG_F(index_select(a[0], 0, tensor<std::int64_t>({0, 0, 0, 1, 2, 2})))},
      {{u({1, 4}, 310)},
       LG_F(pad(a[0], {1, 3}, "circular")),
       LG_F(index_select(a[0], 1, tensor<std::int64_t>({3, 0, 1, 2, 3, 0, 1, 2})))},
      {{u({2, 4, 4}, 311)}, LG_F(pad(a[0], {1, -1, -2, 2}, "replicate"))}};
}

}  // namespace

void add_image_samples(Samples& s) {
  add_convolutions(s);
  add_normalizations(s);
  add_poolings(s);
}

}  // namespace lg::testing
