"""The workloads of steps.cpp in JAX, each one jitted step. harness.py says how it is called: jax_steps.py gpt_small"""

import os

from cases import WORKLOADS
from harness import Case, arguments, serve

options = arguments()
# XLA sizes its pool by the cores that it may use, and no flag of its own says how many.
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

rng = np.random.default_rng(0)


def normal(*shape, std=1.0):
    return jnp.asarray(rng.normal(0, std, shape), jnp.float32)


def linear(inputs, outputs, bias=True):
    bound = 1 / np.sqrt(inputs)
    weight = jnp.asarray(rng.uniform(-bound, bound, (inputs, outputs)), jnp.float32)
    return {"w": weight, **({"b": jnp.zeros(outputs)} if bias else {})}


def apply(p, x):
    y = x @ p["w"]
    return y + p["b"] if "b" in p else y


def layer_norm(p, x):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * p["g"] + p["b"]


def cross_entropy(logits, y):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[..., None], -1).mean()


def gpt(c):
    width, heads, vocabulary = c["width"], c["heads"], c["vocabulary"]
    norm = lambda: {"g": jnp.ones(width), "b": jnp.zeros(width)}
    block = lambda: {
        "ln1": norm(),
        "ln2": norm(),
        "qkv": linear(width, 3 * width),
        "proj": linear(width, width),
        "up": linear(width, 4 * width),
        "down": linear(4 * width, width),
    }
    parameters = {
        "tok": normal(vocabulary, width),
        "pos": normal(c["context"], width),
        "ln": norm(),
        "head": linear(width, vocabulary, bias=False),
        "blocks": [block() for _ in range(c["layers"])],
    }

    def loss(p, ids, y):
        b, t = ids.shape
        x = p["tok"][ids] + p["pos"][:t]
        for k in p["blocks"]:
            parts = jnp.split(apply(k["qkv"], layer_norm(k["ln1"], x)), 3, -1)
            q, key, v = (z.reshape(b, t, heads, width // heads) for z in parts)
            a = jax.nn.dot_product_attention(q, key, v, is_causal=True)
            x = x + apply(k["proj"], a.reshape(b, t, width))
            x = x + apply(k["down"], jax.nn.gelu(apply(k["up"], layer_norm(k["ln2"], x)), approximate=False))
        return cross_entropy(apply(p["head"], layer_norm(p["ln"], x)), y)

    batch = [jnp.asarray(rng.integers(0, vocabulary, (c["batch"], c["context"])), jnp.int32) for _ in range(2)]
    return parameters, loss, adamw, batch


def mlp(c):
    parameters = [linear(784, 512), linear(512, 512), linear(512, 10)]

    def loss(p, x, y):
        return cross_entropy(apply(p[2], jax.nn.relu(apply(p[1], jax.nn.relu(apply(p[0], x))))), y)

    return parameters, loss, sgd, [normal(c["batch"], 784), jnp.asarray(rng.integers(0, 10, c["batch"]), jnp.int32)]


def tiny(c):
    parameters = [linear(2, 16), linear(16, 16), linear(16, 1)]

    def loss(p, x, y):
        return ((apply(p[2], jnp.tanh(apply(p[1], jnp.tanh(apply(p[0], x))))) - y) ** 2).mean()

    return parameters, loss, sgd, [normal(1, 2), normal(1, 1)]


def adamw(p, g, s, lr=3e-4, b1=0.9, b2=0.95, decay=0.1, eps=1e-8):
    t = s["t"] + 1
    m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, s["m"], g)
    v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, s["v"], g)
    update = lambda p, m, v: p * (1 - lr * decay) - lr * (m / (1 - b1**t)) / (jnp.sqrt(v / (1 - b2**t)) + eps)
    return jax.tree.map(update, p, m, v), {"t": t, "m": m, "v": v}


def sgd(p, g, s, lr=0.05, momentum=0.9, decay=1e-4):
    m = jax.tree.map(lambda m, g, p: momentum * m + g + decay * p, s["m"], g, p)
    return jax.tree.map(lambda p, m: p - lr * m, p, m), {"t": 0, "m": m, "v": s["v"]}


def make(c):
    c = Case.parse(WORKLOADS.get(c.kind, c.line))
    parameters, loss, update, batch = {"gpt": gpt, "mlp": mlp, "tiny": tiny}[c.kind](c)
    zeros = jax.tree.map(jnp.zeros_like, parameters)
    state = {"t": 0, "m": zeros, "v": zeros}

    @jax.jit
    def compiled(parameters, state, *batch):
        value, gradient = jax.value_and_grad(loss)(parameters, *batch)
        parameters, state = update(parameters, gradient, state)
        return value, parameters, state

    def step():
        nonlocal parameters, state
        value, parameters, state = compiled(parameters, state, *batch)
        return float(value)

    return step


serve("jax", options, make)
