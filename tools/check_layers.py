"""Who may include whom: fails with file:line on an include that the table of rooms does not allow.

A room may always include itself. `tests/cpp` and `benchmarks` look into every room; the binding
into all but kernels and backend; what a user writes (examples, the consumer project) sees
lightgrad/lightgrad.h alone, and examples what they share.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from project import ROOT, files, report

OPS = {"base", "tensor", "autograd", "ops"}  # what "public functions of ops" takes
ROOMS = {
    "base": set(),
    "kernels": {"base"},
    "backend": {"base", "kernels"},
    "tensor": {"base"},
    "autograd": {"base", "tensor"},
    "ops": {"base", "tensor", "autograd", "backend"},
    "nn": OPS,
    "optim": OPS,
    "amp": OPS | {"optim"},  # a scaler steps optimizers
    "data": OPS,
    "io": OPS,
    "graph": OPS,
    "profile": OPS | {"backend", "nn", "optim"},  # it measures the device's peak, and plans training steps
}
# Blocks of pointwise operations are read again inside each SIMD target: these files are kernels.
ALSO = {"lightgrad/ops/pointwise_rows": {"kernels"}}

# Other people's headers and the places that may name them; all else in <> is the system's.
THIRD_PARTY = {
    "hwy": ("lightgrad/kernels/", *ALSO, "tests/cpp/", "benchmarks/"),
    "nlohmann": ("lightgrad/io/", "lightgrad/backend/cuda/"),
    "zlib.h": ("lightgrad/data/", "lightgrad/io/", "tests/cpp/"),
    "fmt": ("lightgrad/",),
    "gtest": ("tests/cpp/",),
    "gmock": ("tests/cpp/",),
    "benchmark": ("benchmarks/",),
    "nanobind": ("python/bind/",),
    "Python.h": ("python/bind/",),
    "CLI": ("examples/",),
}
PRIVATE = {"hwy", "nlohmann", "fmt", "zlib.h"}  # never in a header that users include (-inl.h is not one)
USERS = ("examples/", "tests/consumer/")
BINDING = OPS | {
    "nn",
    "optim",
    "amp",
    "data",
    "io",
    "graph",
    "profile",
}  # any room but the inner two

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def room_of(path: str) -> str | None:
    """The room of lightgrad/<room>/file; None for the umbrella header and for files outside."""
    parts = path.split("/")
    return parts[1] if parts[0] == "lightgrad" and len(parts) > 2 else None


def complaint(path: str, included: str, quoted: bool) -> str | None:
    """Why `path` may not include `included`, or None."""
    head = included.split("/")[0]
    if head in THIRD_PARTY:
        if not path.startswith(THIRD_PARTY[head]):
            return f"{head} is for {', '.join(THIRD_PARTY[head])} only"
        public = path.startswith("lightgrad/") and path.endswith(".h") and "-inl." not in path
        if head in PRIVATE and public:
            return f"{head} is private: include it in a .cpp or -inl.h file"
        return None
    if not quoted:
        outside = path.startswith("tests/consumer/")  # there the library is an installed one
        wrong = head == "lightgrad" and not outside
        return "project headers are included with quotes" if wrong else None
    if path.startswith(USERS):
        beside = "/" not in included or Path(included).parent == Path(path).parent
        shared = path.startswith("examples/") and included.startswith("examples/common/")
        if beside or shared or included == "lightgrad/lightgrad.h":
            return None
        return "users of the library include lightgrad/lightgrad.h"
    if path.startswith("python/bind/") and ("/" not in included or head == "python"):
        return None
    if head != "lightgrad":
        if path.startswith(("tests/", "benchmarks/")) and head in ("tests", "benchmarks"):
            return None
        return "include paths start at the root of the project: lightgrad/<room>/<file>"
    room, target = room_of(path), room_of(included)
    if path.startswith("python/bind/") and target and target not in BINDING:
        return f"the binding sees what users see; not {target}"
    if room is None or target == room:
        return None
    if room not in ROOMS:
        return f"unknown room lightgrad/{room}: add it to tools/check_layers.py"
    if target is None:
        return "a room does not include the umbrella header"
    may = ROOMS[room].union(*(more for files, more in ALSO.items() if path.startswith(files)))
    if target not in may:
        allowed = ", ".join(sorted(may)) or "the standard library"
        return f"{room} may include {allowed}; not {target}"
    return None


def check(root: Path = ROOT) -> list[str]:
    findings = []
    for path in files("*.h", "*.cpp", "*.inl", root=root):
        lines = (root / path).read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, 1):
            if match := INCLUDE.match(line):
                why = complaint(path, match[2], match[1] == '"')
                if why:
                    findings.append(f"{path}:{number}: includes {match[2]}: {why}")
    return findings


if __name__ == "__main__":
    place = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT
    sys.exit(report("check_layers", check(place), "nothing includes upward"))
