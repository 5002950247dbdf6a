"""NVIDIA devices. Tensors and modules move with `to("cuda")` and back with `to("cpu")`.

The kernels are Triton's, compiled beforehand: neither Triton nor the CUDA toolkit is needed, only the driver. Where
there is none, `is_available()` is False, and everything on the CPU is as it was.
"""

import contextlib
import json
import os
from pathlib import Path

from lightgrad._core._cuda import (
    Event,
    _start_tuning,
    _stop_tuning,
    allow_tf32,
    device_count,
    empty_cache,
    get_device_capability,
    get_device_name,
    is_available,
    kernels_folder,
    load_kernels,
    memory_stats,
    reset_peak_memory,
    synchronize,
    why_not_available,
)

__all__ = [
    "Event",
    "allow_tf32",
    "device_count",
    "empty_cache",
    "get_device_capability",
    "get_device_name",
    "is_available",
    "kernels_folder",
    "load_kernels",
    "memory_allocated",
    "memory_stats",
    "reset_peak_memory",
    "synchronize",
    "tune",
    "why_not_available",
]


def memory_allocated(index=0):
    """Bytes that tensors on the device hold."""
    return memory_stats(index)["current"]


@contextlib.contextmanager
def tune(index=0):
    """Finds the fastest way to run what runs within it, and keeps it: `with lg.cuda.tune() as winners: step()`.

    Matrix products and fused layers are compiled with tiles of several sizes. Within this scope the first launch at
    each size measures them on the device, which takes some milliseconds each. At its end the winners are written into
    the manifest of `kernels_folder()`, for devices of this name, and every later launch takes them, in this process and
    in others. `winners` is then the list of what was measured: kernel, sizes (rounded up to powers of two), and the
    milliseconds of a launch before and after. Results may differ from earlier ones in their last bits, because other
    tiles add in another order. Should the scope end by an error, nothing is written.
    """
    _start_tuning(index)
    winners = []
    try:
        yield winners
    except BaseException:
        _stop_tuning(index)
        raise
    winners += _stop_tuning(index)
    folder = kernels_folder()
    manifest = Path(folder, "manifest.json")
    head, mark, tuned = manifest.read_text().rpartition('"tuned": ')
    device = get_device_name(index)
    known = {_key(row): row for row in json.loads(tuned.removesuffix("}\n"))}
    for winner in winners:
        row = {"device": device} | {k: winner[k] for k in ("kernel", "instead_of", "sizes", "take")}
        known.pop(_key(row), None)
        if row["take"] != row["instead_of"]:
            known[_key(row)] = row
    lines = ",\n  ".join(json.dumps(row) for row in known.values())
    partial = manifest.with_suffix(f".{os.getpid()}.part")
    try:
        partial.write_text(f"{head}{mark}[{lines}]}}\n")
        os.replace(partial, manifest)
    finally:
        partial.unlink(missing_ok=True)
    load_kernels(folder)


def _key(row):
    return row["device"], row["kernel"], row["instead_of"], tuple(row["sizes"])
