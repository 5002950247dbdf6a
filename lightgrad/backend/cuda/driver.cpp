#include "lightgrad/backend/cuda/driver.h"

#include <dlfcn.h>

#include "lightgrad/base/error.h"

namespace lg::cuda {
namespace {

constexpr int oldest_version = 12000;
constexpr int no_device = 100, out_of_memory = 2;  // CUDA_ERROR_NO_DEVICE, ..._OUT_OF_MEMORY

struct Loaded {
  Driver driver;
  std::string problem;

  Loaded() {
    // Never closed: the driver's own threads may outlive every static of ours.
    void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
      const char* why = dlerror();
      problem = text("no NVIDIA driver was found (", why ? why : "libcuda.so.1", ")");
      return;
    }
#define F(name, parameters)                                                     \
  driver.name = reinterpret_cast<decltype(driver.name)>(dlsym(library, #name)); \
  if (!driver.name && problem.empty())                                          \
    problem =                                                                   \
        text("the NVIDIA driver is too old: it lacks ", #name, "; CUDA 12.0 or newer is needed");
    LG_CUDA_FUNCTIONS(F)
#undef F
    if (!problem.empty()) return;
    if (const int r = driver.cuInit(0)) {
      problem = r == no_device ? "the NVIDIA driver finds no device"
                               : text("the NVIDIA driver does not start: ", name(r));
      return;
    }
    int r = driver.cuDriverGetVersion(&driver.version);
    if (!r && driver.version < oldest_version) {
      problem = text("the NVIDIA driver is too old: it speaks CUDA ", driver.version / 1000, ".",
                     driver.version % 1000 / 10, ", 12.0 or newer is needed");
      return;
    }
    if (!r) r = driver.cuDeviceGetCount(&driver.devices);
    if (r)
      problem = text("the NVIDIA driver does not answer: ", name(r));
    else if (driver.devices == 0)
      problem = "the NVIDIA driver finds no device";
  }

  std::string name(int result) const {
    const char *name = nullptr, *meaning = nullptr;
    if (driver.cuGetErrorName) driver.cuGetErrorName(result, &name);
    if (driver.cuGetErrorString) driver.cuGetErrorString(result, &meaning);
    std::string all = name ? name : text("error ", result);
    return meaning ? text(all, " (", meaning, ")") : all;
  }
};

const Loaded& loaded() {
  static const Loaded& l = *new Loaded;
  return l;
}

}  // namespace

const std::string& why_no_driver() { return loaded().problem; }

const Driver& driver() {
  const Loaded& l = loaded();
  if (!l.problem.empty()) fail(ErrorKind::runtime, "cuda", l.problem);
  return l.driver;
}

void check(int result, const char* call, const std::string& about) {
  if (result == 0) return;
  fail(result == out_of_memory ? ErrorKind::memory : ErrorKind::runtime, "cuda", call,
       " failed: ", loaded().name(result), about.empty() ? "" : ", ", about);
}

}  // namespace lg::cuda
