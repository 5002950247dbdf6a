"""Profiles from Python: what they record and the forms that other programs read. Costs: tests/cpp/test_profile.cpp."""

import inspect
import json
import threading
import xml.etree.ElementTree
from pathlib import Path

import pytest

import lightgrad as lg
from lightgrad import nn

PEAK = lg.profiler.Peak(flops=1e11, memory=1e10, cache=1e11, threads=2, simd_target="AVX2")


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.Linear(4, 8)
        self.down = nn.Linear(8, 4)

    def forward(self, x):
        return self.down(self.up(x).relu())


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


def profiled_step():
    model = Model()
    optimizer = lg.optim.AdamW(model.parameters())
    with lg.profiler.profile() as p:
        model(lg.ones(3, 4)).sum().backward()
        optimizer.step()
    return p


def test_operations_and_their_modules():
    p = profiled_step()
    assert not p.running
    rows = {row.name: row for row in p.rows()}
    assert rows["linear"].calls == rows["linear backward"].calls == 4
    assert rows["linear"].flops == 2 * (2 * 3 * 4 * 8 + 3 * 8 + 2 * 3 * 8 * 4 + 3 * 4)
    assert rows["AdamW step"].calls == 1
    parameters = 2 * (4 * 8 + 8 + 8 * 4 + 4)
    assert rows["AdamW step"].bytes == 7 * 4 * parameters
    for phase in ("forward", "backward"):
        events = [e for e in p.events if (e.name, e.phase, e.depth) == ("linear", phase, 0)]
        order = [f"blocks.{i}.{name}" for i in (0, 1) for name in ("up", "down")]
        assert [e.module for e in events] == (order if phase == "forward" else order[::-1])
    assert events[0].shape == (3, 4)
    modules = [row.name for row in p.rows(group_by="module", sort_by="name", depth=2)]
    assert modules == ["(no module)", "blocks.0", "blocks.1"]
    assert p.total().seconds <= p.seconds
    assert p.total().calls == sum(row.calls for row in p.rows())


def test_table():
    p = profiled_step()
    assert str(p) == p.table()
    lines = p.table(sort_by="calls", limit=2).splitlines()
    assert lines[0].split()[:4] == ["operation", "calls", "time", "share"]
    assert len(lines) == 7 and lines[-2].startswith("all operations")
    assert len({len(line) for line in lines[:-1]}) == 1
    with pytest.raises(ValueError, match="group_by"):
        p.table(group_by="size")
    assert repr(p.rows()[0]).startswith("Row(")
    assert repr(p.events[0]).startswith("Event(linear forward")


def test_trace_is_what_perfetto_reads(tmp_path):
    p = profiled_step()
    p.save_trace(tmp_path / "trace.json")
    trace = json.loads((tmp_path / "trace.json").read_text())
    assert trace == json.loads(p.trace())
    assert set(trace) == {"displayTimeUnit", "traceEvents"}
    bars = [e for e in trace["traceEvents"] if e["ph"] == "X"]
    assert len(bars) == len(p.events)
    for bar, event in zip(bars, p.events, strict=True):
        assert set(bar) == {"name", "cat", "ph", "pid", "tid", "ts", "dur", "args"}
        assert bar["name"] == event.name and bar["cat"] == event.phase
        assert bar["ts"] == pytest.approx(event.start * 1e6, abs=1e-3)
        assert bar["dur"] == pytest.approx(event.seconds * 1e6, abs=1e-3)
        assert bar["args"]["module"] == event.module and bar["args"]["flops"] == event.flops
    # Bars of a thread lie beside or inside of one another, which is how the format says who called whom.
    open_until = []
    for bar in bars:
        while open_until and bar["ts"] >= open_until[-1] - 2e-3:
            open_until.pop()
        assert not open_until or bar["ts"] + bar["dur"] <= open_until[-1] + 2e-3
        open_until.append(bar["ts"] + bar["dur"])
    curve = [e for e in trace["traceEvents"] if e["ph"] == "C"]
    assert len(curve) == sum(e.depth == 0 for e in p.events)
    assert all(e["args"]["bytes"] > 0 for e in curve)
    named = {e["name"]: e["args"]["name"] for e in trace["traceEvents"] if e["ph"] == "M"}
    assert named["process_name"] == "LightGrad" and "thread_name" in named


def test_names_that_json_and_svg_must_escape(tmp_path):
    class Odd(lg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2

    Odd.__name__ = 'a<b> & "c\\d\n" é'
    x = lg.ones(3, requires_grad=True)
    y = Odd.apply(x).sum()
    with lg.profiler.profile() as p:
        y.backward()
    names = {e["name"] for e in json.loads(p.trace())["traceEvents"]}
    assert any('a<b> & "c\\d\n" é' in name for name in names)
    p.save_roofline(tmp_path / "roofline.svg", PEAK)
    text = "".join(xml.etree.ElementTree.parse(tmp_path / "roofline.svg").getroot().itertext())
    assert 'a<b> & "c\\d' in text


def test_roofline(tmp_path):
    p = profiled_step()
    p.save_roofline(str(tmp_path / "roofline.svg"), peak=PEAK)
    text = (tmp_path / "roofline.svg").read_text()
    assert text == p.roofline(PEAK)
    root = xml.etree.ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    drawn = [c for c in root if c.tag.endswith("circle")]
    assert len(drawn) == sum(row.flops > 0 for row in p.rows())
    width, height = float(root.get("width")), float(root.get("height"))
    for circle in drawn:
        assert 0 < float(circle.get("cx")) < width and 0 < float(circle.get("cy")) < height
    with pytest.raises(OSError, match="save_roofline"):
        p.save_roofline(tmp_path / "nowhere" / "roofline.svg", PEAK)


def test_peak():
    peak = lg.profiler.measure_peak()
    assert min(peak.flops, peak.memory, peak.cache) > 0
    assert peak.threads == lg.get_num_threads() and peak.simd_target
    assert repr(peak).startswith("Peak(flops=")


def test_nothing_is_recorded_outside():
    x = lg.ones(3)
    p = lg.profiler.profile()
    x + x
    with p:
        x * x
        with pytest.raises(RuntimeError, match="running already"):
            p.start()
    x - x
    assert [e.name for e in p.events] == ["mul"]
    with p:  # goes on
        x / x
    assert [e.name for e in p.events] == ["mul", "div"]


def test_an_exception_ends_it():
    p = lg.profiler.profile()
    with pytest.raises(ZeroDivisionError), p:
        lg.ones(3) + 1
        raise ZeroDivisionError
    assert not p.running
    lg.ones(3) + 1
    assert [e.name for e in p.events] == ["add"]


def test_threads():
    x = lg.ones(16, 16)

    def work():
        for _ in range(20):
            x @ x

    with lg.profiler.profile() as p:
        threads = [threading.Thread(target=work) for _ in range(3)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    counts = [sum(e.thread == t for e in p.events) for t in {e.thread for e in p.events}]
    assert counts == [20, 20, 20]


def test_stubs_name_everything():
    text = Path(lg.profiler.__file__).with_name("_core").joinpath("profiler.pyi").read_text()
    for name in lg.profiler.__all__:
        assert f"class {name}" in text or f"def {name}" in text
        thing = getattr(lg.profiler, name)
        if inspect.isclass(thing):
            for member in vars(thing):
                assert member.startswith("_") or f"def {member}(" in text, f"{name}.{member}"
