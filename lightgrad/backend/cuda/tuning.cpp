// tuning.cpp: time on the device, and by it the fastest of a kernel's variants.
#include <algorithm>
#include <cmath>
#include <utility>

#include "lightgrad/backend/cuda/gpu.h"

namespace lg::cuda {

void Gpu::start_tuning() {
  const std::lock_guard lock(kernel_mutex_);
  winners_.clear();
  tuning_ = true;
}

std::vector<Winner> Gpu::stop_tuning() {
  const std::lock_guard lock(kernel_mutex_);
  tuning_ = false;
  return std::exchange(winners_, {});
}

const Variant* Gpu::fastest(const Bundle& b, const Variant& first,
                            std::span<const Argument> arguments) {
  const std::vector<std::int64_t> sizes = first.sizes(arguments);
  const std::span<const Variant> all = b.variants(first.kernel);
  {
    const std::lock_guard lock(kernel_mutex_);
    for (const Winner& t : winners_) {
      if (t.instead_of != first.cubin || t.sizes != sizes) continue;
      for (const Variant& v : all)
        if (v.cubin == t.take && v.fits(arguments)) return &v;
      return &first;  // what won at a neighbouring size does not take these
    }
  }
  std::vector<const Variant*> candidates;
  for (const Variant& v : all)
    if (runs_cubin(v) && v.fits(arguments)) candidates.push_back(&v);
  if (candidates.size() < 2) return &first;

  // Rounds of all candidates in turns, each of about a millisecond; of each its quickest round.
  const auto milliseconds_of = [&](const Variant& v, int launches) {
    const Handle from = mark();
    for (int i = 0; i < launches; ++i) queue(b, v, arguments);
    const Handle to = mark();
    const double ms = milliseconds(from, to) / launches;
    forget(from);
    forget(to);
    return ms;
  };
  constexpr int rounds = 5;
  std::vector<int> launches;
  for (const Variant* v : candidates) {
    queue(b, *v, arguments);  // loads its code
    launches.push_back(static_cast<int>(std::clamp(1 / milliseconds_of(*v, 1), 1.0, 50.0)));
  }
  std::vector<double> least(candidates.size(), HUGE_VAL);
  for (int round = 0; round < rounds; ++round)
    for (std::size_t i = 0; i < candidates.size(); ++i)
      least[i] = std::min(least[i], milliseconds_of(*candidates[i], launches[i]));

  const auto at = std::find(candidates.begin(), candidates.end(), &first) - candidates.begin();
  std::size_t best = static_cast<std::size_t>(at);
  const double before = least[best];
  constexpr double worth = .98;  // what is less than noise decides nothing
  for (std::size_t i = 0; i < candidates.size(); ++i)
    if (least[i] < std::min(least[best], worth * before)) best = i;
  const std::lock_guard lock(kernel_mutex_);
  winners_.push_back(
      {first.kernel, first.cubin, candidates[best]->cubin, sizes, before, least[best]});
  return candidates[best];
}

Handle Gpu::mark() {
  use();
  Handle event = nullptr;
  LG_CUDA(cuEventCreate, &event, 0);
  LG_CUDA(cuEventRecord, event, stream_);
  return event;
}

double Gpu::milliseconds(Handle from, Handle to) {
  use();
  LG_CUDA(cuEventSynchronize, to);
  float ms = 0;
  LG_CUDA(cuEventElapsedTime, &ms, from, to);
  return ms;
}

void Gpu::forget(Handle mark) noexcept { driver().cuEventDestroy_v2(mark); }

}  // namespace lg::cuda
