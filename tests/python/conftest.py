"""Says at the end how many tests against PyTorch were left out, where it is not installed."""

import ast
from pathlib import Path


def _tests_in(file: Path) -> int:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return sum(isinstance(node, ast.FunctionDef) and node.name.startswith("test_") for node in ast.walk(tree))


def pytest_terminal_summary(terminalreporter):
    modules, tests = 0, 0
    for report in terminalreporter.stats.get("skipped", []):
        reason = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else ""
        if "torch" not in reason:
            continue
        if getattr(report, "when", None) in ("setup", "call"):
            tests += 1
        else:  # a whole module, left out by pytest.importorskip at its top
            modules += 1
            tests += _tests_in(Path(report.fspath))
    if tests:
        terminalreporter.write_line(
            f"PyTorch is not installed: {tests} tests against it were left out "
            f"({modules} whole files); .ci/run installs it"
        )
