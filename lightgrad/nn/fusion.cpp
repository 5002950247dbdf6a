#include "lightgrad/nn/fusion.h"

#include "lightgrad/autograd/node.h"
#include "lightgrad/ops/ops.h"

namespace lg::nn::utils {
namespace {

constexpr std::string_view kName = "fuse_conv_bn_eval";

template <class Conv> Mod<Conv> fuse(const Conv& conv, const BatchNormBase& bn) {
  if (conv.training || bn.training) {
    fail(ErrorKind::value, kName, conv.training ? "conv" : "bn",
         " is in training, expected evaluation; call eval() first");
  }
  if (conv.overridden || bn.overridden) {
    fail(ErrorKind::type, kName, conv.overridden ? "conv" : "bn",
         " is of a class of its own, whose forward is not known here");
  }
  if (!bn.running_mean.defined()) {
    fail(ErrorKind::value, kName,
         "bn has no running statistics to fuse (track_running_stats=False)");
  }
  if (bn.num_features != conv.out_channels) {
    fail(ErrorKind::value, kName, "bn has ", bn.num_features, " features, conv has ",
         conv.out_channels, " output channels (weight ", conv.weight.shape(), ")");
  }
  const NoGrad off;
  Tensor scale = rsqrt(bn.running_var + bn.eps);
  if (bn.weight.defined()) scale = scale * bn.weight;
  Tensor shift = -bn.running_mean * scale;
  if (conv.bias.defined()) shift = shift + conv.bias * scale;
  if (bn.bias.defined()) shift = shift + bn.bias;
  Shape outputs = Shape::filled(conv.weight.rank(), 1);
  outputs[0] = conv.out_channels;
  const DType dtype = conv.weight.dtype();
  const Mod<Conv> fused = make<Conv>(conv);  // shares the parameters, which are replaced
  fused->weight = cast(conv.weight * reshape(scale, outputs), dtype);
  fused->bias = cast(shift, dtype);
  for (Tensor* p : {static_cast<Tensor*>(&fused->weight), static_cast<Tensor*>(&fused->bias)})
    p->set_requires_grad(conv.weight.requires_grad());
  return fused;
}

}  // namespace

Mod<Conv1d> fuse_conv_bn_eval(const Conv1d& conv, const BatchNorm1d& bn) { return fuse(conv, bn); }
Mod<Conv2d> fuse_conv_bn_eval(const Conv2d& conv, const BatchNorm2d& bn) { return fuse(conv, bn); }

}  // namespace lg::nn::utils
