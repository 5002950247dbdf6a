"""NVIDIA devices. Tensors and modules move with `to("cuda")` and back with `to("cpu")`.

The kernels are Triton's, compiled beforehand: neither Triton nor the CUDA toolkit is needed, only the driver. Where
there is none, `is_available()` is False, and everything on the CPU is as it was.
"""

from lightgrad._core._cuda import (
    Event,
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
    "why_not_available",
]


def memory_allocated(index=0):
    """Bytes that tensors on the device hold."""
    return memory_stats(index)["current"]
