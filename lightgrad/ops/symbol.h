// symbol.h: a value that is its own text. An operation's block, evaluated on Symbols, says what it
// computes as an expression of Python: what the Triton kernels of pointwise operations are made of
// (tools/write_pointwise.cpp). Knows no Tensor and no device.
#pragma once

#include <bit>
#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "lightgrad/ops/op.h"

namespace lg {

// Attributes are numbers in a block: while its text is made they are these, NaNs that carry their
// place in `attrs`.
inline double attribute_mark(unsigned i) {
  return std::bit_cast<double>(0x7ff8'5a5a'0000'0000 | std::uint64_t{i});
}
inline int attribute_of_mark(double v) {  // -1: a number like any other
  const auto bits = std::bit_cast<std::uint64_t>(v);
  return bits >> 32 == 0x7ff8'5a5a ? static_cast<int>(bits & 0xff) : -1;
}

class Symbol {
 public:
  // How tightly the outermost operator binds: an operand that binds less gets parentheses.
  enum Binding : std::uint8_t { disjunction, comparison, sum, product, sign, atom };

  std::string text;
  Binding binding = atom;
  bool truth = false;      // a comparison, not a number
  unsigned mentioned = 0;  // the inputs it is made of, as in Probe

  template <class N>
  requires std::is_arithmetic_v<N>
  explicit(false) Symbol(N v) {
    const auto x = static_cast<double>(v);
    if (const int i = attribute_of_mark(x); i >= 0) {
      text = "a" + std::to_string(i);
    } else {
      char digits[32];
      text.assign(digits, std::to_chars(digits, digits + sizeof digits, x).ptr);
      if (text.find_first_of(".en") == std::string::npos) text += ".0";
      if (x < 0) binding = sign;
    }
  }
  static Symbol input(std::string name, int i) { return {std::move(name), atom, false, 1u << i}; }

  friend Symbol operator+(const Symbol& a, const Symbol& b) { return infix(a, "+", b, sum); }
  friend Symbol operator-(const Symbol& a, const Symbol& b) { return infix(a, "-", b, sum); }
  friend Symbol operator*(const Symbol& a, const Symbol& b) { return infix(a, "*", b, product); }
  friend Symbol operator/(const Symbol& a, const Symbol& b) { return infix(a, "/", b, product); }
  friend Symbol operator-(const Symbol& a) { return {"-" + a.as(sign), sign, false, a.mentioned}; }
  friend Symbol operator<(const Symbol& a, const Symbol& b) { return compare(a, "<", b); }
  friend Symbol operator<=(const Symbol& a, const Symbol& b) { return compare(a, "<=", b); }
  friend Symbol operator>(const Symbol& a, const Symbol& b) { return compare(a, ">", b); }
  friend Symbol operator>=(const Symbol& a, const Symbol& b) { return compare(a, ">=", b); }
  friend Symbol operator==(const Symbol& a, const Symbol& b) { return compare(a, "==", b); }
  friend Symbol operator!=(const Symbol& a, const Symbol& b) { return compare(a, "!=", b); }
  // Python's & and | bind more tightly than a comparison: both sides in parentheses.
  friend Symbol operator&&(const Symbol& a, const Symbol& b) { return both(a, " & ", b); }
  friend Symbol operator||(const Symbol& a, const Symbol& b) { return both(a, " | ", b); }

  template <class... S> static Symbol call(std::string_view function, const S&... arguments) {
    Symbol r{std::string(function) + "(", atom, false, (0u | ... | arguments.mentioned)};
    bool first = true;
    ((r.text += std::exchange(first, false) ? "" : ", ", r.text += arguments.text), ...);
    r.text += ")";
    return r;
  }
  friend Symbol where(const Symbol& c, const Symbol& a, const Symbol& b) {
    return call("tl.where", c.truth ? c : compare(c, "!=", Symbol(0)), a, b);
  }

 private:
  Symbol(std::string t, Binding b, bool is_truth, unsigned from)
      : text(std::move(t)), binding(b), truth(is_truth), mentioned(from) {}
  std::string as(Binding at_least) const { return binding < at_least ? "(" + text + ")" : text; }
  // The right operand in parentheses where it binds as tightly: sums are rounded as the block says.
  static Symbol infix(const Symbol& a, std::string_view op, const Symbol& b, Binding binding) {
    const auto tighter = static_cast<Binding>(binding + 1);
    return {a.as(binding) + " " + std::string(op) + " " + b.as(tighter), binding, false,
            a.mentioned | b.mentioned};
  }
  static Symbol compare(const Symbol& a, std::string_view op, const Symbol& b) {
    Symbol r = infix(a.truth ? call("", a) : a, op, b.truth ? call("", b) : b, comparison);
    r.truth = true;
    return r;
  }
  static Symbol both(const Symbol& a, std::string_view op, const Symbol& b) {
    return {"(" + a.text + ")" + std::string(op) + "(" + b.text + ")", disjunction, true,
            a.mentioned | b.mentioned};
  }
};

// What blocks may say of a value, by its name in the kernels: lightgrad/triton/elementary.py, or
// NVIDIA's library of functions, which comes with Triton.
#define LG_FUNCTION(name, python) \
  inline Symbol name(const Symbol& a) { return Symbol::call(python, a); }
#define LG_FUNCTION_2(name, python) \
  inline Symbol name(const Symbol& a, const Symbol& b) { return Symbol::call(python, a, b); }
LG_FUNCTION(abs, "tl.abs")
LG_FUNCTION(sign, "sign")
LG_FUNCTION(sqrt, "tl.sqrt_rn")
LG_FUNCTION(floor, "libdevice.floor")
LG_FUNCTION(ceil, "libdevice.ceil")
LG_FUNCTION(round, "libdevice.rint")
LG_FUNCTION(trunc, "libdevice.trunc")
LG_FUNCTION(exp, "libdevice.exp")
LG_FUNCTION(expm1, "libdevice.expm1")
LG_FUNCTION(log, "libdevice.log")
LG_FUNCTION(log1p, "libdevice.log1p")
LG_FUNCTION(sin, "libdevice.sin")
LG_FUNCTION(cos, "libdevice.cos")
LG_FUNCTION(tanh, "libdevice.tanh")
LG_FUNCTION(erf, "libdevice.erf")
LG_FUNCTION(sigmoid, "sigmoid")
LG_FUNCTION(normal_cdf, "normal_cdf")
LG_FUNCTION(gelu_cdf, "gelu_cdf")
LG_FUNCTION_2(max, "maximum")
LG_FUNCTION_2(min, "minimum")
LG_FUNCTION_2(pow, "libdevice.pow")
LG_FUNCTION_2(remainder, "remainder")
LG_FUNCTION_2(floor_divide, "floor_divide")
#undef LG_FUNCTION
#undef LG_FUNCTION_2

}  // namespace lg
