#include "lightgrad/kernels/peak.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lightgrad/kernels/peak.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lg::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

double Fma(std::int64_t rounds, float* values) {
  const hn::ScalableTag<float> d;
  // Two multiply-add units of at most 5 cycles want 10 results under way; with the two operands
  // that is what the 16 registers of AVX2 hold. Where they start is read from memory, or the
  // compiler would find that some are the same.
  static_assert(peak_fma_values == 12);
  const auto half = hn::Set(d, 0.5f), one = hn::Set(d, 1.0f);
  auto a = hn::Set(d, values[0]), b = hn::Set(d, values[1]), c = hn::Set(d, values[2]),
       e = hn::Set(d, values[3]), f = hn::Set(d, values[4]), g = hn::Set(d, values[5]),
       h = hn::Set(d, values[6]), i = hn::Set(d, values[7]), j = hn::Set(d, values[8]),
       k = hn::Set(d, values[9]), l = hn::Set(d, values[10]), m = hn::Set(d, values[11]);
  for (std::int64_t round = 0; round < rounds; ++round) {  // each x -> x / 2 + 1, towards 2
    a = hn::MulAdd(a, half, one);
    b = hn::MulAdd(b, half, one);
    c = hn::MulAdd(c, half, one);
    e = hn::MulAdd(e, half, one);
    f = hn::MulAdd(f, half, one);
    g = hn::MulAdd(g, half, one);
    h = hn::MulAdd(h, half, one);
    i = hn::MulAdd(i, half, one);
    j = hn::MulAdd(j, half, one);
    k = hn::MulAdd(k, half, one);
    l = hn::MulAdd(l, half, one);
    m = hn::MulAdd(m, half, one);
  }
  int n = 0;
  for (const auto v : {a, b, c, e, f, g, h, i, j, k, l, m})
    values[n++] = hn::GetLane(hn::SumOfLanes(d, v));
  return 12.0 * 2 * static_cast<double>(hn::Lanes(d)) * static_cast<double>(rounds);
}

float Read(const float* x, std::int64_t n) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  auto a = hn::Zero(d), b = a, c = a, e = a;
  std::int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    a = hn::Add(a, hn::LoadU(d, x + i));
    b = hn::Add(b, hn::LoadU(d, x + i + lanes));
    c = hn::Add(c, hn::LoadU(d, x + i + 2 * lanes));
    e = hn::Add(e, hn::LoadU(d, x + i + 3 * lanes));
  }
  float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(a, b), hn::Add(c, e))));
  for (; i < n; ++i) sum += x[i];
  return sum;
}

void Update(const float* x, float* y, std::int64_t n) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto two = hn::Set(d, 2.0f);
  std::int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    const auto first = hn::MulAdd(hn::LoadU(d, x + i), two, hn::LoadU(d, y + i));
    const auto second = hn::MulAdd(hn::LoadU(d, x + i + lanes), two, hn::LoadU(d, y + i + lanes));
    hn::StoreU(first, d, y + i);
    hn::StoreU(second, d, y + i + lanes);
  }
  for (; i < n; ++i) y[i] = 2 * x[i] + y[i];
}

const char* TargetName() { return hwy::TargetName(HWY_TARGET); }

}  // namespace HWY_NAMESPACE
}  // namespace lg::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lg::kernels {
HWY_EXPORT(Fma);
HWY_EXPORT(Read);
HWY_EXPORT(Update);
HWY_EXPORT(TargetName);

double peak_fma(std::int64_t rounds, float* values) {
  return HWY_DYNAMIC_DISPATCH(Fma)(rounds, values);
}
float peak_read(const float* x, std::int64_t n) { return HWY_DYNAMIC_DISPATCH(Read)(x, n); }
void peak_update(const float* x, float* y, std::int64_t n) {
  HWY_DYNAMIC_DISPATCH(Update)(x, y, n);
}
const char* simd_target() { return HWY_DYNAMIC_DISPATCH(TargetName)(); }

}  // namespace lg::kernels
#endif  // HWY_ONCE
