#include "lightgrad/ops/pooling.h"

#include <cmath>
#include <memory>
#include <numeric>

#include "lightgrad/ops/creation.h"
#include "lightgrad/ops/float_kernels.h"
#include "lightgrad/ops/ops.h"
#include "lightgrad/ops/run.h"
#include "lightgrad/ops/window.h"

namespace lg::ops {
namespace {

// A sparse linear map of one dimension, see kernels::AxisMap.
struct AxisTable {
  std::int64_t in = 0, out = 0, most = 1;
  std::vector<std::int64_t> start, count;
  std::vector<double> weight;
  std::vector<float> narrow;  // the same

  AxisTable(std::int64_t in, std::int64_t out, std::int64_t most) : in(in), out(out), most(most) {
    const auto n = static_cast<std::size_t>(out);
    start.resize(n);
    count.resize(n);
    weight.resize(n * static_cast<std::size_t>(most));
  }
  void set(std::int64_t o, std::int64_t first, std::initializer_list<double> weights) {
    start[static_cast<std::size_t>(o)] = first;
    count[static_cast<std::size_t>(o)] = static_cast<std::int64_t>(weights.size());
    std::copy(weights.begin(), weights.end(), weight.begin() + o * most);
  }
  void set_equal(std::int64_t o, std::int64_t first, std::int64_t n, double w) {
    start[static_cast<std::size_t>(o)] = first;
    count[static_cast<std::size_t>(o)] = n;
    std::fill_n(weight.begin() + o * most, n, w);
  }
  template <class T> kernels::AxisMap<T> map() const {
    if constexpr (std::same_as<T, float>)
      return {in, out, most, start.data(), count.data(), narrow.data()};
    else
      return {in, out, most, start.data(), count.data(), weight.data()};
  }
};
using Tables = std::shared_ptr<const std::array<AxisTable, 2>>;

struct Resample;
Tensor resampled(const Tensor& x, const Tables& tables, bool transposed, std::string_view name);
Probe resampled(const Probe& x, const Tables&, bool, std::string_view) { return x; }

// Both maps over the last two dimensions, or their transposes: each is the other's gradient.
struct Resample : Heavy<1> {
  Tables tables;
  bool transposed = false;
  std::string_view caller = "resample";
  static constexpr OpInfo info{.name = "resample", .math = "A x B^T, of sparse A and B"};
  static constexpr bool widens_half = true;
  Cost cost(Metas in, const Meta& out) const {  // a multiply-add for each pair of weights
    double taps = 2;
    for (int d = 0; d < out.shape.rank() - 2; ++d) taps *= static_cast<double>(out.shape[d]);
    for (const AxisTable& t : *tables)
      taps *= static_cast<double>(std::accumulate(t.count.begin(), t.count.end(), std::int64_t{0}));
    return {taps, moved(in, out)};
  }
  Tensor forward(const Tensor& x) const {
    const AxisTable &rows = (*tables)[0], &columns = (*tables)[1];
    const Tensor c = x.contiguous_data();
    Shape shape = x.shape();
    shape[x.rank() - 2] = transposed ? rows.in : rows.out;
    shape[x.rank() - 1] = transposed ? columns.in : columns.out;
    Tensor y = Tensor::empty(shape, x.dtype());
    if (y.numel() == 0) return y;
    const std::int64_t planes = y.numel() / (shape[x.rank() - 2] * shape.back());
    with_floats(x, caller, [&]<class T>(const auto& k, T) {
      (transposed ? k.resample_transposed : k.resample)(planes, rows.map<T>(), columns.map<T>(),
                                                        c.data<T>(), y.data<T>());
    });
    return y;
  }
  template <class T> T vjp(T g, T, T) const { return resampled(g, tables, !transposed, caller); }
};

Tensor resampled(const Tensor& x, const Tables& tables, bool transposed, std::string_view name) {
  Resample op;
  op.tables = tables;
  op.transposed = transposed;
  op.caller = name;
  return run(std::move(op), x);
}

Tensor resampled(const Tensor& x, AxisTable rows, AxisTable columns, std::string_view name) {
  auto tables =
      std::make_shared<std::array<AxisTable, 2>>(std::array{std::move(rows), std::move(columns)});
  for (AxisTable& t : *tables) t.narrow.assign(t.weight.begin(), t.weight.end());
  return resampled(x, tables, false, name);
}

// --- windows ---

struct Windows {
  Shape kernel, stride, padding, dilation, out;  // a number for each of two dimensions
};

void check_image(const Tensor& x, std::string_view name) {
  if (x.rank() != 3 && x.rank() != 4) {
    fail(ErrorKind::value, name, "x is ", x.describe(), ", expected [N, C, H, W] or [C, H, W]");
  }
}

Windows windows_of(const Tensor& x, const Shape& kernel_size, const std::optional<Shape>& stride,
                   const Shape& padding, const Shape& dilation, bool ceil_mode,
                   std::string_view name) {
  check_image(x, name);
  const Shape& s = x.shape();
  Windows w{per_dimension(kernel_size, 2, 1, name, "kernel_size", s), {}, {}, {}, {}};
  w.stride =
      stride && stride->rank() > 0 ? per_dimension(*stride, 2, 1, name, "stride", s) : w.kernel;
  w.padding = per_dimension(padding, 2, 0, name, "padding", s);
  w.dilation = per_dimension(dilation, 2, 1, name, "dilation", s);
  for (int d = 0; d < 2; ++d) {
    if (w.padding[d] > w.kernel[d] / 2) {
      fail(ErrorKind::value, name, "padding is ", w.padding,
           ", expected at most half of kernel_size ", w.kernel, " (x ", s, ")");
    }
    const std::int64_t size = s[s.rank() - 2 + d];
    const std::int64_t room =
        saturating_add(size + 2 * w.padding[d], -window_extent(w.kernel[d], w.dilation[d]));
    std::int64_t out = room < 0 ? 0 : room / w.stride[d] + 1;
    if (ceil_mode) {  // one more, if it still begins in x or the padding before
      const std::int64_t up = room > 0 && room % w.stride[d]    ? room / w.stride[d] + 2
                              : room < 0 && -room < w.stride[d] ? 1
                                                                : out;
      out = up > 0 && (up - 1) * w.stride[d] >= size + w.padding[d] ? up - 1 : up;
    }
    if (out < 1 || size == 0) {
      fail(ErrorKind::value, name, "the window covers ",
           Shape{window_extent(w.kernel[0], w.dilation[0]),
                 window_extent(w.kernel[1], w.dilation[1])},
           " pixels, more than the padded input has (x ", s, ", padding ", w.padding, ")");
    }
    w.out.push_back(out);
  }
  return w;
}

AxisTable averages(std::int64_t in, const Windows& w, int d, bool count_padding, bool plain_sum) {
  AxisTable t(in, w.out[d], std::min(w.kernel[d], in));
  for (std::int64_t o = 0; o < t.out; ++o) {
    const std::int64_t begin = o * w.stride[d] - w.padding[d],
                       end = std::min(begin + w.kernel[d], in + w.padding[d]);
    const std::int64_t first = std::max<std::int64_t>(begin, 0), last = std::min(end, in);
    const std::int64_t n = count_padding ? end - begin : last - first;
    t.set_equal(o, first, std::max<std::int64_t>(last - first, 0),
                plain_sum ? 1 : 1 / static_cast<double>(n));
  }
  return t;
}

AxisTable adaptive(std::int64_t in, std::int64_t out) {
  AxisTable t(in, out, out > 0 ? in / out + 2 : 1);
  for (std::int64_t o = 0; o < out; ++o) {
    const std::int64_t first = o * in / out, last = ((o + 1) * in + out - 1) / out;
    t.set_equal(o, first, last - first, 1 / static_cast<double>(last - first));
  }
  return t;
}

}  // namespace

Tensor MaxPool2dIndices::forward(const Tensor& x) const {
  const Windows w = windows_of(x, kernel_size, stride, padding, dilation, ceil_mode, "max_pool2d");
  if (is_half(x.dtype())) return forward(Cast{{}, DType::float32}.forward(x));
  Shape shape = x.shape();
  kernels::MaxPool p{};
  p.planes = 1;
  for (int d = 0; d < x.rank() - 2; ++d) p.planes *= shape[d];
  for (int d = 0; d < 2; ++d) {
    p.in[d] = shape[x.rank() - 2 + d];
    shape[x.rank() - 2 + d] = p.out[d] = w.out[d];
    p.kernel[d] = w.kernel[d];
    p.stride[d] = w.stride[d];
    p.pad[d] = w.padding[d];
    p.dilation[d] = w.dilation[d];
  }
  Tensor index = Tensor::empty(shape, DType::int64);
  const Tensor c = x.contiguous_data();
  with_floats(x, "max_pool2d", [&]<class T>(const auto& k, T) {
    k.max_pool_indices(p, c.data<T>(), index.data<std::int64_t>());
  });
  return index;
}

Tensor MaxPool2d::forward(const Tensor& x) const {
  const Tensor index = max_pool2d_indices(x, kernel_size, stride, padding, dilation, ceil_mode);
  return reshape(gather(flatten(x, -2), -1, flatten(index, -2)), index.shape());
}

Tensor AvgPool2d::forward(const Tensor& x) const {
  constexpr std::string_view name = "avg_pool2d";
  const Windows w = windows_of(x, kernel_size, stride, padding, {1}, ceil_mode, name);
  if (divisor_override && *divisor_override == 0)
    fail(ErrorKind::value, name, "divisor_override is 0");
  const bool sum = divisor_override.has_value();
  AxisTable rows = averages(x.size(-2), w, 0, count_include_pad, sum);
  if (sum)
    for (double& v : rows.weight) v /= static_cast<double>(*divisor_override);
  return resampled(x, std::move(rows), averages(x.size(-1), w, 1, count_include_pad, sum), name);
}

Tensor AdaptiveAvgPool2d::forward(const Tensor& x) const {
  constexpr std::string_view name = "adaptive_avg_pool2d";
  check_image(x, name);
  const Shape size = per_dimension(output_size, 2, 0, name, "output_size", x.shape());
  if (x.size(-1) == 0 || x.size(-2) == 0)
    fail(ErrorKind::value, name, "x has no pixels (x ", x.shape(), ")");
  return resampled(x, adaptive(x.size(-2), size[0]), adaptive(x.size(-1), size[1]), name);
}

// --- interpolation ---

namespace {

// Positions are computed in the precision that PyTorch uses, or they would fall to the other side
// of a pixel's edge now and then.
template <class T> struct Positions {
  T scale;
  Positions(std::int64_t in, std::int64_t out, std::optional<double> factor, bool align) {
    if (align)
      scale = out > 1 ? static_cast<T>(in - 1) / static_cast<T>(out - 1) : T(0);
    else
      scale = factor && *factor > 0 ? static_cast<T>(1.0 / *factor)
                                    : static_cast<T>(in) / static_cast<T>(out);
  }
};

template <class T>
AxisTable nearest(std::int64_t in, std::int64_t out, std::optional<double> factor, bool exact) {
  const Positions<T> p(in, out, factor, false);
  AxisTable t(in, out, 1);
  for (std::int64_t o = 0; o < out; ++o) {
    const T at = std::floor((static_cast<T>(o) + (exact ? T(0.5) : T(0))) * p.scale);
    t.set(o, std::min(static_cast<std::int64_t>(at), in - 1), {1});
  }
  return t;
}

template <class T>
AxisTable linear(std::int64_t in, std::int64_t out, std::optional<double> factor, bool align) {
  const Positions<T> p(in, out, factor, align);
  AxisTable t(in, out, 2);
  for (std::int64_t o = 0; o < out; ++o) {
    const T at = align ? static_cast<T>(o) * p.scale
                       : std::max(p.scale * (static_cast<T>(o) + T(0.5)) - T(0.5), T(0));
    const std::int64_t first = std::min(static_cast<std::int64_t>(at), in - 1);
    const T share = std::min(at - static_cast<T>(first), T(1));
    if (first + 1 < in)
      t.set(o, first, {static_cast<double>(T(1) - share), static_cast<double>(share)});
    else
      t.set(o, first, {1});
  }
  return t;
}

}  // namespace

Tensor Interpolate::forward(const Tensor& x) const {
  constexpr std::string_view name = "interpolate";
  const int dims = x.rank() - 2;
  if (dims != 1 && dims != 2)
    fail(ErrorKind::value, name, "x is ", x.describe(), ", expected [N, C, W] or [N, C, H, W]");
  const bool interpolates = mode == (dims == 1 ? "linear" : "bilinear");
  const bool nearest_mode = mode == "nearest" || mode == "nearest-exact";
  if (!interpolates && !nearest_mode && mode != "area") {
    fail(ErrorKind::value, name, "mode is \"", mode,
         "\", expected \"nearest\", \"nearest-exact\", \"", dims == 1 ? "linear" : "bilinear",
         "\" or \"area\" (x ", x.shape(), ")");
  }
  if (align_corners && !interpolates)
    fail(ErrorKind::value, name, "align_corners has no meaning in mode \"", mode, "\"");
  if (size.has_value() == scale_factor.has_value())
    fail(ErrorKind::value, name, "expected either size or scale_factor");
  Shape to;
  std::vector<std::optional<double>> factor(static_cast<std::size_t>(dims));
  if (size) {
    to = per_dimension(*size, dims, 1, name, "size", x.shape());
  } else {
    const auto& list = scale_factor->list;
    if (list.size() != 1 && list.size() != static_cast<std::size_t>(dims))
      fail(ErrorKind::value, name, "scale_factor has ", list.size(), " numbers, expected ", dims);
    for (int d = 0; d < dims; ++d) {
      const double f = list[list.size() == 1 ? 0 : static_cast<std::size_t>(d)];
      const double n = std::floor(static_cast<double>(x.shape()[2 + d]) * f);
      if (!(n >= 1 && n < 1e15)) {
        fail(ErrorKind::value, name, "scale_factor ", f, " makes size ", n, " of dimension ", 2 + d,
             " (x ", x.shape(), ")");
      }
      factor[static_cast<std::size_t>(d)] = f;
      to.push_back(static_cast<std::int64_t>(n));
    }
  }
  if (dims == 1) {
    to.insert(0, 1);
    factor.insert(factor.begin(), std::nullopt);
  }
  const Tensor image = dims == 1 ? unsqueeze(x, 2) : x;
  if (image.size(-1) == 0 || image.size(-2) == 0)
    fail(ErrorKind::value, name, "x has no pixels (x ", x.shape(), ")");
  const auto table = [&](int d) {
    const std::int64_t in = image.shape()[2 + d];
    const auto f = factor[static_cast<std::size_t>(d)];
    const auto make = [&]<class T>(T) {
      if (interpolates) return linear<T>(in, to[d], f, align_corners.value_or(false));
      return nearest<T>(in, to[d], f, mode == "nearest-exact");
    };
    if (mode == "area") return adaptive(in, to[d]);
    return x.dtype() == DType::float64 ? make(double{}) : make(float{});
  };
  const Tensor y = resampled(image, table(0), table(1), name);
  return dims == 1 ? squeeze(y, 2) : y;
}

}  // namespace lg::ops
