#include "lightgrad/data/loader.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>

#include "lightgrad/base/error.h"
#include "lightgrad/base/parallel.h"

namespace lg::data {
namespace {

constexpr int most_workers = 256;
constexpr std::int64_t most_epochs = std::int64_t{1} << 48;  // see Draw

std::int64_t batches_of(std::int64_t samples, const LoaderOptions& o) {
  return samples / o.batch_size + (!o.drop_last && samples % o.batch_size != 0);
}

thread_local const std::atomic<bool>* stop_flag = nullptr;

// Signals are the business of the program's own threads.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_;
};

}  // namespace

bool stop_requested() { return stop_flag && stop_flag->load(std::memory_order_relaxed); }

// How far an epoch is, shared with its loader, which may outlive it or not.
struct Epoch::Position {
  std::int64_t epoch = 0;
  std::atomic<std::int64_t> taken{0};  // batches
  std::atomic<bool> ended{false};
};

// A ring of slots: batch k is made into slot k % size, once batch k - size was taken out of it.
struct Epoch::Workers {
  struct Slot {
    bool ready = false;
    std::optional<Batch> batch;
    std::exception_ptr error;
  };

  std::mutex mutex;
  std::condition_variable made, room;
  std::vector<Slot> slots;
  std::int64_t claimed = 0, taken = 0;  // batches
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  pid_t process = getpid();

  void work(const Epoch& epoch) {
    run_inline();
    stop_flag = &stop;
    const auto size = static_cast<std::int64_t>(slots.size());
    std::unique_lock lock(mutex);
    while (true) {
      room.wait(lock, [&] { return stop || claimed == epoch.batches_ || claimed < taken + size; });
      if (stop || claimed == epoch.batches_) return;
      const std::int64_t k = claimed++;
      lock.unlock();
      Slot result;
      try {
        result.batch = epoch.make(k);
      } catch (...) {
        result.error = std::current_exception();
      }
      result.ready = true;
      lock.lock();
      std::swap(slots[static_cast<std::size_t>(k % size)], result);
      made.notify_all();
    }
  }
};

Epoch::Epoch(std::shared_ptr<const Dataset> dataset, const LoaderOptions& options, Draw draw,
             std::shared_ptr<Position> position)
    : dataset_(std::move(dataset)),
      options_(options),
      draw_(draw),
      samples_(dataset_->size()),
      batches_(batches_of(samples_, options)),
      position_(std::move(position)) {
  if (options_.shuffle) {
    order_.resize(static_cast<std::size_t>(samples_));
    fill_permutation(order_.data(), samples_, {draw.seed, draw.epoch});
  }
  const std::int64_t left = std::max<std::int64_t>(batches_ - position_->taken, 0);
  const auto count = static_cast<int>(std::min<std::int64_t>(options_.workers, left));
  if (count == 0) return;
  workers_ = std::make_unique<Workers>();
  workers_->slots.resize(static_cast<std::size_t>(count) *
                         static_cast<std::size_t>(options_.prefetch));
  workers_->claimed = workers_->taken = position_->taken;
  const SignalsBlocked blocked;
  try {
    for (int i = 0; i < count; ++i) {
      workers_->threads.emplace_back([this] { workers_->work(*this); });
    }
  } catch (const std::system_error& e) {
    if (workers_->threads.empty()) {
      fail(ErrorKind::runtime, "DataLoader", "no thread for a worker: ", e.what());
    }  // else fewer of them do the work
  }
}

Epoch::~Epoch() { stop(); }

void Epoch::stop() {
  if (!workers_) return;
  if (workers_->process != getpid()) {  // a fork's copy, without the threads: nobody to wait for
    (void)workers_.release();
    return;
  }
  {
    const std::lock_guard lock(workers_->mutex);
    workers_->stop = true;
  }
  workers_->room.notify_all();
  for (std::thread& t : workers_->threads) t.join();
  workers_.reset();
}

std::int64_t Epoch::number() const { return position_->epoch; }

Batch Epoch::make(std::int64_t batch) const {
  const std::int64_t begin = batch * options_.batch_size,
                     n = std::min(options_.batch_size, samples_ - begin);
  if (options_.shuffle) {
    return dataset_->batch(
        std::span(order_).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(n)),
        draw_);
  }
  std::vector<std::int64_t> indices(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) indices[static_cast<std::size_t>(i)] = begin + i;
  return dataset_->batch(indices, draw_);
}

bool Epoch::wait(std::chrono::milliseconds time) {
  if (!workers_ || workers_->process != getpid()) return true;
  Workers& w = *workers_;
  std::unique_lock lock(w.mutex);
  const auto& slot = w.slots[static_cast<std::size_t>(w.taken) % w.slots.size()];
  return w.made.wait_for(lock, time, [&] { return slot.ready || w.taken >= batches_; });
}

std::optional<Batch> Epoch::next() {
  if (failed_) return {};
  if (position_->taken >= batches_) {
    position_->ended = true;
    stop();
    return {};
  }
  std::optional<Batch> batch;
  try {
    if (options_.workers == 0) {
      batch = make(position_->taken);
    } else if (!workers_ || workers_->process != getpid()) {
      fail(ErrorKind::runtime, "DataLoader",
           workers_ ? "the workers stayed in the process that was forked; begin an epoch here"
                    : "the epoch was stopped");
    } else {
      Workers::Slot slot;
      {
        Workers& w = *workers_;
        std::unique_lock lock(w.mutex);
        auto& mine = w.slots[static_cast<std::size_t>(w.taken) % w.slots.size()];
        w.made.wait(lock, [&] { return mine.ready; });
        std::swap(slot, mine);
        ++w.taken;
      }
      workers_->room.notify_one();
      if (slot.error) std::rethrow_exception(std::move(slot.error));
      batch = std::move(slot.batch);
    }
  } catch (...) {
    failed_ = true;
    stop();
    throw;
  }
  ++position_->taken;
  return batch;
}

// --- DataLoader ---

std::int64_t draw_seed(Generator& generator) {
  const Stream s = generator.next();
  const auto word = philox(s.seed, 0, s.offset);
  return static_cast<std::int64_t>((std::uint64_t{word[1]} << 32 | word[0]) >> 1);
}

DataLoader::DataLoader(std::shared_ptr<const Dataset> dataset, LoaderOptions options)
    : dataset_(std::move(dataset)), options_(options) {
  const auto check = [](bool good, const char* name, std::int64_t value, const char* expected) {
    if (!good) fail(ErrorKind::value, "DataLoader", name, " is ", value, ", expected ", expected);
  };
  if (!dataset_) fail(ErrorKind::value, "DataLoader", "expected a data set");
  check(options_.batch_size > 0, "batch_size", options_.batch_size, "at least 1");
  check(options_.workers >= 0 && options_.workers <= most_workers, "workers", options_.workers,
        "0 to 256");
  check(options_.prefetch > 0 && options_.prefetch <= 1024, "prefetch", options_.prefetch,
        "1 to 1024");
  if (options_.seed) {
    check(*options_.seed >= 0, "seed", *options_.seed, "at least 0");
  } else {
    options_.seed = draw_seed(default_generator());
  }
}

std::int64_t DataLoader::size() const { return batches_of(dataset_->size(), options_); }

std::pair<std::int64_t, std::int64_t> DataLoader::position() const {
  if (!current_) return {next_epoch_, next_batch_};
  if (current_->ended) return {current_->epoch + 1, 0};
  return {current_->epoch, current_->taken};
}

std::int64_t DataLoader::epoch() const { return position().first; }

std::unique_ptr<Epoch> DataLoader::begin_epoch() {
  auto position = std::make_shared<Epoch::Position>();
  position->epoch = current_ ? current_->epoch + 1 : next_epoch_;
  position->taken = current_ ? 0 : next_batch_;
  const Draw draw{static_cast<std::uint64_t>(*options_.seed),
                  static_cast<std::uint64_t>(position->epoch)};
  std::unique_ptr<Epoch> epoch(new Epoch(dataset_, options_, draw, position));
  current_ = std::move(position);
  return epoch;
}

std::map<std::string, std::int64_t> DataLoader::state_dict() const {
  const auto [epoch, batch] = position();
  return {{"seed", *options_.seed},
          {"epoch", epoch},
          {"batch", batch},
          {"samples", dataset_->size()},
          {"batch_size", options_.batch_size},
          {"shuffle", options_.shuffle},
          {"drop_last", options_.drop_last}};
}

void DataLoader::load_state_dict(const std::map<std::string, std::int64_t>& state) {
  constexpr std::string_view who = "DataLoader.load_state_dict";
  const auto mine = state_dict();
  for (const auto& [name, value] : state) {
    if (!mine.contains(name)) fail(ErrorKind::value, who, "\"", name, "\" is not known here");
  }
  for (const auto& [name, value] : mine) {
    const auto given = state.find(name);
    if (given == state.end()) fail(ErrorKind::value, who, "\"", name, "\" is missing");
    const bool moves = name == "seed" || name == "epoch" || name == "batch";
    if (!moves && given->second != value) {
      fail(ErrorKind::value, who, name, " was ", given->second,
           " when the state was saved, here it is ", value);
    }
  }
  const std::int64_t seed = state.at("seed"), epoch = state.at("epoch"), batch = state.at("batch");
  if (seed < 0 || epoch < 0 || epoch >= most_epochs || batch < 0 || batch > size()) {
    fail(ErrorKind::value, who, "no loader was at seed ", seed, ", epoch ", epoch, ", batch ",
         batch, " of ", size());
  }
  options_.seed = seed;
  next_epoch_ = epoch;
  next_batch_ = batch;
  current_.reset();
}

}  // namespace lg::data
