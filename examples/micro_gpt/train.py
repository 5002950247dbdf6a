"""A small GPT learns the characters of a text: nanoGPT's recipe for a CPU, with three layers.

micro_gpt.cpp is the same program in C++, with the same options, lines and numbers, to the bit; each
goes on from the other's checkpoints.

    python train.py                  trains on tiny Shakespeare, then writes a sample
    python train.py --resume         goes on after an interruption, to the bits of an uninterrupted run
    python train.py --sample 1000    writes from what was learned
"""

import argparse
import math
import os
import sys
from pathlib import Path

from model import GPT, GPTConfig, loss_of

import lightgrad as lg
from lightgrad import io, nn, optim

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

# Options that a checkpoint remembers, and what they are without one.
KEPT = {
    "data": "",
    "steps": 2000,
    "batch": 12,
    "context": 64,
    "layers": 3,
    "heads": 4,
    "width": 128,
    "dropout": 0.0,
    "lr": 1e-3,
    "seed": 0,
    "eval-every": 250,
    "accumulate": 1,
    "dtype": "float32",
}
require = requirement("micro_gpt")
SHAPE = ("context", "layers", "heads", "width")  # of the model: these cannot change


def parse_arguments():
    p = argparse.ArgumentParser(
        description="A small GPT learns the characters of a text.",
        formatter_class=argparse.RawTextHelpFormatter,
        allow_abbrev=False,
    )

    def option(name, help):
        add_kept(p, KEPT, name, help)

    p.add_argument("--data", help="text to learn (default: tiny Shakespeare, from where it is found)")
    p.add_argument("--out", default="out/micro_gpt", help="folder of the checkpoint")
    option("--steps", "updates")
    option("--batch", "sequences per update")
    option("--context", "characters per sequence")
    option("--layers", "blocks")
    option("--heads", "attention heads per block")
    option("--width", "numbers per character between the blocks")
    option("--dropout", "share of activations zeroed while training")
    option("--lr", "highest learning rate; it ends at a tenth of it")
    option("--seed", "of weights, batches, dropout and samples")
    option("--eval-every", "updates between validations and checkpoints")
    option("--accumulate", "parts that a batch is computed in, to save memory")
    p.add_argument("--sample", type=int, default=0, help="write this many characters from the checkpoint, do not train")
    p.add_argument("--temperature", type=float, default=0.8, help="of samples: below 1 is safer, above 1 bolder")
    p.add_argument("--top-k", type=int, default=0, help="sample from this many likeliest characters (0: all)")
    add_machine(p, KEPT)
    p.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out, with its options")
    return p.parse_args()


def check(o):
    least = dict.fromkeys(("steps", "batch", "context", "layers", "heads", "width"), 1)
    least |= {"seed": 0, "eval-every": 1, "accumulate": 1, "sample": 0, "top-k": 0}
    at_least(o, least, require)
    check_machine(o, require)
    require(
        o.width % o.heads == 0,
        f"--width is {o.width}, which {o.heads} heads cannot share equally",
    )
    require(
        o.batch % o.accumulate == 0,
        f"--batch is {o.batch}, which --accumulate {o.accumulate} does not divide",
    )
    require(
        0 <= o.dropout < 1,
        f"--dropout is {o.dropout:g}, expected a number from 0 up and below 1",
    )
    require(0 < o.lr < math.inf, f"--lr is {o.lr:g}, expected a number above 0")
    require(
        0 < o.temperature < math.inf,
        f"--temperature is {o.temperature:g}, expected a number above 0",
    )


class Run:
    """Model, optimizer, schedule and batches of a run, and how a checkpoint keeps them."""

    def __init__(self, o, text):
        self.vocabulary = io.Vocabulary(text)
        shape = (o.context, o.layers, o.heads, o.width)
        self.model = GPT(GPTConfig(len(self.vocabulary), *shape, o.dropout, o.checkpoint_activations))
        self.optimizer = optim.AdamW(parameter_groups(self.model, 0.1), lr=o.lr, betas=(0.9, 0.99))
        self.scaler = scaler_of(o)
        self.schedule = optim.lr_scheduler.WarmupCosine(self.optimizer, min(100, o.steps // 20), o.steps, o.lr / 10)
        # A generator of its own, so that nothing else moves the choice of batches.
        self.batches = lg.Generator(2**64 - 1 - o.seed)
        self.step = 0

    def save(self, path, o):
        c = io.Checkpoint()
        c.put("step", self.step)
        c.put("characters", lg.tensor(self.vocabulary.characters))
        c.put_state("model.", self.model.state_dict())
        put_optimizer(c, self.optimizer)
        put_scaler(c, self.scaler)
        c.put_generator("batches", self.batches)
        c.put_generator("dropout")
        put_options(c, o, KEPT)
        c.save(path)

    def restore(self, c):
        self.model.load_state_dict(c.take_state("model."))
        self.step = c.get("step")
        c.take_generator("batches", self.batches)
        c.take_generator("dropout")
        if self.step == 0:
            return
        take_optimizer(c, self.optimizer)
        take_scaler(c, self.scaler)
        go_to(self.schedule, self.step)


def next_batch(text, o, generator):
    """Random places of the text: ids (batch, context), and the ids that follow each."""
    starts = lg.randint(0, len(text) - o.context, (o.batch, 1), generator=generator)
    at = starts + lg.arange(o.context)
    return text[at], text[at + 1]


@lg.no_grad()
def evaluate(model, text, context, stride):
    """Mean loss over windows of the text that do not overlap: every stride-th one, or with stride 1
    all of the text.
    """
    model.eval()
    total, count = 0.0, 0

    def add(ids, targets):
        nonlocal total, count
        total += loss_of(model, ids, targets).item() * ids.numel()
        count += ids.numel()

    windows = (len(text) - 1) // context
    whole = windows * context
    ids = text[:whole].view(windows, context)[::stride]
    targets = text[1 : whole + 1].view(windows, context)[::stride]
    for i in range(0, len(ids), 16):  # windows at a time
        add(ids[i : i + 16], targets[i : i + 16])
    if stride == 1 and whole + 1 < len(text):
        add(text[whole:-1].view(1, -1), text[whole + 1 :].view(1, -1))
    model.train()
    return total / count


@lg.no_grad()
def sample(run, o):
    """o.sample characters after a line break, one by one."""
    run.model.eval()
    generator = lg.Generator(o.seed)
    ids = [max(0, run.vocabulary.characters.find(b"\n"))]
    for _ in range(o.sample):
        logits = run.model(lg.tensor([ids[-o.context :]]))[0, -1] / o.temperature
        if 0 < o.top_k < len(logits):
            last = lg.topk(logits, o.top_k)[0].min()
            logits = logits.masked_fill(logits < last, -math.inf)
        # The first character whose cumulated probability passes a uniform number.
        passed = logits.softmax(-1).cumsum(0)
        u = lg.rand((), generator=generator) * passed[-1]
        ids.append((passed <= u).sum().item())
    run.model.train()
    return run.vocabulary.decode(lg.tensor(ids[1:]))


def train(run, o, text, held_out, path):
    parameters = list(run.model.parameters())
    rows = o.batch // o.accumulate
    # While training, about 256 windows spread over the held-out text are estimate enough.
    stride = max(1, len(held_out) // o.context // 256)
    if run.step == 0:
        val = evaluate(run.model, held_out, o.context, stride)
        run.save(path, o)  # first: what has been printed is on disk
        print(f"step     0  val {val:.6f}", flush=True)
    progress = Progress(run.step, o.steps, o.batch * o.context, "tokens")
    total, count = 0.0, 0  # of the losses since the last report
    while run.step < o.steps:
        ids, targets = next_batch(text, o, run.batches)
        loss = 0.0
        for i in range(0, o.batch, rows):
            part = loss_of(run.model, ids[i : i + rows], targets[i : i + rows]) / o.accumulate
            run.scaler.scale(part).backward()
            loss += part.item()
        run.scaler.unscale_(run.optimizer)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        run.scaler.step(run.optimizer)
        run.scaler.update()
        run.optimizer.zero_grad()
        run.schedule.step()
        run.step += 1
        total += loss
        count += 1
        progress.update(run.step, loss)
        if run.step % o.eval_every != 0 and run.step != o.steps:
            continue
        require(
            math.isfinite(total),
            f"the loss is not finite at step {run.step}; try a smaller --lr. The last good checkpoint is kept",
        )
        progress.clear()
        val = evaluate(run.model, held_out, o.context, stride)
        run.save(path, o)
        print(f"step {run.step:5}  train {total / count:.6f}  val {val:.6f}", flush=True)
        total, count = 0.0, 0
    progress.finish()
    print_skipped(run.scaler, run.step)


def write(*parts):
    sys.stdout.flush()
    sys.stdout.buffer.write(b"".join(parts))
    sys.stdout.flush()


def main():
    o = parse_arguments()
    path = f"{o.out}/checkpoint.safetensors"
    saved = io.Checkpoint.load(path) if o.resume or o.sample > 0 else None
    fixed = (*SHAPE, "seed") if o.resume else SHAPE
    adopt(o, KEPT, saved, path, fixed, require)
    check(o)
    prepare(o)
    with autocast(o):
        train_or_sample(o, saved, path)


def train_or_sample(o, saved, path):
    if o.sample > 0:
        run = Run(o, bytes(saved.tensor("characters").tolist()))
        run.restore(saved)
        write(sample(run, o), b"\n")
        return

    text, source = io.find_text(o.data or None)
    run = Run(o, text)
    ids, held_out = io.split_text(run.vocabulary.encode(text))
    require(
        len(ids) > o.context and len(held_out) > 1,
        f"--context is {o.context}, {source} has {len(ids)} characters to train on and {len(held_out)} for validation",
    )
    if saved:
        require(
            bytes(saved.tensor("characters").tolist()) == run.vocabulary.characters,
            f"the model in {path} has learned a text of other characters than {source}",
        )
        run.restore(saved)
    print(
        f"{source}: {len(text)} characters, {len(run.vocabulary)} different; "
        f"{count_of(run.model)} parameters, {lg.get_num_threads()} threads",
        file=sys.stderr,
    )

    os.makedirs(o.out, exist_ok=True)
    train(run, o, ids, held_out, path)
    loss = evaluate(run.model, held_out, o.context, 1)
    o.sample = 500
    write(b"\n", sample(run, o), f"\n\nval_loss {loss:.6f}\n".encode())
    print_peak_memory()


if __name__ == "__main__":
    run_program(main)
