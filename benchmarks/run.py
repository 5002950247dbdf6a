"""Training steps of LightGrad and PyTorch side by side: separate processes in turns (A B A B), so that neither's
threads spin beside the other's and a drifting clock hits both. Prints times and ratios, PyTorch's over LightGrad's.

Usage: run.py [--threads N] [--rounds N] [WORKLOAD ...]     (an otherwise idle machine, please)
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
STEPS = HERE.parent / "build" / "benchmarks" / "steps"


def run(command):
    out = subprocess.run(command, capture_output=True, text=True)
    if out.returncode:
        raise SystemExit(f"{command[0]} failed:\n{out.stderr}")
    return [json.loads(line) for line in out.stdout.splitlines() if line.startswith("{")]


def has_torch():
    return subprocess.run([sys.executable, "-c", "import torch"], capture_output=True).returncode == 0


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("workloads", nargs="*", default=["gpt_small", "gpt_medium", "mlp", "tiny"])
    a = p.parse_args()
    threads = ["--threads", str(a.threads)]
    systems = {"lightgrad": [str(STEPS), *threads]}
    in_python = [w for w in a.workloads if w in ("mlp", "tiny")]
    if has_torch():
        systems["torch"] = [sys.executable, str(HERE / "torch_steps.py"), *threads]
    else:
        print("PyTorch is not installed here: LightGrad alone (pip install torch==2.13.0 for the comparison)")

    results = {}
    for _ in range(a.rounds):
        for name in a.workloads:
            for command in systems.values():
                for row in run([*command, name]):
                    results.setdefault((name, row["system"]), []).append(row)
            if name in in_python:
                for row in run([sys.executable, str(HERE / "steps.py"), *threads, name]):
                    results.setdefault((name, row["system"]), []).append(row)

    print(
        f"{'workload':<12}{'system':<18}{'median ms':>11}{'min ms':>10}"
        f"{'torch/this: median':>20}{'min':>7}{'spread':>14}"
    )
    for (name, system), rows in results.items():
        medians = [r["ms_median"] for r in rows]
        median, best = statistics.median(medians), min(r["ms_min"] for r in rows)
        line = f"{name:<12}{system:<18}{median:>11.4f}{best:>10.4f}"
        if system != "torch" and (name, "torch") in results:
            peer = results[name, "torch"]
            pairs = [t["ms_median"] / r["ms_median"] for t, r in zip(peer, rows, strict=False)]
            ratio = statistics.median(pairs)
            line += f"{ratio:>20.2f}{min(t['ms_min'] for t in peer) / best:>7.2f}"
            line += f"{min(pairs):>8.2f}-{max(pairs):.2f}"
        print(line)


main()
