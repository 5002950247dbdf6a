"""What follows from the measurements: ratios, their spread, and whether each target holds. Reads the report's JSON."""

import math
import statistics

from cases import TARGETS
from turns import ratio

TORCH = ["torch", "torch.best", "torch.compile.best"]
NAMES = {
    "lightgrad": "LightGrad",
    "lightgrad.python": "LightGrad, Python",
    "lightgrad.avx2": "LightGrad, AVX2",
    "lightgrad.sse4": "LightGrad, SSE4",
    "torch": "PyTorch",
    "torch.best": "PyTorch, fused",
    "torch.compile.best": "PyTorch, compiled",
    "torch.compile": "PyTorch, compiled",
    "jax": "JAX, jitted",
}


def geometric_mean(values):
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values)) if values else float("nan")


def step(data, name):
    return next((row for row in data.get("steps", []) if row["name"] == name), None)


def of_group(data, group):
    """[(row, ratio)] of the operations that count for one target; without those where a system failed."""
    rows = [row for row in data.get("operations", []) if row["group"] == group]
    pairs = [(row, ratio(row["systems"], "lightgrad", TORCH)) for row in rows]
    return [(row, r) for row, r in pairs if r]


def group_ratio(pairs):
    """The geometric mean over the cases, and its spread over the rounds of measuring."""
    rounds = zip(*(r["pairs"] for _, r in pairs), strict=False)
    means = [geometric_mean(one) for one in rounds]
    return {"median": statistics.median(means), "low": min(means), "high": max(means)}


def how_fast(data):
    """A dict per line of the table: title, ratio (median, low, high), must, aim, holds, ours, theirs, unit, peer."""
    lines = []

    def add(key, title, r, must, aim, ours=None, theirs=None, unit="ms", peer=""):
        if r:
            shown = {"median": r["median"], "low": r["low"], "high": r["high"]}
            holds = r["median"] >= must
            reached = r["median"] >= aim
            lines.append({"key": key, "title": title, "must": must, "aim": aim, "holds": holds, "reached": reached})
            lines[-1] |= {"ours": ours, "theirs": theirs, "unit": unit, "peer": peer} | shown

    def one(key, systems, ours, peers, unit="ms"):
        r = ratio(systems, ours, peers)
        if r:
            target = TARGETS[key]
            medians = systems[ours]["median"], systems[r["peer"]]["median"]
            add(key, target.title, r, target.must, target.aim, *medians, unit, r["peer"])

    for key, ours in (
        ("gpt_small", "lightgrad"),
        ("gpt_medium", "lightgrad"),
        ("resnet20", "lightgrad"),
        ("mlp", "lightgrad"),
        ("tiny", "lightgrad"),
        ("tiny_python", "lightgrad.python"),
    ):
        row = step(data, key.removesuffix("_python"))
        if row:
            one(key, row["systems"], ours, TORCH)
    for key in ("gemm", "attention", "cross_entropy", "conv", "memory_large", "memory_small"):
        pairs, target = of_group(data, key), TARGETS[key]
        if not pairs:
            continue
        row, worst = min(pairs, key=lambda pair: pair[1]["median"])
        if target.by == "mean":
            add(key, f"{target.title}: mean of {len(pairs)}", group_ratio(pairs), target.must, target.aim)
        if target.by == "worst" or target.worst_must:
            must, aim = target.worst_must or target.must, target.worst_aim or target.aim
            systems = row["systems"]
            medians = systems["lightgrad"]["median"], systems[worst["peer"]]["median"]
            title = f"{target.title}, slowest: {row['name']}"
            add(f"{key}_worst", title, worst, must, aim, *medians, "ms", worst["peer"])
    whole = data.get("processes", {})
    if whole:
        one("start", whole["start"], "lightgrad.python", ["torch", "torch.best"], "s")
        one("peak_memory", whole["peak_memory"], "lightgrad.python", ["torch", "torch.best"], "MB")
    return lines


def slower_with(data, target):
    """{workload: how many times the time it takes with an older SIMD target}"""
    found = {}
    for row in data.get("steps", []):
        r = ratio(row["systems"], "lightgrad", [f"lightgrad.{target.lower()}"])
        if r:
            found[row["name"]] = r["median"]
    return found


def peak(data, threads=None):
    """The machine's peak at so many threads (all that were measured with): flops, memory, cache, per second."""
    threads = threads or data["threads"]
    found = [p for p in data.get("peaks", []) if p["threads"] == threads]
    return found[0] if found else None


def limit_ms(row, p):
    """The least time that the machine needs: its FLOP at the peak or its bytes at full speed, whichever takes longer.
    What fits the cores' own second-level caches (some 2 MiB together) is held against their speed."""
    size = row.get("bytes", 0)
    speed = p["cache"] if size <= 2**21 else p["memory"]
    return 1e3 * max(row["flop"] / p["flops"], size / speed)
