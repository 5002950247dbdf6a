#include "lightgrad/data/cifar.h"

#include <algorithm>
#include <cstring>

#include "lightgrad/base/error.h"
#include "lightgrad/base/file.h"

namespace lg::data {
namespace {

constexpr std::string_view operation = "read_cifar10";
constexpr std::int64_t pixels = 3 * 32 * 32, record = 1 + pixels, classes = 10;

std::int64_t records_in(std::uint64_t bytes, std::string_view name) {
  if (bytes == 0 || bytes % record != 0) {
    fail(ErrorKind::io, operation, name, ": its ", bytes, " bytes are not a number of records of ",
         record);
  }
  return static_cast<std::int64_t>(bytes / record);
}

Cifar room_for(std::int64_t n) {
  return {Tensor::empty({n, 3, 32, 32}, DType::uint8), Tensor::empty({n}, DType::int64)};
}

// Records to places `first` and on of `to`; `at` is what errors call the first one.
void take(std::span<const std::byte> bytes, const Cifar& to, std::int64_t first, std::int64_t at,
          std::string_view name) {
  auto* images = to.images.data<std::uint8_t>() + first * pixels;
  auto* labels = to.labels.data<std::int64_t>() + first;
  for (const std::byte* p = bytes.data(); p < bytes.data() + bytes.size(); p += record, ++at) {
    const auto label = std::to_integer<std::int64_t>(*p);
    if (label >= classes) {
      fail(ErrorKind::io, operation, name, ": the label of record ", at, " is ", label,
           ", expected 0 to 9");
    }
    *labels++ = label;
    std::memcpy(images, p + 1, pixels);
    images += pixels;
  }
}

}  // namespace

Cifar parse_cifar10(std::span<const std::byte> bytes, std::string_view name) {
  const Cifar all = room_for(records_in(bytes.size(), name));
  take(bytes, all, 0, 0, name);
  return all;
}

Cifar read_cifar10(const std::vector<std::string>& paths) {
  std::int64_t n = 0;
  for (const std::string& path : paths) {
    n += records_in(InputFile(path, operation).size(), path);
  }
  const Cifar all = room_for(n);
  std::vector<std::byte> piece(100 * record);
  std::int64_t first = 0;
  for (const std::string& path : paths) {
    const InputFile file(path, operation);
    const std::int64_t here = records_in(file.size(), path);
    if (here > n - first) fail(ErrorKind::io, operation, path, ": it grew while it was read");
    for (std::int64_t at = 0; at < here; at += 100) {
      const auto bytes = static_cast<std::size_t>(std::min<std::int64_t>(100, here - at) * record);
      const auto records = std::span(piece).first(bytes);
      file.read(static_cast<std::uint64_t>(at * record), records);
      take(records, all, first + at, at, path);
    }
    first += here;
  }
  if (first != n) fail(ErrorKind::io, operation, "a file shrank while it was read");
  return all;
}

}  // namespace lg::data
