// observation.h: a model watched while it runs: what summaries (summary.h) and plans
// (profile/plan.h) have in common.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "lightgrad/base/watch.h"
#include "lightgrad/nn/module.h"

namespace lg::detail {

// Puts buffers and the default generator back, whatever the model does.
class Unchanged {
 public:
  explicit Unchanged(const nn::Module& model);
  ~Unchanged();
  Unchanged(const Unchanged&) = delete;

 private:
  struct Saved {
    Tensor buffer, before;
    std::uint32_t version;
  };
  std::uint64_t seed_, offset_;
  std::vector<Saved> buffers_;
};

// How the log calls the model: a name of its own where it is the outermost module.
class Root {
 public:
  explicit Root(const nn::Module& model);
  // The path below the model, empty for the model itself and what is not in it.
  std::string below(const std::string& logged) const;

 private:
  bool outermost_;
  std::string path_;
};

struct Observation {
  watch::Record whole;
  std::vector<watch::Record> operations;  // of this thread, not those inside of others
};
Observation observe(const std::function<void()>& run);

}  // namespace lg::detail
