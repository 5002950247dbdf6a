// run.h: what a training run consists of: model, optimizer, schedule, batches; how it is measured
// and kept in a checkpoint.
#pragma once

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "data.h"
#include "model.h"

inline ResNetConfig config_of(const Options& o) {
  return {std::ssize(recipe_of(o).mean), o.width, o.blocks, 10, o.checkpoint_activations};
}

struct Run {
  nn::Mod<ResNet> model;
  data::DataLoader batches;
  lg::optim::SGD optimizer;
  lg::amp::GradScaler scaler;
  lg::optim::OneCycleLR schedule;
  nn::Mod<nn::CrossEntropyLoss> loss;
  std::int64_t step = 0;
  double best = 0;              // test accuracy
  double sum = 0;               // of the losses in this epoch
  std::int64_t right = 0;       // images in this epoch
  std::vector<double> history;  // three numbers per epoch: loss, accuracies in training and test

  // Expects lg::manual_seed(o.seed).
  Run(const Options& o, const std::shared_ptr<const data::Dataset>& train)
      : model(nn::make<ResNet>(config_of(o))),
        batches(train, {.batch_size = o.batch,
                        .shuffle = true,
                        .drop_last = true,
                        .workers = static_cast<int>(o.workers),
                        .seed = o.seed}),
        optimizer(parameter_groups(model->parameters(), o.weight_decay),
                  {.lr = o.lr, .momentum = 0.9, .nesterov = true}),
        scaler(scaler_of(o)),
        schedule(optimizer, o.lr, o.epochs * batches.size(),
                 {.pct_start = 0.25, .cycle_momentum = false}),
        loss(nn::make<nn::CrossEntropyLoss>(Tensor(), -100, "mean", o.label_smoothing)) {}

  std::int64_t steps() const { return batches.size(); }  // of an epoch

  void save(const std::string& path, const Options& o) const {
    io::Checkpoint c;
    c.put("step", step);
    c.put("best", best);
    c.put("sum", sum);
    c.put("right", right);
    c.put("history", lg::tensor(history, {std::ssize(history) / 3, 3}));
    c.put_state("model.", model->state_dict());
    put_optimizer(c, optimizer);
    put_scaler(c, scaler);
    for (const auto& [name, n] : batches.state_dict()) c.put(lg::text("batches.", name), n);
    put_options(c, o);
    c.save(path);
  }

  void restore(const io::Checkpoint& c) {
    model->load_state_dict(c.take_state("model."));
    step = c.get<std::int64_t>("step");
    best = c.get<double>("best");
    sum = c.get<double>("sum");
    right = c.get<std::int64_t>("right");
    history = c.tensor("history").to_vector<double>();
    auto state = batches.state_dict();
    for (auto& [name, n] : state) n = c.get<std::int64_t>(lg::text("batches.", name));
    batches.load_state_dict(state);
    if (step == 0) return;
    take_optimizer(c, optimizer);
    take_scaler(c, scaler);
    go_to(schedule, step);
  }
};

// The classes that the model sees in the images, in their order: int64 [n].
inline Tensor predict(const nn::Mod<ResNet>& model,
                      const std::shared_ptr<const data::Dataset>& images) {
  const lg::NoGrad off;
  model->eval();
  std::vector<Tensor> seen;
  data::DataLoader batches(images, {.batch_size = 250, .seed = 0});
  for (const data::Batch& batch : batches) seen.push_back(lg::argmax(model(batch[0]), 1));
  model->train();
  return lg::cat(seen);
}

inline std::int64_t matches(const Tensor& x, const Tensor& y) {
  return lg::sum(x == y).item<std::int64_t>();
}
