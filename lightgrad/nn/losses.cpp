#include "lightgrad/nn/losses.h"

#include "lightgrad/ops/ops.h"

namespace lg::nn {

namespace {
std::string checked_reduction(std::string reduction, std::string_view loss) {
  if (reduction != "mean" && reduction != "sum" && reduction != "none") {
    fail(ErrorKind::value, loss, "reduction is \"", reduction,
         "\", expected \"mean\", \"sum\" or \"none\"");
  }
  return reduction;
}
}  // namespace

MSELoss::MSELoss(std::string how) : reduction(checked_reduction(std::move(how), "MSELoss")) {}
Tensor MSELoss::forward(const Tensor& x, const Tensor& target) const {
  return lg::mse_loss(x, target, reduction);
}

CrossEntropyLoss::CrossEntropyLoss(Tensor class_weight, std::int64_t ignored, std::string how,
                                   double smoothing)
    : weight(this, "weight", std::move(class_weight)),
      ignore_index(ignored),
      reduction(checked_reduction(std::move(how), "CrossEntropyLoss")),
      label_smoothing(smoothing) {
  if (!(smoothing >= 0 && smoothing <= 1)) {
    fail(ErrorKind::value, "CrossEntropyLoss", "label_smoothing is ", smoothing,
         ", expected a share in [0, 1]");
  }
}
Tensor CrossEntropyLoss::forward(const Tensor& logits, const Tensor& target) const {
  return lg::cross_entropy(logits, target, weight, ignore_index, reduction, label_smoothing);
}

NLLLoss::NLLLoss(Tensor class_weight, std::int64_t ignored, std::string how)
    : weight(this, "weight", std::move(class_weight)),
      ignore_index(ignored),
      reduction(checked_reduction(std::move(how), "NLLLoss")) {}
Tensor NLLLoss::forward(const Tensor& x, const Tensor& target) const {
  return lg::nll_loss(x, target, weight, ignore_index, reduction);
}

}  // namespace lg::nn
