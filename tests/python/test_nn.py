"""Modules and layers in Python: registration, identity, lifetime, state, and PyTorch's numbers."""

import copy
import gc
import pickle
import threading
import traceback
import weakref

import numpy as np
import pytest
from torch_twin import torch_twin

import lightgrad as lg
from lightgrad import nn, optim

BLOCK = ["ln.weight", "ln.bias", "attn.qkv.weight", "attn.qkv.bias", "attn.proj.weight"]
BLOCK += ["attn.proj.bias", "mlp.0.weight", "mlp.0.bias", "mlp.2.weight", "mlp.2.bias"]


class Attn(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.qkv = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)
        self.scale = 2.5

    def forward(self, x, *, mask=None, twice=False):
        y = self.proj(self.qkv(x))
        return (y, mask) if twice else y


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.ln = nn.LayerNorm(width)
        self.attn = Attn(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x):
        x = x + self.attn(self.ln(x))
        return x + self.mlp(x)


class Gpt(nn.Module):
    def __init__(self, width=8, depth=3):
        super().__init__()
        self.tok = nn.Linear(width, width)
        self.blocks = nn.ModuleList([Block(width) for _ in range(depth)])
        self.head = nn.Linear(width, width, bias=False)
        self.head.weight = self.tok.weight
        self.register_buffer("pos", lg.randn(width))
        self.register_buffer("cache", lg.randn(2), persistent=False)
        self.gain = nn.Parameter(lg.randn(width))

    def forward(self, x):
        x = self.tok(x) * self.gain + self.pos
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Tagged(nn.Module):
    def __init__(self):
        super().__init__()
        self.tag = {"a": 1}
        self.fc = nn.Linear(8, 8)

    def forward(self, x):
        return self.fc(x) * 2.0


class Double(nn.Linear):
    def forward(self, x):
        return super().forward(x) * 2.0


def total(x):
    return float(x.detach().numpy().sum())


def names(pairs):
    return [name for name, _ in pairs]


@pytest.fixture
def model():
    return Gpt()


@pytest.fixture
def x():
    return lg.randn(4, 8)


def test_names_stand_in_pytorchs_order(model):
    blocks = [f"blocks.{i}.{n}" for i in range(3) for n in BLOCK]
    assert names(model.named_parameters()) == ["gain", "tok.weight", "tok.bias", *blocks]
    state = ["gain", "pos", "tok.weight", "tok.bias", *blocks, "head.weight"]
    assert list(model.state_dict()) == state
    assert names(model.named_buffers()) == ["pos", "cache"]
    assert names(model.named_parameters(recurse=False)) == ["gain"]
    assert names(model.tok.named_parameters(prefix="t")) == ["t.weight", "t.bias"]
    assert len(list(model.modules())) == 4 + 3 * 9
    assert model.get_submodule("blocks.1.attn") is model.blocks[1].attn
    assert "(attn): Attn(" in repr(model) and "Linear(in_features=8" in repr(model)


def test_identity(model):
    assert model.tok is model.tok and model.blocks[1].attn is model.blocks[1].attn
    assert model.gain is model.gain and model.head.weight is model.tok.weight
    assert isinstance(model.gain, nn.Parameter) and model.gain.requires_grad
    assert any(p is model.gain for p in model.parameters())
    assert len({model.gain: 1, model.tok.weight: 2, model.head.weight: 3}) == 2


def test_attributes():
    a = Attn(4)
    old = a.qkv
    a.qkv = nn.Identity()
    assert names(a.named_parameters()) == ["proj.weight", "proj.bias"]
    a.qkv = None
    assert a.qkv is None and names(a.named_modules()) == ["", "proj"]
    a.qkv = old
    assert names(a.named_parameters())[0] == "qkv.weight"  # in its old place
    del a.qkv
    with pytest.raises(AttributeError, match="qkv"):
        _ = a.qkv
    a.w = nn.Parameter(lg.randn(2))
    with pytest.raises(TypeError, match=r"nn\.Parameter or None"):
        a.w = 3
    with pytest.raises(TypeError, match="w is a parameter"):
        a.w = lg.randn(2)
    a.w = None
    assert a.w is None and "w" not in names(a.named_parameters())
    del a.w
    a.w = 7
    assert a.w == 7
    a.w = nn.Parameter(lg.randn(2))
    assert "w" not in a.__dict__ and a.w.shape == (2,)
    with pytest.warns(UserWarning, match="ModuleList"):
        a.layers = [nn.Linear(1, 1)]


def test_members_of_a_cpp_layer():
    m = nn.Linear(2, 3)
    m.extra = [1]
    assert m.extra == [1]
    m.bias = None
    assert names(m.named_parameters()) == ["weight"] and m(lg.randn(1, 2)).shape == (1, 3)
    with pytest.raises(ValueError, match="set it to None"):
        del m.weight
    new = nn.Parameter(lg.zeros(3, 2))
    m.weight = new
    assert m.weight is new and total(m(lg.randn(1, 2))) == 0


def test_properties_and_class_attributes():
    class Prop(nn.Module):
        bias = None

        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(lg.randn(1))
            self.bias = nn.Parameter(lg.randn(1))

        @property
        def w(self):
            return self._w

        @w.setter
        def w(self, v):
            self._w = v

    p = Prop()
    assert names(p.named_parameters()) == ["_w", "bias"] and p.bias is not None


def test_forgotten_super_init():
    class Forgot(nn.Module):
        def __init__(self):
            self.fc = nn.Linear(2, 2)

    class ForgotToo(nn.Linear):
        def __init__(self):
            pass

    with pytest.raises(RuntimeError, match=r"super\(\).__init__\(\)"):
        Forgot()
    with pytest.raises(RuntimeError, match=r"super\(\).__init__\(\)"):
        ForgotToo()(lg.randn(1, 2))


def test_a_python_module_lives_as_long_as_cpp_holds_it(x):
    s = nn.Sequential(Tagged(), nn.GELU(), nn.Linear(8, 4))
    gc.collect()
    assert type(s[0]) is Tagged and s[0].tag == {"a": 1}
    assert s(x).shape == (4, 4)
    ref = weakref.ref(s[0])
    del s
    gc.collect()
    assert ref() is None


def test_python_forwards_inside_cpp(x):
    d, plain = Double(8, 8), nn.Linear(8, 8)
    plain.load_state_dict(d.state_dict())
    assert total(d(x)) == pytest.approx(2 * total(plain(x)), rel=1e-4, abs=1e-4)
    assert total(nn.Sequential(d)(x)) == pytest.approx(total(d(x)), rel=1e-5, abs=1e-5)
    plain.forward = lambda x: x * 0.0
    assert total(plain(x)) == 0 and total(nn.Sequential(plain)(x)) == 0
    attn = nn.MultiheadAttention(8, 2)
    attn.out_proj = Double(8, 8)
    assert attn(x, x, x)[0].shape == (4, 8)
    with pytest.raises(TypeError, match="holds a Linear"):
        attn.out_proj = Tagged()
    with pytest.raises(TypeError, match="does not take one tensor"):
        nn.Sequential(attn)(x)


def test_free_signatures(model, x):
    y = model.blocks[0].attn(x, mask="any object", twice=True)
    assert y[1] == "any object"
    with pytest.raises(NotImplementedError, match="has no forward"):
        nn.Module()(x)


def test_train_eval_apply(model):
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def train(self, mode=True):
            super().train(mode)
            self.drop.training = False
            return self

    s = nn.Sequential(Frozen())
    assert s.train() is s and s.training and not s[0].drop.training
    assert not s.eval()[0].training
    seen = []
    model.apply(lambda m: seen.append(type(m).__name__))
    assert seen[0] == "Linear" and seen[-1] == "Gpt" and seen.count("Block") == 3


def test_errors_know_the_path(model, x):
    model.blocks[2].attn.proj = nn.Linear(9, 8)
    with pytest.raises(ValueError, match=r"in blocks\.2\.attn\.proj"):
        model(x)
    model.blocks[2].attn.proj = nn.Linear(8, 8)

    class Bad(nn.Module):
        def forward(self, x):
            return {}["key"]

    model.blocks[1].mlp[1] = Bad()
    with pytest.raises(KeyError) as e:
        model(x)
    if hasattr(e.value, "add_note"):
        assert e.value.__notes__ == ["in module blocks.1.mlp.1"]
    assert any(f.name == "forward" for f in traceback.extract_tb(e.value.__traceback__))
    model.blocks[1].mlp[1] = nn.GELU()
    assert model(x).shape == (4, 8)


def test_load_state_dict(model):
    other, weight = Gpt(), model.tok.weight
    r = model.load_state_dict(other.state_dict())
    assert r.missing_keys == [] and r.unexpected_keys == []
    assert model.tok.weight is weight
    assert np.array_equal(weight.detach().numpy(), other.tok.weight.detach().numpy())
    with pytest.raises(ValueError, match=r"(?s)gain is \[8\] here, \[9\].*missing: pos"):
        model.load_state_dict({"gain": lg.zeros(9)})
    r = model.load_state_dict({"gain": np.zeros(8, np.float32), "more": lg.zeros(1)}, strict=False)
    assert "pos" in r.missing_keys and r.unexpected_keys == ["more"]
    assert total(model.gain) == 0


def test_dtype_changes_in_place(model, x):
    weight = model.tok.weight
    opt = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    assert model.to(lg.float64) is model
    assert model.tok.weight is weight and weight.dtype == lg.float64
    assert model.head.weight is weight and model.pos.dtype == lg.float64
    (model(x.to(lg.float64)) ** 2).mean().backward()
    before = total(weight)
    opt.step()
    assert total(weight) != before
    assert model.float().gain.dtype == lg.float32


def test_hooks(model, x):
    log = []
    h = model.blocks[0].register_forward_hook(lambda m, args, y: log.append((type(m), len(args))))
    s = nn.Sequential(Tagged(), nn.GELU())
    h2 = s[0].register_forward_hook(lambda m, args, y: y * 0.0)
    h3 = s[0].register_forward_pre_hook(lambda m, args: (args[0] * 2.0,))
    model(x)
    assert log == [(Block, 1)]
    assert total(s(x)) == 0
    for handle in (h, h2, h3):
        handle.remove()
    model(x)
    assert len(log) == 1 and total(s(x)) != 0


def test_deepcopy_and_pickle(model, x):
    c = copy.deepcopy(model)
    assert type(c) is Gpt and c.head.weight is c.tok.weight
    assert c.tok.weight is not model.tok.weight and isinstance(c.gain, nn.Parameter)
    assert list(c.state_dict()) == list(model.state_dict())
    assert c.blocks[0].attn.scale == 2.5 and type(c.blocks[0]) is Block
    assert np.allclose(c(x).detach().numpy(), model(x).detach().numpy())
    with pytest.raises(TypeError, match="state_dict"):
        pickle.dumps(model)


def parent():
    a, b = Tagged(), Tagged()
    a.child = b
    b.__dict__["up"] = a
    return weakref.ref(a)


def hook_cycle():
    a = nn.Linear(2, 2)
    a.register_forward_hook(lambda *z: a)
    return weakref.ref(a)


def handle_cycle():
    a = Tagged()
    a.h = a.register_forward_hook(lambda *z: None)
    return weakref.ref(a)


def inside_cpp():
    a = Tagged()
    a.tag["s"] = nn.Sequential(a)
    return weakref.ref(a)


def bound_method():
    a = Tagged()
    a.act = a.forward
    return weakref.ref(a)


@pytest.mark.parametrize("make", [parent, hook_cycle, handle_cycle, inside_cpp, bound_method])
def test_cycles_are_collected(make):
    ref = make()
    gc.collect()
    assert ref() is None


def test_a_module_does_not_contain_itself():
    s = nn.Sequential(Tagged())
    with pytest.raises(ValueError, match="contain itself"):
        s[0].parent = s
    assert not hasattr(s[0], "parent")


def test_calls_from_threads(model, x):
    want, wrong = model(x).detach().numpy(), []

    def work():
        for _ in range(20):
            if not np.array_equal(model(x).detach().numpy(), want):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_containers():
    s = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4))
    assert len(s) == 3 and type(s[-1]) is nn.Linear and [type(m) for m in s[:2]][1] is nn.ReLU
    s.append(nn.Tanh())
    s.insert(0, nn.Identity())
    del s[1]
    assert [type(m).__name__ for m in s] == ["Identity", "ReLU", "Linear", "Tanh"]
    assert type(s.pop()) is nn.Tanh
    with pytest.raises(IndexError):
        s[3]
    with pytest.raises(TypeError, match="expected a Module"):
        s.append(3)
    d = nn.ModuleDict({"a": nn.ReLU(), "b": nn.Linear(1, 1)})
    assert list(d) == ["a", "b"] and "a" in d and len(d) == 2 and type(d["a"]) is nn.ReLU
    assert names(d.items()) == ["a", "b"] and list(d.keys()) == ["a", "b"]
    with pytest.raises(KeyError):
        d["c"]


# --- beside PyTorch ---


def Activated(torch, function):
    class Activated(torch.nn.Linear):
        def forward(self, x):
            return function(super().forward(x))

    return Activated(6, 5)


def layers(torch):
    t, F = torch.nn, torch.nn.functional
    return {
        "linear": (lambda: nn.Linear(6, 5), lambda: t.Linear(6, 5)),
        "layer_norm": (lambda: nn.LayerNorm(6), lambda: t.LayerNorm(6)),
        "mlp": (
            lambda: nn.Sequential(nn.Linear(6, 7), nn.GELU("tanh"), nn.Linear(7, 3), nn.SiLU()),
            lambda: t.Sequential(t.Linear(6, 7), t.GELU(approximate="tanh"), t.Linear(7, 3), t.SiLU()),
        ),
        # PyTorch's twin is one layer with a function behind it: the names of the parameters stay.
        "linear with relu": (lambda: nn.Linear(6, 5, activation="relu"), lambda: Activated(torch, F.relu)),
        "linear with gelu": (lambda: nn.Linear(6, 5, activation="gelu"), lambda: Activated(torch, F.gelu)),
        "linear with silu": (lambda: nn.Linear(6, 5, activation="silu"), lambda: Activated(torch, F.silu)),
        "elu": (lambda: nn.ELU(0.7), lambda: t.ELU(0.7)),
        "leaky_relu": (lambda: nn.LeakyReLU(0.2), lambda: t.LeakyReLU(0.2)),
        "softplus": (lambda: nn.Softplus(2.0), lambda: t.Softplus(2.0)),
        "softmax": (lambda: nn.Softmax(0), lambda: t.Softmax(0)),
        "flatten": (lambda: nn.Flatten(), lambda: t.Flatten()),
    }


LAYERS = ["linear", *(f"linear with {f}" for f in ("relu", "gelu", "silu"))]
LAYERS += ["layer_norm", "mlp", "elu", "leaky_relu", "softplus", "softmax", "flatten"]


@pytest.mark.parametrize("name", LAYERS)
def test_layers_beside_torch(name):
    torch = pytest.importorskip("torch")
    ours, theirs = torch_twin(*layers(torch)[name])
    a = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    x, y = lg.tensor(a, requires_grad=True), torch.tensor(a, requires_grad=True)
    p, q = ours(x), theirs(y)
    assert np.allclose(p.detach().numpy(), q.detach().numpy(), atol=1e-6)
    (p * p).mean().backward()
    (q * q).mean().backward()
    assert np.allclose(x.grad.numpy(), y.grad.numpy(), atol=1e-6)
    for (n, u), (m, v) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert n == m and np.allclose(u.grad.numpy(), v.grad.numpy(), atol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_beside_torch(masked):
    torch = pytest.importorskip("torch")
    ours, theirs = torch_twin(lambda: nn.MultiheadAttention(8, 2), lambda: torch.nn.MultiheadAttention(8, 2))
    rng = np.random.default_rng(1)
    q, k, v = (rng.standard_normal((n, 3, 8)).astype(np.float32) for n in (5, 7, 7))
    mask = rng.random((5, 7)) < 0.3 if masked else None
    mask = None if mask is None else mask & ~mask.all(1, keepdims=True)
    for need_weights in (False, True):
        y, w = ours(
            lg.tensor(q),
            lg.tensor(k),
            lg.tensor(v),
            need_weights=need_weights,
            attn_mask=None if mask is None else lg.tensor(mask),
        )
        z, u = theirs(
            torch.tensor(q),
            torch.tensor(k),
            torch.tensor(v),
            attn_mask=None if mask is None else torch.tensor(mask),
        )
        assert np.allclose(y.detach().numpy(), z.detach().numpy(), atol=1e-5)
        if need_weights:
            assert np.allclose(w.detach().numpy(), u.detach().numpy(), atol=1e-6)
        else:
            assert w is None


def test_fused_mlp():
    lg.manual_seed(0)
    m = nn.FusedMLP(12, 20)
    assert list(m.state_dict()) == ["weight", "bias", "gamma", "beta"]
    assert repr(m) == "FusedMLP(in_features=12, out_features=20, eps=1e-05)"
    parts = nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.LayerNorm(20))
    for a, b in zip(m.parameters(), parts.parameters(), strict=True):
        b.data = a
    x, g = lg.randn(3, 7, 12), lg.randn(3, 7, 20)
    y, want = m(x), parts(x)
    np.testing.assert_allclose(y.detach().numpy(), want.detach().numpy(), rtol=1e-5, atol=1e-5)
    y.backward(g)
    want.backward(g)
    for a, b in zip(m.parameters(), parts.parameters(), strict=True):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-4, atol=1e-4)
    halves = [t.to(lg.bfloat16) for t in (x, *m.parameters())]
    assert nn.functional.fused_mlp(*halves).dtype == lg.bfloat16
    assert lg.autograd.gradcheck(
        lambda *a: nn.functional.fused_mlp(*a),
        [lg.randn(*s, dtype=lg.float64, requires_grad=True) for s in ((3, 4), (5, 4), (5,), (5,), (5,))],
    )
