"""A wheel with kernels: `CMAKE_ARGS=-DLIGHTGRAD_KERNELS=... pip install .`, and nothing else that a user needs."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile

import pytest

pytest.importorskip("triton")

from bundles import ROOT
from test_machines import FUSED, HEAD

STAGE = ROOT / "build" / "stage"  # `make stage`: the library, so that only the extension is built


def test_a_wheel_brings_its_kernels(bundle, tmp_path):
    """It holds the bundle, stays within 10 MB, and an installation of it computes without being told where they are."""
    defines = {"LIGHTGRAD_USE_INSTALLED": "ON", "CMAKE_PREFIX_PATH": STAGE, "LIGHTGRAD_KERNELS": bundle}
    environment = os.environ | {"CMAKE_ARGS": " ".join(f"-D{k}={v}" for k, v in defines.items())}
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps", ROOT, "-w", tmp_path]
    pip += ["-C", f"build-dir={ROOT / 'build' / 'wheel_with_kernels'}"]
    done = subprocess.run(list(map(str, pip)), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size <= 10e6
    with zipfile.ZipFile(wheel) as file:
        assert {p.name for p in bundle.iterdir()} == {
            name.rpartition("/")[2] for name in file.namelist() if name.startswith("lightgrad/kernels/")
        }
        file.extractall(tmp_path / "site")

    environment = {k: v for k, v in os.environ.items() if k != "LIGHTGRAD_KERNELS"}
    environment |= {"PYTHONPATH": str(tmp_path / "site"), "BUNDLE": str(bundle)}
    code = HEAD + "import lightgrad as lg\nprint(lg.cuda.kernels_folder())\n" + FUSED
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path / "site" / "lightgrad" / "kernels"))
    assert "fused_mlp_forward" in done.stdout
