#include "lightgrad/kernels/pointwise.h"

#include <algorithm>
#include <utility>

#include "lightgrad/kernels/copy.h"
#include "lightgrad/kernels/stream.h"

namespace lg::kernels {
namespace {

// Six tiles of 4 KiB stay well inside L1, and inside a small stack.
constexpr std::int64_t tile_bytes = 4096, chunk = 1 << 14;

struct Plan {
  const Pointwise& p;
  StridedLoop loop;
  unsigned staged = 0,
           scalars = 0;  // bit 0 of staged: the output; bit i + 1: input i. scalars: bit i: input i
  bool across = false;
  BlockMover move[max_operands] = {};
};

char* at(const Operand& o, std::int64_t offset) {
  return static_cast<char*>(o.data) + offset * static_cast<std::int64_t>(size_of(o.dtype));
}

// The block of the loop at `offset`, without what is staged.
RowBlock block_at(const Plan& plan, const std::int64_t* offset, std::int64_t rows, std::int64_t n) {
  const Pointwise& p = plan.p;
  RowBlock b{at(p.out, offset[0]),    {}, plan.scalars, rows, n,
             plan.loop.row_stride(0), {}, p.attributes};
  for (int i = 0; i < p.inputs; ++i) {
    if (p.in[i].data) b.in[i] = at(p.in[i], offset[i + 1]);
    b.in_row[i] = plan.loop.row_stride(i + 1);
  }
  return b;
}

// The block in tiles: of 16 floats by 64 where an operand lies across, else as long as they can be.
void run_staged(const Plan& plan, const std::int64_t* offset, std::int64_t rows, std::int64_t n) {
  const Pointwise& p = plan.p;
  const StridedLoop& loop = plan.loop;
  alignas(64) char tiles[max_operands][tile_bytes];
  const std::int64_t capacity = tile_bytes / static_cast<std::int64_t>(size_of(p.compute));
  const std::int64_t columns = std::min<std::int64_t>(n, plan.across ? 64 : capacity);
  const std::int64_t height = std::min(rows, capacity / columns);
  std::int64_t from[max_operands];
  for (std::int64_t r = 0; r < rows; r += height) {
    for (std::int64_t c = 0; c < n; c += columns) {
      for (int o = 0; o <= p.inputs; ++o)
        from[o] = offset[o] + r * loop.row_stride(o) + c * loop.inner_stride(o);
      const std::int64_t h = std::min(height, rows - r), w = std::min(columns, n - c);
      RowBlock b = block_at(plan, from, h, w);
      for (int i = 0; i < p.inputs; ++i) {
        if (!b.in[i] || !(plan.staged >> (i + 1) & 1)) continue;
        const std::int64_t width = plan.scalars >> i & 1 ? 1 : w;
        plan.move[i + 1]({tiles[i + 1], b.in[i], h, width, width, 1, loop.row_stride(i + 1),
                          loop.inner_stride(i + 1)});
        b.in[i] = tiles[i + 1];
        b.in_row[i] = width;
      }
      if (!(plan.staged & 1)) {
        p.row(b);
        continue;
      }
      void* const to = std::exchange(b.out, tiles[0]);
      b.out_row = w;
      p.row(b);
      plan.move[0]({to, tiles[0], h, w, loop.row_stride(0), loop.inner_stride(0), w, 1});
    }
  }
}

// The same into L1 first, and from there past the caches. A row kernel has few loads in flight at a
// time, each with its arithmetic: it finds a tile's inputs near, asked for while the tile before
// was computed.
constexpr std::int64_t stream_tile = 8192;
void run_streamed(Row row, RowBlock block, std::int64_t item) {
  alignas(64) char tile[stream_tile];
  const std::int64_t columns = std::min(block.n, stream_tile / item);
  const auto input = [&](int i, std::int64_t r, std::int64_t c) {
    const std::int64_t shift = r * block.in_row[i] + (block.scalars >> i & 1 ? 0 : c);
    return static_cast<const char*>(block.in[i]) + shift * item;
  };
  const auto ask_for = [&](std::int64_t r, std::int64_t c) {
    for (int i = 0; i < max_operands - 1; ++i) {
      if (!block.in[i] || block.scalars >> i & 1 || (block.in_row[i] == 0 && r > 0)) continue;
      const char* const from = input(i, r, c);
      for (std::int64_t b = 0; b < std::min(columns, block.n - c) * item; b += 64)
        __builtin_prefetch(from + b);
    }
  };
  RowBlock part = block;
  part.out = tile;
  part.rows = 1;
  for (std::int64_t r = 0; r < block.rows; ++r) {
    for (std::int64_t c = 0; c < block.n; c += columns) {
      if (c + columns < block.n)
        ask_for(r, c + columns);
      else if (r + 1 < block.rows)
        ask_for(r + 1, 0);
      part.n = std::min(columns, block.n - c);
      for (int i = 0; i < max_operands - 1; ++i) {
        if (block.in[i]) part.in[i] = input(i, r, c);
      }
      row(part);
      char* const to = static_cast<char*>(block.out) + (r * block.out_row + c) * item;
      stream_copy(to, tile, part.n * item);
    }
  }
  stream_fence();
}

}  // namespace

void pointwise(const Pointwise& p) {
  Plan plan{p, {}, 0, 0, false, {}};
  Shape strides[max_operands];
  strides[0] = p.out.strides;
  for (int i = 0; i < p.inputs; ++i) {
    strides[i + 1] = p.in[i].data ? p.in[i].strides : Shape::filled(p.shape.rank(), 0);
  }
  plan.loop = make_loop(p.shape, {strides, static_cast<std::size_t>(p.inputs + 1)});
  plan.across = pair_across(plan.loop);
  if (p.out.dtype != p.compute || plan.loop.inner_stride(0) != 1) {
    plan.staged |= 1;
    plan.move[0] = block_mover(p.out.dtype, p.compute);
  }
  for (int i = 0; i < p.inputs; ++i) {
    if (!p.in[i].data) continue;
    const std::int64_t step = plan.loop.inner() > 1 ? plan.loop.inner_stride(i + 1) : 1;
    if (step == 0) plan.scalars |= 1u << i;
    if (p.in[i].dtype == p.compute && (step == 0 || step == 1)) continue;
    plan.staged |= 2u << i;
    plan.move[i + 1] = block_mover(p.compute, p.in[i].dtype);
  }
  const std::int64_t columns =
      plan.across ? 128 : std::clamp<std::int64_t>(plan.loop.inner(), 1, chunk);
  const auto item = static_cast<std::int64_t>(size_of(p.compute));
  // Not for short rows, which would be as many calls.
  const bool streams = p.shape.numel() * item >= kStreamBytes && columns >= 512;
  for_each_block(plan.loop, chunk / columns, columns, chunk,
                 [&](const std::int64_t* offset, std::int64_t rows, std::int64_t n) {
                   if (plan.staged) return run_staged(plan, offset, rows, n);
                   const RowBlock block = block_at(plan, offset, rows, n);
                   if (streams) return run_streamed(p.row, block, item);
                   p.row(block);
                 });
}

void pointwise_plain(Row row, void* out, const void* const* in, int inputs, unsigned scalars,
                     std::int64_t n, std::size_t item_size, const double* attributes) {
  RowBlock whole{out, {}, scalars, 1, n, 0, {}, attributes};
  std::copy_n(in, inputs, whole.in);
  if (n <= chunk) {
    if (n > 0) row(whole);
    return;
  }
  const auto item = static_cast<std::int64_t>(item_size);
  parallel_for(n, chunk, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t shift = begin * item;
    RowBlock part = whole;
    part.out = static_cast<char*>(out) + shift;
    part.n = end - begin;
    for (int i = 0; i < inputs; ++i) {
      if (in[i] && !(scalars >> i & 1)) part.in[i] = static_cast<const char*>(in[i]) + shift;
    }
    if (n * item >= kStreamBytes)
      run_streamed(row, part, item);
    else
      row(part);
  });
}

}  // namespace lg::kernels
