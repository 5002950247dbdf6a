// peak.h: kernels that do nothing but keep one part of the machine busy, to measure what it can do.
#pragma once

#include <cstdint>
#include <string>

namespace lg::kernels {

// `rounds` rounds of independent float32 multiply-adds in registers, on this thread, which start at
// `values` and leave their sums there. Gives the number of floating-point operations done.
inline constexpr int peak_fma_values = 12;
double peak_fma(std::int64_t rounds, float* values);
// The sum of x, on this thread: n * 4 bytes read.
float peak_read(const float* x, std::int64_t n);
// y = 2 x + y, on this thread: n * 12 bytes read and written.
void peak_update(const float* x, float* y, std::int64_t n);
// The instruction set that kernels chose.
const char* simd_target();

}  // namespace lg::kernels
