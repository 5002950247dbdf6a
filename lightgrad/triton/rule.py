"""The vocabulary of launch rules: what a kernel is called, what it takes, how it is compiled and when each way fits.

A rule is data: tools/build_kernels.py compiles its variants and writes the same facts into the manifest, from which
lightgrad/backend/cuda chooses and launches. Knows nothing of compilers or devices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

EXACT = (80, 90, 100, 120)  # the architectures with a cubin of their own
# Shared memory that a program may ask for, in bytes, by architecture. An sm_80 variant serves 8.6, 8.9 and, as PTX,
# whatever comes later: it stays within the smallest.
SHARED = {80: 101376, 90: 232448, 100: 232448, 120: 101376}
BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}


@dataclass(frozen=True)
class Variant:
    """One way to compile a kernel. Of the variants that fit a launch, the first in its rule's order is taken."""

    constants: dict[str, Any]
    # Programs along each axis: the product of ceil(argument / number); an argument may also be a plain number.
    grid: tuple[tuple[tuple[str | int, int], ...], ...]
    # What the arguments must satisfy: ("N", "<=", 512), ("K", "%", 32).
    when: tuple[tuple[str, str, int], ...] = ()
    # Constants that the caller chooses by value; the rest are the compiler's business.
    choices: tuple[str, ...] = ()
    aligned: tuple[str, ...] = ()  # arguments that are multiples of 16 (pointers: of 16 bytes)
    warps: int = 4
    stages: int = 2
    ctas: int = 1  # programs that share a cluster
    archs: tuple[int, ...] = EXACT


@dataclass(frozen=True)
class Kernel:
    """A kernel under one name, for one combination of element types."""

    name: str
    function: Any  # what @triton.jit made
    types: dict[str, str]  # of every argument that is not a constant, in order: "*bf16", "i32", "fp32"
    variants: tuple[Variant, ...]
    # The arguments that decide which of the variants that fit is the fastest. lg.cuda.tune() measures them by running
    # the same launch many times, so the kernel reads nothing that it writes.
    tune: tuple[str, ...] = ()


def aligned_or_not(variants: list[Variant], arguments: tuple[str, ...]) -> tuple[Variant, ...]:
    """Every variant for arguments that are multiples of 16 (wide loads); after those, the last one for any others."""
    from dataclasses import replace

    return tuple(replace(v, aligned=arguments) for v in variants) + (variants[-1],)


def for_each_type(types: tuple[str, ...], make: Callable[[str], list[Kernel]]) -> list[Kernel]:
    return [kernel for t in types for kernel in make(t)]
