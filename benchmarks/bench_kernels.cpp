// bench_kernels.cpp: throughput over sizes, dtypes and threads, on google-benchmark. Names are
// kernel/dtype/size/threads; the counters are FLOP or bytes per second, which `make report` sets
// against the machine's peak. --benchmark_filter=gemm and the like choose.
#include <benchmark/benchmark.h>

#include <functional>
#include <string>

#include "lightgrad/lightgrad.h"

using lg::Tensor;

namespace {

struct Kernel {
  std::string name;
  std::vector<std::int64_t> sizes;
  // What is measured at a size, what it computes and what it moves.
  std::function<std::function<Tensor()>(std::int64_t size, lg::DType dtype)> make;
  std::function<double(double size)> flop;
  std::function<double(double size)> elements_moved;
};

// Elements from a first-level cache to main memory.
const std::vector<std::int64_t> lengths = {1 << 10, 1 << 12, 1 << 14, 1 << 16,
                                           1 << 18, 1 << 20, 1 << 22, 1 << 24};
constexpr std::int64_t row = 1024;  // of layer_norm and softmax

Kernel unary(const std::string& name, Tensor (*f)(const Tensor&)) {
  return {name, lengths,
          [f](std::int64_t n, lg::DType dtype) {
            const Tensor x = lg::randn({n / row, row}, dtype);
            return [x, f] { return f(x); };
          },
          nullptr, [](double n) { return 2 * n; }};
}

std::vector<Kernel> kernels() {
  std::vector<Kernel> all;
  const auto square = [](std::int64_t n, lg::DType dtype) {
    const Tensor a = lg::randn({n, n}, dtype), b = lg::randn({n, n}, dtype);
    return std::function<Tensor()>([a, b] { return lg::matmul(a, b); });
  };
  all.push_back({"gemm",
                 {16, 32, 64, 128, 256, 512, 1024, 2048},
                 square,
                 [](double n) { return 2 * n * n * n; },
                 nullptr});
  all.push_back(unary("gelu", [](const Tensor& x) { return lg::gelu(x); }));
  all.push_back(unary("exp", [](const Tensor& x) { return lg::exp(x); }));
  all.push_back(unary("softmax", [](const Tensor& x) { return lg::softmax(x, -1); }));
  all.push_back(
      unary("layer_norm", [](const Tensor& x) { return lg::layer_norm(x, {row}, {}, {}); }));
  all.push_back({"add", lengths,
                 [](std::int64_t n, lg::DType dtype) {
                   const Tensor x = lg::randn({n}, dtype), y = lg::randn({n}, dtype);
                   return std::function<Tensor()>([x, y] { return x + y; });
                 },
                 nullptr, [](double n) { return 3 * n; }});
  all.push_back({"sum", lengths,
                 [](std::int64_t n, lg::DType dtype) {
                   const Tensor x = lg::randn({n}, dtype);
                   return std::function<Tensor()>([x] { return lg::sum(x); });
                 },
                 nullptr, [](double n) { return n; }});
  return all;
}

void measure(benchmark::State& state, const Kernel& kernel, std::int64_t size, lg::DType dtype,
             int threads) {
  lg::set_num_threads(threads);
  lg::NoGrad off;
  const auto run = kernel.make(size, dtype);
  run();
  for (auto _ : state) benchmark::DoNotOptimize(run());
  const auto rate = [&](double per_call) {
    return benchmark::Counter(per_call, benchmark::Counter::kIsIterationInvariantRate);
  };
  const double n = static_cast<double>(size), bytes = static_cast<double>(lg::size_of(dtype));
  if (kernel.flop) state.counters["flops"] = rate(kernel.flop(n));
  if (kernel.elements_moved) state.counters["bytes"] = rate(bytes * kernel.elements_moved(n));
}

}  // namespace

int main(int argc, char** argv) {
  const int most = lg::num_threads();
  for (const Kernel& kernel : kernels()) {
    for (const auto& [dtype, dtype_name] :
         {std::pair{lg::DType::float32, "float32"}, std::pair{lg::DType::float64, "float64"}}) {
      for (const std::int64_t size : kernel.sizes) {
        for (int threads = 1; threads <= most; threads *= 2) {
          const std::string name = kernel.name + "/" + dtype_name +
                                   "/size:" + std::to_string(size) +
                                   "/threads:" + std::to_string(threads);
          benchmark::RegisterBenchmark(name.c_str(), measure, kernel, size, dtype, threads)
              ->UseRealTime();
        }
      }
    }
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
