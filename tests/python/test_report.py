"""The benchmarks' lists and arithmetic, and that README says what docs/report.json says. Nothing here is timed."""

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import cases  # noqa: E402
import report_readme  # noqa: E402
import report_table  # noqa: E402
import turns  # noqa: E402
from costs import cost  # noqa: E402

REPORT = ROOT / "docs" / "report.json"
recorded = pytest.mark.skipif(not REPORT.exists(), reason="no docs/report.json: make report writes it")


def test_every_case_is_named_once_and_has_a_target():
    operations = cases.operations()
    assert len({case.text for case in operations}) == len(operations)
    assert len({(case.group, case.name) for case in operations}) == len(operations)
    assert {case.group for case in operations} <= set(cases.TARGETS)
    assert set(cases.WORKLOADS) <= set(cases.TARGETS) | {"resnet20"}


@pytest.mark.parametrize("program", ["ops.cpp", "torch_ops.py"])
def test_every_program_knows_every_operation(program):
    text = (BENCHMARKS / program).read_text()
    for kind in {case.kind for case in cases.operations()}:
        assert f'"{kind}"' in text, f"{program} does not know {kind}"


def test_costs():
    assert cost("gemm form=NT m=2 n=3 k=5") == (60, 4 * (10 + 15 + 6))
    assert cost("gemm form=NT m=2 n=3 k=5 dtype=float64")[1] == 8 * 31
    assert cost("attention batch=1 heads=2 context=8 width=4 causal=0") == (2 * 2 * 8 * 8 * 4 * 2, 4 * 4 * 64)
    assert cost("adamw n=10 tensors=3") == (0, 4 * 30 * 7)
    for case in cases.operations():
        flop, size = cost(case.text)
        assert flop >= 0 and size > 0
    for what, sizes in cases.SWEEPS.items():
        flops = [cost(cases.sweep_case(what, size))[0] for size in sizes]
        assert flops == sorted(set(flops))


def test_a_step_costs_what_its_products_cost():
    c = {"context": 64, "width": 128, "heads": 4, "batch": 12, "vocabulary": 65, "layers": 3}
    rows = 12 * 64
    products = 3 * (128 * 384 + 128 * 128 + 2 * 128 * 512) + 128 * 65
    attention = 3 * 2 * 64 * 128 / 2  # q k^T and p v of 3 layers, the causal half
    assert cost(cases.WORKLOADS["gpt_small"])[0] == 3 * 2 * rows * (products + attention)
    assert cases.WORKLOADS["gpt_small"] == "gpt " + " ".join(f"{k}={v}" for k, v in c.items())


def system(*medians):
    return {"median": sorted(medians)[len(medians) // 2], "min": min(medians), "medians": list(medians)}


def test_a_ratio_is_by_the_round_and_against_the_best_peer():
    systems = {"lightgrad": system(1, 2, 4), "torch": system(9, 9, 9), "torch.best": system(2, 6, 8)}
    r = turns.ratio(systems, "lightgrad", ["torch", "torch.best", "torch.compile.best"])
    assert (r["peer"], r["median"], r["low"], r["high"]) == ("torch.best", 2, 2, 3)
    assert turns.ratio(systems, "lightgrad", ["jax"]) is None
    assert turns.ratio({"lightgrad": {"error": "x"}, "torch": system(1)}, "lightgrad", ["torch"]) is None
    failed = {"lightgrad": system(2), "torch": system(3), "torch.best": {"error": "x"}}
    assert turns.ratio(failed, "lightgrad", ["torch", "torch.best"])["peer"] == "torch"


def operation(group, name, ours, theirs):
    return {"group": group, "name": name, "systems": {"lightgrad": system(*ours), "torch": system(*theirs)}}


def test_a_group_is_its_geometric_mean_and_its_slowest_case():
    data = {
        "operations": [
            operation("gemm", "a", (1, 1, 1), (4, 4, 4)),
            operation("gemm", "b", (2, 2, 2), (2, 2, 2)),
            operation("memory_large", "c", (2, 2, 2), (1, 1, 1)),
        ]
    }
    lines = {line["key"]: line for line in report_table.how_fast(data)}
    assert lines["gemm"]["median"] == pytest.approx(2) and lines["gemm"]["holds"]
    assert lines["gemm_worst"]["median"] == 1 and lines["gemm_worst"]["title"].endswith(": b")
    assert lines["memory_large_worst"]["median"] == 0.5 and not lines["memory_large_worst"]["holds"]


PEER = """
import sys
for line in sys.stdin:
    seconds, case = line.split(" ", 1)
    if case.strip() == "die":
        sys.exit("no such thing")
    print('{"ms_median": 2.0, "ms_min": 1.0, "loss_first": 3.0, "loss_last": 2.5}', flush=True)
"""


def test_peers_answer_in_turns_and_a_dead_one_is_reported():
    peers = [turns.Peer(name, [sys.executable, "-c", PEER], 1) for name in "ab"]
    systems = turns.summary(turns.in_turns(peers, "x", 0.1, 3))
    assert systems["a"] == systems["b"]
    assert systems["a"] == {"median": 2, "min": 1, "medians": [2, 2, 2], "loss_first": 3, "loss_last": 2.5}
    systems = turns.summary(turns.in_turns(peers, "die", 0.1, 3))
    assert "no such thing" in systems["a"]["error"]
    for peer in peers:
        peer.close()
        peer.close()


def test_the_section_is_replaced_and_nothing_else():
    new = f"{report_readme.BEGIN}\ntext\n{report_readme.END}"
    once = report_readme.replaced("# A\n\nwords\n\n## More\n\nlast\n", new)
    assert once == f"# A\n\nwords\n\n{new}\n\n## More\n\nlast\n"
    assert report_readme.current(once) == new
    assert report_readme.replaced(once, new) == once
    assert report_readme.replaced(once, new.replace("text", "other")) == once.replace("text", "other")


@recorded
def test_readme_says_what_the_report_says():
    section = report_readme.section(json.loads(REPORT.read_text()))
    assert report_readme.current((ROOT / "README.md").read_text()) == section, (
        "README's performance section is not that of docs/report.json: make report REPORT_FROM=docs/report.json"
    )


@recorded
def test_every_page_can_be_drawn(tmp_path):
    pytest.importorskip("matplotlib", reason="a tool of make report")
    from report_pdf import write_pdf

    write_pdf(json.loads(REPORT.read_text()), tmp_path / "report.pdf")
    pages = re.findall(rb"/Type /Page\b", (tmp_path / "report.pdf").read_bytes())
    assert len(pages) >= 8
