"""Mixed precision: products in half precision, sums, losses and weights in float32.

    with lg.autocast(dtype=lg.bfloat16):
        loss = model(x, target)
    loss.backward()

float16, whose smallest numbers are not so small, also wants a GradScaler.
"""

import functools

from lightgrad._core import bfloat16
from lightgrad._core.amp import GradScaler, _enter, _leave, _why_slow, autocast_dtype, is_autocast_enabled

__all__ = ["GradScaler", "autocast", "autocast_dtype", "is_autocast_enabled"]

_said = False


def _warn_once(dtype):
    global _said
    why = _why_slow(dtype)
    if why and not _said:
        import warnings

        _said = True
        warnings.warn(f"autocast: {why}", stacklevel=3)


class autocast:
    """A context manager, and a decorator, inside of which operations choose their precision: matrix products,
    convolutions and attention run in `dtype` (bfloat16 or float16), sums, norms, exponentials and losses in float32,
    the others in what they are given. Scopes nest; `enabled=False` turns it off inside. backward() needs no scope:
    it runs in the dtypes of the forward pass. The first scope whose dtype is slower than float32 on this machine
    warns, once, and says why.

    `device_type` is there for programs written for PyTorch: "cpu" is the only one.
    """

    __slots__ = ("_before", "_dtype", "_enabled")

    def __init__(self, device_type="cpu", dtype=bfloat16, enabled=True):
        if device_type != "cpu":
            raise ValueError(f"autocast: device_type is {device_type!r}, expected 'cpu'")
        self._dtype, self._enabled, self._before = dtype, enabled, []

    def __enter__(self):
        if self._enabled:
            _warn_once(self._dtype)
        self._before.append(_enter(self._dtype, self._enabled))
        return self

    def __exit__(self, *_):
        _leave(self._before.pop())

    def __call__(self, function):
        @functools.wraps(function)
        def wrapped(*args, **kwargs):
            with autocast(dtype=self._dtype, enabled=self._enabled):
                return function(*args, **kwargs)

        return wrapped
