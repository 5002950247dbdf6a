// loader.cpp: an epoch of the data loader over random images: shuffled, cropped after padding,
// flipped and normalised; images a second are images / milliseconds * 1000. harness.h says how it
// is called.
//   build/benchmarks/loader "loader images=50000 size=32 batch=128 workers=2"
#include "benchmarks/harness.h"
#include "lightgrad/lightgrad.h"

namespace {

bench::Run epochs(const bench::Case& c) {
  namespace data = lg::data;
  const std::int64_t n = c["images"], size = c["size"];
  const data::Compose transform{data::RandomCrop(size, 4), data::RandomHorizontalFlip(),
                                data::ToFloat(),
                                data::Normalize({0.49f, 0.48f, 0.45f}, {0.25f, 0.24f, 0.26f})};
  const auto images = std::make_shared<data::ImageDataset>(
      lg::randint(0, 256, {n, 3, size, size}, lg::DType::uint8), lg::randint(0, 10, {n}),
      transform);
  data::LoaderOptions options;
  options.batch_size = c["batch"];
  options.shuffle = true;
  options.workers = static_cast<int>(c["workers"]);
  options.seed = 0;
  const auto loader = std::make_shared<data::DataLoader>(images, options);
  return [=] {
    std::int64_t seen = 0;
    for (const data::Batch& batch : *loader) seen += batch[0].size(0);
    return static_cast<double>(seen);
  };
}

}  // namespace

int main(int argc, char** argv) { return bench::serve(argc, argv, epochs); }
