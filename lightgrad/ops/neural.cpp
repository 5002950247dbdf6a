// neural.cpp: softmax, layer_norm, embedding and dropout. Losses and attention have files of their
// own.
#include "lightgrad/ops/neural.h"

#include <cmath>

#include "lightgrad/ops/creation.h"
#include "lightgrad/ops/float_kernels.h"
#include "lightgrad/ops/ops.h"
#include "lightgrad/ops/run.h"

namespace lg::ops {
namespace {

struct Rows {
  std::int64_t rows, n;
  explicit Rows(const Shape& s) : n(s.rank() ? s.back() : 1) {
    rows = 1;
    for (int i = 0; i + 1 < s.rank(); ++i) rows *= s[i];
  }
};

void check_probability(double p, std::string_view name) {
  if (!(p >= 0 && p <= 1))
    fail(ErrorKind::value, name, "p is ", p, ", expected a probability from 0 to 1");
}

// A row-wise operation along any dimension: the dimension goes last and back.
template <class F>
Tensor along_last(const Tensor& x, std::int64_t dim, std::string_view name, F&& f) {
  const int d = normalize_axis(dim, x.rank(), name);
  if (!is_floating(x.dtype()))
    fail(ErrorKind::type, name, "x is ", x.describe(), ", expected a floating-point dtype");
  if (x.rank() == 0) return reshape(f(reshape(x, {1})), {});
  return d == x.rank() - 1 ? f(x) : transpose(f(transpose(x, d, -1)), d, -1);
}

}  // namespace

Tensor Gelu::forward(const Tensor& x) const {
  if (approximate == "none") return gelu_erf(x);
  if (approximate == "tanh") return gelu_tanh(x);
  fail(ErrorKind::value, "gelu", "approximate is \"", approximate,
       "\", expected \"none\" or \"tanh\"");
}

// --- softmax ---

Tensor SoftmaxRows::forward(const Tensor& x) const {
  const Tensor c = x.contiguous_data();
  Tensor y = Tensor::empty(x.shape(), x.dtype());
  const Rows r(x.shape());
  with_floats(x, "softmax", [&]<class T>(const auto& k, T) {
    k.softmax_forward(c.data<T>(), y.data<T>(), r.rows, r.n);
  });
  return y;
}

void SoftmaxRows::backward(const Tensor& g, const Tensor*, const Tensor& y, Wanted,
                           Gradients out) const {
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
  with_floats(x, "log_softmax", [&]<class T>(const auto& k, T) {
    k.log_softmax_forward(c.data<T>(), y.data<T>(), r.rows, r.n);
  });
  return y;
}

void LogSoftmaxRows::backward(const Tensor& g, const Tensor*, const Tensor& y, Wanted,
                              Gradients out) const {
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
  return dropout_stream(x, p, static_cast<std::int64_t>(s.seed),
                        static_cast<std::int64_t>(s.offset));
}

// --- layer_norm ---

Tensor LayerNorm::forward(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const int k = normalized_shape.rank();
  bool fits = k > 0 && x.rank() >= k;
  for (int i = 0; fits && i < k; ++i) fits = x.shape()[x.rank() - k + i] == normalized_shape[i];
  if (!fits) {
    fail(ErrorKind::value, "layer_norm", "normalized_shape ", normalized_shape,
         " is not the end of x's shape ", x.shape());
  }
  for (const Tensor* t : {&weight, &bias}) {
    if (t->defined() && !(t->shape() == normalized_shape && t->dtype() == x.dtype())) {
      fail(ErrorKind::value, "layer_norm", t == &weight ? "weight" : "bias", " is ", t->describe(),
           ", expected ", name_of(x.dtype()), " ", normalized_shape);
    }
  }
  const std::int64_t n = normalized_shape.numel(), rows = n ? x.numel() / n : 0;
  const Tensor c = x.contiguous_data(), w = weight.defined() ? weight.contiguous_data() : weight,
               b = bias.defined() ? bias.contiguous_data() : bias;
  Tensor y = Tensor::empty(x.shape(), x.dtype());
  mean = Tensor::empty({rows}, x.dtype());
  rstd = Tensor::empty({rows}, x.dtype());
  with_floats(x, "layer_norm", [&]<class T>(const auto& kernels, T) {
    kernels.layer_norm_forward(c.data<T>(), data_or_null<T>(w), data_or_null<T>(b), y.data<T>(),
                               mean.data<T>(), rstd.data<T>(), rows, n, eps);
  });
  return y;
}

void LayerNorm::backward(const Tensor& g, const Tensor* in, const Tensor&, Wanted wanted,
                         Gradients out) const {
  const std::int64_t n = normalized_shape.numel(), rows = n ? in[0].numel() / n : 0;
  const Tensor c = g.contiguous_data(), x = in[0].contiguous_data(),
               w = in[1].defined() ? in[1].contiguous_data() : in[1];
  const bool add = out[0].defined();  // to the gradient that x has from elsewhere
  if (add && watch::on(watch::profile)) [[unlikely]]
    watch::add({static_cast<double>(x.numel()),
                static_cast<double>(x.numel()) * static_cast<double>(size_of(x.dtype()))});
  if ((wanted & 1) && !add) out[0] = Tensor::empty(x.shape(), x.dtype());
  if (wanted & 2) out[1] = Tensor::empty(normalized_shape, x.dtype());
  if (wanted & 4) out[2] = Tensor::empty(normalized_shape, x.dtype());
  auto target = [&]<class T>(int i, T) {
    return wanted >> i & 1 ? out[static_cast<std::size_t>(i)].data<T>() : nullptr;
  };
  with_floats(x, "layer_norm", [&]<class T>(const auto& k, T) {
    k.layer_norm_backward(c.data<T>(), x.data<T>(), data_or_null<T>(w), mean.data<T>(),
                          rstd.data<T>(), target(0, T{}), add, target(1, T{}), target(2, T{}), rows,
                          n);
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
  const Tensor i =
      ids.dtype() == DType::int64 ? ids.contiguous_data() : Cast{{}, DType::int64}.forward(ids);
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
  if (weight.rank() != 2)
    fail(ErrorKind::value, "embedding", "weight has shape ", weight.shape(),
         ", expected [rows, width]");
  const Tensor i = checked_ids(ids, weight.shape()[0], "embedding"), w = weight.contiguous_data();
  Shape shape = ids.shape();
  shape.push_back(weight.shape()[1]);
  Tensor y = Tensor::empty(shape, weight.dtype());
  if (y.numel() == 0) return y;
  if (!is_floating(weight.dtype())) {
    backend(weight.device())
        .index_select(size_of(weight.dtype()), w.raw_data(), i.data<std::int64_t>(), y.raw_data(),
                      1, weight.shape()[0], i.numel(), weight.shape()[1]);
    return y;
  }
  with_floats(weight, "embedding", [&]<class T>(const auto& k, T) {
    k.embedding_forward(w.data<T>(), i.data<std::int64_t>(), y.data<T>(), i.numel(), w.shape()[1]);
  });
  return y;
}

void Embedding::backward(const Tensor& g, const Tensor* in, const Tensor&, Wanted wanted,
                         Gradients out) const {
  if (!(wanted & 2)) return;
  const Tensor& weight = in[1];
  const Tensor i = in[0].dtype() == DType::int64 ? in[0].contiguous_data()
                                                 : Cast{{}, DType::int64}.forward(in[0]);
  const Tensor c = g.contiguous_data();
  out[1] = zeros(weight.shape(), weight.dtype());
  std::int64_t skip = -1;
  if (padding_idx) skip = *padding_idx < 0 ? *padding_idx + weight.shape()[0] : *padding_idx;
  if (i.numel() == 0 || weight.numel() == 0) return;
  with_floats(weight, "embedding", [&]<class T>(const auto& k, T) {
    k.embedding_backward(c.data<T>(), i.data<std::int64_t>(), out[1].data<T>(), i.numel(),
                         weight.shape()[1], skip);
  });
}

Tensor Embedding::composite(const Tensor& ids, const Tensor& weight) const {
  Shape shape = ids.shape();
  shape.push_back(weight.shape()[1]);
  Tensor w = weight;
  if (padding_idx) {  // that row takes no gradient
    Tensor row = reshape(arange(weight.shape()[0]), {-1, 1});
    w = where(row == (*padding_idx < 0 ? *padding_idx + weight.shape()[0] : *padding_idx),
              weight.detach(), weight);
  }
  return reshape(index_select(w, 0, reshape(ids, {-1})), shape);
}

}  // namespace lg::ops
