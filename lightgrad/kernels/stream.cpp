// stream.cpp: whole cache lines, each written once.
#include "lightgrad/kernels/stream.h"

#include <algorithm>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lightgrad/kernels/stream.cpp"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lg::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// `lines` of 64 bytes; `to` is aligned to one.
void StreamLines(std::uint8_t* to, const std::uint8_t* from, std::int64_t lines) {
  const hn::CappedTag<std::uint8_t, 64> d;
  for (std::int64_t i = 0; i < lines * 64; i += static_cast<std::int64_t>(hn::Lanes(d)))
    hn::Stream(hn::LoadU(d, from + i), d, to + i);
}

}  // namespace HWY_NAMESPACE
}  // namespace lg::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lg::kernels {
HWY_EXPORT(StreamLines);

void stream_copy(void* to, const void* from, std::int64_t bytes) {
  auto* out = static_cast<std::uint8_t*>(to);
  const auto* in = static_cast<const std::uint8_t*>(from);
  const auto misaligned = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(out) % 64);
  const std::int64_t head = std::min(bytes, (64 - misaligned) % 64), lines = (bytes - head) / 64;
  std::memcpy(out, in, static_cast<std::size_t>(head));
  HWY_DYNAMIC_DISPATCH(StreamLines)(out + head, in + head, lines);
  const std::int64_t done = head + lines * 64;
  std::memcpy(out + done, in + done, static_cast<std::size_t>(bytes - done));
}

void stream_fence() { hwy::FlushStream(); }

}  // namespace lg::kernels
#endif  // HWY_ONCE
