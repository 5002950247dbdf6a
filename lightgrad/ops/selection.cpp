#include "lightgrad/ops/selection.h"

#include <algorithm>

#include "lightgrad/backend/backend.h"
#include "lightgrad/ops/creation.h"
#include "lightgrad/ops/ops.h"

namespace lg {

Tensor zeros_of(const Tensor& x, const Tensor& g) { return zeros(x.shape(), g.dtype()); }

Tensor slice_to(const Tensor& x, const Tensor& like) {
  if (x.shape() == like.shape()) return x;
  // The index was smaller than the source: what lies beyond was never read.
  Tensor y = x;
  for (int d = 0; d < like.rank(); ++d) {
    if (x.shape()[d] != like.shape()[d])
      y = cat({y, zeros(
                      [&] {
                        Shape s = y.shape();
                        s[d] = like.shape()[d] - s[d];
                        return s;
                      }(),
                      y.dtype())},
              d);
  }
  return y;
}

namespace {

// Contiguous non-negative int64 indices, checked against `size`.
Tensor checked_index(const Tensor& index, std::int64_t size, std::string_view name) {
  if (!is_integral(index.dtype()) || index.dtype() == DType::bool_) {
    fail(ErrorKind::type, name, "index is ", index.describe(), ", expected an integer dtype");
  }
  Tensor i = index.dtype() == DType::int64 ? index.contiguous_data()
                                           : ops::Cast{{}, DType::int64}.forward(index);
  const Backend& b = backend(index.device());
  const auto* p = i.data<std::int64_t>();
  if (const auto bad = b.check_indices(p, i.numel(), size); bad >= 0) {
    fail(ErrorKind::index, name, "index ", p[bad], " is out of range for size ", size,
         ", expected ", -size, " to ", size - 1);
  }
  Tensor wrapped = Tensor::empty(index.shape(), DType::int64);
  b.wrap_negative(p, i.numel(), size, wrapped.data<std::int64_t>());
  return wrapped;
}

// gather and scatter speak of equal ranks; a 0-d tensor counts as one of size 1.
Tensor at_least_1d(const Tensor& t) { return t.rank() == 0 ? t.view_as({1}, {1}) : t; }

void check_ranks(const Tensor& x, const Tensor& index, std::string_view name) {
  if (x.rank() != index.rank()) {
    fail(ErrorKind::value, name, "x ", x.shape(), " and index ", index.shape(),
         " have different numbers of dimensions");
  }
}

void check_fits(const Tensor& index, const Tensor& other, int dim, bool along_too,
                std::string_view name, const char* other_name) {
  for (int d = 0; d < index.rank(); ++d) {
    if ((d != dim || along_too) && index.shape()[d] > other.shape()[d]) {
      fail(ErrorKind::value, name, "index ", index.shape(), " is larger than ", other_name, " ",
           other.shape(), " in dimension ", d);
    }
  }
}

void check_same_dtype(const Tensor& x, const Tensor& source, std::string_view name) {
  if (x.dtype() != source.dtype()) {
    fail(ErrorKind::type, name, "x is ", name_of(x.dtype()), ", source is ",
         name_of(source.dtype()), ", expected one dtype");
  }
}

Tensor as(const Tensor& x, DType t) { return x.dtype() == t ? x : ops::Cast{{}, t}.forward(x); }

// Calls f(kernels, T{}) for a number type.
template <class F> void with_numbers(const Backend& b, DType t, F&& f) {
  if (t == DType::float32)
    f(b.float32, float{});
  else if (t == DType::float64)
    f(b.float64, double{});
  else
    f(b.int64, std::int64_t{});
}

struct AlongDim {
  std::int64_t outer = 1, n = 1, inner = 1;
  AlongDim(const Shape& s, int d) {
    for (int i = 0; i < s.rank(); ++i) (i < d ? outer : i == d ? n : inner) *= s[i];
  }
};

// The one dimension `dim` for kernels that want contiguous [outer, n, inner].
struct Ranked {
  Tensor x;
  AlongDim along;
  Ranked(const Tensor& t, int d)
      : x(as(t, compute_type(t.dtype())).contiguous_data()), along(t.shape(), d) {}
};

}  // namespace

namespace ops {

Tensor Gather::forward(const Tensor& x0, const Tensor& index0) const {
  const Tensor x = at_least_1d(x0), i0 = at_least_1d(index0);
  if (i0.numel() == 0)
    return Tensor::empty(index0.shape(), x.dtype());  // of any rank, as in PyTorch
  check_ranks(x, i0, "gather");
  const int d = normalize_axis(dim, x.rank(), "gather");
  check_fits(i0, x, d, false, "gather", "x");
  const Tensor index = checked_index(i0, x.shape()[d], "gather");
  Tensor y = Tensor::empty(index0.shape(), x.dtype());
  if (y.numel() > 0) {
    backend(x.device())
        .gather({index.shape(), d, x.strides()}, size_of(x.dtype()), x.raw_data(),
                index.data<std::int64_t>(), y.raw_data());
  }
  return y;
}

Tensor ScatterAdd::forward(const Tensor& x0, const Tensor& index0, const Tensor& source0) const {
  const Tensor x = at_least_1d(x0), i0 = at_least_1d(index0), source = at_least_1d(source0);
  if (i0.numel() == 0) return x0.copy();
  check_ranks(x, i0, "scatter_add");
  check_ranks(source, i0, "scatter_add");
  check_same_dtype(x, source, "scatter_add");
  const int d = normalize_axis(dim, x.rank(), "scatter_add");
  check_fits(i0, x, d, false, "scatter_add", "x");
  check_fits(i0, source, d, true, "scatter_add", "source");
  const Tensor index = checked_index(i0, x.shape()[d], "scatter_add");
  const DType t = compute_type(x.dtype());
  Tensor y = as(x, t).copy(), from = as(source, t);
  if (index.numel() > 0) {
    with_numbers(backend(x.device()), t, [&]<class T>(const auto& k, T) {
      k.scatter_add({index.shape(), d, y.strides(), from.strides()}, y.data<T>(),
                    index.data<std::int64_t>(), static_cast<const T*>(from.raw_data()));
    });
  }
  return as(y, x.dtype()).view_as(x0.shape(), contiguous_strides(x0.shape()));
}

Tensor Scatter::forward(const Tensor& x0, const Tensor& index0, const Tensor& source0) const {
  const Tensor x = at_least_1d(x0), i0 = at_least_1d(index0);
  Tensor source = source0.is_weak() ? as(source0, x.dtype()) : source0;
  if (source.rank() == 0 && i0.numel() != 1)
    source = Expand{{}, i0.shape()}.forward(source);  // one number for all
  source = at_least_1d(source);
  check_ranks(x, i0, "scatter");
  check_ranks(source, i0, "scatter");
  check_same_dtype(x, source, "scatter");
  const int d = normalize_axis(dim, x.rank(), "scatter");
  check_fits(i0, x, d, false, "scatter", "x");
  check_fits(i0, source, d, true, "scatter", "source");
  const Tensor index = checked_index(i0, x.shape()[d], "scatter");
  Tensor y = x.copy();
  if (index.numel() > 0) {
    backend(x.device())
        .scatter({index.shape(), d, y.strides(), source.strides()}, size_of(x.dtype()),
                 y.raw_data(), index.data<std::int64_t>(), source.raw_data());
  }
  return y.view_as(x0.shape(), contiguous_strides(x0.shape()));
}

namespace {
void check_vector(const Tensor& index, std::string_view name) {
  if (index.rank() > 1)
    fail(ErrorKind::value, name, "index has shape ", index.shape(), ", expected one dimension");
}
}  // namespace

Tensor IndexSelect::forward(const Tensor& x0, const Tensor& index0) const {
  const Tensor x = at_least_1d(x0).contiguous_data();
  check_vector(index0, "index_select");
  const int d = normalize_axis(dim, x.rank(), "index_select");
  const Tensor index = checked_index(at_least_1d(index0), x.shape()[d], "index_select");
  Shape shape = x.shape();
  shape[d] = index.numel();
  Tensor y = Tensor::empty(shape, x.dtype());
  const AlongDim a(x.shape(), d);
  if (y.numel() > 0) {
    backend(x.device())
        .index_select(size_of(x.dtype()), x.raw_data(), index.data<std::int64_t>(), y.raw_data(),
                      a.outer, a.n, index.numel(), a.inner);
  }
  return x0.rank() == 0 ? y.view_as({}, {}) : y;
}

Tensor IndexAdd::forward(const Tensor& x0, const Tensor& index0, const Tensor& source0) const {
  const Tensor x = at_least_1d(x0), source = at_least_1d(source0);
  check_vector(index0, "index_add");
  check_same_dtype(x, source, "index_add");
  const int d = normalize_axis(dim, x.rank(), "index_add");
  const Tensor index = checked_index(at_least_1d(index0), x.shape()[d], "index_add");
  Shape wanted = x.shape();
  wanted[d] = index.numel();
  if (!(source.shape() == wanted)) {
    fail(ErrorKind::value, "index_add", "source has shape ", source.shape(), ", expected ", wanted,
         " (x ", x.shape(), ", index ", index.shape(), ", dim ", d, ")");
  }
  const DType t = compute_type(x.dtype());
  Tensor y = as(x, t).copy(), from = as(source, t).contiguous_data();
  const AlongDim a(x.shape(), d);
  if (from.numel() > 0) {
    with_numbers(backend(x.device()), t, [&]<class T>(const auto& k, T) {
      k.index_add(y.data<T>(), index.data<std::int64_t>(), from.data<T>(), a.outer, a.n,
                  index.numel(), a.inner);
    });
  }
  return as(y, x.dtype()).view_as(x0.shape(), contiguous_strides(x0.shape()));
}

Tensor MaskedFill::forward(const Tensor& x, const Tensor& mask, const Tensor& value) const {
  if (mask.dtype() != DType::bool_) {
    fail(ErrorKind::type, "masked_fill", "mask is ", mask.describe(), ", expected bool");
  }
  if (value.rank() != 0)
    fail(ErrorKind::value, "masked_fill", "value has shape ", value.shape(),
         ", expected one number");
  return where(mask, value.dtype() == x.dtype() ? value : to(value, x.dtype()), x);
}

namespace {
// keep[i][j] for the last two dimensions: j - i compared with the diagonal.
Tensor triangle(const Tensor& x, std::int64_t diagonal, bool lower, std::string_view name) {
  if (x.rank() < 2)
    fail(ErrorKind::value, name, "x has shape ", x.shape(), ", expected at least two dimensions");
  const std::int64_t rows = x.size(-2), columns = x.size(-1);
  Tensor i = reshape(arange(rows), {rows, 1}), j = reshape(arange(columns), {1, columns});
  Tensor keep = lower ? j - i <= diagonal : j - i >= diagonal;
  return where(keep, x, zeros({}, x.dtype()));
}
}  // namespace

Tensor Tril::forward(const Tensor& x) const { return triangle(x, diagonal, true, "tril"); }
Tensor Triu::forward(const Tensor& x) const { return triangle(x, diagonal, false, "triu"); }

Tensor OneHot::forward(const Tensor& x) const {
  if (!is_integral(x.dtype()) || x.dtype() == DType::bool_) {
    fail(ErrorKind::type, "one_hot", "x is ", x.describe(), ", expected an integer dtype");
  }
  std::int64_t classes = num_classes;
  if (classes < 0 && x.numel() == 0)
    fail(ErrorKind::value, "one_hot", "num_classes is needed when x is empty");
  if (classes < 0) classes = amax(x).item<std::int64_t>() + 1;
  if (x.numel() > 0 &&
      (amin(x).item<std::int64_t>() < 0 || amax(x).item<std::int64_t>() >= classes)) {
    fail(ErrorKind::index, "one_hot", "x has values from ", amin(x).item<std::int64_t>(), " to ",
         amax(x).item<std::int64_t>(), ", expected 0 to ", classes - 1);
  }
  return to(unsqueeze(x, -1) == arange(classes), DType::int64);
}

Tensor Argsort::forward(const Tensor& x0) const {
  const Tensor x = at_least_1d(x0);
  const int d = normalize_axis(dim, x.rank(), "argsort");
  const Ranked r(x, d);
  Tensor values = Tensor::empty(x.shape(), r.x.dtype()),
         index = Tensor::empty(x0.shape(), DType::int64);
  if (x.numel() > 0) {
    with_numbers(backend(x.device()), r.x.dtype(), [&]<class T>(const auto& k, T) {
      k.sort(r.x.data<T>(), values.data<T>(), index.data<std::int64_t>(), r.along.outer, r.along.n,
             r.along.inner, descending);
    });
  }
  return index;
}

ValuesIndices Sort::forward(const Tensor& x) const {
  return pick(x, dim, argsort(x, dim, descending));
}

Tensor TopKIndices::forward(const Tensor& x0) const {
  const Tensor x = at_least_1d(x0);
  const int d = normalize_axis(dim, x.rank(), "topk");
  if (k < 0 || k > x.shape()[d]) {
    fail(ErrorKind::value, "topk", "k is ", k, ", expected 0 to ", x.shape()[d], " (x ", x.shape(),
         ", dim ", d, ")");
  }
  const Ranked r(x, d);
  Shape shape = x.shape();
  shape[d] = k;
  Tensor values = Tensor::empty(shape, r.x.dtype()), index = Tensor::empty(shape, DType::int64);
  if (index.numel() > 0) {
    with_numbers(backend(x.device()), r.x.dtype(), [&]<class T>(const auto& kernels, T) {
      kernels.topk(r.x.data<T>(), values.data<T>(), index.data<std::int64_t>(), r.along.outer,
                   r.along.n, r.along.inner, k, largest);
    });
  }
  return x0.rank() == 0 && k == 1 ? index.view_as({}, {}) : index;
}

ValuesIndices TopK::forward(const Tensor& x) const {
  return pick(x, dim, topk_indices(x, k, dim, largest));
}

Tensor Nonzero::forward(const Tensor& x) const {
  const Tensor mask = as(x, DType::bool_).contiguous_data();
  const Backend& b = backend(x.device());
  const std::int64_t n = b.count_nonzero(mask.data<bool>(), mask.numel());
  Tensor y = Tensor::empty({n, x.rank()}, DType::int64);
  if (y.numel() > 0) b.nonzero(mask.data<bool>(), x.shape(), y.data<std::int64_t>());
  return y;
}

}  // namespace ops
}  // namespace lg
