"""The workloads of steps.cpp, from Python; `tiny` shows what an operation costs from there. --bf16: the loss under
autocast. harness.py says how else it is called: steps.py gpt_small mlp
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from cases import WORKLOADS
from harness import Case, arguments, serve

import lightgrad as lg
from lightgrad import nn, optim
from lightgrad.nn import functional as F


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
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(layers)])
        self.ln, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)

    def forward(self, ids):
        x = self.tok(ids) + self.pos(lg.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.ln(x))


class BasicBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.c1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.c2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.b1, self.b2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(outputs))

    def forward(self, x):
        return self.b2.relu(self.c2(self.b1.relu(self.c1(x))), self.shortcut(x))


class ResNet20(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        widths = [16] * 4 + [32] * 3 + [64] * 3
        pairs = itertools.pairwise(widths)
        self.body = nn.Sequential(*(BasicBlock(i, o, 1 if i == o else 2) for i, o in pairs))
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        return self.fc(self.body(self.bn.relu(self.conv(x))).mean((2, 3)))


def momentum(model):
    return optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)


@dataclass
class Workload:
    model: nn.Module
    optimizer: optim.Optimizer
    loss: Callable  # of the batch
    batch: tuple

    def step(self, bf16=False):
        self.optimizer.zero_grad()
        with lg.autocast(dtype=lg.bfloat16, enabled=bf16):
            loss = self.loss(*self.batch)
        loss.backward()
        self.optimizer.step()
        return loss.item()


def gpt(c):
    vocabulary = c["vocabulary"]
    model = GPT(vocabulary, c["context"], c["width"], c["heads"], c["layers"])
    optimizer = optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1)
    batch = tuple(lg.randint(0, vocabulary, (c["batch"], c["context"])) for _ in range(2))
    loss = lambda ids, targets: F.cross_entropy(model(ids).view(-1, vocabulary), targets.reshape(-1))
    return Workload(model, optimizer, loss, batch)


def resnet20(c):
    model = ResNet20()
    batch = lg.randn(c["batch"], 3, 32, 32), lg.randint(0, 10, (c["batch"],))
    return Workload(model, momentum(model), lambda x, y: F.cross_entropy(model(x), y), batch)


def mlp(c):
    hidden = nn.Linear(784, 512, activation="relu"), nn.Linear(512, 512, activation="relu")
    model = nn.Sequential(*hidden, nn.Linear(512, 10))
    batch = lg.randn(c["batch"], 784), lg.randint(0, 10, (c["batch"],))
    return Workload(model, momentum(model), lambda x, y: F.cross_entropy(model(x), y), batch)


def tiny(c):
    model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))
    batch = lg.randn(1, 2), lg.randn(1, 1)
    return Workload(model, momentum(model), lambda x, y: ((model(x) - y) ** 2).mean(), batch)


def make(c):
    lg.manual_seed(0)
    c = Case.parse(WORKLOADS.get(c.kind, c.line))
    return {"gpt": gpt, "resnet20": resnet20, "mlp": mlp, "tiny": tiny}[c.kind](c)


if __name__ == "__main__":
    options = arguments(bf16="autocast to bfloat16")
    lg.set_num_threads(options.threads)
    system = "lightgrad.python" + ".bf16" * options.bf16
    serve(system, options, lambda c: partial(make(c).step, options.bf16))
