#include "lightgrad/data/find.h"

#include <stdlib.h>

#include <system_error>

#include "lightgrad/base/error.h"
#include "lightgrad/base/file.h"
#include "lightgrad/base/sha256.h"
#include "lightgrad/data/subprocess.h"

namespace lg::data {

namespace fs = std::filesystem;

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

fs::path cache_folder() {
  const fs::path xdg = variable("XDG_CACHE_HOME"), home = variable("HOME");
  if (xdg.is_absolute()) return xdg / "lightgrad";
  return home.is_absolute() ? home / ".cache/lightgrad" : fs::path();
}

std::optional<std::string> Tried::read(const fs::path& path, const std::string& hash,
                                       const std::string& place) {
  std::error_code error;
  if (!fs::exists(path, error)) {
    add(place, error ? error.message() : "no such file");
    return {};
  }
  try {
    return checked(read_file(path.string(), "find"), hash, place);
  } catch (const Error& e) {
    add(place, e.what());
    return {};
  }
}

std::optional<std::string> Tried::checked(std::string bytes, const std::string& hash,
                                          const std::string& place) {
  const std::string found = sha256(bytes);
  if (found == hash) return bytes;
  add(place, text(bytes.size(), " bytes of SHA-256 ", found, ", expected ", hash));
  return {};
}

TemporaryFolder::TemporaryFolder() {
  std::error_code error;
  std::string name = (fs::temp_directory_path(error) / "lightgrad.XXXXXX").string();
  if (mkdtemp(name.data())) path = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code error;
  if (!path.empty()) fs::remove_all(path, error);
}

std::optional<Downloaded> download(const Download& what, const TemporaryFolder& folder,
                                   Tried& tried) {
  if (folder.path.empty()) {
    tried.add(what.url, "no folder for temporary files");
    return {};
  }
  const fs::path file = folder.path / "download";
  std::function<void()> tick;
  if (what.progress) {
    tick = [&] {
      std::error_code error;
      const auto size = fs::file_size(file, error);
      what.progress(error ? 0 : static_cast<std::int64_t>(size), what.bytes);
    };
  }
  RunResult run = run_program(
      {"curl", "-fsSL", "--proto-redir", "=https", "--connect-timeout", "5", "--max-filesize",
       std::to_string(what.most_bytes), "-o", file.string(), what.url},
      what.seconds, tick);
  if (!run.started) {
    const std::string no_curl = run.failure;
    run = run_program({"wget", "-nv", "-t", "1", "-T", "5", "-O", file.string(), what.url},
                      what.seconds, tick);
    if (!run.started) run.failure = no_curl + "; " + run.failure;
  }
  if (!run.failure.empty()) {
    tried.add(what.url, run.failure);
    return {};
  }
  auto bytes = tried.read(file, what.sha256, what.url);
  if (!bytes) return {};
  if (what.progress) {
    const auto size = static_cast<std::int64_t>(bytes->size());
    what.progress(size, size);
  }
  return Downloaded{file, std::move(*bytes)};
}

void keep(const fs::path& path, std::string_view bytes) {
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  try {
    AtomicFile file(path.string(), "find");
    file.write(bytes);
    file.commit();
  } catch (const Error&) {}
}

}  // namespace lg::data
