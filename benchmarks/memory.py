"""The memory of training steps: as lightgrad.plan predicts it, beside what is measured; and a model whose step needs
2 GB trained under a limit of 700 MB, with checkpoints that the plan chose and a batch computed in parts.

    memory.py              both
    memory.py --small      a fortieth of the model, and of the limit
"""

import argparse
import time

from harness import Case
from lightgrad.utils.checkpoint import checkpoint
from steps import make

import lightgrad as lg
from lightgrad import nn

STEPS, PARTS = 4, 2


class Checkpointed(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return checkpoint(self.inner, x)


def checkpoint_modules(model, paths):
    """In place of each module of these paths one that computes it again."""
    for path in paths:
        *parents, name = path.split(".")
        parent = model
        for part in parents:
            parent = parent[int(part)] if part.isdigit() else getattr(parent, part)
        if name.isdigit():
            parent[int(name)] = Checkpointed(parent[int(name)])
        else:
            setattr(parent, name, Checkpointed(getattr(parent, name)))


def train(w, parts, steps=STEPS):
    """The losses of `steps` steps, and the most bytes in use since the first."""
    rows, losses = len(w.batch[0]) // parts, []
    for i in range(steps):
        if i == 1:
            lg.memory.reset_peak()  # the optimizer's states are there
        total = 0.0
        for at in range(0, rows * parts, rows):
            loss = w.loss(*(t[at : at + rows] for t in w.batch)) / parts
            loss.backward()
            total += loss.item()
        w.optimizer.step()
        w.optimizer.zero_grad()
        losses.append(total)
    return losses, lg.memory.stats()["peak"]


def mb(n):
    return f"{n / 1e6:8.1f} MB"


def compare(name, text):
    """Prints the planned and the measured peak of a workload, and returns its losses."""
    w = make(Case.parse(text))
    plan = lg.plan(w.model, *w.batch, loss=w.loss, optimizer=w.optimizer)
    losses, peak = train(w, 1)
    print(f"{name:12} planned {mb(plan.peak)}   measured {mb(peak)}   {plan.peak / peak - 1:+.1%}", flush=True)
    return losses


def under_limit(text, limit):
    """The losses of the same steps under the limit."""
    lg.memory.trim()
    lg.memory.limit(limit)
    w = make(Case.parse(text))
    try:
        train(w, 1, 1)
        raise SystemExit("the plain step fits the limit")
    except MemoryError as error:
        print(f"plain:       {error}")
    w.optimizer.zero_grad()
    start = time.perf_counter()
    plan = lg.plan(w.model, *w.batch, loss=w.loss, optimizer=w.optimizer, accumulate=PARTS, budget=limit)
    seconds = time.perf_counter() - start
    print(plan.table(depth=2), end="")
    print(f"planned in {seconds:.2f} s; the batch in {PARTS} parts, checkpoints of {', '.join(plan.checkpoints)}")
    checkpoint_modules(w.model, plan.checkpoints)
    losses, peak = train(w, PARTS)
    planned = plan.checkpointed_peak if plan.checkpoints else plan.peak
    print(f"{'limited':12} planned {mb(planned)}   measured {mb(peak)}   {planned / peak - 1:+.1%}")
    lg.memory.limit(None)
    return losses


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--small", action="store_true", help="a fortieth of the model")
    p.add_argument("--threads", type=int, default=2)
    o = p.parse_args()
    lg.set_num_threads(o.threads)
    for name in ("gpt_small", "gpt_medium", "resnet20", "mlp"):
        compare(name, name)
    text = "gpt context=256 width=256 heads=4 batch=64 vocabulary=65 layers=8"
    limit = 700e6
    if o.small:
        text, limit = "gpt context=64 width=64 heads=4 batch=32 vocabulary=65 layers=6", 17.5e6
    plain = compare("large", text)
    limited = under_limit(text, limit)
    print("losses", *(f"{loss:.7f}" for loss in plain), " plain")
    print("losses", *(f"{loss:.7f}" for loss in limited), f" under {mb(limit).strip()}")
    difference = max(abs(a - b) for a, b in zip(plain, limited, strict=True))
    print(f"difference at the most {difference:.1e}")
    raise SystemExit(difference > 1e-6)


if __name__ == "__main__":
    main()
