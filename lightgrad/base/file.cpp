#include "lightgrad/base/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <system_error>

#include "lightgrad/base/error.h"

namespace lg {
namespace {

constexpr std::size_t piece = std::size_t{1} << 30;  // Linux moves at most 2 GiB in one call

std::string reason(int error) { return std::generic_category().message(error); }

[[noreturn]] void fail_to_read(std::string_view operation, const std::string& path, int error) {
  fail(ErrorKind::io, operation, "cannot read ", path, ": ", reason(error));
}

// A path with a zero byte would name another file than the one that the user wrote.
void check_path(const std::string& path, std::string_view operation) {
  if (path.empty() || path.find('\0') != std::string::npos) {
    fail(ErrorKind::io, operation,
         path.empty() ? "the path is empty" : "the path holds a zero byte");
  }
}

}  // namespace

InputFile::InputFile(std::string path, std::string_view operation)
    : path_(std::move(path)), operation_(operation) {
  check_path(path_, operation);
  // Without O_NONBLOCK, opening a pipe that nobody writes to would wait forever.
  file_ = open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file_ < 0) fail_to_read(operation_, path_, errno);
  struct stat info;
  const int error = fstat(file_, &info) != 0 ? errno : 0;
  if (error || !S_ISREG(info.st_mode)) {
    close(file_);
    if (error) fail_to_read(operation_, path_, error);
    fail(ErrorKind::io, operation_, "cannot read ", path_, ": ",
         S_ISDIR(info.st_mode) ? "it is a folder" : "it is not a regular file");
  }
  size_ = static_cast<std::uint64_t>(info.st_size);
}

InputFile::~InputFile() { close(file_); }

void InputFile::read(std::uint64_t offset, std::span<std::byte> to) const {
  while (!to.empty()) {
    const ssize_t n =
        pread(file_, to.data(), std::min(to.size(), piece), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_to_read(operation_, path_, errno);
    if (n == 0) {
      fail(ErrorKind::io, operation_, "cannot read ", path_, ": it ends at byte ", offset, ", ",
           to.size(), " bytes short");
    }
    to = to.subspan(static_cast<std::size_t>(n));
    offset += static_cast<std::uint64_t>(n);
  }
}

std::string read_file(const std::string& path, std::string_view operation) {
  const InputFile file(path, operation);
  std::string contents(file.size(), '\0');
  file.read(0, std::as_writable_bytes(std::span(contents)));
  return contents;
}

AtomicFile::AtomicFile(const std::string& path, std::string_view operation)
    : operation_(operation), path_(path) {
  check_path(path_, operation);
  struct stat info;
  if (stat(path_.c_str(), &info) == 0) {
    if (!S_ISREG(info.st_mode)) {
      fail(ErrorKind::io, operation_, "cannot write ", path_, ": ",
           S_ISDIR(info.st_mode) ? "it is a folder" : "it is not a regular file");
    }
    if (char* real = realpath(path_.c_str(), nullptr)) {  // a link stays: what it names is replaced
      path_ = real;
      std::free(real);
    }
  }
  open_temporary();
}

// The lock tells a file that somebody is writing from one that a killed process left.
void AtomicFile::open_temporary() {
  for (int i = 0;; ++i) {
    temporary_ = path_ + ".tmp" + std::to_string(i);
    file_ =
        open(temporary_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    if (file_ < 0) fail_to_write(errno);
    struct stat ours, named;
    const bool busy = flock(file_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    // Its writer may have renamed it between our open and our lock.
    const bool ready = !busy && fstat(file_, &ours) == 0 &&
                       lstat(temporary_.c_str(), &named) == 0 && ours.st_ino == named.st_ino &&
                       ours.st_dev == named.st_dev && S_ISREG(ours.st_mode);
    if (ready && ftruncate(file_, 0) == 0) return;
    const int error = ready ? errno : EBUSY;
    close(file_);
    file_ = -1;
    if (ready || i == 100) fail_to_write(error);
  }
}

AtomicFile::~AtomicFile() {
  if (file_ < 0) return;
  unlink(temporary_.c_str());
  close(file_);
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(file_, bytes.data(), std::min(bytes.size(), piece));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_to_write(errno);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
}

void AtomicFile::commit() {
  struct stat old;
  if (stat(path_.c_str(), &old) == 0) (void)!fchmod(file_, old.st_mode & 07777);
  if (fsync(file_) != 0 || rename(temporary_.c_str(), path_.c_str()) != 0) fail_to_write(errno);
  close(file_);
  file_ = -1;
  // The name is on disk only when the folder is; some file systems cannot do that, and say EINVAL.
  const std::size_t slash = path_.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path_.substr(0, slash + 1);
  const int handle = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (handle < 0) return;  // a folder that may be written but not read
  const int error = fsync(handle) != 0 ? errno : 0;
  close(handle);
  if (error && error != EINVAL) fail_to_write(error);
}

void AtomicFile::fail_to_write(int error) const {
  fail(ErrorKind::io, operation_, "cannot write ", path_, ": ", reason(error));
}

}  // namespace lg
