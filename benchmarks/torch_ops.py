"""The cases of ops.cpp in PyTorch: torch_ops.py [--threads N] [--compile] [--best] [CASE ...]

--best: fused optimizers, convolutions in channels_last, and results of mode=forward written to memory that is there
already (out=) where PyTorch offers that, which spares its allocator's page faults. --compile: through torch.compile.
"""

import torch
import torch.nn.functional as F
from harness import arguments, serve

options = arguments(compile="torch.compile", best="fused optimizers, channels_last and out=")
aten = torch.ops.aten


def forward_or_train(c, inputs, f, out=None):
    """out(y) computes into y."""
    run = torch.compile(f, dynamic=False) if options.compile else f
    if c.text("mode", "forward") == "forward":

        @torch.no_grad()
        def forward():
            run()

        if options.best and not options.compile and out:
            with torch.no_grad():
                y = f()

            @torch.no_grad()
            def forward():
                out(y)

        return forward
    for x in inputs:
        x.requires_grad_()
    y = f()
    g = None if y.dim() == 0 else torch.randn(y.shape)

    def train():
        torch.autograd.grad(run(), inputs, g)

    return train


def dtype_of(c):
    return getattr(torch, c.text("dtype", "float32"))


def gemm(c):
    dtype = dtype_of(c)
    operand = lambda t, rows, columns: (
        torch.randn(columns, rows, dtype=dtype).t() if t == "T" else torch.randn(rows, columns, dtype=dtype)
    )
    form = c.text("form")
    a, b = operand(form[0], c["m"], c["k"]), operand(form[1], c["k"], c["n"])
    return forward_or_train(c, [a, b], lambda: torch.mm(a, b), lambda y: torch.mm(a, b, out=y))


def attention(c):
    shape = c["batch"], c["heads"], c["context"], c["width"]
    q, k, v = (torch.randn(shape, dtype=dtype_of(c)) for _ in range(3))
    causal = bool(c["causal"])
    return forward_or_train(c, [q, k, v], lambda: F.scaled_dot_product_attention(q, k, v, is_causal=causal))


def cross_entropy(c):
    logits, target = torch.randn(c["rows"], c["classes"]), torch.randint(c["classes"], (c["rows"],))
    return forward_or_train(c, [logits], lambda: F.cross_entropy(logits, target))


def conv(c):
    groups, kernel, stride = c["groups"], c["kernel"], c["stride"]
    layout = torch.channels_last if options.best else torch.contiguous_format
    dtype = dtype_of(c)
    x = torch.randn(c["batch"], c["in"], c["size"], c["size"], dtype=dtype).to(memory_format=layout)
    w = torch.randn(c["out"], c["in"] // groups, kernel, kernel, dtype=dtype).to(memory_format=layout)
    y = F.conv2d(x, w, stride=stride, padding=kernel // 2, groups=groups)
    g = torch.randn(y.shape, dtype=dtype).to(memory_format=layout)
    where = [stride, stride], [kernel // 2, kernel // 2], [1, 1], False, [0, 0], groups
    mask = [c.text("mode") == mode for mode in ("data", "weight")] + [False]

    @torch.no_grad()
    def run():
        if any(mask):
            aten.convolution_backward(g, x, w, None, *where, mask)
        else:
            aten.convolution(x, w, None, *where)

    return run


def layer_norm(c):
    width = c["columns"]
    x, weight, bias = torch.randn(c["rows"], width), torch.randn(width), torch.randn(width)
    mean, rstd = torch.empty(c["rows"], 1), torch.empty(c["rows"], 1)
    return forward_or_train(
        c,
        [x, weight, bias],
        lambda: F.layer_norm(x, (width,), weight, bias),
        lambda y: aten.native_layer_norm.out(x, [width], weight, bias, 1e-5, out0=y, out1=mean, out2=rstd),
    )


def embedding(c):
    weight, ids = torch.randn(c["classes"], c["width"]), torch.randint(c["classes"], (c["rows"],))
    return forward_or_train(c, [weight], lambda: F.embedding(ids, weight))


def pointwise(c):
    x = torch.randn(c["rows"], c["columns"])
    f, out = {
        "gelu": (lambda: F.gelu(x), lambda y: aten.gelu.out(x, out=y)),
        "relu": (lambda: F.relu(x), lambda y: aten.clamp_min.out(x, 0, out=y)),
        "tanh": (lambda: torch.tanh(x), lambda y: torch.tanh(x, out=y)),
        "exp": (lambda: torch.exp(x), lambda y: torch.exp(x, out=y)),
        "dropout": (lambda: F.dropout(x, 0.1), None),
        "softmax": (lambda: torch.softmax(x, -1), lambda y: torch.softmax(x, -1, out=y)),
    }[c.kind]
    return forward_or_train(c, [x], f, out)


def adamw(c):
    parameters = [torch.randn(c["n"], requires_grad=True) for _ in range(c["tensors"])]
    for p in parameters:
        p.grad = torch.randn(c["n"])
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.1, fused=options.best or None)
    step = torch.compile(optimizer.step) if options.compile else optimizer.step
    return lambda: step() and None


def reduction(c):
    x = torch.randn(c["rows"], c["columns"])
    dim = (0, 1) if c.text("dim") == "all" else (c["dim"],)
    f = {"sum": torch.sum, "mean": torch.mean, "amax": torch.amax}[c.kind]
    return forward_or_train(c, [x], lambda: f(x, dim), lambda y: f(x, dim, out=y))


def transposes(c):
    if c.kind == "permute":
        x = torch.randn(c["batch"], c["context"], c["heads"], c["width"])
        view = x.transpose(1, 2)
    else:
        x = torch.randn(c["rows"], c["columns"])
        view = x.t()
    if c.kind == "add_transposed":
        return forward_or_train(c, [x], lambda: x + x.t(), lambda y: torch.add(x, view, out=y))
    f = (lambda: x.transpose(1, 2).contiguous()) if c.kind == "permute" else (lambda: x.t().contiguous())
    return forward_or_train(c, [x], f, lambda y: y.copy_(view))


def add(c):
    rows, columns, other = c["rows"], c["columns"], c.text("with")
    x = torch.randn(rows, columns)
    if other == "number":
        return forward_or_train(c, [x], lambda: x + 1.5, lambda y: torch.add(x, 1.5, out=y))
    y = torch.randn(1 if other == "row" else rows, 1 if other == "column" else columns)
    return forward_or_train(c, [x, y], lambda: x + y, lambda out: torch.add(x, y, out=out))


KINDS = {
    "gemm": gemm,
    "attention": attention,
    "cross_entropy": cross_entropy,
    "conv": conv,
    "layer_norm": layer_norm,
    "embedding": embedding,
    **dict.fromkeys(["gelu", "relu", "tanh", "exp", "dropout", "softmax"], pointwise),
    "adamw": adamw,
    **dict.fromkeys(["sum", "mean", "amax"], reduction),
    **dict.fromkeys(["transpose", "add_transposed", "permute"], transposes),
    "add": add,
}


def make(c):
    torch._dynamo.reset()  # or it gives up on a function that was compiled for 8 other cases
    return KINDS[c.kind](c)


torch.set_num_threads(options.threads)
torch.manual_seed(0)
serve("torch" + ".compile" * options.compile + ".best" * options.best, options, make)
