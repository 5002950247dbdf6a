// activations.h: functions without parameters as layers.
#pragma once

#include "lightgrad/nn/members.h"

namespace lg::nn {

struct Identity : Module {
  Tensor forward(const Tensor& x) const { return x; }
};
struct ReLU : Module {
  Tensor forward(const Tensor& x) const;
};
struct GELU : Module {
  std::string approximate;  // "none" or "tanh"
  explicit GELU(std::string approximate = "none");
  Tensor forward(const Tensor& x) const;
  std::string extra_repr() const override;
};
struct SiLU : Module {
  Tensor forward(const Tensor& x) const;
};
struct Tanh : Module {
  Tensor forward(const Tensor& x) const;
};
struct Sigmoid : Module {
  Tensor forward(const Tensor& x) const;
};
struct Softmax : Module {
  std::int64_t dim;
  explicit Softmax(std::int64_t dim = -1) : dim(dim) {}
  Tensor forward(const Tensor& x) const;
  std::string extra_repr() const override;
};
struct LogSoftmax : Module {
  std::int64_t dim;
  explicit LogSoftmax(std::int64_t dim = -1) : dim(dim) {}
  Tensor forward(const Tensor& x) const;
  std::string extra_repr() const override;
};
struct LeakyReLU : Module {
  double negative_slope;
  explicit LeakyReLU(double negative_slope = 0.01) : negative_slope(negative_slope) {}
  Tensor forward(const Tensor& x) const;
  std::string extra_repr() const override;
};
struct ELU : Module {
  double alpha;
  explicit ELU(double alpha = 1) : alpha(alpha) {}
  Tensor forward(const Tensor& x) const;
  std::string extra_repr() const override;
};
// ln(1 + e^(beta x)) / beta; x itself where beta x is above the threshold.
struct Softplus : Module {
  double beta, threshold;
  explicit Softplus(double beta = 1, double threshold = 20);
  Tensor forward(const Tensor& x) const;
  std::string extra_repr() const override;
};
struct Flatten : Module {
  std::int64_t start_dim, end_dim;
  explicit Flatten(std::int64_t start_dim = 1, std::int64_t end_dim = -1)
      : start_dim(start_dim), end_dim(end_dim) {}
  Tensor forward(const Tensor& x) const;
  std::string extra_repr() const override;
};

}  // namespace lg::nn
