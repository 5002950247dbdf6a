// options.h: the command line, what it may hold, and what of it a checkpoint remembers; and what
// each data set asks for where the command line says nothing.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "examples/common/program.h"

struct Options : MachineOptions {
  std::string dataset = "fashion-mnist", data, out = "out/resnet";
  std::int64_t split = 0, epochs = 0, batch = 64, width = 0, blocks = 0;
  double lr = 0.1, weight_decay = 5e-4, label_smoothing = 0.05;
  std::int64_t seed = 0, save_every = 100, workers = 1;
  bool resume = false;
};

// What training on a data set looks like.
struct Recipe {
  const char* name;
  std::int64_t epochs, width, blocks, size, shift;  // of images: pixels, and how far they move
  bool flip;                     // clothes and animals look alike in a mirror, digits do not
  std::vector<float> mean, std;  // of the training images, from 0 to 1
};

inline const Recipe& recipe_of(const Options& o) {
  static const Recipe recipes[] = {
      {"mnist", 12, 16, 2, 28, 2, false, {0.1307f}, {0.3081f}},
      {"fashion-mnist", 12, 16, 2, 28, 2, true, {0.2860f}, {0.3530f}},
      {"cifar10", 40, 16, 3, 32, 4, true, {0.4914f, 0.4822f, 0.4465f}, {0.2470f, 0.2435f, 0.2616f}},
  };
  for (const Recipe& r : recipes)
    if (o.dataset == r.name) return r;
  lg::fail(lg::ErrorKind::value, "resnet", "--dataset is \"", o.dataset,
           "\", expected mnist, fashion-mnist or cifar10");
}

// f(name, value, fixed) for each option that a checkpoint remembers: the fixed ones cannot change.
template <class F> void each_kept(Options& o, F&& f) {
  f("dataset", o.dataset, true);
  f("data", o.data, false);
  f("split", o.split, true);
  f("epochs", o.epochs, true);
  f("batch", o.batch, true);
  f("width", o.width, true);
  f("blocks", o.blocks, true);
  f("lr", o.lr, false);
  f("weight-decay", o.weight_decay, false);
  f("label-smoothing", o.label_smoothing, false);
  f("seed", o.seed, true);
  f("save-every", o.save_every, false);
  f("dtype", o.dtype, false);
}

// Also fills in what the data set decides.
inline void check(Options& o) {
  const Recipe& recipe = recipe_of(o);
  at_least(0, "split", o.split);
  at_least(0, "epochs", o.epochs);
  at_least(1, "batch", o.batch);
  at_least(0, "width", o.width);
  at_least(0, "blocks", o.blocks);
  at_least(0, "seed", o.seed);
  at_least(1, "save-every", o.save_every);
  at_least(0, "workers", o.workers);
  check_machine(o);
  require(o.lr > 0 && std::isfinite(o.lr), "--lr is ", o.lr, ", expected a number above 0");
  require(o.weight_decay >= 0 && std::isfinite(o.weight_decay), "--weight-decay is ",
          o.weight_decay, ", expected a number from 0 up");
  require(o.label_smoothing >= 0 && o.label_smoothing < 1, "--label-smoothing is ",
          o.label_smoothing, ", expected a number from 0 up and below 1");
  if (o.epochs == 0) o.epochs = recipe.epochs;
  if (o.width == 0) o.width = recipe.width;
  if (o.blocks == 0) o.blocks = recipe.blocks;
}

inline void declare(CLI::App& app, Options& o) {
  const auto option = [&](const char* name, auto& value, const char* help) {
    add_option(app, name, value, help);
  };
  option("--dataset", o.dataset, "mnist, fashion-mnist or cifar10");
  option("--data", o.data, "folder of the data set (default: where it is found)");
  option(
      "--split", o.split,
      "without the training images: train on this many of the official test images, drawn by "
      "--seed, and test on the others (0: train on the training images, test on all test images)");
  option("--out", o.out, "folder of checkpoints");
  option("--epochs", o.epochs, "passes over the images (0: what the data set needs)");
  option("--batch", o.batch, "images per update");
  option("--width", o.width, "channels of the first stage (0: what the data set needs)");
  option("--blocks", o.blocks, "blocks per stage (0: what the data set needs)");
  option("--lr", o.lr, "highest learning rate of the cycle");
  option("--weight-decay", o.weight_decay, "pull of matrices towards zero");
  option("--label-smoothing", o.label_smoothing, "share of the target that all classes get alike");
  option("--seed", o.seed, "of weights, order and augmentation");
  option("--save-every", o.save_every, "updates between checkpoints within an epoch");
  option("--workers", o.workers, "threads that prepare batches (0: none)");
  declare_machine(app, o);
  app.add_flag("--resume", o.resume, "go on from the checkpoint in --out, with its options");
}
