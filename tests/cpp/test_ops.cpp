// test_ops.cpp: one loop over the table of operations. Every row is tested the same way: values
// against plain numbers, dtypes, memory layouts, gradients of first and second order, kernels
// against their definition in smaller operations, and the same bits at any number of threads.
#include <algorithm>

#include "lightgrad/ops/run.h"
#include "tests/cpp/op_samples.h"

namespace lg::testing {
namespace {

struct Row {
  std::string name;
  int arity = 0;
  bool pointwise = false, has_kernel_backward = false, has_attributes = false;
  Rule rule = Rule::any;
  double low = 0, high = 0;
  Function call;  // pointwise: with the default attributes
};

template <class Op> Row row_of() {
  Row r;
  r.name = Op::info.name;
  r.arity = Op::arity;
  r.pointwise = Op::pointwise;
  r.has_kernel_backward = HasJointBackward<Op>;
  r.has_attributes = attribute_count<Op> > 0;
  if constexpr (Op::pointwise) {
    r.rule = Op::rule;
    r.low = Op::info.domain.low;
    r.high = Op::info.domain.high;
    r.call = [](const Tensors& a) {
      if constexpr (Op::arity == 1)
        return Tensors{run(Op{}, a[0])};
      else if constexpr (Op::arity == 2)
        return Tensors{run(Op{}, a[0], a[1])};
      else
        return Tensors{run(Op{}, a[0], a[1], a[2])};
    };
  }
  return r;
}

const std::vector<Row>& rows() {
  static const std::vector<Row> all = [] {
    std::vector<Row> out;
    AllOps::each([&]<class Op> { out.push_back(row_of<Op>()); });
    return out;
  }();
  return all;
}

// --- pointwise rows on plain numbers ---

double sigmoid_of(double x) {
  return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x));
}
double cdf_of(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }
double floor_div(double x, double y) {  // as Python defines it
  if (y == 0) return x / y;
  double r = std::fmod(x, y), q = (x - r) / y;
  if (r != 0 && (r < 0) != (y < 0)) q -= 1;
  return q == 0 ? std::copysign(0.0, x / y) : std::round(q);
}
double remainder_of(double x, double y) {
  const double r = std::fmod(x, y);
  return r != 0 && (r < 0) != (y < 0) ? r + y : r;
}
double larger(double x, double y) { return std::isnan(x) || std::isnan(y) ? NAN : std::max(x, y); }
double smaller(double x, double y) { return std::isnan(x) || std::isnan(y) ? NAN : std::min(x, y); }

using Number = double (*)(const double*);
#define LG_N(...) +[](const double* a) -> double { return __VA_ARGS__; }
const std::map<std::string_view, Number>& numbers() {
  static const std::map<std::string_view, Number> all{
      {"neg", LG_N(-a[0])},
      {"abs", LG_N(std::abs(a[0]))},
      {"sign", LG_N(a[0] > 0   ? 1
                    : a[0] < 0 ? -1
                               : a[0])},
      {"square", LG_N(a[0] * a[0])},
      {"sqrt", LG_N(std::sqrt(a[0]))},
      {"rsqrt", LG_N(1 / std::sqrt(a[0]))},
      {"reciprocal", LG_N(1 / a[0])},
      {"floor", LG_N(std::floor(a[0]))},
      {"ceil", LG_N(std::ceil(a[0]))},
      {"round", LG_N(std::nearbyint(a[0]))},
      {"trunc", LG_N(std::trunc(a[0]))},
      {"exp", LG_N(std::exp(a[0]))},
      {"expm1", LG_N(std::expm1(a[0]))},
      {"log", LG_N(std::log(a[0]))},
      {"log1p", LG_N(std::log1p(a[0]))},
      {"sin", LG_N(std::sin(a[0]))},
      {"cos", LG_N(std::cos(a[0]))},
      {"tanh", LG_N(std::tanh(a[0]))},
      {"sigmoid", LG_N(sigmoid_of(a[0]))},
      {"erf", LG_N(std::erf(a[0]))},
      {"normal_cdf", LG_N(cdf_of(a[0]))},
      {"relu", LG_N(larger(a[0], 0))},
      {"leaky_relu", LG_N(a[0] > 0 ? a[0] : a[0] * 0.01)},
      {"elu", LG_N(a[0] > 0 ? a[0] : std::expm1(a[0]))},
      {"gelu_erf", LG_N(a[0] * cdf_of(a[0]))},
      {"gelu_tanh",
       LG_N(a[0] * sigmoid_of(2 * std::sqrt(2 / M_PI) * (a[0] + 0.044715 * a[0] * a[0] * a[0])))},
      {"silu", LG_N(a[0] * sigmoid_of(a[0]))},
      {"softplus",
       LG_N(a[0] > 20 ? a[0] : larger(a[0], 0) + std::log1p(std::exp(-std::abs(a[0]))))},
      {"clamp", LG_N(a[0])},
      {"logical_not", LG_N(a[0] == 0)},
      {"isnan", LG_N(std::isnan(a[0]))},
      {"isinf", LG_N(std::isinf(a[0]))},
      {"isfinite", LG_N(std::isfinite(a[0]))},
      {"add", LG_N(a[0] + a[1])},
      {"sub", LG_N(a[0] - a[1])},
      {"mul", LG_N(a[0] * a[1])},
      {"div", LG_N(a[0] / a[1])},
      {"pow", LG_N(std::pow(a[0], a[1]))},
      {"floor_divide", LG_N(floor_div(a[0], a[1]))},
      {"remainder", LG_N(remainder_of(a[0], a[1]))},
      {"maximum", LG_N(larger(a[0], a[1]))},
      {"minimum", LG_N(smaller(a[0], a[1]))},
      {"eq", LG_N(a[0] == a[1])},
      {"ne", LG_N(a[0] != a[1])},
      {"lt", LG_N(a[0] < a[1])},
      {"le", LG_N(a[0] <= a[1])},
      {"gt", LG_N(a[0] > a[1])},
      {"ge", LG_N(a[0] >= a[1])},
      {"logical_and", LG_N(a[0] != 0 && a[1] != 0)},
      {"logical_or", LG_N(a[0] != 0 || a[1] != 0)},
      {"logical_xor", LG_N((a[0] != 0) != (a[1] != 0))},
      {"where", LG_N(a[0] != 0 ? a[1] : a[2])}};
  return all;
}

// The row on plain numbers, broadcast.
Tensor by_numbers(const Row& row, const Tensors& in) {
  Shape shape;
  for (const Tensor& x : in) shape = broadcast(shape, x.shape(), "test");
  std::vector<Line> values;
  for (const Tensor& x : in) values.push_back(expand(x, shape).to_vector<double>());
  Tensor y = Tensor::empty(shape, DType::float64);
  for (std::size_t i = 0; i < static_cast<std::size_t>(y.numel()); ++i) {
    double a[3] = {};
    for (std::size_t k = 0; k < values.size(); ++k) a[k] = values[k][i];
    y.data<double>()[i] = numbers().at(row.name)(a);
  }
  return y;
}

Tensors draw(const Row& row, const std::vector<Shape>& shapes, std::uint64_t seed) {
  Tensors in;
  for (int i = 0; i < row.arity; ++i) {
    const Shape& s = shapes[static_cast<std::size_t>(i) % shapes.size()];
    if (row.name == "where" && i == 0)
      in.push_back(to(integers(s, 0, 2, seed), DType::bool_));
    else
      in.push_back(uniform(s, row.low, row.high, seed + static_cast<std::uint64_t>(i)));
  }
  return in;
}

std::vector<Sample> samples_of(const Row& row) {
  std::vector<Sample> all;
  if (const auto found = samples().find(row.name); found != samples().end()) all = found->second;
  if (!row.pointwise) return all;
  const Function expected = [row](const Tensors& a) {
    Tensor y = by_numbers(row, a);
    return Tensors{row.rule == Rule::comparison ? to(y, DType::bool_) : y};
  };
  std::uint64_t seed = 1000;
  for (const std::vector<Shape>& shapes : std::vector<std::vector<Shape>>{{{2, 3}},
                                                                          {{3, 4}, {4}, {3, 1}},
                                                                          {{2, 1, 3}, {2, 1}, {}},
                                                                          {{}},
                                                                          {{17}, {}, {}},
                                                                          {{3, 0}, {1}, {}}}) {
    all.push_back({draw(row, shapes, seed += 10), row.call, expected});
  }
  for (const std::vector<Shape>& shapes : std::vector<std::vector<Shape>>{
           {{50'001}}, {{300, 400}, {400}, {300, 1}}, {{300, 1}, {1, 400}, {}}}) {
    all.push_back({draw(row, shapes, seed += 10), row.call, expected, {}, true});
  }
  return all;
}

// --- what is done with a sample ---

bool has_floats(const Sample& s) {
  return std::any_of(s.in.begin(), s.in.end(),
                     [](const Tensor& t) { return is_floating(t.dtype()); });
}

Tensors leaves(const Tensors& in) {
  Tensors out;
  for (const Tensor& x : in)
    out.push_back(is_floating(x.dtype()) ? x.detach().set_requires_grad() : x);
  return out;
}

// Gradients of the outputs, each multiplied by fixed numbers, for the floating inputs; undefined
// where there is none.
Tensors gradients(const Function& f, const Tensors& in, bool create_graph) {
  const Tensors x = leaves(in), y = f(x);
  Tensors ends, starts, wanted;
  for (const Tensor& t : x)
    if (t.requires_grad()) wanted.push_back(t);
  std::uint64_t seed = 5;
  for (const Tensor& t : y) {
    if (!t.requires_grad()) continue;
    ends.push_back(t);
    starts.push_back(to(uniform(t.shape(), 0.5, 2, seed++), t.dtype()));
  }
  if (ends.empty()) return Tensors(wanted.size());
  return autograd::grad(ends, wanted, starts, {.create_graph = create_graph, .allow_unused = true});
}

void expect_close_all(const Tensors& actual, const Tensors& expected, double tolerance,
                      const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    if (!actual[i].defined() && !expected[i].defined()) continue;
    expect_close(actual[i], expected[i], tolerance, what + " " + std::to_string(i));
  }
}

class EveryOp : public ::testing::TestWithParam<std::size_t> {
 protected:
  const Row& row() const { return rows()[GetParam()]; }
  // f(sample) for each, in a trace that names it.
  template <class F> void each_sample(F&& f) {
    const auto all = samples_of(row());
    for (std::size_t i = 0; i < all.size(); ++i) {
      SCOPED_TRACE(::testing::Message() << row().name << " sample " << i);
      f(all[i]);
      if (HasFatalFailure()) return;
    }
  }
};

TEST_P(EveryOp, HasSamples) {
  if (row().pointwise) {
    EXPECT_TRUE(numbers().contains(row().name)) << row().name << " has no formula on plain numbers";
  }
  if (!row().pointwise || row().has_attributes) {
    EXPECT_TRUE(samples().contains(row().name)) << row().name << " has no entry in op_samples.h";
  }
  if (row().has_kernel_backward) {
    const auto all = samples_of(row());
    EXPECT_TRUE(
        std::any_of(all.begin(), all.end(), [](const Sample& s) { return bool(s.composite); }))
        << row().name << " has a backward kernel, and no sample holds it against its composite";
  }
}

TEST_P(EveryOp, Values) {
  each_sample([&](const Sample& s) {
    const Tensors y = s.f(s.in);
    if (s.expected) expect_close_all(y, s.expected(s.in), 1e-12, "float64");
    const Tensors y32 = s.f(cast_floats(s.in, DType::float32));
    ASSERT_EQ(y.size(), y32.size());
    for (std::size_t i = 0; i < y.size(); ++i) {
      if (has_floats(s) && row().name != "cast" && row().name != "to") {
        EXPECT_EQ(name_of(y32[i].dtype()),
                  name_of(is_floating(y[i].dtype()) ? DType::float32 : y[i].dtype()));
      }
      if (is_floating(y[i].dtype()) || !s.large)
        expect_close(y32[i], y[i], s.tolerance, "float32 against float64");
    }
  });
}

TEST_P(EveryOp, Halves) {
  each_sample([&](const Sample& s) {
    if (s.large || !has_floats(s)) return;
    for (const DType half : {DType::float16, DType::bfloat16}) {
      const Tensors in = cast_floats(s.in, half), y = s.f(in),
                    wide = s.f(cast_floats(in, DType::float32));
      for (std::size_t i = 0; i < y.size(); ++i) {
        if (!is_floating(wide[i].dtype())) {
          expect_equal(y[i], wide[i], std::string(name_of(half)));
        } else if (row().pointwise && !samples().contains(row().name)) {
          expect_equal(y[i], to(wide[i], half),
                       text("computed in float32, rounded once to ", name_of(half)));
        } else {
          expect_close(y[i], wide[i], half == DType::float16 ? 4e-3 : 3e-2,
                       std::string(name_of(half)));
        }
      }
    }
  });
}

TEST_P(EveryOp, Layouts) {
  each_sample([&](const Sample& s) {
    if (s.large) return;
    const Tensors y = s.f(s.in), g = gradients(s.f, s.in, false);
    for (int kind = 1; kind <= 3; ++kind) {
      Tensors in;
      for (const Tensor& x : s.in) in.push_back(strided(x, kind));
      expect_close_all(s.f(in), y, 1e-13, text("strides of kind ", kind));
      expect_close_all(gradients(s.f, in, false), g, 1e-13,
                       text("gradient, strides of kind ", kind));
    }
  });
}

TEST_P(EveryOp, Gradients) {
  each_sample([&](const Sample& s) {
    if (s.large || !has_floats(s)) return;
    EXPECT_NO_THROW(autograd::gradcheck(s.f, leaves(s.in)));
    Tensors in;
    for (const Tensor& x : s.in) in.push_back(strided(x, 2));
    EXPECT_NO_THROW(autograd::gradcheck(s.f, leaves(in)));
  });
}

TEST_P(EveryOp, SecondOrder) {
  each_sample([&](const Sample& s) {
    if (s.large || !has_floats(s)) return;
    EXPECT_NO_THROW(autograd::gradgradcheck(s.f, leaves(s.in)));
  });
}

// The gradient computed by kernels is the one spelled out in tensor language, as create_graph takes
// it.
TEST_P(EveryOp, FusedGradient) {
  each_sample([&](const Sample& s) {
    if (!has_floats(s)) return;
    expect_close_all(gradients(s.f, s.in, false), gradients(s.f, s.in, true),
                     s.large ? 1e-9 : 1e-12, "float64");
    const Tensors in = cast_floats(s.in, DType::float32);
    expect_close_all(gradients(s.f, in, false), gradients(s.f, in, true),
                     s.large ? 20 * s.tolerance : 1e-5, "float32");
  });
}

TEST_P(EveryOp, Composite) {
  each_sample([&](const Sample& s) {
    if (!s.composite) return;
    expect_close_all(s.f(s.in), s.composite(s.in), 1e-12, "forward");
    expect_close_all(gradients(s.f, s.in, false), gradients(s.composite, s.in, false), 1e-11,
                     "backward");
  });
}

TEST_P(EveryOp, SameBitsAtAnyNumberOfThreads) {
  const KeepThreads keep;
  each_sample([&](const Sample& s) {
    for (const DType t : {DType::float32, DType::float64}) {
      const Tensors in = cast_floats(s.in, t);
      set_num_threads(1);
      const Tensors y = s.f(in), g = gradients(s.f, in, false);
      for (const int threads : {2, 4, 8}) {
        set_num_threads(threads);
        const Tensors y2 = s.f(in), g2 = gradients(s.f, in, false);
        for (std::size_t i = 0; i < y.size(); ++i)
          ASSERT_TRUE(same_bits(y[i], y2[i])) << threads << " threads, output " << i;
        for (std::size_t i = 0; i < g.size(); ++i)
          ASSERT_TRUE(same_bits(g[i], g2[i])) << threads << " threads, gradient " << i;
      }
    }
  });
}

// NaN, infinities, zeros, the largest and the smallest numbers, in every combination.
TEST_P(EveryOp, SpecialValues) {
  if (!row().pointwise) return;
  for (const DType t : {DType::float64, DType::float32}) {
    const double huge = t == DType::float64 ? 1e300 : 1e38,
                 tiny = t == DType::float64 ? 1e-300 : 1e-37;
    const Line list{NAN, INFINITY, -INFINITY, 0.0,  -0.0,  1,    -1,    2, -2,
                    0.5, -0.5,     2.5,       huge, -huge, tiny, -tiny, 7, -40};
    const auto n = static_cast<std::int64_t>(list.size());
    const Tensor x = to(tensor(list, {n, 1}), t), y = to(tensor(list, {n}), t);
    Tensors in{x, y};
    if (row().arity == 1) in = {y};
    if (row().name == "where") in = {to(integers({n, n}, 0, 2, 1), DType::bool_), x, y};
    if (row().name == "sin" || row().name == "cos")
      in = {slice(y, 0, 0, 12)};  // 1e300 has no agreed sine
    const Tensor expected = by_numbers(row(), in);
    expect_close(row().call(in)[0], t == DType::float64 ? expected : to(expected, t),
                 t == DType::float64 ? 1e-13 : 1e-6, std::string(name_of(t)));
  }
}

TEST_P(EveryOp, Integers) {
  if (!row().pointwise) return;
  for (const DType t : {DType::int64, DType::int32, DType::uint8, DType::bool_}) {
    SCOPED_TRACE(name_of(t));
    Tensors in, number;
    for (int i = 0; i < row().arity; ++i) {
      Tensor x = integers({4, 5}, t == DType::int64 || t == DType::int32 ? -5 : 1, 6,
                          900 + static_cast<std::uint64_t>(i));
      x = where(x == 0, 3, x);
      const bool condition = row().name == "where" && i == 0;
      in.push_back(to(condition ? x > 2 : x, condition ? DType::bool_ : t));
      number.push_back(to(in.back(), DType::float64));
    }
    const Tensor y = row().call(in)[0];
    Tensor expected = by_numbers(row(), number);
    if (row().rule == Rule::floating) {
      EXPECT_EQ(name_of(y.dtype()), name_of(DType::float32));
      expect_close(y, expected, 1e-6, row().name);
    } else {
      const bool counted = t == DType::bool_ && row().rule == Rule::number;
      const DType result = row().rule == Rule::comparison ? DType::bool_
                           : counted                      ? DType::int64
                                                          : t;
      expect_equal(y, to(to(expected, DType::int64), result), row().name);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Table, EveryOp,
                         ::testing::Range(std::size_t{0}, static_cast<std::size_t>(AllOps::size)),
                         [](const auto& info) { return rows()[info.param].name; });

}  // namespace
}  // namespace lg::testing
