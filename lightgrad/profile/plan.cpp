// plan.cpp: from what two short steps needed to what a whole one will need.
#include "lightgrad/profile/plan.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "lightgrad/base/memory.h"
#include "lightgrad/base/table.h"
#include "lightgrad/nn/observation.h"

namespace lg {
namespace {

using watch::Phase;

// Memory is counted from what was in use before the step.
struct Moment {  // an operation, at its start and at the most
  std::string path;
  Phase phase;
  const std::string* name;
  double start = 0, most = 0;
};
struct Visit {  // of a module, which may be called several times
  int calls = 0;
  bool one_tensor = false;         // in and out
  std::size_t begin = 0, end = 0;  // of its forward, and
  std::size_t back = 0;            // of its backward, in the list of moments
  double before = 0, kept = 0, given = 0;
};
struct Pass {
  std::vector<Moment> moments;
  std::vector<Visit> visits;  // of each module
};

bool is_within(const std::string& path, const std::string& module) {
  return module.empty() || path == module ||
         (path.size() > module.size() && path.starts_with(module) && path[module.size()] == '.');
}

// Watches calls of modules by hooks and operations by the log.
class Watcher {
 public:
  Watcher(const nn::Module& model, const nn::NamedModules& modules)
      : root_(model), modules_(modules) {
    for (std::size_t i = 0; i < modules.size(); ++i) {
      nn::Module& m = *modules[i].second;
      hooks_.push_back(
          m.register_forward_pre_hook([this](nn::Module&, std::span<Tensor> in, Tensor*) {
            open_.push_back({watch::now(), allocated(), in.size() == 1});
          }));
      hooks_.push_back(
          m.register_forward_hook([this, i](nn::Module&, std::span<Tensor>, Tensor* y) {
            calls_.push_back({i, open_.back(), watch::now(), allocated(), y ? bytes_of(*y) : -1});
            open_.pop_back();
          }));
    }
  }
  ~Watcher() {
    for (std::size_t i = 0; i < hooks_.size(); ++i) modules_[i / 2].second->remove_hook(hooks_[i]);
  }
  Watcher(const Watcher&) = delete;

  static double allocated() { return static_cast<double>(memory_stats().current); }

  // The memory of a step, from `start` bytes on.
  Pass watch(const std::function<void()>& step, double start) {
    calls_.clear();
    open_.clear();  // an error may have left some
    const detail::Observation seen = detail::observe(step);
    Pass pass;
    for (const watch::Record& r : seen.operations) {
      const auto at = static_cast<double>(r.held - r.kept) - start;
      pass.moments.push_back(
          {root_.below(*r.path), r.phase, r.name, at, at + static_cast<double>(r.peak)});
    }
    const auto moment_of = [&](std::int64_t time) {
      const auto& all = seen.operations;
      return static_cast<std::size_t>(
          std::lower_bound(all.begin(), all.end(), time,
                           [](const watch::Record& r, std::int64_t t) { return r.start < t; }) -
          all.begin());
    };
    pass.visits.resize(modules_.size());
    for (const Call& c : calls_) {
      Visit& v = pass.visits[c.module];
      v = {v.calls + 1,
           c.open.one_tensor && c.given >= 0,
           moment_of(c.open.time),
           moment_of(c.time),
           0,
           c.open.allocated - start,
           v.kept + c.allocated - c.open.allocated,
           c.given};
    }
    for (std::size_t i = 0; i < modules_.size(); ++i) {
      const auto back =
          std::find_if(pass.moments.begin(), pass.moments.end(), [&](const Moment& m) {
            return m.phase == Phase::backward && is_within(m.path, modules_[i].first);
          });
      pass.visits[i].back = static_cast<std::size_t>(back - pass.moments.begin());
    }
    return pass;
  }

 private:
  struct Open {
    std::int64_t time;
    double allocated;
    bool one_tensor;
  };
  struct Call {
    std::size_t module;
    Open open;
    std::int64_t time;
    double allocated, given;
  };
  static double bytes_of(const Tensor& t) {
    return static_cast<double>(t.numel()) * static_cast<double>(size_of(t.dtype()));
  }

  detail::Root root_;
  const nn::NamedModules& modules_;
  std::vector<int> hooks_;  // before and after, of each module
  std::vector<Open> open_;
  std::vector<Call> calls_;
};

// The pass that `far` would be if it lay `reach` times as far from `near` as it does.
Pass continued(const Pass& near, Pass far, double reach) {
  const auto same = [](const Moment& a, const Moment& b) {
    return a.name == b.name && a.phase == b.phase && a.path == b.path;
  };
  if (!std::equal(near.moments.begin(), near.moments.end(), far.moments.begin(), far.moments.end(),
                  same)) {
    fail(ErrorKind::runtime, "plan",
         "the model did other operations on more rows; a plan needs the same ones at any number of "
         "rows");
  }
  const auto go = [reach](double from, double& to) { to = from + (to - from) * reach; };
  for (std::size_t i = 0; i < near.moments.size(); ++i) {
    go(near.moments[i].start, far.moments[i].start);
    go(near.moments[i].most, far.moments[i].most);
  }
  for (std::size_t i = 0; i < near.visits.size(); ++i) {
    go(near.visits[i].before, far.visits[i].before);
    go(near.visits[i].kept, far.visits[i].kept);
    go(near.visits[i].given, far.visits[i].given);
  }
  return far;
}

// What happens to a pass when modules are checkpointed.
class Checkpoints {
 public:
  Checkpoints(const Pass& pass, const nn::NamedModules& modules) : pass_(pass), modules_(modules) {}

  // Bytes that are not there between a module's forward and its backward.
  double saved(std::size_t module) const {
    const Visit& v = pass_.visits[module];
    return v.calls == 1 && v.one_tensor && v.back < pass_.moments.size() ? v.kept - v.given : 0;
  }
  struct Top {
    double most = 0;
    std::size_t moment = 0;
  };
  Top top(const std::vector<std::size_t>& chosen) const {
    Top top;
    const auto see = [&](double most, std::size_t moment) {
      if (most > top.most) top = {most, moment};
    };
    for (std::size_t i = 0; i < pass_.moments.size(); ++i)
      see(pass_.moments[i].most - absent(chosen, i), i);
    for (const std::size_t m : chosen) {  // its forward runs again before its backward
      const Visit& v = pass_.visits[m];
      double rise = 0;
      for (std::size_t i = v.begin; i < v.end; ++i)
        rise = std::max(rise, pass_.moments[i].most - v.before);
      see(pass_.moments[v.back].start - absent(chosen, v.back) - saved(m) + rise, v.back);
    }
    return top;
  }
  // The modules of one depth, those first that save most at the top, until all fits or nothing
  // helps.
  std::vector<std::size_t> choose(int depth, double room, double& reached) const {
    std::vector<std::size_t> chosen;
    Top now = top(chosen);
    while (now.most > room) {
      std::optional<std::size_t> best;
      for (std::size_t m = 1; m < modules_.size(); ++m) {
        if (depth_of(modules_[m].first) != depth || saved(m) <= 0) continue;
        if (std::find(chosen.begin(), chosen.end(), m) != chosen.end()) continue;
        const Visit& v = pass_.visits[m];
        if (v.end <= now.moment && now.moment < v.back && (!best || saved(m) > saved(*best)))
          best = m;
      }
      if (!best) break;
      chosen.push_back(*best);
      now = top(chosen);
    }
    reached = now.most;
    std::sort(chosen.begin(), chosen.end());
    return chosen;
  }
  static int depth_of(const std::string& path) {
    return path.empty() ? 0 : 1 + static_cast<int>(std::count(path.begin(), path.end(), '.'));
  }

 private:
  double absent(const std::vector<std::size_t>& chosen, std::size_t moment) const {
    double bytes = 0;
    for (const std::size_t m : chosen) {
      const Visit& v = pass_.visits[m];
      if (v.end <= moment && moment < v.back) bytes += saved(m);
    }
    return bytes;
  }

  const Pass& pass_;
  const nn::NamedModules& modules_;
};

// Takes the gradients away for a time.
class WithoutGradients {
 public:
  explicit WithoutGradients(const nn::Module& model) : parameters_(model.parameters()) {
    for (const Tensor& p : parameters_) {
      gradients_.push_back(p.grad());
      if (p.grad().defined())
        bytes_ += static_cast<std::int64_t>(p.impl()->grad.impl()->storage->bytes());
    }
    clear();
  }
  ~WithoutGradients() {
    for (std::size_t i = 0; i < parameters_.size(); ++i) parameters_[i].set_grad(gradients_[i]);
  }
  WithoutGradients(const WithoutGradients&) = delete;
  void clear() const {
    for (const Tensor& p : parameters_) p.zero_grad();
  }
  std::int64_t bytes() const { return bytes_; }

 private:
  std::vector<Tensor> parameters_, gradients_;
  std::int64_t bytes_ = 0;
};

// Below this the scratch memory of kernels, which does not grow evenly with the rows, is much.
constexpr double kSmall = 16 << 20;

// A step on so many rows, continued from steps on fewer: on still fewer where memory is short. One
// that needs little is made as it is.
Pass pass_of(std::int64_t rows, bool accumulates, Watcher& watcher,
             const WithoutGradients& gradients, const detail::PrepareStep& prepare) {
  const auto measure = [&](std::int64_t n) {
    const auto step = prepare(n);
    const double before = Watcher::allocated();
    if (accumulates) step();  // into the gradients of the part before
    Pass measured = watcher.watch(step, before);
    gradients.clear();
    return measured;
  };
  for (std::int64_t far = std::min(rows, std::max<std::int64_t>(4, rows / 4));; far /= 2) {
    try {
      const std::int64_t near = std::max<std::int64_t>(1, far / 2);
      prepare(near)();  // what is made only once is there from here on
      gradients.clear();
      const Pass few = measure(near);
      if (far == near) return few;
      Pass all = continued(few, measure(far),
                           static_cast<double>(rows - near) / static_cast<double>(far - near));
      const bool small = std::all_of(all.moments.begin(), all.moments.end(),
                                     [](const Moment& m) { return m.most < kSmall; });
      return small ? measure(rows) : all;
    } catch (const Error& e) {
      gradients.clear();
      if (e.kind() != ErrorKind::memory || far <= 4) throw;
    }
  }
}

std::int64_t whole(double bytes) { return static_cast<std::int64_t>(std::max(bytes, 0.0)); }

}  // namespace

Plan detail::plan(nn::Module& model, std::int64_t rows, const PlanOptions& o,
                  const PrepareStep& prepare) {
  if (o.accumulate < 1 || rows % o.accumulate != 0) {
    fail(ErrorKind::value, "plan", "the batch has ", rows, " rows, which accumulate=", o.accumulate,
         " does not divide");
  }
  const nn::NamedModules modules = model.named_modules();
  Plan plan;
  plan.budget = o.budget;
  plan.states = o.optimizer ? o.optimizer->bytes_to_come() : 0;
  Pass pass;
  {
    const Unchanged unchanged(model);
    const WithoutGradients gradients(model);
    plan.before = memory_stats().current - gradients.bytes();
    Watcher watcher(model, modules);
    pass = pass_of(rows / o.accumulate, o.accumulate > 1, watcher, gradients, prepare);
  }

  const double base = static_cast<double>(plan.before + plan.states);
  const Checkpoints checkpoints(pass, modules);
  const auto top = checkpoints.top({});
  plan.peak = whole(base + top.most);
  for (std::size_t i = 0; i < modules.size(); ++i) {
    const auto& [path, m] = modules[i];
    Plan::Layer layer{path, m->type_name(), Checkpoints::depth_of(path)};
    for (const Tensor& p : m->parameters())
      layer.parameters += p.numel() * static_cast<std::int64_t>(size_of(p.dtype()));
    layer.kept = whole(pass.visits[i].kept);
    for (const Moment& moment : pass.moments) {
      if (!is_within(moment.path, path)) continue;
      auto& most = moment.phase == Phase::forward ? layer.forward : layer.backward;
      most = std::max(most, whole(base + moment.most));
    }
    plan.layers.push_back(std::move(layer));
  }
  if (!pass.moments.empty()) {
    const Moment& moment = pass.moments[top.moment];
    plan.at = text(*moment.name, moment.phase == Phase::forward ? " forward" : " backward",
                   moment.path.empty() ? "" : " of ", moment.path);
  }
  if (o.budget == 0 || plan.peak <= o.budget) return plan;

  const double room = static_cast<double>(o.budget) - base;
  std::vector<std::size_t> best;
  double lowest = top.most;
  int deepest = 0;
  for (const Plan::Layer& layer : plan.layers) deepest = std::max(deepest, layer.depth);
  for (int depth = 1; depth <= deepest && lowest > room; ++depth) {
    double reached = 0;
    auto chosen = checkpoints.choose(depth, room, reached);
    if (reached < lowest) {
      lowest = reached;
      best = std::move(chosen);
    }
  }
  for (const std::size_t m : best) {
    plan.layers[m].checkpoint = true;
    plan.checkpoints.push_back(modules[m].first);
  }
  plan.checkpointed_peak = whole(base + lowest);
  return plan;
}

std::int64_t detail::rows_of(std::span<const Tensor> batch) {
  std::int64_t rows = 0;
  const Tensor* first = nullptr;
  for (const Tensor& x : batch) {
    if (!x.defined() || x.rank() == 0)
      fail(ErrorKind::value, "plan", "the batch has a tensor without rows");
    if (!first) first = &x, rows = x.size(0);
    if (x.size(0) != rows) {
      fail(ErrorKind::value, "plan", "the batch has tensors of ", first->shape(), " and ",
           x.shape(), ", expected as many rows");
    }
  }
  if (rows == 0) fail(ErrorKind::value, "plan", "the batch has no rows");
  return rows;
}

Tensor detail::first_rows(const Tensor& x, std::int64_t n) {
  return narrow(x.detach(), 0, 0, n).copy();
}

std::string Plan::to_string(int depth) const {
  const auto bytes = [](std::int64_t n) { return with_unit(static_cast<double>(n), "B"); };
  const auto reached = [&](std::int64_t n) { return n == 0 ? std::string("-") : bytes(n); };
  std::vector<std::vector<std::string>> lines{
      {"layer", "parameters", "kept", "forward", "backward"}};
  if (!checkpoints.empty()) lines[0].push_back("checkpoint");
  const auto put = [&](const Layer& l, std::string name) {
    lines.push_back({std::move(name), bytes(l.parameters), bytes(l.kept), reached(l.forward),
                     reached(l.backward)});
    if (!checkpoints.empty()) lines.back().push_back(l.checkpoint ? "yes" : "-");
  };
  for (const Layer& l : layers) {
    if (l.depth == 0 || (depth > 0 && l.depth > depth)) continue;
    put(l, text(std::string(2 * static_cast<std::size_t>(l.depth - 1), ' '),
                l.path.substr(l.path.rfind('.') + 1), ": ", l.type));
  }
  put(layers[0], layers[0].type);
  std::string out = table(lines) + text(bytes(before), " in use before the step, and ",
                                        bytes(states), " of optimizer states to come; ",
                                        bytes(peak), " at the most, in ", at, "\n");
  if (checkpoints.empty() && !fits())
    out += text("no checkpoints bring that to ", bytes(budget), "\n");
  if (checkpoints.empty()) return out;
  out += text("with checkpoints of ", checkpoints.size(), " modules ", bytes(checkpointed_peak),
              fits() ? ", within " : ", still above ", bytes(budget), "\n");
  return out;
}

}  // namespace lg
