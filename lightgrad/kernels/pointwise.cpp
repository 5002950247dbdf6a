#include "lightgrad/kernels/pointwise.h"

#include "lightgrad/kernels/copy.h"

namespace lg::kernels {
namespace {

// 256 doubles are 2 KiB: six tiles stay well inside L1.
constexpr std::int64_t tile = 256, chunk = 1 << 14;

struct Plan {
  const Pointwise& p;
  StridedLoop loop;
  unsigned staged = 0,
           scalars = 0;  // bit 0 of staged: the output; bit i + 1: input i. scalars: bit i: input i
  bool missing[max_operands] = {};
};

char* at(const Operand& o, std::int64_t offset) {
  return static_cast<char*>(o.data) + offset * static_cast<std::int64_t>(size_of(o.dtype));
}

void run_staged(const Plan& plan, const std::int64_t* offset, std::int64_t n) {
  const Pointwise& p = plan.p;
  alignas(64) double tiles[max_operands][tile];
  for (std::int64_t done = 0; done < n; done += tile) {
    const std::int64_t m = std::min(tile, n - done);
    const void* in[max_operands] = {};
    for (int i = 0; i < p.inputs; ++i) {
      if (plan.missing[i]) continue;
      const std::int64_t step = plan.loop.inner_stride(i + 1);
      char* from = at(p.in[i], offset[i + 1] + done * step);
      if (!(plan.staged >> (i + 1) & 1)) {
        in[i] = from;
        continue;
      }
      if (step != 0 || done == 0) {
        convert_run(p.compute, tiles[i + 1], 1, p.in[i].dtype, from, step,
                    plan.scalars >> i & 1 ? 1 : m);
      }
      in[i] = tiles[i + 1];
    }
    const std::int64_t step = plan.loop.inner_stride(0);
    char* to = at(p.out, offset[0] + done * step);
    if (plan.staged & 1) {
      p.row(tiles[0], in, plan.scalars, m, p.attributes);
      convert_run(p.out.dtype, to, step, p.compute, tiles[0], 1, m);
    } else {
      p.row(to, in, plan.scalars, m, p.attributes);
    }
  }
}

}  // namespace

void pointwise(const Pointwise& p) {
  Plan plan{p, {}, 0, 0, {}};
  Shape strides[max_operands];
  strides[0] = p.out.strides;
  for (int i = 0; i < p.inputs; ++i) {
    plan.missing[i] = p.in[i].data == nullptr;
    strides[i + 1] = plan.missing[i] ? Shape::filled(p.shape.rank(), 0) : p.in[i].strides;
  }
  plan.loop = make_loop(p.shape, {strides, static_cast<std::size_t>(p.inputs + 1)});
  if (p.out.dtype != p.compute || plan.loop.inner_stride(0) != 1) plan.staged |= 1;
  bool across = plan.loop.inner_stride(0) != 1;
  for (int i = 0; i < p.inputs; ++i) {
    if (plan.missing[i]) continue;
    const std::int64_t step = plan.loop.inner() > 1 ? plan.loop.inner_stride(i + 1) : 1;
    if (step == 0) plan.scalars |= 1u << i;
    if (p.in[i].dtype != p.compute || step > 1 || step < 0) plan.staged |= 2u << i;
    across |= step > 1 || step < 0;
  }
  // Across the grain: short segments, so that the cache lines touched are still near in the next
  // row.
  for_each_run(plan.loop, across ? 128 : chunk, chunk,
               [&](const std::int64_t* offset, std::int64_t n) {
                 if (plan.staged) return run_staged(plan, offset, n);
                 const void* in[max_operands] = {};
                 for (int i = 0; i < p.inputs; ++i)
                   in[i] = plan.missing[i] ? nullptr : at(p.in[i], offset[i + 1]);
                 p.row(at(p.out, offset[0]), in, plan.scalars, n, p.attributes);
               });
}

void pointwise_plain(Row row, void* out, const void* const* in, int inputs, unsigned scalars,
                     std::int64_t n, std::size_t item_size, const double* attributes) {
  if (n <= chunk) {
    if (n > 0) row(out, in, scalars, n, attributes);
    return;
  }
  parallel_for(n, chunk, [&](std::int64_t begin, std::int64_t end) {
    const auto shift = begin * static_cast<std::int64_t>(item_size);
    const void* moved[max_operands] = {};
    for (int i = 0; i < inputs; ++i) {
      const bool walks = in[i] && !(scalars >> i & 1);
      moved[i] = walks ? static_cast<const char*>(in[i]) + shift : in[i];
    }
    row(static_cast<char*>(out) + shift, moved, scalars, end - begin, attributes);
  });
}

}  // namespace lg::kernels
