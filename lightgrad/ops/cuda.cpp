#include "lightgrad/ops/cuda.h"

#include <atomic>
#include <charconv>

#include "lightgrad/ops/creation.h"
#include "lightgrad/ops/cuda_kernels.h"
#include "lightgrad/ops/run.h"

namespace lg {

Device parse_device(std::string_view name) {
  if (name == "cpu") return {};
  if (name == "cuda") return {DeviceType::cuda, 0};
  if (name.starts_with("cuda:")) {
    int index = -1;
    const char* end = name.data() + name.size();
    const auto [stop, error] = std::from_chars(name.data() + 5, end, index);
    if (error == std::errc() && stop == end && index >= 0 && index < 128)
      return {DeviceType::cuda, static_cast<std::int8_t>(index)};
  }
  fail(ErrorKind::value, "device", "'", name, "' is none; there are 'cpu', 'cuda' and 'cuda:0', ",
       "'cuda:1', ...");
}

Tensor to_device(const Tensor& x, Device device) {
  if (x.device() == device) return x;
  return run(ops::ToDevice{{}, device, x.device()}, x);
}

namespace ops {

Tensor ToDevice::forward(const Tensor& x) const {
  if (target.type == DeviceType::cpu) return x.to_cpu();
  const Tensor here = x.device().type == DeviceType::cpu ? x.contiguous_data() : x.to_cpu();
  Tensor y = cuda::empty(x.shape(), x.dtype(), target);
  cuda::gpu(y).copy_in(y.raw_data(), here.raw_data(),
                       static_cast<std::size_t>(x.numel()) * size_of(x.dtype()));
  return y;
}

}  // namespace ops

// --- the parts of Tensor that move memory between devices ---

Tensor Tensor::to_cpu() const {
  if (device().type == DeviceType::cpu) return *this;
  const Tensor from = contiguous_data();
  Tensor y = empty(shape(), dtype());
  cuda::gpu(from).copy_out(y.raw_data(), from.raw_data(),
                           static_cast<std::size_t>(numel()) * size_of(dtype()));
  return y;
}

namespace detail {

Tensor copy_elsewhere(const Tensor& x) {
  Tensor y = cuda::empty(x.shape(), x.dtype(), x.device());
  if (x.numel() == 0) return y;
  if (x.is_contiguous()) {
    cuda::gpu(x).copy_within(y.raw_data(), x.raw_data(),
                             static_cast<std::size_t>(x.numel()) * size_of(x.dtype()));
  } else {
    const cuda::Operand in{"x", x};
    cuda::pointwise("copy", {&in, 1}, {}, y, "copy");
  }
  return y;
}

void assign_elsewhere(const Tensor& to, const Tensor& source) {
  if (to.numel() == 0) return;
  Tensor from = source.shape() == to.shape() ? source : expand(source.detach(), to.shape());
  if (to.device().type == DeviceType::cpu) return to.assign(from.to_cpu());
  if (!to.is_contiguous()) {
    fail(ErrorKind::runtime, "assign", "on ", to.device(),
         " only a contiguous tensor can be overwritten, got ", to.describe(), " with strides ",
         to.strides());
  }
  // Converted where it lies: the CPU knows all dtypes.
  if (from.device().type == DeviceType::cpu) from = lg::to(from, to.dtype());
  from = to_device(from.detach(), to.device());
  from = cuda::contiguous(from, to.dtype(), "assign");
  cuda::gpu(to).copy_within(to.raw_data(), from.raw_data(),
                            static_cast<std::size_t>(to.numel()) * size_of(to.dtype()));
}

}  // namespace detail

// --- the device ---

namespace cuda {
namespace {
std::atomic<bool> tf32{false};
}

bool is_available() { return why_no_driver().empty(); }
const std::string& why_not_available() { return why_no_driver(); }
int device_count() { return is_available() ? driver().devices : 0; }
std::string device_name(int index) { return Gpu::at(index).name(); }
int device_capability(int index) { return Gpu::at(index).capability(); }
void synchronize(int index) { Gpu::at(index).synchronize(); }

MemoryStats memory_stats(int index) {
  const GpuMemory m = Gpu::at(index).memory();
  return {m.current, m.peak, m.cached, m.allocations, m.system_allocations};
}
void reset_peak_memory(int index) { Gpu::at(index).reset_peak(); }
void trim_memory(int index) { Gpu::at(index).trim(); }

void load_kernels(const std::string& folder) { set_bundle(folder); }
void set_own_kernels(const std::string& folder) { set_default_bundle(folder); }
std::string kernels_folder() { return bundle_folder(); }
void allow_tf32(bool on) { tf32 = on; }
bool tf32_allowed() { return tf32; }

void start_tuning(int index) { Gpu::at(index).start_tuning(); }
std::vector<Tuned> stop_tuning(int index) {
  std::vector<Tuned> out;
  for (Winner& w : Gpu::at(index).stop_tuning()) {
    out.push_back({std::move(w.kernel), std::move(w.instead_of), std::move(w.take),
                   std::move(w.sizes), w.before, w.after});
  }
  return out;
}

Event::Event(int index) : index_(index), mark_(Gpu::at(index).mark()) {}
Event::~Event() { Gpu::at(index_).forget(mark_); }
double Event::milliseconds_to(const Event& later) const {
  return Gpu::at(index_).milliseconds(mark_, later.mark_);
}

}  // namespace cuda
}  // namespace lg
