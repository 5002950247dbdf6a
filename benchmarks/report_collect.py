"""Measures everything that the report shows, section by section, into one dict (docs/report.json).

It holds what was measured and nothing that follows from it: ratios and verdicts are report_table.py's.
"""

import datetime
import json
import os
import subprocess
import sys
import tempfile
import time

import machine
import processes
from cases import BASE, SWEEPS, WORKLOADS, operations, sweep_case
from costs import cost
from ops import operation_peers
from run import TORCH, step_peers
from turns import BUILT, HERE, Progress, has, in_turns, summary

FULL = {
    "steps": {"rounds": 5, "seconds": 1.0},
    "operations": {"rounds": 4, "seconds": 0.1},
    "sweeps": {"rounds": 3, "seconds": 0.3},
    "processes": {"rounds": 5},
    "kernels": {"seconds": 0.05},
    "compile": True,
}
QUICK = {
    "steps": {"rounds": 2, "seconds": 0.3},
    "operations": {"rounds": 2, "seconds": 0.02},
    "sweeps": {"rounds": 1, "seconds": 0.1},
    "processes": {"rounds": 2},
    "kernels": {"seconds": 0.005},
    "compile": False,
}


def about(threads, how):
    return {
        "machine": machine.describe(),
        "versions": machine.versions(),
        "torch_uses": machine.torch_uses(),
        "peaks": machine.peaks(threads),
    }


def torch_ways(how):
    return [name for name in TORCH if how["compile"] or "compile" not in name]


def asked_of(peers, cases, how, kind, finish):
    """[finish(case, systems)] of every (case, text), with a bar."""
    rounds, seconds = how[kind]["rounds"], how[kind]["seconds"]
    progress, rows = Progress(len(cases), kind), []
    for case, text in cases:
        asked = [p for p in peers if "compile" not in p.name or getattr(case, "compiles", True)]
        rows.append(finish(case, summary(in_turns(asked, text, seconds, rounds))))
        progress.step(text)
    for peer in peers:
        peer.close()
    return rows


def steps(threads, how):
    def row(name, systems):
        flop, _ = cost(WORKLOADS[name])
        return {"name": name, "case": WORKLOADS[name], "flop": flop, "systems": systems}

    peers = step_peers(threads, torch_ways(how), jax=True, simd=["AVX2", "SSE4"])
    return {"steps": asked_of(peers, list(WORKLOADS.items()), how, "steps", row)}


def operation_rows(threads, how):
    def row(case, systems):
        flop, size = cost(case.text)
        return {
            "group": case.group,
            "name": case.name,
            "case": case.text,
            "flop": flop,
            "bytes": size,
            "systems": systems,
        }

    peers = operation_peers(threads, how["compile"])
    cases = [(case, case.text) for case in operations()]
    return {"operations": asked_of(peers, cases, how, "operations", row)}


def sweeps(threads, how):
    """PyTorch with its fused optimizers; compiling every size would take longer than all the rest."""

    def row(case, systems):
        what, size = case
        text = sweep_case(what, size)
        return {"what": what, "size": size, "case": text, "flop": cost(text)[0], "systems": systems}

    peers = [p for p in step_peers(threads, ["torch.best"]) if p.name != "lightgrad.python"]
    cases = [((what, size), sweep_case(what, size)) for what, sizes in SWEEPS.items() for size in sizes]
    return {"sweeps": {"base": BASE, "rows": asked_of(peers, cases, how, "sweeps", row)}}


def whole_processes(threads, how):
    """Process start to first step, import, peak memory, size on disk."""
    rounds = how["processes"]["rounds"]
    options = ["--threads", threads]
    python = {"lightgrad.python": [sys.executable, HERE / "steps.py"]}
    if has("torch"):
        torch = [sys.executable, HERE / "torch_steps.py"]
        python |= {"torch": torch, "torch.best": [*torch, "--best"]}
    programs = {"lightgrad": [BUILT / "steps"], **python}
    imports = {"lightgrad.python": "lightgrad"} | ({"torch": "torch"} if "torch" in python else {})
    progress = Progress(rounds * (2 * len(programs) + len(imports)) + bool(how["compile"]), "processes")

    start = {name: [*program, *options, "--once", "gpt_small"] for name, program in programs.items()}
    result = {"start": processes.repeated(processes.until_first_line, start, rounds, progress)}
    if how["compile"] and "torch" in python:
        with tempfile.TemporaryDirectory() as empty:  # as on the day that it is first run
            environment = dict(os.environ, TORCHINDUCTOR_CACHE_DIR=empty)
            command = {"torch.compile": [*torch, "--compile", "--best", *options, "--once", "gpt_small"]}
            measure = lambda c: processes.until_first_line(c, environment)
            result["start"] |= processes.repeated(measure, command, 1, progress)
    imported = {
        name: [sys.executable, "-c", f"import {module}; print(1, flush=True)"] for name, module in imports.items()
    }
    result["import"] = processes.repeated(processes.until_first_line, imported, rounds, progress)
    training = {name: [*program, *options, "--seconds", "1", "gpt_medium"] for name, program in programs.items()}
    result["peak_memory"] = processes.repeated(processes.peak_mb, training, rounds, progress)
    result["installed_mb"] = {name: machine.installed_mb(module) for name, module in imports.items()}
    return {"processes": result}


def kernels(threads, how):
    """google-benchmark's sweep over sizes, dtypes and threads."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [
            BUILT / "bench_kernels",
            f"--benchmark_min_time={how['kernels']['seconds']}",
            f"--benchmark_out={file.name}",
            "--benchmark_out_format=json",
        ]
        environment = dict(os.environ, LIGHTGRAD_NUM_THREADS=str(threads))
        subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL, env=environment)
        read = json.load(file)
    rows = []
    for b in read["benchmarks"]:
        name, dtype, size, count = b["name"].split("/")[:4]
        rows.append(
            {
                "kernel": name,
                "dtype": dtype,
                "size": int(size.split(":")[-1]),
                "threads": int(count.split(":")[-1]),
                "ms": round(b["real_time"] / 1e6, 7),
                **{rate: round(b[rate] / 1e9, 3) for rate in ("flops", "bytes") if rate in b},
            }
        )
    return {"kernels": rows}


SECTIONS = {
    "machine": about,
    "steps": steps,
    "operations": operation_rows,
    "sweeps": sweeps,
    "processes": whole_processes,
    "kernels": kernels,
}


def collect(sections, threads, quick, data, save):
    """Fills `data`, and saves it after each section."""
    how = QUICK if quick else FULL
    for name in sections:
        start = time.monotonic()
        print(f"report: {name}", file=sys.stderr, flush=True)
        data |= SECTIONS[name](threads, how)
        data.setdefault("minutes", {})[name] = round((time.monotonic() - start) / 60, 2)
        data |= {
            "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
            "command": f"make report{' QUICK=1' * quick}",
            "quick": quick,
            "threads": threads,
            "rounds": {kind: how[kind]["rounds"] for kind in ("steps", "operations", "sweeps", "processes")},
        }
        save(data)
    return data
