// init.cpp: random fills in the element's own type (halves through float32), and the variances
// derived from fans.
#include "lightgrad/nn/init.h"

#include <algorithm>
#include <cmath>

#include "lightgrad/base/parallel.h"

namespace lg::nn::init {

namespace {

void check_floating(const Tensor& x, std::string_view operation) {
  if (!is_floating(x.dtype()))
    fail(ErrorKind::type, operation, "x is ", x.describe(), ", expected a floating-point dtype");
}

// fill(T* data, n) writes the elements in row-major order; T is double for float64, else float.
template <class F> const Tensor& write(const Tensor& x, std::string_view operation, F&& fill) {
  check_floating(x, operation);
  const bool direct = x.is_contiguous() && !is_half(x.dtype());
  const Tensor target =
      direct ? x : Tensor::empty(x.shape(), is_half(x.dtype()) ? DType::float32 : x.dtype());
  if (target.dtype() == DType::float64)
    fill(target.data<double>(), target.numel());
  else
    fill(target.data<float>(), target.numel());
  if (direct)
    x.impl()->storage->bump_version();
  else
    x.assign(target);
  return x;
}

// The quantile of the normal distribution: Acklam's rational approximation (relative
// error 1.15e-9), then one step of Halley's method on the distribution function, which gives full
// double precision.
double normal_quantile(double p) {
  constexpr double a[] = {-3.969683028665376e+01, 2.209460984245205e+02,  -2.759285104469687e+02,
                          1.383577518672690e+02,  -3.066479806614716e+01, 2.506628277459239e+00};
  constexpr double b[] = {-5.447609879822406e+01, 1.615858368580409e+02, -1.556989798598866e+02,
                          6.680131188771972e+01, -1.328068155288572e+01};
  constexpr double c[] = {-7.784894002430293e-03, -3.223964580411365e-01, -2.400758277161838e+00,
                          -2.549732539343734e+00, 4.374664141464968e+00,  2.938163982698783e+00};
  constexpr double d[] = {7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e+00,
                          3.754408661907416e+00};
  if (p <= 0) return -HUGE_VAL;
  if (p >= 1) return HUGE_VAL;
  const auto tail = [&](double share) {
    const double q = std::sqrt(-2 * std::log(share));
    return (((((c[0] * q + c[1]) * q + c[2]) * q + c[3]) * q + c[4]) * q + c[5]) /
           ((((d[0] * q + d[1]) * q + d[2]) * q + d[3]) * q + 1);
  };
  double x;
  if (p < 0.02425) {
    x = tail(p);
  } else if (p > 1 - 0.02425) {
    x = -tail(1 - p);
  } else {
    const double q = p - 0.5, r = q * q;
    x = (((((a[0] * r + a[1]) * r + a[2]) * r + a[3]) * r + a[4]) * r + a[5]) * q /
        (((((b[0] * r + b[1]) * r + b[2]) * r + b[3]) * r + b[4]) * r + 1);
  }
  const double error = 0.5 * std::erfc(-x / std::numbers::sqrt2) - p;
  const double u = error * std::sqrt(2 * std::numbers::pi) * std::exp(x * x / 2);
  return x - u / (1 + x * u / 2);
}

double normal_cdf(double x) { return 0.5 * std::erfc(-x / std::numbers::sqrt2); }

double kaiming_deviation(const Tensor& x, double a, std::string_view mode,
                         std::string_view nonlinearity, std::string_view operation) {
  const Fans fans = calculate_fans(x, operation);
  if (mode != "fan_in" && mode != "fan_out") {
    fail(ErrorKind::value, operation, "mode is \"", mode, "\", expected \"fan_in\" or \"fan_out\"");
  }
  const auto fan = static_cast<double>(mode == "fan_in" ? fans.in : fans.out);
  return calculate_gain(nonlinearity, a) / std::sqrt(fan);
}

// With eight sums side by side, so that they need not wait for each other.
double dot(const double* x, const double* y, std::int64_t n) {
  double sums[8] = {};
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int k = 0; k < 8; ++k) sums[k] += x[i + k] * y[i + k];
  for (; i < n; ++i) sums[0] += x[i] * y[i];
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

// Rows of q [count, width], count <= width, made orthonormal by modified Gram-Schmidt; a second
// round takes away what rounding left ("twice is enough", Kahan). A positive scale per row makes
// the result Haar-distributed when q is normal, as the sign fix after a QR does.
void orthonormalize(double* q, std::int64_t count, std::int64_t width) {
  for (std::int64_t i = 0; i < count; ++i) {
    double* row = q + i * width;
    for (int round = 0; round < 2; ++round) {
      for (std::int64_t j = 0; j < i; ++j) {
        const double* other = q + j * width;
        const double along = dot(row, other, width);
        for (std::int64_t k = 0; k < width; ++k) row[k] -= along * other[k];
      }
    }
    const double scale = 1 / std::sqrt(dot(row, row, width));
    for (std::int64_t k = 0; k < width; ++k) row[k] *= scale;
  }
}

}  // namespace

const Tensor& uniform_(const Tensor& x, double low, double high) {
  if (!(low <= high)) fail(ErrorKind::value, "uniform_", "low ", low, " is not below high ", high);
  return write(x, "uniform_", [&]<class T>(T* out, std::int64_t n) {
    fill_uniform<T>(out, n, static_cast<T>(low), static_cast<T>(high), default_generator().next());
  });
}

const Tensor& normal_(const Tensor& x, double mean, double stddev) {
  if (!(stddev >= 0))
    fail(ErrorKind::value, "normal_", "stddev is ", stddev, ", expected a number from 0 up");
  return write(x, "normal_", [&]<class T>(T* out, std::int64_t n) {
    fill_normal<T>(out, n, static_cast<T>(mean), static_cast<T>(stddev),
                   default_generator().next());
  });
}

const Tensor& trunc_normal_(const Tensor& x, double mean, double stddev, double low, double high) {
  if (!(stddev > 0))
    fail(ErrorKind::value, "trunc_normal_", "stddev is ", stddev, ", expected a number above 0");
  if (!(low < high))
    fail(ErrorKind::value, "trunc_normal_", "low ", low, " is not below high ", high);
  const double from = normal_cdf((low - mean) / stddev), to = normal_cdf((high - mean) / stddev);
  return write(x, "trunc_normal_", [&]<class T>(T* out, std::int64_t n) {
    fill_uniform<T>(out, n, 0, 1, default_generator().next());
    parallel_for(n, 4096, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const double z = normal_quantile(from + (to - from) * static_cast<double>(out[i]));
        out[i] = static_cast<T>(std::clamp(mean + stddev * z, low, high));
      }
    });
  });
}

const Tensor& constant_(const Tensor& x, double value) {
  check_floating(x, "constant_");
  x.assign(Tensor(value));
  return x;
}
const Tensor& zeros_(const Tensor& x) { return constant_(x, 0); }
const Tensor& ones_(const Tensor& x) { return constant_(x, 1); }

Fans calculate_fans(const Tensor& weight, std::string_view operation) {
  if (weight.rank() < 2) {
    fail(ErrorKind::value, operation, "a weight has at least two dimensions [out, in, ...], got ",
         weight.describe());
  }
  std::int64_t field = 1;
  for (int i = 2; i < weight.rank(); ++i) field *= weight.shape()[i];
  return {weight.shape()[1] * field, weight.shape()[0] * field};
}

double calculate_gain(std::string_view nonlinearity, double slope) {
  if (nonlinearity == "linear" || nonlinearity == "sigmoid" || nonlinearity.starts_with("conv"))
    return 1;
  if (nonlinearity == "tanh") return 5.0 / 3;
  if (nonlinearity == "relu") return std::numbers::sqrt2;
  if (nonlinearity == "leaky_relu") return std::sqrt(2 / (1 + slope * slope));
  if (nonlinearity == "selu") return 0.75;
  fail(ErrorKind::value, "calculate_gain", "unknown nonlinearity \"", nonlinearity,
       "\", expected linear, sigmoid, tanh, relu, leaky_relu or selu");
}

const Tensor& xavier_uniform_(const Tensor& x, double gain) {
  const Fans fans = calculate_fans(x, "xavier_uniform_");
  const double bound =
      gain * std::sqrt(6 / static_cast<double>(std::max<std::int64_t>(fans.in + fans.out, 1)));
  return uniform_(x, -bound, bound);
}
const Tensor& xavier_normal_(const Tensor& x, double gain) {
  const Fans fans = calculate_fans(x, "xavier_normal_");
  return normal_(
      x, 0,
      gain * std::sqrt(2 / static_cast<double>(std::max<std::int64_t>(fans.in + fans.out, 1))));
}
const Tensor& kaiming_uniform_(const Tensor& x, double a, std::string_view mode,
                               std::string_view nonlinearity) {
  const double deviation = kaiming_deviation(x, a, mode, nonlinearity, "kaiming_uniform_");
  if (x.numel() == 0) return x;
  return uniform_(x, -std::sqrt(3.0) * deviation, std::sqrt(3.0) * deviation);
}
const Tensor& kaiming_normal_(const Tensor& x, double a, std::string_view mode,
                              std::string_view nonlinearity) {
  const double deviation = kaiming_deviation(x, a, mode, nonlinearity, "kaiming_normal_");
  if (x.numel() == 0) return x;
  return normal_(x, 0, deviation);
}

const Tensor& orthogonal_(const Tensor& x, double gain) {
  check_floating(x, "orthogonal_");
  if (x.rank() < 2)
    fail(ErrorKind::value, "orthogonal_", "x has at least two dimensions, got ", x.describe());
  if (x.numel() == 0) return x;
  const std::int64_t rows = x.shape()[0], columns = x.numel() / rows;
  const std::int64_t count = std::min(rows, columns), width = std::max(rows, columns);
  std::vector<double> q(static_cast<std::size_t>(count * width));
  fill_normal<double>(q.data(), count * width, 0, 1, default_generator().next());
  orthonormalize(q.data(), count, width);
  return write(x, "orthogonal_", [&]<class T>(T* out, std::int64_t) {
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < columns; ++j) {
        const double v = rows <= columns ? q[static_cast<std::size_t>(i * width + j)]
                                         : q[static_cast<std::size_t>(j * width + i)];
        out[i * columns + j] = static_cast<T>(gain * v);
      }
    }
  });
}

}  // namespace lg::nn::init
