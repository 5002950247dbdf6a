// losses.h: losses as modules: loss(prediction, target). `reduction` is "mean", "sum" or "none".
#pragma once

#include "lightgrad/nn/members.h"

namespace lg::nn {

struct MSELoss : Module {
  std::string reduction;
  explicit MSELoss(std::string reduction = "mean");
  Tensor forward(const Tensor& x, const Tensor& target) const;
};

// logits [N, C, ...], target: class ids [N, ...] or probabilities [N, C, ...]; weight [C] or
// undefined.
struct CrossEntropyLoss : Module {
  Buffer weight;
  std::int64_t ignore_index;
  std::string reduction;
  double label_smoothing;
  explicit CrossEntropyLoss(Tensor weight = {}, std::int64_t ignore_index = -100,
                            std::string reduction = "mean", double label_smoothing = 0);
  Tensor forward(const Tensor& logits, const Tensor& target) const;
};

// Log-probabilities x [N, C, ...], target: class ids [N, ...]; weight [C] or undefined.
struct NLLLoss : Module {
  Buffer weight;
  std::int64_t ignore_index;
  std::string reduction;
  explicit NLLLoss(Tensor weight = {}, std::int64_t ignore_index = -100,
                   std::string reduction = "mean");
  Tensor forward(const Tensor& x, const Tensor& target) const;
};

}  // namespace lg::nn
