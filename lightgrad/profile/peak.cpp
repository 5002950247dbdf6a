#include "lightgrad/profile/peak.h"

#include <sys/mman.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <vector>

#include "lightgrad/backend/backend.h"
#include "lightgrad/base/parallel.h"
#include "lightgrad/base/watch.h"

namespace lg::profiler {
namespace {

// Ones in memory from the system, on huge pages if it has any, and back to it: nothing of this
// stays in the allocator's cache or statistics. Written first, for all pages that nobody wrote are
// one and the same page, which a cache holds.
class Pages {
 public:
  explicit Pages(std::int64_t floats) : bytes_(static_cast<std::size_t>(floats) * sizeof(float)) {
    void* p = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
      fail(ErrorKind::memory, "measure_peak", "the system has no ", bytes_, " bytes");
#ifdef MADV_HUGEPAGE
    madvise(p, bytes_, MADV_HUGEPAGE);
#endif
    data_ = static_cast<float*>(p);
    parallel_for(floats, 1 << 18, [&](std::int64_t begin, std::int64_t end) {
      std::fill(data_ + begin, data_ + end, 1.0f);
    });
  }
  ~Pages() { munmap(data_, bytes_); }
  Pages(const Pages&) = delete;
  float* data() const { return data_; }

 private:
  std::size_t bytes_;
  float* data_ = nullptr;
};

// The highest work() per second of runs that take `seconds` altogether, after one that does not
// count: it wakes threads and brings pages.
template <class F> double best_rate(double seconds, F&& work) {
  work();
  double best = 0;
  const auto end = watch::now() + static_cast<std::int64_t>(seconds * 1e9);
  for (auto before = watch::now(); before < end;) {
    const double done = work();
    const auto after = watch::now();
    best =
        std::max(best, done * 1e9 / static_cast<double>(std::max<std::int64_t>(after - before, 1)));
    before = after;
  }
  return best;
}

// Sums of x, or updates of y by x, over `chunks` pieces of `piece` floats, each `times` times.
double stream_rate(const Backend& k, std::int64_t chunks, std::int64_t piece, int times,
                   double seconds) {
  const Pages x(chunks * piece), y(chunks * piece);
  std::vector<float> sums(static_cast<std::size_t>(chunks));  // used, so nobody removes the loop
  const double floats = static_cast<double>(chunks) * static_cast<double>(piece) * times;
  const double read = best_rate(seconds / 2, [&] {
    parallel_chunks(chunks, [&](std::int64_t c) {
      for (int i = 0; i < times; ++i)
        sums[static_cast<std::size_t>(c)] += k.peak_read(x.data() + c * piece, piece);
    });
    return floats * 4;
  });
  const double update = best_rate(seconds / 2, [&] {
    parallel_chunks(chunks, [&](std::int64_t c) {
      for (int i = 0; i < times; ++i)
        k.peak_update(x.data() + c * piece, y.data() + c * piece, piece);
    });
    return floats * 12;
  });
  return std::max(read, update);
}

}  // namespace

Peak measure_peak() {
  const Backend& k = backend(Device{});
  Peak peak;
  peak.threads = num_threads();
  peak.simd_target = k.simd_target();
  const std::int64_t chunks = 8 * peak.threads;  // several a thread: one that starts late does less
  constexpr int apart = 16;                      // a cache line for each
  static_assert(apart >= kernels::peak_fma_values);
  std::vector<float> values(static_cast<std::size_t>(chunks) * apart);
  std::vector<double> flops(static_cast<std::size_t>(chunks));
  peak.flops = best_rate(0.1, [&] {
    parallel_chunks(chunks, [&](std::int64_t c) {
      flops[static_cast<std::size_t>(c)] =
          k.peak_fma(1 << 15, &values[static_cast<std::size_t>(c) * apart]);
    });
    double sum = 0;
    for (double f : flops) sum += f;
    return sum;
  });
  // x and y of a chunk are 128 KiB together: beyond the first cache, within the second.
  peak.cache = stream_rate(k, chunks, 1 << 14, 32, 0.1);
  // 128 MiB each, in pieces of 512 KiB: no cache of a core, nor the share of one that cores have in
  // common, holds them until they are needed again.
  peak.memory = stream_rate(k, 256, 1 << 17, 1, 0.3);
  return peak;
}

Peak measured_peak() {
  static std::mutex mutex;
  static std::map<int, Peak> known;
  const std::lock_guard lock(mutex);
  auto it = known.find(num_threads());
  if (it == known.end()) it = known.emplace(num_threads(), measure_peak()).first;
  return it->second;
}

}  // namespace lg::profiler
