"""LightGrad: tensors with gradients, neural networks and their optimizers, on a C++ engine.

    import lightgrad as lg

    x = lg.randn(3, requires_grad=True)
    (x * x).sum().backward()
    print(x.grad)

Names and defaults are PyTorch's where PyTorch has them.
"""

from lightgrad import _core, autograd, memory
from lightgrad._core import *  # noqa: F403  the operations, and what stands around them
from lightgrad._core import __version__
from lightgrad._numbers import finfo, iinfo
from lightgrad.autograd import (
    enable_grad,
    inference_mode,
    no_grad,
    set_grad_enabled,
)

TYPE_CHECKING = False  # type checkers know the name; importing typing would take as long as all the rest
if TYPE_CHECKING:
    from lightgrad import amp, cuda, datasets, io, nn, optim, profiler, transforms, utils
    from lightgrad.amp import autocast
    from lightgrad.io import load, save

__all__ = [
    *_core.__all__,
    "__version__",
    "amp",
    "autocast",
    "autograd",
    "cuda",
    "datasets",
    "enable_grad",
    "finfo",
    "iinfo",
    "inference_mode",
    "io",
    "load",
    "memory",
    "nn",
    "no_grad",
    "optim",
    "profiler",
    "save",
    "set_grad_enabled",
    "transforms",
    "utils",
]

_core._cuda._set_own_kernels(__path__[0] + "/kernels")  # noqa: F405  where a wheel has some

# PyTorch's other names for some operations, as functions and as methods.
_ALIASES = {
    "absolute": "abs",
    "clip": "clamp",
    "divide": "div",
    "greater": "gt",
    "greater_equal": "ge",
    "less": "lt",
    "less_equal": "le",
    "multiply": "mul",
    "negative": "neg",
    "not_equal": "ne",
    "subtract": "sub",
    "swapaxes": "transpose",
    "true_divide": "div",
}
for _alias, _name in _ALIASES.items():
    globals()[_alias] = getattr(_core, _name)
    setattr(_core.Tensor, _alias, getattr(_core.Tensor, _name))
concat = _core.cat
del _alias, _name


_ROOM_OF = {"load": "io", "save": "io", "autocast": "amp"}


def __getattr__(name):
    """Imports the rooms io, nn, optim, datasets, ... when they are first asked for."""
    import importlib
    import importlib.util

    if room := _ROOM_OF.get(name):
        return getattr(importlib.import_module(f"lightgrad.{room}"), name)
    if not name.startswith("_") and importlib.util.find_spec(f"lightgrad.{name}"):
        return importlib.import_module(f"lightgrad.{name}")
    raise AttributeError(f"module 'lightgrad' has no attribute {name!r}")
