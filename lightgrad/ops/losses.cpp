// losses.cpp: cross_entropy, nll_loss and mse_loss.
#include <cmath>

#include "lightgrad/ops/creation.h"
#include "lightgrad/ops/float_kernels.h"
#include "lightgrad/ops/neural.h"
#include "lightgrad/ops/run.h"

namespace lg::ops {
namespace {

Tensor reduce_loss(const Tensor& loss, const std::string& reduction, std::string_view name) {
  if (reduction == "none") return loss;
  if (reduction == "sum") return sum(loss);
  if (reduction == "mean") return mean(loss);
  fail(ErrorKind::value, name, "reduction is \"", reduction,
       "\", expected \"mean\", \"sum\" or \"none\"");
}

}  // namespace

Tensor CrossEntropyRows::forward(const Tensor& logits, const Tensor& target, const Tensor& weight) {
  if (logits.rank() != 2)
    fail(ErrorKind::value, "cross_entropy", "logits have shape ", logits.shape(),
         ", expected [rows, classes]");
  const std::int64_t rows = logits.shape()[0], n = logits.shape()[1];
  if (!(target.shape() == Shape{rows})) {
    fail(ErrorKind::value, "cross_entropy", "target has shape ", target.shape(), ", expected [",
         rows, "] (logits ", logits.shape(), ")");
  }
  if (target.dtype() != DType::int64) {
    fail(ErrorKind::type, "cross_entropy", "target is ", target.describe(),
         ", expected int64 class indices");
  }
  if (weight.defined() && !(weight.shape() == Shape{n} && weight.dtype() == logits.dtype())) {
    fail(ErrorKind::value, "cross_entropy", "weight is ", weight.describe(), ", expected ",
         name_of(logits.dtype()), " [", n, "]");
  }
  const Tensor x = logits.contiguous_data(), t = target.contiguous_data();
  const auto* p = t.data<std::int64_t>();
  for (std::int64_t i = 0; i < rows; ++i) {
    if (p[i] != ignore_index && (p[i] < 0 || p[i] >= n)) {
      fail(ErrorKind::index, "cross_entropy", "target ", p[i], " at row ", i,
           " is out of range for ", n, " classes, expected 0 to ", n - 1, " (or ignore_index ",
           ignore_index, ")");
    }
  }
  Tensor loss = Tensor::empty({rows}, logits.dtype());
  logsumexp = Tensor::empty({rows}, logits.dtype());
  const Tensor w = weight.defined() ? weight.contiguous_data() : weight;
  with_floats(logits, "cross_entropy", [&]<class T>(const auto& k, T) {
    k.cross_entropy_forward(
        {x.data<T>(), p, rows, n, data_or_null<T>(w), ignore_index, label_smoothing},
        loss.data<T>(), logsumexp.data<T>());
  });
  return loss;
}

void CrossEntropyRows::backward(const Tensor& g, const Tensor* in, const Tensor&, Wanted wanted,
                                Gradients out) const {
  if (!(wanted & 1)) return;
  const Tensor x = in[0].contiguous_data(), t = in[1].contiguous_data(),
               w = in[2].defined() ? in[2].contiguous_data() : in[2], c = g.contiguous_data();
  out[0] = Tensor::empty(x.shape(), x.dtype());
  with_floats(x, "cross_entropy", [&]<class T>(const auto& k, T) {
    k.cross_entropy_backward({x.data<T>(), t.data<std::int64_t>(), x.shape()[0], x.shape()[1],
                              data_or_null<T>(w), ignore_index, label_smoothing},
                             c.data<T>(), logsumexp.data<T>(), out[0].data<T>());
  });
}

Tensor CrossEntropyRows::composite(const Tensor& logits, const Tensor& target,
                                   const Tensor& weight) const {
  const auto n = static_cast<double>(logits.shape()[1]);
  Tensor lp = -log_softmax(logits, -1), ignored = target == ignore_index;
  Tensor safe = where(ignored, 0, target);
  Tensor picked = squeeze(gather(lp, 1, unsqueeze(safe, 1)), 1);
  if (weight.defined()) {
    picked = picked * index_select(weight, 0, safe);
    lp = lp * weight;
  }
  Tensor loss = picked;
  if (label_smoothing != 0)
    loss = (1 - label_smoothing) * picked + (label_smoothing / n) * sum(lp, -1);
  return where(ignored, 0, loss);
}

namespace {

// [N, C, d...] and [N, d...] as rows: classes last.
Tensor class_rows(const Tensor& x) {
  if (x.rank() <= 2) return x.rank() == 1 ? unsqueeze(x, 0) : x;
  Shape order{0};
  for (int i = 2; i < x.rank(); ++i) order.push_back(i);
  order.push_back(1);
  return as_rows(permute(x, order));
}

void check_target_shape(const Tensor& x, const Tensor& target, std::string_view name) {
  Shape wanted;
  for (int i = 0; i < x.rank(); ++i)
    if (i != (x.rank() == 1 ? 0 : 1)) wanted.push_back(x.shape()[i]);
  if (x.rank() == 0 || !(target.shape() == wanted)) {
    fail(ErrorKind::value, name, "target has shape ", target.shape(), ", expected ", wanted,
         " for logits ", x.shape());
  }
}

// The mean over what was not ignored, weighted.
Tensor weighted_mean(const Tensor& loss, const Tensor& target, const Tensor& weight,
                     std::int64_t ignore_index) {
  Tensor counted;
  {
    NoGrad off;
    Tensor used = target != ignore_index;
    if (weight.defined()) {
      Tensor w = index_select(weight, 0, where(used, target, 0));
      counted = sum(where(used, w, 0));
    } else {
      counted = to(sum(used), loss.dtype());
    }
  }
  return sum(loss) / counted;
}

}  // namespace

Tensor CrossEntropy::forward(const Tensor& logits, const Tensor& target,
                             const Tensor& weight) const {
  if (!(label_smoothing >= 0 && label_smoothing <= 1)) {
    fail(ErrorKind::value, "cross_entropy", "label_smoothing is ", label_smoothing,
         ", expected 0 to 1");
  }
  if (is_floating(target.dtype())) {  // probabilities
    if (!(target.shape() == logits.shape())) {
      fail(ErrorKind::value, "cross_entropy", "target probabilities have shape ", target.shape(),
           ", expected the logits' ", logits.shape());
    }
    Tensor x = class_rows(logits), p = class_rows(target);
    if (label_smoothing > 0)
      p = p * (1 - label_smoothing) + label_smoothing / static_cast<double>(x.size(-1));
    Tensor lp = log_softmax(x, -1);
    if (weight.defined()) lp = lp * weight;
    Tensor loss = -sum(lp * p, -1);
    if (reduction == "mean") return sum(loss) / static_cast<double>(loss.numel());
    if (reduction == "none") {
      Shape shape = logits.shape();
      shape.erase(logits.rank() == 1 ? 0 : 1);
      return reshape(loss, shape);
    }
    return reduce_loss(loss, reduction, "cross_entropy");
  }
  check_target_shape(logits, target, "cross_entropy");
  Tensor ids = reshape(target.dtype() == DType::int64 ? target : to(target, DType::int64), {-1});
  Tensor loss = run(make_op<CrossEntropyRows>(ignore_index, label_smoothing), class_rows(logits),
                    ids, weight);
  if (reduction == "mean") return weighted_mean(loss, ids, weight, ignore_index);
  if (reduction == "none") return reshape(loss, target.shape());
  return reduce_loss(loss, reduction, "cross_entropy");
}

Tensor NllLoss::forward(const Tensor& x, const Tensor& target, const Tensor& weight) const {
  check_target_shape(x, target, "nll_loss");
  if (target.dtype() != DType::int64) {
    fail(ErrorKind::type, "nll_loss", "target is ", target.describe(),
         ", expected int64 class indices");
  }
  Tensor rows = class_rows(x), ids = reshape(target, {-1}), ignored = ids == ignore_index;
  Tensor safe = where(ignored, 0, ids);
  Tensor loss = -squeeze(gather(rows, 1, unsqueeze(safe, 1)), 1);
  if (weight.defined()) loss = loss * index_select(weight, 0, safe);
  loss = where(ignored, 0, loss);
  if (reduction == "mean") return weighted_mean(loss, ids, weight, ignore_index);
  if (reduction == "none") return reshape(loss, target.shape());
  return reduce_loss(loss, reduction, "nll_loss");
}

Tensor MseLoss::forward(const Tensor& x, const Tensor& target) const {
  return reduce_loss(square(x - target), reduction, "mse_loss");
}

}  // namespace lg::ops
