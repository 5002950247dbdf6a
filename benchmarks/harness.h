// harness.h: what the measuring programs share. A case is a line of words, `gemm form=NT m=768
// n=384 k=128`; each is answered by one line of JSON. The lists of cases live in cases.py, and
// harness.py is the same program for peers that are driven from Python.
//   PROGRAM [--threads N] [--seconds S] CASE ...     measures the cases
//   PROGRAM [--threads N] --once CASE                runs it once, says so and ends
//   PROGRAM --simd AVX2 ...                          without what is newer (SSE4, ...)
//   PROGRAM [--threads N]                            reads `SECONDS CASE` lines until the input
//   ends
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "hwy/targets.h"
#include "lightgrad/base/error.h"
#include "lightgrad/base/parallel.h"

namespace bench {

struct Case {
  std::string kind;
  std::map<std::string, std::string> values;

  explicit Case(const std::string& text) {
    std::istringstream words(text);
    words >> kind;
    for (std::string word; words >> word;) {
      const auto equal = word.find('=');
      if (equal == std::string::npos)
        lg::fail(lg::ErrorKind::value, "case", "expected name=value, got ", word);
      values[word.substr(0, equal)] = word.substr(equal + 1);
    }
  }
  std::string text(const std::string& name) const {
    const auto found = values.find(name);
    if (found == values.end()) lg::fail(lg::ErrorKind::value, kind, "the case lacks ", name, "=");
    return found->second;
  }
  std::string text(const std::string& name, const std::string& otherwise) const {
    return values.contains(name) ? text(name) : otherwise;
  }
  std::int64_t operator[](const std::string& name) const { return std::stoll(text(name)); }
};

// One run of a case. A training step gives its loss; an operation gives 0.
using Run = std::function<double()>;

// Seconds per call, after calls that wake threads and fill caches. A sample of a short case is
// several calls: the clock costs about 25 ns.
struct Times {
  std::vector<double> samples;  // sorted
  int calls = 1;                // in a sample
  double cold = 0;              // the first call
  double first = 0, last = 0;   // losses

  Times(const Run& run, double seconds) {
    using Clock = std::chrono::steady_clock;
    const auto seconds_since = [](Clock::time_point start) {
      return std::chrono::duration<double>(Clock::now() - start).count();
    };
    const auto start = Clock::now();
    first = run();
    cold = seconds_since(start);
    const auto warm = Clock::now();
    do {
      last = run();
    } while (seconds_since(warm) < 0.2 * seconds);
    for (double total = 0; total < seconds || samples.size() < 3;) {
      const auto start = Clock::now();
      for (int i = 0; i < calls; ++i) last = run();
      const double t = seconds_since(start);
      if (t < 10e-6) {
        calls *= 2;
        continue;
      }
      samples.push_back(t / calls);
      total += t;
    }
    std::sort(samples.begin(), samples.end());
  }
  double ms(double quantile) const {
    const double last_index = static_cast<double>(samples.size() - 1);
    return 1e3 * samples[static_cast<std::size_t>(quantile * last_index + 0.5)];
  }
};

// Kernels choose among the SIMD targets as if the machine had no other than this one.
inline void use_simd(const std::string& name) {
  for (std::int64_t rest = hwy::SupportedTargets() & HWY_TARGETS; rest != 0; rest &= rest - 1) {
    const std::int64_t target = rest & -rest;
    if (name != hwy::TargetName(target)) continue;
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    return;
  }
  lg::fail(lg::ErrorKind::value, "--simd", "this machine or build has no ", name);
}

// Whether this word is among the arguments; it is taken out.
inline bool take_flag(int& argc, char** argv, std::string_view flag) {
  char** const end = std::remove_if(argv, argv + argc, [&](const char* a) { return a == flag; });
  const bool found = end != argv + argc;
  argc = static_cast<int>(end - argv);
  return found;
}

// `make` builds what a case says. A case that is asked for again is not built again: its memory is
// warm, as it is in training.
inline int serve(int argc, char** argv, const std::function<Run(const Case&)>& make) {
  double seconds = 0.2;
  bool once = false;
  std::vector<std::string> cases;
  try {
    for (int i = 1; i < argc; ++i) {
      const std::string word = argv[i];
      if (word == "--threads" && i + 1 < argc)
        lg::set_num_threads(std::stoi(argv[++i]));
      else if (word == "--seconds" && i + 1 < argc)
        seconds = std::stod(argv[++i]);
      else if (word == "--simd" && i + 1 < argc)
        use_simd(argv[++i]);
      else if (word == "--once")
        once = true;
      else
        cases.push_back(word);
    }
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 2;
  }
  std::string built;
  Run run;
  const auto answer = [&](const std::string& text) {
    try {
      if (text != built) {
        run = {};
        run = make(Case(text));
        built = text;
      }
      if (once) {
        std::printf("{\"system\": \"lightgrad\", \"case\": \"%s\", \"loss_first\": %.6g}\n",
                    text.c_str(), run());
        std::fflush(stdout);
        return;
      }
      const Times t(run, seconds);
      std::printf(
          "{\"system\": \"lightgrad\", \"case\": \"%s\", \"ms_median\": %.6g, \"ms_min\": %.6g, "
          "\"ms_low\": %.6g, \"ms_high\": %.6g, \"ms_first\": %.6g, \"samples\": %zu, "
          "\"loss_first\": %.6g, \"loss_last\": %.6g}\n",
          text.c_str(), t.ms(0.5), t.ms(0), t.ms(0.25), t.ms(0.75), 1e3 * t.cold, t.samples.size(),
          t.first, t.last);
    } catch (const std::exception& e) {
      std::printf("{\"system\": \"lightgrad\", \"case\": \"%s\", \"error\": \"%s\"}\n",
                  text.c_str(), e.what());
    }
    std::fflush(stdout);
  };
  for (const std::string& text : cases) answer(text);
  if (cases.empty()) {
    for (std::string line; std::getline(std::cin, line);) {
      const auto space = line.find(' ');
      seconds = std::stod(line.substr(0, space));
      answer(line.substr(space + 1));
    }
  }
  return 0;
}

}  // namespace bench
