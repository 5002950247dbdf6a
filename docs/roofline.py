"""Draws docs/roofline.svg: the roofline of a training step of a small GPT on the machine that runs this."""

from pathlib import Path

import lightgrad as lg
from lightgrad import nn


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        b, t, c = x.shape
        heads = (p.view(b, t, self.heads, -1).transpose(1, 2) for p in self.qkv(self.ln1(x)).split(c, dim=2))
        y = nn.functional.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).reshape(b, t, c))
        return x + self.down(nn.functional.gelu(self.up(self.ln2(x))))


class GPT(nn.Module):
    def __init__(self, vocabulary=4096, context=128, width=256, layers=4, heads=8):
        super().__init__()
        self.token, self.position = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.ln, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)

    def forward(self, ids):
        x = self.token(ids) + self.position(lg.arange(ids.shape[1]))
        return self.head(self.ln(self.blocks(x)))


def main():
    model = GPT()
    optimizer = lg.optim.AdamW(model.parameters())
    ids = lg.randint(0, 4096, (8, 129))

    def step():
        optimizer.zero_grad()
        logits = model(ids[:, :-1])
        nn.functional.cross_entropy(logits.reshape(-1, 4096), ids[:, 1:].reshape(-1)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    for _ in range(3):
        step()
    with lg.profiler.profile() as p:
        for _ in range(10):
            step()
    out = Path(__file__).with_name("roofline.svg")
    p.save_roofline(out)
    print(p)
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
