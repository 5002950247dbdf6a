"""Launch rules of the pointwise kernels, whose text tools/write_pointwise.cpp makes from the blocks of the operations.

All are computed in float32. Flat ones take contiguous operands whose length is a multiple of 16; the strided ones take
any two-dimensional arrangement (a value for all, a row for all rows, a transposed matrix), and every length.
Besides: copies with a change of type.
"""

import triton
import triton.language as tl

from .rule import Kernel, Variant

BLOCK = 1024
TYPES = ("fp32", "fp16", "bf16")
# Memory is the limit: nothing is gained by code for later architectures, which compile the PTX of the first. The same
# goes for all of them where operands are strided.
ARCHS = (80, 90)


def variants(operands: tuple[str, ...], strided: bool) -> tuple[Variant, ...]:
    aligned = () if strided else (*(f"{o}_ptr" for o in operands), "out_ptr", "n")
    archs = ARCHS[:1] if strided else ARCHS
    return (Variant({"BLOCK": BLOCK}, ((("n", BLOCK),),), aligned=aligned, warps=4, archs=archs),)


def rule(
    name, flat, strided, operands: tuple[str, ...], attributes: int, truth: bool = False, types=None
) -> list[Kernel]:
    """Both kernels of a formula for every type; types: pairs (of the operands, of the result)."""
    out = []
    for given, result in types or [(t, "u8" if truth else t) for t in TYPES]:
        shared = {f"{o}_ptr": f"*{given}" for o in operands} | {"out_ptr": f"*{result}"}
        shared |= {f"a{i}": "fp32" for i in range(attributes)} | {"n": "i64"}
        places = {"columns": "i64"} | {f"{o}_{axis}": "i64" for o in operands for axis in ("row", "column")}
        out.append(Kernel(name, flat, shared, variants(operands, False)))
        out.append(Kernel(f"{name}_strided", strided, shared | places, variants(operands, True)))
    return out


@triton.jit
def copy_flat(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = i < n
    x = tl.load(x_ptr + i, mask=mask).to(tl.float32)
    tl.store(out_ptr + i, x.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def copy_strided(x_ptr, out_ptr, n, columns, x_row, x_column, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = i < n
    row = i // columns
    column = i - row * columns
    x = tl.load(x_ptr + row * x_row + column * x_column, mask=mask).to(tl.float32)
    tl.store(out_ptr + i, x.to(out_ptr.dtype.element_ty), mask=mask)


KERNELS = rule("copy", copy_flat, copy_strided, ("x",), 0, types=[(a, b) for a in (*TYPES, "u8") for b in TYPES])
