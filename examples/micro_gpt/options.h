// options.h: the command line, what it may hold, and what of it a checkpoint remembers.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>

#include "examples/common/program.h"

struct Options : MachineOptions {
  std::string data, out = "out/micro_gpt";
  std::int64_t steps = 2000, batch = 12, context = 64, layers = 3, heads = 4, width = 128;
  double dropout = 0, lr = 1e-3;
  std::int64_t seed = 0, eval_every = 250, accumulate = 1;
  bool resume = false;
  std::int64_t sample = 0, top_k = 0;
  double temperature = 0.8;
};

// f(name, value, fixed) for each option that a checkpoint remembers: the fixed ones cannot change.
template <class F> void each_kept(Options& o, F&& f) {
  f("data", o.data, false);
  f("steps", o.steps, false);
  f("batch", o.batch, false);
  f("context", o.context, true);
  f("layers", o.layers, true);
  f("heads", o.heads, true);
  f("width", o.width, true);
  f("dropout", o.dropout, false);
  f("lr", o.lr, false);
  f("seed", o.seed, o.resume);
  f("eval-every", o.eval_every, false);
  f("accumulate", o.accumulate, false);
  f("dtype", o.dtype, false);
}

inline void check(const Options& o) {
  at_least(1, "steps", o.steps);
  at_least(1, "batch", o.batch);
  at_least(1, "context", o.context);
  at_least(1, "layers", o.layers);
  at_least(1, "heads", o.heads);
  at_least(1, "width", o.width);
  at_least(0, "seed", o.seed);
  at_least(1, "eval-every", o.eval_every);
  at_least(1, "accumulate", o.accumulate);
  at_least(0, "sample", o.sample);
  at_least(0, "top-k", o.top_k);
  check_machine(o);
  require(o.width % o.heads == 0, "--width is ", o.width, ", which ", o.heads,
          " heads cannot share equally");
  require(o.batch % o.accumulate == 0, "--batch is ", o.batch, ", which --accumulate ",
          o.accumulate, " does not divide");
  require(o.dropout >= 0 && o.dropout < 1, "--dropout is ", o.dropout,
          ", expected a number from 0 up and below 1");
  require(o.lr > 0 && std::isfinite(o.lr), "--lr is ", o.lr, ", expected a number above 0");
  require(o.temperature > 0 && std::isfinite(o.temperature), "--temperature is ", o.temperature,
          ", expected a number above 0");
}

inline void declare(CLI::App& app, Options& o) {
  const auto option = [&](const char* name, auto& value, const char* help) {
    add_option(app, name, value, help);
  };
  option("--data", o.data, "text to learn (default: tiny Shakespeare, from where it is found)");
  option("--out", o.out, "folder of the checkpoint");
  option("--steps", o.steps, "updates");
  option("--batch", o.batch, "sequences per update");
  option("--context", o.context, "characters per sequence");
  option("--layers", o.layers, "blocks");
  option("--heads", o.heads, "attention heads per block");
  option("--width", o.width, "numbers per character between the blocks");
  option("--dropout", o.dropout, "share of activations zeroed while training");
  option("--lr", o.lr, "highest learning rate; it ends at a tenth of it");
  option("--seed", o.seed, "of weights, batches, dropout and samples");
  option("--eval-every", o.eval_every, "updates between validations and checkpoints");
  option("--accumulate", o.accumulate, "parts that a batch is computed in, to save memory");
  option("--sample", o.sample, "write this many characters from the checkpoint, do not train");
  option("--temperature", o.temperature, "of samples: below 1 is safer, above 1 bolder");
  option("--top-k", o.top_k, "sample from this many likeliest characters (0: all)");
  declare_machine(app, o);
  app.add_flag("--resume", o.resume, "go on from the checkpoint in --out, with its options");
}
