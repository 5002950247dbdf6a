"""Elementary functions that the generated pointwise kernels speak of, on float32. NaN passes through all of them."""

import triton
import triton.language as tl
from triton.language.extra import libdevice


@triton.jit
def maximum(x, y):
    return tl.maximum(x, y, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def minimum(x, y):
    return tl.minimum(x, y, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def sign(x):
    return tl.where(x > 0, 1.0, tl.where(x < 0, -1.0, x * 0.0))


@triton.jit
def sigmoid(x):
    # By e^-|x|, which never overflows: small results keep their digits.
    e = libdevice.exp(-tl.abs(x))
    return tl.where(x < 0, e, 1.0) / (1.0 + e)


@triton.jit
def normal_cdf(x):
    return 0.5 * libdevice.erfc(x * -0.7071067811865476)


@triton.jit
def gelu_cdf(x):
    return normal_cdf(x)


@triton.jit
def gelu(x):
    return x * normal_cdf(x)


@triton.jit
def gelu_tanh(x):
    return x * sigmoid(1.5957691216057308 * (x + 0.044715 * (x * x * x)))


@triton.jit
def remainder(x, y):
    # Python's: it has y's sign.
    r = libdevice.fmod(x, y)
    return tl.where((r != 0) & ((r < 0) != (y < 0)), r + y, r)


@triton.jit
def floor_divide(x, y):
    r = libdevice.fmod(x, y)
    q = (x - r) / y
    q = tl.where((r != 0) & ((r < 0) != (y < 0)), q - 1.0, q)
    whole = libdevice.floor(q)
    whole = tl.where(q - whole > 0.5, whole + 1.0, whole)
    return tl.where(y == 0, x / y, tl.where(q == 0, x / y * 0.0, whole))
