"""Bundles of compiled kernels for tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
POINTWISE = ROOT / "build" / "triton" / "pointwise.py"  # CMake's target pointwise_kernels
# The bundle that the device's tests run on: every kernel by hand, and enough of the pointwise ones.
POINTWISE_USED = (
    "add",
    "sub",
    "mul",
    "div",
    "relu",
    "gelu_erf",
    "gelu_tanh",
    "exp",
    "where",
    "gt",
    "clamp",
    "leaky_relu",
    "neg",
)


def used_kernels(kernels) -> list[str]:
    def is_used(name):
        base = name.removesuffix("_strided").partition("_vjp_")[0]
        return base in (*POINTWISE_USED, "copy") or base.startswith(("fused", "matmul", "layer", "column"))

    return sorted({k.name for k in kernels if is_used(k.name)})


def build_bundle(out: Path, *arguments: str) -> Path:
    cache = ROOT / "build" / "triton" / "cache"  # by the sources' hashes: what did not change is not compiled again
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"TRITON_CACHE_DIR": str(cache)}
    command = [sys.executable, ROOT / "tools" / "build_kernels.py", out, "--generated", POINTWISE, *arguments]
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out
