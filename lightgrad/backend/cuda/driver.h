// driver.h: NVIDIA's driver, found at run time by its name, libcuda.so.1. No header and no library
// of CUDA's is needed to build or to run; a machine without the driver only learns that there is
// none. The declarations are the driver's stable binary interface.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace lg::cuda {

using Address = std::uint64_t;  // of memory on the device
using Handle = void*;           // of a context, stream, event, module or function

struct alignas(8) LaunchAttribute {
  int id;
  char pad[4];
  union {
    unsigned char all[64];
    struct {
      unsigned x, y, z;
    } cluster;
  };
};
struct LaunchConfig {
  unsigned grid[3], block[3], shared;
  Handle stream;
  LaunchAttribute* attributes;
  unsigned attribute_count;
};
static_assert(sizeof(LaunchAttribute) == 72 && sizeof(LaunchConfig) == 56);

// clang-format off
#define LG_CUDA_FUNCTIONS(F) \
  F(cuInit, (unsigned)) \
  F(cuDriverGetVersion, (int*)) \
  F(cuDeviceGetCount, (int*)) \
  F(cuDeviceGet, (int*, int)) \
  F(cuDeviceGetName, (char*, int, int)) \
  F(cuDeviceGetAttribute, (int*, int, int)) \
  F(cuDevicePrimaryCtxRetain, (Handle*, int)) \
  F(cuCtxSetCurrent, (Handle)) \
  F(cuCtxSynchronize, ()) \
  F(cuMemGetInfo_v2, (std::size_t*, std::size_t*)) \
  F(cuMemAlloc_v2, (Address*, std::size_t)) \
  F(cuMemFree_v2, (Address)) \
  F(cuMemcpyHtoDAsync_v2, (Address, const void*, std::size_t, Handle)) \
  F(cuMemcpyDtoHAsync_v2, (void*, Address, std::size_t, Handle)) \
  F(cuMemcpyDtoDAsync_v2, (Address, Address, std::size_t, Handle)) \
  F(cuMemsetD8Async, (Address, unsigned char, std::size_t, Handle)) \
  F(cuStreamCreate, (Handle*, unsigned)) \
  F(cuStreamSynchronize, (Handle)) \
  F(cuEventCreate, (Handle*, unsigned)) \
  F(cuEventRecord, (Handle, Handle)) \
  F(cuEventSynchronize, (Handle)) \
  F(cuEventElapsedTime, (float*, Handle, Handle)) \
  F(cuEventDestroy_v2, (Handle)) \
  F(cuModuleLoadDataEx, (Handle*, const void*, unsigned, int*, void**)) \
  F(cuModuleGetFunction, (Handle*, Handle, const char*)) \
  F(cuFuncSetAttribute, (Handle, int, int)) \
  F(cuLaunchKernelEx, (const LaunchConfig*, Handle, void**, void**)) \
  F(cuGetErrorName, (int, const char**)) \
  F(cuGetErrorString, (int, const char**))
// clang-format on

struct Driver {
#define F(name, parameters) int(*name) parameters = nullptr;
  LG_CUDA_FUNCTIONS(F)
#undef F
  int version = 0;  // 12040: CUDA 12.4
  int devices = 0;
};

// The driver, initialised once. Without one, or with one that is too old, RuntimeError says why.
const Driver& driver();
// Why there is none; empty: there is one. Never throws.
const std::string& why_no_driver();

// Fails with the driver's own name for `result`, the call that gave it, and what it was for.
void check(int result, const char* call, const std::string& about = {});
#define LG_CUDA(call, ...) ::lg::cuda::check(::lg::cuda::driver().call(__VA_ARGS__), #call)

}  // namespace lg::cuda
