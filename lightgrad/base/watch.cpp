// watch.cpp: a log per thread, so that threads do not wait for each other; a place in it is taken
// when an operation begins, which keeps outer operations before inner ones.
#include "lightgrad/base/watch.h"

#include <chrono>
#include <memory>
#include <mutex>
#include <set>
#include <utility>

#include "lightgrad/base/memory.h"
#include "lightgrad/base/where.h"

namespace lg::watch {

struct Log {
  std::mutex mutex;  // against the thread that stops a recording
  int thread = 0;
  std::uint64_t generation = 0;  // rises when the log is emptied
  std::vector<Record> records;
};

namespace {

struct Recorder {
  std::mutex mutex;
  int running = 0, threads = 0;
  std::vector<std::shared_ptr<Log>> logs;
  std::set<std::string, std::less<>> words;

  const std::string* intern(std::string_view word) {
    const std::lock_guard lock(mutex);
    auto it = words.find(word);
    return &*(it == words.end() ? words.emplace(word).first : it);
  }
  std::shared_ptr<Log> new_log() {
    const std::lock_guard lock(mutex);
    auto log = std::make_shared<Log>();
    log->thread = threads++;
    logs.push_back(log);
    return log;
  }
};
Recorder& recorder() {
  static Recorder r;
  return r;
}

thread_local Work* at_work = nullptr;

Log& thread_log() {
  static thread_local const std::shared_ptr<Log> log = recorder().new_log();
  return *log;
}

}  // namespace

void set(Watcher watcher, bool on) {
  if (on)
    flags |= watcher;
  else
    flags &= ~static_cast<unsigned>(watcher);
}

std::int64_t now() {
  using namespace std::chrono;
  return duration_cast<nanoseconds>(steady_clock::now().time_since_epoch()).count();
}

void add(Cost cost) {
  if (at_work) at_work->add(cost);
}

// What costs time comes first, and the clock last.
void Work::begin(std::string_view name, Phase phase, const std::string* path) {
  Recorder& r = recorder();
  outer_ = at_work;
  frame_ = current_frame;
  record_.name = r.intern(name);
  record_.phase = phase;
  if (path)
    record_.path = r.intern(*path);
  else if (outer_ && outer_->frame_ == frame_)
    record_.path = outer_->record_.path;
  else
    record_.path = r.intern(where());
  record_.depth = outer_ ? outer_->record_.depth + 1 : 0;
  Log& log = thread_log();
  {
    const std::lock_guard lock(log.mutex);
    index_ = log.records.size();
    generation_ = log.generation;
    log.records.emplace_back();
  }
  record_.thread = log.thread;
  const MemoryStats memory = memory_stats();
  memory_ = memory.current;
  peak_before_ = memory.peak;
  reset_total_peak_memory();
  log_ = &log;
  at_work = this;
  record_.start = now();
}

void Work::end() noexcept {
  record_.end = now();
  const MemoryStats memory = memory_stats();
  raise_peak_memory(peak_before_);  // nobody else shall notice
  record_.held = memory.current;
  record_.kept = memory.current - memory_;
  record_.peak = memory.peak - memory_;
  at_work = outer_;
  if (outer_) outer_->add(record_.cost);
  const std::lock_guard lock(log_->mutex);
  if (generation_ == log_->generation) log_->records[index_] = record_;
}

std::int64_t start_recording() {
  Recorder& r = recorder();
  const std::lock_guard lock(r.mutex);
  if (r.running++ == 0) set(profile, true);
  return now();
}

std::vector<Record> stop_recording(std::int64_t since) {
  Recorder& r = recorder();
  const std::lock_guard lock(r.mutex);
  const bool last = --r.running == 0;
  if (last) set(profile, false);
  std::vector<Record> all;
  for (const auto& log : r.logs) {
    const std::lock_guard log_lock(log->mutex);
    for (const Record& record : log->records) {
      if (record.end != 0 && record.start >= since) all.push_back(record);
    }
    if (last) {
      log->records.clear();
      ++log->generation;
    }
  }
  if (last) std::erase_if(r.logs, [](const auto& log) { return log.use_count() == 1; });
  return all;
}

}  // namespace lg::watch
