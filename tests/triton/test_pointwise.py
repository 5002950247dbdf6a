"""The pointwise kernels whose text is generated, in Triton's interpreter, against LightGrad on the CPU in float64."""

from __future__ import annotations

import pytest

pytest.importorskip("triton")

import numpy as np
from interpreter import launch, to_bits, to_float

import lightgrad as lg

TOLERANCE = {"fp32": 2e-6, "fp16": 2e-3, "bf16": 1.6e-2}
# Where the formulas have their domain; elsewhere operands are drawn from both sides of zero.
POSITIVE = ("sqrt", "rsqrt", "reciprocal", "log", "div", "pow", "floor_divide", "remainder")
rng = np.random.default_rng(11)


@pytest.fixture(autouse=True)
def seeded():
    """Each test has its own numbers, whichever ran before it."""
    global rng
    rng = np.random.default_rng(11)


def operation(name):
    """The operation of a kernel and, for a gradient, which input's."""
    base, _, which = name.partition("_vjp_")
    return base, "xyz".index(which) if which else None


ATTRIBUTES = {"clamp": [-0.5, 0.75], "leaky_relu": [0.01], "elu": [1.0], "softplus": [1.0, 20.0]}


def inputs_of(base, arity, shape, dtype):
    low, high = (0.5, 3.0) if base in POSITIVE else (-0.6, 3.0) if base == "log1p" else (-3.0, 3.0)
    arrays = [rng.uniform(low, high, shape) for _ in range(arity)]
    if base == "where":
        arrays[0] = (arrays[0] > 0).astype(float)
    if base in ("eq", "ne", "le", "ge", "logical_and", "logical_or", "logical_xor", "logical_not"):
        arrays = [np.round(a) for a in arrays]
    return [to_bits(a, dtype) for a in arrays]


def in_float64(base, numbers, floats):
    """The value and, given g = the first of floats, the gradients, by the CPU's kernels."""
    tensors = [lg.tensor(f) for f in floats]
    if base == "where":
        tensors[0] = tensors[0] != 0
    keywords = {"min": numbers[0], "max": numbers[1]} if base == "clamp" else {}
    for t in tensors:
        if t.dtype == lg.float64:
            t.requires_grad_()
    return tensors, getattr(lg, base)(*tensors, *([] if keywords else numbers), **keywords)


def names(kernels):
    return sorted({k.name for k in kernels if not k.name.startswith(("fused", "matmul", "layer", "column", "copy"))})


def test_there_is_a_kernel_for_every_pointwise_row(kernels):
    found = names(kernels)
    assert {"gelu_erf", "where", "softplus", "pow"} <= set(found)
    forward = [n for n in found if "_vjp_" not in n and not n.endswith("_strided")]
    assert len(forward) == 52, forward  # the rows of LG_POINTWISE in lightgrad/ops/table.h
    assert all(f"{n}_strided" in found for n in found if not n.endswith("_strided"))


@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_values_and_gradients(kernels, dtype):
    rows, columns = 3, 16
    failures = []
    for kernel in kernels:
        name = kernel.name.removesuffix("_strided")
        if kernel.types.get("g_ptr", kernel.types.get("x_ptr")) != f"*{dtype}" or kernel.name not in names(kernels):
            continue
        strided = kernel.name != name
        base, which = operation(name)
        arity = 3 if base == "where" else 1 if "y" not in _operands(base, kernels) else 2
        bits = inputs_of(base, arity, (rows, columns), dtype)
        if strided and base != "where":
            bits[-1][:] = bits[-1][:1]  # the last operand is one row for all
        floats = [to_float(b, dtype) for b in bits]
        numbers = ATTRIBUTES.get(base, [])
        tensors, value = in_float64(base, numbers, floats)
        g = to_bits(rng.standard_normal((rows, columns)), dtype)
        memory = {f"{n}_ptr": b for n, b in zip("xyz", bits, strict=False)}
        memory |= {"g_ptr": g, "y_out_ptr": to_bits(value.detach().numpy(), dtype)}
        if which is not None:
            value.backward(lg.tensor(to_float(g, dtype)))
            value = tensors[which].grad
        result = kernel.types["out_ptr"][1:]
        out = (
            to_bits(np.full((rows, columns), np.nan), result)
            if result != "u8"
            else np.full((rows, columns), 9, np.uint8)
        )
        values = memory | {f"a{i}": a for i, a in enumerate(numbers)} | {"out_ptr": out, "n": rows * columns}
        if strided:
            values["columns"] = columns
            for o in ("x", "y", "z", "g", "y_out"):
                shared = base != "where" and o == "xyz"[arity - 1]
                values |= {f"{o}_row": 0 if shared else columns, f"{o}_column": 1}
        launch(kernel, values, kernel.variants[0])
        want = value.detach().numpy().astype(np.float64)
        got = to_float(out, result)
        if not np.allclose(got, want, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype]):
            failures.append(f"{kernel.name}: {np.nanmax(np.abs(got - want)):.2e}")
    assert not failures, failures


def _operands(base, kernels):
    kernel = next(k for k in kernels if k.name == base)
    return {n.removesuffix("_ptr") for n in kernel.types if n.endswith("_ptr")}


def test_nan_stays_nan(kernels):
    for kernel in kernels:
        if kernel.name not in (
            "relu",
            "maximum",
            "minimum",
            "sigmoid",
            "gelu_erf",
            "gelu_tanh",
            "silu",
            "clamp",
            "sign",
        ):
            continue
        if kernel.types["x_ptr"] != "*fp32":
            continue
        x, y, out = np.full(16, np.nan, np.float32), np.ones(16, np.float32), np.zeros(16, np.float32)
        launch(kernel, dict(x_ptr=x, y_ptr=y, out_ptr=out, n=16, a0=-1.0, a1=1.0), kernel.variants[0])
        assert np.isnan(out).all(), kernel.name


def test_an_absent_bound_of_clamp_is_nan(kernels):
    kernel = next(k for k in kernels if k.name == "clamp" and k.types["x_ptr"] == "*fp32")
    x, out = np.linspace(-2, 2, 16, dtype=np.float32), np.zeros(16, np.float32)
    launch(kernel, dict(x_ptr=x, out_ptr=out, n=16, a0=float("nan"), a1=1.0), kernel.variants[0])
    np.testing.assert_array_equal(out, np.minimum(x, 1))
