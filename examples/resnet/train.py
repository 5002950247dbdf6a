"""A residual network learns to tell small images apart, on one cycle of the learning rate (Smith and Topin 2018).

resnet.cpp is the same program in C++, with the same options, lines and numbers, to the bit; each goes on from the
other's checkpoints.

    python train.py                      trains on Fashion-MNIST
    python train.py --dataset cifar10    trains ResNet-20
    python train.py --dataset mnist --split 8000 --epochs 20    when only MNIST's test images are there
    python train.py --resume             goes on after an interruption, to the bits of an uninterrupted run
"""

import argparse
import math
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pictures
from model import ResNet

import lightgrad as lg
from lightgrad import datasets, io, nn, optim
from lightgrad import transforms as T

sys.path.append(str(Path(__file__).resolve().parents[1]))
from common.checkpoint import go_to, put_optimizer, put_scaler, take_optimizer, take_scaler
from common.program import (
    add_kept,
    add_machine,
    adopt,
    at_least,
    autocast,
    check_machine,
    count_of,
    parameter_groups,
    prepare,
    print_peak_memory,
    print_skipped,
    put_options,
    requirement,
    run_program,
    scaler_of,
)
from common.progress import Progress

data = lg.utils.data


def recipe(dataset, epochs, width, blocks, size, shift, flip, mean, std):
    """What training on a data set looks like. Images of `size` pixels move by up to `shift`; clothes and animals look
    alike in a mirror, digits do not; mean and std are those of the training images, from 0 to 1.
    """
    return SimpleNamespace(**locals())


RECIPES = {
    "mnist": recipe(datasets.MNIST, 12, 16, 2, 28, 2, False, [0.1307], [0.3081]),
    "fashion-mnist": recipe(datasets.FashionMNIST, 12, 16, 2, 28, 2, True, [0.2860], [0.3530]),
    "cifar10": recipe(datasets.CIFAR10, 40, 16, 3, 32, 4, True, [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
}

# Options that a checkpoint remembers, and what they are without one. 0 epochs, width and blocks: what the data set
# needs.
KEPT = {
    "dataset": "fashion-mnist",
    "data": "",
    "split": 0,
    "epochs": 0,
    "batch": 64,
    "width": 0,
    "blocks": 0,
    "lr": 0.1,
    "weight-decay": 5e-4,
    "label-smoothing": 0.05,
    "seed": 0,
    "save-every": 100,
    "dtype": "float32",
}
require = requirement("resnet")
FIXED = ("dataset", "split", "epochs", "batch", "width", "blocks", "seed")  # these cannot change


def parse_arguments(arguments=None):
    p = argparse.ArgumentParser(description="A residual network learns to tell small images apart.", allow_abbrev=False)

    def option(name, help):
        add_kept(p, KEPT, name, help)

    option("--dataset", "mnist, fashion-mnist or cifar10")
    p.add_argument("--data", help="folder of the data set (default: where it is found)")
    option(
        "--split",
        "without the training images: train on this many of the official test images, drawn by --seed, and test on "
        "the others (0: train on the training images, test on all test images)",
    )
    p.add_argument("--out", default="out/resnet", help="folder of checkpoints")
    option("--epochs", "passes over the images (0: what the data set needs)")
    option("--batch", "images per update")
    option("--width", "channels of the first stage (0: what the data set needs)")
    option("--blocks", "blocks per stage (0: what the data set needs)")
    option("--lr", "highest learning rate of the cycle")
    option("--weight-decay", "pull of matrices towards zero")
    option("--label-smoothing", "share of the target that all classes get alike")
    option("--seed", "of weights, order and augmentation")
    option("--save-every", "updates between checkpoints within an epoch")
    p.add_argument("--workers", type=int, default=1, help="threads that prepare batches (0: none)")
    add_machine(p, KEPT)
    p.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out, with its options")
    return p.parse_args(arguments)


def check(o):
    """Also fills in what the data set decides."""
    require(o.dataset in RECIPES, f'--dataset is "{o.dataset}", expected mnist, fashion-mnist or cifar10')
    least = dict.fromkeys(("split", "epochs", "width", "blocks", "seed", "workers"), 0)
    at_least(o, {**least, "batch": 1, "save-every": 1}, require)
    check_machine(o, require)
    require(0 < o.lr < math.inf, f"--lr is {o.lr:g}, expected a number above 0")
    require(0 <= o.weight_decay < math.inf, f"--weight-decay is {o.weight_decay:g}, expected a number from 0 up")
    require(
        0 <= o.label_smoothing < 1,
        f"--label-smoothing is {o.label_smoothing:g}, expected a number from 0 up and below 1",
    )
    for name in ("epochs", "width", "blocks"):
        setattr(o, name, getattr(o, name) or getattr(RECIPES[o.dataset], name))


def images_of(o):
    """The images to learn, and those to test with, split and transformed."""
    r = RECIPES[o.dataset]
    to_floats = [T.ToFloat(), T.Normalize(r.mean, r.std)]
    flip = [T.RandomHorizontalFlip()] if r.flip else []
    augment = T.Compose([T.RandomCrop(r.size, r.shift), *flip, *to_floats])
    plain = T.Compose(to_floats)

    def images(found, transform):
        return data.ImageDataset(found.data, found.targets, transform, found.classes)

    test = r.dataset(o.data or None, train=False)
    if o.split == 0:
        return images(r.dataset(o.data or None, train=True), augment), images(test, plain)
    require(o.split < len(test), f"--split is {o.split}, but there are {len(test)} test images")
    chosen, others = data.random_split(test, [o.split, len(test) - o.split], lg.Generator(o.seed))
    return data.Subset(images(test, augment), chosen.indices), data.Subset(images(test, plain), others.indices)


def labels_of(images):
    return images.dataset.targets[lg.tensor(images.indices)] if isinstance(images, data.Subset) else images.targets


def pixels_of(images, rows):
    """Some of the images as their file has them."""
    if isinstance(images, data.Subset):
        images, rows = images.dataset, [images.indices[row] for row in rows]
    return images.data[lg.tensor(rows, dtype=lg.int64)]


class Run:
    """Model, optimizer, schedule and batches of a run, and how a checkpoint keeps them."""

    def __init__(self, o, train):
        channels = len(RECIPES[o.dataset].mean)
        self.model = ResNet(channels, o.width, o.blocks, checkpoint_activations=o.checkpoint_activations)
        self.batches = data.DataLoader(train, o.batch, shuffle=True, drop_last=True, num_workers=o.workers, seed=o.seed)
        self.optimizer = optim.SGD(parameter_groups(self.model, o.weight_decay), lr=o.lr, momentum=0.9, nesterov=True)
        self.scaler = scaler_of(o)
        self.steps = len(self.batches)  # of an epoch
        self.schedule = optim.lr_scheduler.OneCycleLR(
            self.optimizer, o.lr, o.epochs * self.steps, pct_start=0.25, cycle_momentum=False
        )
        self.loss = nn.CrossEntropyLoss(label_smoothing=o.label_smoothing)
        self.step = 0
        self.best = 0.0  # test accuracy
        self.sum, self.right = 0.0, 0  # losses and images in this epoch
        self.history = []  # per epoch: loss, accuracies in training and test

    def save(self, path, o):
        c = io.Checkpoint()
        for name in ("step", "best", "sum", "right"):
            c.put(name, getattr(self, name))
        c.put("history", lg.tensor(self.history, dtype=lg.float64).view(-1, 3))
        c.put_state("model.", self.model.state_dict())
        put_optimizer(c, self.optimizer)
        put_scaler(c, self.scaler)
        for name, n in self.batches.state_dict().items():
            c.put(f"batches.{name}", n)
        put_options(c, o, KEPT)
        c.save(path)

    def restore(self, c):
        self.model.load_state_dict(c.take_state("model."))
        for name in ("step", "best", "sum", "right"):
            setattr(self, name, c.get(name))
        self.history = [tuple(row) for row in c.tensor("history").tolist()]
        self.batches.load_state_dict({name: c.get(f"batches.{name}") for name in self.batches.state_dict()})
        if self.step == 0:
            return
        take_optimizer(c, self.optimizer)
        take_scaler(c, self.scaler)
        go_to(self.schedule, self.step)


def matches(x, y):
    return (x == y).sum().item()


@lg.no_grad()
def predict(model, images):
    """The classes that the model sees in the images, in their order."""
    model.eval()
    seen = lg.cat([model(x).argmax(1) for x, _ in data.DataLoader(images, 250, seed=0)])
    model.train()
    return seen


def train_epoch(run, o, progress, path):
    """One epoch, or what is left of it."""
    for x, y in run.batches:
        logits = run.model(x)
        loss = run.loss(logits, y)
        run.scaler.scale(loss).backward()
        run.scaler.step(run.optimizer)
        run.scaler.update()
        run.optimizer.zero_grad()
        run.schedule.step()
        run.step += 1
        value = loss.item()
        require(
            math.isfinite(value),
            f"the loss is not finite at step {run.step}; try a smaller --lr. The last good checkpoint is kept",
        )
        run.sum += value
        run.right += matches(logits.argmax(1), y)
        progress.update(run.step, value)
        if run.step % o.save_every == 0 and run.step % run.steps != 0:
            run.save(path, o)


def save_best(run, path):
    c = io.Checkpoint()
    c.put("test_accuracy", run.best)
    c.put_state("model.", run.model.state_dict())
    c.save(path)


def train(run, o, test, path):
    """Returns the classes that the model sees in the test images at the end."""
    labels = labels_of(test)
    progress = Progress(run.step, o.epochs * run.steps, o.batch, "images")
    seen = None
    while run.step < o.epochs * run.steps:
        train_epoch(run, o, progress, path)
        progress.clear()
        seen = predict(run.model, test)
        accuracy = matches(seen, labels) / len(labels)
        loss, learned = run.sum / run.steps, run.right / (run.steps * o.batch)
        run.history.append((loss, learned, accuracy))
        run.sum, run.right = 0.0, 0
        if accuracy > run.best:
            run.best = accuracy
            save_best(run, f"{o.out}/best.safetensors")
        run.save(path, o)  # first: what has been printed is on disk
        print(
            f"epoch {run.step // run.steps:3}  train_loss {loss:.6f}  train_accuracy {learned:.4f}  "
            f"test_accuracy {accuracy:.4f}",
            flush=True,
        )
    progress.finish()
    print_skipped(run.scaler, run.step)
    return predict(run.model, test) if seen is None else seen


def print_confusion(labels, seen, classes):
    """A line for each class, and how often it was taken for which."""
    print(" " * 12 + "".join(f" {name[:5]:>5}" for name in classes))
    for truth, name in enumerate(classes):
        counts = [0] * len(classes)
        for label, guess in zip(labels, seen, strict=True):
            counts[guess] += label == truth
        print(f"{name:12}" + "".join(f" {n:5}" for n in counts))


def report(run, o, test, seen):
    """The confusion matrix, pictures beside the checkpoint, and the last line."""
    classes = (test.dataset if isinstance(test, data.Subset) else test).classes
    labels, seen = labels_of(test).tolist(), seen.tolist()
    print_confusion(labels, seen, classes)
    wrong = [i for i, label in enumerate(labels) if label != seen[i]]

    def write(name, svg):
        Path(o.out, name).write_text(svg, encoding="utf-8")

    write("curves.svg", pictures.curves(o.dataset, run.history))
    write("filters.svg", pictures.filters(f"{o.dataset}: what the first layer looks for", run.model.conv.weight))
    shown = wrong[:40]
    title = (
        f"{o.dataset}: {len(shown)} of {len(wrong)} mistakes in {len(labels)} test images, and what each was taken for"
    )
    captions = [(classes[labels[i]], f"as {classes[seen[i]]}") for i in shown]
    write("mistakes.svg", pictures.grid(title, pixels_of(test, shown), captions, 10))
    print(f"test_accuracy {(len(labels) - len(wrong)) / len(labels):.4f}")


def main():
    o = parse_arguments()
    path = f"{o.out}/checkpoint.safetensors"
    saved = io.Checkpoint.load(path) if o.resume else None
    adopt(o, KEPT, saved, path, FIXED, require)
    check(o)
    prepare(o)
    with autocast(o):
        train_and_report(o, saved, path)


def train_and_report(o, saved, path):
    images, test = images_of(o)
    require(len(images) >= o.batch, f"--batch is {o.batch}, but there are {len(images)} images to train on")
    run = Run(o, images)
    if saved:
        run.restore(saved)
    print(
        f"{o.dataset}: {len(images)} images to train on, {len(test)} to test; "
        f"{count_of(run.model)} parameters, {lg.get_num_threads()} threads",
        file=sys.stderr,
    )

    os.makedirs(o.out, exist_ok=True)
    seen = train(run, o, test, path)
    print_peak_memory()
    report(run, o, test, seen)


if __name__ == "__main__":
    run_program(main)
