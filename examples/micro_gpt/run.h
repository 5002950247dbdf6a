// run.h: what a training run consists of: text, batches, model, optimizer, schedule; how it is
// measured, sampled and kept in a checkpoint.
#pragma once

#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "model.h"
#include "options.h"

// A checkpoint holds the characters as numbers: they need not be valid UTF-8.
inline Tensor bytes_of(const std::string& text) {
  return lg::tensor(std::vector<std::uint8_t>(text.begin(), text.end()), {std::ssize(text)});
}
inline std::string text_of(const Tensor& bytes) {
  const auto numbers = bytes.to_vector<std::uint8_t>();
  return {numbers.begin(), numbers.end()};
}

inline GPTConfig config_of(const Options& o, std::int64_t vocabulary) {
  return {vocabulary, o.context, o.layers, o.heads, o.width, o.dropout, o.checkpoint_activations};
}

struct Run {
  lg::data::Vocabulary vocabulary;
  nn::Mod<GPT> model;
  lg::optim::AdamW optimizer;
  lg::amp::GradScaler scaler;
  lg::optim::WarmupCosine schedule;
  lg::Generator batches;  // of its own, so that nothing else moves the choice of batches
  std::int64_t step = 0;

  // Expects lg::manual_seed(o.seed).
  Run(const Options& o, std::string_view text)
      : vocabulary(text),
        model(nn::make<GPT>(config_of(o, vocabulary.size()))),
        optimizer(parameter_groups(model->parameters(), 0.1),
                  {.lr = o.lr, .beta1 = 0.9, .beta2 = 0.99}),
        scaler(scaler_of(o)),
        schedule(optimizer, std::min<std::int64_t>(100, o.steps / 20), o.steps, o.lr / 10),
        batches(~static_cast<std::uint64_t>(o.seed)) {}

  void save(const std::string& path, const Options& o) const {
    io::Checkpoint c;
    c.put("step", step);
    c.put("characters", bytes_of(vocabulary.characters()));
    c.put_state("model.", model->state_dict());
    put_optimizer(c, optimizer);
    put_scaler(c, scaler);
    c.put_generator("batches", batches);
    c.put_generator("dropout", lg::default_generator());
    put_options(c, o);
    c.save(path);
  }

  void restore(const io::Checkpoint& c) {
    model->load_state_dict(c.take_state("model."));
    step = c.get<std::int64_t>("step");
    c.take_generator("batches", batches);
    c.take_generator("dropout", lg::default_generator());
    if (step == 0) return;
    take_optimizer(c, optimizer);
    take_scaler(c, scaler);
    go_to(schedule, step);
  }
};

// Random places of the text: ids (batch, context), and the ids that follow each.
inline std::pair<Tensor, Tensor> next_batch(const Tensor& text, const Options& o,
                                            lg::Generator& generator) {
  const Tensor starts =
      lg::randint(0, text.numel() - o.context, {o.batch, 1}, lg::DType::int64, &generator);
  const Tensor at = starts + lg::arange(o.context);
  return {text.index({at}), text.index({at + 1})};
}

// Mean loss over windows of the text that do not overlap: every stride-th one, or with stride 1 all
// of the text.
inline double evaluate(const nn::Mod<GPT>& model, const Tensor& text, std::int64_t context,
                       std::int64_t stride) {
  constexpr std::int64_t rows = 16;  // windows at a time
  const lg::NoGrad off;
  model->eval();
  double sum = 0;
  std::int64_t count = 0;
  const auto add = [&](const Tensor& ids, const Tensor& targets) {
    sum += loss_of(model, ids, targets).item() * static_cast<double>(ids.numel());
    count += ids.numel();
  };
  const std::int64_t windows = (text.numel() - 1) / context, whole = windows * context;
  const auto chosen = [&](std::int64_t shift) {
    return lg::slice(lg::view(lg::narrow(text, 0, shift, whole), {windows, context}), 0, 0, windows,
                     stride);
  };
  const Tensor ids = chosen(0), targets = chosen(1);
  for (std::int64_t i = 0; i < ids.size(0); i += rows) {
    const std::int64_t n = std::min(rows, ids.size(0) - i);
    add(lg::narrow(ids, 0, i, n), lg::narrow(targets, 0, i, n));
  }
  const std::int64_t rest = text.numel() - 1 - whole;
  if (stride == 1 && rest > 0) {
    add(lg::view(lg::narrow(text, 0, whole, rest), {1, rest}),
        lg::view(lg::narrow(text, 0, whole + 1, rest), {1, rest}));
  }
  model->train();
  return sum / static_cast<double>(count);
}

// o.sample characters after a line break, one by one.
inline std::string sample(const Run& run, const Options& o) {
  const lg::NoGrad off;
  run.model->eval();
  lg::Generator generator(static_cast<std::uint64_t>(o.seed));
  const std::size_t start = run.vocabulary.characters().find('\n');
  std::vector<std::int64_t> ids{start == std::string::npos ? 0 : static_cast<std::int64_t>(start)};
  for (std::int64_t n = 0; n < o.sample; ++n) {
    const std::int64_t seen = std::min<std::int64_t>(o.context, std::ssize(ids));
    const Tensor x = lg::tensor(std::span<const std::int64_t>(ids).last(seen), {1, seen});
    Tensor logits = lg::select(lg::select(run.model(x), 0, 0), 0, -1) / o.temperature;
    if (o.top_k > 0 && o.top_k < logits.numel()) {
      const Tensor last = lg::amin(lg::topk(logits, o.top_k).values);
      logits = lg::masked_fill(logits, logits < last, -HUGE_VAL);
    }
    // The first character whose cumulated probability passes a uniform number.
    const Tensor passed = lg::cumsum(lg::softmax(logits), 0);
    const Tensor u = lg::rand({}, {}, &generator) * lg::select(passed, 0, -1);
    ids.push_back(lg::sum(passed <= u).item<std::int64_t>());
  }
  run.model->train();
  return run.vocabulary.decode(
      lg::tensor(std::span<const std::int64_t>(ids).subspan(1), {o.sample}));
}
