#include "lightgrad/nn/activations.h"

#include "lightgrad/ops/ops.h"

namespace lg::nn {

Tensor ReLU::forward(const Tensor& x) const { return lg::relu(x); }
Tensor SiLU::forward(const Tensor& x) const { return lg::silu(x); }
Tensor Tanh::forward(const Tensor& x) const { return lg::tanh(x); }
Tensor Sigmoid::forward(const Tensor& x) const { return lg::sigmoid(x); }
Tensor Softmax::forward(const Tensor& x) const { return lg::softmax(x, dim); }
Tensor LogSoftmax::forward(const Tensor& x) const { return lg::log_softmax(x, dim); }
Tensor LeakyReLU::forward(const Tensor& x) const { return lg::leaky_relu(x, negative_slope); }
Tensor ELU::forward(const Tensor& x) const { return lg::elu(x, alpha); }
Tensor GELU::forward(const Tensor& x) const { return lg::gelu(x, approximate); }
Tensor Softplus::forward(const Tensor& x) const { return lg::softplus(x, beta, threshold); }
Tensor Flatten::forward(const Tensor& x) const { return lg::flatten(x, start_dim, end_dim); }

GELU::GELU(std::string form) : approximate(std::move(form)) {
  if (approximate != "none" && approximate != "tanh") {
    fail(ErrorKind::value, "GELU", "approximate is \"", approximate,
         "\", expected \"none\" or \"tanh\"");
  }
}
Softplus::Softplus(double b, double limit) : beta(b), threshold(limit) {
  if (beta == 0) fail(ErrorKind::value, "Softplus", "beta is 0");
}

std::string GELU::extra_repr() const { return text("approximate='", approximate, "'"); }
std::string Softmax::extra_repr() const { return text("dim=", dim); }
std::string LogSoftmax::extra_repr() const { return text("dim=", dim); }
std::string LeakyReLU::extra_repr() const { return text("negative_slope=", negative_slope); }
std::string ELU::extra_repr() const { return text("alpha=", alpha); }
std::string Softplus::extra_repr() const { return text("beta=", beta, ", threshold=", threshold); }
std::string Flatten::extra_repr() const {
  return text("start_dim=", start_dim, ", end_dim=", end_dim);
}

}  // namespace lg::nn
