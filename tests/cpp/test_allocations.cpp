// test_allocations.cpp: a steady training step asks the system for no memory.
#include "lightgrad/base/memory.h"
#include "tests/cpp/tensor_testing.h"

namespace lg::testing {
namespace {

TEST(Allocations, ASteadyStepAsksTheSystemForNothing) {
  const Tensor x = to(uniform({64, 100}, -1, 1, 1), DType::float32),
               target = integers({64}, 0, 10, 2);
  const Tensors parameters{to(uniform({128, 100}, -0.1, 0.1, 3), DType::float32), zeros({128}),
                           to(uniform({10, 128}, -0.1, 0.1, 4), DType::float32), zeros({10})};
  for (const Tensor& p : parameters) p.set_requires_grad();
  auto step = [&] {
    const Tensor hidden = relu(linear(x, parameters[0], parameters[1]));
    const Tensor loss = cross_entropy(linear(hidden, parameters[2], parameters[3]), target);
    loss.backward();
    NoGrad off;
    for (const Tensor& p : parameters) {
      sub_(p, p.grad() * 0.1);
      p.zero_grad();
    }
    return loss.item();
  };
  const KeepThreads keep;
  set_num_threads(1);
  const double first = step();
  for (int i = 0; i < 5; ++i) step();
  const MemoryStats before = memory_stats();
  double last = 0;
  for (int i = 0; i < 50; ++i) last = step();
  const MemoryStats after = memory_stats();
  EXPECT_EQ(after.system_allocations, before.system_allocations);
  EXPECT_EQ(after.current, before.current);
  EXPECT_GT(after.allocations, before.allocations);
  EXPECT_LT(last, first);

  // Several threads warm up when chance first gives each its piece; then it is the same.
  set_num_threads(4);
  bool settled = false;
  for (int round = 0; round < 50 && !settled; ++round) {
    const std::int64_t asked = memory_stats().system_allocations;
    for (int i = 0; i < 20; ++i) step();
    settled = memory_stats().system_allocations == asked;
  }
  EXPECT_TRUE(settled);
}

}  // namespace
}  // namespace lg::testing
