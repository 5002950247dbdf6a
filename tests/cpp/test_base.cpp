// test_base.cpp: the words of base: errors, dtypes, halves, shapes, threads, memory.
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "lightgrad/base/dtype.h"
#include "lightgrad/base/error.h"
#include "lightgrad/base/half.h"
#include "lightgrad/base/memory.h"
#include "lightgrad/base/parallel.h"
#include "lightgrad/base/shape.h"
#include "lightgrad/base/where.h"
#include "tests/cpp/sanitizers.h"

namespace lg {
namespace {

template <class F> std::string message_of(F f, ErrorKind kind) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), kind);
    return e.what();
  }
  return "no error";
}

// ---- error ----

TEST(Error, TextOfParts) {
  EXPECT_EQ(text("a ", 'b', ' ', 3, ' ', std::uint8_t{7}, ' ', 0.1, ' ', true, ' ', Shape{2, 3},
                 ' ', std::string("s")),
            "a b 3 7 0.1 true [2, 3] s");
}

TEST(Error, ModulePathIsAppended) {
  const Frame frame{nullptr, nullptr, [](const Frame*) { return std::string("blocks.2.attn"); }};
  current_frame = &frame;
  EXPECT_EQ(message_of([] { fail(ErrorKind::type, "add", "no"); }, ErrorKind::type),
            "add: no (in blocks.2.attn)");
  current_frame = nullptr;
  EXPECT_EQ(message_of([] { fail(ErrorKind::type, "add", "no"); }, ErrorKind::type), "add: no");
}

// ---- dtype ----

TEST(DType, PromoteIsPyTorchsTable) {
  using enum DType;
  const DType all[] = {bool_, uint8, int32, int64, float16, bfloat16, float32, float64};
  const DType table[8][8] = {
      {bool_, uint8, int32, int64, float16, bfloat16, float32, float64},
      {uint8, uint8, int32, int64, float16, bfloat16, float32, float64},
      {int32, int32, int32, int64, float16, bfloat16, float32, float64},
      {int64, int64, int64, int64, float16, bfloat16, float32, float64},
      {float16, float16, float16, float16, float16, float32, float32, float64},
      {bfloat16, bfloat16, bfloat16, bfloat16, float32, bfloat16, float32, float64},
      {float32, float32, float32, float32, float32, float32, float32, float64},
      {float64, float64, float64, float64, float64, float64, float64, float64},
  };
  for (int i = 0; i < 8; ++i) {
    for (int j = 0; j < 8; ++j)
      EXPECT_EQ(promote(all[i], all[j]), table[i][j]) << name_of(all[i]) << name_of(all[j]);
    visit(all[i], [&](auto v) {
      EXPECT_EQ(sizeof v, size_of(all[i]));
      EXPECT_EQ(dtype_of<decltype(v)>, all[i]);
    });
  }
}

TEST(DType, ConvertNeverTraps) {
  EXPECT_EQ(convert<std::int64_t>(std::nan("")), INT64_MIN);
  EXPECT_EQ(convert<std::int64_t>(1e30), INT64_MIN);
  EXPECT_EQ(convert<std::int64_t>(-2.9f), -2);
  EXPECT_EQ(convert<bool>(0.5), true);
  EXPECT_EQ(convert<bool>(std::nan("")), true);
  EXPECT_EQ(convert<int>(float16(7.9f)), 7);
}

// ---- half ----

// The value of 16 bits by the definition of the format.
double value_of(std::uint16_t bits, int exponent_bits) {
  const int fraction_bits = 15 - exponent_bits, bias = (1 << (exponent_bits - 1)) - 1;
  const int e = bits >> fraction_bits & ((1 << exponent_bits) - 1),
            f = bits & ((1 << fraction_bits) - 1);
  const double sign = bits & 0x8000 ? -1 : 1;
  if (e == (1 << exponent_bits) - 1)
    return f ? std::nan("") : sign * std::numeric_limits<double>::infinity();
  return sign * std::ldexp(e ? f + (1 << fraction_bits) : f, std::max(e, 1) - bias - fraction_bits);
}

template <class H> void check_half(int exponent_bits) {
  const auto float_of = [](unsigned bits) {
    H h;
    h.bits = static_cast<std::uint16_t>(bits);
    return static_cast<float>(h);
  };
  for (unsigned bits = 0; bits < 65536; ++bits) {
    const float v = float_of(bits);
    const double reference = value_of(static_cast<std::uint16_t>(bits), exponent_bits);
    if (std::isnan(reference)) {
      ASSERT_TRUE(std::isnan(v) && std::isnan(static_cast<float>(H(v)))) << bits;
      continue;
    }
    ASSERT_EQ(v, reference) << bits;
    ASSERT_EQ(H(v).bits, bits);
  }
  // Between neighbours, the midpoint goes to the even one and all else to the nearer; above the
  // largest finite number, infinity counts as the next one.
  const unsigned infinity = ((1u << exponent_bits) - 1) << (15 - exponent_bits);
  for (unsigned bits = 0; bits < infinity; ++bits) {
    const double low = float_of(bits);
    const double high = bits + 1 == infinity ? 2 * low - float_of(bits - 1) : float_of(bits + 1);
    const auto middle = static_cast<float>((low + high) / 2);
    for (const unsigned sign : {0u, 0x8000u}) {
      const float s = sign ? -1.0f : 1.0f;
      ASSERT_EQ(H(s * middle).bits, (bits + (bits & 1)) | sign);
      ASSERT_EQ(H(s * std::nextafter(middle, 0.0f)).bits, bits | sign);
      ASSERT_EQ(H(s * std::nextafter(middle, INFINITY)).bits, (bits + 1) | sign);
    }
  }
  EXPECT_EQ(H(INFINITY).bits, infinity);
  EXPECT_EQ(H(std::numeric_limits<float>::max()).bits, infinity);
  EXPECT_TRUE(std::isnan(static_cast<float>(H(std::bit_cast<float>(0x7f800001u)))));
}

TEST(Half, Float16AllValuesAndRounding) { check_half<float16>(5); }
TEST(Half, BFloat16AllValuesAndRounding) { check_half<bfloat16>(8); }

// ---- shape ----

TEST(Shape, Broadcast) {
  EXPECT_EQ(broadcast({2, 1, 4}, {3, 1}, "add"), (Shape{2, 3, 4}));
  EXPECT_EQ(broadcast({}, {5}, "add"), (Shape{5}));
  EXPECT_EQ(broadcast({0}, {1}, "add"), (Shape{0}));
  EXPECT_EQ(broadcast_strides({3, 1}, {1, 1}, {2, 3, 4}), (Shape{0, 1, 0}));
  EXPECT_EQ(message_of(
                [] {
                  broadcast({2, 3}, {4}, "add");
                },
                ErrorKind::value),
            "add: shapes [2, 3] and [4] do not broadcast: dimension -1 is 3 and 4, expected equal "
            "sizes or a 1");
}

TEST(Shape, CheckedNumel) {
  const std::int64_t big = std::int64_t{1} << 31;
  EXPECT_EQ(checked_numel({}, 4, "empty"), 1);
  EXPECT_EQ(checked_numel({2, 3, 5}, 8, "empty"), 30);
  EXPECT_EQ(checked_numel({big, big, big, 0}, 8, "empty"), 0);
  EXPECT_EQ(checked_numel({big, big}, 1, "empty"), big * big);
  EXPECT_EQ(message_of(
                [&] {
                  checked_numel({big, big}, 4, "empty");
                },
                ErrorKind::value),
            "empty: shape [2147483648, 2147483648] has more bytes than fit in 64 bits");
  EXPECT_EQ(message_of(
                [&] {
                  checked_numel({big, big, big}, 1, "zeros");
                },
                ErrorKind::value),
            "zeros: shape [2147483648, 2147483648, 2147483648] has more bytes than fit in 64 bits");
  EXPECT_EQ(message_of(
                [] {
                  checked_numel({2, -1}, 4, "ones");
                },
                ErrorKind::value),
            "ones: negative dimension -1 in shape [2, -1]");
}

TEST(Shape, StridesAndAxes) {
  EXPECT_EQ(contiguous_strides({2, 3, 4}), (Shape{12, 4, 1}));
  EXPECT_TRUE(is_contiguous({2, 1, 4}, {4, 99, 1}));
  EXPECT_FALSE(is_contiguous({2, 3}, {1, 2}));
  EXPECT_TRUE(is_contiguous({0, 3}, {7, 7}));
  EXPECT_EQ(normalize_axis(-1, 3, "sum"), 2);
  EXPECT_EQ(normalize_axis(0, 0, "sum"), 0);
  EXPECT_EQ(message_of([] { normalize_axis(3, 3, "sum"); }, ErrorKind::index),
            "sum: axis 3 is out of range for 3 dimensions, expected -3 to 2");
}

// ---- parallel ----

class Parallel : public testing::TestWithParam<int> {
 protected:
  void SetUp() override { set_num_threads(GetParam()); }
  void TearDown() override { set_num_threads(before_); }

 private:
  int before_ = num_threads();
};
INSTANTIATE_TEST_SUITE_P(Threads, Parallel, testing::Values(1, 2, 3, 8));

TEST_P(Parallel, EachChunkOnce) {
  for (const std::int64_t chunks : {0, 1, 2, 3, 7, 64, 1009}) {
    std::vector<std::atomic<int>> runs(static_cast<std::size_t>(chunks));
    for (int repeat = 1; repeat <= 50; ++repeat) {
      parallel_chunks(chunks, [&](std::int64_t c) { ++runs[static_cast<std::size_t>(c)]; });
      for (auto& r : runs) ASSERT_EQ(r, repeat);
    }
  }
}

TEST_P(Parallel, ForCoversTheRangeInGrains) {
  for (const std::int64_t n : {0, 1, 9, 10, 11, 1000}) {
    std::vector<int> seen(
        static_cast<std::size_t>(n));  // plain ints: a result is visible to the caller
    parallel_for(n, 10, [&](std::int64_t begin, std::int64_t end) {
      EXPECT_TRUE(begin % 10 == 0 && end == std::min(begin + 10, n));
      for (auto i = begin; i < end; ++i) ++seen[static_cast<std::size_t>(i)];
    });
    EXPECT_EQ(std::count(seen.begin(), seen.end(), 1), n);
  }
}

TEST_P(Parallel, NestedCallsRunInline) {
  std::atomic<int> runs{0};
  parallel_chunks(16, [&](std::int64_t) {
    const auto self = std::this_thread::get_id();
    parallel_chunks(16, [&](std::int64_t) {
      EXPECT_TRUE(GetParam() == 1 || std::this_thread::get_id() == self);
      ++runs;
    });
  });
  EXPECT_EQ(runs, 256);
}

TEST_P(Parallel, LowestExceptionReachesTheCaller) {
  for (int repeat = 0; repeat < 100; ++repeat) {
    const std::string what = message_of(
        [] {
          parallel_chunks(100, [](std::int64_t c) {
            if (c >= 30) usleep(c == 30 ? 50 : 200);  // a higher chunk throws later
            if (c >= 30) fail(ErrorKind::value, "chunk", c);
          });
        },
        ErrorKind::value);
    ASSERT_EQ(what, "chunk: 30");
  }
  std::atomic<int> runs{0};
  parallel_chunks(100, [&](std::int64_t) { ++runs; });
  EXPECT_EQ(runs, 100);
}

TEST_P(Parallel, ErrorsInsideNameTheCallersModule) {
  const Frame frame{nullptr, nullptr, [](const Frame*) { return std::string("head"); }};
  current_frame = &frame;
  std::atomic<int> inside{0};
  parallel_chunks(100, [&](std::int64_t) { inside += where() == "head"; });
  current_frame = nullptr;
  EXPECT_EQ(inside, 100);
  parallel_chunks(100, [&](std::int64_t) { inside -= where().empty(); });
  EXPECT_EQ(inside, 0);
}

TEST_P(Parallel, ManyUserThreadsAtOnce) {
  std::atomic<std::int64_t> sum{0};
  std::vector<std::thread> users;
  for (int t = 0; t < 6; ++t) {
    users.emplace_back([&] {
      for (int repeat = 0; repeat < 300; ++repeat) {
        parallel_for(100, 7, [&](std::int64_t begin, std::int64_t end) { sum += end - begin; });
      }
    });
  }
  for (auto& u : users) u.join();
  EXPECT_EQ(sum, 6 * 300 * 100);
}

TEST_P(Parallel, SleepingWorkersWake) {
  std::atomic<int> runs{0};
  for (int repeat = 0; repeat < 20; ++repeat) {
    usleep(1000);
    parallel_chunks(8, [&](std::int64_t) { ++runs; });
  }
  EXPECT_EQ(runs, 160);
}

// The exit status of a forked child that runs f, or -1 when it did not end by itself within a
// minute. With `leave` = exit the child runs its static destructors and, under AddressSanitizer,
// looks for leaks.
template <class F> int status_of_child(void (*leave)(int), F f) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    bool good = false;
    try {
      good = f();
    } catch (...) {}
    leave(good ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

bool work_goes_on() {
  std::atomic<std::int64_t> sum{0};
  for (int repeat = 0; repeat < 100; ++repeat) {
    parallel_chunks(50, [&](std::int64_t c) {
      for (const std::size_t bytes : {50, 5000}) deallocate(allocate(bytes), bytes);
      sum += c;
    });
  }
  return sum == 100 * 1225;
}

TEST_P(Parallel, ForkedChildWorks) {
  if (under_tsan) GTEST_SKIP() << "TSan forbids threads after fork";
  ASSERT_TRUE(work_goes_on());
  EXPECT_EQ(status_of_child(std::exit, work_goes_on), 0);
  if (under_asan) return;
  std::atomic<bool> stop{false};
  std::thread other([&] {  // holds the pool and the allocator at the moment of some of the forks
    while (!stop) work_goes_on();
  });
  for (int repeat = 0; repeat < 10; ++repeat) EXPECT_EQ(status_of_child(_exit, work_goes_on), 0);
  stop = true;
  other.join();
  EXPECT_TRUE(work_goes_on());
}

TEST(ParallelSettings, BadNumbersAreRefused) {
  const int before = num_threads();
  EXPECT_EQ(message_of([] { set_num_threads(0); }, ErrorKind::value),
            "set_num_threads: got 0, expected a number from 1 to 1024");
  EXPECT_EQ(message_of([] { set_num_threads(1025); }, ErrorKind::value),
            "set_num_threads: got 1025, expected a number from 1 to 1024");
  EXPECT_EQ(num_threads(), before);
}

// A static made before the pool is destroyed after it.
struct CallsAtExit {
  ~CallsAtExit() {
    std::atomic<int> runs{0};
    parallel_chunks(10, [&](std::int64_t) { ++runs; });
    if (block) deallocate(block, 100);  // null when the test was filtered out
    deallocate(allocate(100), 100);
    if (runs != 10) _exit(3);
  }
  void* block = nullptr;
} calls_at_exit;
TEST(ParallelSettings, StaticDestructorsMayCall) {
  calls_at_exit.block = allocate(100);
  parallel_chunks(10, [](std::int64_t) {});
}

// ---- memory ----

TEST(Memory, AlignedDistinctAndWritable) {
  std::vector<std::pair<unsigned char*, std::size_t>> blocks;
  for (std::size_t bytes : {0ul, 1ul, 63ul, 64ul, 65ul, 1000ul, 1024ul, 1025ul, 1152ul, 1153ul,
                            65537ul, 2097152ul, 2097153ul, 5000000ul}) {
    for (int repeat = 0; repeat < 3; ++repeat) {
      auto* p = static_cast<unsigned char*>(allocate(bytes));
      ASSERT_EQ(reinterpret_cast<std::uintptr_t>(p) % 64, 0u);
      std::memset(p, static_cast<int>(blocks.size()), bytes);
      blocks.emplace_back(p, bytes);
    }
  }
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const auto [p, bytes] = blocks[i];
    EXPECT_TRUE(std::all_of(p, p + bytes, [&](unsigned char c) { return c == i; })) << bytes;
    deallocate(p, bytes);
  }
}

TEST(Memory, CountsBytesAskedFor) {
  reset_peak_memory();
  const MemoryStats before = memory_stats();
  EXPECT_EQ(before.peak, before.current);
  void* a = allocate(100);
  void* b = allocate(1000000);
  EXPECT_EQ(memory_stats().current - before.current, 1000100);
  void* c = allocate(300);
  deallocate(c, 300);
  deallocate(b, 1000000);
  deallocate(a, 100);
  void* d = allocate(1000);
  deallocate(d, 1000);
  const MemoryStats after = memory_stats();
  EXPECT_EQ(after.current, before.current);
  EXPECT_EQ(after.peak - before.current, 1000400);
  EXPECT_EQ(after.allocations - before.allocations, 4);
}

TEST(Memory, BlocksAreKeptAndTrimmed) {
  deallocate(allocate(3000000), 3000000);
  if (memory_stats().cached == 0) GTEST_SKIP() << "built or run without a cache";
  const auto system = memory_stats().system_allocations;
  for (int i = 0; i < 10; ++i) deallocate(allocate(3000000), 3000000);
  EXPECT_EQ(memory_stats().system_allocations, system);
  std::vector<void*> tiny(5000);
  std::int64_t system_of_first = 0;
  for (int i = 0; i < 10; ++i) {
    for (auto& p : tiny) p = allocate(192);
    for (auto& p : tiny) deallocate(p, 192);
    if (i == 0) system_of_first = memory_stats().system_allocations;
  }
  EXPECT_EQ(memory_stats().system_allocations, system_of_first);
  EXPECT_GE(memory_stats().cached, 3000000 + 5000 * 192);
  trim_memory();
  EXPECT_LT(memory_stats().cached, 1 << 20);  // slabs with a block in use somewhere stay
  for (auto& p : tiny) std::memset(p = allocate(640), 1, 640);
  for (auto& p : tiny) deallocate(p, 640);
}

TEST(Memory, OutOfMemoryIsAnErrorAndLeavesAllInOrder) {
  const auto before = memory_stats().current;
  for (const std::size_t bytes : {std::size_t{1} << 46, (std::size_t{1} << 47) + 1, SIZE_MAX}) {
    const std::string what = message_of([=] { allocate(bytes); }, ErrorKind::memory);
    EXPECT_EQ(what.find(text("out of memory: asked for ", bytes, " bytes, ")), 0u) << what;
  }
  EXPECT_EQ(memory_stats().current, before);
  deallocate(allocate(100000), 100000);
}

// Blocks wander: each thread frees what its neighbour made, then ends; nothing is lost, nothing
// handed out twice.
TEST(Memory, BlocksMayBeFreedOnOtherThreads) {
  const auto before = memory_stats().current;
  constexpr int threads = 4, rounds = 20, count = 500;
  std::vector<std::vector<std::uint64_t*>> boxes(threads);
  for (int round = 0; round < rounds; ++round) {
    std::vector<std::thread> users;
    for (int t = 0; t < threads; ++t) {
      users.emplace_back([&, t] {
        auto& box = boxes[static_cast<std::size_t>(t)];
        for (auto* p : box) {
          EXPECT_EQ(*p, reinterpret_cast<std::uintptr_t>(p));
          deallocate(p, 64);
        }
        box.clear();
        for (int i = 0; i < count; ++i) {
          box.push_back(static_cast<std::uint64_t*>(allocate(64)));
          *box.back() = reinterpret_cast<std::uintptr_t>(box.back());
        }
      });
    }
    for (auto& u : users) u.join();
    std::rotate(boxes.begin(), boxes.begin() + 1, boxes.end());
    EXPECT_EQ(memory_stats().current - before, threads * count * 64);
  }
  for (auto& box : boxes) {
    for (auto* p : box) deallocate(p, 64);
  }
  EXPECT_EQ(memory_stats().current, before);
}

struct HeldByThread {
  ~HeldByThread() {
    deallocate(block, 64);
    deallocate(allocate(64), 64);
  }
  void* block = nullptr;
};
TEST(Memory, WorksWhileAThreadEnds) {
  const auto before = memory_stats();
  static pthread_key_t key;  // destroyed even after the allocator's own
  deallocate(allocate(64), 64);
  pthread_key_create(&key, [](void* held) { delete static_cast<HeldByThread*>(held); });
  for (int repeat = 0; repeat < 10; ++repeat) {
    std::thread([] {
      static thread_local HeldByThread held;
      held.block = allocate(64);
      pthread_setspecific(key, new HeldByThread{allocate(64)});
    }).join();
  }
  pthread_key_delete(key);
  EXPECT_EQ(memory_stats().current, before.current);
  EXPECT_EQ(memory_stats().allocations - before.allocations, 41);
}

TEST(MemoryDeathTest, UseAfterFreeIsCaught) {
#ifdef __SANITIZE_ADDRESS__
  for (const std::size_t bytes : {64ul, 5000ul, 3000000ul}) {
    auto* p = static_cast<volatile char*>(allocate(bytes));
    p[bytes - 1] = 1;
    deallocate(const_cast<char*>(p), bytes);
    EXPECT_DEATH(p[bytes - 1] = 2, "AddressSanitizer");
    EXPECT_DEATH(p[bytes > 1024 ? 64 : 0] = 2,
                 "AddressSanitizer");  // large blocks keep their links in front
  }
#else
  GTEST_SKIP() << "needs AddressSanitizer";
#endif
}

}  // namespace
}  // namespace lg
