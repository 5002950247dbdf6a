#include "lightgrad/data/idx.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "lightgrad/base/error.h"
#include "lightgrad/base/file.h"
#include "lightgrad/data/gzip.h"

namespace lg::data {
namespace {

constexpr std::string_view operation = "read_idx";

// Where the bytes come from: at most `most` in all, as far as can be known before they are read.
class Source {
 public:
  explicit Source(std::uint64_t most) : most(most) {}
  virtual ~Source() = default;
  virtual std::size_t read(std::span<std::byte> to) = 0;  // less than asked for: the end
  virtual void finish() = 0;                              // that nothing is left
  const std::uint64_t most;
};

class PlainSource : public Source {
 public:
  PlainSource(std::span<const std::byte> bytes, std::string_view name)
      : Source(bytes.size()), rest_(bytes), name_(name) {}
  std::size_t read(std::span<std::byte> to) override {
    const auto next = rest_.first(std::min(rest_.size(), to.size()));
    if (!next.empty()) std::memcpy(to.data(), next.data(), next.size());
    rest_ = rest_.subspan(next.size());
    return next.size();
  }
  void finish() override {
    if (rest_.empty()) return;
    fail(ErrorKind::io, operation, name_, ": ", rest_.size(), " bytes follow the last element");
  }

 private:
  std::span<const std::byte> rest_;
  std::string_view name_;
};

// Large files are read straight into the tensor.
class FileSource : public Source {
 public:
  FileSource(const InputFile& file, std::string_view name)
      : Source(file.size()), file_(file), name_(name) {}
  std::size_t read(std::span<std::byte> to) override {
    const std::size_t n = std::min<std::uint64_t>(most - at_, to.size());
    file_.read(at_, to.first(n));
    at_ += n;
    return n;
  }
  void finish() override {
    if (at_ == most) return;
    fail(ErrorKind::io, operation, name_, ": ", most - at_, " bytes follow the last element");
  }

 private:
  const InputFile& file_;
  std::string_view name_;
  std::uint64_t at_ = 0;
};

class GzipSource : public Source {
 public:
  GzipSource(std::span<const std::byte> bytes, std::string_view name)
      : Source(bytes.size() * most_expansion), reader_(bytes, operation, name) {}
  std::size_t read(std::span<std::byte> to) override { return reader_.read(to); }
  void finish() override { reader_.finish(); }

 private:
  GzipReader reader_;
};

struct Element {
  std::size_t bytes;  // in the file
  DType dtype;        // of the tensor
};

Element element_of(int code, std::string_view name) {
  switch (code) {
    case 0x08: return {1, DType::uint8};
    case 0x09: return {1, DType::int32};
    case 0x0B: return {2, DType::int32};
    case 0x0C: return {4, DType::int32};
    case 0x0D: return {4, DType::float32};
    case 0x0E: return {8, DType::float64};
    default:
      fail(ErrorKind::io, operation, name, ": the type code is ", code,
           ", expected 8 (uint8), 9 (int8), 11 (int16), 12 (int32), 13 (float32) or 14 (float64)");
  }
}

std::uint32_t big_endian(const std::byte* p) {
  std::uint32_t v = 0;
  for (int i = 0; i < 4; ++i) v = v << 8 | std::to_integer<std::uint32_t>(p[i]);
  return v;
}

void reverse_bytes(std::byte* p, std::size_t width, std::int64_t n) {
  if constexpr (std::endian::native == std::endian::big) return;
  for (; n > 0; --n, p += width) std::reverse(p, p + width);
}

// int8 and int16, which lie at the end of the tensor's own memory, become int32 from the front on.
template <class From> void widen(std::int32_t* out, std::int64_t n) {
  const auto* in = reinterpret_cast<const std::byte*>(out + n) - n * std::int64_t{sizeof(From)};
  for (std::int64_t i = 0; i < n; ++i) {
    From v;
    std::memcpy(&v, in + i * std::int64_t{sizeof(From)}, sizeof v);
    out[i] = v;
  }
}

Tensor parse(Source& source, std::string_view name) {
  std::array<std::byte, 4> magic{};
  if (source.read(magic) < magic.size()) {
    fail(ErrorKind::io, operation, name, ": it is too short for an IDX file");
  }
  if (magic[0] != std::byte{0} || magic[1] != std::byte{0}) {
    fail(ErrorKind::io, operation, name,
         ": it does not begin with two zero bytes, as IDX files do");
  }
  const Element element = element_of(std::to_integer<int>(magic[2]), name);
  const int rank = std::to_integer<int>(magic[3]);
  if (rank == 0) fail(ErrorKind::io, operation, name, ": it has no dimensions");
  if (rank > max_rank) {
    fail(ErrorKind::value, operation, name, ": a tensor has at most 8 dimensions, the file has ",
         rank);
  }
  std::array<std::byte, 4 * max_rank> sizes{};
  const std::size_t header = static_cast<std::size_t>(rank) * 4;
  if (source.read(std::span(sizes).first(header)) < header) {
    fail(ErrorKind::io, operation, name, ": it ends in its header of ", rank, " dimensions");
  }
  Shape shape;
  for (int i = 0; i < rank; ++i) shape.push_back(big_endian(sizes.data() + 4 * i));

  // Held against what the file has room for before each product, which therefore cannot overflow.
  const std::uint64_t before = magic.size() + header;
  const std::uint64_t room = source.most > before ? source.most - before : 0;
  std::uint64_t bytes = std::ranges::find(shape, 0) == shape.end() ? element.bytes : 0;
  for (int i = 0; i < rank && bytes > 0; ++i) {
    const auto size = static_cast<std::uint64_t>(shape[i]);
    if (size > room / bytes) {
      fail(ErrorKind::io, operation, name, ": it claims ", shape, " elements of ", element.bytes,
           " bytes, more than the ", room, " bytes that can follow its header");
    }
    bytes *= size;
  }

  Tensor t = Tensor::empty(shape, element.dtype);
  const std::int64_t n = t.numel();
  auto* data = static_cast<std::byte*>(t.raw_data());
  const std::size_t skip = (size_of(element.dtype) - element.bytes) * static_cast<std::size_t>(n);
  if (n > 0) {
    const std::size_t got = source.read({data + skip, bytes});
    if (got < bytes) {
      fail(ErrorKind::io, operation, name, ": it claims ", shape, " elements of ", element.bytes,
           " bytes, but ends ", bytes - got, " bytes before the last");
    }
  }
  source.finish();
  if (n == 0) return t;
  if (element.bytes > 1) reverse_bytes(data + skip, element.bytes, n);
  if (element.bytes == 1 && element.dtype == DType::int32) {
    widen<std::int8_t>(t.data<std::int32_t>(), n);
  }
  if (element.bytes == 2) widen<std::int16_t>(t.data<std::int32_t>(), n);
  return t;
}

}  // namespace

Tensor parse_idx(std::span<const std::byte> bytes, std::string_view name) {
  if (is_gzip(bytes)) {
    GzipSource source(bytes, name);
    return parse(source, name);
  }
  PlainSource source(bytes, name);
  return parse(source, name);
}

Tensor read_idx(const std::string& path) {
  const InputFile file(path, operation);
  std::array<std::byte, 2> start{};
  if (file.size() >= start.size()) file.read(0, start);
  if (is_gzip(start)) {
    const std::string bytes = read_file(path, operation);
    return parse_idx(std::as_bytes(std::span(bytes)), path);
  }
  FileSource source(file, path);
  return parse(source, path);
}

}  // namespace lg::data
