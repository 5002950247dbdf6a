#include "lightgrad/base/error.h"

#include <charconv>

#include "lightgrad/base/where.h"

namespace lg {

void detail::append(std::string& s, double v) {
  if (v != v) return append(s, std::string_view("nan"));  // without the sign, which means nothing
  char buffer[32];
  auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, v);
  s.append(buffer, error == std::errc() ? end : buffer);
}

void fail_with(ErrorKind kind, std::string what) {
  if (std::string path = where(); !path.empty()) what += " (in " + path + ")";
  throw Error(kind, what);
}

}  // namespace lg
