"""Data sets, transforms and the loader: against plain Python and PyTorch, with workers and without."""

import collections
import gc
import os
import signal
import subprocess
import sys
import textwrap
import traceback
import weakref

import numpy as np
import pytest
from lightgrad.utils.data import (
    DataLoader,
    Dataset,
    ImageDataset,
    Subset,
    TensorDataset,
    default_collate,
    random_split,
    sample_generator,
)

import lightgrad as lg
from lightgrad import transforms as T

MEAN, STD = [0.49, 0.48, 0.45], [0.25, 0.24, 0.26]


def some_images(n=12, c=3, h=8, w=8):
    return np.random.default_rng(1).integers(1, 256, (n, c, h, w), dtype=np.uint8)


def pictures(transform=None, n=12):
    return ImageDataset(lg.tensor(some_images(n)), lg.arange(n), transform)


class Squares(Dataset):
    """Does not call super().__init__(), as data sets seldom do."""

    def __init__(self, n, bad=None):
        self.n, self.bad = n, bad

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        if i == self.bad:
            raise KeyError(f"bad sample {i}")
        return i, lg.tensor([i, i * i])


def lists(batches):
    return [[part.tolist() for part in batch] for batch in batches]


# --- data sets ---


def test_tensor_dataset():
    d = TensorDataset(lg.arange(6).reshape(3, 2), lg.arange(3))
    assert isinstance(d, Dataset) and len(d) == 3
    assert [t.tolist() for t in d[-1]] == [[4, 5], 2]
    assert [[t.tolist() for t in s] for s in d] == [[[0, 1], 0], [[2, 3], 1], [[4, 5], 2]]
    assert d.tensors[1].tolist() == [0, 1, 2]
    for index in (3, -4):
        with pytest.raises(IndexError, match=f"index {index} is out of range for 3 samples"):
            d[index]
    with pytest.raises(ValueError, match="must have the same first size, got"):
        TensorDataset(lg.arange(3), lg.arange(4))


@pytest.mark.parametrize("whole", [Squares(10), TensorDataset(lg.arange(10)), list(range(10)), np.arange(10)])
def test_subsets_of_anything(whole):
    first = lambda s: int(s[0]) if isinstance(s, tuple) else int(s)
    part = Subset(whole, [7, 2])
    assert part.dataset is whole and part.indices == [7, 2]
    assert [first(part[i]) for i in range(2)] == [7, 2]
    a, b = random_split(whole, [0.7, 0.3], generator=lg.Generator(3))
    assert (len(a), len(b)) == (7, 3)
    assert sorted(first(s[i]) for s in (a, b) for i in range(len(s))) == list(range(10))
    again, _ = random_split(whole, [7, 3], generator=lg.Generator(3))
    assert again.indices == a.indices
    with pytest.raises(ValueError, match="do not add up to the 10 samples"):
        random_split(whole, [7, 4])


def test_what_is_no_data_set():
    with pytest.raises(TypeError, match="DataLoader: expected a data set, with __len__ and __getitem__, got a gener"):
        DataLoader(i for i in range(3))

    class Nothing(Dataset):
        pass

    with pytest.raises(TypeError, match="must define __len__ and __getitem__"):
        list(DataLoader(Nothing()))


# --- the loader ---


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_in_order(workers):
    loader = DataLoader(Squares(7), 3, num_workers=workers)
    assert len(loader) == 3
    assert lists(loader) == [
        [[0, 1, 2], [[0, 0], [1, 1], [2, 4]]],
        [[3, 4, 5], [[3, 9], [4, 16], [5, 25]]],
        [[6], [[6, 36]]],
    ]
    assert len(list(DataLoader(Squares(7), 3, num_workers=workers, drop_last=True))) == 2
    assert list(DataLoader([], 3, num_workers=workers)) == []


@pytest.mark.parametrize("native", [True, False])
def test_the_same_with_any_number_of_workers(native):
    step = T.RandomCrop(8, padding=2)

    class Own(Dataset):
        def __len__(self):
            return 12

        def __getitem__(self, i):
            noise = lg.rand(3, generator=sample_generator())
            return step(lg.tensor(some_images()[i])), noise

    data = pictures(T.Compose([step, T.RandomHorizontalFlip(), T.ToFloat()])) if native else Own()
    runs = []
    for workers in (0, 1, 2, 4):
        loader = DataLoader(data, 5, shuffle=True, num_workers=workers, seed=7)
        runs.append([lists(loader) for _ in range(3)])
    assert runs[0] == runs[1] == runs[2] == runs[3]
    assert runs[0][0] != runs[0][1]


def test_seeds():
    def order(**options):
        return [b[0].tolist() for b in DataLoader(Squares(50), 10, shuffle=True, **options)]

    assert order(seed=1) == order(seed=1) != order(seed=2)
    assert order(generator=lg.Generator(5)) == order(generator=lg.Generator(5))
    lg.manual_seed(3)
    a, b = order(), order()
    lg.manual_seed(3)
    assert order() == a != b


@pytest.mark.parametrize("workers", [0, 2])
def test_goes_on_in_the_middle_of_an_epoch(tmp_path, workers):
    def make(**options):
        data = pictures(T.Compose([T.RandomCrop(8, padding=2), T.ToFloat()]))
        return DataLoader(data, 5, shuffle=True, **options)

    loader, expected = make(seed=1, num_workers=workers), []
    for epoch in range(2):
        for i, batch in enumerate(loader):
            if (epoch, i) == (0, 1):
                lg.save({"loader": loader.state_dict()}, tmp_path / "state")
            if epoch or i > 1:
                expected += lists([batch])
    rest, got = make(num_workers=2 - workers), []
    rest.load_state_dict(lg.load(tmp_path / "state")["loader"])
    assert rest.seed == 1
    for _ in range(rest.epoch, 2):
        got += lists(rest)
    assert got == expected and len(got) == 4
    with pytest.raises(ValueError, match="batch_size was 5 when the state was saved, here it is 4"):
        DataLoader(pictures(), 4, shuffle=True).load_state_dict(loader.state_dict())


def test_collate_functions():
    for data in (Squares(4), TensorDataset(lg.arange(4), lg.arange(4))):
        for workers in (0, 2):
            loader = DataLoader(data, 3, num_workers=workers, collate_fn=lambda samples: [int(s[0]) for s in samples])
            assert list(loader) == [[0, 1, 2], [3]]


def test_default_collate_is_pytorchs():
    torch = pytest.importorskip("torch")
    from torch.utils.data import default_collate as reference

    Pair = collections.namedtuple("Pair", "a b")

    def plain(x):
        if hasattr(x, "tolist"):
            return x.tolist()
        if isinstance(x, dict):
            return {k: plain(v) for k, v in x.items()}
        if isinstance(x, Pair):
            return ("Pair", *map(plain, x))
        return [plain(v) for v in x] if isinstance(x, (list, tuple)) else x

    for make in (
        lambda i, t: i,
        lambda i, t: i / 2,
        lambda i, t: i > 0,
        lambda i, t: "ab"[i],
        lambda i, t: t([i, 2 * i]),
        lambda i, t: np.full((2, 1), i, np.float32),
        lambda i, t: {"x": t(i), "y": [i, "c"]},
        lambda i, t: (i, {"z": (t([i]),)}),
        lambda i, t: Pair(t([1.5]), i),
    ):
        ours, theirs = (
            default_collate([make(i, lg.tensor) for i in range(2)]),
            reference([make(i, torch.tensor) for i in range(2)]),
        )
        assert plain(ours) == plain(theirs)
    with pytest.raises(TypeError, match="default_collate: a sample holds a set"):
        default_collate([set()])
    with pytest.raises(ValueError, match="samples of 1 and of 2 parts in one batch"):
        default_collate([(1,), (1, 2)])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_failing_worker_shows_its_own_traceback(workers):
    loader = DataLoader(Squares(20, bad=13), 5, num_workers=workers)
    batches = iter(loader)
    assert lists([next(batches), next(batches)])[1][0] == [5, 6, 7, 8, 9]
    with pytest.raises(KeyError, match="bad sample 13") as caught:
        next(batches)
    frames = [(f.name, f.filename) for f in traceback.extract_tb(caught.value.__traceback__)]
    assert ("__getitem__", __file__) in frames
    if sys.version_info >= (3, 11):
        assert caught.value.__notes__ == ["raised for sample 13 of the data set, in epoch 0"]
    assert list(batches) == []
    assert loader.state_dict()["batch"] == 2

    def broken(samples):
        raise ZeroDivisionError("no batch")

    with pytest.raises(ZeroDivisionError, match="no batch"):
        next(iter(DataLoader(Squares(4), 2, num_workers=workers, collate_fn=broken)))


def test_an_error_of_the_engine_in_a_worker():
    data = TensorDataset(lg.arange(3))
    with pytest.raises(IndexError, match="index 9 is out of range for 3 samples"):
        list(DataLoader(data, 2, num_workers=1, collate_fn=lambda samples: data[9]))
    with pytest.raises(ValueError, match="RandomCrop: a part of 99 x 99 is larger"):
        list(DataLoader(pictures(T.RandomCrop(99)), 2, num_workers=2))


def run_script(script, **options):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        **options,
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_ctrl_c_ends_cleanly(workers):
    script = f"""
        import signal, time
        import lightgrad as lg
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
        class Slow:
            def __len__(self): return 1000
            def __getitem__(self, i):
                if i == 3: print("going", flush=True)
                time.sleep(0.05)
                return i
        try:
            for batch in lg.utils.data.DataLoader(Slow(), 100, num_workers={workers}):
                pass
        except KeyboardInterrupt:
            print("stopped", flush=True)
    """
    process = run_script(script)
    assert process.stdout.readline() == "going\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "stopped\n", "")


def test_python_ends_while_workers_are_busy():
    script = """
        import time
        import lightgrad as lg
        class Slow:
            def __len__(self): return 1000
            def __getitem__(self, i):
                time.sleep(0.01)
                return i
        batches = iter(lg.utils.data.DataLoader(Slow(), 2, num_workers=3))
        print(next(batches))
    """
    out, err = run_script(script).communicate(timeout=60)
    assert (out, err) == ("tensor([0, 1])\n", "")


def test_nothing_is_left_behind():
    loader = DataLoader(pictures(T.ToFloat(), 64), 8, num_workers=2)
    for _ in range(5):
        list(loader)
    gc.collect()
    before = lg.memory.stats()["current"]
    for _ in range(50):
        collections.deque(loader, maxlen=0)
    assert lg.memory.stats()["current"] == before

    data = Squares(10)
    loader = DataLoader(data, 2, num_workers=2)
    batches = iter(loader)
    next(batches)
    gone = weakref.ref(data)
    del data, loader, batches
    gc.collect()
    assert gone() is None


def test_wrong_options():
    for options, message in [
        ({"batch_size": 0}, "batch_size is 0, expected at least 1"),
        ({"num_workers": -1}, "workers is -1, expected 0 to 256"),
        ({"prefetch_factor": 0}, "prefetch is 0"),
        ({"seed": -1}, "seed is -1, expected at least 0"),
    ]:
        with pytest.raises(ValueError, match=f"DataLoader: {message}"):
            DataLoader(Squares(3), **options)
    with pytest.raises(RuntimeError, match="no DataLoader is making a sample here"):
        sample_generator()


# --- transforms ---


def test_to_float_and_normalize_are_pytorchs_bits():
    torch = pytest.importorskip("torch")
    x = some_images(256, 3, 16, 16)
    ours = T.Compose([T.ToFloat(), T.Normalize(MEAN, STD)])(lg.tensor(x)).numpy()
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    theirs = (torch.from_numpy(x).to(torch.float32).div(255)).sub(mean).div(std).numpy()
    assert np.array_equal(ours, theirs)


def test_a_crop_is_a_part_of_the_padded_image():
    x = some_images(40, 2, 6, 7)
    padded = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)))
    crop = T.RandomCrop((5, 4), padding=2)
    for image, around, part in zip(x, padded, crop(lg.tensor(x), seed=1).numpy(), strict=True):
        assert image.dtype == part.dtype == np.uint8
        places = np.lib.stride_tricks.sliding_window_view(around, part.shape).reshape(-1, *part.shape)
        assert any(np.array_equal(part, place) for place in places)


def test_one_image_and_its_number():
    x = lg.tensor(some_images())
    transform = T.Compose([T.RandomCrop(6), T.RandomHorizontalFlip(), T.ToTensor(), T.Cutout(3)])
    whole = transform(x, seed=1, epoch=2)
    for i in (0, 5, 11):
        assert transform(x[i], seed=1, epoch=2, number=i).tolist() == whole[i].tolist()
    assert len(transform) == 4
    assert repr(transform) == (
        "Compose([RandomCrop((6, 6), padding=0), RandomHorizontalFlip(p=0.5), ToFloat(), Cutout(3)])"
    )


def test_a_function_as_transform():
    def double(image):
        image *= 2  # its own copy
        return image.float() + lg.rand(1, generator=sample_generator())

    data = pictures(double)
    first = data[3][0].numpy()
    assert np.array_equal(np.floor(first), (2 * some_images()[3]).astype(np.uint8)) and first[0, 0, 0] % 1 > 0
    assert data.data[3].tolist() == some_images()[3].tolist()
    assert lists(DataLoader(data, 5, seed=1)) == lists(DataLoader(data, 5, num_workers=2, seed=1))
    with pytest.raises(TypeError, match="transform: returned a int for image 0, expected a Tensor"):
        pictures(lambda image: 3)[0]

    def broken(image):
        raise ZeroDivisionError("no image")

    with pytest.raises(ZeroDivisionError, match="no image"):
        list(DataLoader(pictures(broken), 2, num_workers=2))


def test_transform_errors():
    x = lg.tensor(some_images())
    with pytest.raises(ValueError, match=r"Normalize: expected float32 images, got uint8; put ToFloat\(\) before it"):
        T.Normalize(0.5, 0.5)(x)
    with pytest.raises(ValueError, match="mean and std have 2 numbers, the images have 3 channels"):
        T.Compose([T.ToFloat(), T.Normalize([0, 0], [1, 1])])(x)
    with pytest.raises(TypeError, match="Compose: expected transforms of lightgrad.transforms, got a function"):
        T.Compose([lambda image: image])
    with pytest.raises(TypeError, match="transform: expected a transform or a function of one image, got a int"):
        pictures(3)
    with pytest.raises(TypeError, match="Normalize: mean is a number, or one for each channel, got 'a'"):
        T.Normalize("a", 1)
