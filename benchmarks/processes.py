"""Whole processes: from their start to the first finished step, and the most memory that they held."""

import os
import statistics
import subprocess
import time


def until_first_line(command, environment=None):
    """Seconds from the start of the process to the line that says that the step is done."""
    start = time.perf_counter()
    with subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        line = process.stdout.readline()
        seconds = time.perf_counter() - start
        _, error = process.communicate()
    if not line or '"error"' in line:
        raise RuntimeError((line or error).strip()[-300:])
    return seconds


def peak_mb(command):
    """The largest resident set of the process, in megabytes. It counts what this process held when it started the
    other, so this one stays small: no plotting, no arrays."""
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    if process.returncode or b'"error"' in out:
        raise RuntimeError(out.decode()[-300:])
    return usage.ru_maxrss * 1024 / 1e6


def repeated(measure, commands, rounds, progress):
    """{name: {median, min, medians}} of measure(command), in turns; {name: {error}} where it failed."""
    values = {name: [] for name in commands}
    failed = {}
    for _ in range(rounds):
        for name, command in commands.items():
            if name in failed:
                continue
            try:
                values[name].append(round(measure(command), 5))
            except RuntimeError as e:
                failed[name] = {"error": str(e)}
            progress.step(name)
    return {
        name: failed.get(name) or {"median": statistics.median(v), "min": min(v), "medians": v}
        for name, v in values.items()
    }
