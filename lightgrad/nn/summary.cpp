#include "lightgrad/nn/summary.h"

#include <algorithm>
#include <map>
#include <set>

#include "lightgrad/base/memory.h"
#include "lightgrad/base/table.h"
#include "lightgrad/nn/observation.h"

namespace lg {
namespace {

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
  const detail::Unchanged unchanged(model);
  const detail::Root root(model);
  Tally tally(model);
  const detail::Observation seen = detail::observe(run);
  for (const watch::Record& r : seen.operations) tally.add(root.below(*r.path), r);
  tally.summary.peak = seen.whole.peak;
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
