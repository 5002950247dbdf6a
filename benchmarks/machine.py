"""The machine and the versions that numbers belong to."""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

PEAK = """
import json, lightgrad as lg
from lightgrad import profiler
peaks = []
for threads in {threads}:
    lg.set_num_threads(threads)
    p = profiler.measure_peak()
    peaks.append(dict(threads=threads, flops=p.flops, memory=p.memory, cache=p.cache, simd_target=p.simd_target))
print(json.dumps(peaks))
"""


def words(*command):
    """The first line that a command prints, or nothing."""
    try:
        out = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return ""
    return out.stdout.strip().splitlines()[0] if out.returncode == 0 and out.stdout.strip() else ""


def field(text, name):
    """`name : value` of /proc and lscpu."""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def peaks(threads):
    """What the machine can do, at one thread and at all: FLOP/s and bytes/s, as lightgrad.profiler measures them."""
    out = subprocess.run(
        [sys.executable, "-c", PEAK.format(threads=sorted({1, threads}))], capture_output=True, text=True
    )
    if out.returncode:
        print(f"the peak was not measured: {out.stderr.strip()}", file=sys.stderr)
        return []
    return json.loads(out.stdout)


def describe():
    cpu, memory = Path("/proc/cpuinfo").read_text(), Path("/proc/meminfo").read_text()
    lscpu = subprocess.run(["lscpu"], capture_output=True, text=True).stdout
    flags = field(cpu, "flags").split()
    return {
        "cpu": field(cpu, "model name"),
        "family": f"family {field(cpu, 'cpu family')}, model {field(cpu, 'model')}",
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(field(memory, "MemTotal").split()[0]) / 2**20, 1),
        "caches": {level: field(lscpu, f"{level} cache") for level in ("L1d", "L2", "L3")},
        "simd": [flag for flag in ("sse4_2", "avx2", "fma", "avx512f", "avx512_bf16") if flag in flags],
        "virtual": "hypervisor" in flags,
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
    }


def versions():
    found = {"python": platform.python_version(), "compiler": words("c++", "--version")}
    for name in ("lightgrad", "torch", "jax", "numpy"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    root = Path(__file__).parent
    found["commit"] = words("git", "-C", str(root), "rev-parse", "--short=12", "HEAD")
    if words("git", "-C", str(root), "status", "--porcelain", "--", "../lightgrad", "../python"):
        found["commit"] += " with changes"
    return found


TORCH = """
import re, torch
words = [re.sub(r"-Product.*| \\(Git.*", "", line).strip(" -") for line in torch.__config__.show().splitlines()]
wanted = ("Math Kernel Library", "MKL-DNN", "CPU capability")
print("; ".join(word for word in words if any(part in word for part in wanted) and "Build settings" not in word))
"""


def torch_uses():
    """PyTorch's kernels: which MKL, which oneDNN, and the instructions of its own loops."""
    return words(sys.executable, "-c", TORCH)


def installed_mb(name):
    """Megabytes of a package and all that it needs."""
    seen, waiting, total = set(), [name], 0
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in seen:
            continue
        seen.add(name)
        try:
            package = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        total += sum(path.stat().st_size for file in package.files or [] if (path := Path(file.locate())).is_file())
        for requirement in package.requires or []:
            if "extra ==" not in requirement:
                waiting.append(requirement.split(";")[0].split("[")[0].strip("( ").split("=")[0].strip("<>!~ "))
    return round(total / 1e6, 1)
