// test_loader.cpp: data sets and the loader: the same batches with any number of workers, the rest
// of an epoch from a saved state, errors in their turn, and no threads or memory left behind.
#include "lightgrad/data/loader.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "lightgrad/base/memory.h"
#include "lightgrad/base/parallel.h"
#include "lightgrad/data/transforms.h"
#include "lightgrad/ops/creation.h"
#include "tests/cpp/io_testing.h"
#include "tests/cpp/sanitizers.h"

namespace lg::data {
namespace {

using Ints = std::vector<std::int64_t>;

Tensor range(std::int64_t n) { return arange(n); }

std::shared_ptr<TensorDataset> numbers(std::int64_t n) {
  return std::make_shared<TensorDataset>(std::vector{range(n)});
}

std::vector<Ints> batches(DataLoader& loader) {
  std::vector<Ints> all;
  for (const Batch& b : loader) all.push_back(b[0].to_vector<std::int64_t>());
  return all;
}

Ints flat(const std::vector<Ints>& all) {
  Ints out;
  for (const Ints& b : all) out.insert(out.end(), b.begin(), b.end());
  return out;
}

// Images whose transforms are random, so that a batch tells its draw.
std::shared_ptr<ImageDataset> pictures(std::int64_t n) {
  Tensor images = Tensor::empty({n, 1, 8, 8}, DType::uint8);
  for (std::int64_t i = 0; i < images.numel(); ++i) {
    images.data<std::uint8_t>()[i] = static_cast<std::uint8_t>(random_word({1, 1}, i));
  }
  const Compose augment{RandomCrop(8, 2), RandomHorizontalFlip(), ToFloat(), Cutout(3)};
  return std::make_shared<ImageDataset>(images, range(n), augment);
}

// --- data sets ---

TEST(TensorDataset, RowsOfEach) {
  const TensorDataset d({range(6).view_as({3, 2}, {1, 3}), range(3)});  // the first is a view
  EXPECT_EQ(d.size(), 3);
  const Sample s = d.get(2);
  EXPECT_EQ(s[0].to_vector<int>(), (std::vector<int>{2, 5}));
  EXPECT_EQ(s[1].item<int>(), 2);
  EXPECT_EQ(s[1].rank(), 0);
  const Ints indices{2, 0, 2};
  const Batch b = d.batch(indices, {});
  EXPECT_EQ(b[0].to_vector<int>(), (std::vector<int>{2, 5, 0, 3, 2, 5}));
  EXPECT_EQ(b[1].to_vector<int>(), (std::vector<int>{2, 0, 2}));
  EXPECT_THROW((void)b[2], std::out_of_range);
}

TEST(TensorDataset, Errors) {
  expect_error([] { TensorDataset({}); }, ErrorKind::value, "TensorDataset: expected at least one");
  expect_error(
      [] {
        TensorDataset({range(3), range(4)});
      },
      ErrorKind::value,
      "TensorDataset: the tensors must have the same first size, got [3] and [4]");
  expect_error([] { TensorDataset({Tensor(1.0)}); }, ErrorKind::value, "the same first size");
  expect_error([] { (void)numbers(3)->get(3); }, ErrorKind::index,
               "TensorDataset: index 3 is out of range for 3 samples");
  expect_error([] { (void)numbers(3)->get(-1); }, ErrorKind::index, "index -1 is out of range");
  const Ints indices{0, 5};
  expect_error([&] { numbers(3)->batch(indices, {}); }, ErrorKind::index, "index 5 is out of");
}

TEST(Subset, TakesItsTransformsFromTheWhole) {
  const auto whole = pictures(10);
  const Subset s(whole, {7, 3});
  const Ints all{0, 1}, inner{7, 3};
  EXPECT_TRUE(same_bits(s.batch(all, {1, 2})[0], whole->batch(inner, {1, 2})[0]));
  EXPECT_TRUE(same_bits(s.get(1, {1, 2})[0], whole->get(3, {1, 2})[0]));
  expect_error([&] { Subset(whole, {10}); }, ErrorKind::index,
               "Subset: index 10 is out of range for 10 samples");
  expect_error([&] { (void)s.get(2); }, ErrorKind::index, "Subset: index 2 is out of range for 2");
}

TEST(RandomSplit, EachSampleOnce) {
  Generator a(1), b(1), c(2);
  const auto split = [](Generator& g) {
    const auto parts = random_split(numbers(10), {7, 0, 3}, &g);
    EXPECT_EQ(parts[0]->size(), 7);
    EXPECT_EQ(parts[1]->size(), 0);
    Ints all = parts[0]->indices();
    all.insert(all.end(), parts[2]->indices().begin(), parts[2]->indices().end());
    return all;
  };
  Ints first = split(a);
  EXPECT_EQ(first, split(b));
  EXPECT_NE(first, split(c));
  EXPECT_NE(first, split(a));  // the generator has moved on
  std::ranges::sort(first);
  EXPECT_EQ(first, range(10).to_vector<std::int64_t>());
  EXPECT_EQ(split_lengths(10, {0.5, 0.25, 0.25}), (Ints{6, 2, 2}));
  EXPECT_EQ(split_lengths(10, {0.8, 0.2}), (Ints{8, 2}));
  for (const Ints& lengths : {Ints{5, 4}, {5, 6}, {-1, 11}, {}, {INT64_MAX, 3}}) {
    expect_error([&] { random_split(numbers(10), lengths); }, ErrorKind::value,
                 "do not add up to the 10 samples");
  }
  expect_error(
      [] {
        split_lengths(10, {0.5, 0.4});
      },
      ErrorKind::value, "random_split: the fractions add up to 0.9, expected 1");
  expect_error([] { split_lengths(10, {2}); }, ErrorKind::value, "the fraction 2 is not between");
}

TEST(ImageDataset, Errors) {
  const Tensor images = Tensor::empty({2, 1, 3, 3}, DType::uint8);
  expect_error([&] { ImageDataset(images, range(3)); }, ErrorKind::value,
               "ImageDataset: expected an integer label for each of the 2 images, got int64 [3]");
  expect_error([&] { ImageDataset(images, Tensor::empty({2})); }, ErrorKind::value, "float32 [2]");
  expect_error([&] { ImageDataset(range(2), range(2)); }, ErrorKind::value,
               "ImageDataset: expected images as uint8 or float32 [n, c, h, w], got int64 [2]");
  const ImageDataset plain(images, range(2));
  EXPECT_EQ(plain.get(1)[0].dtype(), DType::uint8);
  const ImageDataset wrong(images, range(2), [&](auto&&...) { return images; });
  const Ints one{0};
  expect_error([&] { wrong.batch(one, {}); }, ErrorKind::value,
               "ImageDataset: the transform of 1 images gave uint8 [2, 1, 3, 3]");
}

class Squares : public Dataset {
 public:
  std::int64_t size() const override { return 10; }
  Sample get(std::int64_t i, Draw) const override {
    if (i == 7) return Sample({Tensor(1.0)});
    if (i == 8) return Sample({range(2), range(3)});
    if (i == 9) fail(ErrorKind::runtime, "Squares", "nine");
    return Sample({range(2), Tensor::empty({0, 3})});
  }
};

TEST(Dataset, SamplesAreStacked) {
  const Squares d;
  const Ints good{0, 1, 2};
  const Batch b = d.batch(good, {});
  EXPECT_EQ(b[0].to_vector<int>(), (std::vector<int>{0, 1, 0, 1, 0, 1}));
  EXPECT_EQ(b[1].shape(), (Shape{3, 0, 3}));
  const Ints fewer{1, 7}, other{1, 8};
  expect_error([&] { d.batch(fewer, {}); }, ErrorKind::value,
               "Dataset.batch: sample 7 has 1 tensors, sample 1 has 2");
  expect_error(
      [&] { d.batch(other, {}); }, ErrorKind::value,
      "Dataset.batch: samples of a batch must be alike: tensor 1 of sample 8 is int64 [3], "
      "of sample 1 float32 [0, 3]");
}

// --- the loader ---

TEST(DataLoader, BatchesInOrder) {
  DataLoader loader(numbers(7), {.batch_size = 3});
  EXPECT_EQ(loader.size(), 3);
  EXPECT_EQ(batches(loader), (std::vector<Ints>{{0, 1, 2}, {3, 4, 5}, {6}}));
  DataLoader full(numbers(7), {.batch_size = 3, .drop_last = true, .workers = 2});
  EXPECT_EQ(full.size(), 2);
  EXPECT_EQ(batches(full), (std::vector<Ints>{{0, 1, 2}, {3, 4, 5}}));
  DataLoader none(numbers(0), {.batch_size = 3, .shuffle = true, .workers = 2});
  EXPECT_EQ(none.size(), 0);
  EXPECT_TRUE(batches(none).empty());
}

TEST(DataLoader, TheSameWithAnyNumberOfWorkers) {
  const auto data = pictures(50);
  const auto run = [&](int workers, int prefetch) {
    DataLoader loader(
        data,
        {.batch_size = 8, .shuffle = true, .workers = workers, .prefetch = prefetch, .seed = 3});
    std::vector<Batch> all;
    for (int epoch = 0; epoch < 3; ++epoch) {
      for (const Batch& b : loader) all.push_back(b);
    }
    return all;
  };
  const auto base = run(0, 2);
  ASSERT_EQ(base.size(), 21u);
  for (const int workers : {1, 2, 5}) {
    const auto other = run(workers, workers);
    ASSERT_EQ(other.size(), base.size());
    for (std::size_t i = 0; i < base.size(); ++i) {
      EXPECT_TRUE(same_bits(other[i][0], base[i][0])) << workers << " workers, batch " << i;
      EXPECT_TRUE(same_bits(other[i][1], base[i][1]));
    }
  }
}

TEST(DataLoader, ShufflesAnewEachEpoch) {
  DataLoader loader(numbers(100), {.batch_size = 10, .shuffle = true, .seed = 1}),
      same(numbers(100), {.batch_size = 7, .shuffle = true, .workers = 2, .seed = 1}),
      other(numbers(100), {.batch_size = 10, .shuffle = true, .seed = 2});
  Ints first = flat(batches(loader)), second = flat(batches(loader));
  EXPECT_EQ(flat(batches(same)), first);
  EXPECT_EQ(flat(batches(same)), second);
  EXPECT_NE(flat(batches(other)), first);
  EXPECT_NE(first, second);
  std::ranges::sort(first);
  EXPECT_EQ(first, range(100).to_vector<std::int64_t>());
}

TEST(DataLoader, TheSeedComesFromTheDefaultGenerator) {
  const LoaderOptions shuffled{.batch_size = 100, .shuffle = true};
  manual_seed(5);
  DataLoader a(numbers(100), shuffled), b(numbers(100), shuffled);
  manual_seed(5);
  DataLoader c(numbers(100), shuffled);
  const auto first = batches(a);
  EXPECT_NE(batches(b), first);
  EXPECT_EQ(batches(c), first);
}

TEST(DataLoader, GoesOnInTheMiddleOfAnEpoch) {
  const auto data = pictures(50);
  for (const int workers : {0, 2}) {
    const LoaderOptions options{.batch_size = 8, .shuffle = true, .workers = workers, .seed = 3};
    DataLoader whole(data, options);
    std::vector<Batch> all;
    std::vector<std::map<std::string, std::int64_t>> states{whole.state_dict()};
    for (int epoch = 0; epoch < 2; ++epoch) {
      for (const Batch& b : whole) {
        all.push_back(b);
        states.push_back(whole.state_dict());
      }
    }
    for (std::size_t start = 0; start <= all.size(); ++start) {
      LoaderOptions others = options;
      others.seed = 99;  // comes with the state
      others.workers = 2 - workers;
      DataLoader rest(data, others);
      rest.load_state_dict(states[start]);
      EXPECT_EQ(rest.state_dict(), states[start]);
      std::size_t i = start;
      for (std::int64_t epoch = rest.epoch(); epoch < 2; ++epoch) {
        for (const Batch& b : rest) {
          ASSERT_LT(i, all.size());
          EXPECT_TRUE(same_bits(b[0], all[i][0])) << "from " << start << ", batch " << i;
          EXPECT_TRUE(same_bits(b[1], all[i][1]));
          ++i;
        }
      }
      EXPECT_EQ(i, all.size()) << start;
    }
  }
}

TEST(DataLoader, WhereItStands) {
  DataLoader loader(numbers(6), {.batch_size = 2, .workers = 1, .seed = 4});
  const auto at = [&] {
    const auto s = loader.state_dict();
    return std::pair(s.at("epoch"), s.at("batch"));
  };
  using P = std::pair<std::int64_t, std::int64_t>;
  EXPECT_EQ(at(), P(0, 0));
  auto epoch = loader.begin_epoch();
  EXPECT_EQ(at(), P(0, 0));
  (void)epoch->next();
  (void)epoch->next();
  EXPECT_EQ(at(), P(0, 2));  // whatever the worker has ready
  (void)epoch->next();
  EXPECT_EQ(at(), P(0, 3));
  EXPECT_FALSE(epoch->next());
  EXPECT_EQ(at(), P(1, 0));
  EXPECT_FALSE(epoch->next());
  epoch = loader.begin_epoch();
  (void)epoch->next();
  EXPECT_EQ(at(), P(1, 1));
  epoch.reset();  // left early: the next one is another epoch
  EXPECT_EQ(loader.epoch(), 1);
  EXPECT_EQ(loader.begin_epoch()->number(), 2);
}

TEST(DataLoader, TwoEpochsAtOnce) {
  DataLoader loader(numbers(20), {.batch_size = 5, .shuffle = true, .workers = 2, .seed = 1});
  DataLoader again(numbers(20), {.batch_size = 5, .shuffle = true, .seed = 1});
  const auto first = batches(again), second = batches(again);
  auto a = loader.begin_epoch(), b = loader.begin_epoch();
  for (std::size_t i = 0; i < first.size(); ++i) {
    EXPECT_EQ((*a->next())[0].to_vector<std::int64_t>(), first[i]);
    EXPECT_EQ((*b->next())[0].to_vector<std::int64_t>(), second[i]);
  }
}

TEST(DataLoader, StatesThatDoNotFit) {
  DataLoader loader(numbers(7), {.batch_size = 3, .seed = 1});
  const auto good = loader.state_dict();
  const auto refuses = [&](auto change, const std::string& part) {
    auto state = good;
    change(state);
    expect_error([&] { loader.load_state_dict(state); }, ErrorKind::value,
                 "DataLoader.load_state_dict: " + part);
    EXPECT_EQ(loader.state_dict(), good);
  };
  refuses([](auto& s) { s["samples"] = 8; },
          "samples was 8 when the state was saved, here it is 7");
  refuses([](auto& s) { s["batch_size"] = 4; }, "batch_size was 4");
  refuses([](auto& s) { s["shuffle"] = 1; }, "shuffle was 1");
  refuses([](auto& s) { s.erase("epoch"); }, "\"epoch\" is missing");
  refuses([](auto& s) { s["lr"] = 1; }, "\"lr\" is not known here");
  refuses([](auto& s) { s["batch"] = 4; }, "no loader was at seed 1, epoch 0, batch 4 of 3");
  refuses([](auto& s) { s["epoch"] = std::int64_t{1} << 48; }, "no loader was at seed 1, epoch 2");
  refuses([](auto& s) { s["seed"] = -1; }, "no loader was at seed -1");
}

TEST(DataLoader, WrongOptions) {
  const auto refuses = [](LoaderOptions o, const std::string& part) {
    expect_error([&] { DataLoader(numbers(3), o); }, ErrorKind::value, "DataLoader: " + part);
  };
  refuses({.batch_size = 0}, "batch_size is 0, expected at least 1");
  refuses({.workers = -1}, "workers is -1, expected 0 to 256");
  refuses({.workers = 1000}, "workers is 1000");
  refuses({.prefetch = 0}, "prefetch is 0, expected 1 to 1024");
  refuses({.seed = -5}, "seed is -5, expected at least 0");
  expect_error([] { DataLoader(nullptr); }, ErrorKind::value, "DataLoader: expected a data set");
}

TEST(DataLoader, AnErrorComesInItsTurnAndEndsTheEpoch) {
  for (const int workers : {0, 1, 3}) {
    DataLoader loader(std::make_shared<Squares>(), {.batch_size = 2, .workers = workers});
    auto epoch = loader.begin_epoch();
    for (int i = 0; i < 3; ++i) EXPECT_EQ((*epoch->next())[0].shape(), (Shape{2, 2}));
    expect_error([&] { (void)epoch->next(); }, ErrorKind::value, "sample 7 has 1 tensors");
    EXPECT_FALSE(epoch->next());
    EXPECT_EQ(loader.state_dict().at("batch"), 3);
    EXPECT_EQ(loader.epoch(), 0);
  }
}

// Counts the batches that are being made, or that were made and not yet let go.
class Counting : public Dataset {
 public:
  std::int64_t size() const override { return 1000; }
  Sample get(std::int64_t, Draw) const override { return Sample({range(1)}); }
  Batch batch(std::span<const std::int64_t>, Draw) const override {
    ++made;
    const auto mine = std::this_thread::get_id();
    std::atomic<int> here = 0;  // a worker does not take the pool from the main thread
    parallel_chunks(64, [&](std::int64_t) { here += std::this_thread::get_id() == mine; });
    EXPECT_EQ(here, 64);
    return Sample({range(1)});
  }
  mutable std::atomic<int> made{0};
};

TEST(DataLoader, WorkersStayWithinTheirPrefetch) {
  const auto data = std::make_shared<Counting>();
  DataLoader loader(data, {.batch_size = 1, .workers = 2, .prefetch = 3});
  auto epoch = loader.begin_epoch();
  for (int taken = 0; taken < 20; ++taken) {
    EXPECT_LE(data->made, taken + 6);
    while (data->made < taken + 6) std::this_thread::yield();
    EXPECT_TRUE(epoch->wait(std::chrono::milliseconds(1)));
    (void)epoch->next();
  }
  epoch.reset();
  EXPECT_LE(data->made, 26);
}

class Waiting : public Dataset {
 public:
  std::int64_t size() const override { return 4; }
  Sample get(std::int64_t, Draw) const override {
    while (!stop_requested()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    fail(ErrorKind::runtime, "Waiting", "stopped");
  }
};

TEST(DataLoader, EndsWhileWorkersAreBusy) {
  DataLoader loader(std::make_shared<Waiting>(), {.workers = 2});
  auto epoch = loader.begin_epoch();
  EXPECT_FALSE(epoch->wait(std::chrono::milliseconds(5)));
  epoch->stop();
  expect_error([&] { (void)epoch->next(); }, ErrorKind::runtime, "the epoch was stopped");
}

TEST(DataLoader, MemoryDoesNotGrow) {
  DataLoader loader(pictures(256), {.batch_size = 16, .shuffle = true, .workers = 3, .seed = 1});
  const auto system_calls = [&](int epochs) {
    for (int i = 0; i < epochs; ++i) {
      for (const Batch& b : loader) EXPECT_EQ(b[0].rank(), 4);
    }
    return memory_stats().system_allocations;
  };
  const auto warm = system_calls(10);
  const auto used = memory_stats().current;
  const bool cached = memory_stats().cached > 0;  // not under AddressSanitizer
  const auto more = system_calls(40) - warm;
  if (cached) {
    EXPECT_LE(more, 8);  // the most batches alive at once is up to chance
  }
  EXPECT_EQ(memory_stats().current, used);
}

TEST(DataLoader, AForkedChildIsToldAndEnds) {
  if (under_tsan) GTEST_SKIP() << "TSan forbids threads after fork";
  DataLoader loader(numbers(8), {.batch_size = 1, .workers = 2});
  auto epoch = loader.begin_epoch();
  (void)epoch->next();
  const pid_t child = fork();
  if (child == 0) {
    int status = 1;
    try {
      EXPECT_TRUE(epoch->wait(std::chrono::milliseconds(1)));
      (void)epoch->next();
    } catch (const Error& e) {
      const bool told = std::string(e.what()).find("stayed in the process") != std::string::npos;
      epoch.reset();
      DataLoader own(numbers(8), {.batch_size = 1, .workers = 2});
      status = told && batches(own).size() == 8 ? 0 : 2;
    }
    _exit(status);
  }
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(epoch->next());
}

}  // namespace
}  // namespace lg::data
