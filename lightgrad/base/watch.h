// watch.h: somebody may watch the operations at work: a profile, or anomaly mode. Here stand the
// one flag that every operation tests, and the log of what ran while a profile was running. Who
// reads the log (profile/) is not known here.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lightgrad/base/shape.h"

namespace lg {

// What an operation must do at least, by its own rule: floating-point operations, and bytes that go
// to or from memory. Doubles, because they hold every count that a computer can finish (2^53).
struct Cost {
  double flops = 0, bytes = 0;

  Cost& operator+=(const Cost& o) {
    flops += o.flops;
    bytes += o.bytes;
    return *this;
  }
};

namespace watch {

enum Watcher : unsigned { anomaly = 1, profile = 2 };

// Bits of Watcher. While it is 0 an operation does nothing but load it.
inline std::atomic<unsigned> flags{0};
inline bool on(unsigned watchers) { return flags.load(std::memory_order_relaxed) & watchers; }
void set(Watcher watcher, bool on);

enum class Phase : std::uint8_t { forward, backward, step };

// One operation that ran. Times are nanoseconds of the steady clock.
struct Record {
  const std::string* name = nullptr;  // names and paths live as long as the process
  const std::string* path = nullptr;  // of the module
  Phase phase = Phase::forward;
  int thread = 0;  // in the order in which threads were first seen
  int depth = 0;   // how many operations of the thread it ran inside of
  std::int64_t start = 0, end = 0;
  Cost cost;
  // Bytes allocated: at the end; and, above those at the start, at the end and at the most.
  std::int64_t held = 0, kept = 0, peak = 0;
  Shape shape;  // of what it made
};

struct Log;  // of one thread

// An operation at work, for as long as this object lives. Its cost is what is set, else what is
// added by itself and by the operations inside of it.
class Work {
 public:
  // Without a path it is asked for (where.h).
  Work(std::string_view name, Phase phase, const std::string* path = nullptr) {
    if (on(profile)) begin(name, phase, path);
  }
  ~Work() {
    if (log_) end();
  }
  Work(const Work&) = delete;
  Work& operator=(const Work&) = delete;

  explicit operator bool() const { return log_ != nullptr; }  // whether it is recorded
  int thread() const { return record_.thread; }
  void set(Cost cost) {
    record_.cost = cost;
    is_set_ = true;
  }
  void add(Cost cost) {
    if (!is_set_) record_.cost += cost;
  }
  void set_shape(const Shape& shape) { record_.shape = shape; }

 private:
  void begin(std::string_view name, Phase phase, const std::string* path);
  void end() noexcept;

  Log* log_ = nullptr;
  bool is_set_ = false;
  Work* outer_ = nullptr;
  const void* frame_ = nullptr;  // the innermost scope at the start
  std::size_t index_ = 0;        // in the log, and the log's generation
  std::uint64_t generation_ = 0;
  std::int64_t peak_before_ = 0, memory_ = 0;
  Record record_;
};

// Adds to the operation at work on this thread, if one is being recorded.
void add(Cost cost);

// Between the two calls every thread records. `start` gives the time; `stop` gives what began since
// then and has ended, thread by thread in the order of the starts. Calls may nest and overlap.
std::int64_t start_recording();
std::vector<Record> stop_recording(std::int64_t since);
std::int64_t now();

}  // namespace watch
}  // namespace lg
