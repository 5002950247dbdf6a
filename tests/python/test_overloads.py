"""PyTorch's other argument forms of operations (python/bind/overloads.cpp): what op_db's samples leave out."""

import numpy as np
import pytest

import lightgrad as lg

X = np.array([-7, -2, 0, 3, 8])


@pytest.mark.parametrize("bounds", [(0, 2), (-1, None), (None, 1), (0.5, 2.5), (2, -2)])
def test_clamp_of_integers(bounds):
    """A bound with a fraction gives fractions; max wins over min."""
    low, high = bounds
    y = lg.tensor(X).clamp(low, high)
    expected = X if low is None else np.maximum(X, low)
    expected = expected if high is None else np.minimum(expected, high)
    assert y.tolist() == expected.tolist()
    assert y.dtype == (lg.float32 if 0.5 in bounds else lg.int64)


def test_clamp_between_tensors():
    x = lg.tensor([-1.0, 0.5, 3.0, 1.0], requires_grad=True)
    low = lg.tensor([0.0, 0.0, 0.0, 2.0], requires_grad=True)
    y = x.clamp(low, 1.5)
    assert y.tolist() == [0.0, 0.5, 1.5, 1.5]
    y.sum().backward()
    assert x.grad.tolist() == [0, 1, 0, 0]
    assert low.grad.tolist() == [1, 0, 0, 0]
    assert lg.clamp(x, lg.tensor(float("nan"))).isnan().all()


def test_division_rounds_towards_zero_exactly():
    big = 2**62 + 1  # no float64
    y = lg.div(lg.tensor([big, -big, 7, -7]), lg.tensor([2, 2, -2, -2]), rounding_mode="trunc")
    assert y.tolist() == [big // 2, -(big // 2), -3, 3]
    assert lg.tensor([7, -7]).div(2, rounding_mode="floor").tolist() == [3, -4]
    assert lg.tensor([7.0]).div(2, rounding_mode=None).item() == 3.5


def test_round_to_decimals():
    assert lg.tensor([1.234, -5.678], dtype=lg.float64).round(decimals=2).tolist() == [1.23, -5.68]
    assert lg.tensor([1234.0]).round(decimals=-2).item() == 1200


def test_spread_without_correction():
    x = lg.tensor([[1.0, 3.0], [2.0, 6.0]])
    assert x.var(1, unbiased=False).tolist() == [1, 4]
    assert x.std(1, unbiased=False, keepdim=True).tolist() == [[1], [2]]
    assert x.var(False).item() == pytest.approx(np.var([1, 3, 2, 6]))


def test_dtype_of_the_result():
    x = lg.tensor([1, 2, 4])
    assert (x.mean(dtype=lg.float64).item(), x.mean(dtype=lg.float64).dtype) == (7 / 3, lg.float64)
    assert x.prod(dtype=lg.float32).dtype == lg.float32
    assert x.cumsum(0, dtype=lg.int32).dtype == lg.int32
    assert x.softmax(0, dtype=lg.float64).sum().item() == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda x: x.div(x, rounding_mode="up"), "div: rounding_mode is 'up', expected None, 'floor' or 'trunc'"),
        (lambda x: x.norm("nuc"), "norm: p is 'nuc', expected a number or 'fro'"),
        (
            lambda x: x.scatter(0, lg.tensor([0]), x[:1], reduce="multiply"),
            "scatter: reduce is 'multiply', expected 'add'",
        ),
        (lambda x: lg.arange(0, 3, 0.5, dtype=lg.int64), "arange: step 0.5 is 0 in int64"),
    ],
)
def test_errors(call, text):
    with pytest.raises(ValueError, match="^" + text.replace(".", r"\.") + "$"):
        call(lg.ones(3))
