#include "lightgrad/kernels/copy.h"

#include <cstring>

#include "lightgrad/kernels/loop.h"

namespace lg::kernels {
namespace {

template <class To, class From>
void run(To* to, std::int64_t to_stride, const From* from, std::int64_t from_stride,
         std::int64_t n) {
  if (to_stride == 1 && from_stride == 1) {
    if constexpr (std::is_same_v<To, From>) {
      std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(To));
    } else {
      for (std::int64_t i = 0; i < n; ++i) to[i] = convert<To>(from[i]);
    }
  } else if (to_stride == 1 && from_stride == 0) {
    const To v = convert<To>(*from);
    for (std::int64_t i = 0; i < n; ++i) to[i] = v;
  } else {
    for (std::int64_t i = 0; i < n; ++i) to[i * to_stride] = convert<To>(from[i * from_stride]);
  }
}

constexpr std::int64_t chunk = 1 << 15;

}  // namespace

void convert_run(DType to_type, void* to, std::int64_t to_stride, DType from_type, const void* from,
                 std::int64_t from_stride, std::int64_t n) {
  visit(to_type, [&]<class To>(To) {
    visit(from_type, [&]<class From>(From) {
      run(static_cast<To*>(to), to_stride, static_cast<const From*>(from), from_stride, n);
    });
  });
}

void copy(const Copy& c) {
  const Shape strides[] = {c.to_strides, c.from_strides};
  const StridedLoop loop = make_loop(c.shape, strides);
  const bool along = loop.inner_stride(1) == 1 || loop.inner_stride(1) == 0;
  const auto to_size = static_cast<std::int64_t>(size_of(c.to_type));
  const auto from_size = static_cast<std::int64_t>(size_of(c.from_type));
  // Across the grain: 128 rows of a cache line each are 8 KiB, which stays in L1 until the line is
  // used up.
  for_each_run(loop, along ? chunk : 128, chunk, [&](const std::int64_t* offset, std::int64_t n) {
    convert_run(c.to_type, static_cast<char*>(c.to) + offset[0] * to_size, loop.inner_stride(0),
                c.from_type, static_cast<const char*>(c.from) + offset[1] * from_size,
                loop.inner_stride(1), n);
  });
}

void fill(DType type, void* to, std::int64_t n, const void* value) {
  parallel_for(n, chunk, [&](std::int64_t begin, std::int64_t end) {
    const auto at = begin * static_cast<std::int64_t>(size_of(type));
    convert_run(type, static_cast<char*>(to) + at, 1, type, value, 0, end - begin);
  });
}

}  // namespace lg::kernels
