"""nanoGPT's model (https://github.com/karpathy/nanoGPT, model.py) without biases: token and position
embeddings, blocks of attention and MLP with the norm first, a head tied to the token embedding. Names
and layouts of the state dict are nanoGPT's, so its weights load here. model.h is the same in C++.
"""

import math
import sys
from dataclasses import dataclass
from pathlib import Path

import lightgrad as lg
from lightgrad import nn

sys.path.append(str(Path(__file__).resolve().parents[1]))
from common.program import call_block


@dataclass
class GPTConfig:
    vocabulary: int = 65
    context: int = 64
    layers: int = 3
    heads: int = 4
    width: int = 128
    dropout: float = 0.0
    checkpoint_activations: bool = False


class Attention(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.heads, self.dropout = s.heads, s.dropout
        # Query, key and value in one product; and back.
        self.c_attn = nn.Linear(s.width, 3 * s.width, bias=False)
        self.c_proj = nn.Linear(s.width, s.width, bias=False)
        self.resid_dropout = nn.Dropout(s.dropout)

    def forward(self, x):  # x (B, T, C)
        B, T, C = x.shape
        q, k, v = (
            part.view(B, T, self.heads, C // self.heads).transpose(1, 2) for part in self.c_attn(x).split(C, dim=2)
        )
        y = lg.scaled_dot_product_attention(  # (B, heads, T, C / heads)
            q, k, v, dropout_p=self.dropout if self.training else 0.0, is_causal=True
        )
        return self.resid_dropout(self.c_proj(y.transpose(1, 2).reshape(B, T, C)))


class MLP(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.c_fc = nn.Linear(s.width, 4 * s.width, bias=False)
        self.c_proj = nn.Linear(4 * s.width, s.width, bias=False)
        self.dropout = nn.Dropout(s.dropout)

    def forward(self, x):
        return self.dropout(self.c_proj(lg.gelu(self.c_fc(x))))


class Block(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.ln_1 = nn.LayerNorm(s.width, bias=False)
        self.attn = Attention(s)
        self.ln_2 = nn.LayerNorm(s.width, bias=False)
        self.mlp = MLP(s)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.checkpoint_activations = s.checkpoint_activations
        self.wte = nn.Embedding(s.vocabulary, s.width)
        self.wpe = nn.Embedding(s.context, s.width)
        self.drop = nn.Dropout(s.dropout)
        self.h = nn.ModuleList([Block(s) for _ in range(s.layers)])
        self.ln_f = nn.LayerNorm(s.width, bias=False)

    def forward(self, ids):
        x = self.drop(self.wte(ids) + self.wpe(lg.arange(ids.shape[1])))
        for block in self.h:
            x = call_block(block, x, self.checkpoint_activations)
        return self.ln_f(x)


class GPT(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.transformer = Transformer(s)
        self.lm_head = nn.Linear(s.width, s.vocabulary, bias=False)
        self.lm_head.weight = self.transformer.wte.weight
        # Each block adds twice to the residual stream; the factor keeps its variance at any depth.
        residual = 0.02 / math.sqrt(2 * s.layers)
        for name, p in self.named_parameters():
            if p.ndim >= 2:  # norms stay at one
                nn.init.normal_(p, 0, residual if name.endswith("c_proj.weight") else 0.02)

    def forward(self, ids):
        """Token ids (B, T) -> logits (B, T, vocabulary) of the token that follows each."""
        return self.lm_head(self.transformer(ids))


def loss_of(model, ids, targets):
    logits = model(ids)
    return lg.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1))
