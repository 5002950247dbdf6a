// peak.h: what this machine can do, measured.
#pragma once

#include <string>

namespace lg::profiler {

struct Peak {
  double flops = 0;         // float32 multiply-adds a second, each counted as two
  double memory = 0;        // bytes a second from or to main memory
  double cache = 0;         // bytes a second while the data fits the cores' own caches
  int threads = 1;          // that took part: num_threads()
  std::string simd_target;  // that the kernels chose: "AVX3", ...
};

// Takes half a second to a second, and 256 MiB. The best of several short runs, since whatever else
// the machine does only slows it down.
Peak measure_peak();
// The same, measured once in the process for each number of threads.
Peak measured_peak();

}  // namespace lg::profiler
