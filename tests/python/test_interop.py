"""NumPy, the buffer protocol and DLPack: both ways, on the same memory."""

import array
import gc
import sys

import numpy as np
import pytest

import lightgrad as lg

DTYPES = ["bool", "uint8", "int32", "int64", "float16", "float32", "float64"]
LAYOUTS = {
    "plain": lambda a: a,
    "transposed": lambda a: a.T,
    "backwards": lambda a: a[::-1, ::2],
    "column": lambda a: a[:, 1],
    "empty": lambda a: a[:0],
    "0-d": lambda a: a[1:2, 1:2].reshape(()),
}


def address(a):
    return a.__array_interface__["data"][0]


def example(dtype):
    return (np.arange(12) % 5).reshape(3, 4).astype(dtype)


# --- NumPy ---


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_from_numpy_shares_memory(dtype, layout):
    a = LAYOUTS[layout](example(dtype))
    x = lg.from_numpy(a)
    assert x.shape == a.shape and repr(x.dtype) == f"lightgrad.{dtype}"
    np.testing.assert_array_equal(x.numpy(), a)
    if a.size:
        assert x.data_ptr() == address(a)
        a[...] = 1
        assert (x == 1).all()
        x.fill_(0)
        assert not a.any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_numpy_shares_memory(dtype, layout):
    x = lg.tensor(example(dtype))
    view = {
        "plain": x,
        "transposed": x.T,
        "backwards": x[::-1].T[::2].T,
        "column": x[:, 1],
        "empty": x[:0],
        "0-d": x[1, 1],
    }
    t = view[layout]
    a = t.numpy()
    assert a.shape == t.shape and a.dtype == np.dtype(dtype)
    assert a.tolist() == t.tolist()
    if a.size:
        assert address(a) == t.data_ptr()
        a[...] = 1
        assert (t == 1).all()


def test_arrays_keep_the_memory_alive():
    a = np.arange(1000.0)
    count = sys.getrefcount(a)
    x = lg.from_numpy(a)
    assert sys.getrefcount(a) > count
    y = x[10:20]
    del x
    gc.collect()
    assert y.sum().item() == a[10:20].sum()
    del y
    gc.collect()
    assert sys.getrefcount(a) == count
    b = lg.arange(1000).numpy()
    gc.collect()
    lg.zeros(1000, dtype=lg.int64)
    assert b[999] == 999


def test_tensor_copies_and_as_tensor_shares():
    a = np.ones(3, np.float32)
    assert lg.tensor(a).data_ptr() != address(a)
    assert lg.as_tensor(a).data_ptr() == address(a)
    assert lg.as_tensor(a, dtype=lg.float64).tolist() == [1, 1, 1]
    x = lg.ones(2)
    assert lg.as_tensor(x) is x
    assert lg.as_tensor([1, 2]).tolist() == [1, 2]
    frozen = np.ones(3)
    frozen.flags.writeable = False
    assert lg.as_tensor(frozen).data_ptr() != address(frozen)


def test_integer_types_without_a_counterpart_are_widened():
    for given, made in [("int8", lg.int32), ("int16", lg.int32), ("uint16", lg.int32), ("uint32", lg.int64)]:
        x = lg.tensor(np.array([1, 2, 100], given))
        assert x.dtype is made and x.tolist() == [1, 2, 100]
    assert lg.tensor(np.array([1, 2], "uint64"), dtype=lg.int64).tolist() == [1, 2]


def test_layouts_that_strides_cannot_say_are_copied():
    records = np.zeros(3, dtype=[("a", "i1"), ("b", "<f8")])
    records["b"] = [1, 2, 3]
    assert lg.tensor(records["b"]).tolist() == [1, 2, 3]


def test_numpy_functions_and_mixed_operators():
    x = lg.tensor([1.0, 4.0])
    assert np.sqrt(x).tolist() == [1, 2]
    assert np.asarray(x, dtype=np.int64).tolist() == [1, 4]
    assert np.array(x).tolist() == [1, 4] and address(np.array(x)) != x.data_ptr()
    assert isinstance(np.float32(2) * x, lg.Tensor)
    with pytest.raises(TypeError, match="a tensor and a numpy.ndarray do not mix"):
        np.ones(2) + x
    with pytest.raises(TypeError, match="a tensor and a numpy.ndarray do not mix"):
        x + np.ones(2)


def test_numpy_refuses_what_it_cannot_share():
    x = lg.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="numpy: the tensor requires a gradient.*detach"):
        x.numpy()
    with pytest.raises(RuntimeError, match="requires a gradient"):
        np.asarray(x)
    assert x.numpy(force=True).tolist() == [1, 1]
    b = lg.ones(2, dtype=lg.bfloat16)
    with pytest.raises(TypeError, match="NumPy has no bfloat16"):
        b.numpy()
    assert b.numpy(force=True).dtype == np.float32


# --- buffers ---


def test_buffers_in():
    assert lg.tensor(b"ab").tolist() == [97, 98]
    assert lg.tensor(array.array("d", [1, 2])).dtype is lg.float64
    assert lg.tensor(memoryview(bytes(4)).cast("i")).tolist() == [0]
    data = bytearray(b"\x01\x02")
    x = lg.from_numpy(data)
    x[0] = 9
    assert data[0] == 9


def test_buffers_out():
    x = lg.tensor([[1, 2], [3, 4]], dtype=lg.int32)
    view = memoryview(x)
    assert view.format == "i" and view.shape == (2, 2) and view.strides == (8, 4)
    assert view.tolist() == [[1, 2], [3, 4]] and bytes(x) == view.tobytes()
    view[0, 0] = 7
    assert x[0, 0].item() == 7
    assert memoryview(x.T).strides == (4, 8)
    with pytest.raises(BufferError, match="requires a gradient"):
        memoryview(lg.ones(1, requires_grad=True))


# --- DLPack ---


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_dlpack_with_numpy(dtype, layout):
    a = LAYOUTS[layout](example(dtype))
    x = lg.from_dlpack(a)
    np.testing.assert_array_equal(x.numpy(), a)
    back = np.from_dlpack(x)
    np.testing.assert_array_equal(back, a)
    if a.size:
        assert x.data_ptr() == address(a) == address(back)


def test_dlpack_capsules():
    x = lg.arange(3)
    assert x.__dlpack_device__() == (1, 0)
    assert '"dltensor"' in repr(x.__dlpack__())
    assert '"dltensor_versioned"' in repr(x.__dlpack__(max_version=(1, 0)))
    for version in (None, (1, 0)):
        capsule = x.__dlpack__(max_version=version)
        y = lg.from_dlpack(capsule)
        assert y.data_ptr() == x.data_ptr()
        with pytest.raises(ValueError, match="taken already"):
            lg.from_dlpack(capsule)
    assert lg.from_dlpack(x.__dlpack__(copy=True)).data_ptr() != x.data_ptr()
    with pytest.raises(RuntimeError, match="requires a gradient"):
        lg.ones(1, requires_grad=True).__dlpack__()
    with pytest.raises(ValueError, match="was asked for"):
        x.__dlpack__(dl_device=(2, 0))
    with pytest.raises(TypeError, match="__dlpack__"):
        lg.from_dlpack([1, 2])


def test_unused_capsules_let_go():
    before = lg.memory.stats()["current"]
    for version in (None, (1, 0)):
        for _ in range(10):
            lg.zeros(1 << 16).__dlpack__(max_version=version)
    gc.collect()
    assert lg.memory.stats()["current"] - before < 1 << 16


@pytest.mark.parametrize("dtype", [*DTYPES, "bfloat16"])
def test_dlpack_with_torch(dtype):
    torch = pytest.importorskip("torch")
    x = lg.arange(12).view(3, 4).to(getattr(lg, dtype)).T[::2]
    t = torch.from_dlpack(x)
    assert t.dtype is getattr(torch, dtype) and t.data_ptr() == x.data_ptr()
    assert t.tolist() == x.tolist()
    t.fill_(1)
    assert (x == 1).all()
    given = torch.arange(6).reshape(2, 3).to(getattr(torch, dtype)).T
    y = lg.from_dlpack(given)
    assert y.dtype is getattr(lg, dtype) and y.data_ptr() == given.data_ptr()
    assert y.tolist() == given.tolist()
    assert lg.tensor(given).tolist() == given.tolist()
