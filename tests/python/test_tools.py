"""The checks of `make check` find what they are there to find."""

import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"
sys.path.insert(0, str(TOOLS))

import check_docs  # noqa: E402
import check_layers  # noqa: E402
import check_names  # noqa: E402


def project(root: Path, contents: dict[str, str]) -> Path:
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    for name, text in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_layers_upward_include_is_named_by_file_and_line(tmp_path):
    kernel = '#pragma once\n#include <cmath>\n#include "lightgrad/tensor/tensor.h"\n'
    root = project(tmp_path, {"lightgrad/kernels/bad.h": kernel})
    (finding,) = check_layers.check(root)
    assert finding.startswith("lightgrad/kernels/bad.h:3: includes lightgrad/tensor/tensor.h")
    assert "kernels may include base; not tensor" in finding


def test_layers_the_tool_fails(tmp_path):
    root = project(tmp_path, {"lightgrad/base/a.h": '#include "lightgrad/ops/ops.h"\n'})
    command = [sys.executable, str(TOOLS / "check_layers.py"), str(root)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 1
    assert "lightgrad/base/a.h:1" in ran.stderr


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("lightgrad/kernels/gemm.cpp", '#include "lightgrad/base/parallel.h"'),
        ("lightgrad/kernels/gemm.cpp", '#include "hwy/highway.h"'),
        ("lightgrad/kernels/gemm.cpp", "#include HWY_TARGET_INCLUDE"),
        ("lightgrad/ops/run.cpp", '#include "lightgrad/backend/backend.h"'),
        ("lightgrad/io/safetensors.cpp", "#include <nlohmann/json.hpp>"),
        ("lightgrad/lightgrad.h", '#include "lightgrad/nn/module.h"'),
        ("examples/gpt/gpt.cpp", '#include "lightgrad/lightgrad.h"'),
        ("examples/gpt/gpt.cpp", '#include "examples/common/progress.h"'),
        ("tests/cpp/test_gemm.cpp", '#include "lightgrad/kernels/gemm.h"'),
        ("lightgrad/base/shape.cpp", "#include <sys/mman.h>"),
        ("python/bind/optim.cpp", '#include "common.h"'),
        ("python/bind/optim.cpp", '#include "lightgrad/optim/adam.h"'),
    ],
)
def test_layers_allowed(tmp_path, path, line):
    assert check_layers.check(project(tmp_path, {path: line + "\n"})) == []


@pytest.mark.parametrize(
    ("path", "line", "why"),
    [
        ("lightgrad/nn/linear.cpp", '#include "lightgrad/kernels/gemm.h"', "nn may include"),
        ("lightgrad/autograd/node.h", '#include "lightgrad/ops/ops.h"', "autograd may include"),
        ("lightgrad/base/shape.h", '#include "error.h"', "start at the root"),
        ("lightgrad/tensor/tensor.h", "#include <hwy/highway.h>", "hwy is for"),
        ("lightgrad/io/safetensors.h", "#include <nlohmann/json.hpp>", "private"),
        ("examples/gpt/gpt.cpp", '#include "lightgrad/ops/ops.h"', "lightgrad/lightgrad.h"),
        ("examples/gpt/gpt.cpp", '#include "examples/cnn/model.h"', "lightgrad/lightgrad.h"),
        ("lightgrad/ops/run.cpp", '#include "lightgrad/lightgrad.h"', "umbrella"),
        ("python/bind/core.cpp", '#include "lightgrad/kernels/gemm.h"', "the binding sees"),
        ("lightgrad/attic/old.cpp", '#include "lightgrad/base/shape.h"', "unknown room"),
    ],
)
def test_layers_forbidden(tmp_path, path, line, why):
    (finding,) = check_layers.check(project(tmp_path, {path: "\n" + line + "\n"}))
    assert finding.startswith(f"{path}:2: ")
    assert why in finding


def test_names_must_agree():
    text = 'Child<Linear> qkv{this, "qkv", 3};\nParam weight{this,\n  "wieght", x};\n'
    assert check_names.mismatches(text) == [(2, "weight", "wieght")]


def test_docs_stale_paths(tmp_path):
    page = (
        "See `lightgrad/base/shape.h` and `lightgrad/base/{shape,gone}.h`.\n"
        "[there](lightgrad/base/shape.h) [not there](docs/none.md) [site](https://x.org/a.md)\n"
        "`lightgrad/<room>/*.h`, `build/examples/x`, `make check`, `make nonsense`, `a / b`\n"
    )
    root = project(tmp_path, {"README.md": page, "lightgrad/base/shape.h": "", "Makefile": "check:\n"})
    assert check_docs.check(root) == [
        "README.md:1: lightgrad/base/gone.h does not exist",
        "README.md:2: docs/none.md does not exist",
        "README.md:3: there is no `make nonsense`",
    ]
