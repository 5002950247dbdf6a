"""MNIST, Fashion-MNIST and CIFAR-10, found on this machine or brought from their address.

    train = lg.datasets.FashionMNIST(train=True, transform=lg.transforms.ToFloat())
    image, label = train[0]        # float32 (1, 28, 28) and an int64 without dimensions

Looked for in `root` when one is given. Else in the folder that LIGHTGRAD_DATASETS names, the cache
(~/.cache/lightgrad), the system's package (Debian's dataset-fashion-mnist), and at the address, which fills the
cache. With `download=True` the address fills `root`; with `download=False` it is never asked. OSError names each place
that was tried, and every fault of a file.
"""

import sys

from lightgrad._core.data import CIFAR10 as _CIFAR10
from lightgrad._core.data import MNIST as _MNIST
from lightgrad._core.data import FashionMNIST as _FashionMNIST
from lightgrad._core.data import ImageDataset, read_cifar10, read_idx

__all__ = ["CIFAR10", "MNIST", "FashionMNIST", "ImageDataset", "read_cifar10", "read_idx"]


class MNIST(_MNIST):
    """Handwritten digits: 60,000 images of 28x28 to train on, 10,000 to test."""

    def __init__(self, root=None, train=True, transform=None, download=None):
        super().__init__(root, train, transform, download, _bar("MNIST"))


class FashionMNIST(_FashionMNIST):
    """Pieces of clothing (Zalando): 60,000 images of 28x28 to train on, 10,000 to test."""

    def __init__(self, root=None, train=True, transform=None, download=None):
        super().__init__(root, train, transform, download, _bar("FashionMNIST"))


class CIFAR10(_CIFAR10):
    """Animals and vehicles: 50,000 colour images of 32x32 to train on, 10,000 to test."""

    def __init__(self, root=None, train=True, transform=None, download=None):
        super().__init__(root, train, transform, download, _bar("CIFAR10"))


def _bar(name):
    """A function that draws how far a download is, on stderr; None where that is no terminal."""
    if not (sys.stderr and sys.stderr.isatty()):
        return None

    def draw(done, total):
        filled = 20 * done // max(total, 1)
        line = f"{name} [{'=' * filled}{' ' * (20 - filled)}] {done / 1e6:.1f} of {total / 1e6:.1f} MB"
        print("\r\033[K" if done == total else f"\r{line}\033[K", end="", file=sys.stderr, flush=True)

    return draw
