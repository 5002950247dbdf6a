"""Tensors on a CUDA device: moving them, computing with them, their gradients, and what is refused.

Against NumPy in float64. What runs the kernels is said at the end: the stand-in driver, or a real one.
"""

from __future__ import annotations

import gc

import pytest

pytest.importorskip("triton")

import numpy as np

import lightgrad as lg

DTYPES = {"float32": 1e-6, "float16": 2e-3, "bfloat16": 1e-2}  # relative errors
rng = np.random.default_rng(3)


@pytest.fixture(autouse=True)
def checked(device):
    global rng
    rng = np.random.default_rng(3)  # each test has its own numbers, whichever ran before it
    yield
    if device:
        device.check()


def tensor(shape, dtype="float32", requires_grad=False, scale=1.0):
    """A tensor on the device, and its numbers."""
    here = lg.tensor(rng.standard_normal(shape) * scale, dtype=getattr(lg, dtype))
    there = here.to("cuda").requires_grad_(requires_grad)
    return there, here.to(lg.float64).numpy()


def numbers(t):
    assert t.device == "cuda:0"
    return t.detach().to("cpu").to(lg.float64).numpy()


def close(t, want, tolerance):
    got = numbers(t)
    assert got.shape == np.shape(want) and np.isfinite(got).all()
    error = np.linalg.norm(got - want) / max(np.linalg.norm(want), 1e-30)
    assert error < tolerance, f"relative error {error:.1e}"


# --- moving ---


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "int64", "int32", "uint8", "bool"])
def test_there_and_back(dtype):
    x = lg.tensor(rng.integers(0, 2, (3, 4)), dtype=getattr(lg, dtype))
    y = x.to("cuda")
    assert y.device == "cuda:0" and x.device == "cpu" and y.dtype == x.dtype and y.shape == x.shape
    assert y.to("cpu").tolist() == x.tolist() == y.tolist() == y.numpy(force=True).tolist()
    assert y.to("cuda") is not None and y.cuda().data_ptr() == y.data_ptr()


def test_making_and_showing():
    x = lg.tensor([[1.0, 2.0], [3.0, 4.0]], device="cuda")
    assert str(x) == "tensor([[1., 2.],\n        [3., 4.]], device='cuda:0')"
    assert lg.zeros(2, device="cuda").tolist() == [0, 0] and lg.ones(1, device="cuda:0").item() == 1
    assert lg.empty(0, 3, device="cuda").to("cpu").shape == (0, 3)
    assert float(x[1, 1]) == 4 and f"{x[0, 0]:.1f}" == "1.0"


def test_views_and_copies_of_strided_tensors():
    x, want = tensor((3, 4, 5))
    np.testing.assert_array_equal(numbers(x.transpose(0, 2)), want.T.astype(np.float32))
    np.testing.assert_array_equal(numbers(x.permute(1, 2, 0).contiguous()), want.transpose(1, 2, 0))
    np.testing.assert_array_equal(numbers(x[1:, ::2].reshape(-1)), want[1:, ::2].reshape(-1))
    y = x.clone()
    assert y.data_ptr() != x.data_ptr()
    np.testing.assert_array_equal(numbers(y), want)
    np.testing.assert_array_equal(numbers(x.to(lg.float16)), want.astype(np.float16))


def test_moving_is_part_of_the_graph():
    x = lg.tensor([1.0, -2.0, 3.0], requires_grad=True)
    (x.to("cuda") * 2).to("cpu").sum().backward()
    assert x.grad.tolist() == [2, 2, 2] and x.grad.device == "cpu"


def test_dlpack_shares_the_memory():
    x, want = tensor((4, 3))
    assert x.__dlpack_device__() == (2, 0)
    y = lg.from_dlpack(x)
    assert y.device == "cuda:0" and y.data_ptr() == x.data_ptr()
    del x
    np.testing.assert_array_equal(numbers(y), want)
    with pytest.raises(ValueError, match=r"dlpack: the tensor lies on cuda:0, \(1, 0\) was asked for"):
        y.__dlpack__(dl_device=(1, 0))


# --- the fused MLP ---


def layer(x, w, b, gamma, beta, eps=1e-5):
    h = np.maximum(x @ w.T + b, 0)
    rstd = 1 / np.sqrt(h.var(-1, keepdims=True) + eps)
    return h, rstd, (h - h.mean(-1, keepdims=True)) * rstd * gamma + beta


def layer_gradients(g, x, w, gamma, h, rstd):
    normal = (h - h.mean(-1, keepdims=True)) * rstd
    u = g * gamma
    dz = rstd * (u - u.mean(-1, keepdims=True) - normal * (u * normal).mean(-1, keepdims=True)) * (h > 0)
    return dz @ w, dz.T @ x, dz.sum(0), (g * normal).sum(0), g.sum(0)


@pytest.mark.parametrize("dtype", list(DTYPES))
@pytest.mark.parametrize("shape", [(70, 64, 64), (33, 100, 50), (5, 1, 7), (20, 40, 1100), (1, 512, 512)], ids=str)
def test_fused_mlp(device, dtype, shape):
    M, K, N = shape
    x, fx = tensor((M, K), dtype, True)
    w, fw = tensor((N, K), dtype, True, scale=K**-0.5)
    (b, fb), (gamma, fgamma), (beta, fbeta) = (tensor((N,), dtype, True) for _ in range(3))
    y = lg.nn.functional.fused_mlp(x, w, b, gamma, beta)
    h, rstd, want = layer(fx, fw, fb, fgamma, fbeta)
    close(y, want, DTYPES[dtype])
    assert y.dtype == getattr(lg, dtype)
    g, fg = tensor((M, N), dtype)
    y.backward(g)
    # dx of one feature is one sum of numbers whose own sum is 0: what cancels is as large as they are.
    tolerance = 1e-5 if dtype == "float32" and K == 1 else DTYPES[dtype]
    for t, grad in zip((x, w, b, gamma, beta), layer_gradients(fg, fx, fw, fgamma, h, rstd), strict=True):
        close(t.grad, grad, tolerance)
    if device and N > 1024:  # too wide for one program
        assert {"matmul", "layer_norm_forward"} <= {name for name, *_ in device.launched}


def test_fused_mlp_without_gradients_keeps_nothing():
    args = [tensor(s)[0] for s in ((8, 16), (16, 16), (16,), (16,), (16,))]
    lg.nn.functional.fused_mlp(*args)
    gc.collect()
    before = lg.cuda.memory_stats()["current"]
    y = lg.nn.functional.fused_mlp(*args)
    assert lg.cuda.memory_stats()["current"] - before == 512 and y.shape == (8, 16)


def test_a_module_moves_and_learns_the_same(device):
    lg.manual_seed(1)
    here = lg.nn.Sequential(lg.nn.FusedMLP(12, 32), lg.nn.Linear(32, 5))
    import copy

    there = copy.deepcopy(here).to("cuda")
    assert {p.device for p in there.parameters()} == {"cuda:0"}
    x = lg.randn(6, 12)
    for net, data in ((here, x), (there, x.to("cuda"))):
        net(data).relu().sum().backward()
    for a, b in zip(here.parameters(), there.parameters(), strict=True):
        close(b.grad, a.grad.to(lg.float64).numpy(), 1e-5)
    there.to("cpu")
    assert {p.device for p in there.parameters()} == {"cpu"} and there(x).shape == (6, 5)


def test_gradcheck():
    lg.cuda.allow_tf32(False)
    x, w = tensor((3, 4), requires_grad=True)[0], tensor((4, 4), requires_grad=True)[0]
    rest = [tensor((4,), requires_grad=True)[0] for _ in range(3)]
    inputs = [x, w, *rest]
    y = lg.nn.functional.fused_mlp(*inputs)
    g, fg = tensor((3, 4))
    y.backward(g)
    # By differences in float64 on the CPU.
    at = [t.detach().to("cpu").to(lg.float64) for t in inputs]
    for i, t in enumerate(inputs):
        numeric = np.zeros(t.shape)
        for index in np.ndindex(*t.shape):
            sides = []
            for step in (1e-6, -1e-6):
                moved = at[i].numpy().copy()
                moved[index] += step
                args = [lg.tensor(moved) if k == i else a for k, a in enumerate(at)]
                sides.append((lg.nn.functional.fused_mlp(*args).numpy() * fg).sum())
            numeric[index] = (sides[0] - sides[1]) / 2e-6
        close(t.grad, numeric, 1e-4)


# --- the other kernels ---


@pytest.mark.parametrize("dtype", list(DTYPES))
def test_products(dtype):
    (x, fx), (y, fy) = tensor((5, 33), dtype, True), tensor((33, 17), dtype, True)
    z = x @ y
    close(z, fx @ fy, DTYPES[dtype])
    w, fw = tensor((3, 33), dtype)
    close(x.detach() @ w.T, fx @ fw.T, DTYPES[dtype])
    z.sum().backward()
    close(x.grad, np.ones((5, 17)) @ fy.T, DTYPES[dtype])
    close(y.grad, fx.T @ np.ones((5, 17)), DTYPES[dtype])
    a, fa = tensor((33, 5), dtype)
    close(a.T @ y.detach(), fa.T @ fy, DTYPES[dtype])
    b, fb = tensor((17, 33), dtype)
    close(a.T @ b.T, fa.T @ fb.T, DTYPES[dtype])


@pytest.mark.parametrize("dtype", list(DTYPES))
def test_linear_and_layer_norm(dtype):
    (x, fx), (w, fw), (b, fb) = (
        tensor((2, 3, 20), dtype, True),
        tensor((10, 20), dtype, True),
        tensor((10,), dtype, True),
    )
    y = lg.nn.functional.linear(x, w, b)
    fy = fx @ fw.T + fb
    close(y, fy, DTYPES[dtype])
    (gamma, fgamma), (beta, fbeta) = tensor((10,), dtype, True), tensor((10,), dtype, True)
    z = lg.nn.functional.layer_norm(y, (10,), gamma, beta)
    normal = (fy - fy.mean(-1, keepdims=True)) / np.sqrt(fy.var(-1, keepdims=True) + 1e-5)
    close(z, normal * fgamma + fbeta, DTYPES[dtype])
    z.backward(lg.ones(2, 3, 10, dtype=getattr(lg, dtype), device="cuda"))
    close(beta.grad, np.full(10, 6.0), DTYPES[dtype])
    close(gamma.grad, normal.sum((0, 1)), 4 * DTYPES[dtype])
    assert numbers(w.grad).shape == (10, 20) and numbers(x.grad).shape == (2, 3, 20)


@pytest.mark.parametrize("name", ["relu", "gelu_tanh"])
def test_linear_activation(name):
    (x, _), (w, _), (b, _) = (tensor(s, requires_grad=True) for s in ((4, 12), (6, 12), (6,)))
    g = tensor((4, 6))[0]
    y = lg.linear_activation(x, w, b, name)
    y.backward(g)
    here = [t.detach().to("cpu").to(lg.float64).requires_grad_() for t in (x, w, b)]
    want = lg.linear_activation(*here, name)
    want.backward(g.to("cpu").to(lg.float64))
    close(y, want.detach().numpy(), 1e-6)
    for t, h in zip((x, w, b), here, strict=True):
        close(t.grad, h.grad.numpy(), 2e-6)


def test_a_long_product_is_cut_into_slices(device):
    (x, fx), w = tensor((1500, 4), requires_grad=True), tensor((3, 4), requires_grad=True)[0]
    g, fg = tensor((1500, 3))
    lg.nn.functional.linear(x, w).backward(g)
    close(w.grad, fg.T @ fx, 1e-6)
    if device:
        assert ("column_sums", 90, "*fp32") in device.launched


@pytest.mark.parametrize("dtype", list(DTYPES))
def test_pointwise(dtype):
    tolerance = DTYPES[dtype]
    (x, fx), (y, fy) = tensor((4, 16), dtype, True), tensor((4, 16), dtype, True)
    close(x + y, fx + fy, tolerance)
    close(x * 3 - 1, fx * 3 - 1, tolerance)
    close(2 / (x.exp() + 1), 2 / (np.exp(fx) + 1), 2 * tolerance)
    close(x + y.detach()[:1], fx + fy[:1], tolerance)  # a row for all
    close(x.detach()[:, :1] * y, fx[:, :1] * fy, tolerance)  # a column for all
    close(x.T + y.detach().T, (fx + fy).T, tolerance)
    close(lg.where(x > 0, x, y), np.where(fx > 0, fx, fy), tolerance)
    close(x.clamp(max=0.5), np.minimum(fx, 0.5), tolerance)
    assert (x > 0).dtype == lg.bool and (x > 0).tolist() == (fx > 0).tolist()
    z = lg.nn.functional.leaky_relu(x * y, 0.1)
    z.backward(lg.ones(4, 16, dtype=getattr(lg, dtype), device="cuda"))
    slope = np.where(fx * fy > 0, 1, 0.1)
    close(x.grad, slope * fy, 2 * tolerance)
    close(y.grad, slope * fx, 2 * tolerance)


def test_gradients_sum_down_to_a_broadcast_input():
    x, bias = tensor((6, 8))[0], tensor((8,), requires_grad=True)[0]
    (x + bias).sum().backward()
    close(bias.grad, np.full(8, 6.0), 1e-6)
    (x + bias).sum().backward()  # adds up
    close(bias.grad, np.full(8, 12.0), 1e-6)
    x3 = tensor((2, 3, 4))[0].transpose(0, 2)
    close(x3 + x3, 2 * numbers(x3), 1e-6)  # three dimensions that do not join
    long, want = tensor((5000,))
    close(long.sum(), want.sum(), 1e-4)


# --- what is refused ---


def test_named_errors():
    x = lg.ones(2, 3, device="cuda")
    with pytest.raises(RuntimeError, match=r"softmax.*: has no kernel for cuda:0 \(inputs float32 \[2, 3\]\)"):
        x.softmax(-1)
    with pytest.raises(RuntimeError, match="cat: has no kernel for cuda:0"):
        lg.cat([x, x])
    with pytest.raises(ValueError, match="add: the inputs lie on cuda:0 and cpu, expected one device"):
        x + lg.ones(2, 3)
    with pytest.raises(TypeError, match=r"numpy: the tensor lies on cuda:0; use to\(\"cpu\"\)"):
        x.numpy()
    with pytest.raises((TypeError, RuntimeError), match="has no kernel for"):
        lg.ones(2, dtype=lg.float64, device="cuda") + 1
    with pytest.raises(ValueError, match="device: 'gpu' is none; there are 'cpu', 'cuda'"):
        x.to("gpu")
    with pytest.raises(ValueError, match="there is no device cuda:7, only"):
        x.to("cuda:7")
    with pytest.raises(ValueError, match="fused_mlp: x has 3 features, weight expects 4"):
        lg.nn.functional.fused_mlp(x, lg.ones(5, 4, device="cuda"), *[lg.ones(5, device="cuda")] * 3)
    with pytest.raises(RuntimeError, match=r"cuda: no compiled layer_norm_forward for .*N=5000"):
        lg.nn.functional.layer_norm(lg.ones(1, 5000, device="cuda"), (5000,))


def test_a_launch_that_fails_names_the_kernel_and_its_arguments(device):
    if not device:
        pytest.skip("a real device would be lost")
    y = lg.ones(16, device="cuda")
    execute = device.kernels
    device.kernels = {}  # the executor finds nothing: the launch fails
    try:
        with pytest.raises(
            RuntimeError,
            match=r"cuLaunchKernelEx failed: CUDA_ERROR_LAUNCH_FAILED .*launching neg.*x_ptr=fp32\* 0x.*n=16",
        ):
            y.neg()
    finally:
        device.kernels = execute
        device.problems.clear()


# --- memory ---


def test_a_steady_step_asks_the_driver_for_nothing(device):
    args = [tensor(s, requires_grad=True)[0] for s in ((8, 16), (16, 16), (16,), (16,), (16,))]
    g = lg.ones(8, 16, device="cuda")

    def step():
        lg.nn.functional.fused_mlp(*args).backward(g)
        for t in args:
            t.grad = None

    step()
    step()
    before = lg.cuda.memory_stats()
    for _ in range(3):
        step()
    after = lg.cuda.memory_stats()
    assert after["system_allocations"] == before["system_allocations"]
    assert after["allocations"] > before["allocations"] and after["current"] == before["current"]


def test_memory_goes_back(device):
    x = lg.ones(1 << 20, device="cuda")
    held = lg.cuda.memory_allocated()
    lg.cuda.reset_peak_memory()
    del x
    gc.collect()
    stats = lg.cuda.memory_stats()
    assert held - stats["current"] == 4 << 20 and stats["cached"] >= 4 << 20 and stats["peak"] >= held
    lg.cuda.empty_cache()
    assert lg.cuda.memory_stats()["cached"] == 0
    lg.cuda.synchronize()
    if device and stats["current"] == 0:
        assert device.blocks == 0


def test_events(device):
    first = lg.cuda.Event()
    lg.ones(16, device="cuda").relu()
    last = lg.cuda.Event()
    assert first.milliseconds_to(last) >= 0
    del first, last
    if device:
        assert device.events == 0
