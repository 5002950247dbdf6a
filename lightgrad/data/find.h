// find.h: where data is looked for: environment variables, the cache, an address. What the search
// for a text and the search for a data set share; knows neither.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

namespace lg::data {

// The value of an environment variable; empty when it is not set.
std::string variable(const char* name);

// $XDG_CACHE_HOME/lightgrad or ~/.cache/lightgrad; empty when there is neither.
std::filesystem::path cache_folder();

// The places that were of no use, and why: one line each, for the error at the end.
class Tried {
 public:
  void add(const std::string& place, const std::string& why) {
    list_ += "\n  " + place + ": " + why;
  }
  // The file's bytes when it is there and has this SHA-256; else the reason is noted.
  std::optional<std::string> read(const std::filesystem::path& path, const std::string& hash,
                                  const std::string& place);
  std::optional<std::string> checked(std::string bytes, const std::string& hash,
                                     const std::string& place);
  const std::string& list() const { return list_; }

 private:
  std::string list_;
};

// A folder that goes with its contents. Its path is empty when none could be made.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::filesystem::path path;
};

// Bytes that have arrived, and bytes in all (0 where that is not known).
using Progress = std::function<void(std::int64_t done, std::int64_t total)>;

struct Download {
  std::string url, sha256;
  std::int64_t bytes = 0;       // in all; 0: not known
  std::int64_t most_bytes = 0;  // what is longer is refused
  double seconds = 20;
  Progress progress = {};  // called a few times a second; may throw, which ends it
};

// The file at an address, by curl or wget, into `folder`: its path there and its bytes. Empty, and
// the reason noted, when it cannot be had or is another one than meant.
struct Downloaded {
  std::filesystem::path path;
  std::string bytes;
};
std::optional<Downloaded> download(const Download& what, const TemporaryFolder& folder,
                                   Tried& tried);

// Writes a file of the cache. One that cannot be written costs the next run a download, no more.
void keep(const std::filesystem::path& path, std::string_view bytes);

}  // namespace lg::data
