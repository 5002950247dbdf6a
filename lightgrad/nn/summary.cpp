#include "lightgrad/nn/summary.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "lightgrad/base/memory.h"
#include "lightgrad/base/table.h"
#include "lightgrad/base/watch.h"

namespace lg {
namespace {

// Puts buffers and the default generator back, whatever the model does.
class Unchanged {
 public:
  explicit Unchanged(const nn::Module& model)
      : seed_(default_generator().seed()), offset_(default_generator().offset()) {
    for (const Tensor& b : model.buffers()) buffers_.push_back({b, b.copy(), version_of(b)});
  }
  ~Unchanged() {
    default_generator().set_state(seed_, offset_);
    for (const auto& [buffer, before, version] : buffers_)  // a change would spoil older graphs
      if (version_of(buffer) != version) buffer.assign(before);
  }
  Unchanged(const Unchanged&) = delete;

 private:
  struct Saved {
    Tensor buffer, before;
    std::uint32_t version;
  };
  static std::uint32_t version_of(const Tensor& t) { return t.impl()->storage->version(); }

  std::uint64_t seed_, offset_;
  std::vector<Saved> buffers_;
};

// How the log calls the model: a name of its own where it is the outermost module.
struct Root {
  std::string path;
  bool outermost;

  explicit Root(const nn::Module& model) : outermost(where().empty()) {
    const nn::Scope scope(model);
    path = where();
  }
  // The path below the model, empty for the model itself and what is not in it.
  std::string below(const std::string& logged) const {
    if (logged == path) return "";
    if (outermost) return logged;
    return logged.starts_with(path + ".") ? logged.substr(path.size() + 1) : "";
  }
};

// Fills in the summary: calls of modules are seen by hooks, what ran inside of them by the log.
class Tally {
 public:
  explicit Tally(const nn::Module& model) : modules_(model.named_modules()) {
    for (const auto& [path, m] : modules_) {
      Summary::Layer layer;
      layer.path = path;
      layer.type = m->type_name();
      layer.depth =
          path.empty() ? 0 : 1 + static_cast<int>(std::count(path.begin(), path.end(), '.'));
      for (const Tensor& p : m->parameters()) layer.parameters += p.numel();
      index_[path] = summary.layers.size();
      summary.layers.push_back(std::move(layer));
    }
    for (const Tensor& p : model.parameters()) {
      if (p.requires_grad()) summary.trained += p.numel();
      summary.bytes += p.numel() * static_cast<std::int64_t>(size_of(p.dtype()));
    }
    for (std::size_t i = 0; i < modules_.size(); ++i) {
      hooks_.push_back(modules_[i].second->register_forward_pre_hook(
          [this](nn::Module&, std::span<Tensor>, Tensor*) { before_.push_back(allocated()); }));
      hooks_.push_back(modules_[i].second->register_forward_hook(
          [this, i](nn::Module&, std::span<Tensor>, Tensor* out) {
            Summary::Layer& layer = summary.layers[i];
            layer.kept += allocated() - before_.back();
            before_.pop_back();
            called_.insert(i);
            if (out) layer.output = out->shape();
          }));
    }
  }
  ~Tally() {
    for (std::size_t i = 0; i < hooks_.size(); ++i) modules_[i / 2].second->remove_hook(hooks_[i]);
  }
  Tally(const Tally&) = delete;

  // An operation counts for the module that it ran in and for all above.
  void add(std::string path, const watch::Record& r) {
    while (true) {
      if (const auto found = index_.find(path); found != index_.end()) {
        Summary::Layer& layer = summary.layers[found->second];
        layer.flops += r.cost.flops;
        if (!called_.contains(found->second)) {  // only a method of it that is not forward
          layer.output = r.shape;
          layer.kept += r.kept;
        }
      }
      if (path.empty()) return;
      const std::size_t dot = path.rfind('.');
      path.resize(dot == path.npos ? 0 : dot);
    }
  }

  Summary summary;

 private:
  static std::int64_t allocated() { return memory_stats().current; }

  nn::NamedModules modules_;
  std::map<std::string, std::size_t> index_;
  std::vector<int> hooks_;            // before and after, of each module
  std::vector<std::int64_t> before_;  // allocated when the calls that are under way began
  std::set<std::size_t> called_;
};

}  // namespace

Summary detail::summarize(nn::Module& model, const std::function<void()>& run) {
  const Unchanged unchanged(model);
  const Root root(model);
  Tally tally(model);
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
      const watch::Work all("summary", watch::Phase::forward);
      thread = all.thread();
      run();
    }
    log = recording.stop();
  }

  // Other threads may have worked, too. What follows "summary" at the next depth is the model's.
  const auto all = std::find_if(log.begin(), log.end(), [thread](const watch::Record& r) {
    return r.thread == thread && *r.name == "summary";
  });
  for (auto r = all + 1; r != log.end() && r->thread == all->thread; ++r)
    if (r->depth == all->depth + 1) tally.add(root.below(*r->path), *r);
  tally.summary.peak = all->peak;
  return std::move(tally.summary);
}

std::string Summary::to_string(int depth) const {
  std::vector<std::vector<std::string>> lines{{"layer", "output", "parameters", "work", "kept"}};
  const auto put = [&](const Layer& layer, std::string name) {
    lines.push_back({std::move(name), layer.output ? layer.output->to_string() : "-",
                     with_commas(layer.parameters), with_unit(layer.flops, "F"),
                     with_unit(static_cast<double>(layer.kept), "B")});
  };
  for (const Layer& layer : layers) {
    if (layer.depth == 0 || (depth > 0 && layer.depth > depth)) continue;
    put(layer, text(std::string(2 * (layer.depth - 1), ' '),
                    layer.path.substr(layer.path.rfind('.') + 1), ": ", layer.type));
  }
  put(layers[0], layers[0].type);
  return table(lines) + text(with_unit(static_cast<double>(bytes), "B"), " of parameters, ",
                             with_commas(trained), " of them trained; ",
                             with_unit(static_cast<double>(peak), "B"),
                             " at the most while it ran\n");
}

}  // namespace lg
