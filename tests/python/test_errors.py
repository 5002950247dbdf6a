"""Bad input: each mistake is an error of the fitting kind whose text names the operation, the values and the way out,
and it leaves everything as it was."""

import copy
import pickle

import numpy as np
import pytest

import lightgrad as lg

CASES = {
    # shapes that do not fit
    "broadcast": (lambda: lg.ones(2, 3) + lg.ones(4), ValueError, r"add: shapes \[2, 3\] and \[4\] do not broadcast"),
    "broadcast in place": (lambda: lg.ones(3).add_(lg.ones(2, 3)), ValueError, r"add.*\[2, 3\]"),
    "matmul": (lambda: lg.ones(2, 3) @ lg.ones(4, 5), ValueError, r"matmul.*3.*4"),
    "reshape": (lambda: lg.ones(6).reshape(4, 2), ValueError, r"reshape: shape \[4, 2\] has 8 elements.*\[6\]"),
    "reshape twice -1": (lambda: lg.ones(6).reshape(-1, -1), ValueError, "reshape.*-1"),
    "view of a transpose": (lambda: lg.ones(2, 3).T.view(6), ValueError, "view.*reshape"),
    "expand": (lambda: lg.ones(2).expand(3), ValueError, r"expand.*\[2\].*\[3\]"),
    "cat": (lambda: lg.cat([lg.ones(2, 3), lg.ones(2, 4)]), ValueError, r"cat.*\[2, 4\]"),
    "stack": (lambda: lg.stack([lg.ones(2), lg.ones(3)]), ValueError, "stack"),
    "cat of nothing": (lambda: lg.cat([]), ValueError, "cat"),
    "layer_norm": (lambda: lg.layer_norm(lg.ones(2, 3), (4,)), ValueError, r"layer_norm.*\[4\].*\[2, 3\]"),
    "einsum": (lambda: lg.einsum("ij,jk->ik", lg.ones(2, 3), lg.ones(4, 5)), ValueError, "einsum.*j"),
    "einsum letters": (lambda: lg.einsum("ij->ik", lg.ones(2, 3)), ValueError, "einsum.*k"),
    "ragged list": (lambda: lg.tensor([[1, 2], [3]]), ValueError, "tensor: sequences at depth 1 have lengths 2 and 1"),
    "uneven nesting": (lambda: lg.tensor([[1], 2]), ValueError, "tensor: numbers and sequences are mixed at depth 1"),
    "split sizes": (lambda: lg.ones(5).split((2, 2)), ValueError, "split.*5"),
    # axes and indices
    "axis": (lambda: lg.ones(2, 3).sum(2), IndexError, "sum.*2"),
    "axis below": (lambda: lg.ones(2, 3).softmax(-3), IndexError, "softmax.*-3"),
    "axis twice": (lambda: lg.ones(2, 3).sum((0, 0)), ValueError, "sum.*(twice|repeat)"),
    "index": (lambda: lg.ones(2, 3)[2], IndexError, "index 2.*size 2"),
    "gather": (lambda: lg.ones(2, 3).gather(1, lg.tensor([[3]])), IndexError, "gather.*3"),
    "embedding": (
        lambda: lg.embedding(lg.tensor([5]), lg.ones(4, 2)),
        IndexError,
        "embedding: id 5 is out of range, expected 0 to 3",
    ),
    "select": (lambda: lg.ones(2).select(0, 2), IndexError, "2"),
    "class index": (lambda: lg.cross_entropy(lg.ones(2, 3), lg.tensor([0, 3])), IndexError, "cross_entropy.*3"),
    "permute": (lambda: lg.ones(2, 3).permute(0, 0), ValueError, "permute"),
    # reductions of nothing
    "max of nothing": (lambda: lg.ones(0).max(), ValueError, "amax.*empty|max.*no elements|max.*0"),
    "argmax of nothing": (lambda: lg.ones(2, 0).argmax(1), ValueError, "argmax"),
    # sizes
    "negative size": (lambda: lg.zeros(2, -3), ValueError, r"zeros.*\[2, -3\]"),
    "overflow": (lambda: lg.zeros(2**40, 2**40), ValueError, "zeros.*1099511627776"),
    "beyond int64": (lambda: lg.zeros(2**70), ValueError, "does not fit int64"),
    "out of memory": (lambda: lg.empty(2**46), MemoryError, "out of memory: asked for 2814749767"),
    "rank": (lambda: lg.zeros(*[1] * 9), ValueError, "at most 8 dimensions"),
    "deep list": (lambda: lg.tensor([[[[[[[[[1]]]]]]]]]), ValueError, "at most 8 dimensions"),
    "sizes of a wrong type": (lambda: lg.zeros(2.5), TypeError, "zeros: expected sizes as integers"),
    "sizes of a string": (lambda: lg.zeros("23"), TypeError, "zeros: expected sizes"),
    "linspace": (lambda: lg.linspace(0, 1, -1), ValueError, "linspace: steps is -1"),
    "arange": (lambda: lg.arange(0, 5, 0), ValueError, "arange: step is 0"),
    "arange without end": (lambda: lg.arange(0, float("inf")), ValueError, "arange.*finite"),
    "eye": (lambda: lg.eye(-1), ValueError, "eye.*-1"),
    "randint": (lambda: lg.randint(5, 5, (2,)), ValueError, "randint: low 5 is not below high 5"),
    "randperm": (lambda: lg.randperm(-1), ValueError, "randperm: n is -1"),
    "one_hot": (lambda: lg.one_hot(lg.tensor([3]), 2), (ValueError, IndexError), "one_hot.*3"),
    "topk": (lambda: lg.ones(3).topk(4), ValueError, "topk.*4"),
    # types
    "gradient of integers": (lambda: lg.ones(2, dtype=lg.int64, requires_grad=True), TypeError, "floating"),
    "randn of integers": (lambda: lg.randn(2, dtype=lg.int32), TypeError, "randn.*int32"),
    "default dtype": (lambda: lg.set_default_dtype(lg.int64), TypeError, "floating-point dtype, got int64"),
    "embedding by floats": (lambda: lg.embedding(lg.ones(2), lg.ones(4, 2)), TypeError, "embedding.*float32"),
    "index by floats": (lambda: lg.ones(3)[lg.ones(1)], (IndexError, TypeError), "float32"),
    "bitwise": (lambda: lg.tensor([1]) & lg.tensor([2]), TypeError, "&: expected bool tensors.*logical_and"),
    "in place to integers": (lambda: lg.ones(2, dtype=lg.int64).add_(0.5), TypeError, "add.*int64"),
    "string": (lambda: lg.tensor("abc"), TypeError, "tensor: expected numbers.*got str"),
    "None": (lambda: lg.tensor(None), TypeError, "tensor: expected numbers.*got NoneType"),
    "object": (lambda: lg.tensor([object()]), TypeError, "tensor: expected numbers.*got object"),
    "complex": (lambda: lg.tensor([1j]), TypeError, "tensor: expected numbers.*got complex"),
    "complex array": (lambda: lg.tensor(np.ones(2, complex)), TypeError, "'Zd' in a numpy.ndarray"),
    "huge integer": (lambda: lg.tensor([2**64]), ValueError, "18446744073709551616 does not fit int64"),
    "huge operand": (lambda: lg.ones(1) + 2**64, ValueError, "does not fit int64"),
    "operand": (lambda: lg.ones(1) + "a", TypeError, "unsupported operand"),
    "argument": (lambda: lg.exp("a"), TypeError, "exp.*incompatible function arguments"),
    "from_numpy of a list": (lambda: lg.from_numpy([1]), TypeError, "from_numpy: expected a NumPy array, got list"),
    "from_numpy of int8": (lambda: lg.from_numpy(np.ones(1, "int8")), TypeError, "format 'b'"),
    "from_numpy of big-endian": (lambda: lg.from_numpy(np.ones(1, ">f8")), TypeError, "format '>d'"),
    "constructor": (lambda: lg.Tensor([1]), TypeError, r"use lg.tensor\(data\)"),
    "finfo": (lambda: lg.finfo(lg.int64), TypeError, "use iinfo"),
    # values
    "truth": (lambda: bool(lg.ones(2)), ValueError, r"bool: the truth of a tensor of shape \[2\] is ambiguous.*any"),
    "item": (lambda: lg.ones(2).item(), ValueError, r"item: expected one element, got shape \[2\]"),
    "as index": (lambda: [1, 2][lg.tensor(1.0)], TypeError, "index: only an integer tensor"),
    "length": (lambda: len(lg.tensor(1)), TypeError, "len: a 0-d tensor has no length"),
    "iteration": (lambda: list(lg.tensor(1)), TypeError, "0-d tensor cannot be iterated"),
    "reduction": (lambda: lg.mse_loss(lg.ones(2), lg.ones(2), reduction="avg"), ValueError, "mse_loss.*avg"),
    "gelu": (lambda: lg.gelu(lg.ones(2), approximate="fast"), ValueError, "gelu.*fast"),
    "dropout": (lambda: lg.dropout(lg.ones(2), 1.5), ValueError, "dropout.*1.5"),
    "threads": (lambda: lg.set_num_threads(0), ValueError, "0"),
    "device": (lambda: lg.ones(2, device="tpu"), ValueError, "device: 'tpu' is none; there are 'cpu', 'cuda'"),
    "T of three dimensions": (lambda: lg.ones(1, 2, 3).T, ValueError, "T: expected at most 2 dimensions"),
    "mT of one": (lambda: lg.ones(1).mT, ValueError, "mT: expected at least 2 dimensions"),
    # copies
    "pickle": (lambda: pickle.dumps(lg.ones(2)), TypeError, "not pickled.*lg.save"),
    "deepcopy": (lambda: copy.deepcopy(lg.ones(2, requires_grad=True) * 2), RuntimeError, "deepcopy.*computed by mul"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input(case):
    f, kind, message = CASES[case]
    current = lg.memory.stats()["current"]
    with pytest.raises(kind, match=message):
        f()
    assert lg.memory.stats()["current"] <= current + 4096


def test_failed_in_place_operations_change_nothing():
    x = lg.tensor([1, 2, 3])
    version = x._version
    for f in (
        lambda: x.add_(lg.ones(2, 3, dtype=lg.int64)),
        lambda: x.add_(0.5),
        lambda: x.__setitem__(7, 1),
        lambda: x.__setitem__(slice(None), lg.ones(2)),
        lambda: x.copy_(lg.ones(2, 2)),
    ):
        with pytest.raises((ValueError, TypeError, IndexError)):
            f()
    assert x.tolist() == [1, 2, 3] and x._version == version


def test_the_library_goes_on_after_running_out_of_memory():
    for _ in range(3):
        with pytest.raises(MemoryError):
            lg.zeros(2**45)
    assert lg.ones(1000).sum().item() == 1000


def test_attributes_that_cannot_be_set():
    x = lg.ones(2)
    for name in ("shape", "dtype", "is_leaf", "nonsense"):
        with pytest.raises(AttributeError):
            setattr(x, name, 1)


def test_tensors_without_memory_cannot_be_made():
    with pytest.raises(TypeError):
        lg.Tensor()
    with pytest.raises(TypeError):
        lg.Tensor.__new__(lg.Tensor)
