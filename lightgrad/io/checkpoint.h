// checkpoint.h: everything that a training run needs to go on to the same bits, in one safetensors
// file: tensors by name, and numbers and strings in its metadata, each as JSON.
// Knows nothing of modules and optimizers: they hand over names and tensors.
#pragma once

#include <concepts>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "lightgrad/base/error.h"
#include "lightgrad/base/random.h"
#include "lightgrad/tensor/tensor.h"

namespace lg::io {

// checkpoint.put_state("model.", model.state_dict());
// checkpoint.put("step", step);
// checkpoint.save(path);
class Checkpoint {
 public:
  using Value = std::variant<std::int64_t, double, std::string>;

  // A name holds one thing: putting again replaces. Tensors are kept as they are, not copied: their
  // numbers are those at save(). ValueError for an undefined one.
  void put(std::string_view name, const Tensor& tensor);
  void put(std::string_view name, double value) { put_value(name, value); }
  void put(std::string_view name, std::string_view text) { put_value(name, std::string(text)); }
  template <std::integral T> void put(std::string_view name, T value) {
    if (!std::in_range<std::int64_t>(value)) {
      fail(ErrorKind::value, "Checkpoint", "\"", name, "\": ", value, " does not fit int64");
    }
    put_value(name, static_cast<std::int64_t>(value));
  }

  bool has(std::string_view name) const;
  // In the order of the alphabet, tensors first.
  std::vector<std::string> names(std::string_view prefix = {}) const;

  // Errors name what is missing, the file, and what there is. IndexError; TypeError when the name
  // holds something else.
  const Tensor& tensor(std::string_view name) const;
  const Value& value(std::string_view name) const;
  // T: std::int64_t, double or std::string. An integer is no double, nor the other way.
  template <class T> T get(std::string_view name) const;

  // All tensors of a state_dict: any sequence of pairs of name and tensor, as prefix + name.
  template <class State> void put_state(std::string_view prefix, const State& state) {
    for (const auto& [name, tensor] : state) put(std::string(prefix) + std::string(name), tensor);
  }
  // The tensors whose names begin with `prefix`, without it. IndexError when there are none.
  std::map<std::string, Tensor> take_state(std::string_view prefix) const;

  // Seed and offset, as name.seed and name.offset.
  void put_generator(std::string_view name, const Generator& generator);
  void take_generator(std::string_view name, Generator& generator) const;

  // Atomic, as save_safetensors is. ValueError for text that is not UTF-8.
  void save(const std::string& path) const;
  static Checkpoint load(const std::string& path);

 private:
  void put_value(std::string_view name, Value value);
  [[noreturn]] void fail_to_find(std::string_view name, std::string_view wanted) const;

  std::string path_;  // where it was loaded from, for errors
  std::map<std::string, Tensor, std::less<>> tensors_;
  std::map<std::string, Value, std::less<>> values_;
};

template <> std::int64_t Checkpoint::get<std::int64_t>(std::string_view name) const;
template <> double Checkpoint::get<double>(std::string_view name) const;
template <> std::string Checkpoint::get<std::string>(std::string_view name) const;

}  // namespace lg::io
