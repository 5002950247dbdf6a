#include "lightgrad/ops/checkpoint.h"

#include "lightgrad/base/random.h"
#include "lightgrad/ops/autocast.h"

namespace lg::detail {
namespace {
thread_local int running_again = 0;
}

bool recomputing() { return running_again > 0; }

Ref<autograd::Recompute> recompute(autograd::Recompute::Again f,
                                   const std::vector<Tensor>& inputs) {
  const Generator& now = default_generator();
  auto again = [f = std::move(f), seed = now.seed(), offset = now.offset(),
                dtype = autograd::autocast_dtype](const std::vector<Tensor>& in) {
    Generator& generator = default_generator();
    struct Restore {
      Generator& generator;
      std::uint64_t seed = generator.seed(), offset = generator.offset();
      ~Restore() {
        generator.set_state(seed, offset);
        --running_again;
      }
    } const restore{generator};
    ++running_again;
    generator.set_state(seed, offset);
    const autocast::Scope scope(dtype);
    f(in);
  };
  return Ref<autograd::Recompute>::adopt(new autograd::Recompute(std::move(again), inputs));
}

}  // namespace lg::detail
