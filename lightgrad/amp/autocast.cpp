#include "lightgrad/amp/autocast.h"

#include <atomic>
#include <iostream>

#include "lightgrad/ops/autocast.h"

namespace lg::amp {

std::string why_slow(DType dtype) {
  if (dtype == DType::float16) {
    return "float16 is widened to float32 for every product: it saves memory, not time";
  }
  if (autocast::has_bf16_products()) return {};
  return "this CPU has no bfloat16 products (AVX512_BF16): bfloat16 is widened to float32 for each "
         "of them, which saves memory, not time";
}

namespace detail {

DType enter(DType dtype, bool enabled) {
  if (!is_half(dtype)) {
    fail(ErrorKind::type, "autocast", "dtype is ", name_of(dtype),
         ", expected bfloat16 or float16");
  }
  return autocast::enter(enabled ? dtype : DType::float32);
}

void leave(DType before) { autocast::leave(before); }

}  // namespace detail

Autocast::Autocast(DType dtype, bool enabled) : before_(detail::enter(dtype, enabled)) {
  static std::atomic<bool> said{false};
  if (!enabled || said.load(std::memory_order_relaxed)) return;
  if (const std::string why = why_slow(dtype); !why.empty() && !said.exchange(true))
    std::cerr << "lightgrad: autocast: " << why << '\n';
}
Autocast::~Autocast() { detail::leave(before_); }

bool is_autocast_enabled() { return autograd::autocast_dtype != DType::float32; }
DType autocast_dtype() { return autograd::autocast_dtype; }

}  // namespace lg::amp
