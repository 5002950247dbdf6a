#include "lightgrad/nn/observation.h"

#include <algorithm>

namespace lg::detail {
namespace {

std::uint32_t version_of(const Tensor& t) { return t.impl()->storage->version(); }

}  // namespace

Unchanged::Unchanged(const nn::Module& model)
    : seed_(default_generator().seed()), offset_(default_generator().offset()) {
  for (const Tensor& b : model.buffers()) buffers_.push_back({b, b.copy(), version_of(b)});
}
Unchanged::~Unchanged() {
  default_generator().set_state(seed_, offset_);
  for (const auto& [buffer, before, version] : buffers_)  // a change would spoil older graphs
    if (version_of(buffer) != version) buffer.assign(before);
}

Root::Root(const nn::Module& model) : outermost_(where().empty()) {
  const nn::Scope scope(model);
  path_ = where();
}
std::string Root::below(const std::string& logged) const {
  if (logged == path_) return "";
  if (outermost_) return logged;
  return logged.starts_with(path_ + ".") ? logged.substr(path_.size() + 1) : "";
}

Observation observe(const std::function<void()>& run) {
  std::vector<watch::Record> log;
  int thread = 0;
  {
    struct Recording {
      std::int64_t start = watch::start_recording();
      bool running = true;
      std::vector<watch::Record> stop() {
        running = false;
        return watch::stop_recording(start);
      }
      ~Recording() {
        if (running) stop();
      }
    } recording;
    {
      const watch::Work all("observe", watch::Phase::forward);
      thread = all.thread();
      run();
    }
    log = recording.stop();
  }
  // Other threads may have worked, too. What follows "observe" at the next depth is the model's.
  const auto all = std::find_if(log.begin(), log.end(), [thread](const watch::Record& r) {
    return r.thread == thread && *r.name == "observe";
  });
  Observation seen{*all, {}};
  for (auto r = all + 1; r != log.end() && r->thread == thread; ++r)
    if (r->depth == all->depth + 1) seen.operations.push_back(*r);
  return seen;
}

}  // namespace lg::detail
