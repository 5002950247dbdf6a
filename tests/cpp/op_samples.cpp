// op_samples.cpp: the samples themselves, with results by plain loops over lines of numbers or in
// terms of other operations.
#include "tests/cpp/op_samples.h"

#include <algorithm>
#include <numeric>

namespace lg::testing {
namespace {

// The elements along two dimensions as the last dimension.
Tensor pair_last(const Tensor& x, std::int64_t a, std::int64_t b) {
  Shape order;
  for (int i = 0; i < x.rank(); ++i)
    if (i != a && i != b) order.push_back(i);
  order.push_back(a);
  order.push_back(b);
  return flatten(permute(x, order), -2, -1);
}

// A reduction over one dimension, two that are not neighbours, and all, with and without keepdim.
template <class Reduce>
std::vector<Sample> reduction_samples(Reduce reduce, const OnLine& line, double low, double high,
                                      DType dtype = DType::float64) {
  const Tensor x = uniform({3, 4, 5}, low, high, 11);
  auto wide = uniform({7, 6000}, low, high, 12), tall = uniform({6000, 9}, low, high, 13);
  return {
      {{x},
       [=](const Tensors& a) { return Tensors{reduce(a[0], Axes(1), false)}; },
       [=](const Tensors& a) { return Tensors{squeeze(by_lines(a[0], 1, line, dtype), 1)}; }},
      {{x},
       [=](const Tensors& a) {
         return Tensors{reduce(a[0], Axes{0, 2}, false)};
       },
       [=](const Tensors& a) {
         return Tensors{squeeze(by_lines(pair_last(a[0], 0, 2), -1, line, dtype), -1)};
       }},
      {{x},
       [=](const Tensors& a) {
         return Tensors{reduce(a[0], Axes{-1, -2}, true)};
       },
       [=](const Tensors& a) {
         return Tensors{unsqueeze(by_lines(pair_last(a[0], 1, 2), -1, line, dtype), -1)};
       }},
      {{x},
       [=](const Tensors& a) { return Tensors{reduce(a[0], Axes(), false)}; },
       [=](const Tensors& a) {
         return Tensors{reshape(by_lines(flat(a[0]), 0, line, dtype), {})};
       }},
      {{uniform({}, low, high, 14)},
       [=](const Tensors& a) { return Tensors{reduce(a[0], Axes(), false)}; },
       [=](const Tensors& a) {
         return Tensors{reshape(by_lines(flat(a[0]), 0, line, dtype), {})};
       }},
      {{wide},
       [=](const Tensors& a) { return Tensors{reduce(a[0], Axes(-1), false)}; },
       {},
       {},
       true,
       3e-4},
      {{tall},
       [=](const Tensors& a) { return Tensors{reduce(a[0], Axes(0), false)}; },
       {},
       {},
       true,
       3e-4},
  };
}

double total(const Line& x) { return std::accumulate(x.begin(), x.end(), 0.0); }
double variance(const Line& x, double correction) {
  const double n = static_cast<double>(x.size()), mean = total(x) / n;
  double s = 0;
  for (double v : x) s += (v - mean) * (v - mean);
  return s / (n - correction);
}
double p_norm(const Line& x, double p) {
  double s = 0;
  for (double v : x) s = std::isinf(p) ? std::max(s, std::abs(v)) : s + std::pow(std::abs(v), p);
  return std::isinf(p) ? s : std::pow(s, 1 / p);
}
std::vector<std::size_t> order_of(const Line& x, bool descending) {
  std::vector<std::size_t> at(x.size());
  std::iota(at.begin(), at.end(), std::size_t{0});
  std::stable_sort(at.begin(), at.end(),
                   [&](auto i, auto j) { return descending ? x[i] > x[j] : x[i] < x[j]; });
  return at;
}
Line sorted(const Line& x, bool descending, bool indices, std::size_t k) {
  Line y;
  for (auto i : order_of(x, descending)) y.push_back(indices ? static_cast<double>(i) : x[i]);
  y.resize(std::min(k, y.size()));
  return y;
}
Tensors both(const ValuesIndices& v) { return {v.values, v.indices}; }

void add_view_samples(Samples& s) {
  const Tensor v = uniform({5}, -2, 2, 20), m = uniform({3, 4}, -2, 2, 21),
               c = uniform({2, 3, 4}, -2, 2, 22), zero_dim = uniform({}, -2, 2, 23),
               none = uniform({0, 3}, -2, 2, 24), big = uniform({257, 300}, -2, 2, 25);
  s["cast"] = {{{m}, LG_F(cast(a[0], DType::float64)), LG_F(a[0])}};
  s["to"] = {{{m}, LG_F(to(a[0], DType::float64) * 2), LG_F(a[0] + a[0])}};
  s["clone"] = {{{m}, LG_F(clone(a[0])), LG_F(a[0])},
                {{none}, LG_F(clone(a[0]))},
                {{big}, LG_F(clone(transpose(a[0], 0, 1))), {}, {}, true}};
  s["alias"] = {{{m}, LG_F(alias(a[0])), LG_F(a[0])}};
  s["contiguous"] = {{{c}, LG_F(contiguous(transpose(a[0], 0, 2)))}};
  s["expand"] = {{{uniform({3, 1}, -2, 2, 26)},
                  LG_F(expand(a[0], {2, -1, 4})),
                  LG_F(a[0] + zeros({2, 3, 4}, a[0].dtype()))},
                 {{zero_dim}, LG_F(expand(a[0], {2, 2}))}};
  s["sum_to"] = {{{c}, LG_F(sum_to(a[0], {3, 1})), LG_F(sum(sum(a[0], 0), -1, true))},
                 {{m}, LG_F(sum_to(a[0], {}))},
                 {{big}, LG_F(sum_to(a[0], {1, 300})), {}, {}, true}};
  s["transpose"] = {{{c}, LG_F(transpose(a[0], 0, -1)), LG_F(permute(a[0], {2, 1, 0}))},
                    {{zero_dim}, LG_F(transpose(a[0], 0, -1))}};
  s["permute"] = {{{c}, LG_F(permute(a[0], {-1, 0, 1}))}};
  s["reshape"] = {{{c}, LG_F(reshape(a[0], {4, -1}))},
                  {{c}, LG_F(reshape(transpose(a[0], 0, 2), {6, 4}))},
                  {{none}, LG_F(reshape(a[0], {3, 0}))}};
  s["view"] = {{{m}, LG_F(view(contiguous(a[0]), {2, 6})), LG_F(reshape(a[0], {2, 6}))}};
  s["squeeze"] = {
      {{uniform({1, 3, 1}, -2, 2, 27)}, LG_F(squeeze(a[0]), squeeze(a[0], 0), squeeze(a[0], 1))}};
  s["unsqueeze"] = {{{m}, LG_F(unsqueeze(a[0], -1), unsqueeze(a[0], 0), unsqueeze(a[0], 1))}};
  s["flatten"] = {{{c}, LG_F(flatten(a[0]), flatten(a[0], 1), flatten(a[0], 0, 1))},
                  {{zero_dim}, LG_F(flatten(a[0]))}};
  s["slice"] = {{{m}, LG_F(slice(a[0], 1, 1, 4, 2))},
                {{v}, LG_F(slice(a[0], 0, -1, -6, -2))},
                {{m}, LG_F(slice(a[0], 0, 2, 2))}};
  s["slice_grad"] = {{{uniform({3, 2}, -2, 2, 28)}, LG_F(slice_grad(a[0], {3, 5}, 1, 1, 5, 2))}};
  s["select"] = {{{c}, LG_F(select(a[0], 1, -1)), LG_F(squeeze(slice(a[0], 1, 2, 3), 1))}};
  s["narrow"] = {{{m}, LG_F(narrow(a[0], 1, 1, 2)), LG_F(slice(a[0], 1, 1, 3))}};
  s["flip"] = {{{c},
                LG_F(flip(a[0], {0, 2})),
                LG_F(index_select(index_select(a[0], 0, tensor<std::int64_t>({1, 0})), 2,
                                  tensor<std::int64_t>({3, 2, 1, 0})))}};
  s["split"] = {{{m}, LG_LIST(split(a[0], 3, 1)), LG_F(slice(a[0], 1, 0, 3), slice(a[0], 1, 3, 4))},
                {{m}, LG_LIST(split(a[0], {1, 2}, 0))}};
  s["chunk"] = {{{v}, LG_LIST(chunk(a[0], 2)), LG_F(slice(a[0], 0, 0, 3), slice(a[0], 0, 3, 5))}};
  s["unbind"] = {{{m}, LG_LIST(unbind(a[0], 1))}};
  s["cat"] = {{{m, uniform({3, 2}, -2, 2, 29)}, LG_F(cat({a[0], a[1]}, 1))},
              {{none, uniform({2, 3}, -2, 2, 30)}, LG_F(cat({a[0], a[1], a[1]}))},
              {{big}, LG_F(cat({a[0], a[0] * 2}, 1)), {}, {}, true}};
  s["stack"] = {{{v, v * 2},
                 LG_F(stack({a[0], a[1]}, -1)),
                 LG_F(cat({unsqueeze(a[0], 1), unsqueeze(a[1], 1)}, 1))}};
}

void add_reduction_samples(Samples& s) {
  s["sum"] = reduction_samples([](auto& x, auto d, bool k) { return sum(x, d, k); },
                               [](const Line& x) { return Line{total(x)}; }, -2, 2);
  s["sum"].push_back(
      {{uniform({2, 0}, 0, 1, 31)}, LG_F(sum(a[0], 1)), LG_F(zeros({2}, DType::float64))});
  s["mean"] = reduction_samples(
      [](auto& x, auto d, bool k) { return mean(x, d, k); },
      [](const Line& x) { return Line{total(x) / static_cast<double>(x.size())}; }, -2, 2);
  auto product = [](const Line& x) {
    return Line{std::accumulate(x.begin(), x.end(), 1.0, std::multiplies<>())};
  };
  s["prod"] =
      reduction_samples([](auto& x, auto d, bool k) { return prod(x, d, k); }, product, 0.9, 1.1);
  const Tensor zeros_in = tensor({1.5, 0.0, 2.0, -1.0, 0.5, 3.0, 0.0, 0.0, 1.0}, {3, 3});
  s["prod"].push_back({{zeros_in}, LG_F(prod(a[0], 1)), [=](const Tensors& a) {
                         return Tensors{squeeze(by_lines(a[0], 1, product), 1)};
                       }});
  s["prod"].push_back({{zeros_in}, LG_F(prod(a[0], 0, true), prod(a[0]))});
  auto largest = [](const Line& x) { return Line{*std::max_element(x.begin(), x.end())}; };
  auto smallest = [](const Line& x) { return Line{*std::min_element(x.begin(), x.end())}; };
  s["amax"] =
      reduction_samples([](auto& x, auto d, bool k) { return amax(x, d, k); }, largest, -2, 2);
  s["amin"] =
      reduction_samples([](auto& x, auto d, bool k) { return amin(x, d, k); }, smallest, -2, 2);
  auto where_largest = [](const Line& x) {
    return Line{static_cast<double>(std::max_element(x.begin(), x.end()) - x.begin())};
  };
  auto where_smallest = [](const Line& x) {
    return Line{static_cast<double>(std::min_element(x.begin(), x.end()) - x.begin())};
  };
  const Tensor c = uniform({3, 4, 5}, -2, 2, 32),
               ties = to(integers({4, 9}, 0, 3, 33), DType::float64),
               big = uniform({40, 3000}, -2, 2, 34);
  s["max_along"] = {{{c},
                     LG_LIST(both(max_along(a[0], 1))),
                     [=](const Tensors& a) {
                       return Tensors{squeeze(by_lines(a[0], 1, largest), 1),
                                      squeeze(by_lines(a[0], 1, where_largest, DType::int64), 1)};
                     }},
                    {{c}, LG_LIST(both(max_along(a[0], -1, true)))}};
  s["min_along"] = {{{c}, LG_LIST(both(min_along(a[0], 0, true))), [=](const Tensors& a) {
                       return Tensors{by_lines(a[0], 0, smallest),
                                      by_lines(a[0], 0, where_smallest, DType::int64)};
                     }}};
  s["argmax"] = {
      {{ties},
       LG_F(argmax(a[0], 1, true)),
       [=](const Tensors& a) { return Tensors{by_lines(a[0], 1, where_largest, DType::int64)}; }},
      {{ties},
       LG_F(argmax(a[0])),
       [=](const Tensors& a) {
         return Tensors{reshape(by_lines(flat(a[0]), 0, where_largest, DType::int64), {})};
       }},
      {{big}, LG_F(argmax(a[0], 0), argmax(a[0], 1)), {}, {}, true}};
  s["argmin"] = {
      {{ties},
       LG_F(argmin(a[0], 0, true)),
       [=](const Tensors& a) { return Tensors{by_lines(a[0], 0, where_smallest, DType::int64)}; }},
      {{big}, LG_F(argmin(a[0], 0), argmin(a[0], 1)), {}, {}, true}};
  s["var"] = reduction_samples([](auto& x, auto d, bool k) { return var(x, d, 0, k); },
                               [](const Line& x) { return Line{variance(x, 0)}; }, -2, 2);
  s["std"] =
      reduction_samples([](auto& x, auto d, bool k) { return std(x, d, 0.5, k); },
                        [](const Line& x) { return Line{std::sqrt(variance(x, 0.5))}; }, -2, 2);
  s["std"].erase(s["std"].begin() + 4);  // of one element: always 0, which has no slope
  s["logsumexp"] = reduction_samples([](auto& x, auto d, bool k) { return logsumexp(x, d, k); },
                                     [](const Line& x) { return Line{log_sum_exp(x)}; }, -2, 2);
  for (double p : {0.5, 1.0, 1.5, 2.0, 3.0, double(INFINITY)}) {
    auto more = reduction_samples([p](auto& x, auto d, bool k) { return norm(x, p, d, k); },
                                  [p](const Line& x) { return Line{p_norm(x, p)}; }, 0.2, 2);
    s["norm"].insert(s["norm"].end(), more.begin(), more.end());
  }
  const Tensor bits = to(integers({3, 4, 2}, 0, 2, 35), DType::bool_);
  auto some = [](const Line& x) { return Line{*std::max_element(x.begin(), x.end())}; };
  auto every = [](const Line& x) { return Line{*std::min_element(x.begin(), x.end())}; };
  s["any"] = {{{bits},
               LG_F(any(a[0], 1, true)),
               [=](const Tensors& a) { return Tensors{by_lines(a[0], 1, some, DType::bool_)}; }},
              {{uniform({0}, 0, 1, 36)}, LG_F(any(a[0])), LG_F(zeros({}, DType::bool_))}};
  s["all"] = {{{bits},
               LG_F(all(a[0], -1, true)),
               [=](const Tensors& a) { return Tensors{by_lines(a[0], -1, every, DType::bool_)}; }},
              {{uniform({0}, 0, 1, 37)}, LG_F(all(a[0])), LG_F(ones({}, DType::bool_))}};
  s["cumsum"] = {{{c},
                  LG_F(cumsum(a[0], 1)),
                  [](const Tensors& a) {
                    return Tensors{by_lines(a[0], 1, [](Line x) {
                      std::partial_sum(x.begin(), x.end(), x.begin());
                      return x;
                    })};
                  }},
                 {{c}, LG_F(cumsum(a[0], -1, true)), LG_F(flip(cumsum(flip(a[0], -1), -1), -1))},
                 {{big}, LG_F(cumsum(a[0], 0), cumsum(a[0], 1)), {}, {}, true, 1e-3}};
}

void add_selection_samples(Samples& s) {
  const Tensor m = uniform({4, 5}, -2, 2, 40), index = integers({3, 5}, -4, 4, 41),
               source = uniform({3, 5}, -2, 2, 42), few = integers({6}, 0, 5, 43),
               big = uniform({500, 120}, -2, 2, 44), big_index = integers({500, 120}, 0, 500, 45);
  s["gather"] = {{{m, index},
                  LG_F(gather(a[0], 0, a[1])),
                  [](const Tensors& a) {
                    Tensor y = Tensor::empty(a[1].shape(), DType::float64);
                    const auto x = a[0].to_vector<double>();
                    const auto at = a[1].to_vector<std::int64_t>();
                    for (std::size_t i = 0; i < 3; ++i)
                      for (std::size_t j = 0; j < 5; ++j) {
                        const auto row = static_cast<std::size_t>((at[i * 5 + j] + 4) % 4);
                        y.data<double>()[i * 5 + j] = x[row * 5 + j];
                      }
                    return Tensors{y};
                  }},
                 {{big, big_index}, LG_F(gather(a[0], 0, a[1])), {}, {}, true, 1e-4}};
  auto scattered = [](bool add) {
    return [add](const Tensors& a) {
      Tensor y = a[0].copy();
      const auto v = a[2].to_vector<double>();
      const auto at = a[1].to_vector<std::int64_t>();
      for (std::size_t i = 0; i < 3; ++i)
        for (std::size_t j = 0; j < 5; ++j) {
          double& to = y.data<double>()[static_cast<std::size_t>((at[i * 5 + j] + 4) % 4) * 5 + j];
          to = add ? to + v[i * 5 + j] : v[i * 5 + j];
        }
      return Tensors{y};
    };
  };
  const Tensor distinct =
      tensor<std::int64_t>({0, 1, 2, 3, 0, 1, 0, 3, 2, 1, 2, 3, 0, 1, 2}, {3, 5});
  s["scatter_add"] = {
      {{m, index, source}, LG_F(scatter_add(a[0], 0, a[1], a[2])), scattered(true)},
      {{big, big_index, big * 2}, LG_F(scatter_add(a[0], 0, a[1], a[2])), {}, {}, true, 1e-4}};
  s["scatter"] = {
      {{m, distinct, source}, LG_F(scatter(a[0], 0, a[1], a[2])), scattered(false)},
      {{m, distinct}, LG_F(scatter(a[0], 0, a[1], 1.5))},
      {{m, slice(distinct, 0, 0, 2).copy(), source}, LG_F(scatter(a[0], 0, a[1], a[2]))}};
  s["index_select"] = {
      {{m, few}, LG_F(index_select(a[0], 1, a[1])), LG_F(gather(a[0], 1, expand(a[1], {4, 6})))},
      {{big, integers({4000}, 0, 500, 46)}, LG_F(index_select(a[0], 0, a[1])), {}, {}, true, 1e-4}};
  s["index_add"] = {{{m, few, uniform({4, 6}, -2, 2, 47)},
                     LG_F(index_add(a[0], 1, a[1], a[2])),
                     LG_F(scatter_add(a[0], 1, expand(a[1], {4, 6}), a[2]))},
                    {{big, integers({4000}, 0, 500, 48), uniform({4000, 120}, -1, 1, 49)},
                     LG_F(index_add(a[0], 0, a[1], a[2])),
                     {},
                     {},
                     true,
                     1e-3}};
  const Tensor mask = to(integers({4, 5}, 0, 2, 50), DType::bool_);
  s["masked_fill"] = {{{m, mask, uniform({}, -2, 2, 51)},
                       LG_F(masked_fill(a[0], a[1], a[2])),
                       LG_F(where(a[1], a[2], a[0]))}};
  auto triangle = [](bool lower, std::int64_t diagonal) {
    return [=](const Tensors& a) {
      Tensor y = a[0].copy();
      for (std::int64_t i = 0; i < 4; ++i)
        for (std::int64_t j = 0; j < 5; ++j)
          if (lower ? j - i > diagonal : j - i < diagonal) y.data<double>()[i * 5 + j] = 0;
      return Tensors{y};
    };
  };
  s["tril"] = {{{m}, LG_F(tril(a[0])), triangle(true, 0)},
               {{m}, LG_F(tril(a[0], -2)), triangle(true, -2)}};
  s["triu"] = {{{m}, LG_F(triu(a[0])), triangle(false, 0)},
               {{m}, LG_F(triu(a[0], 2)), triangle(false, 2)}};
  s["one_hot"] = {
      {{few},
       LG_F(one_hot(a[0])),
       LG_F(index_select(eye(amax(a[0]).item<std::int64_t>() + 1, -1, DType::int64), 0, a[0]))},
      {{few}, LG_F(one_hot(a[0], 7))}};
  const Tensor ties = to(integers({3, 40}, 0, 9, 52), DType::float64),
               rows = uniform({30, 700}, -9, 9, 53);
  auto lines = [](bool descending, bool indices, std::size_t k) {
    return [=](const Line& x) { return sorted(x, descending, indices, k); };
  };
  s["argsort"] = {{{ties},
                   LG_F(argsort(a[0])),
                   [=](const Tensors& a) {
                     return Tensors{by_lines(a[0], -1, lines(false, true, 99), DType::int64)};
                   }},
                  {{ties},
                   LG_F(argsort(a[0], 0, true)),
                   [=](const Tensors& a) {
                     return Tensors{by_lines(a[0], 0, lines(true, true, 99), DType::int64)};
                   }},
                  {{rows}, LG_F(argsort(a[0]), argsort(a[0], 0)), {}, {}, true}};
  s["sort"] = {{{m},
                LG_LIST(both(sort(a[0]))),
                [=](const Tensors& a) {
                  return Tensors{by_lines(a[0], -1, lines(false, false, 99)),
                                 by_lines(a[0], -1, lines(false, true, 99), DType::int64)};
                }},
               {{m}, LG_LIST(both(sort(a[0], 0, true)))},
               {{uniform({}, 0, 1, 54)}, LG_LIST(both(sort(a[0])))}};
  s["topk_indices"] = {
      {{rows}, LG_F(topk_indices(a[0], 9), topk_indices(a[0], 5, 0, false)), {}, {}, true},
      {{m}, LG_F(topk_indices(a[0], 3)), [=](const Tensors& a) {
         return Tensors{by_lines(a[0], -1, lines(true, true, 3), DType::int64)};
       }}};
  s["topk"] = {{{m},
                LG_LIST(both(topk(a[0], 2, 0, false))),
                [=](const Tensors& a) {
                  return Tensors{by_lines(a[0], 0, lines(false, false, 2)),
                                 by_lines(a[0], 0, lines(false, true, 2), DType::int64)};
                }},
               {{m}, LG_LIST(both(topk(a[0], 0)))}};
  s["nonzero"] = {
      {{tensor({0.0, 2.0, 0.0, -1.0, 0.0, 3.0}, {2, 3})},
       LG_F(nonzero(a[0])),
       LG_F(tensor<std::int64_t>({0, 1, 1, 0, 1, 2}, {3, 2}))},
      {{zeros({3}, DType::float64)}, LG_F(nonzero(a[0])), LG_F(zeros({0, 1}, DType::int64))}};
}

void add_pointwise_samples(Samples& s) {  // with attributes
  const Tensor x = uniform({3, 5}, -2, 2, 60);
  s["leaky_relu"] = {{{x}, LG_F(leaky_relu(a[0], 0.2)), LG_F(where(a[0] > 0, a[0], a[0] * 0.2))}};
  s["elu"] = {{{x}, LG_F(elu(a[0], 1.5)), LG_F(where(a[0] > 0, a[0], (exp(a[0]) - 1) * 1.5))}};
  s["softplus"] = {{{x},
                    LG_F(softplus(a[0], 2, 1)),
                    LG_F(where(a[0] * 2 > 1, a[0], log(exp(a[0] * 2) + 1) / 2))}};
  s["clamp"] = {{{x}, LG_F(clamp(a[0], -1, 0.5)), LG_F(minimum(maximum(a[0], -1), 0.5))},
                {{x}, LG_F(clamp(a[0], -1)), LG_F(maximum(a[0], -1))},
                {{x}, LG_F(clamp(a[0], {}, 1)), LG_F(minimum(a[0], 1))}};
}

void add_product_samples(Samples& s) {
  auto u = [](const Shape& shape, std::uint64_t seed) { return uniform(shape, -1, 1, seed); };
  const Function spelled_out = LG_F(sum(unsqueeze(a[0], -1) * unsqueeze(a[1], -3), -2));
  const Function f = LG_F(matmul(a[0], a[1]));
  s["bmm"] = {
      {{u({2, 3, 4}, 70), u({2, 4, 5}, 71)}, LG_F(bmm(a[0], a[1])), spelled_out},
      {{u({2, 1, 3, 4}, 72), u({3, 4, 2}, 73)}, LG_F(bmm(a[0], a[1])), spelled_out},
      {{u({300, 200}, 74), u({200, 150}, 75)}, LG_F(bmm(a[0], a[1])), {}, {}, true, 1e-4},
      {{u({16, 40, 50}, 76), u({16, 50, 30}, 77)}, LG_F(bmm(a[0], a[1])), {}, {}, true, 1e-4}};
  s["matmul"] = {{{u({4}, 78), u({4}, 79)}, f, LG_F(sum(a[0] * a[1]))},
                 {{u({3, 4}, 80), u({4}, 81)}, f, LG_F(sum(a[0] * a[1], -1))},
                 {{u({4}, 82), u({2, 4, 3}, 83)}, f, LG_F(sum(unsqueeze(a[0], -1) * a[1], -2))},
                 {{u({2, 3, 4}, 84), u({4, 5}, 85)}, f, spelled_out},
                 {{u({2, 3, 4}, 86), u({2, 4, 1}, 87)}, f, spelled_out},
                 {{u({2, 0}, 88), u({0, 3}, 89)}, f, LG_F(zeros({2, 3}, DType::float64))},
                 {{u({0, 3}, 90), u({3, 2}, 91)}, f}};
  s["linear"] = {{{u({2, 3, 4}, 92), u({5, 4}, 93), u({5}, 94)},
                  LG_F(linear(a[0], a[1], a[2])),
                  {},
                  LG_F(matmul(a[0], transpose(a[1], 0, 1)) + a[2])},
                 {{u({3, 4}, 95), u({5, 4}, 96)},
                  LG_F(linear(a[0], a[1])),
                  {},
                  LG_F(matmul(a[0], transpose(a[1], 0, 1)))},
                 {{u({4}, 97), u({2, 4}, 98), u({2}, 99)},
                  LG_F(linear(a[0], a[1], a[2])),
                  LG_F(matmul(a[1], a[0]) + a[2])},
                 {{u({0, 4}, 100), u({2, 4}, 101), u({2}, 102)}, LG_F(linear(a[0], a[1], a[2]))},
                 {{u({3, 0}, 103), u({2, 0}, 104), u({2}, 105)},
                  LG_F(linear(a[0], a[1], a[2])),
                  LG_F(expand(a[2], {3, 2}))},
                 {{u({3, 4}, 140), u({4}, 141), u({1}, 142)},
                  LG_F(linear(a[0], a[1], a[2])),
                  {},
                  LG_F(matmul(a[0], a[1]) + a[2])},
                 {{u({3, 4}, 143), u({5, 4}, 144), u({}, 145)},
                  LG_F(linear(a[0], a[1], a[2])),
                  {},
                  LG_F(matmul(a[0], transpose(a[1], 0, 1)) + a[2])},
                 {{u({300, 128}, 106), u({256, 128}, 107), u({256}, 108)},
                  LG_F(linear(a[0], a[1], a[2])),
                  {},
                  {},
                  true,
                  1e-4}};
}

}  // namespace

const Samples& samples() {
  static const Samples all = [] {
    Samples s;
    add_view_samples(s);
    add_reduction_samples(s);
    add_selection_samples(s);
    add_pointwise_samples(s);
    add_product_samples(s);
    add_neural_samples(s);
    add_image_samples(s);
    return s;
  }();
  return all;
}

}  // namespace lg::testing
