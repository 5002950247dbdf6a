#include "lightgrad/ops/checkpoint.h"

#include "lightgrad/base/random.h"
#include "lightgrad/ops/autocast.h"

namespace lg::detail {

Ref<autograd::Recompute> recompute(autograd::Recompute::Again f,
                                   const std::vector<Tensor>& inputs) {
  const Generator& now = default_generator();
  auto again = [f = std::move(f), seed = now.seed(), offset = now.offset(),
                dtype = autograd::autocast_dtype](const std::vector<Tensor>& in) {
    Generator& generator = default_generator();
    struct Restore {
      Generator& generator;
      std::uint64_t seed = generator.seed(), offset = generator.offset();
      ~Restore() { generator.set_state(seed, offset); }
    } const restore{generator};
    generator.set_state(seed, offset);
    const autocast::Scope scope(dtype);
    f(in);
  };
  return Ref<autograd::Recompute>::adopt(new autograd::Recompute(std::move(again), inputs));
}

}  // namespace lg::detail
