"""A name written twice agrees: `Child<Linear> qkv{this, "qkv", ...}`, Param and Buffer likewise."""

from __future__ import annotations

import re
import sys

from project import ROOT, files, report

MEMBER = re.compile(r'\b(\w+)\s*[({]\s*this\s*,\s*"([^"]*)"')


def mismatches(text: str) -> list[tuple[int, str, str]]:
    """(line, member, registered name) wherever the two differ, a trailing underscore aside."""
    found = []
    for match in MEMBER.finditer(text):
        if match[1].rstrip("_") != match[2].rstrip("_"):
            found.append((text.count("\n", 0, match.start()) + 1, match[1], match[2]))
    return found


def main() -> int:
    findings = []
    for path in files("lightgrad/*.h", "lightgrad/*.cpp", "examples/*.cpp", "examples/*.h", "*.md"):
        for line, member, name in mismatches((ROOT / path).read_text(encoding="utf-8")):
            findings.append(f'{path}:{line}: member {member} is registered as "{name}"')
    return report("check_names", findings, "member names agree with their registration")


if __name__ == "__main__":
    sys.exit(main())
