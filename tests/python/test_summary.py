"""lg.summary: layers, shapes, parameters, work and memory against numbers worked out by hand."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import lightgrad as lg
from lightgrad import nn

ROOT = Path(__file__).resolve().parents[2]


def by_path(summary):
    return {layer.path: layer for layer in summary.layers}


def resnet20():
    """examples/resnet's ResNet-20."""
    spec = importlib.util.spec_from_file_location("resnet_model", ROOT / "examples/resnet/model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ResNet(3, 16, 3).eval()


def test_resnet20_is_that_of_the_paper():
    model = resnet20()
    s = lg.summary(model, lg.randn(1, 3, 32, 32))
    # Table 6 of the paper says 0.27 million parameters: convolutions, norms, fc; and here two 1x1 convolutions.
    widths = (16, 32, 64)
    convolutions = 9 * 3 * 16 + 9 * (6 * 16 * 16 + 16 * 32 + 5 * 32 * 32 + 32 * 64 + 5 * 64 * 64)
    shortcuts = 16 * 32 + 32 * 64
    norms = 2 * (16 + 6 * sum(widths) + 32 + 64)
    assert s.parameters == convolutions + shortcuts + norms + 650 == 272474
    assert s.trained == s.parameters and s.bytes == 4 * s.parameters

    # Multiply-adds, 40.8 million: 3x3 at 32x32, 16x16 and 8x8 pixels, 1x1, fc.
    stages = [
        9 * 1024 * 6 * 16 * 16,
        9 * 256 * (16 * 32 + 5 * 32 * 32) + 256 * 16 * 32,
        9 * 64 * (32 * 64 + 5 * 64 * 64) + 64 * 32 * 64,
    ]
    products = 9 * 1024 * 3 * 16 + sum(stages) + 640
    assert products == 40_813_184
    # In evaluation a norm subtracts the mean, divides, and has weight and bias: 4 an element, one more for relu and
    # one for the residual. The mean over the pixels adds up each, fc adds a bias.
    sizes = [16 * 1024, 32 * 256, 64 * 64]
    pointwise = 5 * sizes[0] + sum(3 * (5 + 6) * n for n in sizes) + 4 * (sizes[1] + sizes[2])
    layers = by_path(s)
    assert s.flops == 2 * products + pointwise + sizes[2] + 10
    assert layers["conv"].flops == 2 * 9 * 1024 * 3 * 16
    assert layers["bn"].flops == 5 * sizes[0]
    assert layers["stages.0"].flops == 2 * stages[0] / 3 + 11 * sizes[0]
    assert layers["stages.3.shortcut"].flops == 2 * 256 * 16 * 32 + 4 * sizes[1]
    assert layers["stages"].flops == 2 * sum(stages) + pointwise - 5 * sizes[0]
    assert layers["conv"].output == (1, 16, 32, 32) and layers["stages.3.conv1"].output == (1, 32, 16, 16)
    assert layers["stages"].output == (1, 64, 8, 8) and layers[""].output == layers["fc"].output == (1, 10)
    assert layers["stages.8.conv2"].parameters == 9 * 64 * 64
    assert len(layers) == 1 + 4 + 9 * 6 + 2 * 2  # model, conv, bn, stages, fc; blocks; shortcuts' links

    ran = lg.summary(model, lg.randn(7, 3, 32, 32))
    assert ran.flops == 7 * s.flops and ran.parameters == s.parameters


def test_resnet20_keeps_what_the_backward_pass_needs():
    # What each convolution and each norm gives, and of the 8x8 images their mean.
    n = 64
    s = lg.summary(resnet20(), lg.randn(n, 3, 32, 32))
    elements = 2 * (7 * 16 * 1024 + 6 * (32 * 256 + 64 * 64)) + 2 * (32 * 256 + 64 * 64)
    assert s.kept == pytest.approx(4 * n * elements, rel=0.02)
    assert by_path(s)["stages.0"].kept == pytest.approx(4 * n * 4 * 16 * 1024, rel=0.02)
    with lg.no_grad():
        assert lg.summary(resnet20(), lg.randn(n, 3, 32, 32)).kept < 1e5


class Block(nn.Module):
    """A Transformer's, with the norms before what they normalise."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        n, t, c = x.shape
        q, k, v = (p.view(n, t, self.heads, -1).transpose(1, 2) for p in self.qkv(self.ln1(x)).split(c, -1))
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.proj(y.transpose(1, 2).reshape(n, t, c))
        return x + self.mlp(self.ln2(x))


def test_a_transformer_block():
    n, t, c, heads = 3, 20, 32, 4
    rows = n * t
    s = lg.summary(Block(c, heads), lg.randn(n, t, c))
    layers = by_path(s)
    assert s.parameters == 12 * c * c + 13 * c
    assert layers["ln1"].flops == 8 * rows * c
    assert layers["qkv"].flops == rows * 3 * c * (2 * c + 1)
    assert layers["mlp.0"].flops == rows * 4 * c * (2 * c + 1)
    assert layers["mlp.1"].flops == rows * 4 * c
    assert layers["mlp"].flops == rows * (4 * c * (2 * c + 1) + 4 * c + c * (2 * 4 * c + 1))
    assert layers["mlp"].output == (n, t, c) and layers["mlp.1"].output == (n, t, 4 * c)
    attention = n * t * t * 2 * (c + c)
    own = attention + 2 * rows * c  # and two sums
    assert s.flops == sum(layers[name].flops for name in ("ln1", "ln2", "qkv", "proj", "mlp")) + own


def test_arguments_by_name_and_several_outputs():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(2, 3)

        def forward(self, x, scale, *, shift=0.0):
            return self.a(x) * scale, x + shift

    s = lg.summary(Pair(), lg.randn(5, 2), 2.0, shift=1.0)
    assert [layer.type for layer in s.layers] == ["Pair", "Linear"]
    assert [layer.output for layer in s.layers] == [None, (5, 3)]
    assert s.flops == 5 * 3 * (2 * 2 + 1) + 15 + 10
    assert "Pair" in str(s) and "a: Linear" in s.table(depth=1)


def test_looking_changes_nothing():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5))
    x = lg.randn(4, 1, 8, 8)
    before = {name: t.numpy().copy() for name, t in model.state_dict().items()}
    lg.manual_seed(3)
    expected = lg.rand(3).tolist()
    lg.manual_seed(3)
    s = lg.summary(model, x)
    assert lg.rand(3).tolist() == expected
    assert model.training and by_path(s)["1"].flops > 0
    assert all((before[name] == t.numpy()).all() for name, t in model.state_dict().items())
    with pytest.raises(ValueError, match="BatchNorm2d"):
        lg.summary(nn.BatchNorm2d(2), lg.randn(3))
    lg.profiler.profile().start()  # nothing was left running


def test_what_is_no_model_is_named():
    with pytest.raises(TypeError, match="summary: model is a lightgrad._core.Tensor, expected a Module"):
        lg.summary(lg.ones(2), lg.ones(2))


@pytest.mark.parametrize(
    ("layer", "shape", "flops"),
    [
        (nn.Conv2d(6, 4, 3, stride=2, padding=1, groups=2), (2, 6, 9, 9), 2 * 4 * 25 * (2 * 3 * 9 + 1)),
        (nn.ConvTranspose2d(4, 6, 2, stride=2, bias=False), (1, 4, 5, 5), 2 * 4 * 25 * 6 * 4),
        (nn.MaxPool2d(3, 2), (1, 2, 9, 9), 2 * 16 * 9 + 0),
        (nn.AvgPool2d(2), (1, 2, 8, 8), 2 * 2 * 16 * 4),
        (nn.AdaptiveAvgPool2d(1), (3, 2, 8, 8), 2 * 3 * 2 * 64),
        (nn.Upsample(scale_factor=2), (1, 2, 4, 4), 2 * 2 * 64),
        (nn.BatchNorm2d(3), (2, 3, 4, 4), 8 * 96 + 1),
    ],
    ids=lambda p: type(p).__name__ if isinstance(p, nn.Module) else "",
)
def test_the_work_of_layers_for_images(layer, shape, flops):
    assert lg.summary(layer, lg.randn(*shape)).flops == flops


def test_the_work_of_gradients():
    """A convolution's two gradients each do its products again; batch_norm's rule is written beside its kernel."""
    conv, norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
    x = lg.randn(2, 3, 10, 10, requires_grad=True)
    y = norm(conv(x)).sum()
    with lg.profiler.profile() as p:
        y.backward()
    work = {row.name: row.flops for row in p.rows()}
    products = 2 * 2 * 100 * 8 * 27
    assert np.isclose(sum(v for name, v in work.items() if "convolution" in name), 2 * products + 2 * 8 * 100)
    assert sum(v for name, v in work.items() if "batch_norm" in name) == 9 * 2 * 8 * 100
