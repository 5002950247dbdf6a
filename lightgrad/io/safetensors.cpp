#include "lightgrad/io/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <set>

#include "lightgrad/base/error.h"
#include "lightgrad/base/file.h"
#include "lightgrad/io/safetensors_header.h"

namespace lg::io {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");
constexpr std::uint64_t prefix = 8;  // bytes that hold the header's length

[[noreturn]] void damaged(std::string_view file, const auto&... parts) {
  fail(ErrorKind::io, "safetensors", file, ": ", parts...);
}

// A bool with another byte than 0 or 1 is no value in C++.
void check_bools(std::span<const std::byte> bytes, std::string_view file, const std::string& name) {
  const auto bad = std::ranges::find_if(bytes, [](std::byte b) { return b > std::byte{1}; });
  if (bad != bytes.end()) {
    damaged(file, "tensor ", shown(name), " is BOOL, but its element ", bad - bytes.begin(), " is ",
            static_cast<int>(*bad), ", neither 0 nor 1");
  }
}

// read(offset, bytes) fills bytes; size is that of the whole.
template <class Read> Safetensors parse(std::uint64_t size, std::string_view file, Read&& read) {
  if (size < prefix)
    damaged(file, "it has ", size, " bytes, not even the 8 of the header's length");
  std::uint64_t length = 0;
  read(0, std::as_writable_bytes(std::span(&length, 1)));
  if (length > longest_header) {
    damaged(file, "its header claims ", length, " bytes, at most ", longest_header, " are allowed");
  }
  if (length > size - prefix) {
    damaged(file, "its header claims ", length, " bytes, but only ", size - prefix, " follow");
  }
  std::string json(length, '\0');
  read(prefix, std::as_writable_bytes(std::span(json)));
  Header header = parse_header(json, size - prefix - length, file);
  std::string().swap(json);

  Safetensors result;
  result.metadata = std::move(header.metadata);
  result.tensors.reserve(header.entries.size());
  for (HeaderEntry& e : header.entries) {
    Tensor t = Tensor::empty(e.shape, e.dtype);
    const std::span bytes(static_cast<std::byte*>(t.raw_data()), e.end - e.begin);
    if (!bytes.empty()) read(prefix + length + e.begin, bytes);
    if (e.dtype == DType::bool_) check_bools(bytes, file, e.name);
    result.tensors.emplace_back(std::move(e.name), std::move(t));
  }
  return result;
}

}  // namespace

void save_safetensors(const std::string& path, const NamedTensors& tensors,
                      const Metadata& metadata) {
  std::vector<const std::pair<std::string, Tensor>*> order;
  std::set<std::string_view> names;
  for (const auto& named : tensors) {
    const auto& [name, tensor] = named;
    if (name == "__metadata__") {
      fail(ErrorKind::value, "safetensors", path, ": no tensor may be called \"__metadata__\"");
    }
    if (!names.insert(name).second) {
      fail(ErrorKind::value, "safetensors", path, ": two tensors are called ", shown(name));
    }
    if (!tensor.defined()) {
      fail(ErrorKind::value, "safetensors", path, ": tensor ", shown(name), " is undefined");
    }
    order.push_back(&named);
  }
  std::ranges::stable_sort(order, std::greater(),
                           [](const auto* named) { return size_of(named->second.dtype()); });

  Header header;
  header.metadata = metadata;
  std::uint64_t at = 0;
  for (const auto* named : order) {
    const auto& [name, tensor] = *named;
    const std::uint64_t bytes =
        static_cast<std::uint64_t>(tensor.numel()) * size_of(tensor.dtype());
    header.entries.push_back({name, tensor.dtype(), tensor.shape(), at, at + bytes});
    at += bytes;
  }
  const std::string json = header_text(header, path);
  const std::uint64_t length = json.size();

  AtomicFile file(path, "safetensors");
  file.write(std::as_bytes(std::span(&length, 1)));
  file.write(json);
  for (const auto* named : order) {
    const Tensor dense = named->second.contiguous_data();
    const auto* data = static_cast<const std::byte*>(dense.raw_data());
    file.write({data, static_cast<std::size_t>(dense.numel()) * size_of(dense.dtype())});
  }
  file.commit();
}

Safetensors load_safetensors(const std::string& path) {
  const InputFile file(path, "safetensors");
  return parse(file.size(), path,
               [&](std::uint64_t offset, std::span<std::byte> to) { file.read(offset, to); });
}

Safetensors parse_safetensors(std::span<const std::byte> bytes, std::string_view name) {
  return parse(bytes.size(), name, [&](std::uint64_t offset, std::span<std::byte> to) {
    std::memcpy(to.data(), bytes.data() + offset, to.size());
  });
}

}  // namespace lg::io
