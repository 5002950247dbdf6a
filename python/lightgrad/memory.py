"""The caching allocator: how much memory tensors hold, and giving back what is only kept for reuse."""

from lightgrad import _core


def stats():
    """Bytes handed out now (`current`), the most so far (`peak`), kept for reuse (`cached`), and the number of
    `allocations`, of which `system_allocations` asked the operating system.

    `uses` has `current` and `peak` for `parameters` (leaves that want a gradient), `gradients` (of leaves),
    `optimizer` (its state), `activations` (what a graph keeps, or kept, for its backward pass) and `other` (all the
    rest). The current ones add up to `current`; the peaks are those of different moments.
    """
    return _core._memory_stats()


def reset_peak():
    """Lets `peak` start again from what is in use now."""
    _core._reset_peak_memory()


def trim():
    """Gives every cached block back to the operating system."""
    _core._trim_memory()


_ASKED = object()


def limit(bytes=_ASKED):
    """Sets the most bytes that tensors may hold, as `current` of stats() counts them; None or 0: no limit. Without an
    argument: the limit, or None.

    An allocation that would go over it first gives back what is only kept for reuse, and where that is not enough
    raises a MemoryError that says what memory serves and who holds most of it; everything stays usable. ValueError
    below 0.
    """
    if bytes is _ASKED:
        return _core._memory_limit() or None
    return _core._set_memory_limit(int(bytes or 0))
