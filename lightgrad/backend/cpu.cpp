// cpu.cpp: the CPU's table. Each kernel chooses its instruction set itself, at run time.
#include "lightgrad/backend/backend.h"
#include "lightgrad/base/error.h"

namespace lg {

#define ENTRY(kernel) table.kernel = &kernels::kernel<T>;
template <class T> constexpr NumberKernels<T> number_kernels() {
  NumberKernels<T> table{};
  LG_NUMBER_KERNELS(ENTRY)
  return table;
}
template <class T> constexpr FloatKernels<T> float_kernels() {
  FloatKernels<T> table{};
  static_cast<NumberKernels<T>&>(table) = number_kernels<T>();
  LG_FLOAT_KERNELS(ENTRY)
  return table;
}
template <class T> constexpr Bfloat16Kernels<T> bfloat16_kernels() {
  Bfloat16Kernels<T> table{};
  LG_BFLOAT16_KERNELS(ENTRY)
  return table;
}
#undef ENTRY

#define ENTRY(kernel) .kernel = &kernels::kernel,
constinit const Backend cpu_backend{
    LG_PLAIN_KERNELS(ENTRY).float32 = float_kernels<float>(), .float64 = float_kernels<double>(),
    .int64 = number_kernels<std::int64_t>(), .bfloat16 = bfloat16_kernels<bfloat16>()};
#undef ENTRY

void fail_no_backend(Device device) {
  fail(ErrorKind::runtime, "device", "this build has no kernels for ", device);
}

}  // namespace lg
