"""C = activation(op(A) op(B) + bias), op: the matrix or its transpose; accumulated in float32, rounded once.

A is [M, K], or with TRANSPOSE_A [K, M]; B is [K, N], or with TRANSPOSE_B [N, K]; rows are contiguous, lda and so on
apart. With slices > 1 slice s adds up its part of K into C + s M ldc (float32): column_sums adds the slices up.
"""

import triton
import triton.language as tl

from .elementary import gelu, gelu_tanh
from .rule import BYTES, Kernel, Variant, for_each_type

NONE, RELU, GELU, GELU_TANH = 0, 1, 2, 3  # as cuda::Epilogue


@triton.jit
def matmul(
    a_ptr, b_ptr, bias_ptr, c_ptr, M, N, K, lda, ldb, ldc, has_bias, activation, slice_k,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    TRANSPOSE_A: tl.constexpr, TRANSPOSE_B: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    # Programs in groups of 8 rows of tiles, column by column, so that neighbours in time share tiles in the cache.
    tiles_m = tl.cdiv(M, BLOCK_M)
    tiles_n = tl.cdiv(N, BLOCK_N)
    pid = tl.program_id(0)
    group = pid // (8 * tiles_n)
    rows_in_group = tl.minimum(tiles_m - group * 8, 8)
    tile_m = group * 8 + (pid % (8 * tiles_n)) % rows_in_group
    tile_n = (pid % (8 * tiles_n)) // rows_in_group
    part = tl.program_id(1)

    rm = (tile_m * BLOCK_M + tl.arange(0, BLOCK_M)).to(tl.int64)
    rn = (tile_n * BLOCK_N + tl.arange(0, BLOCK_N)).to(tl.int64)
    rk = tl.arange(0, BLOCK_K)
    first = part * slice_k
    last = tl.minimum(first + slice_k, K)
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for k in range(first, last, BLOCK_K):
        kk = (k + rk).to(tl.int64)
        in_k = kk < last
        if TRANSPOSE_A:
            a = tl.load(a_ptr + kk[:, None] * lda + rm[None, :], mask=in_k[:, None] & (rm < M)[None, :], other=0.0)
            a = tl.trans(a)
        else:
            a = tl.load(a_ptr + rm[:, None] * lda + kk[None, :], mask=(rm < M)[:, None] & in_k[None, :], other=0.0)
        if TRANSPOSE_B:
            b = tl.load(b_ptr + rn[:, None] * ldb + kk[None, :], mask=(rn < N)[:, None] & in_k[None, :], other=0.0)
            b = tl.trans(b)
        else:
            b = tl.load(b_ptr + kk[:, None] * ldb + rn[None, :], mask=in_k[:, None] & (rn < N)[None, :], other=0.0)
        acc = tl.dot(a, b, acc, input_precision=PRECISION)
    if has_bias:
        acc += tl.load(bias_ptr + rn, mask=rn < N, other=0.0).to(tl.float32)[None, :]
    if activation == 1:
        acc = tl.maximum(acc, 0.0, propagate_nan=tl.PropagateNan.ALL)
    elif activation == 2:
        acc = gelu(acc)
    elif activation == 3:
        acc = gelu_tanh(acc)
    c = c_ptr + part.to(tl.int64) * M * ldc + rm[:, None] * ldc + rn[None, :]
    tl.store(c, acc.to(c_ptr.dtype.element_ty), mask=(rm < M)[:, None] & (rn < N)[None, :])


def variants(dtype: str, transpose_a: int, transpose_b: int, precision: str) -> tuple[Variant, ...]:
    wide = 128 // BYTES[dtype]  # a row of a tile is one line of the cache
    # Loads are wide and asynchronous only where the mask is one for 16 neighbours as well: the sizes that contiguous
    # rows end at, K or M for A, N for B and C, are multiples of 16, not only the addresses and strides.
    ends = ("M" if transpose_a else "K", "N")

    def tile(m, n, k, warps, stages, archs=(80, 90, 100, 120), aligned=True):
        return Variant(
            constants={
                "BLOCK_M": m, "BLOCK_N": n, "BLOCK_K": k,
                "TRANSPOSE_A": transpose_a, "TRANSPOSE_B": transpose_b, "PRECISION": precision,
            },
            choices=("TRANSPOSE_A", "TRANSPOSE_B", "PRECISION"),
            grid=((("M", m), ("N", n)), (("K", "slice_k"),)),
            aligned=("a_ptr", "b_ptr", "c_ptr", "lda", "ldb", "ldc", "slice_k", *ends) if aligned else (),
            warps=warps, stages=stages, archs=archs,
        )  # fmt: skip

    # Whatever is not aligned: one for all architectures, which compile its PTX.
    any_other = tile(64, 64, 32, 4, 2, archs=(80,), aligned=False)
    if precision == "ieee":  # no tensor cores: registers are the limit
        return (tile(64, 64, 32, 4, 2), any_other)
    # The first is a sound choice anywhere; lg.cuda.tune() finds where a larger or a smaller one is faster.
    return (
        tile(128, 128, wide, 8, 3, archs=(90, 100)),
        tile(128, 256, wide, 16, 3, archs=(90, 100)),
        tile(64, 128, wide, 4, 4, archs=(90, 100)),
        tile(128, 128, wide // 2, 8, 3, archs=(80, 120)),
        tile(64, 64, wide // 2, 4, 4, archs=(80, 120)),
        any_other,
    )


def kernels(dtype: str) -> list[Kernel]:
    out = []
    for result in dict.fromkeys((dtype, "fp32")):  # float32 results: the slices of a long K
        types = dict.fromkeys(("a_ptr", "b_ptr", "bias_ptr"), f"*{dtype}") | {"c_ptr": f"*{result}"}
        types |= dict.fromkeys(("M", "N", "K", "lda", "ldb", "ldc", "has_bias", "activation", "slice_k"), "i32")
        ways = []
        for precision in ("tf32", "ieee") if dtype == "fp32" else ("tf32",):
            # linear, the gradient of its input, that of its weight
            for transpose_a, transpose_b in ((0, 1), (0, 0), (1, 0)):
                if result != dtype and not transpose_a:
                    continue
                ways.extend(variants(dtype, transpose_a, transpose_b, precision))
        out.append(Kernel("matmul", matmul, types, tuple(ways), tune=("M", "N", "K")))
    return out


KERNELS = for_each_type(("fp32", "fp16", "bf16"), kernels)
