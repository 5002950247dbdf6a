// update.cpp: hands lists of tensors to the device's update kernels. A half-precision or strided
// tensor goes through a contiguous copy of the update dtype and back.
#include "lightgrad/ops/update.h"

#include <algorithm>
#include <vector>

#include "lightgrad/base/watch.h"

namespace lg {

namespace {

bool is_direct(const Tensor& t) { return t.is_contiguous() && !is_half(t.dtype()); }

// t itself when kernels can work on it, else its numbers in fresh memory.
Tensor staged(const Tensor& t) {
  if (is_direct(t)) return t;
  Tensor copy = Tensor::empty(t.shape(), update_dtype(t.dtype()));
  copy.assign(t.detach());
  return copy;
}

template <class T> T* data_or_null(const Tensor& t) { return t.defined() ? t.data<T>() : nullptr; }

DType state_dtype(const Update& u) {
  const Tensor& state = (*u.state)[0];
  return state.defined() ? state.dtype() : update_dtype(u.parameter->dtype());
}

// A key that no generator is likely to have as its seed.
Stream rounding(const Update& u) {
  return {0x9e3779b97f4a7c15 ^ static_cast<std::uint64_t>(u.number),
          static_cast<std::uint64_t>(u.step)};
}

// target was changed in place, or its staged copy was.
void write_back(const Tensor& target, const Tensor& staged) {
  if (staged.is_same(target))
    target.impl()->storage->bump_version();
  else
    target.assign(staged);
}

// A row make_row(parameter, gradient, update) for each update of element type T and state S; run
// gets all of them.
template <class T, class S, class Row, class MakeRow, class Run>
void update_all(std::span<const Update> updates, MakeRow&& make_row, Run&& run) {
  const auto is_ours = [](const Update& u) {
    return update_dtype(u.parameter->dtype()) == dtype_of<T> && state_dtype(u) == dtype_of<S> &&
           u.parameter->numel() > 0;
  };
  const auto count =
      static_cast<std::size_t>(std::count_if(updates.begin(), updates.end(), is_ours));
  if (count == 0) return;
  struct Written {
    const Tensor* parameter;
    Tensor copy;  // where kernels cannot work on the parameter
  };
  PoolVector<Row> rows;
  PoolVector<Written> written;
  std::vector<Tensor> gradients;  // copies
  rows.reserve(count);
  written.reserve(count);
  for (const Update& u : updates) {
    if (!is_ours(u)) continue;
    const Tensor &p = *u.parameter, &g = *u.gradient;
    const Tensor copy = is_direct(p) ? Tensor() : staged(p);
    if (!is_direct(g)) gradients.push_back(staged(g));
    rows.push_back(make_row((copy.defined() ? copy : p).template data<T>(),
                            (is_direct(g) ? g : gradients.back()).template data<T>(), u));
    written.push_back({&p, copy});
  }
  run(backend(written.front().parameter->device()), std::span<const Row>(rows));
  for (const Written& w : written)
    write_back(*w.parameter, w.copy.defined() ? w.copy : *w.parameter);
}

template <class T, class S = T>
void sgd_update_of(const kernels::SgdOptions& options, std::span<const Update> updates) {
  using Row = kernels::SgdTensor<T, S>;
  update_all<T, S, Row>(
      updates,
      [](T* p, const T* g, const Update& u) {
        return Row{p, g, data_or_null<S>((*u.state)[0]), u.parameter->numel(), rounding(u)};
      },
      [&](const Backend& table, std::span<const Row> rows) {
        if constexpr (std::is_same_v<T, S>)
          table.of<T>().sgd_steps(options, rows);
        else
          table.sgd_steps_bfloat16(options, rows);
      });
}

template <class T, class S = T>
void adam_update_of(const kernels::AdamOptions& options, std::span<const Update> updates) {
  using Row = kernels::AdamTensor<T, S>;
  update_all<T, S, Row>(
      updates,
      [](T* p, const T* g, const Update& u) {
        return Row{p,
                   g,
                   (*u.state)[0].data<S>(),
                   (*u.state)[1].data<S>(),
                   data_or_null<S>((*u.state)[2]),
                   u.parameter->numel(),
                   rounding(u)};
      },
      [&](const Backend& table, std::span<const Row> rows) {
        if constexpr (std::is_same_v<T, S>)
          table.of<T>().adam_steps(options, rows);
        else
          table.adam_steps_bfloat16(options, rows);
      });
}

double count_of(const Tensor& x) { return static_cast<double>(x.numel()); }
double bytes_of(const Tensor& x) { return count_of(x) * static_cast<double>(size_of(x.dtype())); }

// To the profile: every parameter, gradient and used state is read, and all but the gradient
// written.
void add_cost(double flops_per_element, std::size_t states, std::span<const Update> updates) {
  Cost cost;
  for (const Update& u : updates) {
    const auto state = static_cast<double>(states * size_of(state_dtype(u)));
    const double n = count_of(*u.parameter);
    cost += {n * flops_per_element, 3 * bytes_of(*u.parameter) + 2 * n * state};
  }
  watch::add(cost);
}

// f(kernels of T, the elements of all tensors that are updated as T).
template <class T, class F> void with_elements(std::span<const Tensor> data, F&& f) {
  PoolVector<std::span<T>> elements;
  elements.reserve(data.size());
  for (const Tensor& t : data) {
    if (t.dtype() == dtype_of<T>)
      elements.emplace_back(t.data<T>(), static_cast<std::size_t>(t.numel()));
  }
  if (!elements.empty()) f(backend(data.front().device()).template of<T>(), elements);
}

std::vector<Tensor> all_staged(std::span<const Tensor* const> tensors) {
  std::vector<Tensor> data;
  data.reserve(tensors.size());
  for (const Tensor* t : tensors) data.push_back(staged(*t));
  return data;
}

}  // namespace

void sgd_update(const kernels::SgdOptions& options, std::span<const Update> updates) {
  if (watch::on(watch::profile)) {  // p -= lr g; buf = momentum buf + g
    const bool momentum = options.momentum != 0, decay = options.weight_decay != 0;
    add_cost(2 + 2 * momentum + 2 * decay, momentum, updates);
  }
  sgd_update_of<float>(options, updates);
  sgd_update_of<float, bfloat16>(options, updates);
  sgd_update_of<double>(options, updates);
}

void adam_update(const kernels::AdamOptions& options, std::span<const Update> updates) {
  if (watch::on(watch::profile)) {  // m: 3, v: 4, p: 6 with root, quotients and eps
    add_cost(13 + options.amsgrad + 2 * (options.weight_decay != 0), 2 + options.amsgrad, updates);
  }
  adam_update_of<float>(options, updates);
  adam_update_of<float, bfloat16>(options, updates);
  adam_update_of<double>(options, updates);
}

double sum_of_squares(std::span<const Tensor* const> tensors) {
  if (watch::on(watch::profile)) {
    for (const Tensor* x : tensors) watch::add({2 * count_of(*x), bytes_of(*x)});
  }
  const std::vector<Tensor> data = all_staged(tensors);
  double sum = 0;
  const auto add = [&]<class T>(const auto& table, const PoolVector<std::span<T>>& x) {
    const PoolVector<std::span<const T>> seen(x.begin(), x.end());
    sum += table.sum_of_squares(seen);
  };
  with_elements<float>(data, add);
  with_elements<double>(data, add);
  return sum;
}

bool scale_in_place(std::span<const Tensor* const> tensors, double factor) {
  if (watch::on(watch::profile)) {
    for (const Tensor* x : tensors) watch::add({count_of(*x), 2 * bytes_of(*x)});
  }
  const std::vector<Tensor> data = all_staged(tensors);
  bool finite = true;
  const auto scale = [&]<class T>(const auto& table, const PoolVector<std::span<T>>& x) {
    finite &= table.scale_inplace(x, static_cast<T>(factor));
  };
  with_elements<float>(data, scale);
  with_elements<double>(data, scale);
  for (std::size_t i = 0; i < data.size(); ++i) write_back(*tensors[i], data[i]);
  return finite;
}

}  // namespace lg
