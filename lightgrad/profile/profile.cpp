// profile.cpp: from the log to events, rows and the table.
#include "lightgrad/profile/profile.h"

#include <algorithm>
#include <cstdio>
#include <functional>
#include <map>

#include "lightgrad/base/table.h"

namespace lg::profiler {

std::string_view name_of(Phase phase) {
  constexpr std::string_view names[] = {"forward", "backward", "step"};
  return names[static_cast<int>(phase)];
}

Profile::Profile(bool started) {
  if (started) start();
}
Profile::~Profile() { stop(); }

void Profile::start() {
  if (running_) fail(ErrorKind::runtime, "profile", "it is running already; stop() it first");
  running_ = true;
  started_ = watch::start_recording();
  if (origin_ == 0) origin_ = started_;
}

void Profile::stop() {
  if (!running_) return;
  running_ = false;
  seconds_ += static_cast<double>(watch::now() - started_) * 1e-9;
  // Where this profile began inside of an operation, that operation is not in the log; what it
  // called begins at the least depth that comes.
  int thread = -1, least = 0;
  for (const watch::Record& r : watch::stop_recording(started_)) {
    least = r.thread == thread ? std::min(least, r.depth) : r.depth;
    thread = r.thread;
    events_.push_back({.name = *r.name,
                       .module = *r.path,
                       .phase = r.phase,
                       .shape = r.shape,
                       .thread = r.thread,
                       .depth = r.depth - least,
                       .start = static_cast<double>(r.start - origin_) * 1e-9,
                       .seconds = static_cast<double>(r.end - r.start) * 1e-9,
                       .flops = r.cost.flops,
                       .bytes = r.cost.bytes,
                       .held = r.held,
                       .kept = r.kept,
                       .peak = r.peak});
  }
}

namespace {

void add(Row& row, const Event& e) {
  ++row.calls;
  row.seconds += e.seconds;
  row.flops += e.flops;
  row.bytes += e.bytes;
  row.kept += e.kept;
  row.peak = std::max(row.peak, e.peak);
}

// The first `depth` names of a dotted path; all of them with 0.
std::string_view cut(std::string_view path, int depth) {
  std::size_t end = 0;
  for (int i = 0; i < depth && end != path.npos; ++i) end = path.find('.', end + (i > 0));
  return depth > 0 ? path.substr(0, end) : path;
}

std::function<std::string(const Event&)> grouping(const TableOptions& o) {
  const auto operation = [](const Event& e) {
    if (e.phase == Phase::forward || (e.phase == Phase::step && e.name.ends_with('_')))
      return e.name;
    return text(e.name, " ", name_of(e.phase));
  };
  if (o.group_by == "op") return operation;
  if (o.group_by == "shape")
    return [=](const Event& e) { return text(operation(e), " ", e.shape); };
  if (o.group_by == "module")
    return [depth = o.depth](const Event& e) {
      return e.module.empty() ? std::string("(no module)") : std::string(cut(e.module, depth));
    };
  fail(ErrorKind::value, "profile", "group_by is \"", o.group_by,
       "\", expected \"op\", \"shape\" or \"module\"");
}

// Whether a row stands above another.
std::function<bool(const Row&, const Row&)> order(const std::string& by) {
  if (by == "time") return [](const Row& a, const Row& b) { return a.seconds > b.seconds; };
  if (by == "calls") return [](const Row& a, const Row& b) { return a.calls > b.calls; };
  if (by == "flops") return [](const Row& a, const Row& b) { return a.flops > b.flops; };
  if (by == "bytes") return [](const Row& a, const Row& b) { return a.bytes > b.bytes; };
  if (by == "memory") return [](const Row& a, const Row& b) { return a.peak > b.peak; };
  if (by == "name") return [](const Row& a, const Row& b) { return a.name < b.name; };
  fail(ErrorKind::value, "profile", "sort_by is \"", by,
       "\", expected \"time\", \"calls\", \"flops\", \"bytes\", \"memory\" or \"name\"");
}

}  // namespace

std::vector<Row> Profile::rows(const TableOptions& options) const {
  const auto key = grouping(options);
  const auto above = order(options.sort_by);
  std::map<std::string, Row> found;
  for (const Event& e : events_)
    if (e.depth == 0) add(found[key(e)], e);
  std::vector<Row> all;
  for (auto& [name, row] : found) {
    row.name = name;
    all.push_back(std::move(row));
  }
  std::stable_sort(all.begin(), all.end(), above);
  if (options.limit > 0 && all.size() > options.limit) all.resize(options.limit);
  return all;
}

Row Profile::total() const {
  Row sum;
  sum.name = "all operations";
  for (const Event& e : events_)
    if (e.depth == 0) add(sum, e);
  return sum;
}

std::string Profile::to_string(const TableOptions& options) const {
  const Row sum = total();
  std::vector<Row> all = rows(options);
  std::vector<std::vector<std::string>> cells{
      {options.group_by == "module" ? "module" : "operation", "calls", "time", "share", "per call",
       "work", "speed", "moved", "bandwidth", "kept", "peak"}};
  const auto put = [&](const Row& r) {
    char share[16];
    std::snprintf(share, sizeof share, "%.1f%%",
                  sum.seconds > 0 ? 100 * r.seconds / sum.seconds : 0.0);
    const auto calls = static_cast<double>(std::max<std::int64_t>(r.calls, 1));
    cells.push_back({r.name, std::to_string(r.calls), with_unit(r.seconds, "s"), share,
                     with_unit(r.seconds / calls, "s"), with_unit(r.flops, "F"),
                     with_unit(r.flops_per_second(), "F/s"), with_unit(r.bytes, "B"),
                     with_unit(r.bytes_per_second(), "B/s"),
                     with_unit(static_cast<double>(r.kept), "B"),
                     with_unit(static_cast<double>(r.peak), "B")});
  };
  for (const Row& r : all) put(r);
  put(sum);
  return table(cells) + text(with_unit(sum.seconds, "s"), " in operations, of ",
                             with_unit(seconds_, "s"), " recorded\n");
}

}  // namespace lg::profiler
