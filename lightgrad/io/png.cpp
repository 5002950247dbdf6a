// png.cpp: signature, header, one block of deflated rows, end; each part with its checksum.
#include "lightgrad/io/png.h"

#include <zlib.h>

#include <limits>
#include <string_view>

#include "lightgrad/base/error.h"
#include "lightgrad/base/file.h"

namespace lg::io {
namespace {

void append_number(std::string& s, std::uint32_t v) {  // big-endian
  for (int shift = 24; shift >= 0; shift -= 8) s += static_cast<char>(v >> shift & 0xff);
}

const Bytef* bytes_of(std::string_view s) { return reinterpret_cast<const Bytef*>(s.data()); }

void append_part(std::string& s, std::string_view type, std::string_view contents) {
  append_number(s, static_cast<std::uint32_t>(contents.size()));
  uLong sum = crc32(0, bytes_of(type), static_cast<uInt>(type.size()));
  // zlib takes a null pointer, which an empty view may be, as a wish for the first value.
  if (!contents.empty()) sum = crc32(sum, bytes_of(contents), static_cast<uInt>(contents.size()));
  s += type;
  s += contents;
  append_number(s, static_cast<std::uint32_t>(sum));
}

std::string deflated(const std::string& rows) {
  uLong size = compressBound(rows.size());
  std::string out(size, '\0');
  if (compress2(reinterpret_cast<Bytef*>(out.data()), &size, bytes_of(rows), rows.size(),
                Z_BEST_COMPRESSION) != Z_OK) {
    fail(ErrorKind::memory, "encode_png", "no memory for ", rows.size(), " bytes of image");
  }
  out.resize(size);
  return out;
}

}  // namespace

std::string encode_png(const Tensor& image) {
  const auto refuse = [&](ErrorKind kind) {
    fail(kind, "encode_png", "image is ", image.describe(),
         ", expected uint8 [h, w], [1, h, w] or [3, h, w]");
  };
  const int rank = image.rank();
  if (image.dtype() != DType::uint8) refuse(ErrorKind::type);
  if (rank < 2 || rank > 3 || image.numel() == 0) refuse(ErrorKind::value);
  const std::int64_t colours = rank == 3 ? image.size(0) : 1;
  const std::int64_t height = image.size(-2), width = image.size(-1);
  if (colours != 1 && colours != 3) refuse(ErrorKind::value);
  // A part's size has 32 bits; deflate adds less than a part in a thousand.
  if (image.numel() > std::numeric_limits<std::int32_t>::max()) {
    fail(ErrorKind::value, "encode_png", "image is ", image.describe(),
         ", more than the 2^31 bytes that a file may have");
  }

  const Tensor planes = image.contiguous_data();
  const auto* pixels = planes.data<std::uint8_t>();
  std::string rows;
  rows.reserve(static_cast<std::size_t>(height * (1 + width * colours)));
  for (std::int64_t y = 0; y < height; ++y) {
    rows += '\0';  // the row as it is, not its difference from another
    for (std::int64_t x = 0; x < width; ++x) {
      for (std::int64_t c = 0; c < colours; ++c) {
        rows += static_cast<char>(pixels[(c * height + y) * width + x]);
      }
    }
  }

  std::string header;
  append_number(header, static_cast<std::uint32_t>(width));
  append_number(header, static_cast<std::uint32_t>(height));
  header += '\x08';                          // bits of a number
  header += colours == 1 ? '\x00' : '\x02';  // greys, or three colours
  header += std::string_view("\0\0\0", 3);   // deflate, plain filters, not interlaced
  std::string out = "\x89PNG\r\n\x1a\n";
  append_part(out, "IHDR", header);
  append_part(out, "IDAT", deflated(rows));
  append_part(out, "IEND", {});
  return out;
}

void save_png(const std::string& path, const Tensor& image) {
  const std::string bytes = encode_png(image);
  AtomicFile file(path, "save_png");
  file.write(bytes);
  file.commit();
}

}  // namespace lg::io
