// parallel.cpp: the thread pool behind parallel.h.
#include "lightgrad/base/parallel.h"

#include <atomic>

#include "lightgrad/base/error.h"

namespace lg {
namespace {
std::atomic<int> threads{1};
}  // namespace

int num_threads() { return threads.load(std::memory_order_relaxed); }

void set_num_threads(int n) {
  if (n < 1 || n > 1024) fail(ErrorKind::value, "set_num_threads", "got ", n, ", expected 1 to 1024");
  threads.store(n, std::memory_order_relaxed);
}

void detail::run_chunks(std::int64_t chunks, void (*run)(void* context, std::int64_t chunk), void* context) {
  for (std::int64_t i = 0; i < chunks; ++i) run(context, i);
}

}  // namespace lg
