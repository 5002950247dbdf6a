"""Runs the Triton kernels on the CPU by Triton's interpreter, on memory of NumPy's: no PyTorch, no GPU.

TRITON_INTERPRET=1 has to be set before Triton is imported. Two things are lent to the interpreter: it multiplies the
bits of bfloat16 as if they were numbers, and it knows nothing of NVIDIA's library of functions.
"""

from __future__ import annotations

import math
import os

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import triton.language as tl
from triton.language.extra import libdevice
from triton.runtime import interpreter

NUMPY = {"fp32": np.float32, "fp16": np.float16, "bf16": np.uint16, "u8": np.uint8, "i32": np.int32, "i64": np.int64}
TRITON = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "u8": "uint8"}


def to_bits(x: np.ndarray, dtype: str) -> np.ndarray:
    """Numbers as memory of `dtype` holds them; bfloat16 by its bits, rounded to nearest even."""
    if dtype != "bf16":
        return np.ascontiguousarray(x, dtype=NUMPY[dtype])
    bits = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(x), 0x7FC0, rounded).astype(np.uint16)


def to_float(x: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "bf16":
        return (x.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return x.astype(np.float64)


class Pointer:
    """As much of a tensor as the interpreter asks for: an address in this process, and an element type."""

    def __init__(self, address: int, dtype: str):
        self.address, self.dtype = int(address), TRITON[dtype]

    def data_ptr(self):
        return self.address

    def untyped_storage(self):
        return self

    def cpu(self):
        return self

    def new_empty(self, *_, **__):
        return self

    def copy_(self, _):
        pass

    def set_(self, *_):
        pass

    def storage_offset(self):
        return 0

    def size(self):
        return ()

    def stride(self):
        return ()


def _products_of_numbers():
    create_dot = interpreter.InterpreterBuilder.create_dot

    def widened(handle):
        if handle.dtype.scalar != tl.bfloat16:
            return handle
        return interpreter.TensorHandle((handle.data.astype(np.uint32) << 16).view(np.float32), tl.float32)

    def dot(self, a, b, d, precision, imprecise):
        return create_dot(self, widened(a), widened(b), d, precision, imprecise)

    interpreter.InterpreterBuilder.create_dot = dot


def _functions():
    each = lambda f: np.vectorize(f, otypes=[np.float32])
    functions = {name: getattr(np, name) for name in ("exp", "expm1", "log", "log1p", "sin", "cos", "tanh")}
    functions |= {name: getattr(np, name) for name in ("floor", "ceil", "rint", "trunc", "fmod")}
    functions |= {"erf": each(math.erf), "erfc": each(math.erfc), "pow": np.power}

    def numeric(function):
        def call(*arguments, _semantic=None):
            x = next(a for a in arguments if isinstance(a, tl.tensor))
            data = [a.handle.data if isinstance(a, tl.tensor) else np.float32(a) for a in arguments]
            with np.errstate(all="ignore"):
                return tl.tensor(interpreter.TensorHandle(function(*data).astype(np.float32), tl.float32), x.type)

        return call

    for name, function in functions.items():
        setattr(libdevice, name, numeric(function))


_products_of_numbers()
_functions()


def fits(variant, values: dict) -> bool:
    """Whether the loader would take the variant: the same rule as in lightgrad/backend/cuda."""
    test = {"<=": lambda a, b: a <= b, "%": lambda a, b: a % b == 0, "==": lambda a, b: a == b}
    aligned = all(int(values[name]) % 16 == 0 for name in variant.aligned)
    chosen = all(variant.constants[name] == values[name] for name in variant.choices)
    return aligned and chosen and all(test[op](values[name], number) for name, op, number in variant.when)


def grid_of(variant, values: dict) -> tuple[int, ...]:
    size = lambda a: values[a] if isinstance(a, str) else a
    value = lambda n: values[n] if isinstance(n, str) else n
    return tuple(math.prod(max(1, -(-size(a) // value(n))) for a, n in axis) for axis in variant.grid)


def launch(kernel, values: dict, variant=None) -> object:
    """Runs kernel on arrays and numbers by name, as the first variant that fits; returns that."""
    address = lambda v: v.ctypes.data if isinstance(v, np.ndarray) else 0 if v is None else v
    addresses = {k: address(v) for k, v in values.items()}
    if variant is None:
        variant = next(v for v in kernel.variants if fits(v, addresses))
    arguments = []
    for name, dtype in kernel.types.items():
        v = values[name]
        if dtype[0] == "*":
            if v is not None:
                assert v.dtype == NUMPY[dtype[1:]] and v.flags.c_contiguous, (name, dtype, v.dtype)
            arguments.append(Pointer(0 if v is None else v.ctypes.data, dtype[1:]))
        else:
            arguments.append(float(v) if dtype == "fp32" else int(v))
    with np.errstate(all="ignore"):
        kernel.function[grid_of(variant, values)](*arguments, **variant.constants)
    return variant
