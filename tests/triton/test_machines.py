"""Other machines: devices of every architecture, drivers that are old or absent, kernels that are missing. Each in a
process of its own, because the driver is found once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

from bundles import POINTWISE, ROOT

HEAD = f"""
import os, sys
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(ROOT / "tools")!r}]
from pathlib import Path
import device, triton_sources
stand_in = device.StandIn(Path(os.environ["BUNDLE"]), triton_sources.kernels(Path({str(POINTWISE)!r})))
"""


def run(code: str, bundle: Path, head=HEAD, **settings) -> str:
    environment = os.environ | {k: str(v) for k, v in settings.items()} | {"BUNDLE": str(bundle)}
    environment.setdefault("LIGHTGRAD_KERNELS", str(bundle))
    python = [sys.executable, "-c", head + "import lightgrad as lg\n" + code]
    done = subprocess.run(python, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


FUSED = """
import numpy as np
rng = np.random.default_rng(0)
shapes = ((40, 64), (96, 64), (96,), (96,), (96,))
for dtype in (lg.float32, lg.float16):
    args = [lg.tensor(rng.standard_normal(s), dtype=dtype) for s in shapes]
    there = [a.to("cuda").requires_grad_() for a in args]
    y = lg.nn.functional.fused_mlp(*there)
    want = lg.nn.functional.fused_mlp(*[a.double() for a in args]).numpy()
    error = np.linalg.norm(y.detach().to("cpu").double().numpy() - want) / np.linalg.norm(want)
    assert error < (1e-6 if dtype == lg.float32 else 2e-3), error
    y.backward(lg.ones(40, 96, dtype=dtype, device="cuda"))
stand_in.check()
print(sorted({(name, arch) for name, arch, _ in stand_in.launched}))
"""


@pytest.mark.parametrize(
    ("capability", "arch"),
    # Cubins of sm_80 serve 8.6 and 8.9; on later devices the driver compiles their PTX.
    [(80, 80), (86, 80), (89, 80), (90, 90), (100, 80), (120, 80)],
)
def test_every_architecture(bundle, capability, arch):
    out = run(FUSED, bundle, FAKE_CUDA_CAPABILITY=capability, FAKE_CUDA_DRIVER=12080)
    assert f"('fused_mlp_forward', {arch})" in out and f"('layer_norm_backward', {arch})" in out


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"FAKE_CUDA_DRIVER": 11080}, "the NVIDIA driver is too old: it speaks CUDA 11.8, 12.0 or newer is needed"),
        ({"FAKE_CUDA_DEVICES": 0}, "the NVIDIA driver finds no device"),
        ({"FAKE_CUDA_INIT": 100}, "the NVIDIA driver finds no device"),
        ({"FAKE_CUDA_INIT": 999}, "the NVIDIA driver does not start: CUDA_ERROR_UNKNOWN"),
    ],
)
def test_no_device(bundle, settings, says):
    out = run(
        """
assert not lg.cuda.is_available() and lg.cuda.device_count() == 0
try:
    lg.ones(2).to("cuda")
except RuntimeError as e:
    print(e, "|", lg.cuda.why_not_available(), lg.ones(2).sum().item())
""",
        bundle,
        **settings,
    )
    assert f"cuda: {says}" in out and out.endswith("2.0\n")


def test_a_device_that_is_too_old(bundle):
    code = """
try:
    lg.ones(2).to("cuda")
except RuntimeError as e:
    print(e)
"""
    assert "has compute capability 7.5, 8.0 or newer is needed" in run(code, bundle, FAKE_CUDA_CAPABILITY=75)


def test_no_driver(bundle, tmp_path):
    if os.environ.get("LIGHTGRAD_TEST_GPU") == "1":
        pytest.skip("this machine has one")
    code = """
try:
    lg.ones(2, device="cuda")
except RuntimeError as e:
    print(e, lg.cuda.is_available())
"""
    assert "cuda: no NVIDIA driver was found (libcuda.so.1" in run(code, bundle, head="")


def test_a_driver_that_lacks_a_function(bundle, tmp_path):
    """An empty library under the driver's name."""
    source = tmp_path / "empty.c"
    source.write_text("int cuInit(unsigned flags) { return 0; }\n")
    library = tmp_path / "libcuda.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", source, "-o", library, "-Wl,-soname,libcuda.so.1"], check=True)
    head = f"import ctypes; ctypes.CDLL({str(library)!r}, mode=ctypes.RTLD_GLOBAL)\n"
    assert "too old: it lacks cuDriverGetVersion" in run("print(lg.cuda.why_not_available())", bundle, head=head)


def test_out_of_memory_leaves_the_rest_usable(bundle):
    out = run(
        """
x = lg.ones(1 << 18, device="cuda")
y = lg.ones(1 << 20, device="cuda")
del y  # kept for reuse, and given back when it is in the way
z = lg.ones(3 << 20, device="cuda")
try:
    lg.ones(1 << 24, device="cuda")
except MemoryError as e:
    print(e)
print(x.to("cpu").sum().item(), (x[:16].clone() + 1).tolist()[0])
""",
        bundle,
        FAKE_CUDA_MEMORY=16 << 20,
    )
    assert "cuda: out of memory on cuda:0 (stand-in GPU): 67108864 bytes were asked for" in out
    assert "262144.0 2.0" in out


def test_no_bundle(bundle):
    code = """
x = lg.ones(2, device="cuda")
try:
    x + x
except RuntimeError as e:
    print(e)
"""
    assert "cuda: no kernels: this installation has no bundle" in run(code, bundle, LIGHTGRAD_KERNELS="")


def test_one_byte_changed_is_refused(bundle_copy):
    for file in bundle_copy.glob("*.cubin"):
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    code = """
x = lg.ones(16, device="cuda")
try:
    x + x
except ValueError as e:
    print(e)
"""
    out = run(code, bundle_copy)
    assert ".cubin is damaged: its SHA-256 is" in out and "not that of its name" in out
