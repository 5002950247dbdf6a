"""MNIST and its kin: files made here, sound and damaged, and the system's Fashion-MNIST where it is installed."""

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest

import lightgrad as lg

FASHION = Path("/usr/share/datasets/fashion-mnist")
CODES = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}


def idx(array):
    header = struct.pack(f">HBB{array.ndim}I", 0, CODES[array.dtype.name], array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_mnist(folder, n=4, packed=True, part="train"):
    folder.mkdir(parents=True, exist_ok=True)
    images = np.random.default_rng(2).integers(0, 256, (n, 28, 28), dtype=np.uint8)
    labels = (np.arange(n) % 10).astype(np.uint8)
    for name, array in [("images-idx3", images), ("labels-idx1", labels)]:
        file = folder / f"{part}-{name}-ubyte{'.gz' if packed else ''}"
        file.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    return images, labels


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("LIGHTGRAD_DATASETS", raising=False)


@pytest.mark.parametrize("packed", [True, False])
def test_mnist_from_a_folder(tmp_path, packed):
    images, labels = write_mnist(tmp_path / "MNIST" / "raw", packed=packed)
    data = lg.datasets.MNIST(tmp_path)
    assert len(data) == 4 and data.classes[3] == "3"
    assert np.array_equal(data.data.numpy()[:, 0], images) and data.targets.tolist() == labels.tolist()
    image, label = data[2]
    assert image.shape == (1, 28, 28) and image.dtype == lg.uint8 and label.item() == 2
    x, y = next(iter(lg.utils.data.DataLoader(lg.datasets.MNIST(tmp_path, transform=lg.transforms.ToFloat()), 3)))
    assert np.array_equal(x.numpy()[:, 0], images[:3].astype(np.float32) / 255) and y.tolist() == [0, 1, 2]
    with pytest.raises(OSError, match="MNIST: did not find t10k-images-idx3-ubyte and the files"):
        lg.datasets.MNIST(tmp_path, train=False)


def test_the_variable_and_the_cache(tmp_path, monkeypatch):
    write_mnist(tmp_path / "cache" / "lightgrad" / "mnist", 3)
    assert len(lg.datasets.MNIST()) == 3
    write_mnist(tmp_path / "mine", 5)
    monkeypatch.setenv("LIGHTGRAD_DATASETS", str(tmp_path / "mine"))
    assert len(lg.datasets.MNIST()) == 5


def test_each_place_is_named(tmp_path):
    with pytest.raises(OSError) as caught:
        lg.datasets.CIFAR10(download=False)
    message = str(caught.value)
    for part in ("CIFAR10: did not find data_batch_1.bin", "LIGHTGRAD_DATASETS: not set", "no such folder"):
        assert part in message
    assert str(tmp_path / "cache" / "lightgrad" / "cifar-10-batches-bin") in message
    assert "not asked, for download is off" in message


def test_a_class_of_ones_own(tmp_path):
    write_mnist(tmp_path)

    class Mine(lg.datasets.MNIST):
        def __getitem__(self, i):
            image, label = super().__getitem__(i)
            return image.float(), label + 100

    data = Mine(tmp_path)
    batch = next(iter(lg.utils.data.DataLoader(data, 4, num_workers=2)))
    assert batch[1].tolist() == [100, 101, 102, 103] and batch[0].dtype == lg.float32


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("shape", [(3,), (2, 0, 3), (2, 3, 4)])
def test_idx_against_numpy(tmp_path, dtype, shape):
    array = (np.arange(np.prod(shape)) * 7 - 5).reshape(shape).astype(dtype)
    (tmp_path / "a").write_bytes(idx(array))
    (tmp_path / "b").write_bytes(gzip.compress(idx(array)))
    for name in "ab":
        t = lg.datasets.read_idx(tmp_path / name)
        assert t.shape == shape and np.array_equal(t.numpy(), array)


def test_damaged_files(tmp_path):
    images, labels = tmp_path / "train-images-idx3-ubyte", tmp_path / "train-labels-idx1-ubyte"
    write_mnist(tmp_path, packed=False)
    good = images.read_bytes(), labels.read_bytes()
    for file, contents, message in [
        (images, good[0][:-1], "read_idx: .*train-images.*more than the 3135 bytes that can follow its header"),
        (images, good[0] + b"x", "read_idx: .*train-images.*: 1 bytes follow the last element"),
        (images, gzip.compress(good[0])[:-20], "read_idx: .*train-images.*ends in the middle of the gzip stream"),
        (images, b"\x80\x04pickle", "it does not begin with two zero bytes"),
        (images, idx(np.zeros((4, 28, 27), np.uint8)), r"MNIST: .* holds uint8 \[4, 28, 27\], expected images"),
        (labels, idx(np.zeros(5, np.uint8)), r"MNIST: .*train-labels.* holds uint8 \[5\], expected labels"),
        (labels, idx(np.full(4, 77, np.uint8)), "MNIST: .*train-labels.*: label 0 is 77, expected 0 to 9"),
    ]:
        file.write_bytes(contents)
        with pytest.raises(OSError, match=message):
            lg.datasets.MNIST(tmp_path)
        images.write_bytes(good[0])
        labels.write_bytes(good[1])
    assert len(lg.datasets.MNIST(tmp_path)) == 4


def test_cifar10(tmp_path):
    records = np.random.default_rng(3).integers(0, 256, (7, 3073), dtype=np.uint8)
    records[:, 0] %= 10
    (tmp_path / "test_batch.bin").write_bytes(records.tobytes())
    data = lg.datasets.CIFAR10(tmp_path, train=False)
    assert np.array_equal(data.data.numpy().reshape(7, 3072), records[:, 1:])
    assert data.targets.tolist() == records[:, 0].tolist() and data.classes[0] == "airplane"
    images, labels = lg.datasets.read_cifar10(tmp_path / "test_batch.bin", tmp_path / "test_batch.bin")
    assert images.shape == (14, 3, 32, 32) and labels.shape == (14,)
    records[4, 0] = 10
    (tmp_path / "test_batch.bin").write_bytes(records.tobytes())
    with pytest.raises(OSError, match="read_cifar10: .*test_batch.bin: the label of record 4 is 10, expected 0 to 9"):
        lg.datasets.CIFAR10(tmp_path, train=False)


@pytest.mark.skipif(not FASHION.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_the_systems_fashion_mnist():
    for train, n in [(True, 60000), (False, 10000)]:
        data = lg.datasets.FashionMNIST(train=train)
        part = "train" if train else "t10k"
        with gzip.open(FASHION / f"{part}-images-idx3-ubyte.gz") as file:
            expected = np.frombuffer(file.read()[16:], np.uint8).reshape(n, 1, 28, 28)
        assert np.array_equal(data.data.numpy(), expected)
        assert np.bincount(data.targets.numpy()).tolist() == [n // 10] * 10


def test_nothing_is_printed_without_a_terminal(capfd, tmp_path):
    write_mnist(tmp_path)
    lg.datasets.MNIST(os.fspath(tmp_path))
    assert capfd.readouterr() == ("", "")
