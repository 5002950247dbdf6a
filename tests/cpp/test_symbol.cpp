// The symbolic value: what the text of formulas is, for the Triton kernels made of it.
#include <gtest/gtest.h>

#include "lightgrad/ops/ops.h"
#include "lightgrad/ops/symbol.h"

namespace lg {
namespace {

const Symbol x = Symbol::input("x", 0), y = Symbol::input("y", 1), z = Symbol::input("z", 2);

TEST(Symbol, ParenthesesKeepTheOrderOfTheBlock) {
  EXPECT_EQ((x + y * z).text, "x + y * z");
  EXPECT_EQ(((x + y) * z).text, "(x + y) * z");
  EXPECT_EQ((x - (y - z)).text, "x - (y - z)");
  EXPECT_EQ((x - y - z).text, "x - y - z");
  EXPECT_EQ((x * (y * z)).text, "x * (y * z)");  // rounded in this order
  EXPECT_EQ((x / (y / z)).text, "x / (y / z)");
  EXPECT_EQ((-(x + y)).text, "-(x + y)");
  EXPECT_EQ((-x * y).text, "-x * y");
  EXPECT_EQ((x - Symbol(-2)).text, "x - -2.0");
  EXPECT_EQ(((x < y) && (y != z)).text, "(x < y) & (y != z)");
  EXPECT_EQ(((x != Symbol(0)) != (y != Symbol(0))).text, "(x != 0.0) != (y != 0.0)");
}

TEST(Symbol, Numbers) {
  EXPECT_EQ(Symbol(2).text, "2.0");
  EXPECT_EQ(Symbol(0.044715).text, "0.044715");
  EXPECT_EQ(Symbol(1e-30).text, "1e-30");
  EXPECT_EQ(Symbol(attribute_mark(3)).text, "a3");
  EXPECT_EQ(attribute_of_mark(std::nan("")), -1);
}

TEST(Symbol, ChoicesAndFunctions) {
  EXPECT_EQ(where(x > Symbol(0), x, y).text, "tl.where(x > 0.0, x, y)");
  EXPECT_EQ(where(x, y, z).text, "tl.where(x != 0.0, y, z)");
  EXPECT_EQ(max(exp(x), y).text, "maximum(libdevice.exp(x), y)");
}

TEST(Symbol, BlocksSayTheirFormula) {
  EXPECT_EQ(ops::Relu::vjp(z, x, y).text, "tl.where(y <= 0.0, 0.0, z)");
  EXPECT_EQ(ops::GeluErf::eval(x).text, "x * gelu_cdf(x)");
  EXPECT_EQ(ops::Div::vjp_y(z, x, y, Symbol(0)).text, "-z * (x / y / y)");
  ops::LeakyRelu leaky;
  leaky.negative_slope = attribute_mark(0);
  EXPECT_EQ(leaky.eval(x).text, "tl.where(x > 0.0, x, x * a0)");
}

TEST(Symbol, KnowsWhatItMentions) {
  EXPECT_EQ((x * z + Symbol(1)).mentioned, 0b101u);
  EXPECT_EQ(ops::Exp::vjp(z, x, y).mentioned, 0b110u);
  EXPECT_EQ(Symbol(1).mentioned, 0u);
}

}  // namespace
}  // namespace lg
