// steps.cpp: whole training steps, one JSON line each: the workloads of benchmarks/torch_steps.py,
// number for number the same shapes and optimizers. Usage: steps [--threads N] [WORKLOAD ...]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "lightgrad/lightgrad.h"

using lg::Tensor;
namespace nn = lg::nn;

namespace {

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

struct Workload {
  int steps;
  std::function<double()> step;  // one training step; gives the loss
};

Tensor class_loss(const Tensor& logits, const Tensor& targets) {
  return lg::cross_entropy(lg::reshape(logits, {-1, logits.size(-1)}), lg::reshape(targets, {-1}));
}

Workload gpt(std::int64_t context, std::int64_t width, std::int64_t heads, std::int64_t batch,
             int steps) {
  auto model = nn::make<GPT>(65, context, width, heads, 3);
  auto optimizer = std::make_shared<lg::optim::AdamW>(
      model->parameters(), lg::optim::AdamWOptions{.lr = 3e-4, .beta2 = 0.95, .weight_decay = 0.1});
  const Tensor ids = lg::randint(0, 65, {batch, context}),
               targets = lg::randint(0, 65, {batch, context});
  return {steps, [=] {
            optimizer->zero_grad();
            const Tensor loss = class_loss(model(ids), targets);
            loss.backward();
            optimizer->step();
            return loss.item();
          }};
}

std::shared_ptr<lg::optim::SGD> momentum(const std::vector<Tensor>& parameters) {
  return std::make_shared<lg::optim::SGD>(
      parameters, lg::optim::SGDOptions{.lr = 0.05, .momentum = 0.9, .weight_decay = 1e-4});
}

Workload mlp() {
  auto model = nn::make<nn::Sequential>(nn::make<nn::Linear>(784, 512), nn::make<nn::ReLU>(),
                                        nn::make<nn::Linear>(512, 512), nn::make<nn::ReLU>(),
                                        nn::make<nn::Linear>(512, 10));
  auto optimizer = momentum(model->parameters());
  const Tensor x = lg::randn({128, 784}), y = lg::randint(0, 10, {128});
  return {100, [=] {
            optimizer->zero_grad();
            const Tensor loss = lg::cross_entropy(model(x), y);
            loss.backward();
            optimizer->step();
            return loss.item();
          }};
}

Workload tiny() {
  auto model = nn::make<nn::Sequential>(nn::make<nn::Linear>(2, 16), nn::make<nn::Tanh>(),
                                        nn::make<nn::Linear>(16, 16), nn::make<nn::Tanh>(),
                                        nn::make<nn::Linear>(16, 1));
  auto optimizer = momentum(model->parameters());
  const Tensor x = lg::randn({1, 2}), y = lg::randn({1, 1});
  return {5000, [=] {
            optimizer->zero_grad();
            const Tensor loss = lg::mean(lg::square(model(x) - y));
            loss.backward();
            optimizer->step();
            return loss.item();
          }};
}

void measure(const std::string& name) {
  using Clock = std::chrono::steady_clock;
  const auto ms = [](Clock::duration d) {
    return std::chrono::duration<double, std::milli>(d).count();
  };
  lg::manual_seed(0);
  Workload w = name == "gpt_small"    ? gpt(64, 128, 4, 12, 60)
               : name == "gpt_medium" ? gpt(256, 384, 6, 8, 8)
               : name == "mlp"        ? mlp()
               : name == "tiny"
                   ? tiny()
                   : throw lg::Error(lg::ErrorKind::value, "steps: unknown workload " + name);
  const auto start = Clock::now();
  const double first = w.step();
  const double cold = ms(Clock::now() - start);
  for (int i = 0; i < 3; ++i) w.step();
  std::vector<double> times;
  double last = 0;
  for (int i = 0; i < w.steps; ++i) {
    const auto t = Clock::now();
    last = w.step();
    times.push_back(ms(Clock::now() - t));
  }
  std::sort(times.begin(), times.end());
  std::printf(
      "{\"system\": \"lightgrad\", \"workload\": \"%s\", \"ms_median\": %.4f, \"ms_min\": %.4f, "
      "\"cold_ms\": %.2f, "
      "\"loss_first\": %.4f, \"loss_last\": %.4f}\n",
      name.c_str(), times[times.size() / 2], times[0], cold, first, last);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) try {
  std::vector<std::string> names;
  for (int i = 1; i < argc; ++i) {
    if (std::string(argv[i]) == "--threads" && i + 1 < argc)
      lg::set_num_threads(std::stoi(argv[++i]));
    else
      names.emplace_back(argv[i]);
  }
  if (names.empty()) names = {"gpt_small", "gpt_medium", "mlp", "tiny"};
  for (const auto& name : names) measure(name);
} catch (const std::exception& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 1;
}
