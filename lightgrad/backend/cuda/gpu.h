// gpu.h: one CUDA device: its memory, its one stream, its kernels. Everything is queued on that
// stream, in order, so a freed block may be handed out again at once: whoever gets it comes later
// in the queue. Safe from any thread. Raw addresses only; never sees a Tensor.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "lightgrad/backend/cuda/bundle.h"
#include "lightgrad/backend/cuda/driver.h"

namespace lg::cuda {

struct GpuMemory {
  std::int64_t current = 0;             // bytes handed out
  std::int64_t peak = 0;                // the most since start or reset_peak
  std::int64_t cached = 0;              // bytes kept for reuse
  std::int64_t allocations = 0;         // blocks handed out so far
  std::int64_t system_allocations = 0;  // those that asked the driver
};

// What tuning found for a launch: of the variants that fit, the first by order, and the fastest; by
// the hashes of their code, with milliseconds of each.
struct Winner {
  std::string kernel, instead_of, take;
  std::vector<std::int64_t> sizes;
  double before = 0, after = 0;
};

// Where kernels come from, for all devices: the folder of a bundle. By default that of the
// environment's LIGHTGRAD_KERNELS.
void set_bundle(const std::string& folder);
// Where it is looked for when neither that nor the environment says so.
void set_default_bundle(const std::string& folder);
std::string bundle_folder();

class Gpu {
 public:
  // The device of that number; fails where there is none.
  static Gpu& at(int index);

  const std::string& name() const { return name_; }
  int capability() const { return capability_; }  // 90: 9.0

  void* allocate(std::size_t bytes);
  void deallocate(void* block, std::size_t bytes) noexcept;
  GpuMemory memory() const;
  void reset_peak();
  // Gives the kept blocks back to the driver.
  void trim();

  // copy_in and copy_out return when the bytes are there; the rest is only queued.
  void copy_in(void* to, const void* from, std::size_t bytes);
  void copy_out(void* to, const void* from, std::size_t bytes);
  void copy_within(void* to, const void* from, std::size_t bytes);
  void zero(void* to, std::size_t bytes);
  void synchronize();  // with everybody's work on the device, not only ours

  // Queues the variant of the kernel that is for this device and fits: the first, or where the
  // manifest knows a faster one that.
  void launch(std::string_view kernel, std::span<const Argument> arguments);
  // Whether there is one.
  bool has(std::string_view kernel, std::span<const Argument> arguments);

  // From here on, the first launch of a kernel that can be tuned, at each of its sizes, runs every
  // variant that fits many times, and later ones take the fastest. Until stop_tuning, which says
  // what was found and forgets it: only what stands in the manifest decides what is launched, so
  // that the same bundle gives the same bits.
  void start_tuning();
  std::vector<Winner> stop_tuning();

  // Milliseconds between two marks in the queue; for measurements.
  Handle mark();
  double milliseconds(Handle from, Handle to);
  void forget(Handle mark) noexcept;

 private:
  explicit Gpu(int index);
  void use() const;  // makes the device's context this thread's
  const Variant* choose(const Bundle& b, std::string_view kernel,
                        std::span<const Argument> a) const;
  const Variant* first_fit(std::span<const Variant> variants, std::span<const Argument> a) const;
  const Variant* fastest(const Bundle& b, const Variant& first, std::span<const Argument> a);
  void queue(const Bundle& b, const Variant& v, std::span<const Argument> arguments);
  Handle function_of(const Bundle& b, const Variant& v);
  void free_cached();  // under the memory's mutex
  bool runs_cubin(const Variant& v) const;
  bool runs_ptx(const Variant& v) const;

  int index_, device_ = 0, capability_ = 0, shared_ = 0;
  std::string name_;
  Handle context_ = nullptr, stream_ = nullptr;
  mutable std::mutex memory_mutex_, kernel_mutex_;
  std::map<std::size_t, std::vector<void*>> free_;
  GpuMemory stats_;
  std::unordered_map<std::string, Handle> functions_;  // by hash and entry
  std::atomic<bool> tuning_ = false;
  std::vector<Winner> winners_;  // under the kernels' mutex
};

}  // namespace lg::cuda
