// init.h: how parameters start. Each function overwrites x in place, records no gradient, draws
// from the default generator, and returns x. The distributions are PyTorch's.
#pragma once

#include <numbers>
#include <string_view>

#include "lightgrad/tensor/tensor.h"

namespace lg::nn::init {

const Tensor& uniform_(const Tensor& x, double low = 0, double high = 1);  // [low, high)
const Tensor& normal_(const Tensor& x, double mean = 0, double stddev = 1);
// Normal, restricted to [low, high].
const Tensor& trunc_normal_(const Tensor& x, double mean = 0, double stddev = 1, double low = -2,
                            double high = 2);
const Tensor& constant_(const Tensor& x, double value);
const Tensor& zeros_(const Tensor& x);
const Tensor& ones_(const Tensor& x);

// Inputs and outputs of one unit of a weight [out, in, ...]; ValueError when it has fewer than two
// dimensions.
struct Fans {
  std::int64_t in, out;
};
Fans calculate_fans(const Tensor& weight, std::string_view operation = "calculate_fans");
// What keeps the variance of a layer's outputs: "linear", "sigmoid", "tanh", "relu", "leaky_relu"
// (with its slope), "selu".
double calculate_gain(std::string_view nonlinearity, double slope = 0.01);

// Glorot and Bengio 2010: variance gain^2 2 / (fan_in + fan_out).
const Tensor& xavier_uniform_(const Tensor& x, double gain = 1);
const Tensor& xavier_normal_(const Tensor& x, double gain = 1);
// He et al. 2015: variance gain^2 / fan. `a` is the slope of the leaky ReLU; mode is "fan_in" or
// "fan_out".
const Tensor& kaiming_uniform_(const Tensor& x, double a = 0, std::string_view mode = "fan_in",
                               std::string_view nonlinearity = "leaky_relu");
const Tensor& kaiming_normal_(const Tensor& x, double a = 0, std::string_view mode = "fan_in",
                              std::string_view nonlinearity = "leaky_relu");
// Saxe et al. 2013: x as a matrix [first, the rest] gets orthonormal rows or columns, times gain.
const Tensor& orthogonal_(const Tensor& x, double gain = 1);

}  // namespace lg::nn::init
