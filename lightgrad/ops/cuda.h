// cuda.h: tensors on NVIDIA devices: moving them there and back, and the device itself. A machine
// without one loses nothing: only these functions, and tensors that were asked to lie there, know
// of it. What a program may do with such a tensor is what the blocks' `forward_cuda` say.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "lightgrad/ops/op.h"
#include "lightgrad/tensor/tensor.h"

namespace lg {

// "cpu", "cuda" (the first one) or "cuda:1"; ValueError for anything else.
Device parse_device(std::string_view name);
// x on that device: x itself when it lies there, else a copy, which is part of the graph.
Tensor to_device(const Tensor& x, Device device);

namespace ops {
// No row of the table: its argument is no number, and Python says x.to("cuda").
struct ToDevice : Heavy<1> {
  Device target, source;
  static constexpr OpInfo info{.name = "to_device", .math = "x copied to another device"};
  static constexpr bool any_device = true;
  Tensor forward(const Tensor& x) const;
  template <class T> T vjp(T g, T, T) const { return to_device(g, source); }
};
}  // namespace ops
inline Probe to_device(Probe x, Device) { return x; }

namespace cuda {

bool is_available();  // a driver, and a device; never throws
// Why it is not, or "".
const std::string& why_not_available();
int device_count();
std::string device_name(int index = 0);
int device_capability(int index = 0);  // 90: 9.0
void synchronize(int index = 0);

struct MemoryStats {  // in bytes, as lg::MemoryStats
  std::int64_t current = 0, peak = 0, cached = 0, allocations = 0, system_allocations = 0;
};
MemoryStats memory_stats(int index = 0);
void reset_peak_memory(int index = 0);
void trim_memory(int index = 0);

// The folder with the compiled kernels; otherwise what LIGHTGRAD_KERNELS names, and otherwise the
// installation's own, if it has one.
void load_kernels(const std::string& folder);
void set_own_kernels(const std::string& folder);
std::string kernels_folder();
// Whether products of float32 may round their factors to TF32, ten bits: by default not.
void allow_tf32(bool on);
bool tf32_allowed();

// Measuring which variant of a kernel is the fastest, as Gpu::start_tuning says;
// `lightgrad.cuda.tune` writes what was found into the bundle's manifest.
struct Tuned {
  std::string kernel, instead_of, take;  // the last two by the SHA-256 of their code
  std::vector<std::int64_t> sizes;
  double before = 0, after = 0;  // milliseconds
};
void start_tuning(int index = 0);
std::vector<Tuned> stop_tuning(int index = 0);

// A moment in a device's queue.
class Event {
 public:
  explicit Event(int index = 0);
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  // Milliseconds from here to `later`; waits for that.
  double milliseconds_to(const Event& later) const;

 private:
  int index_;
  void* mark_;
};

}  // namespace cuda
}  // namespace lg
