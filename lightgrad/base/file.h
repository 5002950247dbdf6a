// file.h: regular files, read at checked offsets and written atomically: whoever opens the path
// sees the old contents or the new ones, never a part.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace lg {

// Errors are ErrorKind::io and read "<operation>: cannot read /a/b: No such file or directory".
class InputFile {
 public:
  InputFile(std::string path, std::string_view operation);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  std::uint64_t size() const { return size_; }
  // Fills `to` from `offset` on; an error when the file ends before.
  void read(std::uint64_t offset, std::span<std::byte> to) const;

 private:
  std::string path_, operation_;
  int file_ = -1;
  std::uint64_t size_ = 0;
};

std::string read_file(const std::string& path, std::string_view operation);

// Writes beside `path`, under its name and ".tmp" with a number; commit() puts that in the place of
// `path`. Without it the destructor removes the temporary file, and `path` stays as it was. What a
// killed process left behind is taken over by the next writer.
class AtomicFile {
 public:
  AtomicFile(const std::string& path, std::string_view operation);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  // fsync of the file, rename, fsync of the folder.
  void commit();

 private:
  void open_temporary();
  [[noreturn]] void fail_to_write(int error) const;

  std::string operation_, path_, temporary_;
  int file_ = -1;
};

}  // namespace lg
