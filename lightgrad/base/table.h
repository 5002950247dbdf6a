// table.h: numbers with units, and cells in columns: how profiles and summaries are printed.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lg {

std::string with_unit(double value, std::string_view unit);  // "1.23 GF/s"
std::string with_commas(std::int64_t value);                 // "-1,234,567"

// Lines of as many cells each, UTF-8: the head, what is listed, and a sum, with a rule after the
// first and before the last. The first column is aligned to the left, the others to the right.
std::string table(const std::vector<std::vector<std::string>>& lines);

}  // namespace lg
