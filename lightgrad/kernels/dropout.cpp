// dropout.cpp: words for a block of elements at a time, in L1, then one multiplication each.
#include "lightgrad/kernels/dropout.h"

#include <algorithm>

#include "lightgrad/base/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lightgrad/kernels/dropout.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "lightgrad/kernels/philox-inl.h"
#include "lightgrad/kernels/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lg::kernels {
namespace HWY_NAMESPACE {
namespace {

template <class T>
HWY_INLINE void Dropout(const T* x, T* y, std::int64_t begin, std::int64_t end, double p,
                        Stream stream) {
  constexpr std::int64_t block = 1024;
  const Tag<T> d;
  const Keep<T> keep(p);
  HWY_ALIGN std::uint32_t buffer[block + kRandomSlack] = {};
  for (std::int64_t at = begin; at < end; at += block) {
    const std::int64_t length = std::min(block, end - at);
    const std::uint32_t* words =
        RandomWords(stream, static_cast<std::uint64_t>(at), length, buffer);
    EachVector(d, length, [&](int, std::int64_t i, std::int64_t lanes) LIGHTGRAD_LANES {
      StoreLanes(hn::Mul(LoadLanes(d, x + at + i, lanes), keep(words + i)), d, y + at + i, lanes);
    });
  }
}

}  // namespace
void DropoutFloat(const float* x, float* y, std::int64_t begin, std::int64_t end, double p,
                  Stream stream) {
  Dropout(x, y, begin, end, p, stream);
}
void DropoutDouble(const double* x, double* y, std::int64_t begin, std::int64_t end, double p,
                   Stream stream) {
  Dropout(x, y, begin, end, p, stream);
}
}  // namespace HWY_NAMESPACE
}  // namespace lg::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lg::kernels {
HWY_EXPORT(DropoutFloat);
HWY_EXPORT(DropoutDouble);

template <class T> void dropout(const T* x, T* y, std::int64_t n, double p, Stream stream) {
  parallel_for(n, 8192, [&](std::int64_t begin, std::int64_t end) {
    if constexpr (sizeof(T) == sizeof(float)) {
      HWY_DYNAMIC_DISPATCH(DropoutFloat)(x, y, begin, end, p, stream);
    } else {
      HWY_DYNAMIC_DISPATCH(DropoutDouble)(x, y, begin, end, p, stream);
    }
  });
}

template <class T>
void dropout_reference(const T* x, T* y, std::int64_t n, double p, Stream stream) {
  for (std::int64_t i = 0; i < n; ++i) {
    const bool kept = p < 1 && random_word(stream, static_cast<std::uint64_t>(i)) >= p * 0x1p32;
    y[i] = x[i] * (kept ? static_cast<T>(1 / (1 - p)) : T(0));
  }
}

template void dropout(const float*, float*, std::int64_t, double, Stream);
template void dropout(const double*, double*, std::int64_t, double, Stream);
template void dropout_reference(const float*, float*, std::int64_t, double, Stream);
template void dropout_reference(const double*, double*, std::int64_t, double, Stream);

}  // namespace lg::kernels
#endif  // HWY_ONCE
