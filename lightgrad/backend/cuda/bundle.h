// bundle.h: what tools/build_kernels.py wrote: a manifest of compiled kernels, and their code in
// files that are named by their SHA-256. Nothing in it is believed unchecked. Knows no driver.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lg::cuda {

// An argument of a launch, by the name it has in the kernel. A choice is a constant that the kernel
// was compiled with.
struct Argument {
  enum class Kind : std::uint8_t { pointer, integer, number, choice };

  std::string_view name;
  Kind kind;
  std::string_view type;  // of what a pointer points to: "fp32", "fp16", "bf16", "u8"
  std::uint64_t bits = 0;
  std::string_view text;  // of a choice that is a word

  static Argument pointer(std::string_view name, std::string_view type, const void* p) {
    return {name, Kind::pointer, type, reinterpret_cast<std::uintptr_t>(p), {}};
  }
  static Argument integer(std::string_view name, std::int64_t v) {
    return {name, Kind::integer, {}, static_cast<std::uint64_t>(v), {}};
  }
  static Argument number(std::string_view name, double v);  // as a float32
  static Argument choice(std::string_view name, std::int64_t v) {
    return {name, Kind::choice, {}, static_cast<std::uint64_t>(v), {}};
  }
  static Argument choice(std::string_view name, std::string_view word) {
    return {name, Kind::choice, {}, 0, word};
  }
  std::int64_t value() const { return static_cast<std::int64_t>(bits); }
};

// One compiled kernel.
struct Variant {
  struct Parameter {
    std::string name, type;  // "*bf16", "i32", "i64", "fp32"
    std::int64_t multiple;   // of bytes or as a number: 16 or 1
  };
  struct Choice {
    std::string name, word;  // a word, or without one a number
    std::int64_t number;
  };
  struct Condition {
    std::string name;
    char test;  // '<': at most, '%': a multiple of, '=': equal to
    std::int64_t number;
  };
  // A number, or where it has a name the argument of that name.
  struct Size {
    std::string name;
    std::int64_t number = 0;
  };
  struct Factor {
    Size size, block;  // size / block, rounded up
  };
  // What tuning found: on that device, at these sizes, another variant of the kernel is faster.
  struct Faster {
    std::string device;
    std::vector<std::int64_t> sizes;
    std::size_t variant;
  };

  std::string kernel, entry;
  int arch = 0, driver = 0, warps = 0, ctas = 0, shared = 0;
  std::vector<Parameter> parameters;
  std::vector<Choice> choices;
  std::vector<Condition> conditions;
  std::vector<std::vector<Factor>> grid;
  std::vector<std::string> tune;  // the arguments on which it depends which variant is the fastest
  std::vector<Faster> faster;
  std::string cubin, ptx;  // SHA-256 of the code; ptx may be empty

  bool fits(std::span<const Argument> arguments) const;
  // Programs along each axis, at least one; ctas of them are one cluster.
  std::vector<std::int64_t> programs(std::span<const Argument> arguments) const;
  // The arguments of `tune`, each rounded up to a power of two: what is measured at one size serves
  // its neighbours.
  std::vector<std::int64_t> sizes(std::span<const Argument> arguments) const;
};

const Argument* find(std::span<const Argument> arguments, std::string_view name);

class Bundle {
 public:
  // Reads folder/manifest.json; an io or value error says what is wrong with it.
  explicit Bundle(std::string folder);

  const std::string& folder() const { return folder_; }
  // In the manifest's order: the first that fits is the one to take. Empty for an unknown kernel.
  std::span<const Variant> variants(std::string_view kernel) const;
  std::size_t size() const { return count_; }
  // The code by its hash, which it is held against. Kind: "cubin" or "ptx".
  std::string code(const std::string& hash, std::string_view kind) const;

 private:
  std::string folder_;
  std::map<std::string, std::vector<Variant>, std::less<>> kernels_;
  std::size_t count_ = 0;
};

}  // namespace lg::cuda
