// profile.h: what ran, how long it took, and how that compares with what the machine can do.
//
//   lg::profiler::Profile profile;      // recording begins
//   step();
//   profile.stop();
//   std::puts(profile.to_string().c_str());
//   profile.save_trace("step.json");    // for Perfetto (ui.perfetto.dev) or chrome://tracing
//
// Knows the log of base/watch.h; operations know nothing of it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "lightgrad/base/watch.h"
#include "lightgrad/profile/peak.h"

namespace lg::profiler {

using watch::Phase;
std::string_view name_of(Phase phase);

// One operation that ran. Those that it called itself follow it, at a greater depth; its cost and
// time include theirs.
struct Event {
  std::string name, module;  // "linear", "blocks.0.attn.qkv"
  Phase phase = Phase::forward;
  Shape shape;                    // of its output
  int thread = 0, depth = 0;      // depth 0: no other operation called it
  double start = 0, seconds = 0;  // from the first start() on
  double flops = 0, bytes = 0;    // by the operation's own rule, see docs/profiling.md
  // Bytes allocated: at its end; and, beyond those at its start, at the end and at the most.
  std::int64_t held = 0, kept = 0, peak = 0;
};

// All calls of one kind together.
struct Row {
  std::string name;
  std::int64_t calls = 0;
  double seconds = 0, flops = 0, bytes = 0;
  std::int64_t kept = 0, peak = 0;  // the sum; the largest

  double flops_per_second() const { return seconds > 0 ? flops / seconds : 0; }
  double bytes_per_second() const { return seconds > 0 ? bytes / seconds : 0; }
};

struct TableOptions {
  std::string group_by = "op";   // or "shape" (operation and output shape), "module"
  std::string sort_by = "time";  // or "calls", "flops", "bytes", "memory" (the peak), "name"
  std::size_t limit = 0;         // rows, 0: all
  int depth = 0;                 // of a module's path: 1 joins all below "blocks", 0: none
};

class Profile {
 public:
  // Records from here on, unless it is told to wait for start().
  explicit Profile(bool started = true);
  ~Profile();
  Profile(const Profile&) = delete;
  Profile& operator=(const Profile&) = delete;

  // Every thread is recorded. Profiles may nest and overlap. What is recorded after another start()
  // is added. RuntimeError when it is running already.
  void start();
  void stop();  // no error when it is not running
  bool running() const { return running_; }

  // What was recorded until the last stop(), thread by thread in the order of the starts.
  const std::vector<Event>& events() const { return events_; }
  double seconds() const { return seconds_; }  // between start() and stop()
  // Sums over the events at depth 0: what ran inside another operation counts there, so that no
  // time is counted twice. ValueError for an unknown word in the options.
  std::vector<Row> rows(const TableOptions& options = {}) const;
  Row total() const;

  std::string to_string(const TableOptions& options = {}) const;  // the rows as a table
  // Chrome's trace format: operations on their threads, and the memory that they hold.
  std::string trace() const;
  void save_trace(const std::string& path) const;  // written atomically
  // A picture (SVG): arithmetic intensity against speed, below what `peak` allows.
  std::string roofline(const Peak& peak) const;
  std::string roofline() const { return roofline(measured_peak()); }
  void save_roofline(const std::string& path, const Peak& peak) const;
  void save_roofline(const std::string& path) const { save_roofline(path, measured_peak()); }

 private:
  bool running_ = false;
  std::int64_t origin_ = 0, started_ = 0;  // nanoseconds
  double seconds_ = 0;
  std::vector<Event> events_;
};

}  // namespace lg::profiler
