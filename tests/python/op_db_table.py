"""PyTorch's operations as LightGrad has them: which callable answers an entry of PyTorch's op_db, and what it refuses.

The pairs are found by name (torch.add is lg.add, torch.nn.functional.gelu is lg.nn.functional.gelu, torch.Tensor.t
is the method); ROWS holds only what differs: an adapter for other arguments, how results are compared, and the
arguments that LightGrad refuses, by the text of its error.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import lightgrad.nn.functional as F

import lightgrad as lg


@dataclass
class Row:
    call: Callable | None = None  # takes what PyTorch's takes, as LightGrad's objects
    # Random or uninitialised (or a test of the arguments for it): only sizes and dtypes are compared.
    shapes_only: bool | Callable = False
    # PyTorch leaves the order of equal elements open: what the indices pick along this dimension is compared.
    picks: Callable | None = None
    refuses: dict[str, str] = field(default_factory=dict)  # in the error's text -> the reason


# Refused wherever they occur: in the error's text -> the reason.
REFUSED = {"memory_format": "memory formats: tensors are row-major"}

BITWISE = {"expected bool tensors": "bitwise operators are for bool"}


def _index_put(x, indices, values, accumulate=False):
    if accumulate:
        raise TypeError("index_put: accumulate")
    y = x.clone()
    y[tuple(indices)] = values
    return y


def _broadcast(x, y):
    return x.expand((x.to(lg.bool) | y.to(lg.bool)).shape)


INTEGERS = {"expected a floating-point dtype": "images of integers"}
EMPTY = "an empty vector in place of [N, C]"
INTERPOLATION = {
    'mode is "bicubic"': "bicubic interpolation",
    "expected [N, C, W] or [N, C, H, W]": "volumes",
    "recompute_scale_factor": "recompute_scale_factor",
}


def _interpolate(x, *size, recompute_scale_factor=None, **options):
    if recompute_scale_factor:
        raise TypeError("interpolate: recompute_scale_factor")
    return F.interpolate(x, *size, **options)


def _slice(x, dim=0, start=None, end=None, step=1):
    start, end = (0 if start is None else start), (2**63 - 1 if end is None else end)
    return lg.slice(x, dim, start, end, step)


# By name, or name/variant, of the op_db entry.
ROWS: dict[str, Row] = {
    # Other orders of the arguments: PyTorch's entry puts the first tensor first.
    "where": Row(lambda x, condition, y: lg.where(condition, x, y)),
    "einsum": Row(lambda tensors, equation: lg.einsum(equation, *tensors)),
    "nn.functional.embedding": Row(
        lambda weight, ids, **options: F.embedding(ids, weight, **options),
        refuses={
            "max_norm: float": "max_norm writes into the weight",
            "scale_grad_by_freq: bool": "scale_grad_by_freq",
            "sparse: bool": "sparse gradients",
        },
    ),
    # Other spellings.
    "zero_": Row(lambda x: x.clone().zero_()),
    "__rdiv__": Row(lambda x, y: y / x),
    "positive": Row(lambda x: +x),
    "argwhere": Row(lg.nonzero),
    "broadcast_to": Row(lg.expand),
    "dot": Row(lg.matmul),
    "mm": Row(lg.matmul),
    "mv": Row(lg.matmul),
    "ravel": Row(lg.flatten),
    "masked_select": Row(lambda x, mask: _broadcast(x, mask)[_broadcast(mask, x)]),
    "linalg.vector_norm": Row(
        lambda x, ord=2, dim=None, keepdim=False, **dtype: lg.norm(x, ord, dim, keepdim, **dtype)
    ),
    "T": Row(lambda x: x.T),
    "mT": Row(lambda x: x.mT),
    "special.ndtr": Row(lg.normal_cdf),
    "index_put": Row(_index_put, refuses={"accumulate": "index_put(accumulate=True)"}),
    "slice": Row(_slice),
    # The order of equal elements.
    "topk": Row(picks=lambda x, k, dim=-1, *_: dim),
    "sort": Row(picks=lambda x, dim=-1, descending=False, stable=False: dim),
    "argsort": Row(picks=lambda x, dim=-1, descending=False, stable=False: dim),
    "nn.functional.interpolate": Row(_interpolate, refuses=INTERPOLATION),
    # What LightGrad does not do.
    "nn.functional.conv1d": Row(refuses=INTEGERS),
    "nn.functional.conv2d": Row(refuses=INTEGERS),
    "nn.functional.conv_transpose2d": Row(refuses=INTEGERS),
    "nn.functional.max_pool2d": Row(refuses=INTEGERS),
    "nn.functional.avg_pool2d": Row(refuses=INTEGERS),
    "nn.functional.adaptive_avg_pool2d": Row(refuses={"output_size: int |": "None among the output sizes"}),
    "nn.functional.batch_norm": Row(refuses={" [0], expected [N, C]": EMPTY}),
    "__rand__": Row(refuses=BITWISE),
    "__ror__": Row(refuses=BITWISE),
    "__rxor__": Row(refuses=BITWISE),
    "norm/nuc": Row(refuses={"p is 'nuc'": "the nuclear norm needs singular values"}),
    "scatter": Row(refuses={"reduce is 'multiply'": "scatter(reduce='multiply')"}),
    # Random numbers.
    "empty": Row(shapes_only=True),
    "empty_like": Row(shapes_only=True),
    "rand_like": Row(shapes_only=True),
    "randn": Row(shapes_only=True),
    "randn_like": Row(shapes_only=True),
    "randint": Row(shapes_only=True),
    "nn.functional.dropout": Row(shapes_only=True),
    "nn.functional.scaled_dot_product_attention": Row(
        shapes_only=lambda query, key, value, dropout_p=0.0, **options: dropout_p > 0
    ),
}

# PyTorch's namespaces whose functions are LightGrad's of the same last name.
_NAMESPACES = ("nn.functional.", "special.", "")


def _callable(name):
    namespace = next(n for n in _NAMESPACES if name.startswith(n))
    name = name.removeprefix(namespace)
    for scope in (F, lg, lg.Tensor) if namespace == "nn.functional." else (lg, lg.Tensor):
        found = getattr(scope, name, None) if "." not in name else None
        if callable(found) and (scope is lg.Tensor or name in scope.__all__ or name in lg._ALIASES):
            return found
    return None


def row_of(op):
    """The row of an op_db entry, or None where LightGrad has no counterpart."""
    row = ROWS.get(f"{op.name}/{op.variant_test_name}") or ROWS.get(op.name) or Row()
    if row.call is None:
        calls = [_callable(name) for name in (op.name, *(a.name for a in op.aliases))]
        row = replace(row, call=next((c for c in calls if c), None))
    return row if row.call else None
