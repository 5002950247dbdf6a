"""repr of tensors: NumPy's layout of the numbers, inside tensor(...)."""

import numpy as np
import pytest

import lightgrad as lg

OPTIONS = {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 88, "suppress": False}


def as_numpy(a, suffix=""):
    """What NumPy prints for array(a), with our name in front."""
    with np.printoptions(**OPTIONS):
        body = np.array2string(a, separator=", ", prefix="tensor(")
    return f"tensor({body}{suffix})"


VALUES = {
    "whole": [1.0, 2.0, 3.0],
    "halves": [1.5, 2.25, -3.0],
    "long fractions": [0.1234567, 1.5, 12.345678],
    "negative": [-1.0, 0.0, 1.0],
    "zeros": [0.0, 0.0],
    "nan and inf": [1.0, np.nan, np.inf, -np.inf],
    "only nan": [np.nan, np.nan],
    "large": [123456.0, 1.5],
    "wide range": [1e-3, 1.0, 999.0],
    "tiny": [1e-10, 2.5e-10],
    "huge": [1e10, 2.5e20],
    "mixed exponents": [1e-6, 1.0, 1e6],
    "one": [3.25],
    "empty": [],
}


@pytest.mark.parametrize("name", VALUES)
def test_floats(name):
    a = np.array(VALUES[name], dtype=np.float64)
    suffix = ", shape=[0]" if name == "empty" else ""
    assert repr(lg.tensor(a)) == as_numpy(a, suffix + ", dtype=float64")


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (1, 1), (3, 1, 2), (2, 2, 2, 2), (40,), (3, 30)])
def test_layout(shape):
    a = np.arange(int(np.prod(shape))).reshape(shape)
    assert repr(lg.tensor(a)) == as_numpy(a)
    f = a.astype(np.float32) / 8
    assert repr(lg.tensor(f)) == as_numpy(f)


@pytest.mark.parametrize("shape", [(1001,), (50, 50), (5, 500), (500, 5), (20, 20, 20)])
def test_long_axes_are_summarised(shape):
    a = np.arange(int(np.prod(shape))).reshape(shape)
    assert repr(lg.tensor(a)) == as_numpy(a)


def test_integers_and_bools():
    for a in (np.array([-1, 20, 300]), np.array([[True, False], [False, True]])):
        assert repr(lg.tensor(a)) == as_numpy(a)
    assert repr(lg.tensor([1, 2], dtype=lg.int32)) == "tensor([1, 2], dtype=int32)"


def test_scalars():
    assert repr(lg.tensor(2.5)) == "tensor(2.5)"
    assert repr(lg.tensor(3.0)) == "tensor(3.)"
    assert repr(lg.tensor(3)) == "tensor(3)"
    assert repr(lg.tensor(True)) == "tensor(True)"
    assert repr(lg.tensor(float("nan"))) == "tensor(nan)"


def test_what_else_is_said():
    assert repr(lg.ones(2, requires_grad=True)) == "tensor([1., 1.], requires_grad=True)"
    assert repr(lg.ones(2, dtype=lg.bfloat16)) == "tensor([1., 1.], dtype=bfloat16)"
    assert repr(lg.ones(2, 0)) == "tensor([], shape=[2, 0])"
    assert str(lg.ones(1)) == repr(lg.ones(1))


def test_views_print_what_they_show():
    x = lg.arange(6).view(2, 3)
    assert repr(x.T) == as_numpy(np.arange(6).reshape(2, 3).T)
    assert repr(x[:, ::-1]) == as_numpy(np.arange(6).reshape(2, 3)[:, ::-1])
