#include "lightgrad/ops/cuda_kernels.h"

#include <algorithm>

#include "lightgrad/ops/cuda.h"

namespace lg::cuda {

Tensor empty(const Shape& shape, DType dtype, Device device) {
  const auto bytes =
      static_cast<std::size_t>(checked_numel(shape, size_of(dtype), "empty")) * size_of(dtype);
  Gpu& g = Gpu::at(device.index);
  void* block = g.allocate(bytes);
  std::shared_ptr<void> owner(
      block, [&g, bytes](void* p) { g.deallocate(p, bytes); }, PoolAllocator<std::byte>());
  Tensor t = Tensor::on(Storage::borrow(block, bytes, std::move(owner)), shape,
                        contiguous_strides(shape), 0, dtype);
  t.impl()->device = device;
  return t;
}

std::string_view type_name(const Tensor& t, std::string_view operation) {
  switch (t.dtype()) {
    case DType::float32: return "fp32";
    case DType::float16: return "fp16";
    case DType::bfloat16: return "bf16";
    case DType::bool_:
    case DType::uint8: return "u8";
    default:
      fail(ErrorKind::type, operation, "has no kernel for ", t.describe(), " on ", t.device(),
           "; there are float32, float16 and bfloat16");
  }
}

Argument pointer(std::string_view name, const Tensor& t, std::string_view operation) {
  return Argument::pointer(name, type_name(t, operation), t.raw_data());
}

Argument pointer_or_null(std::string_view name, const Tensor& t, const Tensor& like,
                         std::string_view operation) {
  return t.defined() ? pointer(name, t, operation)
                     : Argument::pointer(name, type_name(like, operation), nullptr);
}

Tensor contiguous(const Tensor& x, DType dtype, std::string_view operation) {
  if (x.dtype() == dtype) return x.contiguous_data();
  Tensor y = empty(x.shape(), dtype, x.device());
  const Operand in{"x", x};
  if (x.numel() > 0) pointwise("copy", {&in, 1}, {}, y, operation);
  return y;
}
Tensor contiguous(const Tensor& x, std::string_view operation) {
  return contiguous(x, x.dtype(), operation);
}

// --- pointwise ---

namespace {

// The result's dimensions with the operands' strides; dimensions that run into one another in every
// operand are one.
struct Dimensions {
  std::vector<std::int64_t> size;
  std::vector<std::vector<std::int64_t>> stride;  // of each dimension: one per operand

  Dimensions(std::span<const Operand> operands, const Shape& shape) {
    std::vector<Shape> strides;
    for (const Operand& o : operands)
      strides.push_back(broadcast_strides(o.tensor.shape(), o.tensor.strides(), shape));
    for (int d = 0; d < shape.rank(); ++d) {
      if (shape[d] == 1) continue;
      bool joins = !size.empty();
      for (std::size_t i = 0; i < strides.size() && joins; ++i)
        joins = stride.back()[i] == strides[i][d] * shape[d];
      if (!joins) {
        size.push_back(1);
        stride.emplace_back(strides.size());
      }
      size.back() *= shape[d];
      for (std::size_t i = 0; i < strides.size(); ++i) stride.back()[i] = strides[i][d];
    }
    while (size.size() < 2) {  // a row, or a single number
      size.insert(size.begin(), 1);
      stride.insert(stride.begin(), std::vector<std::int64_t>(strides.size()));
    }
  }
  bool flat() const {
    if (size.size() != 2 || size[0] != 1) return false;
    return std::all_of(stride[1].begin(), stride[1].end(), [](auto s) { return s == 1; });
  }
};

}  // namespace

void pointwise(const std::string& kernel, std::span<const Operand> operands,
               std::span<const double> attributes, const Tensor& out, std::string_view operation) {
  static constexpr const char* attribute_names[] = {"a0", "a1", "a2", "a3"};
  Gpu& g = gpu(out);
  const Dimensions dims(operands, out.shape());
  std::vector<std::string> names;  // "x_ptr", "x_row", "x_column", ...
  for (const Operand& o : operands)
    for (const char* end : {"_ptr", "_row", "_column"}) names.push_back(std::string(o.name) + end);
  std::vector<Argument> arguments;
  for (std::size_t i = 0; i < operands.size(); ++i)
    arguments.push_back(pointer(names[3 * i], operands[i].tensor, operation));
  arguments.push_back(pointer("out_ptr", out, operation));
  const std::size_t out_at = operands.size();
  for (std::size_t i = 0; i < attributes.size(); ++i)
    arguments.push_back(Argument::number(attribute_names[i], attributes[i]));
  arguments.push_back(Argument::integer("n", out.numel()));
  if (dims.flat() && g.has(kernel, arguments)) return g.launch(kernel, arguments);

  // Rows and columns by the kernel, the dimensions before them one by one.
  const std::size_t rank = dims.size.size(), row = rank - 2, column = rank - 1;
  const std::int64_t count = dims.size[row] * dims.size[column];
  arguments.back() = Argument::integer("n", count);
  arguments.push_back(Argument::integer("columns", dims.size[column]));
  for (std::size_t i = 0; i < operands.size(); ++i) {
    arguments.push_back(Argument::integer(names[3 * i + 1], dims.stride[row][i]));
    arguments.push_back(Argument::integer(names[3 * i + 2], dims.stride[column][i]));
  }
  std::vector<std::int64_t> index(row);
  for (std::int64_t done = 0; done < out.numel(); done += count) {
    for (std::size_t i = 0; i <= operands.size(); ++i) {
      const Tensor& t = i == out_at ? out : operands[i].tensor;
      std::int64_t at = i == out_at ? done : 0;
      for (std::size_t d = 0; d < row && i != out_at; ++d) at += index[d] * dims.stride[d][i];
      arguments[i].bits = reinterpret_cast<std::uintptr_t>(t.raw_data()) +
                          static_cast<std::uint64_t>(at) * size_of(t.dtype());
    }
    g.launch(kernel + "_strided", arguments);
    for (std::size_t d = row; d-- > 0;) {
      if (++index[d] < dims.size[d]) break;
      index[d] = 0;
    }
  }
}

// --- matmul ---

Matrix matrix(const Tensor& t, std::string_view operation) {
  const std::int64_t rows = t.size(0), columns = t.size(1);
  const Shape& s = t.strides();
  if ((s[1] == 1 || columns == 1) && (s[0] >= columns || rows == 1))
    return {t, rows == 1 ? columns : s[0], false};
  if ((s[0] == 1 || rows == 1) && (s[1] >= rows || columns == 1))
    return {t, columns == 1 ? rows : s[1], true};
  return {contiguous(t, operation), columns, false};
}

Tensor matmul(const Matrix& a, const Matrix& b, std::int64_t m, std::int64_t n, std::int64_t k,
              const Tensor& bias, Epilogue epilogue, std::string_view operation) {
  if (a.transposed && b.transposed)  // the one of four that has no kernel
    return matmul({contiguous(a.t, operation), k, false}, b, m, n, k, bias, epilogue, operation);
  const DType dtype = a.t.dtype();
  Tensor c = empty({m, n}, dtype, a.t.device());
  if (c.numel() == 0) return c;
  // Few tiles and a long K, as for the gradient of a weight: cut K, by the shape alone.
  constexpr std::int64_t tile = 128, enough_tiles = 128, step = 256;
  const std::int64_t tiles = ((m + tile - 1) / tile) * ((n + tile - 1) / tile);
  std::int64_t slice = std::max<std::int64_t>(k, 1), slices = 1;
  if (a.transposed && !bias.defined() && epilogue == Epilogue::none && tiles < enough_tiles &&
      k > 4 * step) {
    slices = std::min(enough_tiles / tiles, k / step);
    slice = (k + slices - 1) / slices;
    slice = (slice + step - 1) / step * step;
    slices = (k + slice - 1) / slice;
  }
  const Tensor to = slices > 1 ? empty({slices, m, n}, DType::float32, a.t.device()) : c;
  const bool ieee = dtype == DType::float32 && !tf32_allowed();
  const Argument arguments[] = {
      pointer("a_ptr", a.t, operation),
      pointer("b_ptr", b.t, operation),
      pointer_or_null("bias_ptr", bias, a.t, operation),
      pointer("c_ptr", to, operation),
      Argument::integer("M", m),
      Argument::integer("N", n),
      Argument::integer("K", k),
      Argument::integer("lda", a.ld),
      Argument::integer("ldb", b.ld),
      Argument::integer("ldc", n),
      Argument::integer("has_bias", bias.defined()),
      Argument::integer("activation", static_cast<std::int64_t>(epilogue)),
      Argument::integer("slice_k", slice),
      Argument::choice("TRANSPOSE_A", a.transposed),
      Argument::choice("TRANSPOSE_B", b.transposed),
      Argument::choice("PRECISION", ieee ? "ieee" : "tf32"),
  };
  gpu(c).launch("matmul", arguments);
  return slices > 1 ? column_sums(to, slices, m * n, dtype).view_as({m, n}, {n, 1}) : c;
}

Tensor column_sums(const Tensor& x, std::int64_t m, std::int64_t n, DType dtype) {
  Tensor y = empty({n}, dtype, x.device());
  if (n == 0) return y;
  const Argument arguments[] = {pointer("x_ptr", x, "column_sums"),
                                pointer("y_ptr", y, "column_sums"), Argument::integer("M", m),
                                Argument::integer("N", n)};
  gpu(x).launch("column_sums", arguments);
  return y;
}

// --- layer_norm ---

Normalized layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, std::int64_t m,
                      std::int64_t n, double eps, std::string_view operation) {
  const Device device = x.device();
  Normalized r{empty(x.shape(), x.dtype(), device), empty({m}, DType::float32, device),
               empty({m}, DType::float32, device)};
  if (x.numel() == 0) return r;
  const Argument arguments[] = {pointer("x_ptr", x, operation),
                                pointer_or_null("weight_ptr", weight, x, operation),
                                pointer_or_null("bias_ptr", bias, x, operation),
                                pointer("y_ptr", r.y, operation),
                                pointer("mean_ptr", r.mean, operation),
                                pointer("rstd_ptr", r.rstd, operation),
                                Argument::integer("M", m),
                                Argument::integer("N", n),
                                Argument::number("eps", eps),
                                Argument::integer("has_weight", weight.defined()),
                                Argument::integer("has_bias", bias.defined())};
  gpu(x).launch("layer_norm_forward", arguments);
  return r;
}

NormalizedBackward layer_norm_backward(const Tensor& g, const Tensor& x, const Tensor& weight,
                                       const Tensor& mean, const Tensor& rstd, bool relu,
                                       std::int64_t m, std::int64_t n, std::string_view operation) {
  // At most 512 programs, each with a whole number of the kernel's blocks of at most 16 rows.
  constexpr std::int64_t most_programs = 512, block = 16;
  const std::int64_t rows = ((m + most_programs - 1) / most_programs + block - 1) / block * block;
  NormalizedBackward r{empty(x.shape(), x.dtype(), x.device()), {}, 0};
  r.programs = rows > 0 ? (m + rows - 1) / rows : 0;
  r.sums = empty({3, r.programs, n}, DType::float32, x.device());
  if (x.numel() == 0) return r;
  const Argument arguments[] = {pointer("g_ptr", g, operation),
                                pointer("x_ptr", x, operation),
                                pointer_or_null("weight_ptr", weight, x, operation),
                                pointer("mean_ptr", mean, operation),
                                pointer("rstd_ptr", rstd, operation),
                                pointer("dx_ptr", r.dx, operation),
                                pointer("sums_ptr", r.sums, operation),
                                Argument::integer("M", m),
                                Argument::integer("N", n),
                                Argument::integer("has_weight", weight.defined()),
                                Argument::integer("relu", relu),
                                Argument::integer("rows", rows)};
  gpu(x).launch("layer_norm_backward", arguments);
  return r;
}

Tensor NormalizedBackward::total(int which, DType dtype) const {
  const std::int64_t n = sums.size(2);
  const Tensor plane = sums.view_as({programs, n}, {n, 1}, which * programs * n);
  return column_sums(plane, programs, n, dtype);
}

}  // namespace lg::cuda
