"""x[...] and x[...] = value against NumPy, over many random index expressions."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import lightgrad as lg

SETTINGS = settings(max_examples=400, deadline=None)


@st.composite
def shapes(draw):
    return tuple(draw(st.lists(st.integers(0, 5), min_size=0, max_size=4)))


def slices(size):
    bound = st.none() | st.integers(-size - 2, size + 2)
    return st.builds(slice, bound, bound, st.none() | st.sampled_from([1, 2, 3, -1, -2]))


@st.composite
def basic_indices(draw, shape):
    """Integers, slices, None and ...: what gives a view."""
    index = []
    ellipsis = draw(st.booleans())
    axes = draw(st.integers(0, len(shape)))
    front = draw(st.integers(0, axes)) if ellipsis else axes
    for position in range(axes):
        size = shape[position] if position < front else shape[len(shape) - axes + position]
        if ellipsis and position == front:
            index.append(...)
        if draw(st.integers(0, 5)) == 0:
            index.append(None)
        if size > 0 and draw(st.booleans()):
            index.append(draw(st.integers(-size, size - 1)))
        else:
            index.append(draw(slices(size)))
    if ellipsis and front == axes:
        index.append(...)
    return tuple(index)


@st.composite
def advanced_indices(draw, shape):
    """Basic ones mixed with integer arrays that broadcast together, and masks."""
    index = []
    broadcast = draw(st.sampled_from([(), (3,), (2, 1), (2, 3)]))
    axis = 0
    while axis < len(shape):
        size = shape[axis]
        choice = draw(st.sampled_from(["slice", "integer", "array", "mask", "none", "stop"]))
        if choice == "stop":
            break
        if choice == "none":
            index.append(None)
            if len(index) > 6:
                break
            continue
        if choice == "slice" or size == 0:
            index.append(draw(slices(size)))
        elif choice == "integer":
            index.append(draw(st.integers(-size, size - 1)))
        elif choice == "array":
            dims = draw(st.sampled_from([broadcast, broadcast[1:], broadcast[-1:]]))
            count = int(np.prod(dims))
            values = draw(st.lists(st.integers(-size, size - 1), min_size=count, max_size=count))
            index.append(np.array(values, dtype=np.int64).reshape(dims))
        else:
            index.append(np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)), dtype=bool))
        axis += 1
    return tuple(index)


def for_lightgrad(index, how):
    """The same index with arrays as tensors, lists, or left as NumPy arrays."""

    def one(i):
        if not isinstance(i, np.ndarray):
            return i
        return {"tensor": lg.tensor(i), "list": i.tolist(), "numpy": i}[how] if i.ndim else lg.tensor(i)

    return tuple(one(i) for i in index)


def numbered(shape):
    return np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape)


@SETTINGS
@given(st.data())
def test_basic_get(data):
    a = numbered(data.draw(shapes()))
    index = data.draw(basic_indices(a.shape))
    x = lg.from_numpy(a)
    got, expected = x[index], a[index]
    assert got.shape == expected.shape
    np.testing.assert_array_equal(got.numpy(), expected)
    if expected.size and isinstance(expected, np.ndarray):
        assert got.data_ptr() == expected.__array_interface__["data"][0]  # a view


@SETTINGS
@given(st.data())
def test_basic_set(data):
    a = numbered(data.draw(shapes()))
    index = data.draw(basic_indices(a.shape))
    x = lg.tensor(a)
    a, part = a.copy(), a[index]
    value = np.arange(1000, 1000 + part.size).reshape(part.shape) if data.draw(st.booleans()) else -7
    a[index] = value
    x[index] = lg.tensor(value) if data.draw(st.booleans()) else value
    np.testing.assert_array_equal(x.numpy(), a)


@SETTINGS
@given(st.data())
def test_advanced_get(data):
    a = numbered(data.draw(shapes()))
    index = data.draw(advanced_indices(a.shape))
    # The view that the index tensors then pick from has every None as a dimension.
    assume(a.ndim + sum(i is None for i in index) <= 8)
    try:
        expected = a[index]
    except IndexError:
        assume(False)
    assume(expected.ndim <= 8)
    x = lg.tensor(a)
    got = x[for_lightgrad(index, data.draw(st.sampled_from(["tensor", "list", "numpy"])))]
    assert got.shape == expected.shape, index
    np.testing.assert_array_equal(got.numpy(), expected)


@SETTINGS
@given(st.data())
def test_advanced_set(data):
    a = numbered(data.draw(shapes()))
    index = data.draw(advanced_indices(a.shape))
    # The view that the index tensors then pick from has every None as a dimension.
    assume(a.ndim + sum(i is None for i in index) <= 8)
    try:
        expected = a[index]
    except IndexError:
        assume(False)
    assume(expected.ndim <= 8)
    x = lg.tensor(a)
    a = a.copy()
    value = np.arange(1000, 1000 + expected.size).reshape(expected.shape) if data.draw(st.booleans()) else -7
    a[index] = value
    x[for_lightgrad(index, "tensor")] = lg.tensor(value)
    np.testing.assert_array_equal(x.numpy(), a)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64", "float16", "float32", "float64"])
def test_every_dtype(dtype):
    a = (np.arange(12) % 3).reshape(3, 4).astype(dtype)
    x = lg.tensor(a)
    np.testing.assert_array_equal(x[1:, ::-2].numpy(), a[1:, ::-2])
    np.testing.assert_array_equal(x[[2, 0], [1, 3]].numpy(), a[[2, 0], [1, 3]])
    x[:, [0, 2]] = 1
    a[:, [0, 2]] = 1
    np.testing.assert_array_equal(x.numpy(), a)


def test_masks_of_several_dimensions():
    a = numbered((3, 4, 2))
    mask = a[..., 0] % 4 == 0
    x = lg.tensor(a)
    np.testing.assert_array_equal(x[lg.tensor(mask)].numpy(), a[mask])
    np.testing.assert_array_equal(x[lg.tensor(a % 3 == 0)].numpy(), a[a % 3 == 0])
    x[x % 3 == 0] = -1
    a[a % 3 == 0] = -1
    np.testing.assert_array_equal(x.numpy(), a)


def test_gradients_flow_through_brackets():
    x = lg.arange(6, dtype=lg.float64).view(2, 3).detach().requires_grad_()
    (x[:, [0, 0, 2]] * lg.tensor([1.0, 10.0, 100.0])).sum().backward()
    assert x.grad.tolist() == [[11, 0, 100], [11, 0, 100]]
    x.grad = None
    x[1, ::-1][:2].sum().backward()
    assert x.grad.tolist() == [[0, 0, 0], [0, 1, 1]]
    x.grad = None
    x[x > 2].sum().backward()
    assert x.grad.tolist() == [[0, 0, 0], [1, 1, 1]]


def test_gradients_flow_through_assignment():
    x = lg.ones(3, requires_grad=True)
    v = lg.tensor(5.0, requires_grad=True)
    y = x * 2
    y[1] = v
    (y * lg.tensor([1.0, 10.0, 100.0])).sum().backward()
    assert x.grad.tolist() == [2, 0, 200] and v.grad.item() == 10


def test_assignment_broadcasts_and_converts():
    x = lg.zeros(2, 3)
    x[...] = [1, 2, 3]
    x[0] = np.array(7)
    x[:, 1] = lg.tensor([[True], [False]])[:, 0]
    assert x.tolist() == [[7, 1, 7], [1, 0, 3]]


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (3, "index 3"),
        (-4, "index -4"),
        ((0, 0, 0), "indices"),
        (1.5, "expected integers, slices, None"),
        ("a", "expected integers, slices, None"),
        ([5], "5"),
        (slice(None, 1.5), "slice"),
        (2**70, "out of range"),
    ],
)
def test_bad_indices(index, message):
    x = lg.zeros(3, 2)
    with pytest.raises((IndexError, TypeError), match=message):
        x[index]
    with pytest.raises((IndexError, TypeError)):
        x[index] = 1
    assert x.tolist() == [[0, 0]] * 3


def test_bad_masks_and_values():
    x = lg.zeros(3, 2)
    with pytest.raises(IndexError, match="mask"):
        x[lg.tensor([True, False])]
    with pytest.raises(ValueError, match="broadcast"):
        x[0] = lg.ones(3)
    with pytest.raises(ValueError, match="step cannot be 0"):
        x[::0]
    with pytest.raises(TypeError, match="cannot be deleted"):
        del x[0]
