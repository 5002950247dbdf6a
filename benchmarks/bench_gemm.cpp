// Matrix products of GPT and MLP training: GF/s and the share of the measured FMA peak.
// bench_gemm [threads] [seconds per shape]: minimum and median over repetitions; each shape alone,
// operands warm.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "lightgrad/base/parallel.h"
#include "lightgrad/kernels/gemm.h"

using lg::kernels::Gemm;

namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Time {
  double minimum, median;
};

template <class F> Time time_of(double seconds, F&& f) {
  f();
  std::vector<double> times;
  double total = 0;
  int calls = 1;
  while (total < seconds || times.size() < 5) {
    const double start = now();
    for (int i = 0; i < calls; ++i) f();
    const double t = now() - start;
    if (t < 20e-6) {  // too short for the clock
      calls *= 2;
      continue;
    }
    times.push_back(t / calls);
    total += t;
  }
  std::sort(times.begin(), times.end());
  return {times.front(), times[times.size() / 2]};
}

struct Shape {
  std::int64_t m, n, k;
};

enum Form { nn, nt, tn };
constexpr const char* names[] = {"NN", "NT", "TN"};

void measure(Form form, Shape s, double seconds) {
  const auto fill = [](std::int64_t n) {
    std::vector<float> v(n);
    unsigned x = 1;
    for (auto& e : v) e = float(int((x = x * 1664525u + 1013904223u) >> 16) - 32768) / 32768.f;
    return v;
  };
  const auto a = fill(s.m * s.k), b = fill(s.k * s.n);
  std::vector<float> c(s.m * s.n);
  Gemm<float> g{.m = s.m,
                .n = s.n,
                .k = s.k,
                .a = a.data(),
                .a_row = s.k,
                .a_col = 1,
                .b = b.data(),
                .b_row = s.n,
                .b_col = 1,
                .c = c.data(),
                .c_row = s.n};
  if (form == nt) {
    g.b_row = 1;
    g.b_col = s.k;
  } else if (form == tn) {
    g.a_row = 1;
    g.a_col = s.m;
  }
  const Time t = time_of(seconds, [&] { lg::kernels::gemm(g); });
  const double flop = 2e-9 * double(s.m) * double(s.n) * double(s.k);
  std::printf("%s %5ld %5ld %5ld  %10.2f us  %7.1f GF/s  median %7.1f\n", names[form], long(s.m),
              long(s.n), long(s.k), t.minimum * 1e6, flop / t.minimum, flop / t.median);
}

}  // namespace

int main(int argc, char** argv) {
  lg::set_num_threads(argc > 1 ? std::atoi(argv[1]) : lg::num_threads());
  const double seconds = argc > 2 ? std::atof(argv[2]) : 0.1;
  std::printf("%d threads\n", lg::num_threads());

  // A layer y[rows, out] = x[rows, in] W^T: forward is NT, its input gradient NN, its weight
  // gradient TN.
  struct {
    std::int64_t rows, in, out;
  } const layers[] = {{768, 128, 384},   {768, 128, 128},   {768, 128, 512},  {768, 512, 128},
                      {768, 128, 65},    {2048, 384, 1152}, {2048, 384, 384}, {2048, 384, 1536},
                      {2048, 1536, 384}, {2048, 384, 65},   {128, 784, 512},  {128, 512, 512},
                      {128, 512, 10}};
  for (auto [rows, in, out] : layers) {
    measure(nt, {rows, out, in}, seconds);
    measure(nn, {rows, in, out}, seconds);
    measure(tn, {out, in, rows}, seconds);
  }
  for (std::int64_t n : {1, 4, 16, 64, 256, 1024}) measure(nn, {n, n, n}, seconds);
  for (Form f : {nn, nt}) {
    measure(f, {2, 16, 16}, seconds);
    measure(f, {1, 512, 512}, seconds);
    measure(f, {512, 1, 512}, seconds);
  }
  struct {
    std::int64_t m, n, k;
  } const heads[] = {{64, 64, 32}, {64, 32, 64}};
  for (Form f : {nn, nt, tn}) {  // 48 heads of attention
    for (auto [m, n, k] : heads) {
      std::vector<float> a(48 * m * k, 1.f), b(48 * k * n, 1.f), c(48 * m * n);
      std::vector<std::int64_t> oa, ob, oc;
      for (std::int64_t i = 0; i < 48; ++i) {
        oa.push_back(i * m * k);
        ob.push_back(i * k * n);
        oc.push_back(i * m * n);
      }
      Gemm<float> g{.m = m,
                    .n = n,
                    .k = k,
                    .a = a.data(),
                    .a_row = f == tn ? 1 : k,
                    .a_col = f == tn ? m : 1,
                    .b = b.data(),
                    .b_row = f == nt ? 1 : n,
                    .b_col = f == nt ? k : 1,
                    .c = c.data(),
                    .c_row = n};
      const Time t = time_of(
          seconds, [&] { lg::kernels::gemm_batched(g, 48, oa.data(), ob.data(), oc.data()); });
      std::printf("%s 48 of %ld %ld %ld  %10.2f us  %7.1f GF/s\n", names[f], long(m), long(n),
                  long(k), t.minimum * 1e6, 48 * 2e-9 * double(m * n * k) / t.minimum);
    }
  }
}
