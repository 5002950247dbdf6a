// loader.h: batches of a data set, epoch after epoch, made ahead of time by worker threads. The
// order and the random transforms depend on the seed, the epoch and the sample, never on the
// workers, and a loader continues where a saved one stood, in the middle of an epoch too.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "lightgrad/data/dataset.h"

namespace lg::data {

struct LoaderOptions {
  std::int64_t batch_size = 1;
  bool shuffle = false;
  bool drop_last = false;  // leaves out a last batch that is not full
  int workers = 0;         // threads; 0: the caller makes each batch when it asks for it
  int prefetch = 2;        // batches that each worker may be ahead
  // Of shuffle and transforms, at least 0. Without it, a number from the default generator.
  std::optional<std::int64_t> seed = {};
};

// One pass. Batches come in order; at most workers * prefetch of them are ready or being made.
class Epoch {
 public:
  ~Epoch();  // waits for what the workers are making now
  Epoch(const Epoch&) = delete;
  Epoch& operator=(const Epoch&) = delete;

  // The next batch, or nothing at the end. What making it has thrown is thrown here, in its turn,
  // and ends the epoch.
  std::optional<Batch> next();
  // Whether next() would not have to wait for a worker, after at most `time`.
  bool wait(std::chrono::milliseconds time);
  // Ends the epoch: no more batches, and no workers when it returns.
  void stop();

  std::int64_t number() const;

 private:
  friend class DataLoader;
  struct Position;
  struct Workers;
  Epoch(std::shared_ptr<const Dataset> dataset, const LoaderOptions& options, Draw draw,
        std::shared_ptr<Position> position);
  Batch make(std::int64_t batch) const;

  std::shared_ptr<const Dataset> dataset_;
  LoaderOptions options_;
  Draw draw_;
  std::int64_t samples_, batches_;
  std::vector<std::int64_t> order_;  // of a shuffled epoch
  std::shared_ptr<Position> position_;
  std::unique_ptr<Workers> workers_;
  bool failed_ = false;
};

// True in a worker whose epoch was stopped: a data set that makes a batch slowly may give up.
bool stop_requested();

// A seed for a loader, drawn from a generator.
std::int64_t draw_seed(Generator& generator);

class DataLoader {
 public:
  explicit DataLoader(std::shared_ptr<const Dataset> dataset, LoaderOptions options = {});

  std::int64_t size() const;  // batches of an epoch
  const std::shared_ptr<const Dataset>& dataset() const { return dataset_; }
  const LoaderOptions& options() const { return options_; }

  // Begins the next epoch, or the rest of the one that load_state_dict has set. Epochs that were
  // begun before go on by themselves.
  std::unique_ptr<Epoch> begin_epoch();
  // The epoch that was begun last, or that comes next where that one has ended.
  std::int64_t epoch() const;

  // for (const Batch& batch : loader): one epoch.
  class Iterator;
  struct End {};
  Iterator begin();
  End end() { return {}; }

  // Whole numbers that say where the loader stands: seed, epoch, batches taken from it, and what
  // must be the same to go on from there. ValueError where it is not.
  std::map<std::string, std::int64_t> state_dict() const;
  void load_state_dict(const std::map<std::string, std::int64_t>& state);

 private:
  std::pair<std::int64_t, std::int64_t> position() const;  // epoch, batch

  std::shared_ptr<const Dataset> dataset_;
  LoaderOptions options_;
  std::shared_ptr<Epoch::Position> current_;  // of the epoch begun last
  std::int64_t next_epoch_ = 0, next_batch_ = 0;
};

class DataLoader::Iterator {
 public:
  explicit Iterator(std::unique_ptr<Epoch> epoch) : epoch_(std::move(epoch)) { ++*this; }
  const Batch& operator*() const { return *batch_; }
  const Batch* operator->() const { return &*batch_; }
  Iterator& operator++() {
    batch_.reset();  // its memory can be the next one's
    batch_ = epoch_->next();
    return *this;
  }
  bool operator==(End) const { return !batch_; }

 private:
  std::unique_ptr<Epoch> epoch_;
  std::optional<Batch> batch_;
};

inline DataLoader::Iterator DataLoader::begin() { return Iterator(begin_epoch()); }

}  // namespace lg::data
