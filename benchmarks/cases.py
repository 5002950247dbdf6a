"""The one list of what is measured: training steps, operations and sweeps, what each must reach, and what it costs.

A case is a line of words that ops.cpp, steps.cpp and their peers understand, `gemm form=NT m=768 n=384 k=128`.
"""

from dataclasses import dataclass
from pathlib import Path

WORKLOADS = dict(
    line.split(maxsplit=1)
    for line in (Path(__file__).parent / "workloads.txt").read_text().splitlines()
    if line and not line.startswith("#")
)


@dataclass(frozen=True)
class Case:
    group: str  # the row of TARGETS that it counts for
    name: str  # as tables print it
    text: str  # as programs read it

    @property
    def kind(self):
        return self.text.split()[0]

    @property
    def values(self):
        return dict(word.split("=") for word in self.text.split()[1:])

    @property
    def compiles(self):
        """A matrix product or a convolution alone is the same call with and without torch.compile."""
        return self.kind not in ("gemm", "conv")


@dataclass(frozen=True)
class Target:
    """PyTorch's time over LightGrad's: what the geometric mean and the slowest case have to reach."""

    title: str
    must: float
    aim: float
    worst_must: float | None = None
    worst_aim: float | None = None
    by: str = "mean"  # "worst": every case counts


TARGETS = {
    "gemm": Target("Matrix products of the steps", 1.0, 1.1, 0.85, 0.95),
    "attention": Target("Attention, forward and backward", 1.5, 2.5, by="worst"),
    "cross_entropy": Target("Cross-entropy, 50,257 classes", 4, 8),
    "conv": Target("Convolutions: forward and both gradients", 0.95, 1.3, by="worst"),
    "memory_large": Target("What memory limits, 16 M elements", 0.95, 1.3, by="worst"),
    "memory_small": Target("What memory limits, 64 K elements", 0.95, 1.3, by="worst"),
    "gpt_small": Target("gpt_small", 1.5, 2.0),
    "gpt_medium": Target("gpt_medium", 1.25, 1.5),
    "resnet20": Target("resnet20", 1.25, 2.0),
    "mlp": Target("mlp", 1.3, 1.8),
    "tiny": Target("tiny from C++", 40, 80),
    "tiny_python": Target("tiny from Python", 15, 25),
    "start": Target("Start to first step of gpt_small, Python", 10, 20),
    "peak_memory": Target("Peak memory of training gpt_medium, Python", 1.5, 2.5),
}


def gemm_cases():
    """A layer y[rows, out] = x[rows, in] W^T is NT forward; NN gives its input's gradient, TN its weight's. TT is no
    part of a step, but has to hold as well."""
    layers = [(768, 128, 384), (768, 128, 128), (768, 128, 512), (768, 512, 128), (768, 128, 65)]
    layers += [(2048, 384, 1152), (2048, 384, 384), (2048, 384, 1536), (2048, 1536, 384), (2048, 384, 65)]
    layers += [(128, 784, 512), (128, 512, 512), (128, 512, 10)]
    for rows, inputs, outputs in layers:
        for form, (m, n, k) in {
            "NT": (rows, outputs, inputs),
            "NN": (rows, inputs, outputs),
            "TN": (outputs, inputs, rows),
            "TT": (rows, outputs, inputs),
        }.items():
            yield Case("gemm", f"{form} {m} x {n} x {k}", f"gemm form={form} m={m} n={n} k={k}")


def attention_cases():
    for batch, heads, context, width in [
        (12, 4, 64, 32),
        (8, 6, 128, 64),
        (8, 6, 256, 64),
        (4, 6, 512, 64),
        (2, 6, 1024, 64),
        (1, 6, 2048, 64),
    ]:
        for causal in (1, 0):
            yield Case(
                "attention",
                f"context {context}, {batch} x {heads} heads of {width}{', causal' * causal}",
                f"attention batch={batch} heads={heads} context={context} width={width} causal={causal} mode=train",
            )


def cross_entropy_cases():
    for rows in (256, 1024):
        yield Case("cross_entropy", f"{rows} x 50257", f"cross_entropy rows={rows} classes=50257 mode=train")


# Batch, channels in and out, image, kernel, stride, groups: those of ResNet-20; of larger networks.
CONVOLUTIONS = [
    (32, 3, 16, 32, 3, 1, 1),
    (32, 16, 16, 32, 3, 1, 1),
    (32, 16, 32, 32, 3, 2, 1),
    (32, 32, 32, 16, 3, 1, 1),
    (32, 32, 64, 16, 3, 2, 1),
    (32, 64, 64, 8, 3, 1, 1),
    (32, 16, 32, 32, 1, 2, 1),
    (32, 32, 64, 16, 1, 2, 1),
    (8, 64, 64, 56, 3, 1, 1),
    (8, 128, 128, 28, 3, 1, 1),
    (8, 256, 256, 14, 3, 1, 1),
    (8, 64, 256, 28, 1, 1, 1),
    (8, 256, 64, 28, 1, 1, 1),
    (2, 3, 64, 224, 7, 2, 1),
    (8, 96, 96, 28, 3, 1, 96),
    (8, 96, 96, 28, 3, 2, 96),
]


def conv_cases():
    """mode: forward, data (the gradient of the images), weight (that of the weight)."""
    for batch, inputs, outputs, size, kernel, stride, groups in CONVOLUTIONS:
        form = f"{kernel}x{kernel} {inputs} > {outputs}{f' / {stride}' * (stride > 1)} at {size}"
        case = f"conv batch={batch} in={inputs} out={outputs} size={size} kernel={kernel} stride={stride}"
        for mode in ("forward", "data", "weight"):
            depthwise = ", depthwise" * (groups > 1)
            yield Case("conv", f"{form}{depthwise}: {mode}", f"{case} groups={groups} mode={mode}")


def memory_cases(group, rows, columns):
    shape = f"rows={rows} columns={columns}"
    case = lambda name, text: Case(group, name, text)
    for kind in ("layer_norm", "gelu", "softmax"):
        yield case(f"{kind}", f"{kind} {shape} mode=forward")
        yield case(f"{kind} with backward", f"{kind} {shape} mode=train")
    yield case("AdamW", f"adamw n={rows * columns} tensors=1")
    for kind in ("sum", "mean", "amax"):
        for dim, words in (("all", "of all"), ("0", "over rows"), ("1", "over columns")):
            yield case(f"{kind} {words}", f"{kind} dim={dim} {shape}")
    yield case("transpose, copied", f"transpose {shape}")
    side = int((rows * columns) ** 0.5)
    yield case("x + x.T", f"add_transposed rows={side} columns={side}")
    batch = max(1, rows * columns // (256 * 384))
    context = 256 if batch > 1 else rows * columns // 384
    yield case("heads apart, copied", f"permute batch={batch} context={context} heads=6 width=64")
    for other, words in (("same", "y"), ("row", "a row"), ("column", "a column"), ("number", "a number")):
        yield case(f"x + {words}", f"add with={other} {shape}")
    yield case("exp", f"exp {shape}")
    yield case("tanh", f"tanh {shape}")


# One size of a small GPT grows at a time, the others stand still.
BASE = {"context": 128, "width": 256, "heads": 8, "batch": 8, "vocabulary": 65, "layers": 2}
SWEEPS = {
    "width": (64, 128, 256, 512, 1024),
    "context": (32, 64, 128, 256, 512, 1024),
    "batch": (1, 2, 4, 8, 16, 32, 64),
    "vocabulary": (65, 512, 4096, 50257),
}


def sweep_case(what, size):
    sizes = BASE | {what: size}
    if what == "width":
        sizes["heads"] = size // 32
    return "gpt " + " ".join(f"{name}={value}" for name, value in sizes.items())


def operations():
    return [
        *gemm_cases(),
        *attention_cases(),
        *cross_entropy_cases(),
        *conv_cases(),
        *memory_cases("memory_large", 16384, 1024),
        *memory_cases("memory_small", 256, 256),
    ]
