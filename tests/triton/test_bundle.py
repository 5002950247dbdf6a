"""The bundle: the same bytes every time, what its manifest says, and what is refused."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("triton")

import triton
from bundles import build_bundle

import lightgrad as lg

SMALL = ("--only", "column_sums", "relu", "--arch", "80", "90")


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_built_twice_it_is_the_same(tmp_path, monkeypatch):
    """With other places, another number of processes, and nothing kept from the first."""

    first = contents(build_bundle(tmp_path / "first", *SMALL, "--jobs", "1"))
    monkeypatch.setenv("TRITON_ALWAYS_COMPILE", "1")
    second = contents(build_bundle(tmp_path / "elsewhere" / "second", *SMALL, "--jobs", "2"))
    assert first == second and len(first) > 4


def test_names_are_the_hashes_and_nothing_is_unused(bundle):
    manifest = json.loads((bundle / "manifest.json").read_text())
    named = {f"{digest}.{kind}" for row in manifest["variants"] for kind, digest in row["blobs"].items()}
    files = {p.name for p in bundle.iterdir()} - {"manifest.json"}
    assert named == files
    for name in files:
        assert hashlib.sha256((bundle / name).read_bytes()).hexdigest() == name.split(".")[0]


def test_no_path_of_this_machine_is_in_it(bundle):
    for file in bundle.iterdir():
        assert not re.search(rb"/(home|root|tmp|work|usr|opt)/", file.read_bytes()), file.name


def test_limits(bundle):
    import sys

    limit = sys.modules["lightgrad_triton.rule"].SHARED
    for row in json.loads((bundle / "manifest.json").read_text())["variants"]:
        assert row["shared"] <= limit[row["arch"]] and row["registers"] <= 255 and row["stack"] <= 256
        assert row["scratch"][0] == 0 and ("ptx" in row["blobs"]) == (row["arch"] == 80)


def test_products_run_on_tensor_cores(bundle):
    """What became of tl.dot and its loads: wgmma on Hopper, mma on Ampere, neither in IEEE float32; wide asynchronous
    copies, which a mask that the compiler cannot see through would turn into single numbers."""
    nvdisasm = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "nvdisasm"
    seen = set()
    for row in json.loads((bundle / "manifest.json").read_text())["variants"]:
        aligned = any(multiple > 1 for _, _, multiple in row["args"])
        if row["kernel"] not in ("fused_mlp_forward", "matmul") or not aligned:
            continue
        dtype, choices = row["args"][0][1], row["choices"]
        what = (row["kernel"], row["arch"], dtype, *choices.values())
        if what in seen:
            continue
        seen.add(what)
        file = bundle / f"{row['blobs']['cubin']}.cubin"
        code = subprocess.run([nvdisasm, "-c", file], capture_output=True, text=True, check=True).stdout
        wanted = None if choices["PRECISION"] == "ieee" else "HGMMA" if row["arch"] == 90 else "HMMA"
        assert wanted is None or re.search(rf"\b{wanted}\b", code), what
        assert wanted or not re.search(r"\bH(G|)MMA\b", code), what
        if what != ("matmul", 90, "*fp32", 1, 0, "tf32"):  # wgmma does not transpose tf32: that goes through registers
            assert re.search(r"LDGSTS[.\w]*\.128", code), what
    assert len(seen) == 8 + 2 * (6 + 3 + 3)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.replace('"format": 2', '"format": 99'), "has format 99, this build reads format 2"),
        (lambda t: t[: len(t) // 2], "is damaged"),
        (lambda t: t.replace('"warps": ', '"warps": -'), "is damaged.*outside 1 to 32"),
        (lambda t: re.sub(r'"cubin": "[0-9a-f]{64}"', '"cubin": "../../etc/passwd"', t, count=1), "is no SHA-256"),
        (lambda t: t.replace('"scratch": [0, ', '"scratch": [64, ', 1), "is damaged"),
        (lambda t: t.replace('"i32"', '"f8"', 1), "unknown argument type"),
    ],
)
def test_a_damaged_manifest_is_refused(bundle_copy, change, says):
    manifest = bundle_copy / "manifest.json"
    manifest.write_text(change(manifest.read_text()))
    with pytest.raises((ValueError, RuntimeError), match=says):
        lg.cuda.load_kernels(str(bundle_copy))


def test_no_manifest(tmp_path):
    with pytest.raises(OSError, match="cuda: cannot read .*manifest.json"):
        lg.cuda.load_kernels(str(tmp_path))
