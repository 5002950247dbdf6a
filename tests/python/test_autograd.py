"""backward, grad, hooks, grad modes, in-place safety, functions of one's own, checks, anomalies."""

import gc
import math
import signal
import weakref

import pytest

import lightgrad as lg
from lightgrad.autograd import Function, gradcheck, gradgradcheck


def leaf(*values):
    return lg.tensor(values, dtype=lg.float64, requires_grad=True)


# --- backward ---


def test_backward_adds_up_in_leaves():
    w, y = leaf(1, 2), leaf(3, 4)
    (w * y).sum().backward()
    assert w.grad.tolist() == [3, 4] and y.grad.tolist() == [1, 2]
    (w * y).sum().backward()
    assert w.grad.tolist() == [6, 8]
    w.grad = None
    assert w.grad is None
    w.grad = lg.zeros(2, dtype=lg.float64)
    (w * 2).sum().backward()
    assert w.grad.tolist() == [2, 2]


def test_backward_with_a_gradient():
    x = leaf(1, 2)
    (x * x).backward(lg.tensor([1.0, 10.0], dtype=lg.float64))
    assert x.grad.tolist() == [2, 40]
    lg.autograd.backward([x.sum(), (x * 3).sum()])
    assert x.grad.tolist() == [6, 44]


def test_a_tensor_used_many_times():
    x = leaf(2)
    y = x
    for _ in range(3):
        y = y * x
    y.sum().backward()
    assert x.grad.item() == 4 * 2**3


def test_leaves_and_flags():
    x = leaf(1)
    y = x * 2
    assert x.is_leaf and not y.is_leaf and y.requires_grad
    assert x.grad_fn is None and y.grad_fn == "mul"
    assert not y.detach().requires_grad and y.detach().is_leaf
    z = x * 3
    assert z.detach_() is z and not z.requires_grad
    x.requires_grad = False
    assert not (x * 2).requires_grad


def test_retain_grad():
    x = leaf(3)
    y = x * x
    y.retain_grad()
    (y * 5).sum().backward()
    assert y.grad.item() == 5 and x.grad.item() == 30


def test_a_freed_graph_says_so():
    x = leaf(1)
    y = x.exp().sum()
    y.backward()
    with pytest.raises(RuntimeError, match="was freed by an earlier backward.*retain_graph"):
        y.backward()
    z = x.exp().sum()
    z.backward(retain_graph=True)
    z.backward()
    assert x.grad.item() == pytest.approx(3 * math.e)


def test_backward_refusals():
    x = leaf(1, 2)
    with pytest.raises(RuntimeError, match=r"shape \[2\].*one element"):
        (x * 2).backward()
    with pytest.raises(RuntimeError, match="does not require a gradient"):
        lg.ones(1).backward()
    with pytest.raises(ValueError, match=r"the gradient has shape \[3\], the tensor \[2\]"):
        (x * 2).backward(lg.ones(3))
    with pytest.raises(TypeError, match="floating"):
        lg.tensor([1], requires_grad=True)
    with pytest.raises(RuntimeError, match=r"detach\(\)"):
        (x * 2).requires_grad = False
    with pytest.raises(ValueError, match="the gradient"):
        x.grad = lg.ones(3, dtype=lg.float64)


# --- grad ---


def test_grad_leaves_grad_alone():
    x, y = leaf(2), leaf(5)
    gx, gy = lg.grad(x * y * y, (x, y))
    assert gx.item() == 25 and gy.item() == 20
    assert x.grad is None and y.grad is None
    (only,) = lg.grad([x * y], [x], grad_outputs=[lg.tensor([3.0], dtype=lg.float64)])
    assert only.item() == 15


def test_grad_of_an_inner_tensor():
    x = leaf(3)
    y = x * x
    (g,) = lg.grad(y * y, y)
    assert g.item() == 18


def test_grad_of_what_was_not_used():
    x, y = leaf(1), leaf(1)
    with pytest.raises(RuntimeError, match="was not used"):
        lg.grad(x * 2, (x, y))
    assert lg.grad(x * 2, (x, y), allow_unused=True)[1] is None
    with pytest.raises(RuntimeError, match="does not require a gradient"):
        lg.grad(x * 2, lg.ones(1))


def test_gradients_of_gradients():
    x = leaf(2)
    (g,) = lg.grad(x**4, x, create_graph=True)
    assert g.item() == 32
    (gg,) = lg.grad(g, x, create_graph=True)
    assert gg.item() == 48
    (ggg,) = lg.grad(gg, x)
    assert ggg.item() == 48
    x.grad = None
    (x**3).sum().backward(create_graph=True)
    penalty = (x.grad**2).sum()
    x.grad = None
    penalty.backward()
    assert x.grad.item() == pytest.approx(2 * 12 * 12)  # d (3 x^2)^2 = 36 x^3


# --- hooks ---


def test_hooks_see_and_change_gradients():
    x = leaf(1, 2)
    seen = []
    handle = x.register_hook(lambda g: seen.append(g.tolist()))
    (x * 3).sum().backward()
    assert seen == [[3, 3]]
    handle.remove()
    handle.remove()
    double = x.register_hook(lambda g: g * 2)
    x.grad = None
    (x * 3).sum().backward()
    assert seen == [[3, 3]] and x.grad.tolist() == [6, 6]
    double.remove()
    y = x * 2
    y.register_hook(lambda g: g * 100)
    x.grad = None
    y.sum().backward()
    assert x.grad.tolist() == [200, 200]


def test_errors_in_hooks_come_out():
    x = leaf(1)

    def bad(g):
        raise KeyError("from the hook")

    handle = x.register_hook(bad)
    with pytest.raises(KeyError, match="from the hook"):
        (x * 2).sum().backward()
    handle.remove()
    x.register_hook(lambda g: 3)
    with pytest.raises(TypeError, match="hook: returned a int, expected a tensor or None"):
        (x * 2).sum().backward()
    with pytest.raises(RuntimeError, match="does not require a gradient"):
        lg.ones(1).register_hook(print)


# --- grad modes ---


def test_no_grad_and_enable_grad():
    x = leaf(1)
    with lg.no_grad():
        assert not lg.autograd.is_grad_enabled() and not (x * 2).requires_grad
        with lg.enable_grad():
            assert (x * 2).requires_grad
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad

    @lg.no_grad()
    def f():
        return (x * 2).requires_grad

    @lg.no_grad
    def g(n):
        return (x * 2).requires_grad if n == 0 else g(n - 1)

    assert not f() and not g(3) and f.__name__ == "f" and lg.is_grad_enabled()
    with pytest.raises(KeyError), lg.inference_mode():
        raise KeyError
    assert lg.is_grad_enabled()


def test_set_grad_enabled():
    with lg.set_grad_enabled(False):
        assert not lg.is_grad_enabled()
    assert lg.is_grad_enabled()
    lg.set_grad_enabled(False)
    assert not lg.is_grad_enabled()
    lg.set_grad_enabled(True)

    @lg.set_grad_enabled(False)
    def f():
        return lg.is_grad_enabled()

    assert lg.is_grad_enabled() and f() is False and lg.is_grad_enabled()


# --- in place ---


def test_in_place_on_what_backward_needs():
    x = leaf(1, 2)
    y = x * 2
    z = y.exp()
    y.add_(1)  # exp keeps its output, not y
    z.sum().backward()
    y = x * 2
    z = y * y
    y += 1
    with pytest.raises(RuntimeError, match="mul needs its x .* an in-place operation changed it"):
        z.sum().backward()
    y = x.exp()
    y.mul_(2)
    with pytest.raises(RuntimeError, match="exp needs its output"):
        y.sum().backward()


def test_in_place_is_recorded():
    x = leaf(1, 2)
    y = x * 1
    y *= 3
    y += x
    y[0] = 0
    y.sum().backward()
    assert x.grad.tolist() == [0, 4]


def test_in_place_on_a_leaf():
    x = leaf(1, 2)
    with pytest.raises(RuntimeError, match="in place on a leaf that requires a gradient.*no_grad"):
        x += 1
    with pytest.raises(RuntimeError, match="in place on a leaf"):
        x[0] = 1
    with lg.no_grad():
        x += 1
        x[0] = 7
    assert x.tolist() == [7, 3] and x.requires_grad and x.is_leaf


def test_in_place_on_shared_memory():
    with pytest.raises(RuntimeError, match="share memory.*contiguous"):
        lg.ones(1).expand(3).add_(1)


# --- functions ---


class Cube(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * 3 * x * x


def test_function():
    x = leaf(2, 3)
    y = Cube.apply(x)
    assert y.tolist() == [8, 27] and y.grad_fn == "Cube"
    y.sum().backward()
    assert x.grad.tolist() == [12, 27]
    assert not Cube.apply(lg.ones(1)).requires_grad
    with lg.no_grad():
        assert not Cube.apply(x).requires_grad
    assert gradcheck(Cube.apply, (leaf(0.5, -1.5),)) and gradgradcheck(Cube.apply, (leaf(0.5, -1.5),))


def test_function_with_other_arguments_and_several_outputs():
    class ScaleAndShift(Function):
        @staticmethod
        def forward(ctx, x, scale, shift, label="none"):
            ctx.scale, ctx.label = scale, label
            assert not lg.is_grad_enabled()
            return x * scale, x + shift

        @staticmethod
        def backward(ctx, g_scaled, g_shifted):
            assert ctx.label == "mine" and ctx.needs_input_grad == (True, False, False, False)
            return g_scaled * ctx.scale + g_shifted, None, None, None

    x = leaf(1, 2)
    a, b = ScaleAndShift.apply(x, 10, lg.ones(2, dtype=lg.float64), "mine")
    a.sum().backward()
    assert x.grad.tolist() == [10, 10]
    x.grad = None
    a, b = ScaleAndShift.apply(x, 10, lg.ones(2, dtype=lg.float64), "mine")
    (a + b).sum().backward()
    assert x.grad.tolist() == [11, 11]


def test_function_mistakes():
    class Wrong(Function):
        @staticmethod
        def forward(ctx, x, what):
            ctx.what = what
            return 3 if what == "output" else x * 1

        @staticmethod
        def backward(ctx, g):
            return {"count": g, "type": (3, None), "shape": (g.sum(), None)}[ctx.what]

    x = leaf(1, 2)
    for what, error, message in [
        ("count", RuntimeError, "Wrong.backward: returned 1 gradients for 2 arguments"),
        ("type", TypeError, "Wrong.backward: returned a int"),
        ("shape", RuntimeError, r"shape \[\] for input 0 of shape \[2\]"),
    ]:
        with pytest.raises(error, match=message):
            Wrong.apply(x, what).sum().backward()
    with pytest.raises(TypeError, match="Wrong.forward: returned a int"):
        Wrong.apply(x, "output")
    with pytest.raises(NotImplementedError, match="forward"):
        Function.apply(x)


def test_function_notices_changed_tensors():
    x = leaf(1, 2)
    y = x * 1
    z = Cube.apply(y)
    y += 1
    with pytest.raises(RuntimeError, match="its saved tensor 0 .* an in-place operation changed it"):
        z.sum().backward()


def test_function_lets_go():
    class Holder:
        pass

    class Keep(Function):
        @staticmethod
        def forward(ctx, x, holder):
            ctx.holder = holder
            ctx.save_for_backward(x)
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2, None

    holder = Holder()
    alive = weakref.ref(holder)
    y = Keep.apply(leaf(1), holder)
    del holder
    gc.collect()
    assert alive() is not None
    del y
    gc.collect()
    assert alive() is None


# --- checks ---


def test_gradcheck():
    assert gradcheck(lambda x, y: (x * y).sin(), (leaf(1, 2), leaf(3, 4)))
    assert gradgradcheck(lambda x: x.exp() * x, leaf(0.3, -1))

    class Wrong(Cube):
        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * 2 * x * x

    with pytest.raises(RuntimeError, match="gradcheck"):
        gradcheck(Wrong.apply, leaf(1, 2))
    assert gradcheck(Wrong.apply, leaf(1, 2), raise_exception=False) is False
    with pytest.raises(ZeroDivisionError):
        gradcheck(lambda x: 1 / 0, leaf(1))


def test_anomaly_mode_names_the_operation():
    x = leaf(-1, 4)
    with lg.autograd.detect_anomaly():
        assert lg.autograd.is_anomaly_enabled()
        with pytest.raises(RuntimeError, match=r"sqrt: ?forward made .*nan at index \[0\]"):
            x.sqrt()
        zero = leaf(0)
        with pytest.raises(RuntimeError, match="sqrt.*backward made a gradient with inf"):
            zero.sqrt().sum().backward()
    assert not lg.autograd.is_anomaly_enabled()
    assert math.isnan(x.sqrt()[0].item())


def test_a_long_chain():
    x = leaf(1)
    y = x
    for _ in range(100_000):
        y = y + 1
    y.sum().backward()
    assert x.grad.item() == 1


def test_a_long_backward_can_be_interrupted():
    w = lg.randn(200, 200, requires_grad=True)
    x = lg.eye(200)
    for _ in range(300):
        x = x @ (w * 0.01)

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            x.sum().backward()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert w.grad is None  # it ended inside the pass
    (w * 2).sum().backward()
    assert w.grad[0, 0].item() == 2
