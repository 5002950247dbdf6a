// test_datasets.cpp: where data sets are looked for, in order, and what their files must hold. No
// network: what downloads is a script of the test's.
#include "lightgrad/data/datasets.h"

#include <gtest/gtest.h>

#include "lightgrad/base/sha256.h"
#include "lightgrad/data/subprocess.h"
#include "tests/cpp/data_testing.h"
#include "tests/cpp/io_testing.h"

namespace lg::data {
namespace {

// No data sets but those that a test writes.
class Datasets : public FolderTest {
 protected:
  Datasets()
      : environment_("LIGHTGRAD_DATASETS", ""),
        path_("PATH", at("bin") + ":/usr/bin:/bin"),
        cache_("XDG_CACHE_HOME", at("cache")) {
    std::filesystem::create_directory(at("bin"));
    program("curl", "echo 'Could not resolve host' >&2; exit 6");
  }

  void program(const std::string& name, const std::string& script) {
    write_text(at("bin/" + name), "#!/bin/sh\n" + script + "\n");
    std::filesystem::permissions(at("bin/" + name), std::filesystem::perms::owner_all);
  }
  // A curl that finds in `remote/` what the last word of an address names.
  void online() {
    program("curl",
            "while [ $# -gt 1 ]; do [ \"$1\" = -o ] && out=$2; shift; done\n"
            "echo \"$1\" >>'" +
                at("calls") + "'; cp '" + at("remote/") + "'\"${1##*/}\" \"$out\"");
  }
  void write(const std::string& path, const std::string& contents) {
    std::filesystem::create_directories(std::filesystem::path(at(path)).parent_path());
    write_text(at(path), contents);
  }
  void write_mnist(const std::string& where, int n, const std::string& set = "t10k",
                   const std::string& ending = "") {
    std::string images = idx_header(8, {static_cast<std::uint32_t>(n), 28, 28}),
                labels = idx_header(8, {static_cast<std::uint32_t>(n)});
    for (int i = 0; i < n; ++i) {
      images += std::string(784, static_cast<char>(i));
      labels += static_cast<char>(i % 10);
    }
    if (ending == ".gz") images = gzipped(images), labels = gzipped(labels);
    write(where + "/" + set + "-images-idx3-ubyte" + ending, images);
    write(where + "/" + set + "-labels-idx1-ubyte" + ending, labels);
  }
  FindOptions test_set(const std::string& root = "") const {
    FindOptions o;
    if (!root.empty()) o.root = at(root);
    o.train = false;
    return o;
  }

 private:
  Variable environment_, path_, cache_;
};

TEST_F(Datasets, ARootThatIsGiven) {
  write_mnist("root", 3);
  write_mnist("root", 5, "train", ".gz");
  const MNIST test(test_set("root"));
  EXPECT_EQ(test.size(), 3);
  EXPECT_EQ(test.images().shape(), (Shape{3, 1, 28, 28}));
  EXPECT_EQ(test.labels().to_vector<int>(), (std::vector<int>{0, 1, 2}));
  EXPECT_EQ(test.images().dtype(), DType::uint8);
  EXPECT_EQ(test.images().to_vector<int>()[784 * 2], 2);
  EXPECT_EQ(test.classes()[7], "7");
  EXPECT_EQ(MNIST({.root = at("root")}).size(), 5);
  const Sample s = test.get(1);
  EXPECT_EQ(s[0].shape(), (Shape{1, 28, 28}));
  EXPECT_EQ(s[1].item<int>(), 1);
}

TEST_F(Datasets, WhereOtherProgramsKeepThem) {
  write_mnist("a/FashionMNIST/raw", 2);
  EXPECT_EQ(FashionMNIST(test_set("a")).classes()[9], "Ankle boot");
  const Variable environment("LIGHTGRAD_DATASETS", at("b"));
  write_mnist("b/MNIST/raw", 4);
  EXPECT_EQ(MNIST(test_set()).size(), 4);
}

TEST_F(Datasets, TheCacheAndTheSystemsPackage) {
  write_mnist("cache/lightgrad/mnist", 6, "t10k", ".gz");
  EXPECT_EQ(MNIST(test_set()).size(), 6);
  Catalog catalog = mnist_catalog();
  catalog.folder = "elsewhere";
  catalog.system = {at("system")};
  write_mnist("system", 7);
  const auto found = find_files(catalog, {"t10k-labels-idx1-ubyte"}, test_set());
  EXPECT_EQ(found, std::vector<std::string>{at("system/t10k-labels-idx1-ubyte")});
}

TEST_F(Datasets, ARootThatIsWrongIsNotReplaced) {
  write_mnist("cache/lightgrad/mnist", 6);
  std::filesystem::create_directory(at("root"));
  for (const std::string& part :
       {"MNIST: did not find t10k-images-idx3-ubyte and the files that belong to it. Tried\n  " +
            at("root") + ": no t10k-images-idx3-ubyte or t10k-images-idx3-ubyte.gz\n",
        "\n  " + at("root/MNIST/raw") + ": no such folder\n",
        std::string("/mnist/: not asked, for download is off")}) {
    expect_error([&] { MNIST{test_set("root")}; }, ErrorKind::io, part);
  }
}

TEST_F(Datasets, OfflineTheErrorNamesEachPlace) {
  for (const std::string& part :
       {std::string("CIFAR10: did not find test_batch.bin. Tried\n  root: not given\n"),
        std::string("\n  LIGHTGRAD_DATASETS: not set\n"),
        "\n  " + at("cache/lightgrad/cifar-10-batches-bin") + ": no such folder\n",
        std::string("/cifar-10-binary.tar.gz: curl ended with status 6: Could not resolve host")}) {
    expect_error([&] { CIFAR10{test_set()}; }, ErrorKind::io, part);
  }
}

TEST_F(Datasets, TheAddressFillsTheCacheOrTheRoot) {
  online();
  write_mnist("remote", 2, "t10k", ".gz");
  Catalog catalog = mnist_catalog();
  for (RemoteFile& file : catalog.remote) {
    if (!file.name.starts_with("t10k")) continue;
    const std::string bytes = read_text(at("remote/" + file.name));
    file.sha256 = sha256(bytes);
    file.bytes = static_cast<std::int64_t>(bytes.size());
  }
  const std::vector<std::string> names{"t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"};
  FindOptions options = test_set();
  std::int64_t last = 0, total = 0;
  options.progress = [&](std::int64_t done, std::int64_t all) { last = done, total = all; };
  const std::string cached = at("cache/lightgrad/mnist/t10k-images-idx3-ubyte.gz");
  EXPECT_EQ(find_files(catalog, names, options)[0], cached);
  EXPECT_EQ(read_text(at("calls")), catalog.url + "t10k-images-idx3-ubyte.gz\n" + catalog.url +
                                        "t10k-labels-idx1-ubyte.gz\n");
  EXPECT_GT(total, 0);
  EXPECT_EQ(last, total);
  EXPECT_EQ(find_files(catalog, names, options)[0], cached);  // now without the address
  EXPECT_EQ(read_text(at("calls")).find("labels", 200), std::string::npos);

  options = test_set("root");
  options.download = true;
  EXPECT_EQ(find_files(catalog, names, options)[0], at("root/t10k-images-idx3-ubyte.gz"));
  write("remote/t10k-labels-idx1-ubyte.gz", "<html>log in</html>");
  options.root = at("other");
  expect_error([&] { find_files(catalog, names, options); }, ErrorKind::io,
               "t10k-labels-idx1-ubyte.gz: 19 bytes of SHA-256 ");
}

TEST_F(Datasets, AnArchiveIsUnpacked) {
  online();
  write("made/cifar-10-batches-bin/test_batch.bin", std::string(3073, '\5'));
  write("made/cifar-10-batches-bin/readme.html", "x");
  std::filesystem::create_directory(at("remote"));
  ASSERT_EQ(run_program({"tar", "-czf", at("remote/cifar-10-binary.tar.gz"), "-C", at("made"),
                         "cifar-10-batches-bin"},
                        60)
                .failure,
            "");
  Catalog catalog = cifar10_catalog();
  const std::string bytes = read_text(at("remote/cifar-10-binary.tar.gz"));
  catalog.remote[0] = {"cifar-10-binary.tar.gz", sha256(bytes),
                       static_cast<std::int64_t>(bytes.size())};
  const auto found = find_files(catalog, {"test_batch.bin"}, test_set());
  EXPECT_EQ(found[0], at("cache/lightgrad/cifar-10-batches-bin/test_batch.bin"));
  const CIFAR10 test(test_set());
  EXPECT_EQ(test.images().shape(), (Shape{1, 3, 32, 32}));
  EXPECT_EQ(test.labels().item<int>(), 5);
  EXPECT_EQ(test.classes()[5], "dog");
}

TEST_F(Datasets, ADownloadThatIsStopped) {
  program("curl", "sleep 60");
  FindOptions options = test_set();
  options.progress = [](std::int64_t, std::int64_t) { throw Error(ErrorKind::runtime, "stop"); };
  expect_error([&] { MNIST{options}; }, ErrorKind::runtime, "stop");
}

TEST_F(Datasets, FilesThatAreNotThisDataSet) {
  const std::string images = "root/t10k-images-idx3-ubyte", labels = "root/t10k-labels-idx1-ubyte";
  const auto refuses = [&](const std::string& part) {
    expect_error([&] { MNIST{test_set("root")}; }, ErrorKind::io, part);
  };
  write_mnist("root", 2);
  write(images, idx_header(8, {2, 28, 27}) + std::string(2 * 28 * 27, 'x'));
  refuses("MNIST: " + at(images) + " holds uint8 [2, 28, 27], expected images, uint8 [n, 28, 28]");
  write(images, idx_header(8, {0, 28, 28}));
  refuses("holds uint8 [0, 28, 28]");
  write(images, idx_header(9, {1, 28, 28}) + std::string(784, 'x'));
  refuses("holds int32 [1, 28, 28]");
  write(images, idx_header(8, {784}) + std::string(784, 'x'));
  refuses("holds uint8 [784]");
  write_mnist("root", 2);
  write(labels, idx_header(8, {3}) + std::string(3, '\1'));
  refuses("MNIST: " + at(labels) + " holds uint8 [3], expected labels of the images, uint8 [2]");
  write(labels, idx_header(8, {2}) + "\1\x0a");
  refuses("MNIST: " + at(labels) + ": label 1 is 10, expected 0 to 9");
  write(labels, idx_header(8, {2}) + "\1");
  refuses("read_idx: " + at(labels) + ": it claims [2] elements");
}

}  // namespace
}  // namespace lg::data
