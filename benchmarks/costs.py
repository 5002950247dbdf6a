"""What a case cannot do without: FLOP of its matrix products, and bytes with each operand read once per pass over it
and each result written once. Achieved rates are these over the time, so they are the same for every system."""

from math import prod

from harness import Case


def cost(text):
    """(FLOP, bytes); 0 where the time does not go by it."""
    c = Case.parse(text)
    size = 8 if c.text("dtype", "float32") == "float64" else 4
    train = c.text("mode", "forward") == "train"
    return COSTS.get(c.kind, pointwise)(c, size, train)


def gemm(c, size, train):
    m, n, k = c["m"], c["n"], c["k"]
    return 2 * m * n * k * (1 + 2 * train), size * (m * k + k * n + m * n)


def attention(c, size, train):
    """Forward q k^T and p v; backward q k^T again, dp, dv, dq and dk. Causal: half of the scores."""
    elements = c["batch"] * c["heads"] * c["context"] * c["width"]
    products = 7 if train else 2
    flop = products * 2 * elements * c["context"] / (2 if c["causal"] else 1)
    return flop, size * elements * (4 + 8 * train)


def cross_entropy(c, size, train):
    return 0, size * c["rows"] * c["classes"] * (1 + 2 * train)


def conv(c, size, train):
    """Each of the three directions multiplies the same pairs. Padding keeps the size of images, but for the stride."""
    out = -(-c["size"] // c["stride"])
    x, y = (c["batch"] * c[name] * side**2 for name, side in (("in", c["size"]), ("out", out)))
    depth = c["in"] // c["groups"] * c["kernel"] ** 2
    return 2 * y * depth, size * (x + y + c["out"] * depth)


def adamw(c, size, train):
    return 0, size * c["n"] * c["tensors"] * 7  # parameter and two moments read and written, gradient read


def embedding(c, size, train):
    return 0, size * c["width"] * (2 * c["rows"] + train * (c["rows"] + c["classes"]))


def permute(c, size, train):
    return 0, size * 2 * prod(c[name] for name in ("batch", "context", "heads", "width"))


def reduction(c, size, train):
    return 0, size * c["rows"] * c["columns"]


def add(c, size, train):
    return 0, size * c["rows"] * c["columns"] * (3 if c.text("with") == "same" else 2)


def pointwise(c, size, train):
    """Read and written; backward reads the input and the gradient and writes another."""
    return 0, size * c["rows"] * c["columns"] * (2 + 3 * train)


def gpt(c, size, train):
    """A step is three times its forward: every product has two gradients of the same cost."""
    tokens, width = c["batch"] * c["context"], c["width"]
    block = 12 * width * width + width * c["context"]  # 4 layers; q k^T and p v over half of the context on average
    return 3 * 2 * tokens * (c["layers"] * block + width * c["vocabulary"]), 0


def resnet20(c, size, train):
    """A step is three times its forward, but that nobody wants the gradient of the pixels."""
    forward, channels, side = 0, 16, 32
    for width, stride in ((16, 1), (32, 2), (64, 2)):
        side //= stride
        blocks = 9 * channels * width + 5 * 9 * width * width + (stride > 1) * channels * width
        forward += side * side * blocks
        channels = width
    first = 9 * 3 * 16 * 32 * 32
    return 2 * c["batch"] * (3 * (forward + 64 * 10) + 2 * first), 0


def mlp(c, size, train):
    """Nobody wants the gradient of the pixels."""
    first, rest = 784 * 512, 512 * 512 + 512 * 10
    return 2 * c["batch"] * (2 * first + 3 * rest), 0


COSTS = {
    "gemm": gemm,
    "attention": attention,
    "cross_entropy": cross_entropy,
    "conv": conv,
    "adamw": adamw,
    "embedding": embedding,
    "permute": permute,
    **dict.fromkeys(["sum", "mean", "amax"], reduction),
    "add": add,
    "gpt": gpt,
    "resnet20": resnet20,
    "mlp": mlp,
    "tiny": lambda c, size, train: (2 * 3 * (2 * 16 + 16 * 16 + 16), 0),
}
