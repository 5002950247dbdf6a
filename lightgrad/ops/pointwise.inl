// Pointwise operations. Read once as lg::ops and once per SIMD target, so: no include guard, no
// #include, nothing but blocks. `eval` speaks of one element (V: a SIMD vector of float or double,
// or an int64); `vjp` is the gradient for x given g, the gradient of the output y: as tensor
// language, and as one fused pass on V.

// --- arithmetic ---

struct Add : Binary {
  static constexpr OpInfo info{.name = "add", .math = "x + y"};
  template <class V> static V eval(V x, V y) { return x + y; }
  template <class T> static T vjp_x(T g, T, T, T) { return g; }
  template <class T> static T vjp_y(T g, T, T, T) { return g; }
};

struct Sub : Binary {
  static constexpr OpInfo info{.name = "sub", .math = "x - y"};
  template <class V> static V eval(V x, V y) { return x - y; }
  template <class T> static T vjp_x(T g, T, T, T) { return g; }
  template <class T> static T vjp_y(T g, T, T, T) { return -g; }
};

struct Mul : Binary {
  static constexpr OpInfo info{.name = "mul", .math = "x y"};
  template <class V> static V eval(V x, V y) { return x * y; }
  template <class T> static T vjp_x(T g, T, T y, T) { return g * y; }
  template <class T> static T vjp_y(T g, T x, T, T) { return g * x; }
};

struct Div : BinaryFloat {
  static constexpr OpInfo info{.name = "div", .math = "x / y", .domain = {0.5, 3}};
  template <class V> static V eval(V x, V y) { return x / y; }
  template <class T> static T vjp_x(T g, T, T y, T) { return g / y; }
  template <class T> static T vjp_y(T g, T x, T y, T) { return -g * ((x / y) / y); }
};

struct Pow : Binary {
  static constexpr OpInfo info{.name = "pow", .math = "x^y", .domain = {0.3, 2}};
  template <class V> static V eval(V x, V y) { return pow(x, y); }
  // x^0 is constant even at 0; 0^y is constant for y > 0.
  template <class T> static T vjp_x(T g, T x, T y, T) {
    return where(y == T(0), T(0), g * (y * pow(x, y - T(1))));
  }
  // Not of the output, which may be a rounded half.
  template <class T> static T vjp_y(T g, T x, T y, T) {
    return g * where((x == T(0)) && (y >= T(0)), T(0), pow(x, y) * log(x));
  }
};

struct FloorDivide : Binary {
  static constexpr OpInfo info{.name = "floor_divide", .math = "floor(x / y)", .domain = {0.5, 3}};
  static constexpr bool differentiable = false;
  template <class V> static V eval(V x, V y) { return floor_divide(x, y); }
};

struct Remainder : Binary {
  static constexpr OpInfo info{
      .name = "remainder", .math = "x - y floor(x / y)", .domain = {0.5, 3}};
  template <class V> static V eval(V x, V y) { return remainder(x, y); }
  template <class T> static T vjp_x(T g, T, T, T) { return g; }
  template <class T> static T vjp_y(T g, T x, T y, T) { return -g * floor(x / y); }
};

struct Maximum : Binary {
  static constexpr OpInfo info{.name = "maximum", .math = "max(x, y)"};
  template <class V> static V eval(V x, V y) { return max(x, y); }
  template <class T> static T vjp_x(T g, T x, T y, T) {
    return where(x == y, g * T(0.5), where(x < y, T(0), g));
  }
  template <class T> static T vjp_y(T g, T x, T y, T) {
    return where(x == y, g * T(0.5), where(x > y, T(0), g));
  }
};

struct Minimum : Binary {
  static constexpr OpInfo info{.name = "minimum", .math = "min(x, y)"};
  template <class V> static V eval(V x, V y) { return min(x, y); }
  template <class T> static T vjp_x(T g, T x, T y, T) {
    return where(x == y, g * T(0.5), where(x > y, T(0), g));
  }
  template <class T> static T vjp_y(T g, T x, T y, T) {
    return where(x == y, g * T(0.5), where(x < y, T(0), g));
  }
};

struct Neg : UnaryAny {
  static constexpr OpInfo info{.name = "neg", .math = "-x"};
  template <class V> static V eval(V x) { return -x; }
  template <class T> static T vjp(T g, T, T) { return -g; }
};

struct Abs : UnaryAny {
  static constexpr OpInfo info{.name = "abs", .math = "|x|"};
  template <class V> static V eval(V x) { return abs(x); }
  template <class T> static T vjp(T g, T x, T) { return g * sign(x); }
};

struct Sign : UnaryAny {
  static constexpr OpInfo info{.name = "sign", .math = "-1, 0 or 1 as x is below, at or above 0"};
  template <class V> static V eval(V x) { return sign(x); }
  template <class T> static T vjp(T g, T, T) { return g * T(0); }
};

struct Square : UnaryNumber {
  static constexpr OpInfo info{.name = "square", .math = "x^2"};
  template <class V> static V eval(V x) { return x * x; }
  template <class T> static T vjp(T g, T x, T) { return g * (T(2) * x); }
};

struct Sqrt : Unary {
  static constexpr OpInfo info{.name = "sqrt", .math = "x^(1/2)", .domain = {0.3, 4}};
  template <class V> static V eval(V x) { return sqrt(x); }
  template <class T> static T vjp(T g, T, T y) { return g / (T(2) * y); }
};

struct Rsqrt : Unary {
  static constexpr OpInfo info{.name = "rsqrt", .math = "x^(-1/2)", .domain = {0.3, 4}};
  template <class V> static V eval(V x) { return V(1) / sqrt(x); }
  // Not y^3, which has a rounded half's error three times.
  template <class T> static T vjp(T g, T x, T y) { return T(-0.5) * g * (y / x); }
};

struct Reciprocal : Unary {
  static constexpr OpInfo info{.name = "reciprocal", .math = "1 / x", .domain = {0.3, 4}};
  template <class V> static V eval(V x) { return V(1) / x; }
  template <class T> static T vjp(T g, T, T y) { return -g * (y * y); }
};

// --- rounding: steps, whose gradient is 0 ---

struct Floor : UnaryAny {
  static constexpr OpInfo info{.name = "floor", .math = "the largest integer not above x"};
  template <class V> static V eval(V x) { return floor(x); }
  template <class T> static T vjp(T g, T, T) { return g * T(0); }
};

struct Ceil : UnaryAny {
  static constexpr OpInfo info{.name = "ceil", .math = "the smallest integer not below x"};
  template <class V> static V eval(V x) { return ceil(x); }
  template <class T> static T vjp(T g, T, T) { return g * T(0); }
};

struct Round : UnaryAny {
  static constexpr OpInfo info{.name = "round", .math = "the nearest integer, halves to even"};
  template <class V> static V eval(V x) { return round(x); }
  template <class T> static T vjp(T g, T, T) { return g * T(0); }
};

struct Trunc : UnaryAny {
  static constexpr OpInfo info{.name = "trunc", .math = "x without its fraction"};
  template <class V> static V eval(V x) { return trunc(x); }
  template <class T> static T vjp(T g, T, T) { return g * T(0); }
};

// --- exponentials and circles ---

struct Exp : Unary {
  static constexpr OpInfo info{.name = "exp", .math = "e^x"};
  template <class V> static V eval(V x) { return exp(x); }
  template <class T> static T vjp(T g, T, T y) { return g * y; }
};

struct Expm1 : Unary {
  static constexpr OpInfo info{.name = "expm1", .math = "e^x - 1"};
  template <class V> static V eval(V x) { return expm1(x); }
  template <class T> static T vjp(T g, T, T y) { return g * (y + T(1)); }
};

struct Log : Unary {
  static constexpr OpInfo info{.name = "log", .math = "ln x", .domain = {0.2, 4}};
  template <class V> static V eval(V x) { return log(x); }
  template <class T> static T vjp(T g, T x, T) { return g / x; }
};

struct Log1p : Unary {
  static constexpr OpInfo info{.name = "log1p", .math = "ln(1 + x)", .domain = {-0.6, 4}};
  template <class V> static V eval(V x) { return log1p(x); }
  template <class T> static T vjp(T g, T x, T) { return g / (x + T(1)); }
};

struct Sin : Unary {
  static constexpr OpInfo info{.name = "sin", .math = "sin x"};
  template <class V> static V eval(V x) { return sin(x); }
  template <class T> static T vjp(T g, T x, T) { return g * cos(x); }
};

struct Cos : Unary {
  static constexpr OpInfo info{.name = "cos", .math = "cos x"};
  template <class V> static V eval(V x) { return cos(x); }
  template <class T> static T vjp(T g, T x, T) { return -g * sin(x); }
};

struct Tanh : Unary {
  static constexpr OpInfo info{.name = "tanh", .math = "(e^x - e^-x) / (e^x + e^-x)"};
  template <class V> static V eval(V x) { return tanh(x); }
  template <class T> static T vjp(T g, T, T y) { return g * (T(1) - y * y); }
};

struct Sigmoid : Unary {
  static constexpr OpInfo info{.name = "sigmoid", .math = "1 / (1 + e^-x)", .domain = {-4, 4}};
  template <class V> static V eval(V x) { return sigmoid(x); }
  // Not y (1 - y), which is 0 where y rounds to 1.
  template <class T> static T vjp(T g, T x, T y) { return g * (y * sigmoid(-x)); }
};

struct Erf : Unary {
  static constexpr OpInfo info{.name = "erf",
                               .math = "2/sqrt(pi) times the integral of e^(-t^2) from 0 to x"};
  template <class V> static V eval(V x) { return erf(x); }
  template <class T> static T vjp(T g, T x, T) {
    return g * (T(1.1283791670955126) * exp(-(x * x)));
  }
};

struct NormalCdf : Unary {
  static constexpr OpInfo info{.name = "normal_cdf", .math = "(1 + erf(x / sqrt(2))) / 2"};
  template <class V> static V eval(V x) { return normal_cdf(x); }
  template <class T> static T vjp(T g, T x, T) {
    return g * (T(0.3989422804014327) * exp(T(-0.5) * (x * x)));
  }
};

// --- activations ---

struct Relu : UnaryAny {
  static constexpr OpInfo info{.name = "relu", .math = "max(x, 0)"};
  template <class V> static V eval(V x) { return max(x, V(0)); }
  template <class T> static T vjp(T g, T, T y) { return where(y <= T(0), T(0), g); }
};

struct LeakyRelu : Unary {
  double negative_slope = 0.01;
  static constexpr OpInfo info{.name = "leaky_relu", .math = "x if x > 0, else negative_slope x"};
  static constexpr auto attrs = std::tuple(attr(&LeakyRelu::negative_slope, "negative_slope"));
  template <class V> V eval(V x) const { return where(x > V(0), x, x * V(negative_slope)); }
  template <class T> T vjp(T g, T x, T) const { return where(x > T(0), g, g * T(negative_slope)); }
};

struct Elu : Unary {
  double alpha = 1;
  static constexpr OpInfo info{.name = "elu", .math = "x if x > 0, else alpha (e^x - 1)"};
  static constexpr auto attrs = std::tuple(attr(&Elu::alpha, "alpha"));
  template <class V> V eval(V x) const { return where(x > V(0), x, V(alpha) * expm1(x)); }
  template <class T> T vjp(T g, T x, T) const {
    return where(x > T(0), g, g * (T(alpha) * exp(x)));
  }
};

struct GeluErf : Unary {
  static constexpr OpInfo info{.name = "gelu_erf",
                               .math = "x times the normal distribution function of x"};
  template <class V> static V eval(V x) { return x * gelu_cdf(x); }
  template <class T> static T vjp(T g, T x, T) {
    if constexpr (requires { gelu_slope(x); })  // vectors compute the two terms together
      return g * gelu_slope(x);
    else
      return g * (normal_cdf(x) + x * (T(0.3989422804014327) * exp(T(-0.5) * (x * x))));
  }
};

struct GeluTanh : Unary {
  static constexpr OpInfo info{.name = "gelu_tanh",
                               .math = "x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))"};
  // (1 + tanh(z)) / 2 is sigmoid(2 z), which keeps its digits where tanh nears -1.
  template <class V> static V twice_inner(V x) {
    return V(1.5957691216057308) * (x + V(0.044715) * (x * x * x));
  }
  template <class V> static V eval(V x) { return x * sigmoid(twice_inner(x)); }
  template <class T> static T vjp(T g, T x, T) {
    T s = sigmoid(twice_inner(x)), c = sigmoid(-twice_inner(x));
    return g * (s + x * s * c * (T(1.5957691216057308) * (T(1) + T(0.134145) * (x * x))));
  }
};

struct Silu : Unary {
  static constexpr OpInfo info{.name = "silu", .math = "x / (1 + e^-x)"};
  template <class V> static V eval(V x) { return x * sigmoid(x); }
  template <class T> static T vjp(T g, T x, T) {
    return g * (sigmoid(x) * (T(1) + x * sigmoid(-x)));
  }
};

struct Softplus : Unary {
  double beta = 1, threshold = 20;
  static constexpr OpInfo info{.name = "softplus",
                               .math = "ln(1 + e^(beta x)) / beta, and x beyond threshold"};
  static constexpr auto attrs =
      std::tuple(attr(&Softplus::beta, "beta"), attr(&Softplus::threshold, "threshold"));
  template <class V> V eval(V x) const {
    V z = x * V(beta);
    return where(z > V(threshold), x, (max(z, V(0)) + log1p(exp(-abs(z)))) / V(beta));
  }
  template <class T> T vjp(T g, T x, T) const {
    return where(x * T(beta) > T(threshold), g, g * sigmoid(x * T(beta)));
  }
};

struct Clamp : UnaryAny {
  std::optional<double> min, max;
  static constexpr OpInfo info{.name = "clamp", .math = "x held between min and max"};
  static constexpr auto attrs = std::tuple(attr(&Clamp::min, "min"), attr(&Clamp::max, "max"));
  // A bound with a fraction makes integers fractions, as in PyTorch.
  static Rule rule_of(const double* bounds) {
    const auto whole = [](double b) { return std::isnan(b) || b == std::trunc(b); };
    return whole(bounds[0]) && whole(bounds[1]) ? Rule::any : Rule::floating;
  }
  static constexpr unsigned keeps =
      0b01;  // without bounds, as the Probe sees it, the gradient mentions only g
  template <class V> V eval(V x) const {
    if (min) x = where(x < V(*min), V(*min), x);
    if (max) x = where(x > V(*max), V(*max), x);
    return x;
  }
  template <class T> T vjp(T g, T x, T) const {
    if (min) g = where(x < T(*min), T(0), g);
    if (max) g = where(x > T(*max), T(0), g);
    return g;
  }
};

// --- choosing and comparing ---

struct Where : Pointwise<3, Rule::any> {
  static constexpr OpInfo info{
      .name = "where", .math = "x if condition, else y", .args = {"condition", "x", "y"}};
  template <class V> static V eval(V condition, V x, V y) { return where(condition != V(0), x, y); }
  template <class T> static T vjp_y(T g, T condition, T, T, T) { return where(condition, g, T(0)); }
  template <class T> static T vjp_z(T g, T condition, T, T, T) { return where(condition, T(0), g); }
};

#define LG_COMPARE(Op, op_name, op_math, expression)                                     \
  struct Op : Compare {                                                                  \
    static constexpr OpInfo info{.name = op_name, .math = op_math};                      \
    static constexpr bool differentiable = false;                                        \
    template <class V> static V eval(V x, V y) { return where(expression, V(1), V(0)); } \
  };
LG_COMPARE(Equal, "eq", "x = y", x == y)
LG_COMPARE(NotEqual, "ne", "x != y", x != y)
LG_COMPARE(Less, "lt", "x < y", x < y)
LG_COMPARE(LessEqual, "le", "x <= y", x <= y)
LG_COMPARE(Greater, "gt", "x > y", x > y)
LG_COMPARE(GreaterEqual, "ge", "x >= y", x >= y)
LG_COMPARE(LogicalAnd, "logical_and", "x and y", (x != V(0)) && (y != V(0)))
LG_COMPARE(LogicalOr, "logical_or", "x or y", (x != V(0)) || (y != V(0)))
LG_COMPARE(LogicalXor, "logical_xor", "x or y, not both", (x != V(0)) != (y != V(0)))
#undef LG_COMPARE

#define LG_PREDICATE(Op, op_name, op_math, expression)                              \
  struct Op : Predicate {                                                           \
    static constexpr OpInfo info{.name = op_name, .math = op_math};                 \
    static constexpr bool differentiable = false;                                   \
    template <class V> static V eval(V x) { return where(expression, V(1), V(0)); } \
  };
LG_PREDICATE(LogicalNot, "logical_not", "x = 0", x == V(0))
LG_PREDICATE(IsNan, "isnan", "x is not a number", x != x)
LG_PREDICATE(IsInf, "isinf", "x is infinite", (x - x != x - x) && (x == x))
LG_PREDICATE(IsFinite, "isfinite", "x is neither infinite nor NaN", x - x == V(0))
#undef LG_PREDICATE
