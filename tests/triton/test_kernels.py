"""The kernels that are written by hand, in Triton's interpreter, against NumPy in float64."""

from __future__ import annotations

import pytest

pytest.importorskip("triton")

import numpy as np
from interpreter import NUMPY, launch, to_bits, to_float

TOLERANCE = {"fp32": 1e-6, "fp16": 2e-3, "bf16": 1e-2}  # of the norm of the result
DTYPES = tuple(TOLERANCE)
rng = np.random.default_rng(7)


@pytest.fixture(autouse=True)
def seeded():
    """Each test has its own numbers, whichever ran before it."""
    global rng
    rng = np.random.default_rng(7)


def find(kernels, name, dtype, first="x_ptr", **types):
    wanted = {first: f"*{dtype}"} | {k: f"*{v}" for k, v in types.items()}
    return next(k for k in kernels if k.name == name and all(k.types.get(a) == t for a, t in wanted.items()))


def numbers(shape, dtype, scale=1.0):
    """Memory of that dtype, and what it says."""
    bits = to_bits(rng.standard_normal(shape) * scale, dtype)
    return bits, to_float(bits, dtype)


def blank(shape, dtype):
    """Memory that nobody has written: NaN, or 255s."""
    return np.full(shape, 0xFFFF if dtype == "bf16" else np.nan, NUMPY[dtype])


def close(got, want, dtype, tolerance=None):
    got = to_float(got, dtype)
    assert np.isfinite(got).all()
    error = np.linalg.norm(got - want) / max(np.linalg.norm(want), 1e-30)
    assert error < (tolerance or TOLERANCE[dtype]), f"relative error {error:.2e}"


def distinct(variants):
    """The variants whose programs differ: alignment and architecture are the compiler's business."""
    return list({tuple(sorted(v.constants.items())): v for v in variants}.values())


def normalised(x, gamma=1.0, beta=0.0, eps=1e-5):
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(var + eps) * gamma + beta, mean[:, 0], 1 / np.sqrt(var[:, 0] + eps)


# --- fused MLP ---


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("keep", [0, 1])
def test_fused_mlp_forward(kernels, dtype, keep):
    kernel = find(kernels, "fused_mlp_forward", dtype)
    for variant in distinct(kernel.variants):
        rows, columns, block_k = (variant.constants[f"BLOCK_{a}"] for a in "MNK")
        whole = variant.constants["K_EVEN"]
        for M, N, K in ((rows + 3, columns, block_k), (1, columns - 1, 2 * block_k + 1), (2, 3, 1)):
            if whole and K % block_k:
                K = 2 * block_k
            (x, fx), (w, fw) = numbers((M, K), dtype), numbers((N, K), dtype, K**-0.5)
            (b, fb), (gamma, fg), (beta, fbeta) = (numbers((N,), dtype) for _ in range(3))
            y, h = blank((M, N), dtype), blank((M, N), dtype)
            mean, rstd = blank((M,), "fp32"), blank((M,), "fp32")
            launch(
                kernel,
                dict(x_ptr=x, w_ptr=w, b_ptr=b, gamma_ptr=gamma, beta_ptr=beta, y_ptr=y, h_ptr=h, mean_ptr=mean,
                     rstd_ptr=rstd, M=M, N=N, K=K, ldx=K, ldw=K, eps=1e-5, keep=keep),
                variant,
            )  # fmt: skip
            hidden = np.maximum(fx @ fw.T + fb, 0)
            want, want_mean, want_rstd = normalised(hidden, fg, fbeta)
            # A row that is zero but for one number is divided by what the rounding of that number left.
            close(y, want, dtype, 2e-5 if dtype == "fp32" and N == 3 else None)
            if keep:
                close(h, hidden, dtype)
                close(mean, want_mean, "fp32", TOLERANCE[dtype])
                close(rstd, want_rstd, "fp32", TOLERANCE[dtype])
            else:
                assert (to_bits(blank((1,), dtype), dtype) == blank((1,), dtype)).all() or np.isnan(mean).all()
                assert np.isnan(mean).all() and np.isnan(rstd).all()


# --- matmul ---


def reference_activation(x, activation):
    from math import erf, sqrt, tanh

    cdf = np.vectorize(lambda v: 0.5 * (1 + erf(v / sqrt(2))))
    by_tanh = np.vectorize(lambda v: 0.5 * (1 + tanh(sqrt(2 / np.pi) * (v + 0.044715 * v**3))))
    return [lambda: x, lambda: np.maximum(x, 0), lambda: x * cdf(x), lambda: x * by_tanh(x)][activation]()


@pytest.mark.parametrize("dtype", DTYPES)
def test_matmul(kernels, dtype):
    kernel = find(kernels, "matmul", dtype, "a_ptr", c_ptr=dtype)
    for i, variant in enumerate(distinct(kernel.variants)):
        rows, columns, block_k = (variant.constants[f"BLOCK_{a}"] for a in "MNK")
        ta, tb = variant.constants["TRANSPOSE_A"], variant.constants["TRANSPOSE_B"]
        for j, (M, N, K) in enumerate(
            ((rows + 1, columns + 2, block_k + 1), (3, 5, 1), (rows, columns, block_k), (2, 3, 0))
        ):
            (a, fa), (b, fb) = numbers((K, M) if ta else (M, K), dtype), numbers((N, K) if tb else (K, N), dtype)
            bias, fbias = numbers((N,), dtype)
            c = blank((M, N), dtype)
            activation, has_bias = (i + j) % 4, j % 2
            launch(
                kernel,
                dict(a_ptr=a, b_ptr=b, bias_ptr=bias, c_ptr=c, M=M, N=N, K=K, lda=a.shape[1], ldb=b.shape[1], ldc=N,
                     has_bias=has_bias, activation=activation, slice_k=max(K, 1)),
                variant,
            )  # fmt: skip
            product = (fa.T if ta else fa) @ (fb.T if tb else fb) + has_bias * fbias
            close(c, reference_activation(product, activation), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_matmul_in_slices(kernels, dtype):
    """A long K in slices, which column_sums adds up: the gradient of a weight."""
    M, N, K, slice_k = 20, 12, 150, 64
    (a, fa), (b, fb) = numbers((K, M), dtype), numbers((K, N), dtype)
    slices = -(-K // slice_k)
    parts, c = blank((slices, M, N), "fp32"), blank((M, N), dtype)
    kernel = find(kernels, "matmul", dtype, "a_ptr", c_ptr="fp32")
    launch(
        kernel,
        dict(a_ptr=a, b_ptr=b, bias_ptr=None, c_ptr=parts, M=M, N=N, K=K, lda=M, ldb=N, ldc=N, has_bias=0,
             activation=0, slice_k=slice_k, TRANSPOSE_A=1, TRANSPOSE_B=0, PRECISION="tf32"),
    )  # fmt: skip
    for s in range(slices):
        rows = slice(s * slice_k, min(K, (s + 1) * slice_k))
        close(parts[s], fa[rows].T @ fb[rows], "fp32", 1e-6)
    launch(find(kernels, "column_sums", "fp32", y_ptr=dtype), dict(x_ptr=parts, y_ptr=c, M=slices, N=M * N))
    close(c, fa.T @ fb, dtype)


# --- LayerNorm ---


@pytest.mark.parametrize("dtype", DTYPES)
def test_layer_norm_forward(kernels, dtype):
    kernel = find(kernels, "layer_norm_forward", dtype)
    for i, variant in enumerate(distinct(kernel.variants)):
        rows, columns = variant.constants["BLOCK_M"], variant.constants["BLOCK_N"]
        for M, N in ((rows + 1, columns), (3, columns - 5), (1, 2)):
            (x, fx), (weight, fw), (bias, fb) = numbers((M, N), dtype), numbers((N,), dtype), numbers((N,), dtype)
            y, mean, rstd = blank((M, N), dtype), blank((M,), "fp32"), blank((M,), "fp32")
            has_weight, has_bias = i % 2, (i // 2) % 2
            launch(
                kernel,
                dict(x_ptr=x, weight_ptr=weight, bias_ptr=bias, y_ptr=y, mean_ptr=mean, rstd_ptr=rstd, M=M, N=N,
                     eps=1e-5, has_weight=has_weight, has_bias=has_bias),
                variant,
            )  # fmt: skip
            want, want_mean, want_rstd = normalised(fx, fw if has_weight else 1, fb if has_bias else 0)
            close(y, want, dtype)
            np.testing.assert_allclose(mean, want_mean, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(rstd, want_rstd, rtol=1e-5)


def test_layer_norm_keeps_its_digits_beside_a_large_mean(kernels):
    M, N = 2, 64
    x = (rng.standard_normal((M, N)) + 1e4).astype(np.float32)
    y, mean, rstd = blank((M, N), "fp32"), blank((M,), "fp32"), blank((M,), "fp32")
    launch(
        find(kernels, "layer_norm_forward", "fp32"),
        dict(x_ptr=x, weight_ptr=None, bias_ptr=None, y_ptr=y, mean_ptr=mean, rstd_ptr=rstd, M=M, N=N, eps=1e-5,
             has_weight=0, has_bias=0),
    )  # fmt: skip
    close(y, normalised(x.astype(np.float64))[0], "fp32", 1e-3)  # by E[x^2] - E[x]^2 it would be all wrong


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("relu", [0, 1])
def test_layer_norm_backward(kernels, dtype, relu):
    kernel = find(kernels, "layer_norm_backward", dtype, "g_ptr")
    for i, variant in enumerate(distinct(kernel.variants)):
        block, columns = variant.constants["BLOCK_M"], variant.constants["BLOCK_N"]
        for M, N, rows in ((2 * block + 1, columns, 2 * block), (5, columns - 3, 2), (1, 40, 4)):
            (x, fx), (g, fg), (weight, fw) = numbers((M, N), dtype), numbers((M, N), dtype), numbers((N,), dtype)
            if relu:
                x, fx = np.where(fx > 0, x, 0).astype(x.dtype), np.maximum(fx, 0)
            _, mean, rstd = normalised(fx)
            programs = -(-M // rows)
            dx, sums = blank((M, N), dtype), blank((3, programs, N), "fp32")
            has_weight = i % 2
            launch(
                kernel,
                dict(g_ptr=g, x_ptr=x, weight_ptr=weight, mean_ptr=mean.astype(np.float32),
                     rstd_ptr=rstd.astype(np.float32), dx_ptr=dx, sums_ptr=sums, M=M, N=N, has_weight=has_weight,
                     relu=relu, rows=rows),
                variant,
            )  # fmt: skip
            h = (fx - mean[:, None]) * rstd[:, None]
            u = fg * fw if has_weight else fg
            want = rstd[:, None] * (u - u.mean(1, keepdims=True) - h * (u * h).mean(1, keepdims=True))
            if relu:
                want = np.where(fx > 0, want, 0)
            close(dx, want, dtype)
            for plane, of_rows in zip(sums, (fg * h, fg, want), strict=True):
                for p in range(programs):
                    total = of_rows[p * rows : (p + 1) * rows].sum(0)
                    np.testing.assert_allclose(plane[p], total, rtol=1e-3, atol=3e-5 * max(1, abs(total).max()))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (33, 129), (100, 5)])
def test_column_sums(kernels, dtype, shape):
    (x, fx), y = numbers(shape, "fp32"), blank(shape[1:], dtype)
    launch(find(kernels, "column_sums", "fp32", y_ptr=dtype), dict(x_ptr=x, y_ptr=y, M=shape[0], N=shape[1]))
    close(y, fx.sum(0), dtype, 2e-6 if dtype == "fp32" else None)


# --- copies ---


@pytest.mark.parametrize("given", DTYPES)
@pytest.mark.parametrize("result", DTYPES)
def test_copy(kernels, given, result):
    x, fx = numbers((6, 8), given)
    flat, strided = (find(kernels, f"copy{s}", given, out_ptr=result) for s in ("", "_strided"))
    out = blank((6, 8), result)
    launch(flat, dict(x_ptr=x, out_ptr=out, n=48), flat.variants[0])
    close(out, fx, result)
    out = blank((8, 6), result)  # the transposed matrix
    launch(strided, dict(x_ptr=x, out_ptr=out, n=48, columns=6, x_row=1, x_column=8))
    close(out, fx.T, result)


@pytest.mark.parametrize("result", DTYPES)
def test_copy_of_truths(kernels, result):
    x, out = rng.integers(0, 2, 16).astype(np.uint8), blank((16,), result)
    launch(find(kernels, "copy", "u8", out_ptr=result), dict(x_ptr=x, out_ptr=out, n=16))
    close(out, x.astype(float), result)


def test_nan_and_infinity_pass(kernels):
    x = np.array([[np.nan, 1, 2, 3], [1, 1, 1, 1], [np.inf, 1, 1, 1]], np.float32)
    w, one, zero = np.eye(4, dtype=np.float32), np.ones(4, np.float32), np.zeros(4, np.float32)
    y, h, mean, rstd = blank((3, 4), "fp32"), blank((3, 4), "fp32"), np.zeros(3, np.float32), np.zeros(3, np.float32)
    launch(
        find(kernels, "fused_mlp_forward", "fp32"),
        dict(x_ptr=x, w_ptr=w, b_ptr=zero, gamma_ptr=one, beta_ptr=zero, y_ptr=y, h_ptr=h, mean_ptr=mean,
             rstd_ptr=rstd, M=3, N=4, K=4, ldx=4, ldw=4, eps=1e-5, keep=1, PRECISION="ieee"),
    )  # fmt: skip
    assert np.isnan(y[0]).all() and np.isfinite(y[1]).all() and np.isnan(y[2]).all()
    assert np.isnan(h[0]).all()  # NaN times 0 is NaN, and ReLU keeps it
