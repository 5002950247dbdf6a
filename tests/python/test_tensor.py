"""Tensors in Python: making them, asking them, operators, in-place forms, conversions, copies."""

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest

import lightgrad as lg


def same(x, expected):
    expected = np.asarray(expected)
    got = x.detach().numpy()
    assert got.shape == expected.shape, (got.shape, expected.shape)
    assert got.dtype == expected.dtype, (got.dtype, expected.dtype)
    np.testing.assert_array_equal(got, expected)


# --- lg.tensor ---


@pytest.mark.parametrize(
    ("data", "dtype", "shape"),
    [
        (1.5, lg.float32, ()),
        (3, lg.int64, ()),
        (True, lg.bool, ()),
        ([1, 2, 3], lg.int64, (3,)),
        ([1, 2.5, 3], lg.float32, (3,)),
        ([True, False], lg.bool, (2,)),
        ([True, 2], lg.int64, (2,)),
        ([[1, 2], [3, 4], [5, 6]], lg.int64, (3, 2)),
        ([], lg.float32, (0,)),
        ([[], []], lg.float32, (2, 0)),
        (((1.0,), (2.0,)), lg.float32, (2, 1)),
        (range(4), lg.int64, (4,)),
        ([np.float64(1), 2], lg.float32, (2,)),
        ([np.int32(1), np.int64(2)], lg.int64, (2,)),
    ],
)
def test_tensor_infers_as_pytorch(data, dtype, shape):
    x = lg.tensor(data)
    assert x.dtype is dtype
    assert x.shape == shape
    assert x.tolist() == np.array(data, dtype=np.float64).tolist()


def test_tensor_takes_dtype_and_gradient():
    x = lg.tensor([1, 2], dtype=lg.float64, requires_grad=True)
    assert x.dtype is lg.float64 and x.requires_grad and x.is_leaf
    assert lg.tensor([1.9, -1.9], dtype=lg.int64).tolist() == [1, -1]
    assert lg.tensor(1, dtype=float).dtype is lg.float32
    assert lg.tensor(1.0, dtype=int).dtype is lg.int64


def test_tensor_follows_the_default_dtype():
    lg.set_default_dtype(lg.float64)
    try:
        assert lg.tensor(0.1).item() == 0.1
        assert lg.zeros(2).dtype is lg.float64
    finally:
        lg.set_default_dtype(lg.float32)
    assert lg.tensor(0.1).dtype is lg.get_default_dtype() is lg.float32


def test_tensor_keeps_large_integers():
    values = [2**63 - 1, -(2**63), 2**53 + 1]
    assert lg.tensor(values).tolist() == values


def test_tensor_of_tensors_and_arrays():
    rows = [lg.tensor([1.0, 2.0]), lg.tensor([3.0, 4.0])]
    assert lg.tensor(rows).tolist() == [[1, 2], [3, 4]]
    assert lg.tensor([lg.tensor(1), lg.tensor(2)]).tolist() == [1, 2]
    assert lg.tensor([np.array([1, 2]), np.array([3, 4])]).tolist() == [[1, 2], [3, 4]]
    x = lg.tensor([1.0])
    y = lg.tensor(x)
    y[0] = 5
    assert x.item() == 1


# --- creation ---


def test_sizes_one_by_one_or_as_a_sequence():
    for x in (lg.zeros(2, 3), lg.zeros((2, 3)), lg.zeros([2, 3])):
        same(x, np.zeros((2, 3), np.float32))
    assert lg.zeros().shape == () and lg.zeros(()).shape == ()
    assert lg.ones(4, dtype=lg.int32).tolist() == [1, 1, 1, 1]
    assert lg.empty(2, 0).shape == (2, 0)
    assert lg.zeros(np.int64(2), lg.tensor(3)).shape == (2, 3)


def test_full_and_likes():
    same(lg.full((2,), 7), np.array([7, 7], np.int64))
    same(lg.full((2,), 7.5), np.array([7.5, 7.5], np.float32))
    same(lg.full((1, 2), True), np.array([[True, True]]))
    x = lg.zeros(2, 3, dtype=lg.float64)
    same(lg.ones_like(x), np.ones((2, 3)))
    same(lg.full_like(x, 2, dtype=lg.int64), np.full((2, 3), 2))
    assert lg.randn_like(x).dtype is lg.float64
    assert lg.zeros_like(x, requires_grad=True).requires_grad


def test_ranges():
    same(lg.arange(5), np.arange(5))
    same(lg.arange(2, 9, 3), np.arange(2, 9, 3))
    same(lg.arange(5, 0, -2), np.arange(5, 0, -2))
    same(lg.arange(0, 1, 0.25), np.arange(0, 1, 0.25, np.float32))
    same(lg.linspace(0, 1, 5, dtype=lg.float64), np.linspace(0, 1, 5))
    same(lg.eye(2, 3), np.eye(2, 3, dtype=np.float32))
    same(lg.eye(2, dtype=lg.int64), np.eye(2, dtype=np.int64))


def test_random_numbers_repeat_from_a_seed():
    lg.manual_seed(7)
    first = [lg.rand(100), lg.randn(5, 5), lg.randint(0, 10, (50,)), lg.randperm(20)]
    lg.manual_seed(7)
    again = [lg.rand(100), lg.randn(5, 5), lg.randint(0, 10, (50,)), lg.randperm(20)]
    assert all(lg.equal(a, b) for a, b in zip(first, again, strict=True))
    assert first[0].min().item() >= 0 and first[0].max().item() < 1
    assert set(first[2].tolist()) <= set(range(10))
    assert sorted(first[3].tolist()) == list(range(20))
    assert lg.randint(3, (4,)).shape == (4,)


def test_generators_are_streams_of_their_own():
    g = lg.Generator(3)
    state = g.get_state()
    x = lg.randn(4, generator=g)
    lg.randn(100)
    g.set_state(state)
    assert lg.equal(lg.randn(4, generator=g), x)
    assert not lg.equal(lg.randn(4, generator=g), x)
    assert g.manual_seed(3) is g and lg.equal(lg.randn(4, generator=g), x)


# --- facts ---


def test_facts():
    x = lg.zeros(2, 3, 4)
    assert x.shape == (2, 3, 4) and isinstance(x.shape, tuple)
    assert x.size() == (2, 3, 4) and x.size(-1) == 4
    assert x.dim() == x.ndim == 3 and x.numel() == 24 and len(x) == 2
    assert x.stride() == (12, 4, 1) and x.stride(0) == 12
    assert x.element_size() == x.itemsize == 4 and x.nbytes == 96
    assert x.device == "cpu" and x.is_contiguous() and not x.transpose(0, 1).is_contiguous()
    assert x[1].storage_offset() == 12 and x[1].data_ptr() == x.data_ptr() + 48
    assert x.is_floating_point() and not x.long().is_floating_point()
    assert lg.is_tensor(x) and not lg.is_tensor(1)


def test_a_tensor_has_one_python_object():
    x = lg.ones(2, requires_grad=True)
    x.sum().backward()
    assert x.grad is x.grad
    assert x.requires_grad_() is x and x.cpu() is x and x.float() is x
    y = x.detach()
    assert y.mul_(2) is y and y.fill_(1) is y
    alive = weakref.ref(y)
    del y
    gc.collect()
    assert alive() is None


def test_parameters_keep_their_class():
    p = lg.Parameter(lg.ones(2))
    assert type(p) is lg.Parameter and isinstance(p, lg.Tensor)
    assert p.requires_grad and p.is_leaf
    assert not lg.Parameter(lg.ones(2), requires_grad=False).requires_grad
    assert type(p + 1) is lg.Tensor
    assert type(copy.deepcopy(p)) is lg.Parameter
    assert repr(p).startswith("Parameter containing:\ntensor(")


def test_conversion_to_python_numbers():
    assert lg.tensor(2.5).item() == 2.5 and isinstance(lg.tensor(2.5).item(), float)
    assert isinstance(lg.tensor([3]).item(), int) and lg.tensor([[True]]).item() is True
    assert int(lg.tensor(2.9)) == 2 and float(lg.tensor(3)) == 3.0
    assert [10, 20, 30][lg.tensor(1)] == 20
    assert bool(lg.tensor(0.0)) is False and bool(lg.tensor([2])) is True
    assert lg.tensor([[1, 2], [3, 4]]).T.tolist() == [[1, 3], [2, 4]]
    assert f"{lg.tensor(1.23456):.2f}" == "1.23"
    assert f"{lg.tensor([1.0])}" == "tensor([1.])"


def test_iteration_and_membership():
    x = lg.tensor([[1, 2], [3, 4]])
    assert [row.tolist() for row in x] == [[1, 2], [3, 4]]
    a, b = lg.tensor([5, 6])
    assert (a.item(), b.item()) == (5, 6)
    assert 3 in x and 7 not in x and lg.tensor([1, 2]) in x


def test_hash_is_identity_and_equality_elementwise():
    x, y = lg.tensor([1, 2]), lg.tensor([1, 2])
    assert (x == y).tolist() == [True, True]
    assert {x: "x", y: "y"}[x] == "x"
    assert (x == None) is False and (x != None) is True  # noqa: E711
    assert x not in ({1: 2},)[0]


# --- operators ---

ARRAYS = (np.array([[1.5, -2.0], [3.0, 0.5]]), np.array([[2.0, 3.0], [-1.0, 4.0]]))
BINARY = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "@": lambda a, b: a @ b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}


@pytest.mark.parametrize("sign", BINARY)
def test_operators_against_numpy(sign):
    f = BINARY[sign]
    a, b = ARRAYS
    x, y = lg.tensor(a), lg.tensor(b)
    np.testing.assert_allclose(f(x, y).numpy(), f(a, b), rtol=1e-15)
    if sign != "@":
        np.testing.assert_allclose(f(x, 2).numpy(), f(a, 2), rtol=1e-15)
        np.testing.assert_allclose(f(2.5, x).numpy(), f(2.5, a), rtol=1e-15)
        np.testing.assert_allclose(f(np.float32(2), x).numpy(), f(2.0, a), rtol=1e-15)


def test_unary_operators_and_powers():
    x = lg.tensor([-2.0, 3.0])
    assert (-x).tolist() == [2, -3] and (+x).tolist() == [-2, 3] and abs(x).tolist() == [2, 3]
    assert (x**2).tolist() == [4, 9] and (2**x).tolist() == [0.25, 8]
    assert (~(x > 0)).tolist() == [True, False]
    assert ((x > 0) & (x < 5)).tolist() == [False, True]
    assert ((x > 0) | True).tolist() == [True, True]
    assert ((x > 0) ^ (x < 5)).tolist() == [True, False]


def test_python_numbers_are_weak():
    half = lg.ones(2, dtype=lg.float16)
    assert (half * 2.5).dtype is lg.float16 and (2.5 / half).dtype is lg.float16
    ints = lg.ones(2, dtype=lg.int32)
    assert (ints + 1).dtype is lg.int32 and (ints + 1.5).dtype is lg.float32
    assert (ints * True).dtype is lg.int32
    assert (lg.ones(2, dtype=lg.bool) + 1).dtype is lg.int64


def test_in_place():
    x = lg.tensor([1.0, 2.0, 3.0])
    before, version = x, x._version
    x += 1
    x *= lg.tensor([1.0, 2.0, 3.0])
    x -= 2
    x /= 2
    assert x is before and x.tolist() == [0, 2, 5] and x._version == version + 4
    assert x.add_(1).mul_(2).tolist() == [2, 6, 12]
    assert x.clamp_(3, 10).tolist() == [3, 6, 10]
    assert x.neg_().abs_().sqrt_().square_().tolist() == pytest.approx([3, 6, 10], rel=1e-6)
    assert x.copy_(lg.tensor(4)).tolist() == [4, 4, 4]
    assert x.zero_().fill_(2.5).tolist() == [2.5, 2.5, 2.5]
    view = x[1:]
    view.mul_(2)
    assert x.tolist() == [2.5, 5, 5]


@pytest.mark.parametrize("name", ["exp", "tanh", "relu", "floor", "sigmoid", "silu", "gelu_tanh"])
def test_in_place_forms_match(name):
    x = lg.tensor([[0.3, -1.2], [2.0, 0.0]])
    expected = getattr(x, name)()
    assert lg.equal(getattr(x, name + "_")(), expected) and lg.equal(x, expected)


# --- functions with several forms ---


def test_max_and_min():
    x = lg.tensor([[1.0, 5.0], [7.0, 2.0]])
    assert lg.max(x).item() == 7 and x.min().item() == 1
    result = x.max(1)
    assert result.values.tolist() == [5, 7] and result.indices.tolist() == [1, 0]
    values, indices = lg.min(x, dim=0, keepdim=True)
    assert values.tolist() == [[1, 2]] and indices.tolist() == [[0, 1]]
    assert lg.max(x, lg.tensor(4.0)).tolist() == [[4, 5], [7, 4]]


def test_where():
    x = lg.tensor([1.0, -2.0, 3.0])
    assert lg.where(x > 0, x, 0).tolist() == [1, 0, 3]
    assert x.where(x > 0, -1).tolist() == [1, -1, 3]
    rows, columns = lg.where(lg.tensor([[0, 1], [1, 0]]))
    assert rows.tolist() == [0, 1] and columns.tolist() == [1, 0]


def test_named_tuples_and_tuples():
    s = lg.tensor([3, 1, 2]).sort()
    assert s.values.tolist() == [1, 2, 3] and s[1].tolist() == [1, 2, 0]
    assert [t.tolist() for t in lg.arange(5).split(2)] == [[0, 1], [2, 3], [4]]
    assert [t.tolist() for t in lg.arange(5).split((1, 4))] == [[0], [1, 2, 3, 4]]
    assert isinstance(lg.arange(4).chunk(2), tuple)
    assert lg.topk(lg.tensor([1, 9, 5]), 2).values.tolist() == [9, 5]


def test_rows_with_the_dimension_second():
    x = lg.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert lg.gather(x, 1, lg.tensor([[1], [0]])).tolist() == [[2], [3]]
    assert x.index_select(0, lg.tensor([1])).tolist() == [[3, 4]]
    assert x.scatter_add(0, lg.tensor([[0, 0]]), lg.ones(1, 2)).tolist() == [[2, 3], [3, 4]]
    assert lg.layer_norm(x, (2,)).shape == (2, 2)
    assert lg.layer_norm(x, 2, weight=lg.ones(2), bias=lg.zeros(2), eps=1e-3).shape == (2, 2)


def test_reductions_take_one_axis_several_or_none():
    a = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    x = lg.tensor(a)
    same(x.sum(), a.sum())
    same(x.sum(1), a.sum(1))
    same(x.sum(dim=(0, 2), keepdim=True), a.sum((0, 2), keepdims=True))
    same(lg.mean(x, [0, 1]), a.mean((0, 1)))
    assert x.sum(dtype=lg.float64).dtype is lg.float64


def test_cat_stack_einsum():
    x = lg.ones(2, 2)
    assert lg.cat([x, x], dim=1).shape == (2, 4) and lg.concat((x, x)).shape == (4, 2)
    assert lg.stack((x, x), 2).shape == (2, 2, 2)
    assert lg.einsum("ij,jk->ik", x, x).tolist() == [[2, 2], [2, 2]]
    assert lg.einsum("ii", [x]).item() == 2


def test_shapes_one_by_one_or_as_a_sequence():
    x = lg.arange(6)
    assert x.view(2, 3).shape == x.view((2, 3)).shape == x.reshape([2, -1]).shape == (2, 3)
    assert x.view(-1).shape == (6,) and x.view(2, 3).permute(1, 0).shape == (3, 2)
    assert lg.ones(1, 3).expand(2, -1).shape == (2, 3)
    assert x.view(2, 3).flip(0, 1).tolist() == [[5, 4, 3], [2, 1, 0]]
    assert x.view(2, 3).T.shape == x.view(2, 3).mT.shape == x.view(2, 3).t().shape == (3, 2)
    assert x.view(2, 3).view_as(lg.ones(3, 2)).shape == (3, 2)


def test_every_public_row_is_function_and_method_with_a_docstring():
    for name in lg._core._operations:
        assert getattr(lg, name).__doc__, name
        if name not in ("cat", "stack"):
            assert hasattr(lg.Tensor, name), name
    for name in lg._core._internal_operations:
        assert not hasattr(lg, name) or name in ("to",), name


# --- dtypes ---


def test_dtypes():
    assert repr(lg.float32) == "lightgrad.float32" and lg.float is lg.float32
    assert lg.bfloat16.itemsize == 2 and lg.bfloat16.is_floating_point
    assert pickle.loads(pickle.dumps(lg.int64)) is lg.int64
    assert copy.deepcopy(lg.float16) is lg.float16
    assert lg.promote_types(lg.int64, lg.float16) is lg.float16
    assert lg.finfo(lg.float32).eps == np.finfo(np.float32).eps
    assert lg.finfo(lg.float16).max == float(np.finfo(np.float16).max)
    assert lg.iinfo(lg.int32).min == -(2**31)


def test_conversions():
    x = lg.tensor([1.7, -0.2, 0.0])
    assert x.to(lg.int64).tolist() == x.long().tolist() == [1, 0, 0]
    assert x.bool().tolist() == [True, True, False]
    assert x.double().dtype is lg.float64 and x.half().dtype is lg.float16
    assert x.bfloat16().dtype is lg.bfloat16 and x.int().dtype is lg.int32
    assert x.to(lg.float32) is x and x.to("cpu") is x and x.to(lg.float32, copy=True) is not x
    assert x.to(lg.ones(1, dtype=lg.float64)).dtype is lg.float64
    assert x.type() == "lightgrad.float32" and x.type(lg.float64).dtype is lg.float64


# --- copies ---


def test_copies():
    x = lg.tensor([1.0, 2.0], requires_grad=True)
    (x * x).sum().backward()
    y = copy.deepcopy(x)
    assert y.tolist() == [1, 2] and y.requires_grad and y.grad.tolist() == [2, 4]
    assert y.data_ptr() != x.data_ptr()
    pair = copy.deepcopy([x, x])
    assert pair[0] is pair[1]
    shallow = copy.copy(x)
    assert shallow.data_ptr() == x.data_ptr() and shallow.requires_grad
    assert x.clone().data_ptr() != x.data_ptr() and x.detach().data_ptr() == x.data_ptr()


def test_memory_statistics():
    lg.memory.trim()
    before = lg.memory.stats()
    lg.memory.reset_peak()
    x = lg.zeros(1 << 20)
    during = lg.memory.stats()
    assert during["current"] - before["current"] >= 4 << 20
    assert during["peak"] >= during["current"] and during["allocations"] > before["allocations"]
    del x
    assert lg.memory.stats()["current"] < during["current"]


def test_threads():
    n = lg.get_num_threads()
    lg.set_num_threads(2)
    assert lg.get_num_threads() == 2
    lg.set_num_threads(n)
