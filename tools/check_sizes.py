"""Lines per room, and two limits: 400 lines a file (kernels and tests 600), 100 columns a line (Python 120)."""

from __future__ import annotations

import sys
from collections import Counter

from project import ROOT, files, report

LONG = ("lightgrad/kernels/", "tests/")


def room(path: str) -> str:
    parts = path.split("/")
    return "/".join(parts[:2]) if parts[0] in ("lightgrad", "python", "tests") and len(parts) > 2 else parts[0]


def main() -> int:
    findings: list[str] = []
    lines_in: Counter[str] = Counter()
    files_in: Counter[str] = Counter()
    for path in files("*.h", "*.cpp", "*.inl", "*.py"):
        lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
        lines_in[room(path)] += len(lines)
        files_in[room(path)] += 1
        limit = 600 if path.startswith(LONG) else 400
        if len(lines) > limit:
            findings.append(f"{path}:{len(lines)}: {len(lines)} lines, at most {limit}: it holds two things")
        width = 120 if path.endswith(".py") else 100
        for number, line in enumerate(lines, 1):
            if len(line) > width:
                findings.append(f"{path}:{number}: {len(line)} columns, at most {width}")
    for name, lines in sorted(lines_in.items()):
        print(f"  {name:<22}{files_in[name]:>4} files {lines:>7} lines")
    total = sum(lines for name, lines in lines_in.items() if name.startswith("lightgrad"))
    print(f"  {'the engine':<22}{'':>10} {total:>7} lines")
    return report("check_sizes", findings, "every file within its limits")


if __name__ == "__main__":
    sys.exit(main())
