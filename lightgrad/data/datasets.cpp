#include "lightgrad/data/datasets.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "lightgrad/base/error.h"
#include "lightgrad/base/file.h"
#include "lightgrad/data/cifar.h"
#include "lightgrad/data/idx.h"
#include "lightgrad/data/subprocess.h"

namespace lg::data {
namespace {

namespace fs = std::filesystem;
constexpr const char* environment = "LIGHTGRAD_DATASETS";

// The files in one folder, or nothing, with the reason noted.
std::vector<std::string> files_in(const fs::path& folder, const std::vector<std::string>& names,
                                  Tried& tried) {
  std::vector<std::string> found;
  for (const std::string& name : names) {
    std::error_code error;
    const fs::path plain = folder / name, packed = folder / (name + ".gz");
    if (fs::exists(plain, error)) {
      found.push_back(plain.string());
    } else if (fs::exists(packed, error)) {
      found.push_back(packed.string());
    } else {
      const bool there = fs::is_directory(folder, error);
      tried.add(folder.string(), there ? text("no ", name, " or ", name, ".gz") : "no such folder");
      return {};
    }
  }
  return found;
}

std::vector<std::string> files_in_root(const Catalog& catalog, const fs::path& root,
                                       const std::vector<std::string>& names, Tried& tried) {
  std::vector<fs::path> folders{root};
  for (const std::string& sub : catalog.subfolders) folders.push_back(root / sub);
  for (const fs::path& folder : folders) {
    if (auto found = files_in(folder, names, tried); !found.empty()) return found;
  }
  return {};
}

// Keeps the files of a .tar.gz whose bytes are known to be the right ones.
bool unpack(const Downloaded& archive, const TemporaryFolder& folder, const fs::path& to,
            Tried& tried) {
  const fs::path inside = folder.path / "unpacked";
  std::error_code error;
  fs::create_directory(inside, error);
  const RunResult run = run_program({"tar", "-xzf", archive.path.string(), "-C", inside.string(),
                                     "--no-same-owner", "--strip-components=1"},
                                    600);
  if (!run.failure.empty()) {
    tried.add("unpacking " + archive.path.string(), run.failure);
    return false;
  }
  for (const auto& entry : fs::directory_iterator(inside, error)) {
    if (entry.is_regular_file(error)) {
      keep(to / entry.path().filename(), read_file(entry.path().string(), "find"));
    }
  }
  return true;
}

bool download_into(const Catalog& catalog, const std::vector<std::string>& names,
                   const fs::path& to, const FindOptions& options, Tried& tried) {
  for (const RemoteFile& file : catalog.remote) {
    const bool archive = file.name.ends_with(".tar.gz");
    const bool wanted = archive || std::ranges::any_of(names, [&](const std::string& name) {
                          return file.name == name || file.name == name + ".gz";
                        });
    std::error_code error;
    if (!wanted || (!archive && fs::exists(to / file.name, error))) continue;
    const TemporaryFolder folder;
    const Download what{.url = catalog.url + file.name,
                        .sha256 = file.sha256,
                        .bytes = file.bytes,
                        .most_bytes = file.bytes,
                        .seconds = options.download_seconds,
                        .progress = options.progress};
    const auto found = download(what, folder, tried);
    if (!found) return false;
    if (archive) {
      if (!unpack(*found, folder, to, tried)) return false;
    } else {
      keep(to / file.name, found->bytes);
    }
  }
  return true;
}

// --- what the files must hold ---

[[noreturn]] void fail_unlike(const Catalog& catalog, const std::string& path, const Tensor& got,
                              const std::string& expected) {
  fail(ErrorKind::io, catalog.name, path, " holds ", got.describe(), ", expected ", expected);
}

struct Loaded {
  Tensor images, labels;
};

Loaded load_idx(const Catalog& catalog, const FindOptions& options) {
  const std::string set = options.train ? "train" : "t10k";
  const auto paths =
      find_files(catalog, {set + "-images-idx3-ubyte", set + "-labels-idx1-ubyte"}, options);
  const Tensor images = read_idx(paths[0]), labels = read_idx(paths[1]);
  const Shape& s = images.shape();
  if (images.dtype() != DType::uint8 || s.rank() != 3 || s[0] == 0 || s[1] != 28 || s[2] != 28) {
    fail_unlike(catalog, paths[0], images, "images, uint8 [n, 28, 28]");
  }
  if (labels.dtype() != DType::uint8 || labels.rank() != 1 || labels.shape()[0] != s[0]) {
    fail_unlike(catalog, paths[1], labels, text("labels of the images, uint8 [", s[0], "]"));
  }
  const Tensor wide = Tensor::empty({s[0]}, DType::int64);
  for (std::int64_t i = 0; i < s[0]; ++i) {
    const std::int64_t label = labels.data<std::uint8_t>()[i];
    if (label > 9) {
      fail(ErrorKind::io, catalog.name, paths[1], ": label ", i, " is ", label,
           ", expected 0 to 9");
    }
    wide.data<std::int64_t>()[i] = label;
  }
  const Shape shape{s[0], 1, 28, 28};
  return {images.view_as(shape, contiguous_strides(shape)), wide};
}

Loaded load_cifar10(const FindOptions& options) {
  std::vector<std::string> names{"test_batch.bin"};
  if (options.train) {
    names.clear();
    for (int i = 1; i <= 5; ++i) names.push_back(text("data_batch_", i, ".bin"));
  }
  const Cifar c = read_cifar10(find_files(cifar10_catalog(), names, options));
  return {c.images, c.labels};
}

ImageDataset dataset_of(Loaded loaded, ImageTransform transform, std::vector<std::string> classes) {
  return {std::move(loaded.images), std::move(loaded.labels), std::move(transform),
          std::move(classes)};
}

}  // namespace

std::vector<std::string> find_files(const Catalog& catalog, const std::vector<std::string>& names,
                                    const FindOptions& options) {
  Tried tried;
  const fs::path cache = cache_folder();
  const fs::path cached = cache.empty() ? fs::path() : cache / catalog.folder;
  fs::path keep_in = cached;
  if (!options.root.empty()) {
    keep_in = options.root;
    if (auto found = files_in_root(catalog, options.root, names, tried); !found.empty()) {
      return found;
    }
  } else {
    tried.add("root", "not given");
    if (const std::string given = variable(environment); given.empty()) {
      tried.add(environment, "not set");
    } else if (auto found = files_in_root(catalog, given, names, tried); !found.empty()) {
      return found;
    }
    if (cache.empty()) {
      tried.add("the cache", "neither XDG_CACHE_HOME nor HOME names a folder");
    } else if (auto found = files_in(cached, names, tried); !found.empty()) {
      return found;
    }
    for (const std::string& folder : catalog.system) {
      if (auto found = files_in(folder, names, tried); !found.empty()) return found;
    }
  }
  if (!options.download.value_or(options.root.empty())) {
    tried.add(catalog.url, "not asked, for download is off");
  } else if (!keep_in.empty() && download_into(catalog, names, keep_in, options, tried)) {
    if (auto found = files_in(keep_in, names, tried); !found.empty()) return found;
  }
  fail(ErrorKind::io, catalog.name, "did not find ", names[0],
       names.size() > 1 ? " and the files that belong to it" : "", ". Tried", tried.list());
}

const Catalog& mnist_catalog() {
  static const Catalog catalog{
      .name = "MNIST",
      .folder = "mnist",
      .subfolders = {"MNIST/raw", "mnist"},
      .system = {},
      .url = "https://ossci-datasets.s3.amazonaws.com/mnist/",
      .remote = {{"train-images-idx3-ubyte.gz",
                  "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9912422},
                 {"train-labels-idx1-ubyte.gz",
                  "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28881},
                 {"t10k-images-idx3-ubyte.gz",
                  "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1648877},
                 {"t10k-labels-idx1-ubyte.gz",
                  "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4542}}};
  return catalog;
}

const Catalog& fashion_mnist_catalog() {
  static const Catalog catalog{
      .name = "FashionMNIST",
      .folder = "fashion-mnist",
      .subfolders = {"FashionMNIST/raw", "fashion-mnist"},
      .system = {"/usr/share/datasets/fashion-mnist"},  // of Debian's dataset-fashion-mnist
      .url = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
      .remote = {{"train-images-idx3-ubyte.gz",
                  "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", 26421880},
                 {"train-labels-idx1-ubyte.gz",
                  "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", 29515},
                 {"t10k-images-idx3-ubyte.gz",
                  "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", 4422102},
                 {"t10k-labels-idx1-ubyte.gz",
                  "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", 5148}}};
  return catalog;
}

const Catalog& cifar10_catalog() {
  static const Catalog catalog{
      .name = "CIFAR10",
      .folder = "cifar-10-batches-bin",
      .subfolders = {"cifar-10-batches-bin"},
      .system = {},
      .url = "https://www.cs.toronto.edu/~kriz/",
      .remote = {{"cifar-10-binary.tar.gz",
                  "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd", 170052171}}};
  return catalog;
}

MNIST::MNIST(const FindOptions& options, ImageTransform transform)
    : ImageDataset(dataset_of(load_idx(mnist_catalog(), options), std::move(transform),
                              {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"})) {}

FashionMNIST::FashionMNIST(const FindOptions& options, ImageTransform transform)
    : ImageDataset(dataset_of(load_idx(fashion_mnist_catalog(), options), std::move(transform),
                              {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal",
                               "Shirt", "Sneaker", "Bag", "Ankle boot"})) {}

CIFAR10::CIFAR10(const FindOptions& options, ImageTransform transform)
    : ImageDataset(dataset_of(load_cifar10(options), std::move(transform),
                              {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog",
                               "horse", "ship", "truck"})) {}

}  // namespace lg::data
