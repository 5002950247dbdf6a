"""The workloads of steps.cpp and steps.py in PyTorch, one JSON line each.

Usage: torch_steps.py [--threads N] [WORKLOAD ...]
"""

import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        b, t, c = x.shape
        parts = self.qkv(self.ln1(x)).split(c, dim=2)
        q, k, v = (p.view(b, t, self.heads, c // self.heads).transpose(1, 2) for p in parts)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).reshape(b, t, c))
        return x + self.down(F.gelu(self.up(self.ln2(x))))


class GPT(nn.Module):
    def __init__(self, vocabulary, context, width, heads, layers):
        super().__init__()
        self.tok, self.pos = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.ln, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)

    def forward(self, ids):
        x = self.tok(ids) + self.pos(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.ln(x))


def gpt(context, width, heads, batch, steps):
    model = GPT(65, context, width, heads, 3)
    ids, targets = torch.randint(65, (batch, context)), torch.randint(65, (batch, context))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1)
    return optimizer, lambda: F.cross_entropy(model(ids).view(-1, 65), targets.view(-1)), steps


def momentum(model):
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)


def mlp():
    model = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    x, y = torch.randn(128, 784), torch.randint(10, (128,))
    return momentum(model), lambda: F.cross_entropy(model(x), y), 100


def tiny():
    model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))
    x, y = torch.randn(1, 2), torch.randn(1, 1)
    return momentum(model), lambda: ((model(x) - y) ** 2).mean(), 500


WORKLOADS = {
    "gpt_small": lambda: gpt(64, 128, 4, 12, 60),
    "gpt_medium": lambda: gpt(256, 384, 6, 8, 8),
    "mlp": mlp,
    "tiny": tiny,
}


def measure(name):
    torch.manual_seed(0)
    optimizer, loss_of, steps = WORKLOADS[name]()

    def step():
        optimizer.zero_grad(set_to_none=True)
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
                "system": "torch",
                "workload": name,
                "ms_median": round(statistics.median(times), 4),
                "ms_min": round(min(times), 4),
                "loss_first": round(first, 4),
                "loss_last": round(last, 4),
            }
        ),
        flush=True,
    )


def main():
    names = sys.argv[1:]
    if names[:1] == ["--threads"]:
        torch.set_num_threads(int(names[1]))
        names = names[2:]
    for name in names or list(WORKLOADS):
        measure(name)


main()
