// sha256.h: SHA-256 (FIPS 180-4), so that bytes are known to be those that are meant.
#pragma once

#include <string>
#include <string_view>

namespace lg {

// 64 lower-case hexadecimal digits.
std::string sha256(std::string_view bytes);

}  // namespace lg
