// steps.cpp: whole training steps: the workloads of workloads.txt, or any case of their kinds.
// steps.py, torch_steps.py and jax_steps.py take the same ones. --bf16: the loss under autocast.
// harness.h says how else it is called.
//   build/benchmarks/steps gpt_small "gpt context=128 width=256 heads=4 batch=8 vocabulary=65
//   layers=3"
#include <fstream>
#include <string>
#include <vector>

#include "benchmarks/harness.h"
#include "lightgrad/lightgrad.h"

using bench::Case;
using bench::Run;
using lg::Tensor;
namespace nn = lg::nn;

namespace {

bool bf16 = false;

struct Block : nn::Module {
  std::int64_t heads;
  nn::Child<nn::LayerNorm> ln1, ln2;
  nn::Child<nn::Linear> qkv, proj, up, down;

  Block(std::int64_t width, std::int64_t heads)
      : heads(heads),
        ln1(this, "ln1", width),
        ln2(this, "ln2", width),
        qkv(this, "qkv", width, 3 * width),
        proj(this, "proj", width, width),
        up(this, "up", width, 4 * width),
        down(this, "down", 4 * width, width) {}

  Tensor forward(const Tensor& in) const {
    const std::int64_t B = in.size(0), T = in.size(1), C = in.size(2);
    std::vector<Tensor> part = lg::split(qkv(ln1(in)), C, 2);
    for (Tensor& p : part) p = lg::transpose(lg::view(p, {B, T, heads, C / heads}), 1, 2);
    const Tensor y = lg::scaled_dot_product_attention(part[0], part[1], part[2], {}, 0, true);
    const Tensor x = in + proj(lg::reshape(lg::transpose(y, 1, 2), {B, T, C}));
    return x + down(lg::gelu(up(ln2(x))));
  }
};

struct GPT : nn::Module {
  nn::Child<nn::Embedding> tok, pos;
  nn::Child<nn::ModuleList> blocks;
  nn::Child<nn::LayerNorm> ln;
  nn::Child<nn::Linear> head;

  GPT(std::int64_t vocabulary, std::int64_t context, std::int64_t width, std::int64_t heads,
      int layers)
      : tok(this, "tok", vocabulary, width),
        pos(this, "pos", context, width),
        blocks(this, "blocks"),
        ln(this, "ln", width),
        head(this, "head", width, vocabulary, false) {
    for (int i = 0; i < layers; ++i) blocks->append(nn::make<Block>(width, heads));
  }

  Tensor forward(const Tensor& ids) const {
    Tensor x = tok(ids) + pos(lg::arange(ids.size(1)));
    for (nn::Module* block : blocks->children()) x = nn::call(*block, x);
    return head(ln(x));
  }
};

nn::ConvOptions without_bias(std::int64_t stride, std::int64_t padding) {
  nn::ConvOptions options;
  options.stride = stride;
  options.padding = padding;
  options.bias = false;
  return options;
}

struct BasicBlock : nn::Module {
  nn::Child<nn::Conv2d> c1, c2;
  nn::Child<nn::BatchNorm2d> b1, b2;
  nn::Child<nn::Sequential> shortcut;

  BasicBlock(std::int64_t in, std::int64_t out, std::int64_t stride)
      : c1(this, "c1", in, out, 3, without_bias(stride, 1)),
        c2(this, "c2", out, out, 3, without_bias(1, 1)),
        b1(this, "b1", out),
        b2(this, "b2", out),
        shortcut(this, "shortcut") {
    if (stride == 1 && in == out) return;
    shortcut->append(nn::make<nn::Conv2d>(in, out, 1, without_bias(stride, 0)));
    shortcut->append(nn::make<nn::BatchNorm2d>(out));
  }

  Tensor forward(const Tensor& x) const { return b2->relu(c2(b1->relu(c1(x))), shortcut(x)); }
};

struct ResNet20 : nn::Module {
  nn::Child<nn::Conv2d> conv;
  nn::Child<nn::BatchNorm2d> bn;
  nn::Child<nn::Sequential> body;
  nn::Child<nn::Linear> fc;

  ResNet20()
      : conv(this, "conv", 3, 16, 3, without_bias(1, 1)),
        bn(this, "bn", 16),
        body(this, "body"),
        fc(this, "fc", 64, 10) {
    std::int64_t in = 16;
    for (const std::int64_t out : {16, 32, 64}) {
      for (int i = 0; i < 3; ++i, in = out)
        body->append(nn::make<BasicBlock>(in, out, in == out ? 1 : 2));
    }
  }

  Tensor forward(const Tensor& x) const {
    return fc(lg::mean(body(bn->relu(conv(x))), lg::Axes{2, 3}));
  }
};

Tensor class_loss(const Tensor& logits, const Tensor& targets) {
  return lg::cross_entropy(lg::reshape(logits, {-1, logits.size(-1)}), lg::reshape(targets, {-1}));
}

// One step of training: the loss, its gradients, the update. The loss is read, as a user would.
template <class Optimizer, class Loss>
Run step_of(std::shared_ptr<Optimizer> optimizer, Loss loss_of) {
  return [=] {
    optimizer->zero_grad();
    const Tensor loss = [&] {
      const lg::amp::Autocast scope(lg::DType::bfloat16, bf16);
      return loss_of();
    }();
    loss.backward();
    optimizer->step();
    return loss.item();
  };
}

std::shared_ptr<lg::optim::SGD> momentum(const std::vector<Tensor>& parameters) {
  return std::make_shared<lg::optim::SGD>(
      parameters, lg::optim::SGDOptions{.lr = 0.05, .momentum = 0.9, .weight_decay = 1e-4});
}

Run gpt(const Case& c) {
  const std::int64_t context = c["context"], batch = c["batch"], vocabulary = c["vocabulary"];
  auto model =
      nn::make<GPT>(vocabulary, context, c["width"], c["heads"], static_cast<int>(c["layers"]));
  auto optimizer = std::make_shared<lg::optim::AdamW>(
      model->parameters(), lg::optim::AdamWOptions{.lr = 3e-4, .beta2 = 0.95, .weight_decay = 0.1});
  const Tensor ids = lg::randint(0, vocabulary, {batch, context}),
               targets = lg::randint(0, vocabulary, {batch, context});
  return step_of(optimizer, [=] { return class_loss(model(ids), targets); });
}

Run resnet20(const Case& c) {
  auto model = nn::make<ResNet20>();
  const Tensor x = lg::randn({c["batch"], 3, 32, 32}), y = lg::randint(0, 10, {c["batch"]});
  return step_of(momentum(model->parameters()), [=] { return lg::cross_entropy(model(x), y); });
}

Run mlp(const Case& c) {
  auto model = nn::make<nn::Sequential>(nn::make<nn::Linear>(784, 512, true, "relu"),
                                        nn::make<nn::Linear>(512, 512, true, "relu"),
                                        nn::make<nn::Linear>(512, 10));
  const Tensor x = lg::randn({c["batch"], 784}), y = lg::randint(0, 10, {c["batch"]});
  return step_of(momentum(model->parameters()), [=] { return lg::cross_entropy(model(x), y); });
}

// What an operation costs apart from its arithmetic.
Run tiny(const Case&) {
  auto model = nn::make<nn::Sequential>(nn::make<nn::Linear>(2, 16), nn::make<nn::Tanh>(),
                                        nn::make<nn::Linear>(16, 16), nn::make<nn::Tanh>(),
                                        nn::make<nn::Linear>(16, 1));
  const Tensor x = lg::randn({1, 2}), y = lg::randn({1, 1});
  return step_of(momentum(model->parameters()), [=] { return lg::mean(lg::square(model(x) - y)); });
}

const std::map<std::string, Run (*)(const Case&)> kinds = {
    {"gpt", gpt}, {"resnet20", resnet20}, {"mlp", mlp}, {"tiny", tiny}};

// The case that a name of workloads.txt stands for.
Case named(const Case& c) {
  std::ifstream file(LIGHTGRAD_WORKLOADS);
  for (std::string name, text; file >> name && std::getline(file, text);) {
    if (name == c.kind) return Case(text);
  }
  return c;
}

}  // namespace

int main(int argc, char** argv) {
  bf16 = bench::take_flag(argc, argv, "--bf16");
  return bench::serve(argc, argv, [](const Case& asked) {
    lg::manual_seed(0);
    const Case c = named(asked);
    const auto found = kinds.find(c.kind);
    if (found == kinds.end())
      lg::fail(lg::ErrorKind::value, "steps", "no workload is called ", c.kind);
    return found->second(c);
  });
}
