// datasets.h: MNIST, Fashion-MNIST and CIFAR-10 as data sets of images, found on this machine or
// brought from their address.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lightgrad/data/dataset.h"
#include "lightgrad/data/find.h"

namespace lg::data {

struct FindOptions {
  std::string root;   // a folder that holds the data set; empty: not given
  bool train = true;  // else the test images
  // Whether to bring it from its address where it is not found: into `root`, or into the cache when
  // no root is given. Without a value: only when no root is given.
  std::optional<bool> download = {};
  double download_seconds = 1800;
  Progress progress = {};
};

// A file that is meant, byte for byte.
struct RemoteFile {
  std::string name, sha256;
  std::int64_t bytes = 0;
};

// What is to be known of a data set to find it.
struct Catalog {
  std::string name;                     // "MNIST": what errors and folders call it
  std::string folder;                   // in the cache
  std::vector<std::string> subfolders;  // of a root, where other programs keep it
  std::vector<std::string> system;      // folders of system packages
  std::string url;                      // what stands before the name of a remote file
  std::vector<RemoteFile> remote;       // the files themselves, or one .tar.gz of them
};
const Catalog& mnist_catalog();
const Catalog& fashion_mnist_catalog();
const Catalog& cifar10_catalog();

// The paths of these files, all from one folder, each plain or with ".gz" behind its name. Without
// a root: in the folder that LIGHTGRAD_DATASETS names (as in a root), the cache, the system's
// package, else from the address. IOError that names each place and what was wrong with it.
std::vector<std::string> find_files(const Catalog& catalog, const std::vector<std::string>& names,
                                    const FindOptions& options);

// Images as uint8 [n, 1, 28, 28] or [n, 3, 32, 32], labels as int64. The files are checked as
// strictly as idx.h and cifar.h say, and that they are images of this size with a label each,
// 0 to 9: an IOError otherwise.
class MNIST : public ImageDataset {
 public:
  explicit MNIST(const FindOptions& options = {}, ImageTransform transform = {});
};
class FashionMNIST : public ImageDataset {
 public:
  explicit FashionMNIST(const FindOptions& options = {}, ImageTransform transform = {});
};
class CIFAR10 : public ImageDataset {
 public:
  explicit CIFAR10(const FindOptions& options = {}, ImageTransform transform = {});
};

}  // namespace lg::data
