// trace.cpp: Chrome's trace format (JSON), which Perfetto and chrome://tracing open: a bar for each
// operation on the line of its thread, and a curve of the memory in use.
#include <cstdio>
#include <set>

#include "lightgrad/base/file.h"
#include "lightgrad/profile/profile.h"

namespace lg::profiler {
namespace {

std::string quoted(std::string_view s) {
  std::string out = "\"";
  for (const char c : s) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char code[8];
      std::snprintf(code, sizeof code, "\\u%04x", static_cast<unsigned>(c));
      out += code;
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string micro(double seconds) {
  char out[32];
  std::snprintf(out, sizeof out, "%.3f", seconds * 1e6);
  return out;
}

}  // namespace

std::string Profile::trace() const {
  std::string out = "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n";
  out += R"({"name": "process_name", "ph": "M", "pid": 1, "args": {"name": "LightGrad"}})";
  std::set<int> threads;
  for (const Event& e : events_) {
    if (threads.insert(e.thread).second) {
      out += text(R"(,
{"name": "thread_name", "ph": "M", "pid": 1, "tid": )",
                  e.thread, R"(, "args": {"name": "thread )", e.thread, R"("}})");
    }
    const auto rate = [&](double amount) { return e.seconds > 0 ? amount / e.seconds : 0; };
    out +=
        text(",\n{\"name\": ", quoted(e.name), ", \"cat\": \"", name_of(e.phase),
             "\", \"ph\": \"X\", \"pid\": 1, \"tid\": ", e.thread, ", \"ts\": ", micro(e.start),
             ", \"dur\": ", micro(e.seconds), ", \"args\": {\"phase\": \"", name_of(e.phase),
             "\", \"module\": ", quoted(e.module), ", \"shape\": \"", e.shape,
             "\", \"flops\": ", e.flops, ", \"bytes\": ", e.bytes,
             ", \"flops_per_second\": ", rate(e.flops), ", \"bytes_per_second\": ", rate(e.bytes),
             ", \"kept\": ", e.kept, ", \"peak\": ", e.peak, "}}");
    if (e.depth > 0) continue;
    out += text(",\n{\"name\": \"memory\", \"ph\": \"C\", \"pid\": 1, \"ts\": ",
                micro(e.start + e.seconds), ", \"args\": {\"bytes\": ", e.held, "}}");
  }
  return out + "\n]}\n";
}

void Profile::save_trace(const std::string& path) const {
  AtomicFile file(path, "save_trace");
  file.write(trace());
  file.commit();
}

}  // namespace lg::profiler
