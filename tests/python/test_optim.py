"""Optimizers and schedules in Python: parameter groups, clipping, memory, and PyTorch's numbers."""

import numpy as np
import pytest
from torch_twin import torch_twin

import lightgrad as lg
from lightgrad import nn, optim


def test_param_groups_are_edited():
    m = nn.Linear(3, 2)
    decay = {"params": [m.weight], "weight_decay": 0.1}
    opt = optim.AdamW([decay, {"params": [m.bias]}], lr=1e-2, betas=(0.8, 0.9))
    assert opt.param_groups[0]["weight_decay"] == 0.1
    assert opt.param_groups[1]["weight_decay"] == 0.01
    assert opt.param_groups[0]["betas"] == (0.8, 0.9)
    assert opt.param_groups[0]["params"][0] is m.weight
    m(lg.ones(1, 3)).backward(lg.ones(1, 2))
    for group in opt.param_groups:
        group["lr"] = 0.0
    before = m.weight.detach().numpy().copy()
    opt.step()
    assert np.array_equal(before, m.weight.detach().numpy())
    opt.zero_grad()
    assert m.weight.grad is None
    with pytest.raises(KeyError):
        opt.param_groups[0]["nothing"]
    for bad in ({"lr": -1}, {"lr": float("nan")}, {"betas": (1.0, 0.9)}, {"eps": -1}):
        with pytest.raises(ValueError, match="AdamW"):
            optim.AdamW(m.parameters(), **bad)
    with pytest.raises(ValueError, match="no parameters"):
        optim.SGD([], lr=0.1)
    with pytest.raises(ValueError, match="twice"):
        optim.SGD([m.weight, m.weight], lr=0.1)
    with pytest.raises(ValueError, match="computed"):
        optim.SGD([m.weight * 2], lr=0.1)


def test_closure_and_clipping():
    m = nn.Linear(3, 1)
    opt = optim.SGD(m.named_parameters(), lr=0.1)

    def closure():
        opt.zero_grad()
        loss = (m(lg.ones(2, 3)) ** 2).mean()
        loss.backward()
        return loss

    first = opt.step(closure).item()
    assert opt.step(closure).item() < first
    norm = nn.utils.clip_grad_norm_(m.parameters(), 1e-3)
    assert norm.item() > 1e-3
    g = np.concatenate([p.grad.numpy().ravel() for p in m.parameters()])
    assert np.linalg.norm(g) == pytest.approx(1e-3, rel=1e-3)


def test_a_step_that_clips():
    def trained(clip):
        lg.manual_seed(0)
        m = nn.Linear(3, 2)
        opt = optim.AdamW(m.parameters(), lr=0.1)
        assert np.isnan(opt.grad_norm)
        (m(lg.ones(4, 3)) ** 2).sum().backward()
        before = m.weight.grad.numpy().copy()
        clip(m, opt)
        return m, opt, before

    def apart(m, opt):
        opt.norm = nn.utils.clip_grad_norm_(m.parameters(), 0.5).item()
        opt.step()

    one, opt, before = trained(lambda m, opt: opt.step(max_norm=0.5))
    other, theirs, _ = trained(apart)
    assert opt.grad_norm == pytest.approx(theirs.norm, rel=1e-6)
    assert (one.weight.grad.numpy() == before).all()
    assert (one.weight.detach().numpy() == other.weight.detach().numpy()).all()
    with pytest.raises(ValueError, match="AdamW.step: max_norm is -1"):
        opt.step(max_norm=-1)
    assert opt.step(lambda: lg.ones(()), max_norm=1).item() == 1


def test_memory_by_use():
    def current():
        return {name: use["current"] for name, use in lg.memory.stats()["uses"].items()}

    before = current()
    n = 1 << 20
    w = lg.ones(n, requires_grad=True)
    opt = optim.AdamW([w])
    loss = w.exp().sum()
    during = current()
    loss.backward()
    opt.step()
    after = current()
    gained = {name: round((after[name] - before[name]) / (4 * n), 2) for name in after}
    assert gained == {"parameters": 1, "gradients": 1, "optimizer": 2, "activations": 0, "other": 0}
    assert during["activations"] - before["activations"] == pytest.approx(4 * n, rel=1e-3)
    stats = lg.memory.stats()
    assert sum(use["current"] for use in stats["uses"].values()) == stats["current"]
    assert stats["uses"]["activations"]["peak"] >= 4 * n


# --- beside PyTorch ---


OPTIMIZERS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "maximize": True}),
    ("Adam", {"lr": 0.05, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.05, "amsgrad": True}),
    ("AdamW", {"lr": 0.05, "betas": (0.8, 0.95)}),
    ("AdamW", {"lr": 0.05, "amsgrad": True, "maximize": True}),
]


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS)
def test_optimizers_beside_torch(name, options):
    torch = pytest.importorskip("torch")
    ours, theirs = torch_twin(lambda: nn.Linear(5, 4), lambda: torch.nn.Linear(5, 4))
    a = getattr(optim, name)(ours.parameters(), **options)
    b = getattr(torch.optim, name)(theirs.parameters(), **options)
    rng = np.random.default_rng(2)
    for step in range(6):
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            g = rng.standard_normal(p.shape).astype(np.float32)
            p.grad, q.grad = lg.tensor(g), torch.tensor(g)
        if step == 3:  # go on from a state saved by the other one
            a.load_state_dict(as_lightgrad(b.state_dict()))
        norm = nn.utils.clip_grad_norm_(ours.parameters(), 1.0)
        want = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        assert norm.item() == pytest.approx(want.item(), rel=1e-5)
        a.step()
        b.step()
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert np.allclose(p.detach().numpy(), q.detach().numpy(), atol=2e-6)


def as_lightgrad(state):
    """An optimizer state of PyTorch with its tensors converted."""
    tensors = {
        i: {k: lg.tensor(v.numpy()) if hasattr(v, "numpy") else v for k, v in s.items()}
        for i, s in state["state"].items()
    }
    return {"state": tensors, "param_groups": state["param_groups"]}


SCHEDULES = {
    "step": lambda s, o: s.StepLR(o, 3, gamma=0.5),
    "lambda": lambda s, o: s.LambdaLR(o, lambda t: 0.9**t),
    "cosine": lambda s, o: s.CosineAnnealingLR(o, T_max=6, eta_min=0.01),
    "linear": lambda s, o: s.LinearLR(o, start_factor=0.1, total_iters=4),
    "one_cycle": lambda s, o: s.OneCycleLR(o, max_lr=0.3, total_steps=12),
    "one_cycle_linear": lambda s, o: s.OneCycleLR(
        o, max_lr=0.3, total_steps=12, anneal_strategy="linear", three_phase=True, pct_start=0.4
    ),
    "sequential": lambda s, o: s.SequentialLR(o, [s.LinearLR(o, 0.1, total_iters=4), s.CosineAnnealingLR(o, 8)], [4]),
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.filterwarnings("ignore")
def test_schedules_beside_torch(name):
    torch = pytest.importorskip("torch")
    ours = optim.SGD([nn.Parameter(lg.ones(1))], lr=0.2, momentum=0.9)
    theirs = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.2, momentum=0.9)
    a = SCHEDULES[name](optim.lr_scheduler, ours)
    b = SCHEDULES[name](torch.optim.lr_scheduler, theirs)
    for _ in range(12):
        assert ours.param_groups[0]["lr"] == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-9)
        momentum = theirs.param_groups[0]["momentum"]
        assert ours.param_groups[0]["momentum"] == pytest.approx(momentum, rel=1e-9)
        assert a.get_last_lr() == [ours.param_groups[0]["lr"]]
        a.step()
        theirs.step()
        b.step()
    state = a.state_dict()
    assert state["last_epoch"] == 12
