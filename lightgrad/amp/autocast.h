// autocast.h: mixed precision for a scope: amp::Autocast half(DType::bfloat16); products run in
// half precision, sums and losses in float32 (ops/autocast.h has the table). Weights stay float32.
#pragma once

#include <string>

#include "lightgrad/autograd/node.h"

namespace lg::amp {

// Scopes nest, and belong to their thread; an inner one with enabled = false turns autocast off.
// Gradients need no scope: they run in the dtypes of the forward pass. The first scope whose dtype
// is slower than float32 on this machine says so on stderr, once.
class Autocast {
 public:
  // TypeError unless dtype is bfloat16 or float16.
  explicit Autocast(DType dtype = DType::bfloat16, bool enabled = true);
  ~Autocast();
  Autocast(const Autocast&) = delete;

 private:
  DType before_;
};

bool is_autocast_enabled();  // on this thread
DType autocast_dtype();      // float32 where it is off

// Why half precision of this dtype is slower than float32 on this machine; empty where it is not.
std::string why_slow(DType dtype);

namespace detail {
// The scope's two ends, for languages without destructors. enter returns what leave wants.
DType enter(DType dtype, bool enabled);
void leave(DType before);
}  // namespace detail

}  // namespace lg::amp
