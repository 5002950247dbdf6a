// update.cpp: hands lists of tensors to the device's update kernels. A half-precision or strided
// tensor goes through a contiguous copy of the update dtype and back.
#include "lightgrad/ops/update.h"

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

// A row make_row(parameter, gradient, update) for each update of element type T; run gets all of
// them.
template <class T, class Row, class MakeRow, class Run>
void update_all(std::span<const Update> updates, MakeRow&& make_row, Run&& run) {
  std::vector<Row> rows;
  std::vector<Tensor> parameters, gradients;  // keep the staged copies alive
  std::vector<const Tensor*> targets;
  for (const Update& u : updates) {
    if (update_dtype(u.parameter.dtype()) != dtype_of<T> || u.parameter.numel() == 0) continue;
    parameters.push_back(staged(u.parameter));
    gradients.push_back(staged(u.gradient));
    targets.push_back(&u.parameter);
    rows.push_back(
        make_row(parameters.back().template data<T>(), gradients.back().template data<T>(), u));
  }
  if (rows.empty()) return;
  run(backend(targets.front()->device()).template of<T>(), std::span<const Row>(rows));
  for (std::size_t i = 0; i < targets.size(); ++i) {
    if (parameters[i].is_same(*targets[i]))
      targets[i]->impl()->storage->bump_version();
    else
      targets[i]->assign(parameters[i]);
  }
}

template <class T>
void sgd_update_of(const kernels::SgdOptions& options, std::span<const Update> updates) {
  using Row = kernels::SgdTensor<T>;
  update_all<T, Row>(
      updates,
      [](T* p, const T* g, const Update& u) {
        return Row{p, g, data_or_null<T>(u.state[0]), u.parameter.numel()};
      },
      [&](const auto& table, std::span<const Row> rows) { table.sgd_steps(options, rows); });
}

template <class T>
void adam_update_of(const kernels::AdamOptions& options, std::span<const Update> updates) {
  using Row = kernels::AdamTensor<T>;
  update_all<T, Row>(
      updates,
      [](T* p, const T* g, const Update& u) {
        return Row{p,
                   g,
                   u.state[0].data<T>(),
                   u.state[1].data<T>(),
                   data_or_null<T>(u.state[2]),
                   u.parameter.numel()};
      },
      [&](const auto& table, std::span<const Row> rows) { table.adam_steps(options, rows); });
}

double count_of(const Tensor& x) { return static_cast<double>(x.numel()); }
double bytes_of(const Tensor& x) { return count_of(x) * static_cast<double>(size_of(x.dtype())); }

// To the profile: every parameter, gradient and used state is read, and all but the gradient
// written.
void add_cost(double flops_per_element, std::size_t states, std::span<const Update> updates) {
  Cost cost;
  for (const Update& u : updates) {
    const auto state = static_cast<double>(states * size_of(update_dtype(u.parameter.dtype())));
    const double n = count_of(u.parameter);
    cost += {n * flops_per_element, 3 * bytes_of(u.parameter) + 2 * n * state};
  }
  watch::add(cost);
}

// f(T* data) on the element type of x, which kernels can work on.
template <class F> auto on_data(const Tensor& x, F&& f) {
  return x.dtype() == DType::float64 ? f(x.data<double>()) : f(x.data<float>());
}

}  // namespace

void sgd_update(const kernels::SgdOptions& options, std::span<const Update> updates) {
  if (watch::on(watch::profile)) {  // p -= lr g; buf = momentum buf + g
    const bool momentum = options.momentum != 0, decay = options.weight_decay != 0;
    add_cost(2 + 2 * momentum + 2 * decay, momentum, updates);
  }
  sgd_update_of<float>(options, updates);
  sgd_update_of<double>(options, updates);
}

void adam_update(const kernels::AdamOptions& options, std::span<const Update> updates) {
  if (watch::on(watch::profile)) {  // m: 3, v: 4, p: 6 with root, quotients and eps
    add_cost(13 + options.amsgrad + 2 * (options.weight_decay != 0), 2 + options.amsgrad, updates);
  }
  adam_update_of<float>(options, updates);
  adam_update_of<double>(options, updates);
}

double sum_of_squares(const Tensor& x) {
  if (watch::on(watch::profile)) watch::add({2 * count_of(x), bytes_of(x)});
  const Tensor data = staged(x);
  return on_data(data, [&]<class T>(T* p) {
    return backend(x.device()).of<T>().sum_of_squares(p, data.numel());
  });
}

void scale_in_place(const Tensor& x, double factor) {
  if (watch::on(watch::profile)) watch::add({count_of(x), 2 * bytes_of(x)});
  const Tensor data = staged(x);
  on_data(data, [&]<class T>(T* p) {
    backend(x.device()).of<T>().scale_inplace(p, data.numel(), static_cast<T>(factor));
  });
  if (data.is_same(x))
    x.impl()->storage->bump_version();
  else
    x.assign(data);
}

}  // namespace lg
