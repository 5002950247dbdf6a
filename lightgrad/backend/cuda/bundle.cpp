#include "lightgrad/backend/cuda/bundle.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <nlohmann/json.hpp>

#include "lightgrad/base/error.h"
#include "lightgrad/base/file.h"
#include "lightgrad/base/sha256.h"

namespace lg::cuda {
namespace {

using Json = nlohmann::json;

constexpr std::int64_t format = 2;

[[noreturn]] void damaged(const std::string& file, const std::string& what) {
  fail(ErrorKind::value, "cuda", file, " is damaged: ", what,
       "; build it again with tools/build_kernels.py");
}

std::int64_t integer(const Json& j, std::int64_t low, std::int64_t high) {
  if (!j.is_number_integer()) throw Json::type_error::create(302, "expected an integer", &j);
  const auto v = j.get<std::int64_t>();
  if (v < low || v > high)
    throw Json::out_of_range::create(406, text(v, " is outside ", low, " to ", high), &j);
  return v;
}

Variant::Size size_of(const Json& j) {
  if (j.is_string()) return {j.get<std::string>(), 0};
  return {{}, integer(j, 1, INT32_MAX)};
}

std::string hash_of(const Json& j) {
  auto s = j.get<std::string>();
  if (s.size() != 64 || s.find_first_not_of("0123456789abcdef") != std::string::npos)
    throw Json::other_error::create(501, "\"" + s + "\" is no SHA-256", &j);
  return s;  // and so no path out of the folder
}

Variant variant_of(const Json& j) {
  Variant v;
  v.kernel = j.at("kernel").get<std::string>();
  v.entry = j.at("entry").get<std::string>();
  v.arch = static_cast<int>(integer(j.at("arch"), 50, 999));
  v.driver = static_cast<int>(integer(j.at("driver"), 0, 999999));
  v.warps = static_cast<int>(integer(j.at("warps"), 1, 32));
  v.ctas = static_cast<int>(integer(j.at("ctas"), 1, 16));
  v.shared = static_cast<int>(integer(j.at("shared"), 0, 1 << 20));
  integer(j.at("scratch").at(0), 0, 0);  // no launch gives any
  for (const Json& p : j.at("args")) {
    auto type = p.at(1).get<std::string>();
    static constexpr std::string_view known[] = {"i32", "i64", "fp32"};
    if (type[0] != '*' && std::find(std::begin(known), std::end(known), type) == std::end(known))
      throw Json::other_error::create(501, "unknown argument type \"" + type + "\"", &p);
    v.parameters.push_back({p.at(0).get<std::string>(), type, integer(p.at(2), 1, 1 << 20)});
  }
  for (const auto& [name, c] : j.at("choices").items()) {
    if (c.is_string())
      v.choices.push_back({name, c.get<std::string>(), 0});
    else
      v.choices.push_back({name, {}, c.is_boolean() ? c.get<bool>() : integer(c, 0, INT32_MAX)});
  }
  for (const Json& c : j.at("when")) {
    const auto test = c.at(1).get<std::string>();
    if (test != "<=" && test != "%" && test != "==")
      throw Json::other_error::create(501, "unknown test \"" + test + "\"", &c);
    v.conditions.push_back({c.at(0).get<std::string>(), test[0], integer(c.at(2), 1, INT32_MAX)});
  }
  for (const Json& axis : j.at("grid")) {
    auto& factors = v.grid.emplace_back();
    for (const Json& f : axis) factors.push_back({size_of(f.at(0)), size_of(f.at(1))});
  }
  if (v.grid.empty() || v.grid.size() > 3)
    throw Json::other_error::create(501, "a grid has one to three axes", &j);
  for (const Json& name : j.at("tune")) v.tune.push_back(name.get<std::string>());
  const Json& blobs = j.at("blobs");
  v.cubin = hash_of(blobs.at("cubin"));
  if (blobs.contains("ptx")) v.ptx = hash_of(blobs.at("ptx"));
  return v;
}

void add_tuned(const Json& j, std::vector<Variant>& variants) {
  const auto at = [&](const char* name) {
    const std::string hash = hash_of(j.at(name));
    const auto it = std::find_if(variants.begin(), variants.end(),
                                 [&](const Variant& v) { return v.cubin == hash; });
    if (it == variants.end())
      throw Json::other_error::create(501, text("no variant has the code ", hash), &j);
    return it - variants.begin();
  };
  Variant& first = variants[static_cast<std::size_t>(at("instead_of"))];
  Variant::Faster f{.device = j.at("device").get<std::string>(),
                    .sizes = {},
                    .variant = static_cast<std::size_t>(at("take"))};
  for (const Json& size : j.at("sizes")) f.sizes.push_back(integer(size, 1, INT64_MAX));
  if (f.sizes.size() != first.tune.size())
    throw Json::other_error::create(501, text("expected ", first.tune.size(), " sizes"), &j);
  first.faster.push_back(std::move(f));
}

std::int64_t number_of(const Variant::Size& s, std::span<const Argument> arguments) {
  if (s.name.empty()) return s.number;
  const Argument* a = find(arguments, s.name);
  return a ? a->value() : 1;
}

}  // namespace

Argument Argument::number(std::string_view name, double v) {
  return {name, Kind::number, {}, std::bit_cast<std::uint32_t>(static_cast<float>(v)), {}};
}

const Argument* find(std::span<const Argument> arguments, std::string_view name) {
  for (const Argument& a : arguments)
    if (a.name == name) return &a;
  return nullptr;
}

bool Variant::fits(std::span<const Argument> arguments) const {
  for (const Parameter& p : parameters) {
    const Argument* a = find(arguments, p.name);
    if (!a) return false;
    const bool is_pointer = p.type[0] == '*';
    if (is_pointer ? a->kind != Argument::Kind::pointer || p.type.compare(1, p.type.npos, a->type)
        : p.type == "fp32" ? a->kind != Argument::Kind::number
                           : a->kind != Argument::Kind::integer)
      return false;
    if (p.type == "i32" && a->value() != static_cast<std::int32_t>(a->value())) return false;
    if (p.multiple > 1 && a->bits % static_cast<std::uint64_t>(p.multiple) != 0) return false;
  }
  for (const Choice& c : choices) {
    const Argument* a = find(arguments, c.name);
    if (!a || a->text != c.word || (c.word.empty() && a->value() != c.number)) return false;
  }
  for (const Condition& c : conditions) {
    const Argument* a = find(arguments, c.name);
    if (!a) return false;
    const std::int64_t v = a->value();
    if (c.test == '<' ? v > c.number : c.test == '%' ? v % c.number != 0 : v != c.number)
      return false;
  }
  return true;
}

std::vector<std::int64_t> Variant::programs(std::span<const Argument> arguments) const {
  std::vector<std::int64_t> out;
  for (const auto& axis : grid) {
    std::int64_t n = 1;
    for (const Factor& f : axis) {
      const std::int64_t block = std::max<std::int64_t>(number_of(f.block, arguments), 1);
      const std::int64_t size = number_of(f.size, arguments);
      if (__builtin_mul_overflow(n, std::max<std::int64_t>((size + block - 1) / block, 1), &n))
        n = INT64_MAX;
    }
    out.push_back(n);
  }
  return out;
}

std::vector<std::int64_t> Variant::sizes(std::span<const Argument> arguments) const {
  std::vector<std::int64_t> out;
  for (const std::string& name : tune) {
    const Argument* a = find(arguments, name);
    const std::uint64_t v = a && a->value() > 0 ? a->bits : 1;
    out.push_back(static_cast<std::int64_t>(std::bit_ceil(std::min(v, std::uint64_t{1} << 62))));
  }
  return out;
}

Bundle::Bundle(std::string folder) : folder_(std::move(folder)) {
  const std::string file = folder_ + "/manifest.json";
  const std::string bytes = read_file(file, "cuda");
  try {
    const Json manifest = Json::parse(bytes);
    const std::int64_t found = integer(manifest.at("format"), 0, INT32_MAX);
    if (found != format) {
      fail(ErrorKind::value, "cuda", file, " has format ", found, ", this build reads format ",
           format, "; build it again with tools/build_kernels.py");
    }
    for (const Json& row : manifest.at("variants")) {
      Variant v = variant_of(row);
      kernels_[v.kernel].push_back(std::move(v));
      ++count_;
    }
    for (const Json& row : manifest.at("tuned")) {
      const auto it = kernels_.find(row.at("kernel").get<std::string>());
      if (it == kernels_.end()) throw Json::other_error::create(501, "unknown kernel", &row);
      add_tuned(row, it->second);
    }
  } catch (const Json::exception& e) {
    damaged(file, e.what());
  }
}

std::span<const Variant> Bundle::variants(std::string_view kernel) const {
  const auto it = kernels_.find(kernel);
  return it == kernels_.end() ? std::span<const Variant>() : it->second;
}

std::string Bundle::code(const std::string& hash, std::string_view kind) const {
  const std::string file = text(folder_, "/", hash, ".", kind);
  std::string bytes = read_file(file, "cuda");
  if (const std::string is = sha256(bytes); is != hash)
    damaged(file, "its SHA-256 is " + is.substr(0, 16) + "..., not that of its name");
  return bytes;
}

}  // namespace lg::cuda
