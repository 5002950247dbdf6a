"""The progress bar of the examples; progress.h is the same in C++."""

import sys
import time


class Progress:
    """How far training is, on stderr: one line that is redrawn on a terminal, else a line now and
    then. stdout is left to results.
    """

    def __init__(self, first, steps, per_step, unit):
        """From step `first` on; a step works on so many of `unit`, whose rate is shown."""
        self.first, self.steps, self.per_step, self.unit = first, steps, per_step, unit
        self.terminal = sys.stderr.isatty()
        self.start = self.drawn = time.monotonic()

    def update(self, step, loss):
        now = time.monotonic()
        if now - self.drawn < (0.1 if self.terminal else 10):
            return
        self.drawn = now
        done, seconds = step - self.first, now - self.start
        minutes, rest = divmod(round(seconds / done * (self.steps - step)), 60)
        line = (
            f"[{'=' * (20 * step // self.steps):20}] {step}/{self.steps}  loss {loss:.4f}  "
            f"{done * self.per_step / seconds:.0f} {self.unit}/s  {minutes}:{rest:02} left"
        )
        end = "\033[K" if self.terminal else "\n"
        print("\r" * self.terminal + line, end=end, file=sys.stderr, flush=True)

    def finish(self):
        self.clear()
        if self.steps > self.first:
            seconds = time.monotonic() - self.start
            print(f"{self.steps - self.first} steps in {seconds:.1f} s", file=sys.stderr)

    def clear(self):
        """Makes room for other output."""
        if self.terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
