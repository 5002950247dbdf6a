// program.h: what the examples share around training: their options, which a checkpoint remembers,
// and main. program.py is the same in Python. An example has a struct Options and, beside it,
// declare(app, options) and each_kept(options, f): f(name, value, fixed) for each option that a
// checkpoint remembers; the fixed ones cannot change.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <regex>
#include <string>
#include <vector>

#include "examples/common/checkpoint.h"

inline const char* program_name = "";  // set by run_program, for errors

template <class... Parts> void require(bool holds, const Parts&... otherwise) {
  if (!holds) lg::fail(lg::ErrorKind::value, program_name, otherwise...);
}
inline void at_least(std::int64_t least, const char* name, std::int64_t n) {
  require(n >= least, "--", name, " is ", n, ", expected at least ", least);
}

template <class T> void add_option(CLI::App& app, const char* name, T& value, const char* help) {
  app.add_option(name, value, help)->capture_default_str()->take_last();
}

// What the command line leaves out is as the checkpoint has it.
template <class Options>
void adopt(Options& o, const CLI::App& app, const io::Checkpoint& saved, const std::string& path) {
  each_kept(o, [&]<class T>(const char* name, T& value, bool fixed) {
    const T before = saved.get<T>(lg::text("option.", name));
    if (app.count(lg::text("--", name)) == 0) value = before;
    require(!fixed || value == before, "--", name, " is ", value, ", but the model in ", path,
            " has ", before);
  });
}
template <class Options> void put_options(io::Checkpoint& c, Options o) {
  each_kept(o, [&](auto name, auto& value, bool) { c.put(lg::text("option.", name), value); });
}

// What the examples' Options have in common: how numbers are computed, and what of the machine that
// may take. A checkpoint remembers the dtype only: the others do not change what comes out.
struct MachineOptions {
  std::string dtype = "float32", memory_limit = "0";
  bool checkpoint_activations = false;
  std::int64_t threads = 0;

  bool is(lg::DType t) const { return dtype == lg::name_of(t); }
  std::int64_t limit() const {
    std::smatch parts;
    const std::regex number(R"((\d{1,15}(?:\.\d+)?)([KMG]?))");
    require(std::regex_match(memory_limit, parts, number), "--memory-limit is \"", memory_limit,
            "\", expected bytes, as 700M or 1.5G (0: no limit)");
    const std::string unit = parts[2];
    const double factor = unit == "K" ? 1e3 : unit == "M" ? 1e6 : unit == "G" ? 1e9 : 1;
    return static_cast<std::int64_t>(std::stod(parts[1]) * factor);
  }
};

inline void check_machine(const MachineOptions& o) {
  require(o.is(lg::DType::float32) || o.is(lg::DType::bfloat16) || o.is(lg::DType::float16),
          "--dtype is \"", o.dtype, "\", expected float32, bfloat16 or float16");
  o.limit();
  at_least(0, "threads", o.threads);
}

inline void declare_machine(CLI::App& app, MachineOptions& o) {
  add_option(app, "--dtype", o.dtype,
             "float32, or what products are computed in: bfloat16, or float16 with a scaled loss");
  app.add_flag("--checkpoint-activations", o.checkpoint_activations,
               "compute the blocks again for their gradients, to save memory");
  add_option(app, "--memory-limit", o.memory_limit,
             "the most bytes that tensors may hold, as 700M or 1.5G (0: no limit)");
  add_option(app, "--threads", o.threads, "threads (0: what the machine has)");
}

// For the whole run: products in the dtype that the options ask for.
inline lg::amp::Autocast autocast(const MachineOptions& o) {
  return lg::amp::Autocast(o.is(lg::DType::float16) ? lg::DType::float16 : lg::DType::bfloat16,
                           !o.is(lg::DType::float32));
}
// float16 has no room for small gradients.
inline lg::amp::GradScaler scaler_of(const MachineOptions& o) {
  lg::amp::GradScalerOptions options;
  options.enabled = o.is(lg::DType::float16);
  return lg::amp::GradScaler(options);
}

// block(x), whose activations may be computed again instead of kept.
inline lg::Tensor call_block(lg::nn::Module& block, const lg::Tensor& x, bool checkpointed) {
  const auto run = [&block](const lg::Tensor& t) { return lg::nn::call(block, t); };
  return checkpointed ? lg::checkpoint(run, x) : run(x);
}

// Threads, memory and seed, before anything else is made.
template <class Options> void prepare(const Options& o) {
  if (o.threads > 0) lg::set_num_threads(static_cast<int>(o.threads));
  lg::set_memory_limit(o.limit());
  lg::manual_seed(static_cast<std::uint64_t>(o.seed));
}

// Decay pulls matrices towards zero, not gains and biases.
inline std::vector<lg::optim::ParameterGroup> parameter_groups(
    const std::vector<lg::Tensor>& parameters, double decay) {
  std::vector<lg::Tensor> matrices, rest;
  for (const lg::Tensor& p : parameters) (p.rank() >= 2 ? matrices : rest).push_back(p);
  return {{matrices, {{"weight_decay", decay}}}, {rest, {{"weight_decay", 0.0}}}};
}
inline long long count_of(const std::vector<lg::Tensor>& parameters) {
  long long size = 0;
  for (const lg::Tensor& p : parameters) size += p.numel();
  return size;
}

inline void print_skipped(const lg::amp::GradScaler& scaler, std::int64_t steps) {
  if (!scaler.options().enabled) return;
  std::fprintf(stderr, "%lld of %lld steps skipped for infinite gradients, the loss scale is %g\n",
               static_cast<long long>(scaler.skipped_steps()), static_cast<long long>(steps),
               scaler.get_scale());
}
inline void print_peak_memory() {
  std::fprintf(stderr, "peak memory of tensors %.1f MiB\n",
               static_cast<double>(lg::memory_stats().peak) / (1 << 20));
}

// main: run(options, app) with the options of the command line; 2 for what is wrong with them, or
// with what they name.
template <class Options>
int run_program(int argc, char** argv, const char* name, const char* description,
                int (*run)(Options, const CLI::App&)) {
  program_name = name;
  Options o;
  CLI::App app(description);
  declare(app, o);
  try {
    app.parse(argc, argv);
    return run(o, app);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  } catch (const std::exception& e) {  // lg::Error says what to do
    std::fprintf(stderr, "%s\n", e.what());
    return 2;
  }
}
