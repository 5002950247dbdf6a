"""Layers for images beside PyTorch's with the same weights, and a whole ResNet-20 over ten steps of training."""

import copy

import numpy as np
import pytest

import lightgrad as lg
from lightgrad import nn

F = nn.functional


def twin(make, torch):
    """make(nn) in both, with PyTorch's weights."""
    theirs = make(torch.nn)
    ours = make(nn)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({name: t.numpy() for name, t in theirs.state_dict().items()})
    return ours, theirs


# name -> (layer of either library, shape of x)
LAYERS = {
    "conv2d": (lambda n: n.Conv2d(3, 5, 3, stride=2, padding=1), (2, 3, 9, 8)),
    "conv2d same": (lambda n: n.Conv2d(4, 6, (3, 2), padding="same", dilation=2, groups=2, bias=False), (2, 4, 7, 7)),
    "conv2d without a batch": (lambda n: n.Conv2d(2, 3, 3), (2, 6, 5)),
    "depthwise": (lambda n: n.Conv2d(6, 6, 3, padding=1, groups=6), (1, 6, 8, 8)),
    "conv1d": (lambda n: n.Conv1d(3, 4, 3, padding=2, dilation=2), (2, 3, 11)),
    "conv_transpose2d": (lambda n: n.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2), (2, 4, 5, 4)),
    "batch_norm1d": (lambda n: n.BatchNorm1d(4), (5, 4)),
    "batch_norm1d of sequences": (lambda n: n.BatchNorm1d(4, momentum=None), (3, 4, 6)),
    "batch_norm2d": (lambda n: n.BatchNorm2d(3, momentum=0.3), (4, 3, 5, 5)),
    "batch_norm2d plain": (lambda n: n.BatchNorm2d(3, affine=False, track_running_stats=False), (4, 3, 5, 5)),
    "group_norm": (lambda n: n.GroupNorm(2, 6), (3, 6, 4, 4)),
    "max_pool2d": (lambda n: n.MaxPool2d(3, 2, 1), (2, 3, 7, 8)),
    "max_pool2d ceil": (lambda n: n.MaxPool2d((2, 3), ceil_mode=True), (3, 7, 7)),
    "avg_pool2d": (lambda n: n.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), (2, 3, 8, 7)),
    "adaptive_avg_pool2d": (lambda n: n.AdaptiveAvgPool2d((3, 2)), (2, 3, 8, 7)),
    "upsample": (lambda n: n.Upsample(scale_factor=2), (2, 3, 4, 5)),
    "upsample bilinear": (lambda n: n.Upsample(size=(7, 9), mode="bilinear", align_corners=True), (2, 3, 4, 5)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_beside_torch(name):
    torch = pytest.importorskip("torch")
    make, shape = LAYERS[name]
    ours, theirs = twin(make, torch)
    # Newer versions name the bias of normalisations.
    assert repr(ours) == repr(theirs).replace(", bias=True", "").replace("affine=False, bias=False", "affine=False")
    rng = np.random.default_rng(0)
    for training in (True, True, False):
        ours.train(training)
        theirs.train(training)
        a = rng.standard_normal(shape).astype(np.float32)
        x, y = lg.tensor(a, requires_grad=True), torch.tensor(a, requires_grad=True)
        p, q = ours(x), theirs(y)
        assert np.allclose(p.detach().numpy(), q.detach().numpy(), atol=1e-5)
        ours.zero_grad()
        theirs.zero_grad()
        (p * p * p).mean().backward()
        (q * q * q).mean().backward()
        assert np.allclose(x.grad.numpy(), y.grad.numpy(), atol=1e-5)
        for (n, u), (m, v) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
            assert n == m and np.allclose(u.grad.numpy(), v.grad.numpy(), atol=1e-5)
        for (n, u), (m, v) in zip(ours.named_buffers(), theirs.named_buffers(), strict=True):
            assert n == m and np.allclose(u.numpy(), v.numpy(), atol=1e-6)


def test_default_initialisation_is_pytorchs():
    torch = pytest.importorskip("torch")
    lg.manual_seed(1)
    torch.manual_seed(1)
    for make in (
        lambda n: n.Conv2d(64, 96, 3),
        lambda n: n.Conv1d(64, 96, 5, groups=2),
        lambda n: n.ConvTranspose2d(48, 96, 3, groups=2),
    ):
        for (name, u), (_, v) in zip(make(nn).named_parameters(), make(torch.nn).named_parameters(), strict=True):
            u, v = u.detach().numpy(), v.detach().numpy()
            assert u.shape == v.shape, name
            assert np.abs(u).max() == pytest.approx(np.abs(v).max(), rel=0.2)
            assert u.std() == pytest.approx(v.std(), rel=0.2)


def test_batch_norm_with_relu_is_three_operations_in_one():
    rng = np.random.default_rng(3)
    x, residual, g = (lg.tensor(rng.standard_normal((4, 3, 5, 5))) for _ in range(3))
    one, three = nn.BatchNorm2d(3, dtype=lg.float64), nn.BatchNorm2d(3, dtype=lg.float64)
    for training in (True, False):
        results = []
        for module, call in (
            (one, lambda m, a, r: m.relu(a, r)),
            (three, lambda m, a, r: F.relu(m(a) + r)),
        ):
            module.train(training)
            a, r = x.clone().requires_grad_(), residual.clone().requires_grad_()
            y = call(module, a, r)
            grads = lg.autograd.grad(y, [a, r, module.weight, module.bias], g)
            results.append([y, *grads, module.running_mean, module.running_var])
        for p, q in zip(*results, strict=True):
            assert np.allclose(p.detach().numpy(), q.detach().numpy(), atol=1e-12)


def test_a_copied_batch_norm_has_statistics_of_its_own():
    a = nn.BatchNorm2d(2)
    b = copy.deepcopy(a)
    a(lg.ones(3, 2, 2, 2))
    assert a.num_batches_tracked.item() == 1 and b.num_batches_tracked.item() == 0
    assert b.running_mean.tolist() == [0, 0] and a.running_mean.tolist() != [0, 0]
    a.reset_running_stats()
    assert a.running_mean.tolist() == [0, 0] and a.num_batches_tracked.item() == 0


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_a_batch_norm_goes_into_its_convolution(dims, bias, affine):
    torch = pytest.importorskip("torch")

    def layers(n, dtype):
        conv, bn = (getattr(n, f"{kind}{dims}d") for kind in ("Conv", "BatchNorm"))
        return conv(6, 4, 3, 2, 1, groups=2, bias=bias, dtype=dtype), bn(4, affine=affine, eps=1e-3, dtype=dtype)

    ours, theirs = layers(nn, lg.float64), layers(torch.nn, torch.float64)
    rng = np.random.default_rng(3)
    for a, b in zip(ours, theirs, strict=True):
        state = {
            k: v if v.ndim == 0 else np.abs(rng.standard_normal(v.shape)) + 0.1
            for k, v in ((k, v.numpy()) for k, v in b.state_dict().items())
        }
        a.load_state_dict({k: lg.tensor(v) for k, v in state.items()})
        b.load_state_dict({k: torch.tensor(v) for k, v in state.items()})
        a.eval(), b.eval()
    before = [v.clone() for m in ours for v in m.state_dict().values()]
    fused = nn.utils.fuse_conv_bn_eval(*ours)
    expected = torch.nn.utils.fuse_conv_bn_eval(*theirs)
    x = rng.standard_normal((2, 6, *[7, 8][:dims]))
    y = ours[1](ours[0](lg.tensor(x))).detach().numpy()
    assert type(fused) is type(ours[0]) and not fused.training
    assert np.allclose(fused(lg.tensor(x)).detach().numpy(), y, atol=1e-12)
    assert [name for name, _ in fused.named_parameters()] == ["weight", "bias"]
    for name, p in fused.named_parameters():
        assert p.requires_grad
        assert np.allclose(p.detach().numpy(), getattr(expected, name).detach().numpy(), atol=1e-12)
    fused.weight.detach().zero_(), fused.bias.detach().zero_()
    after = [v for m in ours for v in m.state_dict().values()]
    assert all((a == b).all() for a, b in zip(before, after, strict=True))


def test_what_does_not_fuse():
    class Mine(nn.Conv2d):
        def forward(self, x):
            return super().forward(x) + 1

    conv, bn = nn.Conv2d(3, 4, 1).eval(), nn.BatchNorm2d(4).eval()
    for pair, error, words in [
        ((nn.Conv2d(3, 4, 1), bn), ValueError, "conv is in training, expected evaluation"),
        ((conv, nn.BatchNorm2d(4)), ValueError, "bn is in training"),
        (
            (conv, nn.BatchNorm2d(5).eval()),
            ValueError,
            r"bn has 5 features, conv has 4 output channels \(weight \[4, 3",
        ),
        ((conv, nn.BatchNorm2d(4, track_running_stats=False).eval()), ValueError, "no running statistics"),
        ((Mine(3, 4, 1).eval(), bn), TypeError, "conv is of a class of its own"),
        ((conv, nn.BatchNorm1d(4).eval()), TypeError, "fuse_conv_bn_eval"),
    ]:
        with pytest.raises(error, match=words):
            nn.utils.fuse_conv_bn_eval(*pair)


def resnet20(n):
    """ResNet-20 of nn or torch.nn."""

    class Block(n.Module):
        def __init__(self, cin, cout, stride):
            super().__init__()
            self.c1, self.b1 = n.Conv2d(cin, cout, 3, stride, 1, bias=False), n.BatchNorm2d(cout)
            self.c2, self.b2 = n.Conv2d(cout, cout, 3, 1, 1, bias=False), n.BatchNorm2d(cout)
            same = stride == 1 and cin == cout
            shortcut = [] if same else [n.Conv2d(cin, cout, 1, stride, bias=False), n.BatchNorm2d(cout)]
            self.short = n.Sequential(*shortcut)

        def forward(self, x):
            if n is nn:  # the fused forms
                return self.b2.relu(self.c2(self.b1.relu(self.c1(x))), self.short(x))
            relu = n.functional.relu
            return relu(self.b2(self.c2(relu(self.b1(self.c1(x))))) + self.short(x))

    class ResNet20(n.Module):
        def __init__(self):
            super().__init__()
            layers = [n.Conv2d(3, 16, 3, 1, 1, bias=False), n.BatchNorm2d(16), n.ReLU()]
            cin = 16
            for cout, stride in ((16, 1), (32, 2), (64, 2)):
                for i in range(3):
                    layers.append(Block(cin, cout, stride if i == 0 else 1))
                    cin = cout
            self.body, self.fc = n.Sequential(*layers), n.Linear(64, 10)

        def forward(self, x):
            return self.fc(self.body(x).mean((2, 3)))

    return ResNet20()


def test_resnet20_beside_torch():
    """Ten steps in float64: in float32 both leave it by parts in a hundred, as roundings decide a relu."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    ours, theirs = twin(resnet20, torch)
    ours, theirs = ours.to(lg.float64), theirs.double()
    options = {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-4}
    optimizer, other = lg.optim.SGD(ours.parameters(), **options), torch.optim.SGD(theirs.parameters(), **options)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((16, 3, 32, 32)), rng.integers(0, 10, 16)
    for step in range(10):
        optimizer.zero_grad()
        loss = F.cross_entropy(ours(lg.tensor(x)), lg.tensor(y))
        loss.backward()
        optimizer.step()
        other.zero_grad()
        expected = torch.nn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(y))
        expected.backward()
        other.step()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6), step
    for (name, p), q in zip(ours.named_buffers(), theirs.buffers(), strict=True):
        assert np.allclose(p.numpy(), q.numpy(), rtol=1e-6, atol=1e-8), name
    ours.eval()
    theirs.eval()
    logits = theirs(torch.tensor(x)).detach().numpy()
    assert np.allclose(ours(lg.tensor(x)).detach().numpy(), logits, atol=1e-6)


def test_resnet20_in_float32_beside_torch():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    ours, theirs = twin(resnet20, torch)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((16, 3, 32, 32)).astype(np.float32)
    for training in (True, False):
        ours.train(training)
        theirs.train(training)
        logits = theirs(torch.tensor(x)).detach().numpy()
        assert np.allclose(ours(lg.tensor(x)).detach().numpy(), logits, atol=1e-4)
        for (name, p), q in zip(ours.named_buffers(), theirs.buffers(), strict=True):
            assert np.allclose(p.numpy(), q.numpy(), rtol=1e-5, atol=1e-5), name


def test_resnet20_gradients_beside_torch():
    """In float64, where no rounding decides a relu."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    ours, theirs = twin(resnet20, torch)
    ours, theirs = ours.to(lg.float64), theirs.double()
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4, 3, 32, 32)), rng.integers(0, 10, 4)
    F.cross_entropy(ours(lg.tensor(x)), lg.tensor(y)).backward()
    torch.nn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(y)).backward()
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert np.allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-8, atol=1e-10), name


def images(*shape):
    return lg.zeros(*shape)


W = lg.zeros(8, 3, 3, 3)
BAD = {
    "channels": (
        lambda: F.conv2d(images(8, 4, 32, 32), W),
        r"conv2d: weight has 3 input channels, x has 4 \(x \[8, 4, 32, 32\], weight \[8, 3, 3, 3\]\)",
    ),
    "kernel larger than the padded input": (
        lambda: F.conv2d(images(1, 3, 2, 8), W),
        r"conv2d: the kernel covers \[3, 3\] pixels, the padded input has \[2, 8\] \(x \[1, 3, 2, 8\], weight",
    ),
    "dilation of 2^62": (
        lambda: F.conv2d(images(1, 3, 8, 8), W, dilation=2**62),
        r"conv2d: the kernel covers \[9223372036854775807, .*padded input has \[8, 8\] \(x \[1, 3, 8, 8\]",
    ),
    "padding of 2^62": (lambda: F.conv2d(images(1, 3, 8, 8), W, padding=2**62), "more bytes than fit|out of memory"),
    "stride 0": (
        lambda: F.conv2d(images(1, 3, 8, 8), W, stride=0),
        r"conv2d: stride is \[0\], expected 2 numbers, or one, from 1 up \(x \[1, 3, 8, 8\]\)",
    ),
    "negative stride": (lambda: F.conv2d(images(1, 3, 8, 8), W, stride=(1, -2)), r"conv2d: stride is \[1, -2\]"),
    "three strides": (lambda: F.conv2d(images(1, 3, 8, 8), W, stride=(1, 1, 1)), r"conv2d: stride is \[1, 1, 1\]"),
    "negative padding": (lambda: F.conv2d(images(1, 3, 8, 8), W, padding=-1), r"conv2d: padding is \[-1\]"),
    "padding by name": (lambda: F.conv2d(images(1, 3, 8, 8), W, padding="full"), 'padding: got "full"'),
    "same with a stride": (lambda: F.conv2d(images(1, 3, 8, 8), W, stride=2, padding="same"), "same.*stride"),
    "groups that do not divide": (
        lambda: F.conv2d(images(1, 3, 8, 8), W, groups=2),
        r"conv2d: groups is 2, which does not divide x's channels \(x \[1, 3, 8, 8\], weight \[8, 3, 3, 3\]\)",
    ),
    "groups of outputs": (lambda: F.conv2d(images(1, 9, 8, 8), W, groups=3), "groups is 3.*the output channels"),
    "groups 0": (lambda: F.conv2d(images(1, 3, 8, 8), W, groups=0), "groups is 0"),
    "bias": (lambda: F.conv2d(images(1, 3, 8, 8), W, lg.zeros(3)), r"conv2d: bias has shape \[3\], expected \[8\]"),
    "rank": (lambda: F.conv2d(images(8, 8), W), r"conv2d: x is float32 \[8, 8\], expected \[N, C, H, W\] or \[C, H"),
    "weight's rank": (lambda: F.conv2d(images(1, 3, 8, 8), lg.zeros(8, 3)), r"conv2d: weight has shape \[8, 3\]"),
    "no taps": (lambda: F.conv2d(images(1, 3, 8, 8), lg.zeros(8, 3, 0, 3)), "conv2d: the kernel has no taps"),
    "transposed channels": (
        lambda: F.conv_transpose2d(images(1, 3, 8, 8), W),
        r"conv_transpose2d: weight has 8 input channels, x has 3",
    ),
    "output padding": (
        lambda: F.conv_transpose2d(images(1, 8, 4, 4), W, output_padding=1),
        r"conv_transpose2d: output_padding is \[1, 1\], expected less than stride or dilation",
    ),
    "one value": (
        lambda: nn.BatchNorm1d(4)(images(1, 4)),
        r"batch_norm: x \[1, 4\] has one value per channel, .*train on more",
    ),
    "statistics missing": (lambda: F.batch_norm(images(2, 4), None, None), "batch_norm: running_mean and running_var"),
    "statistics": (
        lambda: F.batch_norm(images(2, 4), lg.zeros(3), lg.ones(3)),
        r"batch_norm: running_mean has shape \[3\], expected \[4\] \(x \[2, 4\]\)",
    ),
    "residual": (
        lambda: F.batch_norm(images(2, 4), None, None, training=True, residual=lg.ones(4)),
        r"batch_norm: residual has shape \[4\], expected x's \[2, 4\]",
    ),
    "features": (lambda: nn.BatchNorm2d(4)(images(2, 4)), r"BatchNorm2d: x is float32 \[2, 4\], expected \[N, C, H, W"),
    "window": (
        lambda: F.max_pool2d(images(1, 2, 3), 4),
        r"max_pool2d: the window covers \[4, 4\] pixels, more than the padded input has \(x \[1, 2, 3\]",
    ),
    "window of 0": (lambda: F.avg_pool2d(images(1, 4, 4), 0), r"avg_pool2d: kernel_size is \[0\]"),
    "pool padding": (lambda: F.max_pool2d(images(1, 4, 4), 2, padding=2), "padding is .* at most half of kernel_size"),
    "pool stride": (lambda: F.max_pool2d(images(1, 4, 4), 2, stride=-1), r"max_pool2d: stride is \[-1\]"),
    "output_size": (lambda: F.adaptive_avg_pool2d(images(1, 4, 4), -1), "adaptive_avg_pool2d: output_size"),
    "size and scale": (lambda: F.interpolate(images(1, 1, 4, 4)), "interpolate: expected either size or scale_factor"),
    "mode": (lambda: F.interpolate(images(1, 1, 4, 4), 3, mode="bicubic"), 'interpolate: mode is "bicubic"'),
    "reflect": (
        lambda: F.pad(images(2, 3), (3, 0), "reflect"),
        r"pad: dimension 1 of size 3 cannot be padded by 3 and 0 in mode \"reflect\" \(x \[2, 3\]\)",
    ),
    "odd pad": (lambda: F.pad(images(2, 3), (1,)), r"pad: pad is \[1\], expected two numbers"),
    "group_norm": (lambda: F.group_norm(images(2, 4), 3), r"group_norm: num_groups is 3.*\(x \[2, 4\]\)"),
    "layer's groups": (lambda: nn.Conv2d(3, 8, 3, groups=2), "Conv2d: in_channels 3 and out_channels 8.*groups 2"),
    "kernel_size": (lambda: nn.Conv2d(3, 8, 0), r"Conv2d: kernel_size is \[0\]"),
    "padding_mode": (lambda: nn.Conv2d(3, 8, 3, padding_mode="mirror"), "padding_mode is 'mirror'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    f, message = BAD[case]
    with pytest.raises((ValueError, MemoryError), match=message):
        f()


def test_errors_know_the_layer():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(4, 8, 3))
    with pytest.raises(ValueError, match=r"conv2d: weight has 4 input channels, x has 8 .*\(in 1\)"):
        model(images(1, 3, 8, 8))


def test_dtypes_must_agree():
    with pytest.raises(TypeError, match="conv2d: x is float64, weight is float32"):
        F.conv2d(lg.zeros(1, 3, 8, 8, dtype=lg.float64), W)
    with pytest.raises(TypeError, match=r"conv2d: x is int64"):
        F.conv2d(lg.zeros(1, 1, 3, 3, dtype=lg.int64), lg.zeros(1, 1, 3, 3, dtype=lg.int64))
