// png.h: an image of bytes as a PNG file (https://www.w3.org/TR/png), for pictures of what a model
// sees. Writes only; the same bytes from every program on this machine.
#pragma once

#include <string>

#include "lightgrad/tensor/tensor.h"

namespace lg::io {

// uint8, [h, w] or [1, h, w] in greys or [3, h, w] in red, green and blue; ValueError for another
// shape, TypeError for another dtype.
std::string encode_png(const Tensor& image);
// Replaces `path` in one step; IOError where the disk refuses.
void save_png(const std::string& path, const Tensor& image);

}  // namespace lg::io
