// test_memory_limit.cpp: a limit of memory: the cache gives way first, the error says who holds
// what, and everything goes on afterwards.
#include <atomic>
#include <thread>

#include "lightgrad/base/memory.h"
#include "lightgrad/lightgrad.h"
#include "tests/cpp/tensor_testing.h"

namespace lg::testing {
namespace {

constexpr std::int64_t MB = 1 << 20;

// So many bytes above what is in use, while this lives.
struct Limit {
  explicit Limit(std::int64_t more) { set_memory_limit(memory_stats().current + more); }
  ~Limit() { set_memory_limit(0); }
};

bool has_cache() {
  deallocate(allocate(3 * MB), 3 * MB);
  return memory_stats().cached > 0;
}

TEST(MemoryLimit, IsReadBack) {
  EXPECT_EQ(memory_limit(), 0);
  set_memory_limit(5 * MB);
  EXPECT_EQ(memory_limit(), 5 * MB);
  expect_error(ErrorKind::value, {"memory limit: got -1 bytes, expected a number from 0 up"},
               [] { set_memory_limit(-1); });
  EXPECT_EQ(memory_limit(), 5 * MB);
  set_memory_limit(0);
}

TEST(MemoryLimit, TheCacheGivesWayFirst) {
  if (!has_cache()) GTEST_SKIP() << "built or run without a cache";
  trim_memory();
  deallocate(allocate(8 * MB), 8 * MB);  // kept for reuse
  ASSERT_GE(memory_stats().cached, 8 * MB);
  const Limit limit(10 * MB);
  const auto held = [] { return memory_stats().current + memory_stats().cached; };
  void* small = allocate(MB);
  EXPECT_GE(memory_stats().cached, 8 * MB);  // both fit
  void* block = allocate(5 * MB);
  EXPECT_LT(memory_stats().cached, 8 * MB);
  EXPECT_LE(held(), memory_limit() + 8 * 64 * 16);  // tiny blocks in the threads' magazines
  deallocate(block, 5 * MB);
  const auto system = memory_stats().system_allocations;
  for (int i = 0; i < 3; ++i) deallocate(allocate(5 * MB), 5 * MB);  // a kept block fits as it is
  EXPECT_EQ(memory_stats().system_allocations, system);
  deallocate(small, MB);
}

TEST(MemoryLimit, TheErrorSaysWhoHoldsWhat) {
  nn::Mod<nn::Linear> model = nn::make<nn::Linear>(1024, 512);  // 2 MiB
  const Tensor x = zeros({3, 1024, 256}), y = zeros({3, 1024, 256}),
               ids = zeros({MB}, DType::uint8);
  model->weight.set_grad(zeros({512, 1024}));
  optim::SGD sgd(model->parameters(), {.lr = 0, .momentum = 0.9});
  sgd.step();
  const auto before = memory_stats();
  const Limit limit(4 * MB);
  expect_error(ErrorKind::memory,
               {"out of memory: asked for 8388800 bytes, ", " in use of a limit of ",
                ", and the cache has been given back. In use: activations ", ", optimizer 2.",
                " MB, gradients ", "parameters 2.", "other ",
                ". The largest: ", "of other in 2 x float32 [3, 1024, 256]",
                "2.10 MB of parameters in 1 x float32 [512, 1024]",
                "2.10 MB of optimizer in 1 x float32 [512, 1024]"},
               [] {
                 zeros({2048, 1024});
               });
  EXPECT_EQ(memory_stats().current, before.current);
  EXPECT_EQ(zeros({512, 1024}).numel(), 512 * 1024);  // what fits, fits
}

TEST(MemoryLimit, HoldersAreForgottenWithTheirTensors) {
  const auto largest = [] {
    try {
      allocate(SIZE_MAX);
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  Tensor a = zeros({7, MB}), b = zeros({7, MB}), c = zeros({9, MB, 2}, DType::uint8);
  const Tensor view = narrow(c, 0, 1, 1);
  EXPECT_NE(largest().find("in 2 x float32 [7, 1048576]"), std::string::npos);
  a = {};
  EXPECT_NE(largest().find("in 1 x float32 [7, 1048576]"), std::string::npos);
  b = c = {};
  EXPECT_EQ(largest().find("float32 [7, 1048576]"), std::string::npos);
  EXPECT_NE(largest().find("in 1 x uint8 [9, 1048576, 2]"), std::string::npos);  // the view's
}

TEST(MemoryLimit, SmallBlocksCountToo) {
  const Limit limit(MB);
  Tensors all;
  expect_error(ErrorKind::memory, {"out of memory: asked for "}, [&] {
    while (all.size() < 100000) all.push_back(zeros({100}));
  });
  EXPECT_LE(memory_stats().current, memory_limit() + 64 * 1024);  // a lot of them at most
  EXPECT_GT(all.size(), 500u);
}

// A step of training that fails at some allocation, wherever that is, leaves a model that trains on
// as if nothing had been.
TEST(MemoryLimit, AStepMayFailAnywhere) {
  manual_seed(1);
  const Tensor x = randn({256, 64}), t = randn({256, 64});
  const auto build = [] {
    manual_seed(2);
    return nn::make<nn::Sequential>(nn::make<nn::Linear>(64, 512), nn::make<nn::GELU>(),
                                    nn::make<nn::Dropout>(0.1), nn::make<nn::Linear>(512, 64));
  };
  const auto step = [&](nn::Mod<nn::Sequential> model, optim::AdamW& optimizer) {
    optimizer.zero_grad();
    manual_seed(3);
    const Tensor loss = mse_loss(model(x), t);
    loss.backward();
    optimizer.step();
    return loss.item();
  };
  auto plain = build(), tried = build();
  optim::AdamW first(plain->parameters()), second(tried->parameters());
  for (int i = 0; i < 2; ++i) ASSERT_EQ(step(plain, first), step(tried, second));
  step(plain, first);
  second.zero_grad();
  int failed = 0;
  for (std::int64_t room = 64 << 10;; room += 96 << 10) {
    const Limit limit(room);
    try {
      step(tried, second);
      break;
    } catch (const Error& e) {
      ++failed;
      ASSERT_EQ(e.kind(), ErrorKind::memory) << e.what();
      ASSERT_LE(memory_stats().current, memory_limit());
    }
    second.zero_grad();
  }
  EXPECT_GT(failed, 5);
  for (std::size_t i = 0; i < plain->parameters().size(); ++i)
    EXPECT_TRUE(same_bits(plain->parameters()[i], tried->parameters()[i])) << i;
}

TEST(MemoryLimit, HoldsForAllThreads) {
  reset_peak_memory();
  const Limit limit(16 * MB);
  std::atomic<int> refused{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int round = 0; round < 50; ++round) {
        Tensors mine;
        try {
          for (int i = 0; i < 8; ++i) mine.push_back(zeros({MB / 4}));
        } catch (const Error& e) {
          if (e.kind() == ErrorKind::memory) ++refused;
        }
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_GT(refused, 0);
  EXPECT_LE(memory_stats().peak, memory_limit() + 4 * MB + 64 * 1024);
}

}  // namespace
}  // namespace lg::testing
