"""Stale words in README, CONTRIBUTING and docs/: a path or a `make` target that does not exist.

A path is what stands in backticks or in a link and starts with a folder of this project or ends in
a known suffix. Placeholders (<name>), globs and {a,b} are understood; nothing is executed.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from project import ROOT, files, report

SUFFIXES = (".h", ".cpp", ".inl", ".py", ".sh", ".md", ".cmake", ".toml", ".svg", ".txt", ".json")
MADE = ("build/", ".venv/", "dist/")  # made by the commands, not part of a clone
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(r"[A-Za-z0-9_.{},*<>-]+(?:/[A-Za-z0-9_.{},*<>-]*)*")
MAKE = re.compile(r"\bmake ([a-z]+)\b")


def alternatives(word: str) -> list[str]:
    """a/{b,c}.h -> a/b.h, a/c.h"""
    match = re.search(r"\{([^{}]*)\}", word)
    if not match:
        return [word]
    return [
        path
        for choice in match[1].split(",")
        for path in alternatives(word[: match.start()] + choice.strip() + word[match.end() :])
    ]


def is_path(word: str, folders: set[str]) -> bool:
    head, slash, _ = word.partition("/")
    if word.startswith(MADE) or "://" in word or word.startswith(("/", "~")):
        return False
    return bool(slash and head in folders) or (bool(slash) and word.endswith(SUFFIXES))


def exists(word: str, beside: Path, root: Path) -> bool:
    if "<" in word:
        word = re.sub(r"<[^>]*>", "*", word)
    if "*" in word:
        return any(root.glob(word))
    return (root / word).exists() or (beside / word).exists() or (root / "lightgrad" / word).exists()


def check(root: Path = ROOT) -> list[str]:
    findings = []
    everything = files(root=root)
    folders = {path.split("/")[0] for path in everything if "/" in path}
    makefile = root / "Makefile"
    rules = makefile.read_text(encoding="utf-8") if makefile.exists() else ""
    targets = set(re.findall(r"^([a-z]+(?:-[a-z]+)*):", rules, re.MULTILINE))
    for page in files("*.md", root=root):
        beside = (root / page).parent
        for number, line in enumerate((root / page).read_text(encoding="utf-8").splitlines(), 1):
            words = [w for code in CODE.findall(line) for w in PATH.findall(code) if is_path(w, folders)]
            links = [link.split("#")[0] for link in LINK.findall(line) if "://" not in link]
            for word in words + [link for link in links if link and not link.startswith("mailto:")]:
                for path in alternatives(word.rstrip(".,")):
                    if not exists(path, beside, root):
                        findings.append(f"{page}:{number}: {path} does not exist")
            for code in CODE.findall(line):
                for target in MAKE.findall(code):
                    if target not in targets:
                        findings.append(f"{page}:{number}: there is no `make {target}`")
    return findings


if __name__ == "__main__":
    place = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT
    sys.exit(report("check_docs", check(place), "every path and command named in the pages exists"))
