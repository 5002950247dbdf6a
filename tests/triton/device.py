"""A CUDA device for tests: the stand-in of fake_cuda/, which runs kernels by Triton's interpreter, or a real one.

LIGHTGRAD_TEST_GPU=1 takes what the machine has. The stand-in has to be loaded before LightGrad looks for the driver:
the dynamic loader then gives it the library that it has already, by its name libcuda.so.1.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import traceback
from pathlib import Path

import numpy as np
from interpreter import Pointer

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = ROOT / "build" / "fake_cuda" / "libcuda.so.1"
REAL = os.environ.get("LIGHTGRAD_TEST_GPU") == "1"
ILLEGAL_ADDRESS, MISALIGNED, FAILED = 700, 716, 719

IDENTIFY = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
EXECUTE = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.POINTER(ctypes.c_uint),
    ctypes.c_int,
    ctypes.POINTER(ctypes.c_int),
    ctypes.POINTER(ctypes.c_void_p),
)
FORMATS = {"i32": "<i", "i64": "<q", "fp32": "<f"}


class StandIn:
    """The stand-in, running the kernels of a bundle by the interpreter."""

    def __init__(self, bundle: Path, kernels: list):
        self.library = ctypes.CDLL(str(STAND_IN), mode=ctypes.RTLD_GLOBAL)
        self.library.fake_cuda_refusal.restype = ctypes.c_char_p
        self.library.fake_cuda_bytes.restype = ctypes.c_void_p
        self.library.fake_cuda_bytes.argtypes = [ctypes.c_uint64]
        self.library.fake_cuda_gaps_are_clean.restype = ctypes.c_bool
        self.bundle, self.problems, self.launched = bundle, [], []
        self.last, self.delay = None, None  # the row launched last; how many ms more, by its clock, a row takes
        self.rows = json.loads((bundle / "manifest.json").read_text())["variants"]
        self.kernels = {(k.name, *k.types.values()): k for k in kernels}
        self.codes: dict[bytes, int] = {}
        for i, row in enumerate(self.rows):
            for kind, digest in row["blobs"].items():
                self.codes.setdefault((bundle / f"{digest}.{kind}").read_bytes(), i)
        self.callbacks = IDENTIFY(self.identify), EXECUTE(self.execute)
        self.library.fake_cuda_install(*self.callbacks)

    def identify(self, code: int, size: int) -> int:
        return self.codes.get(ctypes.string_at(code, size), -1)

    def execute(self, module, entry, grid, count, sizes, values) -> int:
        try:
            return self._execute(module, entry.decode(), list(grid[:3]), [sizes[i] for i in range(count)], values)
        except Exception:
            self.problems.append(traceback.format_exc())
            return FAILED

    def _execute(self, module, entry, grid, sizes, values) -> int:
        row = self.rows[module]
        names, types, multiples = zip(*row["args"], strict=True)
        assert row["entry"] == entry
        # What the code itself says of its parameters, against the manifest: two addresses of scratch come last.
        wanted = [8 if t[0] == "*" else struct.calcsize(FORMATS[t]) for t in types] + [8, 8]
        assert sizes == wanted, f"{entry}: parameters of {sizes} bytes, the manifest says {wanted}"
        kernel = self.kernels[(row["kernel"], *types)]
        assert tuple(kernel.types) == names
        arguments = []
        for i, (type_, multiple) in enumerate(zip(types, multiples, strict=True)):
            raw = ctypes.string_at(values[i], sizes[i])
            (number,) = struct.unpack("<Q" if type_[0] == "*" else FORMATS[type_], raw)
            if multiple > 1 and number % multiple:
                return MISALIGNED
            if type_[0] == "*":
                place = self.library.fake_cuda_bytes(number) if number else 0
                if number and not place:
                    return ILLEGAL_ADDRESS
                number = Pointer(place, type_[1:])
            arguments.append(number)
        grid[0] //= row["ctas"]
        self.last = row
        if self.delay:
            self.library.fake_cuda_pass(self.delay(row))
        self.launched.append((row["kernel"], row["arch"], types[0]))
        with np.errstate(all="ignore"):
            kernel.function[tuple(grid)](*arguments, **row["constants"])
        return 0

    @property
    def blocks(self) -> int:
        return self.library.fake_cuda_blocks()

    @property
    def events(self) -> int:
        return self.library.fake_cuda_events()

    def check(self) -> None:
        """No kernel failed, and none wrote outside of what it was given."""
        assert not self.problems, self.problems[0]
        assert self.library.fake_cuda_gaps_are_clean(), "a kernel wrote outside of the tensors"
