"""Programs that measure in turns: A B A B, each in a process of its own, and the others stopped meanwhile, so that
nobody's threads spin beside the one that is measured and a drifting clock hits all of them."""

import ctypes
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILT = HERE.parent / "build" / "benchmarks"


def die_with_parent():
    """In the child: a stopped process would outlive a measurement that was broken off."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Peer:
    """A program that speaks harness.h's protocol; it starts when it is first asked, and runs only while it answers."""

    def __init__(self, name, command, threads):
        self.name = name
        self.command = [*map(str, command), "--threads", str(threads)]
        self.threads = threads
        self.process = self.errors = None

    def start(self):
        environment = dict(os.environ, OMP_NUM_THREADS=str(self.threads), LIGHTGRAD_NUM_THREADS=str(self.threads))
        # Compiling in the process itself: helpers would run on beside the one that is measured.
        environment.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  close() closes it
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,  # a file: nobody reads a pipe until it is full
            text=True,
            env=environment,
            preexec_fn=die_with_parent,
        )

    def ask(self, case, seconds):
        """The answer as a dict, or {"error": text}."""
        if self.process is None:
            self.start()
        self.process.send_signal(signal.SIGCONT)
        try:
            self.process.stdin.write(f"{seconds:.4f} {case}\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.process.wait()
            self.errors.seek(0)
            words = self.errors.read().strip().splitlines() or ["without a word"]
            self.close()
            return {"error": f"{self.name} ended: {words[-1]}"}
        self.process.send_signal(signal.SIGSTOP)
        return json.loads(line)

    def close(self):
        if self.process is None:
            return
        self.process.send_signal(signal.SIGCONT)
        try:
            self.process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
        self.errors.close()
        self.process = None


def has(module):
    return subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True).returncode == 0


def in_turns(peers, case, seconds, rounds):
    """{peer's name: its answers, one for each round}; a peer that fails is not asked again."""
    answers = {peer.name: [] for peer in peers}
    failed = set()
    for _ in range(rounds):
        for peer in peers:
            if peer.name in failed:
                continue
            answer = peer.ask(case, seconds)
            answers[peer.name].append(answer)
            if "error" in answer:
                failed.add(peer.name)
    return answers


def summary(answers):
    """{system: {median, min, medians}} over the rounds, in milliseconds, or {system: {error}}."""
    result = {}
    for name, rows in answers.items():
        if "error" in rows[-1]:
            result[name] = {"error": rows[-1]["error"]}
            continue
        medians = [row["ms_median"] for row in rows]
        result[name] = {
            "median": statistics.median(medians),
            "min": min(row["ms_min"] for row in rows),
            "medians": medians,
        }
        if rows[0].get("loss_first"):
            result[name] |= {"loss_first": rows[0]["loss_first"], "loss_last": rows[-1]["loss_last"]}
    return result


def ratio(systems, ours, theirs):
    """The best of `theirs` over `ours`, by the round: {median, low, high, by_min, peer, pairs}, or None."""
    there = [name for name in theirs if name in systems and "error" not in systems[name]]
    if ours not in systems or "error" in systems[ours] or not there:
        return None
    best = min(there, key=lambda name: systems[name]["median"])
    pairs = [b / a for a, b in zip(systems[ours]["medians"], systems[best]["medians"], strict=False)]
    fastest = min(systems[name]["min"] for name in there)
    return {
        "median": round(statistics.median(pairs), 4),
        "low": round(min(pairs), 4),
        "high": round(max(pairs), 4),
        "by_min": round(fastest / systems[ours]["min"], 4),
        "peer": best,
        "pairs": pairs,
    }


class Progress:
    """A bar on the terminal, or a line now and then where there is none."""

    def __init__(self, total, title=""):
        self.title, self.total, self.done, self.start, self.said = title, total, 0, time.monotonic(), 0.0
        self.bar = sys.stderr.isatty()

    def step(self, what=""):
        self.done += 1
        passed = time.monotonic() - self.start
        left = passed / self.done * (self.total - self.done)
        share = self.done / self.total
        text = f"{100 * share:3.0f}% {passed / 60:4.1f} min, {left / 60:4.1f} left  {f'{self.title} {what}'[:60]:<60}"
        if self.bar:
            full = int(30 * share)
            print(f"\r[{'#' * full}{'.' * (30 - full)}] {text}", end="", file=sys.stderr, flush=True)
            if self.done == self.total:
                print(file=sys.stderr)
        elif passed - self.said > 30 or self.done == self.total:
            self.said = passed
            print(text, file=sys.stderr, flush=True)
