// data_testing.h: what tests of data sets share: bytes of IDX and gzip files, environment
// variables.
#pragma once

#include <stdlib.h>
#include <zlib.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace lg {

// An environment variable for the length of a scope.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) {
    if (const char* old = getenv(name)) old_ = old;
    setenv(name, value.c_str(), 1);
  }
  ~Variable() { old_ ? setenv(name_, old_->c_str(), 1) : unsetenv(name_); }

 private:
  const char* name_;
  std::optional<std::string> old_;
};

inline std::span<const std::byte> bytes_of(const std::string& s) {
  return std::as_bytes(std::span(s));
}

inline std::string big_endian(std::uint64_t v, int bytes) {
  std::string s;
  for (int i = bytes; i-- > 0;) s += static_cast<char>(v >> 8 * i & 255);
  return s;
}

inline std::string idx_header(int code, const std::vector<std::uint32_t>& sizes) {
  std::string s{'\0', '\0', static_cast<char>(code), static_cast<char>(sizes.size())};
  for (const std::uint32_t size : sizes) s += big_endian(size, 4);
  return s;
}

// As gzip writes it.
inline std::string gzipped(const std::string& s) {
  z_stream z{};
  deflateInit2(&z, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&z, s.size()), '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(s.data()));
  z.avail_in = static_cast<uInt>(s.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  deflate(&z, Z_FINISH);
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

}  // namespace lg
