// row_chunks.h: how row kernels cut their work: by shape alone, so that results do not depend on
// the threads.
#pragma once

#include <algorithm>
#include <cstdint>

#include "lightgrad/base/memory.h"

namespace lg::kernels {

// Rows for one chunk: about 16 Ki elements, some microseconds of work and half of an L1 cache.
inline std::int64_t row_grain(std::int64_t n) {
  return std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(1, n));
}

// Uninitialised scratch from the caching allocator.
template <class T> class Scratch {
 public:
  explicit Scratch(std::int64_t count)
      : bytes_(static_cast<std::size_t>(count) * sizeof(T)),
        data_(static_cast<T*>(allocate(bytes_))) {}
  ~Scratch() { deallocate(data_, bytes_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* get() const { return data_; }
  T& operator[](std::int64_t i) const { return data_[i]; }

 private:
  std::size_t bytes_;
  T* data_;
};

}  // namespace lg::kernels
