// per_target.h: a family of kernels as one table per SIMD target and number type, of which the one
// for this machine is chosen when it is asked for. Highway, which these macros speak of, has to be
// included by foreach_target.h first, not from here.
#pragma once

// In the target's namespace, outside its unnamed one: `value<T>` is the Table<T>.
#define LIGHTGRAD_EXPORT_TABLE(Name, Table, value)            \
  const Table<float>* Name##Float() { return &value<float>; } \
  const Table<double>* Name##Double() { return &value<double>; }

// Under HWY_ONCE: chosen<T>() is this machine's Table<T>.
#define LIGHTGRAD_CHOOSE_TABLE(Name, Table, chosen) \
  HWY_EXPORT(Name##Float);                          \
  HWY_EXPORT(Name##Double);                         \
  namespace {                                       \
  template <class T> const Table<T>& chosen() {     \
    if constexpr (sizeof(T) == sizeof(float)) {     \
      return *HWY_DYNAMIC_DISPATCH(Name##Float)();  \
    } else {                                        \
      return *HWY_DYNAMIC_DISPATCH(Name##Double)(); \
    }                                               \
  }                                                 \
  }
