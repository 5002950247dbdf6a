# Where other people's code comes from: an installed package when there is one, else a pinned archive whose SHA-256 is
# checked. FETCHCONTENT_TRY_FIND_PACKAGE_MODE=NEVER always takes the archive (a wheel without libhwy.so, for one).
include(FetchContent)

# lightgrad_dependency(<package> <version> URL <url> SHA256 <hash> [OPTIONS <name=value>...])
function(lightgrad_dependency package version)
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "URL;SHA256" "OPTIONS")
  foreach(option IN LISTS arg_OPTIONS)
    string(REGEX MATCH "^([^=]+)=(.*)$" _ "${option}")
    set(${CMAKE_MATCH_1} "${CMAKE_MATCH_2}")
  endforeach()
  set(CMAKE_POLICY_DEFAULT_CMP0077 NEW)    # the options above hold in the other project
  set(CMAKE_POLICY_VERSION_MINIMUM 3.5)    # some of them ask for a CMake that today's no longer imitates
  set(BUILD_SHARED_LIBS OFF)
  FetchContent_Declare(${package} URL ${arg_URL} URL_HASH SHA256=${arg_SHA256} DOWNLOAD_EXTRACT_TIMESTAMP OFF
    SYSTEM FIND_PACKAGE_ARGS ${version} CONFIG)
  FetchContent_MakeAvailable(${package})
  if(NOT ${package}_VERSION)  # not an installed package: the version is the archive's
    string(REGEX MATCH "[0-9]+\\.[0-9]+(\\.[0-9]+)?" ${package}_VERSION "${arg_URL}")
  endif()
  set(${package}_VERSION "${${package}_VERSION}" PARENT_SCOPE)
endfunction()

find_package(Threads REQUIRED)

if(NOT LIGHTGRAD_USE_INSTALLED)
  lightgrad_dependency(hwy 1.0.3
    URL https://github.com/google/highway/archive/refs/tags/1.0.7.tar.gz
    SHA256 5434488108186c170a5e2fca5e3c9b6ef59a1caa4d520b008a9b8be6b8abe6c5
    OPTIONS BUILD_TESTING=OFF HWY_ENABLE_TESTS=OFF HWY_ENABLE_EXAMPLES=OFF HWY_ENABLE_CONTRIB=OFF)
  if(NOT TARGET hwy::hwy)
    add_library(hwy::hwy ALIAS hwy)
  endif()
  lightgrad_dependency(nlohmann_json 3.10
    URL https://github.com/nlohmann/json/releases/download/v3.11.3/json.tar.xz
    SHA256 d6c65aca6b1ed68e7a182f4757257b107ae403032760ed6ef121c9d55e81757d
    OPTIONS JSON_BuildTests=OFF JSON_Install=OFF)
endif()
# zlib inflates the .gz files of data sets. Its own CMake project renames a file of its sources, so what is fetched is
# compiled here: the eight files that inflating and, for tests, deflating need.
find_package(ZLIB QUIET)
if(NOT ZLIB_FOUND AND NOT LIGHTGRAD_USE_INSTALLED)
  enable_language(C)
  FetchContent_Declare(zlib URL https://github.com/madler/zlib/releases/download/v1.3.1/zlib-1.3.1.tar.gz
    URL_HASH SHA256=9a93b2b7dfdac77ceba5a558a580e74667dd6fede4585b91eefb60f03b72df23 DOWNLOAD_EXTRACT_TIMESTAMP OFF
    SOURCE_SUBDIR none)
  FetchContent_MakeAvailable(zlib)
  set(files adler32 crc32 deflate inffast inflate inftrees trees zutil)
  list(TRANSFORM files REPLACE "(.+)" "${zlib_SOURCE_DIR}/\\1.c")
  add_library(lightgrad_zlib STATIC ${files})
  target_include_directories(lightgrad_zlib SYSTEM PUBLIC "$<BUILD_INTERFACE:${zlib_SOURCE_DIR}>")
  add_library(ZLIB::ZLIB ALIAS lightgrad_zlib)
  install(TARGETS lightgrad_zlib EXPORT lightgrad-targets COMPONENT cpp ARCHIVE COMPONENT cpp)
endif()
if(LIGHTGRAD_BUILD_TESTS)
  lightgrad_dependency(GTest 1.11
    URL https://github.com/google/googletest/archive/refs/tags/v1.14.0.tar.gz
    SHA256 8ad598c73ad796e0d8280b082cebd82a630d73e73cd3c70057938a6501bba5d7
    OPTIONS INSTALL_GTEST=OFF)
endif()
if(LIGHTGRAD_BUILD_EXAMPLES)
  lightgrad_dependency(CLI11 2.1
    URL https://github.com/CLIUtils/CLI11/archive/v2.4.2.tar.gz
    SHA256 f2d893a65c3b1324c50d4e682c0cdc021dd0477ae2c048544f39eed6654b699a
    OPTIONS CLI11_BUILD_TESTS=OFF CLI11_BUILD_EXAMPLES=OFF CLI11_INSTALL=OFF)
endif()
if(LIGHTGRAD_BUILD_BENCHMARKS)
  lightgrad_dependency(benchmark 1.6
    URL https://github.com/google/benchmark/archive/refs/tags/v1.8.3.tar.gz
    SHA256 6bc180a57d23d4d9515519f92b0c83d61b05b5bab188961f36ac7b06b0d9e9ce
    OPTIONS BENCHMARK_ENABLE_TESTING=OFF BENCHMARK_ENABLE_INSTALL=OFF)
endif()
