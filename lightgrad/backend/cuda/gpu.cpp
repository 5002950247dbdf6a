#include "lightgrad/backend/cuda/gpu.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "lightgrad/base/error.h"

namespace lg::cuda {
namespace {

// From the driver's interface: CUdevice_attribute, CUfunction_attribute, CUlaunchAttributeID.
constexpr int capability_major = 75, capability_minor = 76, shared_optin = 97;
constexpr int max_dynamic_shared = 8, free_shared = 48 * 1024;
constexpr int cluster_dimension = 4;
constexpr unsigned stream_non_blocking = 1;
constexpr int out_of_memory = 2;
constexpr std::int64_t max_axis[3] = {INT32_MAX, 65535, 65535};

std::mutex bundle_mutex;
std::shared_ptr<const Bundle> current_bundle;
std::string wanted_folder, default_folder;
bool folder_was_set = false;

std::string folder_to_use() {  // under the mutex
  if (folder_was_set) return wanted_folder;
  const char* folder = std::getenv("LIGHTGRAD_KERNELS");
  if (folder) return folder;
  std::error_code error;
  return std::filesystem::exists(default_folder + "/manifest.json", error) ? default_folder : "";
}

std::shared_ptr<const Bundle> bundle() {
  const std::lock_guard lock(bundle_mutex);
  if (!current_bundle) {
    const std::string folder = folder_to_use();
    if (folder.empty()) {
      fail(ErrorKind::runtime, "cuda",
           "no kernels: this installation has no bundle of compiled kernels; make one with "
           "tools/build_kernels.py and name its folder in LIGHTGRAD_KERNELS");
    }
    current_bundle = std::make_shared<const Bundle>(folder);
  }
  return current_bundle;
}

// Small sizes by 512 bytes, large ones by 2 MiB, as the driver's pages are.
std::size_t block_size(std::size_t bytes) {
  constexpr std::size_t small = 512, large = std::size_t{2} << 20, limit = std::size_t{1} << 20;
  const std::size_t step = bytes <= limit ? small : large;
  return std::max(bytes + step - 1, step) / step * step;
}

std::string describe(std::span<const Argument> arguments) {
  std::string s;
  for (const Argument& a : arguments) {
    if (!s.empty()) s += ", ";
    s += text(a.name, "=");
    switch (a.kind) {
      case Argument::Kind::pointer: {
        char digits[32];
        std::snprintf(digits, sizeof digits, "0x%llx", static_cast<unsigned long long>(a.bits));
        s += text(a.type, "* ", digits);
        break;
      }
      case Argument::Kind::number:
        s += text(std::bit_cast<float>(static_cast<std::uint32_t>(a.bits)));
        break;
      default: s += a.text.empty() ? std::to_string(a.value()) : std::string(a.text);
    }
  }
  return s;
}

}  // namespace

void set_bundle(const std::string& folder) {
  const std::lock_guard lock(bundle_mutex);
  current_bundle = folder.empty() ? nullptr : std::make_shared<const Bundle>(folder);
  wanted_folder = folder;
  folder_was_set = true;
}

void set_default_bundle(const std::string& folder) {
  const std::lock_guard lock(bundle_mutex);
  default_folder = folder;
}

std::string bundle_folder() {
  const std::lock_guard lock(bundle_mutex);
  return folder_to_use();
}

Gpu& Gpu::at(int index) {
  const Driver& d = driver();
  if (index < 0 || index >= d.devices) {
    fail(ErrorKind::value, "cuda", "there is no device cuda:", index, ", only ", d.devices,
         d.devices == 1 ? " device" : " devices");
  }
  // Never destroyed: tensors with static lifetime give their memory back after everything else.
  static std::mutex mutex;
  static auto& all = *new std::map<int, Gpu*>;
  const std::lock_guard lock(mutex);
  Gpu*& gpu = all[index];
  if (!gpu) gpu = new Gpu(index);
  return *gpu;
}

Gpu::Gpu(int index) : index_(index) {
  LG_CUDA(cuDeviceGet, &device_, index);
  char name[256] = "";
  LG_CUDA(cuDeviceGetName, name, sizeof name - 1, device_);
  name_ = name;
  int major = 0, minor = 0;
  LG_CUDA(cuDeviceGetAttribute, &major, capability_major, device_);
  LG_CUDA(cuDeviceGetAttribute, &minor, capability_minor, device_);
  capability_ = 10 * major + minor;
  LG_CUDA(cuDeviceGetAttribute, &shared_, shared_optin, device_);
  if (capability_ < 80) {
    fail(ErrorKind::runtime, "cuda", "device ", index, " (", name_, ") has compute capability ",
         major, ".", minor, ", 8.0 or newer is needed");
  }
  LG_CUDA(cuDevicePrimaryCtxRetain, &context_, device_);
  use();
  LG_CUDA(cuStreamCreate, &stream_, stream_non_blocking);
}

void Gpu::use() const {
  static thread_local const Gpu* current = nullptr;
  if (current == this) return;
  LG_CUDA(cuCtxSetCurrent, context_);
  current = this;
}

// --- memory ---

void* Gpu::allocate(std::size_t bytes) {
  const std::size_t block = block_size(bytes);
  const std::lock_guard lock(memory_mutex_);
  void* p = nullptr;
  if (auto it = free_.find(block); it != free_.end() && !it->second.empty()) {
    p = it->second.back();
    it->second.pop_back();
    stats_.cached -= static_cast<std::int64_t>(block);
  } else {
    use();
    Address a = 0;
    int r = driver().cuMemAlloc_v2(&a, block);
    if (r == out_of_memory && stats_.cached > 0) {
      free_cached();
      r = driver().cuMemAlloc_v2(&a, block);
    }
    if (r == out_of_memory) {
      std::size_t left = 0, total = 0;
      driver().cuMemGetInfo_v2(&left, &total);
      fail(ErrorKind::memory, "cuda", "out of memory on cuda:", index_, " (", name_, "): ", bytes,
           " bytes were asked for, ", stats_.current, " are in use by tensors, ", left, " of ",
           total, " are free");
    }
    check(r, "cuMemAlloc_v2", text(bytes, " bytes"));
    p = reinterpret_cast<void*>(a);
    ++stats_.system_allocations;
  }
  ++stats_.allocations;
  stats_.current += static_cast<std::int64_t>(block);
  stats_.peak = std::max(stats_.peak, stats_.current);
  return p;
}

void Gpu::deallocate(void* p, std::size_t bytes) noexcept {
  const std::size_t block = block_size(bytes);
  const std::lock_guard lock(memory_mutex_);
  free_[block].push_back(p);
  stats_.current -= static_cast<std::int64_t>(block);
  stats_.cached += static_cast<std::int64_t>(block);
}

void Gpu::free_cached() {
  // What is queued may still read or write them.
  driver().cuStreamSynchronize(stream_);
  for (auto& [size, blocks] : free_)
    for (void* p : blocks) driver().cuMemFree_v2(reinterpret_cast<Address>(p));
  free_.clear();
  stats_.cached = 0;
}

void Gpu::trim() {
  const std::lock_guard lock(memory_mutex_);
  use();
  free_cached();
}

GpuMemory Gpu::memory() const {
  const std::lock_guard lock(memory_mutex_);
  return stats_;
}

void Gpu::reset_peak() {
  const std::lock_guard lock(memory_mutex_);
  stats_.peak = stats_.current;
}

// --- copies ---

void Gpu::copy_in(void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return;
  use();
  LG_CUDA(cuMemcpyHtoDAsync_v2, reinterpret_cast<Address>(to), from, bytes, stream_);
  LG_CUDA(cuStreamSynchronize, stream_);
}

void Gpu::copy_out(void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return;
  use();
  LG_CUDA(cuMemcpyDtoHAsync_v2, to, reinterpret_cast<Address>(from), bytes, stream_);
  LG_CUDA(cuStreamSynchronize, stream_);
}

void Gpu::copy_within(void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return;
  use();
  LG_CUDA(cuMemcpyDtoDAsync_v2, reinterpret_cast<Address>(to), reinterpret_cast<Address>(from),
          bytes, stream_);
}

void Gpu::zero(void* to, std::size_t bytes) {
  if (bytes == 0) return;
  use();
  LG_CUDA(cuMemsetD8Async, reinterpret_cast<Address>(to), 0, bytes, stream_);
}

void Gpu::synchronize() {
  use();
  LG_CUDA(cuCtxSynchronize);
}

// --- kernels ---

// A cubin of compute capability 8.x runs on every later 8.y; from 9.0 on (sm_90a, ...) only on its
// own. PTX runs on whatever comes after it.
bool Gpu::runs_cubin(const Variant& v) const {
  const bool fits = v.arch >= 90 ? v.arch == capability_
                                 : v.arch / 10 == capability_ / 10 && v.arch <= capability_;
  return fits && v.driver <= driver().version && v.shared <= shared_;
}
bool Gpu::runs_ptx(const Variant& v) const {
  return !v.ptx.empty() && v.arch <= capability_ && v.shared <= shared_ && v.ctas == 1;
}

const Variant* Gpu::first_fit(std::span<const Variant> variants,
                              std::span<const Argument> arguments) const {
  const Variant* by_ptx = nullptr;  // compiled by the driver, so only where nothing else is
  for (const Variant& v : variants) {
    const bool cubin = runs_cubin(v);
    if (!cubin && (by_ptx || !runs_ptx(v))) continue;
    if (!v.fits(arguments)) continue;
    if (cubin) return &v;
    by_ptx = &v;
  }
  return by_ptx;
}

const Variant* Gpu::choose(const Bundle& b, std::string_view kernel,
                           std::span<const Argument> arguments) const {
  const std::span<const Variant> all = b.variants(kernel);
  const Variant* v = first_fit(all, arguments);
  if (!v || v->faster.empty() || tuning_) return v;
  const std::vector<std::int64_t> sizes = v->sizes(arguments);
  for (const Variant::Faster& f : v->faster) {
    const Variant& other = all[f.variant];
    if (f.device == name_ && f.sizes == sizes && runs_cubin(other) && other.fits(arguments))
      return &other;
  }
  return v;
}

bool Gpu::has(std::string_view kernel, std::span<const Argument> arguments) {
  return choose(*bundle(), kernel, arguments) != nullptr;
}

Handle Gpu::function_of(const Bundle& b, const Variant& v) {
  const bool cubin = runs_cubin(v);
  const std::string& hash = cubin ? v.cubin : v.ptx;
  const std::lock_guard lock(kernel_mutex_);
  Handle& function = functions_[hash + v.entry];
  if (function) return function;
  const std::string code = b.code(hash, cubin ? "cubin" : "ptx");
  const std::string about = text("loading ", v.kernel, " for sm_", v.arch);
  Handle module = nullptr, found = nullptr;
  check(driver().cuModuleLoadDataEx(&module, code.c_str(), 0, nullptr, nullptr),
        "cuModuleLoadDataEx", about);
  check(driver().cuModuleGetFunction(&found, module, v.entry.c_str()), "cuModuleGetFunction",
        about);
  if (v.shared > free_shared) {
    check(driver().cuFuncSetAttribute(found, max_dynamic_shared, v.shared), "cuFuncSetAttribute",
          text(about, " with ", v.shared, " bytes of shared memory"));
  }
  return function = found;
}

void Gpu::launch(std::string_view kernel, std::span<const Argument> arguments) {
  const auto b = bundle();
  const Variant* v = choose(*b, kernel, arguments);
  if (v && tuning_ && !v->tune.empty()) v = fastest(*b, *v, arguments);
  if (!v) {
    fail(ErrorKind::runtime, "cuda", "no compiled ", kernel, " for ", name_, " (sm_", capability_,
         ") takes these arguments: ", describe(arguments), "; ", b->variants(kernel).size(),
         " variants in ", b->folder());
  }
  queue(*b, *v, arguments);
}

void Gpu::queue(const Bundle& b, const Variant& v, std::span<const Argument> arguments) {
  use();
  const std::string& kernel = v.kernel;
  const Handle function = function_of(b, v);
  const std::vector<std::int64_t> programs = v.programs(arguments);
  LaunchConfig config{};
  for (std::size_t i = 0; i < 3; ++i) {
    std::int64_t n = i < programs.size() ? programs[i] : 1;
    if (i == 0) n *= v.ctas;
    if (n > max_axis[i]) {
      fail(ErrorKind::value, "cuda", kernel, " would need ", n, " programs along axis ", i,
           ", at most ", max_axis[i], " are possible: ", describe(arguments));
    }
    config.grid[i] = static_cast<unsigned>(n);
  }
  config.block[0] = static_cast<unsigned>(32 * v.warps);
  config.block[1] = config.block[2] = 1;
  config.shared = static_cast<unsigned>(v.shared);
  config.stream = stream_;
  LaunchAttribute cluster{};
  if (v.ctas > 1) {
    cluster.id = cluster_dimension;
    cluster.cluster = {static_cast<unsigned>(v.ctas), 1, 1};
    config.attributes = &cluster;
    config.attribute_count = 1;
  }
  // The arguments by address, little-endian: the low bytes of each are its value. Behind them come
  // two addresses of scratch memory, which no kernel here asks for.
  constexpr std::size_t most = 32;
  std::uint64_t none = 0;
  std::array<std::uint64_t, most> values;
  std::array<void*, most + 2> pointers;
  const std::size_t n = v.parameters.size();
  if (n > most) fail(ErrorKind::value, "cuda", kernel, " has ", n, " arguments, at most ", most);
  for (std::size_t i = 0; i < n; ++i) {
    values[i] = find(arguments, v.parameters[i].name)->bits;
    pointers[i] = &values[i];
  }
  pointers[n] = pointers[n + 1] = &none;
  const int r = driver().cuLaunchKernelEx(&config, function, pointers.data(), nullptr);
  if (r) [[unlikely]] {
    check(r, "cuLaunchKernelEx",
          text("launching ", kernel, " with grid ", config.grid[0], " x ", config.grid[1], ", ",
               config.block[0], " threads, ", v.shared, " bytes of shared memory, ",
               describe(arguments)));
  }
}

}  // namespace lg::cuda
