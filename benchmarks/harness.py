"""What harness.h is, for systems that are driven from Python: answers each case with one line of JSON.

PROGRAM [--threads N] [--seconds S] CASE ...     measures the cases
PROGRAM [--threads N] --once CASE                runs it once, says so and ends
PROGRAM [--threads N]                            reads `SECONDS CASE` lines until the input ends
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass


@dataclass
class Case:
    line: str
    kind: str
    values: dict

    @classmethod
    def parse(cls, text):
        kind, *words = text.split()
        return cls(text, kind, dict(word.split("=") for word in words))

    def __getitem__(self, name):
        """An integer; `text` gives the word."""
        return int(self.values[name])

    def text(self, name, otherwise=None):
        return self.values[name] if otherwise is None else self.values.get(name, otherwise)


def times(run, seconds):
    """Seconds per call, sorted, after calls that wake threads, fill caches and compile; the first call; the losses."""
    clock = time.perf_counter
    start = clock()
    first = run()
    cold = clock() - start
    start = clock()
    while True:
        last = run()
        if clock() - start >= 0.2 * seconds:
            break
    samples, calls, total = [], 1, 0.0
    while total < seconds or len(samples) < 3:
        start = clock()
        for _ in range(calls):
            last = run()
        t = clock() - start
        if t < 10e-6:
            calls *= 2
            continue
        samples.append(t / calls)
        total += t
    return sorted(samples), cold, first, last


def answer(run, seconds):
    samples, cold, first, last = times(run, seconds)
    ms = lambda quantile: float(f"{1e3 * samples[int(quantile * (len(samples) - 1) + 0.5)]:.6g}")
    return {
        "ms_median": ms(0.5),
        "ms_min": ms(0),
        "ms_low": ms(0.25),
        "ms_high": ms(0.75),
        "ms_first": float(f"{1e3 * cold:.6g}"),
        "samples": len(samples),
        "loss_first": float(f"{first or 0:.6g}"),
        "loss_last": float(f"{last or 0:.6g}"),
    }


def arguments(**more):
    """The command line; `more` are flags: name=help."""
    p = argparse.ArgumentParser()
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--seconds", type=float, default=0.2)
    p.add_argument("--once", action="store_true", help="run the case once, say so and end")
    for name, text in more.items():
        p.add_argument(f"--{name}", action="store_true", help=text)
    p.add_argument("cases", nargs="*")
    return p.parse_args()


def serve(system, options, make):
    """`make(Case)` gives a function of no arguments. What is asked for again is not built again."""
    built = run = None

    def say(text, seconds):
        nonlocal built, run
        line = {"system": system, "case": text}
        try:
            if text != built:
                built = run = None
                run, built = make(Case.parse(text)), text
            line |= {"loss_first": run()} if options.once else answer(run, seconds)
        except Exception as e:  # reported, and the next case goes on
            built, line["error"] = None, f"{type(e).__name__}: {e}"
        print(json.dumps(line), flush=True)

    for text in options.cases:
        say(text, options.seconds)
    if not options.cases:
        for line in sys.stdin:
            seconds, text = line.rstrip("\n").split(" ", 1)
            say(text, float(seconds))
