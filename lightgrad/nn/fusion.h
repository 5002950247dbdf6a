// fusion.h: layers that become one for evaluation.
#pragma once

#include "lightgrad/nn/convolution.h"
#include "lightgrad/nn/normalization.h"

namespace lg::nn::utils {

// A convolution that gives bn(conv(x)), both in evaluation: the running statistics and the scale of
// bn go into its weight and bias. conv and bn stay as they are and share no memory with it. Errors:
// a layer in training, a bn of other channels or without running statistics.
Mod<Conv1d> fuse_conv_bn_eval(const Conv1d& conv, const BatchNorm1d& bn);
Mod<Conv2d> fuse_conv_bn_eval(const Conv2d& conv, const BatchNorm2d& bn);

}  // namespace lg::nn::utils
