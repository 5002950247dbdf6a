"""Tests of the Triton kernels. They run apart from the others: Triton in its interpreter does not go with PyTorch."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

import pytest

os.environ["TRITON_INTERPRET"] = "1"  # read by Triton while it is imported
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tools"), str(Path(__file__).parent)]

from bundles import POINTWISE, build_bundle, used_kernels


@pytest.fixture(scope="session")
def kernels():
    """All launch rules by (name, type of the first operand, type of the result where it has a type of its own)."""
    import triton_sources

    assert POINTWISE.exists(), f"{POINTWISE} is missing: cmake --build build --target pointwise_kernels"
    return triton_sources.kernels(POINTWISE)


@pytest.fixture(scope="session")
def bundle(kernels):
    pytest.importorskip("triton")
    return build_bundle(ROOT / "build" / "triton" / "kernels", "--arch", "80", "90", "--only", *used_kernels(kernels))


@pytest.fixture
def bundle_copy(bundle, tmp_path):
    """One that a test may change."""
    return Path(shutil.copytree(bundle, tmp_path / "kernels"))


@pytest.fixture(scope="session")
def device(bundle, kernels):
    """The stand-in, or None where the machine's own GPU runs the tests."""
    from device import REAL, StandIn

    stand_in = None if REAL else StandIn(bundle, kernels)
    import lightgrad as lg

    lg.cuda.load_kernels(str(bundle))
    assert lg.cuda.is_available(), lg.cuda.why_not_available()
    return stand_in


def pytest_sessionfinish(session, exitstatus):
    """Where Triton is not, everything is left out, and that is no failure."""
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and not importlib.util.find_spec("triton"):
        session.exitstatus = pytest.ExitCode.OK


def pytest_terminal_summary(terminalreporter):
    """Says what ran the kernels, and what was left out."""
    if "device" in sys.modules:
        import lightgrad as lg

        real = sys.modules["device"].REAL
        what = f"by {lg.cuda.get_device_name()}" if real else "by the stand-in driver and Triton's interpreter"
        terminalreporter.write_line(f"Kernels on cuda were run {what}.")
    skipped = [r for r in terminalreporter.stats.get("skipped", []) if "triton" in str(r.longrepr)]
    if skipped:
        tests = sum(text.count("\ndef test_") for text in (Path(r.fspath).read_text() for r in skipped))
        terminalreporter.write_line(
            f"Triton is not installed: {tests} tests of its kernels were left out ({len(skipped)} whole files); "
            "pip install -r requirements-triton.txt"
        )
