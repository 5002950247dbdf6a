"""`make report`: measures LightGrad beside its peers and writes docs/report.json, docs/report.pdf and README's
performance section, the last two from the first.

Usage: report.py [--quick] [--threads N] [--only SECTION,...] [--from JSON] [--json PATH] [--pdf PATH] [--readme PATH]
--from writes the pages from numbers that are there; --only measures some sections anew and keeps the others.
"""

import argparse
import json
from pathlib import Path

from report_collect import SECTIONS, collect
from report_readme import write_section

ROOT = Path(__file__).resolve().parents[1]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--quick", action="store_true", help="few repetitions and no torch.compile: about 3 minutes")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--only", default=",".join(SECTIONS), help=f"of {', '.join(SECTIONS)}")
    p.add_argument("--from", dest="given", type=Path, metavar="JSON", help="measure nothing")
    p.add_argument("--json", type=Path, default=ROOT / "docs" / "report.json")
    p.add_argument("--pdf", type=Path, default=ROOT / "docs" / "report.pdf")
    p.add_argument("--readme", type=Path, default=ROOT / "README.md")
    a = p.parse_args()
    sections = a.only.split(",")
    if unknown := set(sections) - set(SECTIONS):
        p.error(f"no section is called {', '.join(sorted(unknown))}")

    def save(data):
        a.json.write_text(json.dumps(data, indent=1) + "\n")

    if a.given:
        data = json.loads(a.given.read_text())
        if a.given.resolve() != a.json.resolve():
            save(data)
    else:
        partial = set(sections) != set(SECTIONS)
        before = json.loads(a.json.read_text()) if partial and a.json.exists() else {}
        data = collect(sections, a.threads, a.quick, before, save)
    write_section(data, a.readme)
    from report_pdf import write_pdf  # only now: plotting takes memory, which processes.py counts with

    write_pdf(data, a.pdf)
    print(f"written: {a.json}, {a.pdf}, {a.readme}")


if __name__ == "__main__":
    main()
