#include "lightgrad/autograd/gradcheck.h"

#include <cmath>

namespace lg::autograd {
namespace {

bool is_checked(const Tensor& t) {
  return t.defined() && t.requires_grad() && is_floating(t.dtype());
}

void check_inputs(const std::vector<Tensor>& inputs) {
  bool any = false;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (!is_checked(inputs[i])) continue;
    any = true;
    if (inputs[i].dtype() != DType::float64) {
      fail(ErrorKind::type, "gradcheck", "input ", i, " is ", inputs[i].describe(),
           "; finite differences need float64 inputs");
    }
  }
  if (!any) fail(ErrorKind::value, "gradcheck", "no input requires a gradient");
}

// A copy of x with element k moved by delta; x itself is never written.
Tensor moved(const Tensor& x, std::int64_t k, double delta) {
  Tensor t = x.copy();
  t.data<double>()[k] += delta;
  return t.set_requires_grad();
}

// The gradients of output o with respect to each checked input, one row per element of the output.
std::vector<std::vector<std::vector<double>>> analytic(const Tensor& y,
                                                       const std::vector<Tensor>& wanted) {
  std::vector<std::vector<std::vector<double>>> rows;
  for (std::int64_t j = 0; j < y.numel(); ++j) {
    Tensor g = zeros_for(y.shape(), y.dtype());
    g.data<double>()[j] = 1;
    auto gradients = grad({y}, wanted, {g}, {.retain_graph = true, .allow_unused = true});
    auto& row = rows.emplace_back();
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      row.push_back(gradients[i].defined()
                        ? gradients[i].to_vector<double>()
                        : std::vector<double>(static_cast<std::size_t>(wanted[i].numel())));
    }
  }
  return rows;
}

void compare(const CheckedFunction& f, const std::vector<Tensor>& inputs,
             const GradcheckOptions& options, std::string_view name) {
  const std::vector<Tensor> outputs = f(inputs);
  std::vector<Tensor> wanted;
  std::vector<std::size_t> position;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (is_checked(inputs[i])) wanted.push_back(inputs[i]), position.push_back(i);
  }
  for (std::size_t o = 0; o < outputs.size(); ++o) {
    const Tensor& y = outputs[o];
    if (!y.defined() || !is_floating(y.dtype())) continue;
    const bool connected = y.requires_grad();
    const auto rows = connected ? analytic(y, wanted) : decltype(analytic(y, wanted))();
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      for (std::int64_t k = 0; k < wanted[i].numel(); ++k) {
        auto at = [&](double delta) {
          std::vector<Tensor> changed = inputs;
          changed[position[i]] = moved(inputs[position[i]], k, delta);
          return f(changed)[o].to_vector<double>();
        };
        const std::vector<double> up = at(options.eps), down = at(-options.eps);
        for (std::int64_t j = 0; j < y.numel(); ++j) {
          const auto js = static_cast<std::size_t>(j);
          const double numeric = (up[js] - down[js]) / (2 * options.eps);
          const double exact = connected ? rows[js][i][static_cast<std::size_t>(k)] : 0;
          if (std::abs(exact - numeric) <= options.atol + options.rtol * std::abs(numeric))
            continue;
          if (std::isnan(exact) && std::isnan(numeric)) continue;
          fail(ErrorKind::runtime, name, "gradient of output ", o, " element ", j, " for input ",
               position[i], " element ", k, ": backward gives ", exact, ", finite differences ",
               numeric, " (input ", wanted[i].describe(), ", output ", y.describe(), ")");
        }
      }
    }
  }
}

}  // namespace

bool gradcheck(const CheckedFunction& f, const std::vector<Tensor>& inputs,
               GradcheckOptions options) {
  check_inputs(inputs);
  EnableGrad on;
  compare(f, inputs, options, "gradcheck");
  return true;
}

bool gradgradcheck(const CheckedFunction& f, const std::vector<Tensor>& inputs,
                   GradcheckOptions options) {
  check_inputs(inputs);
  EnableGrad on;
  // The function checked takes the inputs and a gradient for each differentiable output, and gives
  // the gradients.
  std::vector<Tensor> all = inputs;
  std::vector<std::size_t> used;
  std::uint64_t draw = 0;
  const std::vector<Tensor> outputs = f(inputs);
  for (std::size_t o = 0; o < outputs.size(); ++o) {
    if (!outputs[o].defined() || !outputs[o].requires_grad()) continue;
    Tensor g = zeros_for(outputs[o].shape(), outputs[o].dtype());
    fill_normal<double>(g.data<double>(), g.numel(), 0, 1, {7, draw++});
    all.push_back(g.set_requires_grad());
    used.push_back(o);
  }
  const std::size_t n = inputs.size();
  auto gradients = [&](const std::vector<Tensor>& a) {
    const std::vector<Tensor> x(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(n));
    const std::vector<Tensor> y = f(x);
    std::vector<Tensor> ends, start, wanted;
    for (std::size_t k = 0; k < used.size(); ++k)
      ends.push_back(y[used[k]]), start.push_back(a[n + k]);
    for (const Tensor& t : x)
      if (is_checked(t)) wanted.push_back(t);
    auto result = grad(ends, wanted, start,
                       {.retain_graph = true, .create_graph = true, .allow_unused = true});
    for (std::size_t i = 0; i < result.size(); ++i) {
      if (!result[i].defined()) result[i] = zeros_for(wanted[i].shape(), wanted[i].dtype());
    }
    return result;
  };
  compare(gradients, all, options, "gradgradcheck");
  return true;
}

}  // namespace lg::autograd
