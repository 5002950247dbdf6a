// fake_cuda.cpp: a stand-in for NVIDIA's libcuda.so.1. It keeps the driver's rules, as far as
// LightGrad meets them, and refuses what breaks them: every launch is held against what the
// kernel's code says of its parameters and threads, every address against the memory that was
// handed out. Device memory cannot be touched by the CPU: its addresses are mapped without any
// permission, and the bytes lie elsewhere. The kernels themselves are run by whoever installs an
// executor: the tests, by Triton's interpreter.
//
// Environment: FAKE_CUDA_CAPABILITY (90), FAKE_CUDA_DRIVER (12040), FAKE_CUDA_DEVICES (1),
// FAKE_CUDA_MEMORY (bytes, 256 MiB), FAKE_CUDA_INIT (what cuInit gives).
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <set>

#include "tests/triton/fake_cuda/image.h"

namespace {

using namespace fake_cuda;
using Address = std::uint64_t;
using Handle = void*;

enum Result {
  success = 0,
  invalid_value = 1,
  out_of_memory = 2,
  not_initialized = 3,
  no_device = 100,
  invalid_device = 101,
  invalid_image = 200,
  invalid_context = 201,
  no_binary_for_gpu = 209,
  unsupported_ptx_version = 222,
  invalid_handle = 400,
  not_found = 500,
  illegal_address = 700,
  launch_out_of_resources = 701,
  launch_failed = 719,
};

// What runs kernels: `identify` sees the code when it is loaded and names it by a number;
// `execute` gets that number, the grid, and the parameters, whose pointers are addresses that the
// CPU can read (0 for null). Anything but 0 is a failed launch.
using Identify = int (*)(const void* code, std::size_t size);
using Execute = int (*)(int module, const char* entry, const unsigned* grid, int parameters,
                        const int* sizes, void** values);

struct LaunchAttribute {
  int id;
  char pad[4];
  unsigned value[16];
};
struct LaunchConfig {
  unsigned grid[3], block[3], shared;
  Handle stream;
  LaunchAttribute* attributes;
  unsigned attribute_count;
};

long setting(const char* name, long otherwise) {
  const char* s = std::getenv(name);
  return s ? std::atol(s) : otherwise;
}

struct Event {
  std::chrono::steady_clock::time_point at;
};

struct Device {
  std::mutex mutex;
  bool initialized = false;
  int capability = 90, version = 12040, devices = 1;
  std::size_t size = 0;
  char *visible = nullptr, *bytes = nullptr;  // addresses of the device, and where the bytes are
  std::map<std::size_t, std::size_t> blocks;  // offset: size
  std::set<Handle> streams;
  std::set<Event*> events;
  std::vector<std::unique_ptr<Image>> modules;
  Identify identify = nullptr;
  Execute execute = nullptr;
  std::chrono::milliseconds ahead{0};  // of the real clock
  std::string last_refusal;
  long launches = 0, copies_in = 0, copies_out = 0;
};
Device& device() {
  static Device& d = *new Device;
  return d;
}
thread_local bool context_is_current = false;
constexpr std::size_t gap = 256;  // beside every block, unmapped to anybody

int refuse(Result r, const std::string& why) {
  device().last_refusal = why;
  return r;
}

// Where the bytes of [a, a + n) are; null unless they lie in one block.
char* bytes_at(Address a, std::size_t n) {
  Device& d = device();
  const auto base = reinterpret_cast<Address>(d.visible);
  if (a < base || a >= base + d.size) return nullptr;
  const std::size_t offset = a - base;
  auto it = d.blocks.upper_bound(offset);
  if (it == d.blocks.begin()) return nullptr;
  --it;
  return offset + n <= it->first + it->second ? d.bytes + offset : nullptr;
}

int ready() {
  if (!device().initialized) return refuse(not_initialized, "cuInit was not called");
  if (!context_is_current) return refuse(invalid_context, "this thread has no current context");
  return success;
}
#define READY() \
  if (const int r = ready()) return r;

int shared_limit() {
  const int c = device().capability;
  return c == 80 || c == 87 ? 166912 : c == 86 || c == 89 || c >= 120 ? 101376 : 232448;
}

}  // namespace

extern "C" {

// --- for tests ---
void fake_cuda_install(Identify identify, Execute execute) {
  device().identify = identify;
  device().execute = execute;
}
const char* fake_cuda_refusal() { return device().last_refusal.c_str(); }
long fake_cuda_blocks() { return static_cast<long>(device().blocks.size()); }
// Its clock jumps: what a test wants to be slow.
void fake_cuda_pass(long milliseconds) {
  device().ahead += std::chrono::milliseconds(milliseconds);
}
long fake_cuda_events() { return static_cast<long>(device().events.size()); }
// Whether nobody wrote between the blocks.
bool fake_cuda_gaps_are_clean() {
  const Device& d = device();
  for (const auto& [offset, size] : d.blocks) {
    const std::size_t end = offset + (size + gap - 1) / gap * gap;
    for (std::size_t i = end; i < std::min(end + gap, d.size); ++i)
      if (d.bytes[i]) return false;
  }
  return true;
}
long fake_cuda_launches() { return device().launches; }

// --- the driver ---
int cuInit(unsigned flags) {
  Device& d = device();
  if (flags) return invalid_value;
  if (const long r = setting("FAKE_CUDA_INIT", 0)) return static_cast<int>(r);
  d.capability = static_cast<int>(setting("FAKE_CUDA_CAPABILITY", 90));
  d.version = static_cast<int>(setting("FAKE_CUDA_DRIVER", 12040));
  d.devices = static_cast<int>(setting("FAKE_CUDA_DEVICES", 1));
  d.size = static_cast<std::size_t>(setting("FAKE_CUDA_MEMORY", 256L << 20));
  const int anonymous = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  d.visible = static_cast<char*>(mmap(nullptr, d.size, PROT_NONE, anonymous, -1, 0));
  d.bytes = static_cast<char*>(mmap(nullptr, d.size, PROT_READ | PROT_WRITE, anonymous, -1, 0));
  d.initialized = d.visible != MAP_FAILED && d.bytes != MAP_FAILED;
  return d.initialized ? success : out_of_memory;
}

int cuDriverGetVersion(int* version) { return *version = device().version, success; }

int cuDeviceGetCount(int* count) {
  if (!device().initialized) return not_initialized;
  return *count = device().devices, success;
}

int cuDeviceGet(int* handle, int index) {
  if (index < 0 || index >= device().devices) return invalid_device;
  return *handle = index, success;
}

int cuDeviceGetName(char* name, int size, int) {
  return std::snprintf(name, static_cast<std::size_t>(size), "stand-in GPU"), success;
}

int cuDeviceGetAttribute(int* value, int attribute, int) {
  const Device& d = device();
  switch (attribute) {
    case 75: *value = d.capability / 10; return success;
    case 76: *value = d.capability % 10; return success;
    case 97: *value = shared_limit(); return success;
    default: return invalid_value;
  }
}

int cuDevicePrimaryCtxRetain(Handle* context, int) { return *context = &device(), success; }

int cuCtxSetCurrent(Handle context) {
  if (context != &device()) return invalid_context;
  context_is_current = true;
  return success;
}

int cuCtxSynchronize() { return ready(); }

int cuMemGetInfo_v2(std::size_t* left, std::size_t* total) {
  READY();
  *left = *total = device().size;
  for (const auto& [offset, size] : device().blocks) *left -= size;
  return success;
}

int cuMemAlloc_v2(Address* address, std::size_t size) {
  READY();
  if (size == 0) return refuse(invalid_value, "cuMemAlloc of 0 bytes");
  Device& d = device();
  const std::lock_guard lock(d.mutex);
  const std::size_t rounded = (size + gap - 1) / gap * gap;
  std::size_t at = 0;
  for (const auto& [offset, length] : d.blocks) {  // the first hole that is large enough
    if (at + rounded + gap <= offset) break;
    at = offset + (length + gap - 1) / gap * gap + gap;
  }
  if (at + rounded > d.size) return out_of_memory;
  d.blocks[at] = size;
  std::memset(d.bytes + at, 0xff, size);  // NaN in every floating-point type
  *address = reinterpret_cast<Address>(d.visible) + at;
  return success;
}

int cuMemFree_v2(Address address) {
  READY();
  Device& d = device();
  const std::lock_guard lock(d.mutex);
  const auto it = d.blocks.find(address - reinterpret_cast<Address>(d.visible));
  if (it == d.blocks.end()) return refuse(invalid_value, "cuMemFree of what is no block");
  std::memset(d.bytes + it->first, 0, it->second);
  d.blocks.erase(it);
  return success;
}

#define STREAM(s) \
  if (!device().streams.contains(s)) return refuse(invalid_handle, "no such stream");

int cuMemcpyHtoDAsync_v2(Address to, const void* from, std::size_t n, Handle stream) {
  READY();
  STREAM(stream);
  char* p = bytes_at(to, n);
  if (!p) return refuse(invalid_value, "a copy to memory that is not the device's");
  std::memcpy(p, from, n);
  return ++device().copies_in, success;
}

int cuMemcpyDtoHAsync_v2(void* to, Address from, std::size_t n, Handle stream) {
  READY();
  STREAM(stream);
  const char* p = bytes_at(from, n);
  if (!p) return refuse(invalid_value, "a copy from memory that is not the device's");
  std::memcpy(to, p, n);
  return ++device().copies_out, success;
}

int cuMemcpyDtoDAsync_v2(Address to, Address from, std::size_t n, Handle stream) {
  READY();
  STREAM(stream);
  char *p = bytes_at(to, n), *q = bytes_at(from, n);
  if (!p || !q) return refuse(invalid_value, "a copy outside of the device's memory");
  std::memmove(p, q, n);
  return success;
}

int cuMemsetD8Async(Address to, unsigned char value, std::size_t n, Handle stream) {
  READY();
  STREAM(stream);
  char* p = bytes_at(to, n);
  if (!p) return refuse(invalid_value, "a fill of memory that is not the device's");
  std::memset(p, value, n);
  return success;
}

int cuStreamCreate(Handle* stream, unsigned flags) {
  READY();
  if (flags > 1) return invalid_value;
  *stream = new int;
  device().streams.insert(*stream);
  return success;
}

int cuStreamSynchronize(Handle stream) {
  READY();
  STREAM(stream);
  return success;
}

int cuEventCreate(Handle* event, unsigned) {
  READY();
  auto* e = new Event;
  device().events.insert(e);
  return *event = e, success;
}

int cuEventRecord(Handle event, Handle stream) {
  READY();
  STREAM(stream);
  static_cast<Event*>(event)->at = std::chrono::steady_clock::now() + device().ahead;
  return success;
}

int cuEventSynchronize(Handle) { return ready(); }

int cuEventElapsedTime(float* ms, Handle from, Handle to) {
  READY();
  const auto time = static_cast<Event*>(to)->at - static_cast<Event*>(from)->at;
  return *ms = std::chrono::duration<float, std::milli>(time).count(), success;
}

int cuEventDestroy_v2(Handle event) {
  auto* e = static_cast<Event*>(event);
  if (!device().events.erase(e)) return refuse(invalid_handle, "no such event");
  delete e;
  return success;
}

int cuModuleLoadDataEx(Handle* module, const void* code, unsigned, int*, void**) {
  READY();
  Device& d = device();
  auto image = std::make_unique<Image>();
  if (!read_image(code, *image)) return refuse(invalid_image, "neither a cubin nor PTX");
  const int c = d.capability;
  const bool exact = image->only_that_arch;
  if (image->is_ptx) {
    const int newest =
        d.version / 1000 >= 13 ? 90 + d.version % 1000 / 10 : 80 + d.version % 1000 / 10;
    if (image->ptx_version > newest)
      return refuse(unsupported_ptx_version, "PTX that is newer than the driver");
    if (exact ? c != image->arch : c < image->arch)
      return refuse(no_binary_for_gpu, "PTX for another device");
  } else {
    if (image->elf_abi >= 8 && d.version < 13000)
      return refuse(no_binary_for_gpu, "a cubin of CUDA 13 in a driver of CUDA 12");
    if (exact ? c != image->arch : c / 10 != image->arch / 10 || c < image->arch)
      return refuse(no_binary_for_gpu, "a cubin for another device");
  }
  const int id = d.identify ? d.identify(code, image->size) : -1;
  for (auto& [name, function] : image->functions) function.module = id;
  *module = image.get();
  d.modules.push_back(std::move(image));
  return success;
}

int cuModuleGetFunction(Handle* function, Handle module, const char* name) {
  READY();
  auto& functions = static_cast<Image*>(module)->functions;
  const auto it = functions.find(name);
  if (it == functions.end()) return refuse(not_found, std::string("no function ") + name);
  return *function = &it->second, success;
}

int cuFuncSetAttribute(Handle function, int attribute, int value) {
  READY();
  if (attribute != 8) return invalid_value;
  if (value > shared_limit()) return refuse(invalid_value, "more shared memory than there is");
  static_cast<Function*>(function)->max_shared = value;
  return success;
}

int cuLaunchKernelEx(const LaunchConfig* config, Handle handle, void** values, void** extra) {
  READY();
  STREAM(config->stream);
  Device& d = device();
  const Function& f = *static_cast<Function*>(handle);
  const unsigned *grid = config->grid, *block = config->block;
  if (extra) return invalid_value;
  if (!grid[0] || !grid[1] || !grid[2] || grid[0] > INT32_MAX || grid[1] > 65535 || grid[2] > 65535)
    return refuse(invalid_value, "a grid that no device has");
  if (block[1] != 1 || block[2] != 1 || block[0] == 0 || block[0] > 1024)
    return refuse(invalid_value, "a block that no kernel of Triton's has");
  if (f.threads && static_cast<int>(block[0]) != f.threads)
    return refuse(invalid_value, "the kernel wants " + std::to_string(f.threads) + " threads");
  if (static_cast<int>(config->shared) > f.max_shared)
    return refuse(launch_out_of_resources, "more shared memory than was asked for");
  for (unsigned i = 0; i < config->attribute_count; ++i) {
    const LaunchAttribute& a = config->attributes[i];
    if (a.id != 4 || grid[0] % a.value[0] != 0) return refuse(invalid_value, "a wrong cluster");
  }
  // Addresses: of eight bytes, and in a block of the device. What else is of eight bytes is a
  // number, which the executor knows from the kernel's signature.
  std::vector<std::uint64_t> copies(f.parameter_sizes.size());
  std::vector<void*> pointers(copies.size());
  for (std::size_t i = 0; i < copies.size(); ++i) {
    if (!values[i]) return refuse(invalid_value, "too few parameters");
    std::memcpy(&copies[i], values[i], static_cast<std::size_t>(f.parameter_sizes[i]));
    pointers[i] = &copies[i];
  }
  ++d.launches;
  if (!d.execute) return success;
  const int r = d.execute(f.module, f.name.c_str(), grid, static_cast<int>(copies.size()),
                          f.parameter_sizes.data(), pointers.data());
  return r ? refuse(static_cast<Result>(r), "the kernel failed: " + f.name) : success;
}

// Where the bytes of a device's address are, for the executor: null where it is none.
void* fake_cuda_bytes(Address a) { return bytes_at(a, 1); }

int cuGetErrorName(int result, const char** name) {
  switch (result) {
    case success: *name = "CUDA_SUCCESS"; break;
    case invalid_value: *name = "CUDA_ERROR_INVALID_VALUE"; break;
    case out_of_memory: *name = "CUDA_ERROR_OUT_OF_MEMORY"; break;
    case no_device: *name = "CUDA_ERROR_NO_DEVICE"; break;
    case invalid_image: *name = "CUDA_ERROR_INVALID_IMAGE"; break;
    case no_binary_for_gpu: *name = "CUDA_ERROR_NO_BINARY_FOR_GPU"; break;
    case illegal_address: *name = "CUDA_ERROR_ILLEGAL_ADDRESS"; break;
    case launch_failed: *name = "CUDA_ERROR_LAUNCH_FAILED"; break;
    default: *name = "CUDA_ERROR_UNKNOWN"; break;
  }
  return success;
}

int cuGetErrorString(int, const char** text) {
  return *text = device().last_refusal.empty() ? "a stand-in's error" : fake_cuda_refusal(),
         success;
}

}  // extern "C"
