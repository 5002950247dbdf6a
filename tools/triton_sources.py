"""lightgrad/triton as Python modules: the package lightgrad_triton, and in it the pointwise kernels that
write_pointwise printed. Found by path, because nobody installs them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).resolve().parent.parent / "lightgrad" / "triton"


def _load(name: str, file: Path, **more) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file, **more)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def kernels(generated: Path | None = None) -> list:
    """Every rule.Kernel; the pointwise ones from the file that write_pointwise printed, if one is given."""
    package = sys.modules.get("lightgrad_triton") or _load(
        "lightgrad_triton", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
    )
    found = list(package.KERNELS)
    if generated:
        found += _load("lightgrad_triton.generated", generated).KERNELS
    return found
