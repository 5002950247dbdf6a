// normalization.h: normalisation of channels as layers. Arguments, defaults and names are
// PyTorch's.
#pragma once

#include "lightgrad/nn/members.h"
#include "lightgrad/ops/creation.h"

namespace lg::nn {

struct BatchNormOptions {
  double eps = 1e-5;
  // How far the running statistics move; without: they are the average of all batches.
  std::optional<double> momentum = 0.1;
  bool affine = true;
  bool track_running_stats = true;  // without: the batch's statistics in evaluation, too
  OptionalDType dtype;
};

// x [N, C, ...], normalised per channel: in training by the batch's statistics, which the running
// ones follow; in evaluation by the running ones.
struct BatchNormBase : Module {
  std::int64_t num_features;
  double eps;
  std::optional<double> momentum;
  Param weight, bias;                // [num_features]; undefined without affine
  Buffer running_mean, running_var;  // [num_features]; undefined without tracking
  Buffer num_batches_tracked;        // int64 []

  void reset_running_stats() const;
  void reset_parameters();
  Tensor forward(const Tensor& x) const { return normalized(x, {}, false); }
  // relu(forward(x) + residual) in the pass that normalises; residual, as x, may be undefined.
  Tensor relu(const Tensor& x, const Tensor& residual = {}) const;
  std::string extra_repr() const override;

 protected:
  BatchNormBase(std::int64_t num_features, const BatchNormOptions& options);
  virtual void check(const Tensor& x) const = 0;

 private:
  Tensor normalized(const Tensor& x, const Tensor& residual, bool relu) const;
};

struct BatchNorm1d : BatchNormBase {  // x [N, C] or [N, C, W]
  explicit BatchNorm1d(std::int64_t num_features, const BatchNormOptions& options = {})
      : BatchNormBase(num_features, options) {}
  Tensor forward(const Tensor& x) const { return BatchNormBase::forward(x); }

 protected:
  void check(const Tensor& x) const override;
};

struct BatchNorm2d : BatchNormBase {  // x [N, C, H, W]
  explicit BatchNorm2d(std::int64_t num_features, const BatchNormOptions& options = {})
      : BatchNormBase(num_features, options) {}
  Tensor forward(const Tensor& x) const { return BatchNormBase::forward(x); }

 protected:
  void check(const Tensor& x) const override;
};

// x [N, C, ...], each sample's channels normalised in num_groups groups.
struct GroupNorm : Module {
  std::int64_t num_groups, num_channels;
  double eps;
  Param weight, bias;  // [num_channels]; undefined without affine

  GroupNorm(std::int64_t num_groups, std::int64_t num_channels, double eps = 1e-5,
            bool affine = true, OptionalDType dtype = {});
  void reset_parameters();
  Tensor forward(const Tensor& x) const;
  std::string extra_repr() const override;
};

}  // namespace lg::nn
