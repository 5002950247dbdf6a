"""Y = LayerNorm(ReLU(X W^T + b)) gamma + beta in one kernel: X [M, K], W [N, K], the rest [N].

A program holds BLOCK_M rows of all N <= BLOCK_N columns in registers, so the rows never leave the chip between the
product and the normalisation. Wider layers are matmul with its epilogue, then layer_norm_forward. With keep, H =
ReLU(X W^T + b) and the rows' mean and rstd are written too: backward is layer_norm_backward with relu, then two
products (matmul).
"""

import triton
import triton.language as tl

from .rule import Kernel, Variant, for_each_type


@triton.jit
def fused_mlp_forward(
    x_ptr, w_ptr, b_ptr, gamma_ptr, beta_ptr, y_ptr, h_ptr, mean_ptr, rstd_ptr, M, N, K, ldx, ldw, eps, keep,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, K_EVEN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    rm = (tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)).to(tl.int64)
    rn = tl.arange(0, BLOCK_N)
    rk = tl.arange(0, BLOCK_K)
    in_m = rm < M
    in_n = rn < N
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for k in range(0, K, BLOCK_K):
        x_at = x_ptr + rm[:, None] * ldx + (k + rk)[None, :]
        w_at = w_ptr + rn[:, None] * ldw + (k + rk)[None, :]
        if K_EVEN:
            x = tl.load(x_at, mask=in_m[:, None], other=0.0)
            w = tl.load(w_at, mask=in_n[:, None], other=0.0)
        else:
            in_k = k + rk < K
            x = tl.load(x_at, mask=in_m[:, None] & in_k[None, :], other=0.0)
            w = tl.load(w_at, mask=in_n[:, None] & in_k[None, :], other=0.0)
        acc = tl.dot(x, tl.trans(w), acc, input_precision=PRECISION)
    bias = tl.load(b_ptr + rn, mask=in_n, other=0.0).to(tl.float32)
    h = tl.maximum(acc + bias[None, :], 0.0, propagate_nan=tl.PropagateNan.ALL)
    # As backward will read it: rounded once.
    h = h.to(y_ptr.dtype.element_ty).to(tl.float32)
    mean = tl.sum(tl.where(in_n[None, :], h, 0.0), 1) / N
    d = tl.where(in_n[None, :], h - mean[:, None], 0.0)
    rstd = 1.0 / tl.sqrt_rn(tl.sum(d * d, 1) / N + eps)
    gamma = tl.load(gamma_ptr + rn, mask=in_n, other=0.0).to(tl.float32)
    beta = tl.load(beta_ptr + rn, mask=in_n, other=0.0).to(tl.float32)
    y = d * rstd[:, None] * gamma[None, :] + beta[None, :]
    at = rm[:, None] * N + rn[None, :]
    mask = in_m[:, None] & in_n[None, :]
    tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=mask)
    if keep:
        tl.store(h_ptr + at, h.to(h_ptr.dtype.element_ty), mask=mask)
        tl.store(mean_ptr + rm, mean, mask=in_m)
        tl.store(rstd_ptr + rm, rstd, mask=in_m)


# (rows, columns, K, warps, stages) for every width of layer; of several for one width lg.cuda.tune() finds the fastest.
# Fast ones take aligned operands and whole steps of K; the general ones, within the shared memory of any device, take
# everything. Shared memory and spills are checked by tools/build_kernels.py: an accumulator of rows columns /
# (32 warps) registers a thread, and shared memory for stages (rows + columns) K numbers.
FAST = {
    ("half", (90, 100)): (
        (128, 128, 64, 8, 3), (64, 128, 64, 4, 3), (64, 256, 64, 8, 3), (128, 256, 64, 16, 3),
        (64, 512, 32, 16, 3), (64, 512, 64, 16, 2), (32, 1024, 32, 16, 3),
    ),
    ("half", (80, 120)): ((64, 128, 32, 8, 3), (64, 256, 32, 8, 3), (32, 512, 32, 16, 2), (16, 1024, 32, 16, 1)),
    ("fp32", (90, 100)): ((64, 128, 32, 8, 3), (64, 256, 32, 16, 2), (32, 512, 16, 16, 3), (16, 1024, 16, 16, 2)),
    ("fp32", (80, 120)): ((64, 128, 16, 8, 3), (32, 256, 16, 8, 3), (32, 512, 16, 16, 2), (16, 1024, 16, 16, 1)),
}  # fmt: skip
GENERAL = ((32, 128, 16, 8, 2), (32, 256, 16, 8, 2), (16, 512, 16, 16, 2), (16, 1024, 16, 16, 1))


def kernels(dtype: str) -> list[Kernel]:
    pointers = ("x_ptr", "w_ptr", "b_ptr", "gamma_ptr", "beta_ptr", "y_ptr", "h_ptr")
    types = dict.fromkeys(pointers, f"*{dtype}") | {"mean_ptr": "*fp32", "rstd_ptr": "*fp32"}
    types |= dict.fromkeys(("M", "N", "K", "ldx", "ldw"), "i32") | {"eps": "fp32", "keep": "i32"}

    def variant(m, n, k, warps, stages, precision, archs, even):
        return Variant(
            {"BLOCK_M": m, "BLOCK_N": n, "BLOCK_K": k, "K_EVEN": even, "PRECISION": precision},
            grid=((("M", m),),),
            when=(("N", "<=", n), ("K", "%", k)) if even else (("N", "<=", n),),
            choices=("PRECISION",),
            aligned=(*pointers, "N", "K", "ldx", "ldw") if even else (),
            warps=warps, stages=stages, archs=archs,
        )  # fmt: skip

    ways = []
    for precision in ("tf32", "ieee") if dtype == "fp32" else ("tf32",):
        for (kind, archs), tiles in FAST.items():
            if kind == ("fp32" if dtype == "fp32" else "half"):
                ways += [variant(*tile, precision, archs, True) for tile in tiles]
        ways += [variant(*tile, precision, (80,), False) for tile in GENERAL]
    return [Kernel("fused_mlp_forward", fused_mlp_forward, types, tuple(ways), tune=("M", "N", "K"))]


KERNELS = for_each_type(("fp32", "fp16", "bf16"), kernels)
