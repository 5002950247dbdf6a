#include "lightgrad/io/safetensors_header.h"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>

#include "lightgrad/base/error.h"

namespace lg::io {
namespace {

constexpr std::string_view dtype_names[] = {"BOOL", "U8",   "I32", "I64",
                                            "F16",  "BF16", "F32", "F64"};  // by DType
static_assert(std::size(dtype_names) == dtype_count);
// What others may write and LightGrad does not compute with.
constexpr std::string_view foreign_dtypes[] = {
    "I8",      "I16",         "U16",         "U32",     "U64",     "C64",     "C128", "F8_E4M3",
    "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F8_E8M0", "F6_E2M3", "F6_E3M2", "F4"};

constexpr std::string_view metadata_name = "__metadata__";

struct RawEntry {
  std::string name;
  std::optional<DType> dtype;
  std::optional<Shape> shape;
  std::vector<std::uint64_t> offsets;
  bool has_offsets = false;
};

// Takes the header as the parser reads it, so that no tree of JSON values is ever built.
class Reader : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit Reader(std::string_view file) : file_(file) {}

  Header header;
  std::vector<RawEntry> entries;

  bool start_object(std::size_t) override {
    switch (place_) {
      case Place::start: place_ = Place::top; return true;
      case Place::value:
        entries.back().name = name_;
        place_ = Place::entry;
        return true;
      case Place::metadata_value:
        if (has_metadata_) damaged("\"__metadata__\" comes twice");
        has_metadata_ = true;
        place_ = Place::metadata;
        return true;
      default: unexpected("an object");
    }
  }

  bool key(std::string& text) override {
    switch (place_) {
      case Place::top:
        name_ = std::move(text);
        place_ = name_ == metadata_name ? Place::metadata_value : Place::value;
        if (place_ == Place::value) entries.emplace_back();
        return true;
      case Place::entry:
        if (text == "dtype")
          place_ = Place::dtype;
        else if (text == "shape")
          place_ = Place::shape;
        else if (text == "data_offsets")
          place_ = Place::offsets;
        else
          bad_tensor("has an unknown field ", shown(text));
        if (place_ == Place::dtype   ? entries.back().dtype.has_value()
            : place_ == Place::shape ? entries.back().shape.has_value()
                                     : entries.back().has_offsets) {
          bad_tensor("has two fields ", shown(text));
        }
        return true;
      default:
        key_ = std::move(text);
        place_ = Place::metadata_text;
        return true;
    }
  }

  bool string(std::string& text) override {
    if (place_ == Place::metadata_text) {
      if (!header.metadata.emplace(key_, std::move(text)).second) {
        damaged("metadata ", shown(key_), " comes twice");
      }
      place_ = Place::metadata;
      return true;
    }
    if (place_ != Place::dtype) unexpected("a string");
    const auto found = std::ranges::find(dtype_names, text);
    if (found == std::end(dtype_names)) bad_dtype(text);
    entries.back().dtype = static_cast<DType>(found - std::begin(dtype_names));
    place_ = Place::entry;
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ == Place::shape) {
      entries.back().shape.emplace();
      place_ = Place::sizes;
    } else if (place_ == Place::offsets) {
      entries.back().has_offsets = true;
      place_ = Place::ends;
    } else {
      unexpected("an array");
    }
    return true;
  }

  bool number_unsigned(std::uint64_t number) override {
    if (place_ == Place::sizes) {
      if (!std::in_range<std::int64_t>(number)) {
        bad_tensor("has a dimension of ", number, ", more than fits in 64 bits");
      }
      if (entries.back().shape->rank() == max_rank) {
        fail(ErrorKind::value, "safetensors", file_, ": tensor ", shown(name_), " has more than ",
             max_rank, " dimensions, the most that a tensor has here");
      }
      entries.back().shape->push_back(static_cast<std::int64_t>(number));
    } else if (place_ == Place::ends) {
      if (entries.back().offsets.size() == 2) bad_tensor("has more than two data offsets");
      entries.back().offsets.push_back(number);
    } else {
      unexpected("a number");
    }
    return true;
  }
  bool number_integer(std::int64_t number) override {  // a negative one
    if (place_ == Place::sizes) bad_tensor("has a negative dimension, ", number);
    if (place_ == Place::ends) bad_tensor("has a negative data offset, ", number);
    unexpected("a number");
  }
  bool number_float(double, const std::string& text) override {
    if (place_ == Place::sizes) bad_tensor("has ", shown(text), " as a dimension");
    if (place_ == Place::ends) bad_tensor("has ", shown(text), " as a data offset");
    unexpected("a number");
  }

  bool end_array() override {
    place_ = Place::entry;
    return true;
  }
  bool end_object() override {
    if (place_ == Place::entry) {
      const RawEntry& e = entries.back();
      if (!e.dtype) bad_tensor("has no dtype");
      if (!e.shape) bad_tensor("has no shape");
      if (!e.has_offsets) bad_tensor("has no data_offsets");
      if (e.offsets.size() != 2) bad_tensor("has ", e.offsets.size(), " data offsets, expected 2");
    }
    place_ = place_ == Place::top ? Place::start : Place::top;
    return true;
  }

  bool null() override { unexpected("null"); }
  bool boolean(bool) override { unexpected("a boolean"); }
  bool binary(nlohmann::json::binary_t&) override { unexpected("binary data"); }
  bool parse_error(std::size_t byte, const std::string&,
                   const nlohmann::json::exception&) override {
    damaged("the header is not valid JSON at byte ", byte);
  }

 private:
  enum class Place : std::uint8_t {
    start,
    top,
    value,
    entry,
    dtype,
    shape,
    sizes,
    offsets,
    ends,
    metadata_value,
    metadata,
    metadata_text
  };

  template <class... Parts> [[noreturn]] void damaged(const Parts&... parts) {
    fail(ErrorKind::io, "safetensors", file_, ": ", parts...);
  }
  template <class... Parts> [[noreturn]] void bad_tensor(const Parts&... parts) {
    damaged("tensor ", shown(name_), " ", parts...);
  }
  [[noreturn]] void bad_dtype(const std::string& text) {
    const bool standard = std::ranges::find(foreign_dtypes, text) != std::end(foreign_dtypes);
    fail(ErrorKind::value, "safetensors", file_, ": tensor ", shown(name_), " has ",
         standard ? "the unsupported dtype " : "the unknown dtype ", shown(text),
         ", expected one of BOOL, U8, I32, I64, F16, BF16, F32, F64");
  }
  [[noreturn]] void unexpected(std::string_view what) {
    switch (place_) {
      case Place::start: damaged("the header is ", what, ", expected an object");
      case Place::value: bad_tensor("is ", what, ", expected an object");
      case Place::dtype: bad_tensor("has ", what, " as its dtype, expected a string");
      case Place::shape: bad_tensor("has ", what, " as its shape, expected an array");
      case Place::sizes: bad_tensor("has ", what, " as a dimension, expected a number");
      case Place::offsets: bad_tensor("has ", what, " as its data_offsets, expected an array");
      case Place::ends: bad_tensor("has ", what, " as a data offset, expected a number");
      case Place::metadata_text:
        damaged("metadata ", shown(key_), " is ", what, ", expected a string");
      default: damaged("\"__metadata__\" is ", what, ", expected an object of strings");
    }
  }

  std::string_view file_;
  Place place_ = Place::start;
  bool has_metadata_ = false;
  std::string name_, key_;
};

// Bytes of dense data, or nothing when they do not fit in 64 bits. A dimension of 0 does not excuse
// the others: strides are products of them.
std::optional<std::uint64_t> byte_count(const Shape& shape, DType dtype) {
  auto bytes = static_cast<std::int64_t>(size_of(dtype));
  bool empty = false;
  for (const std::int64_t size : shape) {
    if (size == 0)
      empty = true;
    else if (__builtin_mul_overflow(bytes, size, &bytes))
      return {};
  }
  return empty ? 0 : static_cast<std::uint64_t>(bytes);
}

void check_names(const std::vector<RawEntry>& entries, std::string_view file) {
  std::vector<std::string_view> names(entries.size());
  std::ranges::transform(entries, names.begin(), &RawEntry::name);
  std::ranges::sort(names);
  if (const auto twice = std::ranges::adjacent_find(names); twice != names.end()) {
    fail(ErrorKind::io, "safetensors", file, ": tensor ", shown(*twice), " comes twice");
  }
}

void check_layout(const std::vector<HeaderEntry>& entries, std::uint64_t data_size,
                  std::string_view file) {
  std::uint64_t at = 0;
  std::string_view before;
  for (const HeaderEntry& e : entries) {
    const auto damaged = [&](const auto&... parts) {
      fail(ErrorKind::io, "safetensors", file, ": tensor ", shown(e.name), " ", parts...);
    };
    if (e.begin > e.end) damaged("begins at byte ", e.begin, " and ends before, at ", e.end);
    if (e.end > data_size) {
      damaged("ends at byte ", e.end, " of the data, but the file has only ", data_size);
    }
    if (e.begin < at) damaged("begins at byte ", e.begin, ", inside of ", shown(before));
    if (e.begin > at) damaged("begins at byte ", e.begin, ", after a hole from byte ", at);
    const auto bytes = byte_count(e.shape, e.dtype);
    if (!bytes) damaged("has shape ", e.shape, ", more bytes than fit in 64 bits");
    if (*bytes != e.end - e.begin) {
      damaged("has ", e.end - e.begin, " bytes of data, but shape ", e.shape, " of ",
              dtype_names[static_cast<int>(e.dtype)], " takes ", *bytes);
    }
    at = e.end;
    before = e.name;
  }
  if (at != data_size) {
    fail(ErrorKind::io, "safetensors", file, ": ", data_size - at,
         " bytes follow the data of the last tensor");
  }
}

}  // namespace

std::string shown(std::string_view name) {
  constexpr std::size_t longest = 80;
  std::string s = "\"";
  for (const char c : name.substr(0, longest)) s += static_cast<unsigned char>(c) < 32 ? '?' : c;
  if (name.size() > longest) {  // cut between two characters of UTF-8
    while (s.size() > 1 && (name[s.size() - 1] & 0xc0) == 0x80) s.pop_back();
  }
  return s + (name.size() > longest ? "...\"" : "\"");
}

Header parse_header(std::string_view json, std::uint64_t data_size, std::string_view file) {
  if (!json.starts_with('{')) {
    fail(ErrorKind::io, "safetensors", file, ": the header does not begin with '{'");
  }
  if (json.find('\0') != json.npos) {  // where the parser would stop, content with what it has
    fail(ErrorKind::io, "safetensors", file, ": the header holds a zero byte");
  }
  Reader reader(file);
  nlohmann::json::sax_parse(json, &reader);
  check_names(reader.entries, file);
  Header header = std::move(reader.header);
  header.entries.reserve(reader.entries.size());
  for (RawEntry& e : reader.entries) {
    header.entries.push_back({std::move(e.name), *e.dtype, *e.shape, e.offsets[0], e.offsets[1]});
  }
  // Empty tensors share their byte with the next one, and the header's order decides.
  std::ranges::stable_sort(header.entries, [](const HeaderEntry& a, const HeaderEntry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  check_layout(header.entries, data_size, file);
  return header;
}

std::string header_text(const Header& header, std::string_view file) {
  const auto json_string = [&](std::string_view what, const std::string& s) {
    try {
      return nlohmann::json(s).dump();
    } catch (const nlohmann::json::type_error&) {
      fail(ErrorKind::value, "safetensors", file, ": ", what, " is not valid UTF-8");
    }
  };
  std::string s = "{";
  if (!header.metadata.empty()) {
    s += "\"__metadata__\":{";
    for (const auto& [key, value] : header.metadata) {
      s += json_string("a key of the metadata", key) + ":";
      s += json_string(text("metadata ", shown(key)), value) + ",";
    }
    s.back() = '}';
    s += ",";
  }
  for (const HeaderEntry& e : header.entries) {
    s += json_string("the name of a tensor", e.name) + ":{\"dtype\":\"";
    s += dtype_names[static_cast<int>(e.dtype)];
    s += text("\",\"shape\":", e.shape, ",\"data_offsets\":[", e.begin, ",", e.end, "]},");
  }
  if (s.size() > 1) s.pop_back();
  s += "}";
  s.resize((s.size() + 7) / 8 * 8, ' ');
  if (s.size() > longest_header) {
    fail(ErrorKind::value, "safetensors", file, ": a header of ", s.size(), " bytes, at most ",
         longest_header, " are allowed");
  }
  return s;
}

}  // namespace lg::io
