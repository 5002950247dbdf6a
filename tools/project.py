"""What the checks share: the files of the project and the way a finding is reported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def files(*patterns: str, root: Path = ROOT) -> list[str]:
    """Paths from the root, tracked or new but not ignored, that match a git pattern; sorted."""
    listing = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z", "--", *patterns],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return sorted(name for name in set(listing.split("\0")) if name and (root / name).is_file())


def report(tool: str, findings: list[str], fine: str) -> int:
    """Prints file:line findings, or one line that all is well; returns the exit status."""
    for finding in findings:
        print(finding, file=sys.stderr)
    print(f"{tool}: {len(findings)} findings" if findings else f"{tool}: {fine}")
    return 1 if findings else 0
