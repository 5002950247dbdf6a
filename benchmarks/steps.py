"""Training steps in LightGrad from Python, one JSON line each. Usage: steps.py [--threads N] [WORKLOAD ...]

The workloads are those of torch_steps.py; `tiny` measures what an operation costs from Python.
"""

import json
import statistics
import sys
import time

import lightgrad as lg
from lightgrad import nn


def mlp():
    model = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    x, y = lg.randn(128, 784), lg.randint(0, 10, (128,))
    return model, lambda: nn.functional.cross_entropy(model(x), y), 100


def tiny():
    model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))
    x, y = lg.randn(1, 2), lg.randn(1, 1)
    return model, lambda: ((model(x) - y) ** 2).mean(), 5000


def measure(name):
    lg.manual_seed(0)
    model, loss_of, steps = {"mlp": mlp, "tiny": tiny}[name]()
    optimizer = lg.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)

    def step():
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        optimizer.step()
        return loss.item()

    first = step()
    for _ in range(3):
        step()
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        last = step()
        times.append((time.perf_counter() - start) * 1e3)
    print(
        json.dumps(
            {
                "system": "lightgrad.python",
                "workload": name,
                "ms_median": round(statistics.median(times), 5),
                "ms_min": round(min(times), 5),
                "loss_first": round(first, 4),
                "loss_last": round(last, 4),
            }
        ),
        flush=True,
    )


def main():
    names = sys.argv[1:]
    if names[:1] == ["--threads"]:
        lg.set_num_threads(int(names[1]))
        names = names[2:]
    for name in names or ["mlp", "tiny"]:
        measure(name)


main()
