"""LayerNorm(ReLU(x W^T + b)) gamma + beta, forward, over sizes and dtypes: NumPy, LightGrad on the CPU, and where there
is a GPU Triton's kernel beside PyTorch, eager and compiled. Time, TFLOP/s, GB/s, share of the device's peak.

    python benchmarks/fused_mlp.py [--quick] [--tune] [--out build/fused_mlp.json]   (make bench-triton)

With --tune the fastest variants are looked for first, and written into the bundle that is in use. What is not there is
said and left out. Every number is the least of the medians of several rounds; rounds of the candidates take turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np

import lightgrad as lg

SIZES = [(4096, 512, 512), (4096, 256, 1024), (1024, 1024, 1024), (65536, 512, 512)]  # M, K, N
QUICK = SIZES[:1]
# What their makers say: TFLOP/s by dtype (dense), GB/s.
PEAKS = {
    "H200": ({"float32": 67, "tf32": 495, "float16": 989, "bfloat16": 989}, 4800),
    "H100": ({"float32": 67, "tf32": 495, "float16": 989, "bfloat16": 989}, 3350),
    "A100": ({"float32": 19.5, "tf32": 156, "float16": 312, "bfloat16": 312}, 2039),
}


def numpy_by_blas(x, w, b, gamma, beta):
    """As one writes it: every step makes an array; the product is BLAS's."""
    h = np.maximum(x @ w.T + b, 0)
    mean = h.mean(-1, keepdims=True)
    return (h - mean) / np.sqrt(((h - mean) ** 2).mean(-1, keepdims=True) + 1e-5) * gamma + beta


def numpy_naive(x, w, b, gamma, beta):
    """Without BLAS: the product as NumPy's own loops compute it."""
    h = np.maximum(np.einsum("mk,nk->mn", x, w) + b, 0)
    mean = h.mean(-1, keepdims=True)
    return (h - mean) / np.sqrt(((h - mean) ** 2).mean(-1, keepdims=True) + 1e-5) * gamma + beta


def by_clock(call, seconds):
    """One round: the median of calls in about `seconds`, in seconds."""
    times = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def by_events(call, event, elapsed, synchronize):
    """A round on a GPU: twenty calls between two events of the driver."""

    def one(_):
        synchronize()
        first = event()
        for _ in range(20):
            call()
        return elapsed(first, event()) / 20e3

    return one


def on_cpu(inputs):
    tensors = [lg.tensor(a) for a in inputs]
    with_grad_off = lg.no_grad()

    def lightgrad():
        with with_grad_off:
            lg.nn.functional.fused_mlp(*tensors)

    calls = {
        "LightGrad, CPU": lightgrad,
        "NumPy": lambda: numpy_by_blas(*inputs),
        "NumPy without BLAS": lambda: numpy_naive(*inputs),
    }
    return {name: (lambda s, call=call: by_clock(call, s)) for name, call in calls.items()}


def on_gpu(inputs, dtype, tune):
    tensors = [lg.tensor(a, dtype=getattr(lg, dtype)).to("cuda") for a in inputs]
    call = lambda: lg.nn.functional.fused_mlp(*tensors)
    if tune:
        with lg.cuda.tune() as winners:
            call()
        for w in winners:
            print(f"tuned {w['kernel']} {dtype} {w['sizes']}: {w['before']:.3f} -> {w['after']:.3f} ms")
    found = {
        "LightGrad, Triton": by_events(call, lg.cuda.Event, lambda a, b: a.milliseconds_to(b), lg.cuda.synchronize)
    }
    try:
        import torch
    except ImportError:
        return found
    if not torch.cuda.is_available():
        return found
    x, w, b, gamma, beta = (torch.tensor(a, dtype=getattr(torch, dtype), device="cuda") for a in inputs)
    f = torch.nn.functional
    eager = lambda: f.layer_norm(f.relu(f.linear(x, w, b)), (w.shape[0],), gamma, beta)
    compiled = torch.compile(eager)

    def event():
        e = torch.cuda.Event(enable_timing=True)
        e.record()
        return e

    def elapsed(a, b):
        b.synchronize()
        return a.elapsed_time(b)

    for name, call in (("PyTorch", eager), ("PyTorch, compiled", compiled)):
        call()
        found[name] = by_events(call, event, elapsed, torch.cuda.synchronize)
    return found


def peak_of(device, dtype):
    if device == "cpu":
        return None, None
    for name, (flops, bandwidth) in PEAKS.items():
        if name in device:
            return flops[dtype], bandwidth
    return None, None


def measure(size, dtype, device, seconds, rounds, tune=False):
    M, K, N = size
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(s).astype(np.float32) for s in ((M, K), (N, K), (N,), (N,), (N,))]
    inputs[1] *= K**-0.5
    calls = on_cpu(inputs) if device == "cpu" else on_gpu(inputs, dtype, tune)
    item = 4 if dtype == "float32" else 2
    flops, moved = 2 * M * N * K + 10 * M * N, item * (M * K + N * K + M * N + 3 * N)
    times = {name: [] for name in calls}
    for call in calls.values():
        call(0)
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(call(seconds))
    peak_flops, peak_bytes = peak_of(device, dtype)
    rows = []
    for name, t in times.items():
        best = min(t)
        row = {"M": M, "K": K, "N": N, "dtype": dtype, "device": device, "what": name, "seconds": best, "rounds": t}
        row |= {"TFLOP/s": flops / best / 1e12, "GB/s": moved / best / 1e9}
        if peak_flops:
            floor = max(flops / (peak_flops * 1e12), moved / (peak_bytes * 1e9))
            row["of peak"] = floor / best
        rows.append(row)
    return rows


def plot(rows, file):
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    cases = list(dict.fromkeys((r["device"], r["dtype"], r["M"], r["K"], r["N"]) for r in rows))
    names = list(dict.fromkeys(r["what"] for r in rows))
    figure, axes = plt.subplots(figsize=(9, 0.9 + 0.9 * len(cases)))
    for i, name in enumerate(names):
        mine = [(cases.index((r["device"], r["dtype"], r["M"], r["K"], r["N"])), r) for r in rows if r["what"] == name]
        axes.barh(
            [c + 0.8 * i / len(names) for c, _ in mine], [r["TFLOP/s"] for _, r in mine], 0.8 / len(names), label=name
        )
    axes.set_yticks(range(len(cases)), [f"{d} {t}\n{m} x {k} x {n}" for d, t, m, k, n in cases])
    axes.set_xscale("log")
    axes.set_xlabel("TFLOP/s, the fused layer's forward")
    axes.legend()
    figure.tight_layout()
    figure.savefig(file)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tune", action="store_true", help="measure every variant first, and keep the fastest")
    parser.add_argument("--out", type=Path, default=Path("build/fused_mlp.json"))
    a = parser.parse_args()
    sizes, seconds, rounds = (QUICK, 0.5, 3) if a.quick else (SIZES, 1.0, 5)
    rows = []
    for size in sizes:
        rows += measure(size, "float32", "cpu", seconds, rounds)
    if lg.cuda.is_available() and lg.cuda.kernels_folder():
        for dtype in ("float32", "float16", "bfloat16"):
            for size in sizes:
                rows += measure(size, dtype, lg.cuda.get_device_name(), seconds, rounds, a.tune)
    else:
        why = lg.cuda.why_not_available() or "no compiled kernels: make kernels, LIGHTGRAD_KERNELS=build/kernels"
        print(f"The GPU is left out: {why}")
    head = f"{'device':<14}{'dtype':<10}{'M':>6}{'K':>6}{'N':>6}  {'':<20}"
    print(f"{head}{'ms':>10}{'TFLOP/s':>10}{'GB/s':>9}{'of peak':>9}")
    for r in rows:
        share = f"{r['of peak']:9.0%}" if "of peak" in r else f"{'':>9}"
        print(
            f"{r['device']:<14.14}{r['dtype']:<10}{r['M']:>6}{r['K']:>6}{r['N']:>6}  {r['what']:<20}"
            f"{1e3 * r['seconds']:>10.3f}{r['TFLOP/s']:>10.3f}{r['GB/s']:>9.1f}{share}"
        )
    a.out.parent.mkdir(parents=True, exist_ok=True)
    a.out.write_text(json.dumps({"threads": lg.get_num_threads(), "rows": rows}, indent=1) + "\n")
    try:
        plot(rows, a.out.with_suffix(".svg"))
        print(f"{a.out} and {a.out.with_suffix('.svg')} are written")
    except ImportError:
        print(f"{a.out} is written; the plot needs matplotlib")


if __name__ == "__main__":
    main()
