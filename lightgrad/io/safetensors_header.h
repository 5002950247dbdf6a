// safetensors_header.h: the JSON header of a safetensors file, as text and as checked entries.
// Knows nothing of tensors and files.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "lightgrad/base/dtype.h"
#include "lightgrad/base/shape.h"

namespace lg::io {

inline constexpr std::uint64_t longest_header = 100'000'000;  // as in the reference implementation

struct HeaderEntry {
  std::string name;
  DType dtype = DType::float32;
  Shape shape;
  std::uint64_t begin = 0, end = 0;  // bytes of the data, which follows the header
};

struct Header {
  std::vector<HeaderEntry> entries;
  std::map<std::string, std::string> metadata;
};

// Entries in the order of their data, which they cover without gaps or overlaps, from 0 to
// `data_size`. `file` is what errors call it.
Header parse_header(std::string_view json, std::uint64_t data_size, std::string_view file);

// The JSON, padded so that it ends at a multiple of eight bytes. `file` likewise.
std::string header_text(const Header& header, std::string_view file);

// A name from a file, fit for an error message: in quotes, cut, without control characters.
std::string shown(std::string_view name);

}  // namespace lg::io
