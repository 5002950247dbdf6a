// error.h: every error of the library is a lg::Error, made by `fail`, which adds the module path.
// Python gets ValueError, TypeError, IndexError, MemoryError or RuntimeError by the kind.
#pragma once

#include <concepts>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

namespace lg {

enum class ErrorKind : std::uint8_t { value, type, index, memory, runtime, io };

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& what) : std::runtime_error(what), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

namespace detail {
inline void append(std::string& s, std::string_view v) { s += v; }
inline void append(std::string& s, char v) { s += v; }
template <std::integral T>
void append(std::string& s,
            T v) {  // bool stands here: as a plain overload it would catch string literals
  if constexpr (std::same_as<T, bool>)
    s += v ? "true" : "false";
  else
    s += std::to_string(v);
}
void append(std::string& s, double v);  // shortest text that reads back as v
template <class T>
requires requires(const T& v) {
  { v.to_string() } -> std::convertible_to<std::string>;
}
void append(std::string& s, const T& v) { s += v.to_string(); }
}  // namespace detail

// Text made of its parts: strings, numbers, and anything with to_string().
template <class... Parts> std::string text(const Parts&... parts) {
  std::string s;
  (detail::append(s, parts), ...);
  return s;
}

[[noreturn]] void fail_with(ErrorKind kind,
                            std::string what);  // appends " (in blocks.2.attn)" inside a module

// fail(ErrorKind::value, "matmul", "x has 3 columns, y has 4 rows ...") throws "matmul: x has 3
// columns, ...".
template <class... Parts>
[[noreturn]] void fail(ErrorKind kind, std::string_view operation, const Parts&... parts) {
  fail_with(kind, text(operation, ": ", parts...));
}

}  // namespace lg
