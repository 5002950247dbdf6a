"""Gradients: grad modes, functional gradients, operations of your own, and checks."""

import functools

from lightgrad._core import (
    FunctionContext,
    Tensor,
    _record_function,
    _set_grad_enabled,
    grad,
    gradcheck,
    gradgradcheck,
    is_anomaly_enabled,
    is_grad_enabled,
    set_detect_anomaly,
)

__all__ = [
    "Function",
    "FunctionContext",
    "backward",
    "detect_anomaly",
    "enable_grad",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "inference_mode",
    "is_anomaly_enabled",
    "is_grad_enabled",
    "no_grad",
    "set_detect_anomaly",
    "set_grad_enabled",
]


class _GradMode:
    """A context manager that is a decorator, too: `with no_grad():`, `@no_grad()`, `@no_grad`."""

    __slots__ = ("_before",)
    _mode = False

    def __new__(cls, function=None):
        self = object.__new__(cls)
        return self if function is None else self(function)

    def __enter__(self):
        self._before = _set_grad_enabled(self._mode)
        return self

    def __exit__(self, *_):
        _set_grad_enabled(self._before)

    def __call__(self, function):
        mode = self._mode

        @functools.wraps(function)
        def wrapped(*args, **kwargs):
            before = _set_grad_enabled(mode)
            try:
                return function(*args, **kwargs)
            finally:
                _set_grad_enabled(before)

        return wrapped


class no_grad(_GradMode):
    """Operations inside record no graph."""

    __slots__ = ()


class inference_mode(_GradMode):
    """As no_grad."""

    __slots__ = ()


class enable_grad(_GradMode):
    """Operations inside record a graph, also within no_grad."""

    __slots__ = ()
    _mode = True


class set_grad_enabled(_GradMode):
    """Switches recording on or off at once; as a context manager, until the block ends."""

    __slots__ = ("_mode",)

    def __new__(cls, mode):
        self = object.__new__(cls)
        self._mode = bool(mode)
        self._before = _set_grad_enabled(self._mode)
        return self

    def __enter__(self):
        _set_grad_enabled(self._mode)
        return self

    def __call__(self, function):
        _set_grad_enabled(self._before)  # a decorator changes nothing outside the function
        return super().__call__(function)


class detect_anomaly:
    """Inside, the first operation that makes a NaN or infinity raises an error with its name."""

    __slots__ = ("_before", "_mode")

    def __init__(self, mode=True):
        self._mode = mode

    def __enter__(self):
        self._before = is_anomaly_enabled()
        set_detect_anomaly(self._mode)
        return self

    def __exit__(self, *_):
        set_detect_anomaly(self._before)


def backward(tensors, grad_tensors=None, retain_graph=False, create_graph=False):
    """Adds the gradients of the sum of `tensors` to the leaves' .grad."""
    tensors = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    gradients = [grad_tensors] if isinstance(grad_tensors, Tensor) else grad_tensors
    gradients = list(gradients) if gradients is not None else [None] * len(tensors)
    if len(gradients) != len(tensors):
        raise ValueError(f"backward: got {len(tensors)} tensors but {len(gradients)} gradients")
    for i, (tensor, gradient) in enumerate(zip(tensors, gradients, strict=True)):
        keep = retain_graph or create_graph or i + 1 < len(tensors)  # they may share a graph
        tensor.backward(gradient, retain_graph=keep, create_graph=create_graph)


class Function:
    """An operation with a gradient of its own:

    class Cube(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x * x

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * 3 * x * x

    y = Cube.apply(x)

    `forward` runs without a graph and may take anything; `backward` gives one gradient per argument, None for those
    that are no tensors. Written in operations, it can be differentiated again. Keep tensors by `save_for_backward`,
    not as attributes of ctx: a kept output would keep itself alive.
    """

    @staticmethod
    def forward(ctx, *args):
        raise NotImplementedError("Function: a subclass defines the static method forward(ctx, ...)")

    @staticmethod
    def backward(ctx, *gradients):
        raise NotImplementedError("Function: a subclass defines the static method backward(ctx, *gradients)")

    @classmethod
    def apply(cls, *args):
        ctx = FunctionContext()
        ctx.needs_input_grad = [isinstance(a, Tensor) and a.requires_grad for a in args]
        before = _set_grad_enabled(False)
        try:
            outputs = cls.forward(ctx, *args)
        finally:
            _set_grad_enabled(before)
        single = not isinstance(outputs, tuple)
        recorded = _record_function(cls.__name__, args, (outputs,) if single else outputs, ctx, ctx, cls.backward)
        return recorded[0] if single else recorded
