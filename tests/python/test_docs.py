"""The snippets in README.md and docs/ run: Python ones here, whole C++ programs on the staged library."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STAGE = ROOT / "build" / "stage"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def snippets(language):
    for page in PAGES:
        for i, text in enumerate(re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.S | re.M)):
            yield pytest.param(text, id=f"{page.name}-{i}")


@pytest.mark.parametrize("text", list(snippets("python")))
def test_python(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(text, "snippet", "exec"), {"__name__": "snippet"})


@pytest.mark.parametrize("text", [p for p in snippets("cpp") if "int main" in p.values[0]])
def test_cpp_program(text, tmp_path):
    compiler, pkg_config = shutil.which(os.environ.get("CXX", "g++")), shutil.which("pkg-config")
    if not compiler or not pkg_config or not STAGE.exists():
        pytest.skip("needs a compiler, pkg-config and the library staged by `make test`")
    source = tmp_path / "main.cpp"
    source.write_text(text)
    where = ":".join(str(p.parent) for p in STAGE.rglob("lightgrad.pc"))
    command = [pkg_config, "--static", "--cflags", "--libs", "lightgrad"]
    flags = subprocess.check_output(command, text=True, env={**os.environ, "PKG_CONFIG_PATH": where})
    program = tmp_path / "main"
    subprocess.run([compiler, "-std=c++20", str(source), "-o", str(program), *flags.split()], check=True)
    assert "tensor(" in subprocess.check_output([str(program)], text=True)


def test_block_in_adding_an_op_is_written_as_the_table_reads_it():
    page = (ROOT / "docs" / "adding_an_op.md").read_text()
    table = (ROOT / "lightgrad" / "ops" / "pointwise.inl").read_text()
    for family in re.findall(r"`(Unary\w*|Binary\w*|Predicate|Compare)`", page):
        assert f": {family} {{" in table, f"docs/adding_an_op.md names the family {family}, which no block uses"
