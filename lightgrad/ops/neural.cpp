// neural.cpp: softmax, layer_norm, embedding, dropout and the losses. Attention has a file of its own.
#include "lightgrad/ops/neural.h"

#include <cmath>

#include "lightgrad/backend/backend.h"
#include "lightgrad/ops/creation.h"
#include "lightgrad/ops/ops.h"
#include "lightgrad/ops/run.h"

namespace lg::ops {
namespace {

// Calls f(kernels, T{}) for float32 or float64; TypeError for anything else.
template <class F>
void with_floats(const Tensor& x, std::string_view name, F&& f) {
  const Backend& b = backend(x.device());
  if (x.dtype() == DType::float32) f(b.float32, float{});
  else if (x.dtype() == DType::float64) f(b.float64, double{});
  else fail(ErrorKind::type, name, "x is ", x.describe(), ", expected a floating-point dtype");
}

struct Rows {
  std::int64_t rows, n;
  explicit Rows(const Shape& s) : n(s.rank() ? s.back() : 1) {
    rows = 1;
    for (int i = 0; i + 1 < s.rank(); ++i) rows *= s[i];
  }
};

template <class T>
const T* data_or_null(const Tensor& t) {
  return t.defined() ? t.data<T>() : nullptr;
}

void check_probability(double p, std::string_view name) {
  if (!(p >= 0 && p <= 1)) fail(ErrorKind::value, name, "p is ", p, ", expected a probability from 0 to 1");
}

// A row-wise operation along any dimension: the dimension goes last and back.
template <class F>
Tensor along_last(const Tensor& x, std::int64_t dim, std::string_view name, F&& f) {
  const int d = normalize_axis(dim, x.rank(), name);
  if (!is_floating(x.dtype())) fail(ErrorKind::type, name, "x is ", x.describe(), ", expected a floating-point dtype");
  if (x.rank() == 0) return reshape(f(reshape(x, {1})), {});
  return d == x.rank() - 1 ? f(x) : transpose(f(transpose(x, d, -1)), d, -1);
}

Tensor reduce_loss(const Tensor& loss, const std::string& reduction, std::string_view name) {
  if (reduction == "none") return loss;
  if (reduction == "sum") return sum(loss);
  if (reduction == "mean") return mean(loss);
  fail(ErrorKind::value, name, "reduction is \"", reduction, "\", expected \"mean\", \"sum\" or \"none\"");
}

}  // namespace

Tensor Gelu::forward(const Tensor& x) const {
  if (approximate == "none") return gelu_erf(x);
  if (approximate == "tanh") return gelu_tanh(x);
  fail(ErrorKind::value, "gelu", "approximate is \"", approximate, "\", expected \"none\" or \"tanh\"");
}

// --- softmax ---

Tensor SoftmaxRows::forward(const Tensor& x) const {
  const Tensor c = x.contiguous_data();
  Tensor y = Tensor::empty(x.shape(), x.dtype());
  const Rows r(x.shape());
  with_floats(x, "softmax", [&]<class T>(const auto& k, T) { k.softmax_forward(c.data<T>(), y.data<T>(), r.rows, r.n); });
  return y;
}

void SoftmaxRows::backward(const Tensor& g, const Tensor*, const Tensor& y, Wanted, Gradients out) const {
  const Tensor c = g.contiguous_data();
  out[0] = Tensor::empty(y.shape(), y.dtype());
  const Rows r(y.shape());
  with_floats(y, "softmax", [&]<class T>(const auto& k, T) {
    k.softmax_backward(c.data<T>(), y.data<T>(), out[0].data<T>(), r.rows, r.n);
  });
}

Tensor SoftmaxRows::composite(const Tensor& x) {
  Tensor e = exp(x - amax(x, -1, true).detach());
  return e / sum(e, -1, true);
}

Tensor LogSoftmaxRows::forward(const Tensor& x) const {
  const Tensor c = x.contiguous_data();
  Tensor y = Tensor::empty(x.shape(), x.dtype());
  const Rows r(x.shape());
  with_floats(x, "log_softmax",
              [&]<class T>(const auto& k, T) { k.log_softmax_forward(c.data<T>(), y.data<T>(), r.rows, r.n); });
  return y;
}

void LogSoftmaxRows::backward(const Tensor& g, const Tensor*, const Tensor& y, Wanted, Gradients out) const {
  const Tensor c = g.contiguous_data();
  out[0] = Tensor::empty(y.shape(), y.dtype());
  const Rows r(y.shape());
  with_floats(y, "log_softmax", [&]<class T>(const auto& k, T) {
    k.log_softmax_backward(c.data<T>(), y.data<T>(), out[0].data<T>(), r.rows, r.n);
  });
}

Tensor LogSoftmaxRows::composite(const Tensor& x) { return x - lg::logsumexp(x, -1, true); }

Tensor Softmax::forward(const Tensor& x) const {
  return along_last(x, dim, "softmax", [](const Tensor& t) { return softmax_rows(t); });
}

Tensor LogSoftmax::forward(const Tensor& x) const {
  return along_last(x, dim, "log_softmax", [](const Tensor& t) { return log_softmax_rows(t); });
}

// --- dropout ---

Tensor DropoutMask::forward(const Tensor& x) const {
  const Tensor c = x.contiguous_data();
  Tensor y = Tensor::empty(x.shape(), x.dtype());
  with_floats(x, "dropout", [&]<class T>(const auto& k, T) {
    k.dropout(c.data<T>(), y.data<T>(), x.numel(), p,
              Stream{static_cast<std::uint64_t>(seed), static_cast<std::uint64_t>(offset)});
  });
  return y;
}

Tensor Dropout::forward(const Tensor& x) const {
  check_probability(p, "dropout");
  if (!training || p == 0) return x;
  const Stream s = default_generator().next();
  return dropout_stream(x, p, static_cast<std::int64_t>(s.seed), static_cast<std::int64_t>(s.offset));
}

// --- layer_norm ---

Tensor LayerNorm::forward(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const int k = normalized_shape.rank();
  bool fits = k > 0 && x.rank() >= k;
  for (int i = 0; fits && i < k; ++i) fits = x.shape()[x.rank() - k + i] == normalized_shape[i];
  if (!fits) {
    fail(ErrorKind::value, "layer_norm", "normalized_shape ", normalized_shape, " is not the end of x's shape ", x.shape());
  }
  for (const Tensor* t : {&weight, &bias}) {
    if (t->defined() && !(t->shape() == normalized_shape && t->dtype() == x.dtype())) {
      fail(ErrorKind::value, "layer_norm", t == &weight ? "weight" : "bias", " is ", t->describe(), ", expected ",
           name_of(x.dtype()), " ", normalized_shape);
    }
  }
  const std::int64_t n = normalized_shape.numel(), rows = n ? x.numel() / n : 0;
  const Tensor c = x.contiguous_data(), w = weight.defined() ? weight.contiguous_data() : weight,
               b = bias.defined() ? bias.contiguous_data() : bias;
  Tensor y = Tensor::empty(x.shape(), x.dtype());
  mean = Tensor::empty({rows}, x.dtype());
  rstd = Tensor::empty({rows}, x.dtype());
  with_floats(x, "layer_norm", [&]<class T>(const auto& kernels, T) {
    kernels.layer_norm_forward(c.data<T>(), data_or_null<T>(w), data_or_null<T>(b), y.data<T>(), mean.data<T>(),
                               rstd.data<T>(), rows, n, eps);
  });
  return y;
}

void LayerNorm::backward(const Tensor& g, const Tensor* in, const Tensor&, Wanted wanted, Gradients out) const {
  const std::int64_t n = normalized_shape.numel(), rows = n ? in[0].numel() / n : 0;
  const Tensor c = g.contiguous_data(), x = in[0].contiguous_data(),
               w = in[1].defined() ? in[1].contiguous_data() : in[1];
  if (wanted & 1) out[0] = Tensor::empty(x.shape(), x.dtype());
  if (wanted & 2) out[1] = Tensor::empty(normalized_shape, x.dtype());
  if (wanted & 4) out[2] = Tensor::empty(normalized_shape, x.dtype());
  auto target = [&]<class T>(int i, T) { return wanted >> i & 1 ? out[static_cast<std::size_t>(i)].data<T>() : nullptr; };
  with_floats(x, "layer_norm", [&]<class T>(const auto& k, T) {
    k.layer_norm_backward(c.data<T>(), x.data<T>(), data_or_null<T>(w), mean.data<T>(), rstd.data<T>(), target(0, T{}),
                          target(1, T{}), target(2, T{}), rows, n);
  });
}

Tensor LayerNorm::composite(const Tensor& x, const Tensor& weight, const Tensor& bias) const {
  Axes dims{Shape()};
  for (int i = 1; i <= normalized_shape.rank(); ++i) dims.list.push_back(-i);
  Tensor centred = x - lg::mean(x, dims, true);
  Tensor y = centred * rsqrt(lg::mean(square(centred), dims, true) + eps);
  if (weight.defined()) y = y * weight;
  return bias.defined() ? y + bias : y;
}

// --- embedding ---

namespace {
Tensor checked_ids(const Tensor& ids, std::int64_t size, std::string_view name) {
  if (!is_integral(ids.dtype()) || ids.dtype() == DType::bool_) {
    fail(ErrorKind::type, name, "ids are ", ids.describe(), ", expected an integer dtype");
  }
  const Tensor i = ids.dtype() == DType::int64 ? ids.contiguous_data() : Cast{{}, DType::int64}.forward(ids);
  const auto* p = i.data<std::int64_t>();
  for (std::int64_t k = 0; k < i.numel(); ++k) {
    if (p[k] < 0 || p[k] >= size) {
      fail(ErrorKind::index, name, "id ", p[k], " is out of range, expected 0 to ", size - 1);
    }
  }
  return i;
}
}  // namespace

Tensor Embedding::forward(const Tensor& ids, const Tensor& weight) const {
  if (weight.rank() != 2) fail(ErrorKind::value, "embedding", "weight has shape ", weight.shape(), ", expected [rows, width]");
  const Tensor i = checked_ids(ids, weight.shape()[0], "embedding"), w = weight.contiguous_data();
  Shape shape = ids.shape();
  shape.push_back(weight.shape()[1]);
  Tensor y = Tensor::empty(shape, weight.dtype());
  if (y.numel() == 0) return y;
  if (!is_floating(weight.dtype())) {
    backend(weight.device()).index_select(size_of(weight.dtype()), w.raw_data(), i.data<std::int64_t>(), y.raw_data(), 1,
                                          weight.shape()[0], i.numel(), weight.shape()[1]);
    return y;
  }
  with_floats(weight, "embedding", [&]<class T>(const auto& k, T) {
    k.embedding_forward(w.data<T>(), i.data<std::int64_t>(), y.data<T>(), i.numel(), w.shape()[1]);
  });
  return y;
}

void Embedding::backward(const Tensor& g, const Tensor* in, const Tensor&, Wanted wanted, Gradients out) const {
  if (!(wanted & 2)) return;
  const Tensor& weight = in[1];
  const Tensor i = in[0].dtype() == DType::int64 ? in[0].contiguous_data() : Cast{{}, DType::int64}.forward(in[0]);
  const Tensor c = g.contiguous_data();
  out[1] = zeros(weight.shape(), weight.dtype());
  std::int64_t skip = -1;
  if (padding_idx) skip = *padding_idx < 0 ? *padding_idx + weight.shape()[0] : *padding_idx;
  if (i.numel() == 0 || weight.numel() == 0) return;
  with_floats(weight, "embedding", [&]<class T>(const auto& k, T) {
    k.embedding_backward(c.data<T>(), i.data<std::int64_t>(), out[1].data<T>(), i.numel(), weight.shape()[1], skip);
  });
}

Tensor Embedding::composite(const Tensor& ids, const Tensor& weight) const {
  Shape shape = ids.shape();
  shape.push_back(weight.shape()[1]);
  Tensor w = weight;
  if (padding_idx) {  // that row takes no gradient
    Tensor row = reshape(arange(weight.shape()[0]), {-1, 1});
    w = where(row == (*padding_idx < 0 ? *padding_idx + weight.shape()[0] : *padding_idx), weight.detach(), weight);
  }
  return reshape(index_select(w, 0, reshape(ids, {-1})), shape);
}

// --- losses ---

Tensor CrossEntropyRows::forward(const Tensor& logits, const Tensor& target, const Tensor& weight) {
  if (logits.rank() != 2) fail(ErrorKind::value, "cross_entropy", "logits have shape ", logits.shape(), ", expected [rows, classes]");
  const std::int64_t rows = logits.shape()[0], n = logits.shape()[1];
  if (!(target.shape() == Shape{rows})) {
    fail(ErrorKind::value, "cross_entropy", "target has shape ", target.shape(), ", expected [", rows, "] (logits ",
         logits.shape(), ")");
  }
  if (target.dtype() != DType::int64) {
    fail(ErrorKind::type, "cross_entropy", "target is ", target.describe(), ", expected int64 class indices");
  }
  if (weight.defined() && !(weight.shape() == Shape{n} && weight.dtype() == logits.dtype())) {
    fail(ErrorKind::value, "cross_entropy", "weight is ", weight.describe(), ", expected ", name_of(logits.dtype()), " [", n, "]");
  }
  const Tensor x = logits.contiguous_data(), t = target.contiguous_data();
  const auto* p = t.data<std::int64_t>();
  for (std::int64_t i = 0; i < rows; ++i) {
    if (p[i] != ignore_index && (p[i] < 0 || p[i] >= n)) {
      fail(ErrorKind::index, "cross_entropy", "target ", p[i], " at row ", i, " is out of range for ", n,
           " classes, expected 0 to ", n - 1, " (or ignore_index ", ignore_index, ")");
    }
  }
  Tensor loss = Tensor::empty({rows}, logits.dtype());
  logsumexp = Tensor::empty({rows}, logits.dtype());
  const Tensor w = weight.defined() ? weight.contiguous_data() : weight;
  with_floats(logits, "cross_entropy", [&]<class T>(const auto& k, T) {
    k.cross_entropy_forward({x.data<T>(), p, rows, n, data_or_null<T>(w), ignore_index, label_smoothing}, loss.data<T>(),
                            logsumexp.data<T>());
  });
  return loss;
}

void CrossEntropyRows::backward(const Tensor& g, const Tensor* in, const Tensor&, Wanted wanted, Gradients out) const {
  if (!(wanted & 1)) return;
  const Tensor x = in[0].contiguous_data(), t = in[1].contiguous_data(),
               w = in[2].defined() ? in[2].contiguous_data() : in[2], c = g.contiguous_data();
  out[0] = Tensor::empty(x.shape(), x.dtype());
  with_floats(x, "cross_entropy", [&]<class T>(const auto& k, T) {
    k.cross_entropy_backward({x.data<T>(), t.data<std::int64_t>(), x.shape()[0], x.shape()[1], data_or_null<T>(w),
                              ignore_index, label_smoothing},
                             c.data<T>(), logsumexp.data<T>(), out[0].data<T>());
  });
}

Tensor CrossEntropyRows::composite(const Tensor& logits, const Tensor& target, const Tensor& weight) const {
  const auto n = static_cast<double>(logits.shape()[1]);
  Tensor lp = -log_softmax(logits, -1), ignored = target == ignore_index;
  Tensor safe = where(ignored, 0, target);
  Tensor picked = squeeze(gather(lp, 1, unsqueeze(safe, 1)), 1);
  if (weight.defined()) {
    picked = picked * index_select(weight, 0, safe);
    lp = lp * weight;
  }
  Tensor loss = picked;
  if (label_smoothing != 0) loss = (1 - label_smoothing) * picked + (label_smoothing / n) * sum(lp, -1);
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
    fail(ErrorKind::value, name, "target has shape ", target.shape(), ", expected ", wanted, " for logits ", x.shape());
  }
}

// The mean over what was not ignored, weighted.
Tensor weighted_mean(const Tensor& loss, const Tensor& target, const Tensor& weight, std::int64_t ignore_index) {
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

Tensor CrossEntropy::forward(const Tensor& logits, const Tensor& target, const Tensor& weight) const {
  if (!(label_smoothing >= 0 && label_smoothing <= 1)) {
    fail(ErrorKind::value, "cross_entropy", "label_smoothing is ", label_smoothing, ", expected 0 to 1");
  }
  if (is_floating(target.dtype())) {  // probabilities
    if (!(target.shape() == logits.shape())) {
      fail(ErrorKind::value, "cross_entropy", "target probabilities have shape ", target.shape(), ", expected the logits' ",
           logits.shape());
    }
    Tensor x = class_rows(logits), p = class_rows(target);
    if (label_smoothing > 0) p = p * (1 - label_smoothing) + label_smoothing / static_cast<double>(x.size(-1));
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
  Tensor loss = run(make_op<CrossEntropyRows>(ignore_index, label_smoothing), class_rows(logits), ids, weight);
  if (reduction == "mean") return weighted_mean(loss, ids, weight, ignore_index);
  if (reduction == "none") return reshape(loss, target.shape());
  return reduce_loss(loss, reduction, "cross_entropy");
}

Tensor NllLoss::forward(const Tensor& x, const Tensor& target, const Tensor& weight) const {
  check_target_shape(x, target, "nll_loss");
  if (target.dtype() != DType::int64) {
    fail(ErrorKind::type, "nll_loss", "target is ", target.describe(), ", expected int64 class indices");
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
