"""Compiles lightgrad/triton into a bundle: manifest.json and content-addressed blobs, <sha256>.cubin and .ptx.

    build_kernels.py OUT [--generated build/triton/pointwise.py] [--arch 80 90 100 120] [--only NAME ...] [--jobs 2]

Needs Triton (pip), neither a GPU nor PyTorch. The same sources give the same bytes. What a launch needs to know stands
in the manifest, which lightgrad/backend/cuda reads; nothing here is needed at run time.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import zlib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

# Read by Triton while it is imported. Without line tables a cubin is a third of the size and knows no path.
os.environ["TRITON_DISABLE_LINE_INFO"] = "1"
os.environ.pop("TRITON_INTERPRET", None)
_spec = importlib.util.find_spec("triton")
if _spec is None:
    sys.exit("build_kernels: Triton is not installed: pip install -r requirements-triton.txt")
NVIDIA = Path(_spec.origin).parent / "backends" / "nvidia" / "bin"
# The older of the two assemblers for every architecture: its cubins load in drivers from CUDA 12 on.
os.environ["TRITON_PTXAS_BLACKWELL_PATH"] = str(NVIDIA / "ptxas")

import triton_sources  # noqa: E402

FORMAT = 2
# By architecture: the PTX version (the lowest that speaks of it) and the oldest driver that loads the cubin.
PTX_VERSION = {80: 80, 90: 80, 100: 86, 120: 87}
DRIVER = {80: 12000, 90: 12000, 100: 12080, 120: 12080}
MAX_STACK = 256  # bytes a thread of what did not fit into its registers: a little is spilled before the epilogue


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def resources(cubin: bytes) -> dict[str, int]:
    """Registers a thread, and bytes of its stack: what did not fit into them."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run(
            [NVIDIA / "cuobjdump", "-res-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", text)
    return {"registers": int(found[1]), "stack": max(int(found[2]), int(found[4]))}


def compile_variant(kernel, variant, arch: int) -> tuple[dict, dict[str, bytes]]:
    """A row of the manifest, and the blobs it names."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = kernel.function.arg_names
    signature = {n: kernel.types.get(n, "constexpr") for n in names}
    attributes = {(names.index(n),): [["tt.divisibility", 16]] for n in variant.aligned}
    options = {"num_warps": variant.warps, "num_stages": variant.stages, "num_ctas": variant.ctas}
    options |= {"enable_fp_fusion": True, "ptx_version": PTX_VERSION[arch]}
    with contextlib.redirect_stdout(io.StringIO()):  # a failing assembler prints the whole program
        source = ASTSource(kernel.function, signature, constexprs=variant.constants, attrs=attributes)
        compiled = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    facts = compiled.metadata
    blobs = {"cubin": compiled.asm["cubin"]}
    if arch == 80:
        blobs["ptx"] = compiled.asm["ptx"].encode()
    row = {
        "kernel": kernel.name,
        "entry": facts.name,
        "arch": arch,
        "driver": DRIVER[arch],
        "args": [[n, t, 16 if n in variant.aligned else 1] for n, t in kernel.types.items()],
        "choices": {n: variant.constants[n] for n in variant.choices},
        "tune": list(kernel.tune),
        "when": [list(w) for w in variant.when],
        "grid": [[list(factor) for factor in axis] for axis in variant.grid],
        "constants": variant.constants,
        "warps": facts.num_warps,
        "ctas": facts.num_ctas,
        "shared": facts.shared,
        "scratch": [facts.global_scratch_size, facts.global_scratch_align],
        **resources(blobs["cubin"]),
        "blobs": {kind: digest(data) for kind, data in blobs.items()},
    }
    return row, blobs


def complaint(row: dict, shared_limit: int) -> str | None:
    """Why the row may not ship."""
    if row["shared"] > shared_limit:
        return f"{row['shared']} bytes of shared memory, at most {shared_limit}"
    if row["stack"] > MAX_STACK:
        return f"{row['stack']} bytes a thread spilled from its registers ({row['registers']} in use)"
    if row["scratch"][0]:
        return "asks for scratch memory, which no launch gives"
    return None


def describe(row: dict) -> str:
    pointer = next((t for _, t, _ in row["args"] if t[0] == "*"), "")
    aligned = "aligned" if any(a > 1 for _, _, a in row["args"]) else "any"
    return f"{row['kernel']} {pointer[1:]} sm_{row['arch']} {aligned} {row['constants']}"


_kernels: list = []


def _start(generated: Path | None) -> None:
    _kernels.extend(triton_sources.kernels(generated))


def _one(job: tuple[int, int, int]):
    kernel, variant, arch = job
    try:
        return compile_variant(_kernels[kernel], _kernels[kernel].variants[variant], arch)
    except Exception as error:
        k = _kernels[kernel]
        text = str(error).strip().splitlines()[-1:] or [""]
        return f"{k.name} sm_{arch} {k.variants[variant].constants}: {type(error).__name__}: {text[0]}"


def build(out: Path, generated: Path | None, archs: list[int], only: list[str], jobs: int) -> dict:
    """Writes the bundle into `out`; returns the manifest. Exits with what is wrong, if anything is."""
    import triton

    _start(generated)
    rule = sys.modules["lightgrad_triton.rule"]
    work = [
        (k, v, arch)
        for k, kernel in enumerate(_kernels)
        if not only or kernel.name in only
        for v, variant in enumerate(kernel.variants)
        for arch in variant.archs
        if arch in archs
    ]
    if jobs > 1:
        with ProcessPoolExecutor(jobs, initializer=_start, initargs=(generated,)) as pool:
            results = list(pool.map(_one, work, chunksize=4))
    else:
        results = [_one(job) for job in work]
    _kernels.clear()
    problems = [r for r in results if isinstance(r, str)]
    good = [r for r in results if not isinstance(r, str)]
    for row, _ in good:
        if why := complaint(row, rule.SHARED[row["arch"]]):
            problems.append(f"{describe(row)}: {why}")
    if problems:
        sys.exit("build_kernels:\n  " + "\n  ".join(problems))

    out.mkdir(parents=True, exist_ok=True)
    for old in out.iterdir():
        if re.fullmatch(r"manifest\.json|[0-9a-f]{64}\.(cubin|ptx)", old.name):
            old.unlink()
    for row, blobs in good:
        for kind, data in blobs.items():
            (out / f"{row['blobs'][kind]}.{kind}").write_bytes(data)
    sources = sorted(triton_sources.FOLDER.glob("*.py")) + ([generated] if generated else [])
    manifest = {
        "format": FORMAT,
        "triton": triton.__version__,
        "sources": {p.name: digest(p.read_bytes()) for p in sources},
        "variants": [row for row, _ in good],
        "tuned": [],  # lg.cuda.tune() writes its winners here, the last line
    }
    rows = ",\n  ".join(json.dumps(row) for row in manifest["variants"])
    head = json.dumps({k: v for k, v in manifest.items() if k not in ("variants", "tuned")})
    (out / "manifest.json").write_text(f'{head[:-1]}, "variants": [\n  {rows}\n],\n"tuned": []}}\n')
    return manifest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--generated", type=Path)
    parser.add_argument("--arch", type=int, nargs="*", default=list(DRIVER))
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--verbose", action="store_true", help="a line for each variant")
    a = parser.parse_args()
    manifest = build(a.out, a.generated, a.arch, a.only, a.jobs)
    rows = manifest["variants"]
    if a.verbose:
        for row in rows:
            print(f"{describe(row)}: {row['shared']} shared, {row['registers']} registers, {row['stack']} stack")
    files = [f.read_bytes() for f in a.out.iterdir()]
    size, packed = sum(map(len, files)) / 1e6, sum(len(zlib.compress(f, 6)) for f in files) / 1e6
    print(f"build_kernels: {len(rows)} variants in {a.out}, {size:.1f} MB, {packed:.1f} MB in a wheel")


if __name__ == "__main__":
    with contextlib.ExitStack() as stack:
        if "TRITON_CACHE_DIR" not in os.environ:  # nothing from earlier runs, nothing left behind
            os.environ["TRITON_CACHE_DIR"] = stack.enter_context(tempfile.TemporaryDirectory())
        main()
