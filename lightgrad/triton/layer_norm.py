"""LayerNorm over the rows of X [M, N]: forward, and backward with the sums for weight and bias.

A program holds whole rows, so N is at most 4096. Backward: with h = (x - mean) rstd and u = g weight,
dx = rstd (u - mean(u) - h mean(u h)), dweight = sum over rows of g h, dbias = sum over rows of g. Each program adds up
the rows that it was given, in order, and column_sums adds up the programs, in order: the same bits every time.
"""

import triton
import triton.language as tl

from .rule import Kernel, Variant, for_each_type


@triton.jit
def layer_norm_forward(
    x_ptr, weight_ptr, bias_ptr, y_ptr, mean_ptr, rstd_ptr, M, N, eps, has_weight, has_bias,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    rm = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    rn = tl.arange(0, BLOCK_N)
    at = rm.to(tl.int64)[:, None] * N + rn[None, :]
    mask = (rm < M)[:, None] & (rn < N)[None, :]
    x = tl.load(x_ptr + at, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(x, 1) / N
    d = tl.where(mask, x - mean[:, None], 0.0)
    rstd = 1.0 / tl.sqrt_rn(tl.sum(d * d, 1) / N + eps)
    y = d * rstd[:, None]
    if has_weight:
        y *= tl.load(weight_ptr + rn, mask=rn < N, other=0.0).to(tl.float32)[None, :]
    if has_bias:
        y += tl.load(bias_ptr + rn, mask=rn < N, other=0.0).to(tl.float32)[None, :]
    tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=mask)
    tl.store(mean_ptr + rm, mean, mask=rm < M)
    tl.store(rstd_ptr + rm, rstd, mask=rm < M)


@triton.jit
def layer_norm_backward(
    g_ptr, x_ptr, weight_ptr, mean_ptr, rstd_ptr, dx_ptr, sums_ptr, M, N, has_weight, relu, rows,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Rows [program * rows, + rows). With relu, x is the output of one, and dx the gradient of what went into it.

    sums [3, programs, N] (float32): the sums of g h, of g and of dx.
    """
    program = tl.program_id(0)
    rn = tl.arange(0, BLOCK_N)
    in_n = rn < N
    weight = tl.full((BLOCK_N,), 1.0, tl.float32)
    if has_weight:
        weight = tl.load(weight_ptr + rn, mask=in_n, other=0.0).to(tl.float32)
    sum_gh = tl.zeros((BLOCK_N,), tl.float32)
    sum_g = tl.zeros((BLOCK_N,), tl.float32)
    sum_dx = tl.zeros((BLOCK_N,), tl.float32)
    first = program * rows
    for row in range(first, tl.minimum(first + rows, M), BLOCK_M):
        rm = row + tl.arange(0, BLOCK_M)
        in_m = (rm < M) & (rm < first + rows)
        at = rm.to(tl.int64)[:, None] * N + rn[None, :]
        mask = in_m[:, None] & in_n[None, :]
        g = tl.load(g_ptr + at, mask=mask, other=0.0).to(tl.float32)
        x = tl.load(x_ptr + at, mask=mask, other=0.0).to(tl.float32)
        mean = tl.load(mean_ptr + rm, mask=in_m, other=0.0)
        rstd = tl.load(rstd_ptr + rm, mask=in_m, other=0.0)
        h = tl.where(mask, (x - mean[:, None]) * rstd[:, None], 0.0)
        u = g * weight[None, :]
        mean_u = tl.sum(u, 1) / N
        mean_uh = tl.sum(u * h, 1) / N
        dx = rstd[:, None] * (u - mean_u[:, None] - h * mean_uh[:, None])
        if relu:
            dx = tl.where(x <= 0.0, 0.0, dx)
        dx = tl.where(mask, dx, 0.0)
        tl.store(dx_ptr + at, dx.to(dx_ptr.dtype.element_ty), mask=mask)
        sum_gh += tl.sum(g * h, 0)
        sum_g += tl.sum(g, 0)
        sum_dx += tl.sum(dx, 0)
    plane = tl.num_programs(0).to(tl.int64) * N
    at = program.to(tl.int64) * N + rn
    tl.store(sums_ptr + at, sum_gh, mask=in_n)
    tl.store(sums_ptr + plane + at, sum_g, mask=in_n)
    tl.store(sums_ptr + 2 * plane + at, sum_dx, mask=in_n)


@triton.jit
def column_sums(x_ptr, y_ptr, M, N, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """y [N] = the sums of the columns of x [M, N] (float32), in rising order of blocks of rows."""
    rn = (tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)).to(tl.int64)
    total = tl.zeros((BLOCK_N,), tl.float32)
    for row in range(0, M, BLOCK_M):
        rm = (row + tl.arange(0, BLOCK_M)).to(tl.int64)
        x = tl.load(x_ptr + rm[:, None] * N + rn[None, :], mask=(rm < M)[:, None] & (rn < N)[None, :], other=0.0)
        total += tl.sum(x, 0)
    tl.store(y_ptr + rn, total.to(y_ptr.dtype.element_ty), mask=rn < N)


# Memory is the limit: later architectures compile the PTX of the first. (rows, columns, warps): 4096 numbers a program.
BLOCKS = ((16, 256, 8), (4, 1024, 8), (1, 4096, 16))


def kernels(dtype: str) -> list[Kernel]:
    data, stats = f"*{dtype}", "*fp32"
    forward = dict.fromkeys(("x_ptr", "weight_ptr", "bias_ptr", "y_ptr"), data)
    forward |= {"mean_ptr": stats, "rstd_ptr": stats, "M": "i32", "N": "i32", "eps": "fp32"}
    forward |= {"has_weight": "i32", "has_bias": "i32"}
    backward = dict.fromkeys(("g_ptr", "x_ptr", "weight_ptr"), data)
    backward |= {"mean_ptr": stats, "rstd_ptr": stats, "dx_ptr": data, "sums_ptr": stats}
    backward |= dict.fromkeys(("M", "N", "has_weight", "relu", "rows"), "i32")

    def ways(grid_by_rows: bool, pointers: tuple[str, ...]) -> tuple[Variant, ...]:
        out = []
        for m, n, warps in BLOCKS:
            constants = {"BLOCK_M": m, "BLOCK_N": n}
            grid = ((("M", "rows"),),) if grid_by_rows else ((("M", m),),)
            for aligned in ((*pointers, "N"), ()):
                out.append(
                    Variant(constants, grid, when=(("N", "<=", n),), aligned=aligned, warps=warps, archs=(80, 90))
                )
        return tuple(out)

    return [
        Kernel("layer_norm_forward", layer_norm_forward, forward,
               ways(False, ("x_ptr", "weight_ptr", "bias_ptr", "y_ptr"))),
        Kernel("layer_norm_backward", layer_norm_backward, backward,
               ways(True, ("g_ptr", "x_ptr", "weight_ptr", "dx_ptr", "sums_ptr"))),
        Kernel("column_sums", column_sums, {"x_ptr": stats, "y_ptr": data, "M": "i32", "N": "i32"},
               (Variant({"BLOCK_M": 32, "BLOCK_N": 128}, ((("N", 128),),), archs=(80, 90)),)),
    ]  # fmt: skip


KERNELS = for_each_type(("fp32", "fp16", "bf16"), kernels)
