"""finfo and iinfo: the limits of a dtype's numbers. Without NumPy, which need not be installed."""

from lightgrad import _core

# Bits of the fraction, smallest and largest exponent.
_FLOATS = {
    _core.float64: (52, -1022, 1023),
    _core.float32: (23, -126, 127),
    _core.float16: (10, -14, 15),
    _core.bfloat16: (7, -126, 127),
}
_INTEGERS = {_core.uint8: (0, 255), _core.int32: (-(2**31), 2**31 - 1), _core.int64: (-(2**63), 2**63 - 1)}


class finfo:
    """Limits of a floating-point dtype: bits, eps, max, min, tiny, smallest_normal."""

    def __init__(self, dtype=None):
        self.dtype = _core.get_default_dtype() if dtype is None else dtype
        if self.dtype not in _FLOATS:
            raise TypeError(f"finfo: expected a floating-point dtype, got {self.dtype}; use iinfo")
        fraction, low, high = _FLOATS[self.dtype]
        self.bits = 8 * self.dtype.itemsize
        self.eps = 2.0**-fraction
        self.max = (2 - self.eps) * 2.0**high
        self.min = -self.max
        self.tiny = self.smallest_normal = 2.0**low

    def __repr__(self):
        return f"finfo({self.dtype}, bits={self.bits}, eps={self.eps}, max={self.max}, tiny={self.tiny})"


class iinfo:
    """Limits of an integer dtype: bits, min, max."""

    def __init__(self, dtype):
        if dtype not in _INTEGERS:
            raise TypeError(f"iinfo: expected an integer dtype, got {dtype}; use finfo")
        self.dtype = dtype
        self.bits = 8 * dtype.itemsize
        self.min, self.max = _INTEGERS[dtype]

    def __repr__(self):
        return f"iinfo({self.dtype}, bits={self.bits}, min={self.min}, max={self.max})"
