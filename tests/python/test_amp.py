"""Autocast, GradScaler and activation checkpoints in Python; PyTorch's decisions and scales beside them."""

import warnings

import numpy as np
import pytest
from lightgrad.utils.checkpoint import checkpoint

import lightgrad as lg
from lightgrad import amp, nn, optim

pytestmark = pytest.mark.filterwarnings("ignore:autocast")


def test_scopes_and_decorators():
    x, w = lg.randn(3, 4), lg.randn(5, 4)

    @lg.autocast(dtype=lg.float16)
    def product():
        return nn.functional.linear(x, w)

    with lg.autocast() as scope:
        assert nn.functional.linear(x, w).dtype == lg.bfloat16
        assert product().dtype == lg.float16
        with lg.autocast(enabled=False):
            assert nn.functional.linear(x, w).dtype == lg.float32
        with scope:
            assert amp.autocast_dtype() == lg.bfloat16
        assert amp.is_autocast_enabled()
    assert not amp.is_autocast_enabled()
    with pytest.raises(KeyError), lg.autocast():
        raise KeyError
    assert not amp.is_autocast_enabled()
    with (
        pytest.raises(TypeError, match="dtype is float64, expected bfloat16 or float16"),
        lg.autocast(dtype=lg.float64),
    ):
        pass
    with pytest.raises(ValueError, match="device_type is 'cuda'"):
        lg.autocast("cuda")


def test_slow_half_precision_is_said_once(monkeypatch):
    monkeypatch.setattr(amp, "_said", False)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(2):
            with lg.autocast(dtype=lg.float16):
                pass
    assert [str(w.message) for w in said] == [
        "autocast: float16 is widened to float32 for every product: it saves memory, not time"
    ]


def perceptron():
    lg.manual_seed(1)
    return nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.LayerNorm(32), nn.Linear(32, 4))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_gradients_are_near_float32(dtype):
    x, target = lg.randn(64, 8), lg.randint(0, 4, (64,))

    def gradients(half):
        model = perceptron()
        with lg.autocast(dtype=getattr(lg, dtype), enabled=half):
            loss = nn.functional.cross_entropy(model(x), target)
        assert loss.dtype == lg.float32
        loss.backward()
        return np.concatenate([p.grad.numpy().ravel() for p in model.parameters()])

    exact, rounded = gradients(False), gradients(True)
    error = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
    assert 1e-5 < error < (2e-2 if dtype == "bfloat16" else 3e-3)


def test_scaler_has_pytorch_scales():
    torch = pytest.importorskip("torch")
    options = {"init_scale": 2.0**10, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 5}
    ours, theirs = amp.GradScaler(**options), torch.amp.GradScaler("cpu", **options)
    w, w_torch = lg.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    adam, adam_torch = optim.AdamW([w], lr=0.01), torch.optim.AdamW([w_torch], lr=0.01)
    rng = np.random.default_rng(3)
    for step in range(200):
        factor = float(rng.choice([1.0, np.inf, np.nan], p=[0.9, 0.05, 0.05]))
        before = w.detach().numpy().copy()
        for scaler, leaf, optimizer in ((ours, w, adam), (theirs, w_torch, adam_torch)):
            optimizer.zero_grad()
            scaler.scale(((leaf * 1.5) ** 2).sum() * factor).backward()
            if step % 3 == 0:
                scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
        assert ours.get_scale() == theirs.get_scale()
        assert ours.state_dict()["_growth_tracker"] == theirs.state_dict()["_growth_tracker"]
        if factor != 1.0:
            assert np.array_equal(w.detach().numpy(), before)
        np.testing.assert_allclose(w.detach().numpy(), w_torch.detach().numpy(), rtol=1e-5)
    assert ours.skipped_steps > 10
    again = amp.GradScaler()
    again.load_state_dict(theirs.state_dict())
    assert again.get_scale() == ours.get_scale()
    with pytest.raises(ValueError, match='the state has no "scale"'):
        again.load_state_dict({})


def test_checkpoint_gives_the_same_bits():
    x = lg.randn(16, 8)

    def gradients(run):
        lg.manual_seed(2)
        model = perceptron()
        block = lambda t, scale, shift: nn.functional.dropout(model(t), 0.3) * scale + shift
        run(block, x * 1.0, 2.0, shift=1.0).sum().backward()
        return [p.grad.numpy() for p in model.parameters()]

    plain = gradients(lambda f, *args, **kwargs: f(*args, **kwargs))
    for one, other in zip(gradients(checkpoint), plain, strict=True):
        assert np.array_equal(one, other)
    with pytest.raises(ValueError, match="use_reentrant"):
        checkpoint(abs, x, use_reentrant=True)


def test_errors_in_a_second_run_arrive():
    calls = []

    def f(x):
        calls.append(1)
        if len(calls) == 2:
            raise KeyError("again")
        return x.sin()

    y = checkpoint(f, lg.ones(3, requires_grad=True) * 1.0).sum()
    with pytest.raises(KeyError, match="again"):
        y.backward()
