// profile.cpp: from the log to events, rows and the table.
#include "lightgrad/profile/profile.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <map>

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

std::size_t width_of(std::string_view utf8) {  // in characters
  return static_cast<std::size_t>(
      std::count_if(utf8.begin(), utf8.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

// A column of the table; the first is aligned to the left.
void pad(std::string& line, const std::string& cell, std::size_t width, bool left) {
  const std::string blank(width - std::min(width, width_of(cell)), ' ');
  line += left ? cell + blank : "  " + blank + cell;
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

std::string detail::with_unit(double value, std::string_view unit) {
  if (value == 0) return "0 " + std::string(unit);
  constexpr const char* prefixes[] = {"n", "u", "m", "", "k", "M", "G", "T", "P"};
  int i = 3;
  double v = value;
  for (; std::abs(v) >= 999.5 && i < 8; ++i) v /= 1000;
  // Counts have no parts; times do.
  for (; std::abs(v) < 0.9995 && i > 0 && unit == "s"; --i) v *= 1000;
  char out[64];
  const int digits = std::abs(v) < 9.995 ? 2 : std::abs(v) < 99.95 ? 1 : 0;
  std::snprintf(out, sizeof out, "%.*f %s%.*s", i == 3 && unit != "s" ? 0 : digits, v, prefixes[i],
                static_cast<int>(unit.size()), unit.data());
  return out;
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
    using detail::with_unit;
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
  std::vector<std::size_t> widths(cells[0].size());
  for (const auto& line : cells)
    for (std::size_t i = 0; i < line.size(); ++i)
      widths[i] = std::max(widths[i], width_of(line[i]));
  std::string out;
  for (std::size_t n = 0; n < cells.size(); ++n) {
    std::string line;
    for (std::size_t i = 0; i < cells[n].size(); ++i) pad(line, cells[n][i], widths[i], i == 0);
    if (n == 0 || n + 1 == cells.size()) {
      const std::string rule(width_of(line), '-');
      out += n == 0 ? line + "\n" + rule + "\n" : rule + "\n" + line + "\n";
    } else {
      out += line + "\n";
    }
  }
  return out + text(detail::with_unit(sum.seconds, "s"), " in operations, of ",
                    detail::with_unit(seconds_, "s"), " recorded\n");
}

}  // namespace lg::profiler
