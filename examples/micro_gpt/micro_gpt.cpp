// micro_gpt.cpp: a small GPT learns the characters of a text: nanoGPT's recipe for a CPU, with
// three layers. train.py is the same program in Python, with the same options, lines and numbers,
// to the bit.
//   micro_gpt                  trains on tiny Shakespeare, then writes a sample
//   micro_gpt --resume         goes on after an interruption, to the bits of an uninterrupted run
//   micro_gpt --sample 1000    writes from what was learned
#include <cstdio>
#include <optional>

#include "examples/common/progress.h"
#include "run.h"

namespace {

void train(Run& run, const Options& o, const Tensor& text, const Tensor& held_out,
           const std::string& path) {
  const std::vector<Tensor> parameters = run.model->parameters();
  const std::int64_t rows = o.batch / o.accumulate;
  // While training, about 256 windows spread over the held-out text are estimate enough.
  const std::int64_t stride = std::max<std::int64_t>(1, held_out.numel() / o.context / 256);
  // What has been printed is on disk.
  const auto report = [&](const char* format, auto... numbers) {
    run.save(path, o);
    std::printf(format, numbers...);
    std::fflush(stdout);
  };
  if (run.step == 0) {
    report("step     0  val %.6f\n", evaluate(run.model, held_out, o.context, stride));
  }
  Progress progress(run.step, o.steps, o.batch * o.context, "tokens");
  double sum = 0;  // of the losses since the last report
  std::int64_t count = 0;
  while (run.step < o.steps) {
    const auto [ids, targets] = next_batch(text, o, run.batches);
    double loss = 0;
    for (std::int64_t i = 0; i < o.batch; i += rows) {
      const Tensor part =
          loss_of(run.model, lg::narrow(ids, 0, i, rows), lg::narrow(targets, 0, i, rows)) /
          o.accumulate;
      run.scaler.scale(part).backward();
      loss += part.item();
    }
    run.scaler.unscale_(run.optimizer);
    nn::utils::clip_grad_norm_(parameters, 1.0);
    run.scaler.step(run.optimizer);
    run.scaler.update();
    run.optimizer.zero_grad();
    run.schedule.step();
    ++run.step;
    sum += loss;
    ++count;
    progress.update(run.step, loss);
    if (run.step % o.eval_every != 0 && run.step != o.steps) continue;
    require(std::isfinite(sum), "the loss is not finite at step ", run.step,
            "; try a smaller --lr. The last good checkpoint is kept");
    progress.clear();
    report("step %5lld  train %.6f  val %.6f\n", static_cast<long long>(run.step),
           sum / static_cast<double>(count), evaluate(run.model, held_out, o.context, stride));
    sum = 0;
    count = 0;
  }
  progress.finish();
  print_skipped(run.scaler, run.step);
}

int train_or_sample(Options o, const CLI::App& app) {
  const std::string path = o.out + "/checkpoint.safetensors";
  std::optional<io::Checkpoint> saved;
  if (o.resume || o.sample > 0) saved = io::Checkpoint::load(path), adopt(o, app, *saved, path);
  check(o);
  prepare(o);
  const lg::amp::Autocast scope = autocast(o);

  if (o.sample > 0) {
    Run run(o, text_of(saved->tensor("characters")));
    run.restore(*saved);
    std::printf("%s\n", sample(run, o).c_str());
    return 0;
  }

  lg::data::TextOptions where;
  where.path = o.data;
  const lg::data::Text text = lg::data::find_text(where);
  Run run(o, text.bytes);
  const auto [ids, held_out] = lg::data::split_text(run.vocabulary.encode(text.bytes));
  require(ids.numel() > o.context && held_out.numel() > 1, "--context is ", o.context, ", ",
          text.source, " has ", ids.numel(), " characters to train on and ", held_out.numel(),
          " for validation");
  if (saved) {
    require(text_of(saved->tensor("characters")) == run.vocabulary.characters(), "the model in ",
            path, " has learned a text of other characters than ", text.source);
    run.restore(*saved);
  }
  std::fprintf(stderr, "%s: %zu characters, %lld different; %lld parameters, %d threads\n",
               text.source.c_str(), text.bytes.size(),
               static_cast<long long>(run.vocabulary.size()), count_of(run.model->parameters()),
               lg::num_threads());

  std::filesystem::create_directories(o.out);
  train(run, o, ids, held_out, path);
  const double loss = evaluate(run.model, held_out, o.context, 1);
  o.sample = 500;
  std::printf("\n%s\n\nval_loss %.6f\n", sample(run, o).c_str(), loss);
  print_peak_memory();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run_program<Options>(argc, argv, "micro_gpt",
                              "A small GPT learns the characters of a text.", train_or_sample);
}
