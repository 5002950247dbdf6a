// indexing.cpp: brackets. Integers, slices, None and ellipsis make views; masks and integer tensors
// pick elements (NumPy's advanced indexing), by one embedding-like gather over the indexed
// dimensions flattened together.
#include "lightgrad/ops/indexing.h"

#include <algorithm>

#include "lightgrad/autograd/function.h"
#include "lightgrad/backend/backend.h"
#include "lightgrad/ops/creation.h"
#include "lightgrad/ops/ops.h"
#include "lightgrad/ops/run.h"

namespace lg {
namespace {

// What is left when the basic indices have been taken: a view, and for each of its dimensions the
// integer tensor that indexes it, if one does.
struct Prepared {
  Tensor view;
  std::vector<Tensor> advanced;  // per dimension of the view; undefined: a full slice
  bool any = false;
};

int dims_used(const Index& index) {
  if (std::holds_alternative<std::int64_t>(index.value()) ||
      std::holds_alternative<Slice>(index.value()))
    return 1;
  if (const auto* t = std::get_if<Tensor>(&index.value()))
    return t->dtype() == DType::bool_ ? t->rank() : 1;
  return 0;
}

Prepared prepare(const Tensor& x, const std::vector<Index>& indices, std::string_view name) {
  int used = 0, ellipses = 0;
  bool picks = false;
  for (const Index& i : indices) {
    used += dims_used(i);
    ellipses += std::holds_alternative<EllipsisIndex>(i.value());
    picks |= std::holds_alternative<Tensor>(i.value());
  }
  if (ellipses > 1) fail(ErrorKind::index, name, "an index has at most one ellipsis");
  if (used > x.rank()) {
    fail(ErrorKind::index, name, "too many indices: ", used, " for a tensor of ", x.rank(),
         " dimensions (shape ", x.shape(), ")");
  }
  Prepared p{x, {}, false};
  int d = 0;  // next dimension of the view
  auto none = [&] { p.advanced.emplace_back(); };
  for (const Index& index : indices) {
    if (const auto* i = std::get_if<std::int64_t>(&index.value())) {
      const std::int64_t size = p.view.shape()[d];
      if (*i < -size || *i >= size) {
        fail(ErrorKind::index, name, "index ", *i, " is out of range for dimension ", d,
             " of size ", size, " (shape ", x.shape(), ")");
      }
      if (picks) {  // beside index tensors an integer is one of them, as in NumPy
        p.advanced.push_back(full({}, *i, DType::int64));
        ++d;
      } else {
        p.view = select(p.view, d, *i);
      }
    } else if (const auto* s = std::get_if<Slice>(&index.value())) {
      const std::int64_t size = p.view.shape()[d];
      const bool back = s->step < 0;
      const std::int64_t start = s->start.value_or(back ? -1 : 0),
                         stop = s->stop.value_or(back ? -1 - size : size);
      // A start before the beginning is empty when walking backwards; the operation's clamp says
      // the same.
      if (!(s->step == 1 && start == 0 && stop >= size))
        p.view = slice(p.view, d, start, stop, s->step);
      none();
      ++d;
    } else if (std::holds_alternative<NoneIndex>(index.value())) {
      p.view = unsqueeze(p.view, d++);
      none();
    } else if (std::holds_alternative<EllipsisIndex>(index.value())) {
      for (int k = x.rank() - used; k-- > 0; ++d) none();
    } else {
      const Tensor& t = std::get<Tensor>(index.value());
      p.any = true;
      if (t.dtype() == DType::bool_) {
        for (int k = 0; k < t.rank(); ++k) {
          if (t.shape()[k] != p.view.shape()[d + k]) {
            fail(ErrorKind::index, name, "a mask of shape ", t.shape(), " does not fit dimension ",
                 d + k, " of size ", p.view.shape()[d + k], " (shape ", x.shape(), ")");
          }
        }
        if (t.rank() == 0) {  // a 0-d mask: a new dimension of size 1 or 0
          p.view = unsqueeze(p.view, d);
          p.advanced.push_back(t.item<bool>() ? zeros({1}, DType::int64)
                                              : zeros({0}, DType::int64));
          ++d;
          continue;
        }
        const Tensor at = nonzero(t);
        for (int k = 0; k < t.rank(); ++k, ++d) p.advanced.push_back(select(at, 1, k));
      } else if (is_integral(t.dtype())) {
        p.advanced.push_back(to(t, DType::int64));
        ++d;
      } else {
        fail(ErrorKind::type, name, "an index tensor is ", t.describe(),
             ", expected integers or bool");
      }
    }
  }
  while (static_cast<int>(p.advanced.size()) < p.view.rank()) none();
  return p;
}

// The advanced part: x permuted so that the indexed dimensions come first, and one flat index over
// them.
struct Picker {
  Shape order, inverse_of_result;  // of the view's dimensions; of the result's
  Shape index_shape, rest;
  Tensor flat;  // int64, contiguous, index_shape's elements
  std::int64_t rows = 1;

  Picker(const Prepared& p, std::string_view name) {
    const Shape& s = p.view.shape();
    std::vector<int> indexed, others;
    for (int d = 0; d < s.rank(); ++d)
      (p.advanced[static_cast<std::size_t>(d)].defined() ? indexed : others).push_back(d);
    for (int d : indexed) {
      const Tensor& t = p.advanced[static_cast<std::size_t>(d)];
      try {
        index_shape = broadcast(index_shape, t.shape(), name);
      } catch (const Error&) {
        fail(ErrorKind::index, name, "index tensors of shapes ", index_shape, " and ", t.shape(),
             " do not broadcast together");
      }
    }
    for (int d : indexed) order.push_back(d);
    for (int d : others) order.push_back(d), rest.push_back(s[d]);
    NoGrad off;
    for (int d : indexed) {
      const Tensor& t = p.advanced[static_cast<std::size_t>(d)];
      const Tensor c = t.contiguous_data();
      const Backend& b = backend(t.device());
      const auto* q = c.data<std::int64_t>();
      if (const auto bad = b.check_indices(q, c.numel(), s[d]); bad >= 0) {
        fail(ErrorKind::index, name, "index ", q[bad], " is out of range for dimension ", d,
             " of size ", s[d]);
      }
      Tensor wrapped = Tensor::empty(t.shape(), DType::int64);
      b.wrap_negative(q, c.numel(), s[d], wrapped.data<std::int64_t>());
      flat = flat.defined() ? flat * s[d] + wrapped : wrapped;
      rows *= s[d];
    }
    flat = expand(flat, index_shape).contiguous_data();
    // NumPy puts the picked dimensions where the first of neighbouring indices stood, else in
    // front.
    const bool neighbours =
        indexed.back() - indexed.front() + 1 == static_cast<int>(indexed.size());
    const int at = neighbours ? indexed.front() : 0, k = index_shape.rank(), n = k + rest.rank();
    for (int i = 0; i < n; ++i) {
      inverse_of_result.push_back(i < at ? k + i : i < at + k ? i - at : i);
    }
  }

  Tensor rows_of(const Tensor& view) const {
    return reshape(permute(view, order), {rows, rest.numel()});
  }
};

Tensor pick_elements(const Prepared& p) {
  const Picker k(p, "index");
  Shape shape = k.index_shape;
  for (auto n : k.rest) shape.push_back(n);
  return permute(reshape(embedding(reshape(k.flat, {-1}), k.rows_of(p.view)), shape),
                 k.inverse_of_result);
}

// Without a graph: value written into the elements that the indices name.
void put(const Tensor& x, const std::vector<Index>& indices, Tensor value) {
  NoGrad off;
  value = value.detach();
  const Prepared p = prepare(x.detach(), indices, "index_put");
  // As in NumPy, leading sizes of 1 that the target does not have are dropped.
  auto fitted = [&](int rank) {
    Shape shape = value.shape();
    while (shape.rank() > rank && shape[0] == 1) shape.erase(0);
    return reshape(value, shape);
  };
  if (!p.any) {
    p.view.assign(fitted(p.view.rank()));
    return;
  }
  const Picker k(p, "index_put");
  Shape shape = k.index_shape;
  for (auto n : k.rest) shape.push_back(n);
  Tensor result_view = permute(Tensor::shape_only(shape, x.dtype()), k.inverse_of_result);
  value = fitted(result_view.rank());
  if (!(broadcast(result_view.shape(), value.shape(), "index_put") == result_view.shape())) {
    fail(ErrorKind::value, "index_put", "a value of shape ", value.shape(),
         " does not fit the indexed shape ", result_view.shape());
  }
  Tensor source =
      expand(value.dtype() == x.dtype() ? value : to(value, x.dtype()), result_view.shape());
  Shape back = k.inverse_of_result;
  for (int i = 0; i < back.rank(); ++i) back[static_cast<int>(k.inverse_of_result[i])] = i;
  source = permute(source, back).contiguous_data();
  // Rows of the permuted view, where it lies: one strided assignment per index would be slow, so
  // through a copy of the indexed part and back.
  Tensor moved = permute(p.view, k.order), table = moved.copy();
  const std::int64_t width = k.rest.numel(), item = static_cast<std::int64_t>(size_of(x.dtype()));
  const auto* at = k.flat.data<std::int64_t>();
  auto* to_bytes = static_cast<char*>(table.raw_data());
  const auto* from = static_cast<const char*>(source.raw_data());
  for (std::int64_t i = 0; i < k.flat.numel(); ++i) {
    std::copy_n(from + i * width * item, width * item, to_bytes + at[i] * width * item);
  }
  moved.assign(table);
}

}  // namespace

Tensor Tensor::index(const std::vector<Index>& indices) const {
  const Prepared p = prepare(*this, indices, "index");
  if (!p.any) return p.view.is_same(*this) ? alias(*this) : p.view;
  return pick_elements(p);
}
Tensor Tensor::index(std::initializer_list<Index> indices) const {
  return index(std::vector<Index>(indices));
}

void Tensor::index_put(const std::vector<Index>& indices, const Tensor& value) const {
  const Tensor* in[] = {this, &value};
  const bool recorded =
      autograd::grad_enabled && is_floating(dtype()) && detail::any_requires_grad(in);
  detail::check_in_place("index_put", *this, recorded);
  if (!recorded) {
    put(*this, indices, value);
    return;
  }
  // The old value's gradient is g with zeros where it was overwritten; the value's is what lies
  // there.
  Tensor before = detach();
  if (requires_grad()) {
    before.impl()->node = edge();
    before.impl()->requires_grad = true;
  }
  put(*this, indices, value);
  const Shape value_shape = value.shape();
  const DType value_dtype = value.dtype();
  std::vector<Index> kept;  // index tensors may change before backward
  for (const Index& i : indices) {
    const auto* t = std::get_if<Tensor>(&i.value());
    kept.push_back(t ? Index(t->copy()) : i);
  }
  auto result = autograd::record_function(
      "index_put", {before, value}, {detach()}, nullptr,
      [indices = std::move(kept), value_shape, value_dtype](autograd::FunctionContext&,
                                                            const std::vector<Tensor>& g) {
        Tensor rest = clone(g[0]);
        rest.index_put(indices, 0);
        return std::vector<Tensor>{
            rest, detail::reduce_to(g[0].index(indices), {value_shape, value_dtype})};
      });
  autograd::set_history(*this, result[0].node());
  detail::note_in_place(*this);
}
void Tensor::index_put(std::initializer_list<Index> indices, const Tensor& value) const {
  index_put(std::vector<Index>(indices), value);
}

}  // namespace lg
