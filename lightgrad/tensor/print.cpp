// print.cpp: Tensor::to_string, laid out as NumPy prints: aligned columns, long axes summarised.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "lightgrad/tensor/tensor.h"

namespace lg {
namespace {

constexpr std::int64_t summary_threshold = 1000, edge_items = 3;
constexpr std::size_t line_width = 88;

// How every floating-point element is written: the same number of digits, aligned at the point.
struct FloatFormat {
  bool exponent = false;
  int digits = 0;  // after the point

  std::string operator()(double v) const {
    if (std::isnan(v)) return "nan";
    if (std::isinf(v)) return v < 0 ? "-inf" : "inf";
    char buffer[64];
    const auto style = exponent ? std::chars_format::scientific : std::chars_format::fixed;
    auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, v, style, digits);
    std::string s(buffer, end);
    if (digits == 0) s.insert(exponent ? s.find('e') : s.size(), ".");
    if (!exponent && digits > 0) {  // NumPy writes spaces where zeros would follow: "0.5  "
      std::fill(s.begin() + static_cast<std::ptrdiff_t>(s.find_last_not_of('0') + 1), s.end(), ' ');
    }
    return s;
  }
};

// NumPy: at most 4 digits after the point and no more than some element needs; with an exponent
// from 1e8, below 1e-4, or when the largest is beyond 1000 times the smallest.
FloatFormat choose_format(const std::vector<double>& values) {
  constexpr int precision = 4;
  double high = 0, low = INFINITY;
  for (double v : values) {
    if (!std::isfinite(v) || v == 0) continue;
    high = std::max(high, std::abs(v));
    low = std::min(low, std::abs(v));
  }
  FloatFormat f;
  f.exponent = high > 0 && (high >= 1e8 || low < 1e-4 || high / low > 1000);
  const auto style = f.exponent ? std::chars_format::scientific : std::chars_format::fixed;
  for (double v : values) {
    if (!std::isfinite(v)) continue;
    char buffer[64];
    auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, v, style, precision);
    const std::string_view s(buffer, static_cast<std::size_t>(end - buffer));
    const auto point = s.find('.'), last = s.substr(0, s.find('e')).find_last_not_of('0');
    if (last > point) f.digits = std::max(f.digits, static_cast<int>(last - point));
  }
  return f;
}

class Printer {
 public:
  explicit Printer(const Tensor& t) : t_(t), summary_(t.numel() > summary_threshold) {
    std::vector<double> shown;
    collect(0, 0, [&](std::int64_t at) { shown.push_back(number(at)); });
    if (is_floating(t.dtype())) format_ = choose_format(shown);
    collect(0, 0, [&](std::int64_t at) { width_ = std::max(width_, element(at).size()); });
  }

  std::string print() {
    if (t_.numel() == 0)
      out_ = "[]";
    else
      body(0, 0, 7);  // 7: the width of "tensor("
    return "tensor(" + out_;
  }

 private:
  double number(std::int64_t at) const {
    double v = 0;
    visit(t_.dtype(),
          [&]<class T>(T) { v = convert<double>(static_cast<const T*>(t_.raw_data())[at]); });
    return v;
  }
  std::string element(std::int64_t at) const {
    if (t_.dtype() == DType::bool_)
      return static_cast<const bool*>(t_.raw_data())[at] ? "True" : "False";
    if (is_floating(t_.dtype())) return format_(number(at));
    std::int64_t v = 0;
    visit(t_.dtype(),
          [&]<class T>(T) { v = convert<std::int64_t>(static_cast<const T*>(t_.raw_data())[at]); });
    return std::to_string(v);
  }

  // Visits the indices of one axis that are shown; gap() marks what the summary leaves out.
  template <class F, class G> void axis(int d, F&& f, G&& gap) const {
    const std::int64_t n = t_.shape()[d];
    if (!summary_ || n <= 2 * edge_items) {
      for (std::int64_t i = 0; i < n; ++i) f(i);
      return;
    }
    for (std::int64_t i = 0; i < edge_items; ++i) f(i);
    gap();
    for (std::int64_t i = n - edge_items; i < n; ++i) f(i);
  }
  template <class F> void collect(int d, std::int64_t at, F&& f) const {
    if (t_.numel() == 0) return;
    if (d == t_.rank()) return f(at);
    axis(
        d, [&](std::int64_t i) { collect(d + 1, at + i * t_.strides()[d], f); }, [] {});
  }
  void body(int d, std::int64_t at, std::size_t indent) {
    if (d == t_.rank()) {
      const std::string s = element(at);
      out_ += t_.rank() == 0 ? s : std::string(width_ - s.size(), ' ') + s;
      return;
    }
    out_ += '[';
    bool first = true;
    std::size_t column = indent + 1;
    auto separate = [&](std::size_t width) {
      if (!first) out_ += ',';
      if (d + 1 < t_.rank()) {
        if (!first)
          out_ += std::string(static_cast<std::size_t>(t_.rank() - d - 1), '\n') +
                  std::string(indent + 1, ' ');
      } else if (!first && column + width + 2 > line_width) {
        out_ += '\n' + std::string(indent + 1, ' ');
        column = indent + 1;
      } else if (!first) {
        out_ += ' ';
      }
      column += width + 2;
      first = false;
    };
    axis(
        d,
        [&](std::int64_t i) {
          separate(width_);
          body(d + 1, at + i * t_.strides()[d], indent + 1);
        },
        [&] {
          separate(3);
          out_ += "...";
        });
    out_ += ']';
  }

  const Tensor& t_;
  bool summary_;
  FloatFormat format_;
  std::size_t width_ = 0;
  std::string out_;
};

}  // namespace

std::string Tensor::to_string() const {
  if (!defined()) return "tensor(undefined)";
  const Tensor here = to_cpu();
  std::string s = Printer(here).print();
  const bool says_itself =
      dtype() == DType::float32 || dtype() == DType::int64 || dtype() == DType::bool_;
  if (numel() == 0) s += text(", shape=", shape());
  if (!says_itself) s += text(", dtype=", name_of(dtype()));
  if (device().type != DeviceType::cpu) s += text(", device='", device(), "'");
  if (requires_grad()) s += ", requires_grad=True";
  return s + ")";
}

}  // namespace lg
