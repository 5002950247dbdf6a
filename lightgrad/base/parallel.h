// parallel.h: fork-join over chunks. Work is cut by its size, never by the number of threads, so
// results are the same bits at any thread count. A nested call runs inline.
#pragma once

#include <cstdint>
#include <type_traits>

namespace lg {

// Threads used by one parallel call, the caller included. Default: LIGHTGRAD_NUM_THREADS, else the
// affinity mask and the cgroup quota, rounded down.
int num_threads();
// Throws ValueError unless 1 <= n <= 1024.
void set_num_threads(int n);

// From now on this thread's parallel calls run inline: for threads that are workers themselves and
// should not take the pool from the thread that they work for.
void run_inline();

namespace detail {
void run_chunks(std::int64_t chunks, void (*run)(void* context, std::int64_t chunk), void* context);
}

// f(chunk) for each chunk in [0, chunks), in any order, on any thread. Of several exceptions, that
// of the lowest chunk is rethrown here.
template <class F> void parallel_chunks(std::int64_t chunks, F&& f) {
  if (chunks <= 0) return;
  if (chunks == 1) {
    f(std::int64_t{0});
    return;
  }
  detail::run_chunks(
      chunks,
      [](void* context, std::int64_t chunk) {
        (*static_cast<std::remove_reference_t<F>*>(context))(chunk);
      },
      const_cast<void*>(static_cast<const void*>(&f)));
}

// f(begin, end) over [0, n) in pieces of `grain`.
template <class F> void parallel_for(std::int64_t n, std::int64_t grain, F&& f) {
  if (n <= grain) {
    if (n > 0) f(std::int64_t{0}, n);
    return;
  }
  parallel_chunks((n + grain - 1) / grain, [&](std::int64_t chunk) {
    const std::int64_t begin = chunk * grain;
    f(begin, begin + grain < n ? begin + grain : n);
  });
}

}  // namespace lg
