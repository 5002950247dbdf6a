// test_graph.cpp: the picture of the graph: every operation once, arrows with sizes, boxes by
// module path.
#include <gtest/gtest.h>

#include "lightgrad/graph/graph.h"
#include "lightgrad/lightgrad.h"

namespace {

using lg::Tensor;
namespace nn = lg::nn;

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (auto at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++n;
  return n;
}

TEST(Graph, SharedNodesAreDrawnOnce) {
  Tensor x = lg::randn({2, 3}).set_requires_grad();
  Tensor e = lg::exp(x);
  const std::string dot = lg::graph::to_dot(lg::sum(e * e + e));
  EXPECT_EQ(count(dot, "label=\"exp\""), 1u);
  EXPECT_EQ(count(dot, "label=\"mul\""), 1u);
  EXPECT_EQ(count(dot, "shape=box"), 1u);  // one leaf
  // exp feeds mul twice and add once, each arrow with the sizes.
  EXPECT_EQ(count(dot, "[label=\"2\u00d73\"]"), 5u) << dot;
}

TEST(Graph, ModulesAreBoxesAndParametersHaveNames) {
  auto model = nn::make<nn::Sequential>(nn::make<nn::Linear>(3, 4), nn::make<nn::ReLU>(),
                                        nn::make<nn::Linear>(4, 2));
  lg::graph::DotOptions options;
  for (auto& [name, p] : model->named_parameters()) options.names[p.impl()] = name;
  Tensor y;
  {
    lg::graph::KeepPaths keep;
    y = lg::sum(model(lg::ones({5, 3})));
  }
  const std::string dot = lg::graph::to_dot(y, options);
  for (const char* name : {"0.weight", "0.bias", "2.weight", "2.bias"})
    EXPECT_EQ(count(dot, name), 1u) << name;
  EXPECT_EQ(count(dot, "subgraph cluster_"), 3u) << dot;  // the three layers
}

TEST(Graph, WithoutAGraphAnErrorSaysSo) {
  try {
    lg::graph::to_dot(lg::ones({2}));
    FAIL();
  } catch (const lg::Error& e) {
    EXPECT_STREQ(e.what(),
                 "to_dot: the tensor has no graph: nothing that requires a gradient was part of "
                 "its computation");
  }
}

TEST(Graph, TooLargeAGraphIsRefused) {
  Tensor x = lg::ones({1}).set_requires_grad(), y = x;
  for (int i = 0; i < 30; ++i) y = y + 1;
  lg::graph::DotOptions options;
  options.max_nodes = 20;
  EXPECT_THROW(lg::graph::to_dot(y, options), lg::Error);
  EXPECT_EQ(count(lg::graph::to_dot(y), "label=\"add\""), 30u);
}

}  // namespace
