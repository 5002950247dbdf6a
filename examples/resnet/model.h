// model.h: residual networks for small images (He et al. 2015, section 4.2): a 3x3 convolution,
// three stages of blocks that each halve the image and double the channels, the mean over what is
// left, one linear layer. ResNet-20 is width 16 with three blocks a stage; shortcuts that change
// the shape are 1x1 convolutions.
#pragma once

#include "examples/common/program.h"

using lg::Tensor;
namespace nn = lg::nn;

struct ResNetConfig {
  std::int64_t channels = 1, width = 16, blocks = 2, classes = 10;
  bool checkpoint_activations = false;
};

struct Conv : nn::Conv2d {  // batch_norm follows, which makes a bias of no use
  Conv(std::int64_t in, std::int64_t out, std::int64_t size, std::int64_t stride)
      : nn::Conv2d(in, out, size,
                   {.stride = stride, .padding = size / 2, .bias = false, .dtype = {}}) {}
};

struct Block : nn::Module {
  nn::Child<Conv> conv1;
  nn::Child<nn::BatchNorm2d> bn1;
  nn::Child<Conv> conv2;
  nn::Child<nn::BatchNorm2d> bn2;
  nn::Child<nn::Sequential> shortcut;  // empty where the shape stays

  Block(std::int64_t in, std::int64_t out, std::int64_t stride)
      : conv1(this, "conv1", in, out, 3, stride),
        bn1(this, "bn1", out),
        conv2(this, "conv2", out, out, 3, 1),
        bn2(this, "bn2", out),
        shortcut(this, "shortcut") {
    if (stride == 1 && in == out) return;
    shortcut->append(nn::make<Conv>(in, out, 1, stride));
    shortcut->append(nn::make<nn::BatchNorm2d>(out));
  }

  Tensor forward(const Tensor& x) const {
    return bn2->relu(conv2(bn1->relu(conv1(x))), shortcut(x));
  }
};

struct ResNet : nn::Module {
  bool checkpoint_activations;
  nn::Child<Conv> conv;
  nn::Child<nn::BatchNorm2d> bn;
  nn::Child<nn::Sequential> stages;
  nn::Child<nn::Linear> fc;

  explicit ResNet(const ResNetConfig& s)
      : checkpoint_activations(s.checkpoint_activations),
        conv(this, "conv", s.channels, s.width, 3, 1),
        bn(this, "bn", s.width),
        stages(this, "stages"),
        fc(this, "fc", 4 * s.width, s.classes) {
    std::int64_t in = s.width;
    for (std::int64_t stage = 0; stage < 3; ++stage) {
      const std::int64_t out = s.width << stage;
      for (std::int64_t i = 0; i < s.blocks; ++i) {
        stages->append(nn::make<Block>(in, out, stage > 0 && i == 0 ? 2 : 1));
        in = out;
      }
    }
  }

  // Images (N, channels, H, W) -> logits (N, classes).
  Tensor forward(const Tensor& images) const {
    Tensor x = bn->relu(conv(images));
    for (nn::Module* block : stages->children()) x = call_block(*block, x, checkpoint_activations);
    return fc(lg::mean(x, {{2, 3}}));
  }
};
