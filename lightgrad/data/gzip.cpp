#include "lightgrad/data/gzip.h"

#include <zlib.h>

#include <algorithm>

#include "lightgrad/base/error.h"

namespace lg::data {

struct GzipReader::State {
  z_stream stream{};
  std::span<const std::byte> rest;  // not yet given to zlib, whose counts have 32 bits
  bool ended = false;
};

namespace {
constexpr std::size_t piece = std::size_t{1} << 30;
constexpr int gzip_only = 16 + MAX_WBITS;  // inflateInit2's way to say: a gzip header, no other
}  // namespace

bool is_gzip(std::span<const std::byte> bytes) {
  return bytes.size() >= 2 && bytes[0] == std::byte{0x1f} && bytes[1] == std::byte{0x8b};
}

GzipReader::GzipReader(std::span<const std::byte> bytes, std::string_view operation,
                       std::string_view file)
    : state_(std::make_unique<State>()), operation_(operation), file_(file) {
  state_->rest = bytes;
  if (inflateInit2(&state_->stream, gzip_only) != Z_OK) {
    fail(ErrorKind::memory, operation_, file_, ": no memory to inflate it");
  }
}

GzipReader::~GzipReader() { inflateEnd(&state_->stream); }

std::size_t GzipReader::read(std::span<std::byte> to) {
  z_stream& s = state_->stream;
  std::size_t done = 0;
  while (done < to.size() && !state_->ended) {
    if (s.avail_in == 0) {
      const auto next = state_->rest.first(std::min(state_->rest.size(), piece));
      s.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(next.data()));
      s.avail_in = static_cast<uInt>(next.size());
      state_->rest = state_->rest.subspan(next.size());
    }
    const std::size_t room = std::min(to.size() - done, piece);
    s.next_out = reinterpret_cast<Bytef*>(to.data() + done);
    s.avail_out = static_cast<uInt>(room);
    const int status = inflate(&s, Z_NO_FLUSH);
    done += room - s.avail_out;
    if (status == Z_STREAM_END) {
      state_->ended = true;
    } else if (status == Z_BUF_ERROR || (status == Z_OK && s.avail_in == 0 && s.avail_out > 0)) {
      if (state_->rest.empty()) fail_damaged("it ends in the middle of the gzip stream");
    } else if (status != Z_OK) {
      fail_damaged(s.msg ? s.msg : "no gzip stream");
    }
  }
  return done;
}

void GzipReader::finish() {
  std::byte more;
  if (read({&more, 1}) != 0) fail_damaged("the gzip stream goes on behind the data");
  const std::size_t trailing = state_->stream.avail_in + state_->rest.size();
  if (trailing != 0) {
    fail(ErrorKind::io, operation_, file_, ": ", trailing, " bytes follow the gzip stream");
  }
}

void GzipReader::fail_damaged(const char* why) const {
  fail(ErrorKind::io, operation_, file_, ": ", why);
}

}  // namespace lg::data
