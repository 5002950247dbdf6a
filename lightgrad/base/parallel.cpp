// parallel.cpp: one pool per process. Idle workers spin for a moment, then sleep; the caller works
// too and waits only for those workers that took part. The pool is plain static data, never
// destroyed, so that a call from a static destructor or in a forked child finds it in order.
#include "lightgrad/base/parallel.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <new>
#include <string>
#include <string_view>
#include <thread>

#include "lightgrad/base/error.h"
#include "lightgrad/base/where.h"

namespace lg {
namespace {

constexpr int max_threads = 1024;

// CPUs that the cgroup `directory` (v2: cpu.max, v1: cpu.cfs_*) grants, or max_threads where it
// sets no quota.
int quota_of(const std::string& directory) {
  double quota = -1, period = 0;
  std::string word;
  if (std::ifstream v2(directory + "/cpu.max"); v2 >> word >> period) {
    if (word != "max") quota = std::atof(word.c_str());
  } else if (std::ifstream v1(directory + "/cpu.cfs_quota_us"); v1 >> quota) {
    std::ifstream(directory + "/cpu.cfs_period_us") >> period;
  }
  if (!(quota > 0 && period > 0)) return max_threads;
  return static_cast<int>(std::clamp(quota / period, 1.0, double{max_threads}));
}

// The smallest quota on the way from our cgroup to the root. /proc/self/cgroup has lines
// "4:cpu,cpuacct:/path" (v1) and "0::/path" (v2); inside a container the path may not exist, but
// the root is then our own group.
int cgroup_quota() {
  int cpus = max_threads;
  std::ifstream list("/proc/self/cgroup");
  for (std::string line; std::getline(list, line);) {
    const auto first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (!controllers.empty() && ("," + controllers + ",").find(",cpu,") == std::string::npos)
      continue;
    for (const std::string& mount :
         {"/sys/fs/cgroup/" + controllers, std::string("/sys/fs/cgroup/cpu"),
          std::string("/sys/fs/cgroup/unified")}) {
      std::string path = line.substr(second + 1);
      while (true) {
        cpus = std::min(cpus, quota_of(mount + path));
        const auto slash = path.rfind('/');
        if (slash == std::string::npos) break;
        path.resize(slash);
      }
    }
  }
  return cpus;
}

int affinity() {
#ifdef __linux__
  // The mask may be wider than cpu_set_t: grow until the kernel is content.
  for (int cpus = CPU_SETSIZE; cpus <= 1 << 16; cpus *= 2) {
    cpu_set_t* set = CPU_ALLOC(cpus);
    if (!set) break;
    const bool known = sched_getaffinity(0, CPU_ALLOC_SIZE(cpus), set) == 0;
    const int count = known ? CPU_COUNT_S(CPU_ALLOC_SIZE(cpus), set) : 0;
    CPU_FREE(set);
    if (count > 0) return count;
  }
#endif
  return static_cast<int>(std::thread::hardware_concurrency());
}

int usable_cpus() {
  static const int cpus = std::clamp(std::min(affinity(), cgroup_quota()), 1, max_threads);
  return cpus;
}

int default_threads() {
  const char* variable = std::getenv("LIGHTGRAD_NUM_THREADS");
  if (!variable || !*variable) return usable_cpus();
  const std::string_view value = variable;
  int n = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), n);
  if (error != std::errc() || end != value.data() + value.size() || n < 1 || n > max_threads) {
    fail(ErrorKind::value, "LIGHTGRAD_NUM_THREADS", "got \"", value,
         "\", expected a number from 1 to ", max_threads);
  }
  return n;
}

std::atomic<int> chosen_threads{0};  // 0: not yet asked

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// What a parallel call is made of. Workers enter and leave through `state`, whose fields are
//   generation (32 bits) | helpers (16): workers with a smaller index may enter | open (1) |
//   workers inside (15).
// The caller alone changes the upper fields, by adding a difference, so that a worker's +1 and -1
// are never lost. The job's words are written only while the job is closed and nobody is inside.
struct Pool {
  alignas(64) std::atomic<std::uint64_t> state{0};
  void (*run)(void* context, std::int64_t chunk) = nullptr;
  void* context = nullptr;
  int shares = 0;
  const Frame* frame = nullptr;

  alignas(64) std::atomic<bool> busy{
      false};                    // held by the caller of the job, and for ever after shutdown
  std::atomic<bool> spin{true};  // spinning helps nobody where threads outnumber CPUs
  std::atomic<bool> stop{false};
  std::atomic<bool> sleepers{false};  // perhaps somebody sleeps; cleared by who wakes them
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;  // guards sleeping and the error
  pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
  std::atomic<std::int64_t> failed_chunk{0};  // the lowest so far; later ones need not run
  std::exception_ptr* error = nullptr;        // lives in the caller's stack

  int workers = 0;
  pthread_t thread[max_threads] = {};
};

constexpr std::uint64_t inside_mask = 0x7fff, open_bit = 0x8000;
constexpr std::uint64_t upper_mask = ~inside_mask;
constexpr std::uint32_t generation_of(std::uint64_t state) {
  return static_cast<std::uint32_t>(state >> 32);
}
constexpr int helpers_of(std::uint64_t state) { return static_cast<int>(state >> 16 & 0xffff); }

constinit Pool pool;

// Each thread begins with chunks of its own, the same ones in every call that has as many: what it
// touched there in the last operation is still in its cache. Then it helps the others with theirs.
struct alignas(64) Share {
  std::atomic<std::int64_t> next{0};
  std::int64_t end = 0;
};
constinit Share share[max_threads];

thread_local bool inside_parallel = false;

class Lock {
 public:
  Lock() { pthread_mutex_lock(&pool.mutex); }
  ~Lock() { pthread_mutex_unlock(&pool.mutex); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
};

// Of several exceptions the one of the lowest chunk is kept, and every chunk below it is run: it is
// the one that a single thread would have met.
void keep_error(std::int64_t chunk) {
  const Lock lock;
  if (pool.failed_chunk.load(std::memory_order_relaxed) < chunk) return;
  pool.failed_chunk.store(chunk, std::memory_order_relaxed);
  *pool.error = std::current_exception();
}

void work(int own) {
  const auto run = pool.run;
  void* const context = pool.context;
  const int shares = pool.shares;
  for (int k = 0, at = own; k < shares; ++k, at = at + 1 < shares ? at + 1 : 0) {
    std::atomic<std::int64_t>& next = share[at].next;
    const std::int64_t end = share[at].end;
    while (next.load(std::memory_order_relaxed) < end) {
      const std::int64_t chunk = next.fetch_add(1, std::memory_order_relaxed);
      if (chunk >= end || chunk > pool.failed_chunk.load(std::memory_order_relaxed)) break;
      try {
        run(context, chunk);
      } catch (...) {
        keep_error(chunk);
      }
    }
  }
}

// Returns when a generation other than `seen` was opened: spins for 50 us, the gap between the
// operations of a model, then sleeps.
void wait_for_job(std::uint32_t seen) {
  const auto news = [seen] {
    return generation_of(pool.state.load(std::memory_order_seq_cst)) != seen ||
           pool.stop.load(std::memory_order_relaxed);
  };
  if (pool.spin.load(std::memory_order_relaxed)) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(50);
    do {
      for (int i = 0; i < 64; ++i) {
        if (news()) return;
        pause();
      }
    } while (std::chrono::steady_clock::now() < until);
  }
  const Lock lock;
  while (true) {
    pool.sleepers.store(
        true,
        std::memory_order_seq_cst);  // before news(): the caller opens, then looks for sleepers
    if (news()) return;
    pthread_cond_wait(&pool.wake, &pool.mutex);
  }
}

void* worker(void* argument) {
  const auto index = static_cast<int>(reinterpret_cast<std::intptr_t>(argument));
  inside_parallel = true;
  for (std::uint32_t seen = 0;;) {
    wait_for_job(seen);
    if (pool.stop.load(std::memory_order_relaxed)) return nullptr;
    std::uint64_t state = pool.state.load(std::memory_order_relaxed);
    if ((state & open_bit) && index < helpers_of(state)) {
      state = pool.state.fetch_add(1, std::memory_order_acquire);
      if ((state & open_bit) && index < helpers_of(state)) {
        current_frame = pool.frame;
        work(index + 1);
        current_frame = nullptr;
      }
      pool.state.fetch_sub(1, std::memory_order_release);
    }
    seen = generation_of(state);
  }
}

void wake_all() {
  const Lock lock;
  pool.sleepers.store(false, std::memory_order_relaxed);
  pthread_cond_broadcast(&pool.wake);
}

// Joins the workers at exit (or when the library is unloaded). Calls that come later find the pool
// busy and run inline; where a call is still under way in another thread, its workers are left to
// it.
struct Shutdown {
  Shutdown() {
    // A forked child has the memory but not the workers: it starts with a fresh pool.
    pthread_atfork(nullptr, nullptr, [] { new (&pool) Pool; });
  }
  ~Shutdown() {
    if (pool.busy.exchange(true, std::memory_order_acquire)) return;
    pool.stop.store(true, std::memory_order_seq_cst);
    wake_all();
    for (int i = 0; i < pool.workers; ++i) pthread_join(pool.thread[i], nullptr);
  }
};

// Starts workers until there are `count`, or as many as the system allows. Signals are the business
// of the program's own threads.
void grow(int count) {
  static const Shutdown at_exit;
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  while (pool.workers < count) {
    void* index = reinterpret_cast<void*>(static_cast<std::intptr_t>(pool.workers));
    if (pthread_create(&pool.thread[pool.workers], nullptr, worker, index) != 0) break;
    ++pool.workers;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void set_upper(std::uint64_t upper) {  // seq_cst: see wait_for_job
  pool.state.fetch_add(upper - (pool.state.load(std::memory_order_relaxed) & upper_mask),
                       std::memory_order_seq_cst);
}

}  // namespace

int num_threads() {
  const int n = chosen_threads.load(std::memory_order_relaxed);
  if (n > 0) [[likely]]
    return n;
  int expected = 0;
  chosen_threads.compare_exchange_strong(expected, default_threads());
  return chosen_threads.load(std::memory_order_relaxed);
}

void set_num_threads(int n) {
  if (n < 1 || n > max_threads) {
    fail(ErrorKind::value, "set_num_threads", "got ", n, ", expected a number from 1 to ",
         max_threads);
  }
  chosen_threads.store(n, std::memory_order_relaxed);
}

void run_inline() { inside_parallel = true; }

void detail::run_chunks(std::int64_t chunks, void (*run)(void* context, std::int64_t chunk),
                        void* context) {
  const auto threads = static_cast<int>(std::min<std::int64_t>(num_threads(), chunks));
  if (threads <= 1 || inside_parallel || pool.busy.exchange(true, std::memory_order_acquire)) {
    for (std::int64_t chunk = 0; chunk < chunks; ++chunk) run(context, chunk);
    return;
  }
  if (pool.workers < threads - 1) [[unlikely]]
    grow(threads - 1);
  pool.spin.store(num_threads() <= usable_cpus(), std::memory_order_relaxed);

  std::exception_ptr error;
  pool.run = run;
  pool.context = context;
  pool.shares = threads;
  for (int i = 0; i < threads; ++i) {
    share[i].next.store(chunks * i / threads, std::memory_order_relaxed);
    share[i].end = chunks * (i + 1) / threads;
  }
  pool.failed_chunk.store(chunks, std::memory_order_relaxed);
  pool.frame = current_frame;
  pool.error = &error;
  const std::uint64_t generation =
      generation_of(pool.state.load(std::memory_order_relaxed)) + std::uint64_t{1};
  const std::uint64_t closed = generation << 32 | static_cast<std::uint64_t>(threads - 1) << 16;
  set_upper(closed | open_bit);
  if (pool.sleepers.load(std::memory_order_seq_cst)) wake_all();

  inside_parallel = true;
  work(0);
  inside_parallel = false;

  set_upper(closed);
  for (int i = 0; pool.state.load(std::memory_order_acquire) & inside_mask; ++i) {
    if (i < 4096)
      pause();
    else
      sched_yield();  // a worker may have lost its CPU to somebody: let it have ours
  }
  pool.busy.store(false, std::memory_order_release);
  if (error) std::rethrow_exception(std::move(error));
}

}  // namespace lg
