"""examples/resnet: the C++ and the Python program give the same bits, survive SIGKILL in the middle of an epoch, go on
from each other's checkpoints and refuse bad options.
"""

import base64
import random
import re
import signal
import struct
import subprocess
import time
import zlib
from xml.etree import ElementTree

import numpy as np
import pytest
from example_program import ExampleProgram

import lightgrad as lg

EXAMPLE = ExampleProgram("resnet")
PROGRAMS = EXAMPLE.commands
SVG = "{http://www.w3.org/2000/svg}"
SMALL = ("--width", 4, "--blocks", 1, "--batch", 16, "--lr", 0.05)


@pytest.fixture(params=PROGRAMS)
def program(request):
    return EXAMPLE.command(request.param)


def pictures(rng, n, shape):
    """A bright square for each class, at a place of its own, on noise."""
    labels = rng.integers(0, 10, n, dtype=np.uint8)
    images = rng.integers(0, 100, (n, *shape), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 4)
        image[..., 3 + 8 * row : 9 + 8 * row, 2 + 6 * column : 7 + 6 * column] = 250
    return images, labels


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """200 images to train on and 90 to test, in MNIST's files."""
    folder, rng = tmp_path_factory.mktemp("digits"), np.random.default_rng(0)
    for name, n in (("train", 200), ("t10k", 90)):
        images, labels = pictures(rng, n, (28, 28))
        sizes = np.array(images.shape, ">i4").tobytes()
        (folder / f"{name}-images-idx3-ubyte").write_bytes(bytes([0, 0, 8, 3]) + sizes + images.tobytes())
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1]) + sizes[:4] + labels.tobytes())
    return folder


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """The same in CIFAR-10's files: 6 batches of 40."""
    folder, rng = tmp_path_factory.mktemp("colours"), np.random.default_rng(1)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        images, labels = pictures(rng, 40, (3, 32, 32))
        records = np.concatenate([labels[:, None], images.reshape(40, -1)], 1)
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    return folder


def run(program, *options, expect=0):
    command = [*program, *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == expect, done.stderr
    return done


def files(folder):
    return {f.name: f.read_bytes() for f in folder.iterdir()}


def accuracies(stdout):
    """Of the test, by epoch. The confusion matrix and the last line say the same as the last epoch's."""
    lines = stdout.splitlines()
    epochs, matrix, last = lines[:-12], lines[-11:-1], lines[-1]
    counts = np.array([line[12:].split() for line in matrix], int)
    seen = [float(line.split()[-1]) for line in epochs]
    assert last == f"test_accuracy {np.trace(counts) / counts.sum():.4f}" == f"test_accuracy {seen[-1]:.4f}"
    return seen


@pytest.mark.parametrize(
    ("dataset", "dtype"),
    [("mnist", "float32"), ("fashion-mnist", "bfloat16"), ("mnist", "float16"), ("cifar10", "float32")],
)
def test_both_programs_give_the_same_bits_at_any_thread_count(digits, colours, tmp_path, dataset, dtype):
    EXAMPLE.need_binary()
    folder = colours if dataset == "cifar10" else digits
    split = 60 if dataset == "mnist" else 0
    options = ("--dataset", dataset, "--data", folder, *SMALL, "--epochs", 2, "--split", split, "--dtype", dtype)
    outputs = []
    for name, threads, workers in [("cpp", 1, 0), ("cpp", 4, 3), ("python", 2, 1)]:
        out = tmp_path / f"{name}{threads}"
        done = run(PROGRAMS[name], *options, "--out", out, "--threads", threads, "--workers", workers)
        outputs.append((done.stdout, files(out)))
    assert all(other == outputs[0] for other in outputs[1:])
    assert len(accuracies(outputs[0][0])) == 2


def test_it_learns(program, digits, tmp_path):
    stdout = run(program, "--dataset", "mnist", "--data", digits, *SMALL, "--epochs", 12, "--out", tmp_path).stdout
    seen = accuracies(stdout)
    assert seen[-1] > 0.7 > 0.4 > seen[0]
    best = lg.load(tmp_path / "best.safetensors")
    assert best["test_accuracy"] == pytest.approx(max(seen), abs=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_step_of_the_whole_model_gives_the_same_bits_at_1_2_4_and_8_threads(digits, tmp_path, dtype):
    EXAMPLE.need_binary()  # at its default size: the kernels of a smaller model do not share out their work
    outputs = []
    for threads in (1, 2, 4, 8):
        out = tmp_path / str(threads)
        options = ("--data", digits, "--batch", 64, "--epochs", 1, "--dtype", dtype)
        done = run(PROGRAMS["cpp"], *options, "--out", out, "--threads", threads)
        outputs.append((done.stdout, files(out)))
    assert outputs[0] == outputs[1] == outputs[2] == outputs[3]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_killed_in_an_epoch_and_resumed_ends_with_the_same_bits(program, digits, tmp_path, dtype):
    options = ("--dataset", "mnist", "--data", digits, *SMALL, "--epochs", 6, "--save-every", 1, "--dtype", dtype)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    expected = run(program, *options, "--out", whole).stdout

    moments = random.Random()  # a new moment in every run of the tests
    command = [*program, *map(str, options), "--out", str(broken)]
    steps = []
    for _ in range(2):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not (broken / "checkpoint.safetensors").exists() and process.poll() is None:
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.wait()
        command = [*program, "--out", str(broken), "--resume"]
        steps.append(lg.load(broken / "checkpoint.safetensors")["step"])
    resumed = run(program, "--out", broken, "--resume", "--threads", 1, "--workers", 2).stdout
    assert steps[0] < 72  # of 6 epochs of 12
    assert expected.endswith(resumed)
    assert files(broken) == files(whole)


def test_checkpoints_of_activations_change_no_bit_nor_the_running_statistics(program, digits, tmp_path):
    options = ("--dataset", "mnist", "--data", digits, *SMALL, "--epochs", 2, "--memory-limit", "1G")
    outputs = [
        (run(program, *options, *more, "--out", out).stdout, files(out))
        for out, more in ((tmp_path / "plain", ()), (tmp_path / "again", ("--checkpoint-activations",)))
    ]
    assert outputs[0] == outputs[1]


def test_skipped_steps_are_counted_reported_and_remembered(program, digits, tmp_path):
    options = ("--dataset", "mnist", "--data", digits, *SMALL, "--epochs", 3, "--save-every", 1, "--dtype", "float16")
    process = subprocess.Popen([*program, *map(str, options), "--out", str(tmp_path)], stdout=subprocess.PIPE)
    process.stdout.readline()  # the first epoch is over
    process.kill()
    process.wait()
    EXAMPLE.raise_scale(tmp_path)
    done = run(program, "--resume", "--out", tmp_path)
    skipped = int(re.search(r"(\d+) of 36 steps skipped for infinite gradients", done.stderr)[1])
    saved = lg.load(tmp_path / "checkpoint.safetensors")
    assert saved["scaler.skipped_steps"] == skipped > 6
    assert saved["scaler.scale"] == 2.0 ** (40 - skipped)


def test_a_finished_run_only_says_how_good_it_is(program, digits, tmp_path):
    options = ("--dataset", "mnist", "--data", digits, *SMALL, "--epochs", 1, "--out", tmp_path)
    first = run(program, *options).stdout.splitlines()
    before = files(tmp_path)
    assert run(program, "--out", tmp_path, "--resume").stdout.splitlines() == first[1:]
    assert files(tmp_path) == before


def test_pictures_show_the_mistakes_the_filters_and_each_epoch(program, colours, tmp_path):
    options = ("--dataset", "cifar10", "--data", colours, *SMALL, "--epochs", 3, "--out", tmp_path)
    lines = run(program, *options).stdout.splitlines()
    counts = np.array([line[12:].split() for line in lines[-11:-1]], int)
    pictures = {f.stem: ElementTree.parse(f).getroot() for f in tmp_path.glob("*.svg")}
    assert sorted(pictures) == ["curves", "filters", "mistakes"]

    def images(picture):
        head = "data:image/png;base64,"
        references = [image.get("href") for image in picture.iter(SVG + "image")]
        assert all(r.startswith(head) for r in references)
        return [decoded(base64.b64decode(r.removeprefix(head))) for r in references]

    records = np.frombuffer((colours / "test_batch.bin").read_bytes(), np.uint8).reshape(40, 3073)
    captions = [t.text for t in pictures["mistakes"].iter(SVG + "text")]
    mistakes = images(pictures["mistakes"])
    assert 0 < len(mistakes) == counts.sum() - np.trace(counts)
    assert captions[0].startswith(f"cifar10: {len(mistakes)} of {len(mistakes)} mistakes in 40 test images")
    names = lg.datasets.CIFAR10(colours, train=False).classes
    confusions = np.zeros((10, 10), int)
    rows = iter(range(40))
    for image, truth, seen in zip(mistakes, captions[1::2], captions[2::2], strict=True):
        row = next(r for r in rows if (records[r, 1:].reshape(3, 32, 32) == image).all())
        assert names[records[row, 0]] == truth
        confusions[names.index(truth), names.index(seen.removeprefix("as "))] += 1
    assert (confusions == counts - np.diag(np.diag(counts))).all()

    weights = lg.load(tmp_path / "checkpoint.safetensors")["model.conv.weight"].numpy()
    scaled = weights / np.abs(weights).max() * 127.5 + 128
    assert np.abs(np.array(images(pictures["filters"])) - scaled.clip(0, 255)).max() <= 1

    points = [line.get("points").split() for line in pictures["curves"].iter(SVG + "polyline")]
    assert [len(p) for p in points] == [3, 3, 3]
    losses = [float(line.split()[3]) for line in lines[:3]]
    heights = [float(p.split(",")[1]) for p in points[0]]
    assert np.argsort(losses).tolist() == np.argsort(heights)[::-1].tolist()


def decoded(png):
    """The pixels (c, h, w) of a PNG whose rows are not filtered."""
    width, height, bits, kind = struct.unpack(">IIBB", png[16:26])
    assert png[12:16] == b"IHDR" and bits == 8 and kind in (0, 2)
    size = int.from_bytes(png[33:37], "big")
    assert png[37:41] == b"IDAT"
    rows = np.frombuffer(zlib.decompress(png[41 : 41 + size]), np.uint8).reshape(height, -1)
    assert (rows[:, 0] == 0).all()
    return rows[:, 1:].reshape(height, width, -1).transpose(2, 0, 1)


def test_each_program_goes_on_from_the_others_checkpoint(digits, tmp_path):
    EXAMPLE.need_binary()
    outputs = []
    for first, second in [("cpp", "python"), ("python", "cpp")]:
        out = tmp_path / first
        options = ("--data", digits, *SMALL, "--epochs", 2, "--save-every", 5, "--out", out)
        command = [*PROGRAMS[first], *map(str, options)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        process.stdout.readline()  # the first epoch is over
        process.kill()
        process.wait()
        outputs.append((run(PROGRAMS[second], "--out", out, "--resume").stdout.splitlines()[-1], files(out)))
    assert outputs[0] == outputs[1]


def test_a_split_of_the_test_images_is_by_the_seed_and_shares_nothing(program, digits, tmp_path):
    options = ("--dataset", "mnist", "--data", digits, *SMALL, "--split", 64, "--epochs", 2)
    outputs = [run(program, *options, "--seed", seed, "--out", tmp_path / str(i)) for i, seed in enumerate((1, 1, 2))]
    assert "64 images to train on, 26 to test" in outputs[0].stderr
    assert outputs[0].stdout == outputs[1].stdout != outputs[2].stdout
    example, chosen = EXAMPLE.load("pictures", "model", "train"), set()
    for seed in (1, 2):
        o = example.parse_arguments([*map(str, options), "--seed", str(seed)])
        example.adopt(o, example.KEPT, None, "", example.FIXED, example.require)
        example.check(o)
        train, test = example.images_of(o)
        assert sorted([*train.indices, *test.indices]) == list(range(90))
        chosen.add(tuple(train.indices))
    assert len(chosen) == 2


BAD = [
    (("--dataset", "svhn"), '--dataset is "svhn", expected mnist, fashion-mnist or cifar10'),
    (("--data", "nowhere"), "nowhere"),
    (("--batch", 201), "--batch is 201, but there are 200 images to train on"),
    (("--batch", 0), "--batch is 0, expected at least 1"),
    (("--split", 90), "--split is 90, but there are 90 test images"),
    (("--split", -1), "--split is -1, expected at least 0"),
    (("--epochs", -2), "--epochs is -2, expected at least 0"),
    (("--epochs", "many"), "many"),
    (("--save-every", 0), "--save-every is 0, expected at least 1"),
    (("--workers", -1), "--workers is -1, expected at least 0"),
    (("--lr", "nan"), "--lr is nan, expected a number above 0"),
    (("--lr", 0), "--lr is 0, expected a number above 0"),
    (("--weight-decay", -1), "--weight-decay is -1, expected a number from 0 up"),
    (("--label-smoothing", 1), "--label-smoothing is 1, expected a number from 0 up and below 1"),
    (("--dtype", "half"), '--dtype is "half", expected float32, bfloat16 or float16'),
    (("--memory-limit", "-1"), '--memory-limit is "-1", expected bytes, as 700M or 1.5G (0: no limit)'),
    (("--memory-limit", "100K"), "of a limit of 100000, "),
    (("--unknown", 1), "--unknown"),
    (("--resume",), "checkpoint.safetensors"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=lambda p: "".join(map(str, p))[:24])
def test_bad_options_are_named_and_write_nothing(program, digits, tmp_path, options, message):
    out = tmp_path / "out"
    done = run(program, "--dataset", "mnist", "--data", digits, *SMALL, "--out", out, *options, expect=2)
    assert message in done.stderr
    assert done.stdout == ""
    assert not out.exists()


def test_what_a_checkpoint_has_decided_cannot_change(program, digits, tmp_path):
    out = tmp_path / "out"
    run(program, "--dataset", "mnist", "--data", digits, *SMALL, "--epochs", 1, "--out", out)
    before = files(out)
    for name, other, is_now in [
        ("width", 8, 4), ("seed", 5, 0), ("batch", 20, 16), ("epochs", 3, 1), ("dataset", "cifar10", "mnist"),
    ]:  # fmt: skip
        done = run(program, "--out", out, "--resume", f"--{name}", other, expect=2)
        assert f"--{name} is {other}, but the model in" in done.stderr and f"has {is_now}" in done.stderr
    assert files(out) == before


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_checkpoint(program, digits, tmp_path):
    options = ("--dataset", "mnist", "--data", digits, *SMALL, "--epochs", 4, "--save-every", 1, "--lr", 1e30)
    done = run(program, *options, "--out", tmp_path, expect=2)
    assert "the loss is not finite at step" in done.stderr
    state = lg.load(tmp_path / "checkpoint.safetensors")
    assert state["step"] >= 1 and np.isfinite(state["sum"])


def test_the_models_are_those_of_the_paper():
    example = EXAMPLE.load("pictures", "model", "train")
    count = lambda model: sum(p.numel() for p in model.parameters())
    # ResNet-20 has 0.27 million parameters (table 6), and two 1x1 convolutions with their norms here.
    assert count(example.ResNet(3, 16, 3)) == 269722 + 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    model = example.ResNet(1, 32, 1)
    assert model.eval()(lg.zeros(2, 1, 28, 28)).shape == (2, 10)
