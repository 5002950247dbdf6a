// transforms.cpp: the steps as values, and the usual list in one pass over the bytes.
#include "lightgrad/data/transforms.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include "lightgrad/base/error.h"
#include "lightgrad/base/parallel.h"
#include "lightgrad/data/transforms_steps.h"

namespace lg::data {
namespace {
using namespace detail;

// --- in one pass ---

// Crops and flips, whatever their number and order, are one map: output pixel o is the source's
// pixel sign * o + shift inside [low, high), and nothing (a zero byte) outside.
struct Axis {
  std::int64_t size, sign = 1, shift = 0, low = 0, high = size;

  void crop(std::int64_t from, std::int64_t length) {
    shift += sign * from;
    size = length;
    low = std::clamp<std::int64_t>(low - from, 0, size);
    high = std::clamp(high - from, low, size);
  }
  void flip() {
    shift += sign * (size - 1);
    sign = -sign;
    const std::int64_t new_low = size - high;
    high = size - low;
    low = new_low;
  }
};

// The list as crops and flips up to `geometry`, then what one table of 256 floats per channel says,
// then cutouts from `cutouts` on.
struct Plan {
  std::size_t geometry = 0, cutouts = 0;
  std::vector<float> table;  // [c][256]

  static std::optional<Plan> of(const std::vector<Transform>& steps, const Layout& l) {
    Plan p;
    std::size_t t = 0;
    const auto is = [&]<class T>(T*) {
      return t < steps.size() && std::holds_alternative<T>(steps[t]);
    };
    while (is((RandomCrop*)nullptr) || is((RandomHorizontalFlip*)nullptr)) ++t;
    p.geometry = t;
    if (l.dtype != DType::uint8 || !is((ToFloat*)nullptr)) return {};
    while (is((ToFloat*)nullptr) || is((Normalize*)nullptr)) ++t;
    p.cutouts = t;
    while (is((Cutout*)nullptr)) ++t;
    if (t != steps.size()) return {};
    for (std::int64_t c = 0; c < l.c; ++c) {
      for (int byte = 0; byte < 256; ++byte) {
        float v = as_unit(static_cast<float>(byte));
        for (std::size_t k = p.geometry; k < p.cutouts; ++k) {
          if (const auto* n = std::get_if<Normalize>(&steps[k])) v = normalized(v, *n, c);
        }
        p.table.push_back(v);
      }
    }
    return p;
  }
};

void run(const Plan& plan, const std::vector<Transform>& steps, const Layout& in,
         const std::uint8_t* image, std::int64_t number, Draw draw, const Layout& out, float* to) {
  Axis y{.size = in.h}, x{.size = in.w};
  for (std::size_t t = 0; t < plan.geometry; ++t) {
    const auto words = words_for(draw, t, number);
    if (const auto* crop = std::get_if<RandomCrop>(&steps[t])) {
      const Offset o = draw_crop(*crop, y.size, x.size, words);
      y.crop(o.y, crop->height);
      x.crop(o.x, crop->width);
    } else if (draw_flip(std::get<RandomHorizontalFlip>(steps[t]), words)) {
      x.flip();
    }
  }
  for (std::int64_t c = 0; c < in.c; ++c) {
    const float* table = plan.table.data() + c * 256;
    for (std::int64_t i = 0; i < out.h; ++i) {
      float* row = to + (c * out.h + i) * out.w;
      const bool inside = i >= y.low && i < y.high && x.low < x.high;
      const std::int64_t low = inside ? x.low : out.w, high = inside ? x.high : out.w;
      std::fill(row, row + low, table[0]);
      if (inside) {
        const std::uint8_t* from = image + (c * in.h + y.sign * i + y.shift) * in.w + x.shift;
        if (x.sign > 0) {
          for (std::int64_t j = low; j < high; ++j) row[j] = table[from[j]];
        } else {
          for (std::int64_t j = low; j < high; ++j) row[j] = table[from[-j]];
        }
      }
      std::fill(row + high, row + out.w, table[0]);
    }
  }
  for (std::size_t t = plan.cutouts; t < steps.size(); ++t) {
    const Box b = draw_cutout(std::get<Cutout>(steps[t]), out.h, out.w, words_for(draw, t, number));
    for (std::int64_t c = 0; c < in.c; ++c) {
      for (std::int64_t i = b.top; i < b.bottom; ++i) {
        float* row = to + (c * out.h + i) * out.w;
        std::fill(row + b.left, row + b.right, 0.0f);
      }
    }
  }
}

std::string list_of(const std::vector<float>& values) {
  std::string s;
  for (const float v : values) s += text(s.empty() ? "" : ", ", static_cast<double>(v));
  return "[" + s + "]";
}

}  // namespace

Tensor transform(const std::vector<Transform>& steps, const Tensor& images,
                 std::span<const std::int64_t> rows, std::span<const std::int64_t> numbers,
                 Draw draw) {
  const Layout in = layout_of(images), out = layout_after(steps, images);
  const std::optional<Plan> plan = Plan::of(steps, in);
  if (!plan) return transform_stepwise(steps, images, rows, numbers, draw);
  check_rows(rows, images);
  const auto n = static_cast<std::int64_t>(rows.size());
  const Tensor source = images.contiguous_data();
  Tensor result = Tensor::empty({n, out.c, out.h, out.w}, out.dtype);
  const auto* from = source.data<std::uint8_t>();
  auto* to = result.data<float>();
  parallel_for(n, images_per_chunk, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const auto k = static_cast<std::size_t>(i);
      run(*plan, steps, in, from + rows[k] * (in.c * in.h * in.w), numbers[k], draw, out,
          to + i * (out.c * out.h * out.w));
    }
  });
  return result;
}

Tensor Compose::operator()(const Tensor& images, std::span<const std::int64_t> rows,
                           Draw draw) const {
  return transform(steps_, images, rows, rows, draw);
}

Tensor Compose::operator()(const Tensor& images, Draw draw, std::int64_t first) const {
  Shape shape = images.shape(), strides = images.strides();
  const bool one = images.rank() == 3;
  if (one) {
    shape.insert(0, 1);
    strides.insert(0, 0);
  }
  const Tensor all = one ? images.view_as(shape, strides) : images;
  layout_of(all);
  std::vector<std::int64_t> rows(static_cast<std::size_t>(shape[0])), numbers(rows.size());
  std::iota(rows.begin(), rows.end(), 0);
  std::iota(numbers.begin(), numbers.end(), first);
  const Tensor out = transform(steps_, all, rows, numbers, draw);
  if (!one) return out;
  shape = out.shape();
  shape.erase(0);
  return out.view_as(shape, contiguous_strides(shape));
}

// --- the steps themselves ---

RandomCrop::RandomCrop(std::int64_t height, std::int64_t width, std::int64_t padding)
    : height(height), width(width), padding(padding) {
  constexpr std::int64_t most = std::int64_t{1} << 31;
  if (height < 1 || width < 1 || padding < 0 || height > most || width > most || padding > most) {
    fail(ErrorKind::value, "RandomCrop",
         "expected a size of at least 1 and padding of at least 0, ", "both at most 2^31, got ",
         height, " x ", width, " and padding ", padding);
  }
}
std::string RandomCrop::to_string() const {
  return text("RandomCrop((", height, ", ", width, "), padding=", padding, ")");
}

RandomHorizontalFlip::RandomHorizontalFlip(double p) : p(p) {
  if (!(p >= 0 && p <= 1)) {
    fail(ErrorKind::value, "RandomHorizontalFlip", "p is ", p, ", expected 0 to 1");
  }
}
std::string RandomHorizontalFlip::to_string() const {
  return text("RandomHorizontalFlip(p=", p, ")");
}

Cutout::Cutout(std::int64_t size) : size(size) {
  if (size < 0 || size > std::int64_t{1} << 31) {
    fail(ErrorKind::value, "Cutout", "the size is ", size, ", expected 0 to 2^31");
  }
}
std::string Cutout::to_string() const { return text("Cutout(", size, ")"); }

std::string ToFloat::to_string() const { return "ToFloat()"; }

Normalize::Normalize(std::vector<float> m, std::vector<float> s)
    : mean(std::move(m)), std(std::move(s)) {
  if (mean.empty() || mean.size() != std.size()) {
    fail(ErrorKind::value, "Normalize", "expected as many means as deviations, got ", mean.size(),
         " and ", std.size());
  }
  if (std::ranges::find(std, 0.0f) != std.end()) {
    fail(ErrorKind::value, "Normalize", "a deviation is 0");
  }
}
std::string Normalize::to_string() const {
  return text("Normalize(", list_of(mean), ", ", list_of(std), ")");
}

std::string Compose::to_string() const {
  std::string s;
  for (const Transform& t : steps_) {
    s += text(s.empty() ? "" : ", ", std::visit([](const auto& v) { return v.to_string(); }, t));
  }
  return "Compose([" + s + "])";
}

}  // namespace lg::data
