// safetensors.h: the safetensors format: eight bytes of header length, a JSON header, the numbers.
// Reading believes nothing that the file says before it is checked; writing is atomic.
// https://github.com/huggingface/safetensors#format
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lightgrad/tensor/tensor.h"

namespace lg::io {

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;
using Metadata = std::map<std::string, std::string>;

struct Safetensors {
  NamedTensors tensors;  // in the order of their data
  Metadata metadata;
};

// Replaces `path` in one step. Tensors of wider elements come first, so that every one is aligned;
// otherwise they keep their order. ValueError for a name that comes twice, is "__metadata__" or not
// UTF-8, IOError where the disk refuses; then the old file is untouched.
void save_safetensors(const std::string& path, const NamedTensors& tensors,
                      const Metadata& metadata = {});

// All of it or an error that names the file and the tensor: an IOError for a file that is damaged,
// a ValueError for a dtype or rank that is sound but not ours. Takes no more memory than a few
// times the size of the file.
Safetensors load_safetensors(const std::string& path);

// The same from memory; `name` stands for the path in errors.
Safetensors parse_safetensors(std::span<const std::byte> bytes, std::string_view name = "memory");

}  // namespace lg::io
