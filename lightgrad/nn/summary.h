// summary.h: what a model consists of and what it costs, layer by layer, seen while it runs once.
//   std::puts(lg::summary(model, images).to_string().c_str());
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "lightgrad/nn/members.h"

namespace lg {

struct Summary {
  // A module with all that is below it; a module that stands in several places stands at the first.
  struct Layer {
    std::string path, type;       // "blocks.0.conv1", "Conv2d"; the model itself has no path
    int depth = 0;                // of the model: 0
    std::optional<Shape> output;  // none when it was not called, or gave no single tensor
    std::int64_t parameters = 0;  // elements, shared ones once
    double flops = 0;             // by the operations' own rules, see docs/profiling.md
    std::int64_t kept = 0;        // bytes allocated after its calls beyond those before: what it
                                  // gives, and what the backward pass will need
  };
  std::vector<Layer> layers;  // parents first; the model itself comes first
  std::int64_t trained = 0;   // parameters that want a gradient, in elements
  std::int64_t bytes = 0;     // of the parameters
  std::int64_t peak = 0;      // bytes allocated at the most, beyond those before the model ran

  // A table down to `depth` levels below the model (0: all).
  std::string to_string(int depth = 0) const;
};

namespace detail {
Summary summarize(nn::Module& model, const std::function<void()>& run);
}

// Runs model(inputs...) once, in its own mode. Afterwards its buffers and the default generator are
// as they were. Without gradients (NoGrad) layers keep no more than what they give.
template <class T, class... A> Summary summary(const nn::Mod<T>& model, const A&... inputs) {
  if (!model) nn::fail_missing_module();
  std::optional<decltype(model(inputs...))> result;  // lives to the end: it is kept, too
  return detail::summarize(*model, [&] { result.emplace(model(inputs...)); });
}

}  // namespace lg
