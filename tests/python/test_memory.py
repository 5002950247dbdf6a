"""lg.memory.limit, states in bfloat16 and lg.plan from Python."""

import gc
import re

import pytest
from lightgrad.utils.checkpoint import checkpoint

import lightgrad as lg
from lightgrad import nn, optim
from lightgrad.nn import functional as F


@pytest.fixture(autouse=True)
def no_garbage():
    gc.collect()  # the frames of earlier tests' errors hold tensors; let none go in the middle of this one


@pytest.fixture
def no_limit():
    yield
    lg.memory.limit(None)


def in_use():
    return lg.memory.stats()["current"]


def test_the_limit_is_read_back(no_limit):
    assert lg.memory.limit() is None
    lg.memory.limit(5e8)
    assert lg.memory.limit() == 500_000_000
    for none in (None, 0):
        lg.memory.limit(none)
        assert lg.memory.limit() is None
    with pytest.raises(ValueError, match="memory limit: got -1 bytes"):
        lg.memory.limit(-1)


def test_an_allocation_above_the_limit_is_a_memory_error_that_names_the_holders(no_limit):
    x = lg.zeros(7, 1 << 20)
    weight = nn.Parameter(lg.zeros(1 << 20))
    lg.memory.limit(in_use() + (1 << 20))
    with pytest.raises(MemoryError) as error:
        (x * weight).sum()
    message = str(error.value)
    assert re.match(r"out of memory: asked for 29360320 bytes, \d+ in use of a limit of \d+, ", message)
    assert "29.4 MB of other in 1 x float32 [7, 1048576]" in message
    assert "4.19 MB of parameters in 1 x float32 [1048576]" in message
    lg.memory.limit(None)
    assert (x * weight).sum().item() == 0


def test_a_limit_inside_of_a_module_names_the_module(no_limit):
    model = nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.Linear(8, 1 << 16)))
    lg.memory.limit(in_use() + (1 << 20))
    with pytest.raises(MemoryError, match=r"\(in 1\.0\)$"):
        model(lg.zeros(512, 8))


@pytest.mark.parametrize("make", [optim.SGD, optim.Adam, optim.AdamW])
def test_states_in_bfloat16_are_saved_and_go_on_with_the_same_bits(make, tmp_path):
    options = {"lr": 1e-2, "state_dtype": lg.bfloat16} | ({"momentum": 0.9} if make is optim.SGD else {})

    def steps(model, optimizer, first, last):
        for i in range(first, last):
            optimizer.zero_grad()
            x = lg.randn(16, 4, generator=lg.Generator(i))
            ((model(x) - x.sin()) ** 2).mean().backward()
            optimizer.step()

    def fresh():
        lg.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 4))
        return model, make(model.parameters(), **options)

    whole, optimizer = fresh()
    assert optimizer.state_dtype is lg.bfloat16
    steps(whole, optimizer, 0, 10)

    broken, optimizer = fresh()
    steps(broken, optimizer, 0, 5)
    saved = {}
    for number, state in optimizer.state_dict()["state"].items():
        assert all(t.dtype is lg.bfloat16 for name, t in state.items() if name != "step")
        saved |= {f"{number}.{name}": t for name, t in state.items() if name != "step"}
    lg.save(saved, tmp_path / "states.safetensors")
    loaded = lg.load(tmp_path / "states.safetensors")
    state = optimizer.state_dict()
    for number, entry in state["state"].items():
        for name in entry:
            if name != "step":
                entry[name] = loaded[f"{number}.{name}"]

    resumed, optimizer = fresh()
    optimizer.load_state_dict(state)
    resumed.load_state_dict(broken.state_dict())
    steps(resumed, optimizer, 5, 10)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert a.tolist() == b.tolist()
    with pytest.raises(ValueError, match=r"state_dtype is int64, expected float32 or bfloat16"):
        make(whole.parameters(), state_dtype=lg.int64)


class Tower(nn.Module):
    def __init__(self, width=64, blocks=5):
        super().__init__()
        self.blocks = nn.ModuleList([self.block(width) for _ in range(blocks)])
        self.head = nn.Linear(width, 10)
        self.checkpoints = ()

    @staticmethod
    def block(width):
        return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        for i, block in enumerate(self.blocks):
            x = checkpoint(block, x) if f"blocks.{i}" in self.checkpoints else block(x)
        return self.head(x)


@pytest.fixture
def one_thread():
    """How many threads meet in an operation, each with scratch memory of its own, is chance."""
    before = lg.get_num_threads()
    lg.set_num_threads(1)
    yield
    lg.set_num_threads(before)


def measured(loss, batch, optimizer, parts=1):
    rows = len(batch[0]) // parts
    for i in range(3):
        if i == 1:
            lg.memory.reset_peak()
        for at in range(0, rows * parts, rows):
            (loss(*(t[at : at + rows] for t in batch)) / parts).backward()
        optimizer.step()
        optimizer.zero_grad()
    return lg.memory.stats()["peak"]


def test_a_plan_is_what_a_step_needs(one_thread):
    lg.manual_seed(0)
    model = Tower()
    optimizer = optim.AdamW(model.parameters())
    batch = lg.randn(2048, 64), lg.randint(0, 10, (2048,))

    def loss(x, y):
        return F.cross_entropy(model(x), y)

    for parts in (1, 4):
        plan = lg.plan(model, *batch, loss=loss, optimizer=optimizer, accumulate=parts)
        assert plan.peak == pytest.approx(measured(loss, batch, optimizer, parts), rel=0.1)
        assert plan.fits and plan.checkpoints == []
        optimizer = optim.AdamW(model.parameters())  # whose states are to come again
    whole = lg.plan(model, *batch, loss=loss, optimizer=optimizer)
    assert whole.states == sum(2 * 4 * p.numel() for p in model.parameters())
    budget = 0.6 * whole.peak
    plan = lg.plan(model, *batch, loss=loss, optimizer=optimizer, budget=budget)
    assert plan.fits and plan.peak == pytest.approx(whole.peak, rel=0.01)
    assert plan.checkpoints and {layer.path for layer in plan.layers if layer.checkpoint} == set(plan.checkpoints)
    model.checkpoints = plan.checkpoints
    assert measured(loss, batch, optimizer) <= 1.03 * budget


def test_a_plan_prints_a_table_and_says_what_is_wrong():
    model = Tower(blocks=2)
    plan = lg.plan(model, lg.randn(64, 64))
    lines = str(plan).splitlines()
    assert lines[0].split() == ["layer", "parameters", "kept", "forward", "backward"]
    assert lines[2].startswith("blocks: ModuleList ")
    assert any(line.startswith("    1: Linear ") for line in lines)
    assert re.search(r"in use before the step, .* at the most, in .* of blocks\.", lines[-1])
    assert len(plan.table(depth=1).splitlines()) == 2 + 2 + 2 + 1
    with pytest.raises(TypeError, match="plan: model is a int, expected a Module"):
        lg.plan(3, lg.zeros(2))
    with pytest.raises(ValueError, match=r"tensors of \[4, 64\] and \[5\], expected as many rows"):
        lg.plan(model, lg.zeros(4, 64), lg.zeros(5), loss=lambda x, y: model(x).sum())
    with pytest.raises(ValueError, match="the batch has no rows"):
        lg.plan(model, loss=lambda: model(lg.zeros(4, 64)).sum())
    with pytest.raises(ZeroDivisionError):
        lg.plan(model, lg.zeros(4, 64), loss=lambda x: model(x).sum() / (1 // 0))
    assert all(p.grad is None for p in model.parameters())


def test_a_model_trains_under_a_third_of_its_memory_to_the_same_losses(no_limit, one_thread):
    """benchmarks/memory.py does the same with a model of 2 GB."""
    batch = lg.randn(4096, 64, generator=lg.Generator(1)), lg.randint(0, 10, (4096,), generator=lg.Generator(2))

    def build():
        lg.manual_seed(0)
        model = Tower(blocks=8)
        return model, optim.AdamW(model.parameters(), lr=3e-4), lambda x, y: F.cross_entropy(model(x), y)

    def train(loss, optimizer, parts):
        rows, losses = len(batch[0]) // parts, []
        for _ in range(4):
            total = 0.0
            for at in range(0, rows * parts, rows):
                part = loss(*(t[at : at + rows] for t in batch)) / parts
                part.backward()
                total += part.item()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(total)
        return losses

    _, optimizer, loss = build()
    lg.memory.reset_peak()
    plain = train(loss, optimizer, 1)
    peak = lg.memory.stats()["peak"]
    del optimizer, loss

    limit = peak * 700 // 2000
    lg.memory.limit(limit)
    model, optimizer, loss = build()
    with pytest.raises(MemoryError, match="of activations in"):
        train(loss, optimizer, 1)
    optimizer.zero_grad()
    plan = lg.plan(model, *batch, loss=loss, optimizer=optimizer, accumulate=2, budget=limit)
    assert plan.fits and plan.checkpoints and plan.peak > limit
    model.checkpoints = plan.checkpoints
    lg.memory.reset_peak()
    assert train(loss, optimizer, 2) == pytest.approx(plain, abs=1e-6)
    assert 0.7 * limit < lg.memory.stats()["peak"] <= limit
