#include "lightgrad/io/checkpoint.h"

#include <charconv>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "lightgrad/io/safetensors.h"
#include "lightgrad/io/safetensors_header.h"

namespace lg::io {
namespace {

constexpr std::string_view format_key = "lightgrad.format", format = "checkpoint 1";
constexpr std::string_view kinds[] = {"an integer", "a float", "a string"};  // of Checkpoint::Value

// JSON as Python's json module writes and reads it: a float always shows that it is one, and
// infinity and NaN have names. The shortest digits that read back as the same number are exact.
std::string to_json(std::int64_t v) { return std::to_string(v); }
std::string to_json(double v) {
  if (std::isnan(v)) return "NaN";
  if (std::isinf(v)) return v < 0 ? "-Infinity" : "Infinity";
  std::string s = text(v);
  if (s.find_first_of(".e") == std::string::npos) s += ".0";
  return s;
}
std::string to_json(const std::string& s) { return nlohmann::json(s).dump(); }

template <class T> bool read_number(std::string_view s, T& number) {
  const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), number);
  return error == std::errc() && end == s.data() + s.size();
}

Checkpoint::Value from_json(const std::string& s, const std::string& key, const std::string& path) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  if (s == "NaN") return std::numeric_limits<double>::quiet_NaN();
  if (s == "Infinity") return infinity;
  if (s == "-Infinity") return -infinity;
  if (s.starts_with('"')) {
    const auto json = nlohmann::json::parse(s, nullptr, false);
    if (json.is_string()) return json.get<std::string>();
  } else if (s.find_first_of(".e") == std::string::npos) {
    if (std::int64_t number; read_number(s, number)) return number;
  } else if (double number; read_number(s, number)) {
    return number;
  }
  fail(ErrorKind::io, "Checkpoint", path, ": ", shown(key), " is ", shown(s),
       ", neither a number nor a string");
}

}  // namespace

void Checkpoint::put(std::string_view name, const Tensor& tensor) {
  if (!tensor.defined()) {
    fail(ErrorKind::value, "Checkpoint", "tensor ", shown(name), " is undefined");
  }
  if (const auto old = values_.find(name); old != values_.end()) values_.erase(old);
  tensors_.insert_or_assign(std::string(name), tensor.detach());
}

void Checkpoint::put_value(std::string_view name, Value value) {
  if (name == format_key) {
    fail(ErrorKind::value, "Checkpoint", "the name ", shown(name), " is taken by the format");
  }
  if (const auto old = tensors_.find(name); old != tensors_.end()) tensors_.erase(old);
  values_.insert_or_assign(std::string(name), std::move(value));
}

bool Checkpoint::has(std::string_view name) const {
  return tensors_.contains(name) || values_.contains(name);
}

std::vector<std::string> Checkpoint::names(std::string_view prefix) const {
  std::vector<std::string> found;
  const auto collect = [&](const auto& map) {
    for (auto at = map.lower_bound(prefix); at != map.end() && at->first.starts_with(prefix);
         ++at) {
      found.push_back(at->first);
    }
  };
  collect(tensors_);
  collect(values_);
  return found;
}

void Checkpoint::fail_to_find(std::string_view name, std::string_view wanted) const {
  const std::string where = path_.empty() ? "the checkpoint" : path_;
  if (const auto v = values_.find(name); v != values_.end()) {
    fail(ErrorKind::type, "Checkpoint", where, ": ", shown(name), " is ", kinds[v->second.index()],
         ", expected ", wanted);
  }
  if (tensors_.contains(name)) {
    fail(ErrorKind::type, "Checkpoint", where, ": ", shown(name), " is a tensor, expected ",
         wanted);
  }
  const std::vector<std::string> all = names();
  constexpr std::size_t most = 8;
  std::string list;
  for (std::size_t i = 0; i < std::min(all.size(), most); ++i) list += ", " + shown(all[i]);
  if (all.size() > most) list += text(" and ", all.size() - most, " more");
  fail(ErrorKind::index, "Checkpoint", where, " has no ", shown(name), " (", wanted, "); it has ",
       all.empty() ? "nothing" : list.substr(2));
}

const Tensor& Checkpoint::tensor(std::string_view name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) fail_to_find(name, "a tensor");
  return found->second;
}

const Checkpoint::Value& Checkpoint::value(std::string_view name) const {
  const auto found = values_.find(name);
  if (found == values_.end()) fail_to_find(name, "a number or a string");
  return found->second;
}

template <> std::int64_t Checkpoint::get<std::int64_t>(std::string_view name) const {
  const auto found = values_.find(name);
  const auto* v = found == values_.end() ? nullptr : std::get_if<std::int64_t>(&found->second);
  return v ? *v : (fail_to_find(name, kinds[0]), 0);
}
template <> double Checkpoint::get<double>(std::string_view name) const {
  const auto found = values_.find(name);
  const auto* v = found == values_.end() ? nullptr : std::get_if<double>(&found->second);
  return v ? *v : (fail_to_find(name, kinds[1]), 0);
}
template <> std::string Checkpoint::get<std::string>(std::string_view name) const {
  const auto found = values_.find(name);
  const auto* v = found == values_.end() ? nullptr : std::get_if<std::string>(&found->second);
  return v ? *v : (fail_to_find(name, kinds[2]), "");
}

std::map<std::string, Tensor> Checkpoint::take_state(std::string_view prefix) const {
  std::map<std::string, Tensor> state;
  for (auto at = tensors_.lower_bound(prefix);
       at != tensors_.end() && at->first.starts_with(prefix); ++at) {
    state.emplace(at->first.substr(prefix.size()), at->second);
  }
  if (state.empty()) fail_to_find(text(prefix, "*"), "tensors");
  return state;
}

// The bits of an unsigned number, as the signed one of the same bits.
void Checkpoint::put_generator(std::string_view name, const Generator& generator) {
  put(text(name, ".seed"), static_cast<std::int64_t>(generator.seed()));
  put(text(name, ".offset"), static_cast<std::int64_t>(generator.offset()));
}

void Checkpoint::take_generator(std::string_view name, Generator& generator) const {
  const auto seed = get<std::int64_t>(text(name, ".seed"));
  const auto offset = get<std::int64_t>(text(name, ".offset"));
  generator.set_state(static_cast<std::uint64_t>(seed), static_cast<std::uint64_t>(offset));
}

void Checkpoint::save(const std::string& path) const {
  Metadata metadata{{std::string(format_key), std::string(format)}};
  for (const auto& [name, value] : values_) {
    try {
      metadata[name] = std::visit([](const auto& v) { return to_json(v); }, value);
    } catch (const nlohmann::json::type_error&) {
      fail(ErrorKind::value, "Checkpoint", path, ": ", shown(name),
           " is not valid UTF-8; bytes go into a uint8 tensor");
    }
  }
  save_safetensors(path, NamedTensors(tensors_.begin(), tensors_.end()), metadata);
}

Checkpoint Checkpoint::load(const std::string& path) {
  Safetensors file = load_safetensors(path);
  const auto found = file.metadata.find(std::string(format_key));
  if (found == file.metadata.end() || !found->second.starts_with("checkpoint ")) {
    fail(ErrorKind::io, "Checkpoint", path, ": it is a safetensors file, but not a checkpoint");
  }
  if (found->second != format) {
    fail(ErrorKind::io, "Checkpoint", path, ": it is of format ", shown(found->second),
         ", and this version reads ", shown(format));
  }
  Checkpoint checkpoint;
  checkpoint.path_ = path;
  file.metadata.erase(found);
  for (const auto& [key, value] : file.metadata) {
    checkpoint.values_.emplace(key, from_json(value, key, path));
  }
  for (auto& [name, tensor] : file.tensors) {
    if (checkpoint.values_.contains(name)) {
      fail(ErrorKind::io, "Checkpoint", path, ": ", shown(name), " is a tensor and a value");
    }
    checkpoint.tensors_.emplace(name, std::move(tensor));
  }
  return checkpoint;
}

}  // namespace lg::io
