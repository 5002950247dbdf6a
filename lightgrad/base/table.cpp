#include "lightgrad/base/table.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace lg {

std::string with_unit(double value, std::string_view unit) {
  if (value == 0) return "0 " + std::string(unit);
  constexpr const char* prefixes[] = {"n", "u", "m", "", "k", "M", "G", "T", "P"};
  int i = 3;
  double v = value;
  for (; std::abs(v) >= 999.5 && i < 8; ++i) v /= 1000;
  // Counts have no parts; times do.
  for (; std::abs(v) < 0.9995 && i > 0 && unit == "s"; --i) v *= 1000;
  char out[64];
  const int digits = std::abs(v) < 9.995 ? 2 : std::abs(v) < 99.95 ? 1 : 0;
  std::snprintf(out, sizeof out, "%.*f %s%.*s", i == 3 && unit != "s" ? 0 : digits, v, prefixes[i],
                static_cast<int>(unit.size()), unit.data());
  return out;
}

std::string with_commas(std::int64_t value) {
  std::string digits = std::to_string(value);
  const std::size_t first = value < 0 ? 1 : 0;
  for (std::size_t i = digits.size(); i > first + 3;) digits.insert(i -= 3, 1, ',');
  return digits;
}

namespace {

std::size_t width_of(std::string_view utf8) {  // in characters
  return static_cast<std::size_t>(
      std::count_if(utf8.begin(), utf8.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

// A column of the table; the first is aligned to the left.
void pad(std::string& line, const std::string& cell, std::size_t width, bool left) {
  const std::string blank(width - std::min(width, width_of(cell)), ' ');
  line += left ? cell + blank : "  " + blank + cell;
}

}  // namespace

std::string table(const std::vector<std::vector<std::string>>& lines) {
  std::vector<std::size_t> widths(lines[0].size());
  for (const auto& line : lines)
    for (std::size_t i = 0; i < line.size(); ++i)
      widths[i] = std::max(widths[i], width_of(line[i]));
  std::string out;
  for (std::size_t n = 0; n < lines.size(); ++n) {
    std::string line;
    for (std::size_t i = 0; i < lines[n].size(); ++i) pad(line, lines[n][i], widths[i], i == 0);
    if (n == 0 || n + 1 == lines.size()) {
      const std::string rule(width_of(line), '-');
      out += n == 0 ? line + "\n" + rule + "\n" : rule + "\n" + line + "\n";
    } else {
      out += line + "\n";
    }
  }
  return out;
}

}  // namespace lg
