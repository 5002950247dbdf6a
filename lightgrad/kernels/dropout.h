// dropout.h: y = x * (0 or 1 / (1 - p)), the choice made by the random word of the element's index,
// so that backward is the same call on the gradient and nothing is stored between them.
#pragma once

#include <cstdint>

#include "lightgrad/base/random.h"

namespace lg::kernels {

// Element i is kept when random_word(stream, i) >= p 2^32. A dropped NaN or infinity is NaN, as 0
// times it is. 0 <= p <= 1; y may be x.
template <class T> void dropout(const T* x, T* y, std::int64_t n, double p, Stream stream);

template <class T>
void dropout_reference(const T* x, T* y, std::int64_t n, double p, Stream stream);

}  // namespace lg::kernels
