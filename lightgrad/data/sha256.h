// sha256.h: SHA-256 (FIPS 180-4), so that a text is known to be the one that is meant.
#pragma once

#include <string>
#include <string_view>

namespace lg::data {

// 64 lower-case hexadecimal digits.
std::string sha256(std::string_view bytes);

}  // namespace lg::data
