// gzip.h: a gzip stream in memory, inflated piece by piece into memory of the caller's, so that
// nothing is allocated on the word of the stream.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace lg::data {

// The most that deflate can make of one byte: 258 bytes for two bits.
inline constexpr std::uint64_t most_expansion = 1032;

bool is_gzip(std::span<const std::byte> bytes);

// Errors are IOErrors "<operation>: <file>: ...". `bytes` must outlive the reader.
class GzipReader {
 public:
  GzipReader(std::span<const std::byte> bytes, std::string_view operation, std::string_view file);
  ~GzipReader();
  GzipReader(const GzipReader&) = delete;
  GzipReader& operator=(const GzipReader&) = delete;

  // Fills `to`, or less where the stream ends before: the number of bytes.
  std::size_t read(std::span<std::byte> to);
  // That the stream ends here, its checksum holds, and nothing follows it.
  void finish();

 private:
  struct State;
  [[noreturn]] void fail_damaged(const char* why) const;

  std::unique_ptr<State> state_;
  std::string operation_, file_;
};

}  // namespace lg::data
