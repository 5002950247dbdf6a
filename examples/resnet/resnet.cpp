// resnet.cpp: a residual network learns to tell small images apart, on one cycle of the learning
// rate (Smith and Topin 2018). train.py is the same program in Python, with the same options, lines
// and numbers, to the bit.
//   resnet                      trains on Fashion-MNIST
//   resnet --dataset cifar10    trains ResNet-20
//   resnet --dataset mnist --split 8000 --epochs 20    when only MNIST's test images are there
//   resnet --resume             goes on after an interruption, to the bits of an uninterrupted run
#include <cstdio>
#include <fstream>
#include <optional>

#include "pictures.h"
#include "run.h"

namespace {

// One epoch, or what is left of it.
void train_epoch(Run& run, const Options& o, Progress& progress, const std::string& path) {
  const auto epoch = run.batches.begin_epoch();
  while (const auto batch = epoch->next()) {
    const Tensor &x = (*batch)[0], &y = (*batch)[1];
    const Tensor logits = run.model(x), loss = run.loss(logits, y);
    run.scaler.scale(loss).backward();
    run.scaler.step(run.optimizer);
    run.scaler.update();
    run.optimizer.zero_grad();
    run.schedule.step();
    ++run.step;
    const double value = loss.item();
    require(std::isfinite(value), "the loss is not finite at step ", run.step,
            "; try a smaller --lr. The last good checkpoint is kept");
    run.sum += value;
    run.right += matches(lg::argmax(logits, 1), y);
    progress.update(run.step, value);
    if (run.step % o.save_every == 0 && run.step % run.steps() != 0) run.save(path, o);
  }
}

void save_best(const Run& run, const std::string& path) {
  io::Checkpoint c;
  c.put("test_accuracy", run.best);
  c.put_state("model.", run.model->state_dict());
  c.save(path);
}

// Returns the classes that the model sees in the test images at the end.
Tensor train(Run& run, const Options& o, const Images& images, const std::string& path) {
  const Tensor labels = labels_of(*images.test);
  const auto count = static_cast<double>(labels.numel());
  Progress progress(run.step, o.epochs * run.steps(), o.batch, "images");
  std::optional<Tensor> seen;
  while (run.step < o.epochs * run.steps()) {
    train_epoch(run, o, progress, path);
    progress.clear();
    seen = predict(run.model, images.test);
    const double accuracy = static_cast<double>(matches(*seen, labels)) / count;
    const double loss = run.sum / static_cast<double>(run.steps());
    const double learned =
        static_cast<double>(run.right) / static_cast<double>(run.steps() * o.batch);
    for (const double number : {loss, learned, accuracy}) run.history.push_back(number);
    run.sum = 0;
    run.right = 0;
    if (accuracy > run.best) {
      run.best = accuracy;
      save_best(run, o.out + "/best.safetensors");
    }
    run.save(path, o);  // first: what has been printed is on disk
    std::printf("epoch %3lld  train_loss %.6f  train_accuracy %.4f  test_accuracy %.4f\n",
                static_cast<long long>(run.step / run.steps()), loss, learned, accuracy);
    std::fflush(stdout);
  }
  progress.finish();
  print_skipped(run.scaler, run.step);
  return seen ? *seen : predict(run.model, images.test);
}

// A line for each class, and how often it was taken for which.
void print_confusion(const std::vector<std::int64_t>& labels, const std::vector<std::int64_t>& seen,
                     const std::vector<std::string>& classes) {
  std::vector<long long> counts(classes.size() * classes.size());
  for (std::size_t i = 0; i < labels.size(); ++i) ++counts[labels[i] * classes.size() + seen[i]];
  std::printf("%-12s", "");
  for (const std::string& name : classes) std::printf(" %5.5s", name.c_str());
  for (std::size_t i = 0; i < counts.size(); ++i) {
    if (i % classes.size() == 0) std::printf("\n%-12s", classes[i / classes.size()].c_str());
    std::printf(" %5lld", counts[i]);
  }
  std::printf("\n");
}

// The confusion matrix, pictures beside the checkpoint, and the last line.
void report(const Run& run, const Options& o, const Images& images, const Tensor& predicted) {
  const auto labels = labels_of(*images.test).to_vector<std::int64_t>();
  const auto seen = predicted.to_vector<std::int64_t>();
  print_confusion(labels, seen, images.classes);
  std::vector<std::int64_t> wrong;
  for (std::size_t i = 0; i < labels.size(); ++i)
    if (labels[i] != seen[i]) wrong.push_back(static_cast<std::int64_t>(i));
  const auto mistakes = std::ssize(wrong), tested = std::ssize(labels);

  const auto write = [&](const char* name, const std::string& svg) {
    std::ofstream(o.out + "/" + name, std::ios::binary) << svg;
  };
  write("curves.svg", pictures::curves(o.dataset, run.history));
  write("filters.svg", pictures::filters(lg::text(o.dataset, ": what the first layer looks for"),
                                         run.model->conv->weight));
  wrong.resize(std::min<std::size_t>(wrong.size(), 40));
  std::vector<std::vector<std::string>> captions;
  for (const std::int64_t i : wrong)
    captions.push_back({images.classes[labels[i]], "as " + images.classes[seen[i]]});
  write("mistakes.svg",
        pictures::grid(lg::text(o.dataset, ": ", wrong.size(), " of ", mistakes, " mistakes in ",
                                tested, " test images, and what each was taken for"),
                       pixels_of(*images.test, wrong), captions, 10));
  std::printf("test_accuracy %.4f\n",
              static_cast<double>(tested - mistakes) / static_cast<double>(tested));
}

int train_and_report(Options o, const CLI::App& app) {
  const std::string path = o.out + "/checkpoint.safetensors";
  std::optional<io::Checkpoint> saved;
  if (o.resume) saved = io::Checkpoint::load(path), adopt(o, app, *saved, path);
  check(o);
  prepare(o);
  const lg::amp::Autocast scope = autocast(o);

  const Images images = images_of(o);
  require(images.train->size() >= o.batch, "--batch is ", o.batch, ", but there are ",
          images.train->size(), " images to train on");
  Run run(o, images.train);
  if (saved) run.restore(*saved);
  std::fprintf(stderr, "%s: %lld images to train on, %lld to test; %lld parameters, %d threads\n",
               o.dataset.c_str(), static_cast<long long>(images.train->size()),
               static_cast<long long>(images.test->size()), count_of(run.model->parameters()),
               lg::num_threads());

  std::filesystem::create_directories(o.out);
  const Tensor seen = train(run, o, images, path);
  print_peak_memory();
  report(run, o, images, seen);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run_program<Options>(argc, argv, "resnet",
                              "A residual network learns to tell small images apart.",
                              train_and_report);
}
